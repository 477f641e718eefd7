#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nvmf_fuzz_entry::namespace(data));
