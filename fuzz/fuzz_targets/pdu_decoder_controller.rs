#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nvmf_fuzz_entry::pdu_decoder_controller(data));
