//! ICReq and ICResp.

use nvmf_proto::tcp::{ControllerConfig, ControllerEvent, HostConfig, HostEvent, Negotiated};

use crate::pair::{Pair, Setup};
use crate::raw::{ControllerEnd, HostEnd, ic, ic_req};

fn negotiated(host: HostConfig, controller: ControllerConfig) -> Negotiated {
    let mut pair = Pair::new(Setup { host, controller, ..Setup::default() });
    pair.handshake();
    let negotiated = *pair.host.host.negotiated().unwrap();
    let other = *pair.target.controller.negotiated().unwrap();
    assert_eq!(negotiated.header_digest, other.header_digest);
    assert_eq!(negotiated.data_digest, other.data_digest);
    assert_eq!(negotiated.maxh2cdata, other.maxh2cdata);
    negotiated
}

#[test]
fn a_digest_is_on_only_when_both_ends_want_it() {
    for bits in 0..16u8 {
        let bit = |n: u8| bits >> n & 1 == 1;
        let host = HostConfig { header_digest: bit(0), data_digest: bit(1), ..Default::default() };
        let controller =
            ControllerConfig { header_digest: bit(2), data_digest: bit(3), ..Default::default() };
        let agreed = negotiated(host, controller);
        assert_eq!(agreed.header_digest, bit(0) && bit(2));
        assert_eq!(agreed.data_digest, bit(1) && bit(3));
    }
}

#[test]
fn maxh2cdata_is_at_least_4096_and_a_multiple_of_four() {
    for (maxh2cdata, given) in [(0, 4096), (4095, 4096), (4099, 4096), (5003, 5000), (8192, 8192)] {
        let config = ControllerConfig { maxh2cdata, ..Default::default() };
        assert_eq!(negotiated(HostConfig::default(), config).maxh2cdata, given);
    }
    let most = ControllerConfig { maxh2cdata: u32::MAX, ..Default::default() };
    assert_eq!(negotiated(HostConfig::default(), most).maxh2cdata, u32::MAX - 3);
}

#[test]
fn maxr2t_on_the_wire_is_one_less_than_the_r2ts_taken() {
    for (r2ts_per_command, wire) in [(0, 0u32), (1, 0), (2, 1), (u32::MAX, u32::MAX - 1)] {
        let host = HostConfig { r2ts_per_command, ..Default::default() };
        let mut pair = Pair::new(Setup { host, ..Setup::default() });
        pair.handshake();
        assert_eq!(pair.inspector.host_pdus[0].u32(12), wire);
    }
}

#[test]
fn a_controller_keeps_to_the_fewer_r2ts_of_both() {
    for (maxr2t, expected) in [(0, 1), (1, 2), (7, 2), (u32::MAX, 2)] {
        let mut end = ControllerEnd::fresh();
        end.give(&ic(0, 0, 0, 0, maxr2t).bytes()).unwrap();
        assert_eq!(end.controller.negotiated().unwrap().r2ts_per_command, expected);
    }
}

#[test]
fn every_alignment_carries_data_both_ways() {
    for pda in 0..=31 {
        let host = HostConfig { hpda: pda, header_digest: true, ..Default::default() };
        let controller = ControllerConfig { cpda: 31 - pda, ..Default::default() };
        let mut pair = Pair::connected(Setup { host, controller, ..Setup::default() });
        for length in [1, 8192, 8193] {
            let write = crate::host_app::Op::Write { region: length, length };
            assert!(pair.operate(write).cqe.status().is_success());
            let read = pair.operate(crate::host_app::Op::Read { region: length, length });
            assert_eq!(read.data, crate::host_app::region_data(!length, length));
        }
        pair.assert_idle();
    }
}

#[test]
fn an_alignment_above_31_in_the_configuration_is_sent_as_31() {
    let controller = ControllerConfig { cpda: 200, ..Default::default() };
    let mut pair = Pair::new(Setup { controller, ..Setup::default() });
    pair.handshake();
    assert_eq!(pair.inspector.controller_pdus[0].header[10], 31);
}

#[test]
fn reserved_bytes_of_the_handshake_are_not_looked_at() {
    let mut request = ic_req();
    request.rest[20..].fill(0xee);
    let mut end = ControllerEnd::fresh();
    end.give(&request.bytes()).unwrap();
    assert!(matches!(end.events[..], [ControllerEvent::Connected(_)]));
}

#[test]
fn the_handshake_itself_never_carries_digests() {
    let host = HostConfig { header_digest: true, data_digest: true, ..Default::default() };
    let mut pair = Pair::new(Setup { host, ..Setup::default() });
    pair.handshake();
    assert_eq!(pair.inspector.host_pdus[0].plen, 128);
    assert_eq!(pair.inspector.controller_pdus[0].plen, 128);
}

#[test]
fn a_command_before_the_handshake_is_done_is_not_taken() {
    use nvmf_proto::tcp::{SubmitError, Transfer};
    let mut end = HostEnd::fresh(false);
    let flush = nvme_spec::Sqe::new(0);
    assert_eq!(end.host.submit(flush, Transfer::None), Err(SubmitError::NotReady));
    end.give(&ic(1, 0, 0, 0, 4096).bytes()).unwrap();
    assert!(matches!(end.events[..], [HostEvent::Connected(_)]));
    assert_eq!(end.host.submit(flush, Transfer::None), Ok(0));
}
