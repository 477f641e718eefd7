//! Of several wrong fields, the lowest is told.

use nvmf_proto::Violation as V;

use crate::raw::{ControllerEnd, HostEnd, Raw, capsule, data, ic, response};
use nvmf_proto::tcp::Transfer;

#[test]
fn of_a_common_header_the_lowest_bad_field_is_told_to_a_host() {
    let told = |raw: &Raw| HostEnd::ready(false).give(&raw.bytes());
    let mut raw = response(0, 0, nvme_spec::Status::SUCCESS).flags(0xf0).hlen(9).pdo(3).plen(1);
    raw.kind = 0x44;
    assert_eq!(told(&raw), Err(V::PduType { kind: 0x44 }));
    raw.kind = 5;
    assert_eq!(told(&raw), Err(V::Flags { kind: 5, flags: 0xf0 }));
    raw.flags = 0;
    assert_eq!(told(&raw), Err(V::HeaderLength { kind: 5, hlen: 9 }));
    raw.hlen = 24;
    assert_eq!(told(&raw), Err(V::DataOffset { kind: 5, pdo: 3 }));
    raw.pdo = 0;
    assert_eq!(told(&raw), Err(V::PduLength { kind: 5, plen: 1 }));
    raw.plen = 24;
    assert_eq!(told(&raw), Err(V::UnknownCommand { kind: 5, cid: 0 }));
}

#[test]
fn of_a_common_header_the_lowest_bad_field_is_told_to_a_controller() {
    let told = |raw: &Raw| ControllerEnd::ready(false).give(&raw.bytes());
    let mut raw = capsule(1, 0x01, 64, &[0; 64]).flags(0x0c).hlen(71).pdo(73).plen(u32::MAX);
    raw.kind = 0x0a;
    assert_eq!(told(&raw), Err(V::PduType { kind: 0x0a }));
    raw.kind = 4;
    assert_eq!(told(&raw), Err(V::Flags { kind: 4, flags: 0x0c }));
    raw.flags = 0;
    assert_eq!(told(&raw), Err(V::HeaderLength { kind: 4, hlen: 71 }));
    raw.hlen = 72;
    assert_eq!(told(&raw), Err(V::DataOffset { kind: 4, pdo: 73 }));
    raw.pdo = 72;
    assert_eq!(told(&raw), Err(V::PduLength { kind: 4, plen: u32::MAX }));
    raw.plen = 72 + 64;
    assert_eq!(told(&raw), Ok(()));
}

#[test]
fn of_an_icreq_the_lowest_bad_field_is_told() {
    let told = |pfv, pda, dgst| ControllerEnd::fresh().give(&ic(0, pfv, pda, dgst, 0).bytes());
    assert_eq!(told(1, 99, 0xff), Err(V::FormatVersion { pfv: 1 }));
    assert_eq!(told(0, 99, 0xff), Err(V::Alignment { pda: 99 }));
    assert_eq!(told(0, 31, 0xff), Err(V::DigestBits { dgst: 0xff }));
    assert_eq!(told(0, 31, 3), Ok(()));
}

#[test]
fn of_an_icresp_the_lowest_bad_field_is_told() {
    let told =
        |pfv, pda, dgst, max| HostEnd::fresh(false).give(&ic(1, pfv, pda, dgst, max).bytes());
    assert_eq!(told(1, 99, 0xff, 1), Err(V::FormatVersion { pfv: 1 }));
    assert_eq!(told(0, 99, 0xff, 1), Err(V::Alignment { pda: 99 }));
    assert_eq!(told(0, 31, 0xff, 1), Err(V::DigestBits { dgst: 0xff }));
    assert_eq!(told(0, 31, 3, 1), Err(V::DigestNotAsked { dgst: 3 }));
    assert_eq!(told(0, 31, 0, 1), Err(V::MaxH2cData { maxh2cdata: 1 }));
    assert_eq!(told(0, 31, 0, 4096), Ok(()));
}

#[test]
fn of_an_h2cdata_the_tag_and_its_command_come_before_the_length() {
    let told = |cid, ttag, datal| {
        ControllerEnd::asked(false).give(&data(6, cid, ttag, 9000, datal, &[0; 64]).bytes())
    };
    assert_eq!(told(6, 9, 1), Err(V::TransferTag { ttag: 9 }));
    assert_eq!(told(6, 0, 1), Err(V::TransferCommand { cid: 6, ttag: 0 }));
    assert_eq!(told(5, 0, 1), Err(V::DataLength { datal: 1, actual: 64 }));
    let range = V::DataRange { kind: 6, cid: 5, offset: 9000, length: 64 };
    assert_eq!(told(5, 0, 64), Err(range));
}

#[test]
fn of_a_c2hdata_the_command_comes_before_the_length() {
    let told = |cid, datal| {
        let mut host = HostEnd::ready(false).with(Transfer::ToHost { length: 4096 });
        host.give(&data(7, cid, 0, 9000, datal, &[0; 64]).bytes())
    };
    assert_eq!(told(1, 1), Err(V::UnknownCommand { kind: 7, cid: 1 }));
    assert_eq!(told(0, 1), Err(V::DataLength { datal: 1, actual: 64 }));
    let range = V::DataRange { kind: 7, cid: 0, offset: 9000, length: 64 };
    assert_eq!(told(0, 64), Err(range));
}

#[test]
fn a_termreq_of_a_bad_length_is_told_before_anything_else_is_looked_at() {
    let raw = Raw::new(3, &[0; 16], &[]).flags(0xff).hlen(1).pdo(9).plen(5);
    assert_eq!(HostEnd::fresh(false).give(&raw.bytes()), Err(V::TermReqLength { plen: 5 }));
}
