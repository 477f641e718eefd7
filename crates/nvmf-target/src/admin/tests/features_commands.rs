//! Get Features and Set Features.

use super::*;

#[test]
fn values_that_were_set_are_read_back_and_have_defaults() {
    let mut c = enabled();
    for (fid, value, default) in [
        (fid::ARBITRATION, 0x0403_0201, 7),
        (fid::POWER_MANAGEMENT, 0x40, 0),
        (fid::TEMPERATURE_THRESHOLD, 333, 0xffff),
        (fid::ERROR_RECOVERY, 5, 0),
        (fid::WRITE_ATOMICITY, 1, 0),
        (fid::ASYNC_EVENT_CONFIG, 0x100, 0),
    ] {
        assert_eq!(dw0(&mut c, &get_feature(fid, 0, 0)), default, "{fid:#x}");
        assert_eq!(dw0(&mut c, &set_feature(fid, value)), 0);
        assert_eq!(dw0(&mut c, &get_feature(fid, 0, 0)), value, "{fid:#x}");
        assert_eq!(dw0(&mut c, &get_feature(fid, 1, 0)), default, "{fid:#x}");
        assert_eq!(dw0(&mut c, &get_feature(fid, 2, 0)), default, "{fid:#x}");
        assert_eq!(dw0(&mut c, &get_feature(fid, 3, 0)), 0b100, "{fid:#x}");
    }
}

#[test]
fn a_write_cache_that_is_there_can_be_switched_off() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let spec = format!("file:{}", file.path().display()).parse().unwrap();
    let nqn = crate::testing::nqn(crate::testing::NQN);
    let builder = crate::subsystem::Subsystem::builder(nqn).open(&spec).unwrap();
    let mut c = Controller::io(association(&builder.build().unwrap()), 0, Instant::now());
    assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
    let get = get_feature(fid::VOLATILE_WRITE_CACHE, 0, 0);
    assert_eq!(dw0(&mut c, &get), 1);
    let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
    assert_eq!(IdentifyController::ref_from_bytes(&bytes).unwrap().vwc, 0b111);
    assert_eq!(dw0(&mut c, &set_feature(fid::VOLATILE_WRITE_CACHE, 0)), 0);
    assert_eq!(dw0(&mut c, &get), 0);
    assert!(!c.association().write_cache());
    assert_eq!(dw0(&mut c, &get_feature(fid::VOLATILE_WRITE_CACHE, 1, 0)), 1);
    assert_eq!(dw0(&mut c, &set_feature(fid::VOLATILE_WRITE_CACHE, 1)), 0);
    assert!(c.association().write_cache());
}

#[test]
fn there_is_a_write_cache_to_flush_even_where_all_is_memory() {
    // A file may become a namespace later, and hosts ask but once.
    let mut c = enabled();
    let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
    let vwc = IdentifyController::ref_from_bytes(&bytes).unwrap().vwc;
    assert_eq!(vwc, IdentifyController::VWC_FLUSH_ALL | IdentifyController::VWC_PRESENT);
}

#[test]
fn the_number_of_queues_is_granted_up_to_the_cap() {
    let mut c = enabled();
    let queues = |n: u32| set_feature(fid::NUMBER_OF_QUEUES, n);
    assert_eq!(dw0(&mut c, &queues(0x0003_0003)), 0x0003_0003);
    assert_eq!(dw0(&mut c, &get_feature(fid::NUMBER_OF_QUEUES, 0, 0)), 0x0003_0003);
    assert_eq!(dw0(&mut c, &queues(0x0007_0001)), 0x0001_0001, "pairs");
    assert_eq!(dw0(&mut c, &queues(0xfffe_fffe)), 0x007f_007f);
    refused(&mut c, &queues(0xffff_0000), 0, Status::INVALID_FIELD);
    refused(&mut c, &queues(0x0000_ffff), 0, Status::INVALID_FIELD);
    let _queue = Arc::clone(c.association()).join(1, || ()).unwrap();
    refused(&mut c, &queues(1), 0, Status::COMMAND_SEQUENCE_ERROR);
}

#[test]
fn the_host_identifier_is_told_and_cannot_be_changed() {
    let mut c = enabled();
    let host_id = c.association().host_id();
    let get = get_feature(fid::HOST_IDENTIFIER, 0, 1);
    assert_eq!(data(&mut c, &get, 16), host_id.as_bytes());
    refused(&mut c, &get, 8, Status::DATA_SGL_LENGTH_INVALID);
    refused(&mut c, &get_feature(fid::HOST_IDENTIFIER, 0, 0), 8, Status::INVALID_FIELD);
    let set = set_feature(fid::HOST_IDENTIFIER, 1);
    refused(&mut c, &set, 16, Status::COMMAND_SEQUENCE_ERROR);
    assert_eq!(dw0(&mut c, &get_feature(fid::HOST_IDENTIFIER, 3, 0)), 0);
}

#[test]
fn nothing_can_be_saved() {
    let mut c = enabled();
    let mut sqe = set_feature(fid::ARBITRATION, 1);
    sqe.set_cdw(10, 0x8000_0001);
    refused(&mut c, &sqe, 0, Status::FEATURE_NOT_SAVEABLE);
    assert_eq!(dw0(&mut c, &get_feature(fid::ARBITRATION, 0, 0)), 7);
}

#[test]
fn what_is_not_there_cannot_be_set() {
    let mut c = enabled();
    for fid in [0x00, 0x03, 0x08, 0x0c, 0x0d, 0x0e, 0x10, 0x16, 0x80, 0x82, 0xff] {
        refused(&mut c, &get_feature(fid, 0, 0), 0, Status::INVALID_FIELD);
        refused(&mut c, &set_feature(fid, 0), 0, Status::INVALID_FIELD);
    }
    for (fid, value) in [
        (fid::POWER_MANAGEMENT, 1),
        (fid::ERROR_RECOVERY, 1 << 16),
        (fid::ASYNC_EVENT_CONFIG, 1 << 12),
        (fid::TEMPERATURE_THRESHOLD, 1 << 16),
        (fid::TEMPERATURE_THRESHOLD, 2 << 20),
    ] {
        refused(&mut c, &set_feature(fid, value), 0, Status::INVALID_FIELD);
    }
    refused(&mut c, &get_feature(fid::ARBITRATION, 4, 0), 0, Status::INVALID_FIELD);
}
