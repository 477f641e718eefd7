//! Connections that end with a request to terminate: tshark reads it as it was sent.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use nvme_spec::pdu::{self, CapsuleCmd, IcReq, IcResp, TermReq, digest, fes, kind};
use nvmf::transport::tcp::HostTcp;
use nvmf_proto::digest::crc32c;
use nvmf_proto::tcp::{ControllerConfig, HostConfig};
use nvmf_wire_tests::check::{Finding, findings};
use nvmf_wire_tests::recording::{End, Recorder, Recording};
use nvmf_wire_tests::sent;
use nvmf_wire_tests::target::{Target, soon};
use nvmf_wire_tests::tshark::{DataDigests, dissect};
use zerocopy::{FromZeros, IntoBytes};

fn ic_req() -> IcReq {
    let mut req = IcReq::new_zeroed();
    (req.ch.kind, req.ch.hlen) = (kind::IC_REQ, 128);
    req.ch.plen.set(128);
    req
}

fn ic_resp() -> IcResp {
    let mut resp = IcResp::new_zeroed();
    (resp.ch.kind, resp.ch.hlen) = (kind::IC_RESP, 128);
    resp.ch.plen.set(128);
    resp.maxh2cdata.set(4096);
    resp
}

fn capsule() -> CapsuleCmd {
    let mut capsule = CapsuleCmd::new_zeroed();
    (capsule.ch.kind, capsule.ch.hlen) = (kind::CAPSULE_CMD, 72);
    capsule.ch.plen.set(72);
    capsule
}

/// Records a host that sends these bytes, one after the other, to the target.
fn host_sends(parts: &[&[u8]]) -> Recording {
    let target = Target::start(ControllerConfig::default());
    let recorder = Recorder::start(target.address());
    let mut host = TcpStream::connect(recorder.address()).unwrap();
    for (at, part) in parts.iter().enumerate() {
        host.write_all(part).unwrap();
        if at == 0 && parts.len() > 1 {
            host.read_exact(&mut [0; 128]).unwrap();
        }
    }
    let mut rest = Vec::new();
    // What comes of the connection's end is up to the operating system.
    let _ = host.read_to_end(&mut rest);
    drop(host);
    let recording = recorder.finish();
    target.finish();
    recording
}

/// Records a host that meets a controller which answers its ICReq with these bytes.
fn controller_sends(bytes: &[u8]) -> Recording {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let recorder = Recorder::start(listener.local_addr().unwrap());
    let bytes = bytes.to_vec();
    let controller = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 128]).unwrap();
        stream.write_all(&bytes).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    HostTcp::connect(recorder.address(), &HostConfig::default(), soon()).unwrap_err();
    controller.join().unwrap();
    recorder.finish()
}

/// What tshark finds wrong with what `end` sent.
fn found_with(recording: &Recording, end: End) -> Vec<Finding> {
    let mut found = findings(recording, &dissect(recording, DataDigests::Verified));
    found.retain(|finding| finding.pdu.as_ref().is_none_or(|pdu| pdu.from == end));
    found
}

/// The request to terminate, which is the last that its sender says, and which tshark reads as
/// it was sent.
fn term_req(recording: &Recording, end: End) -> TermReq {
    let found = found_with(recording, end);
    assert!(found.is_empty(), "{found:?}");
    let pdus = sent::pdus(recording);
    let last = pdus.iter().rfind(|pdu| pdu.from == end).unwrap();
    let expected = if end == End::Host { kind::H2C_TERM_REQ } else { kind::C2H_TERM_REQ };
    assert_eq!(pdu::name(last.kind()), pdu::name(expected));
    last.read()
}

#[test]
fn a_handshake_of_another_version_is_refused() {
    let mut req = ic_req();
    req.pfv.set(1);
    let term = term_req(&host_sends(&[req.as_bytes()]), End::Controller);
    assert_eq!((term.fes.get(), term.fei.get()), (fes::UNSUPPORTED_PARAMETER, 8));
}

#[test]
fn a_command_whose_header_has_another_length_is_refused() {
    let mut capsule = capsule();
    capsule.ch.hlen = 71;
    let recording = host_sends(&[ic_req().as_bytes(), capsule.as_bytes()]);
    let term = term_req(&recording, End::Controller);
    assert_eq!((term.fes.get(), term.fei.get()), (fes::INVALID_HEADER_FIELD, 2));
}

#[test]
fn a_command_before_the_handshake_is_refused() {
    let term = term_req(&host_sends(&[capsule().as_bytes()]), End::Controller);
    assert_eq!(term.fes.get(), fes::SEQUENCE_ERROR);
}

#[test]
fn a_wrong_header_digest_ends_the_connection_and_is_found_by_tshark() {
    let mut req = ic_req();
    req.dgst = digest::HEADER;
    let mut capsule = capsule();
    capsule.ch.flags = pdu::flags::HDGST;
    capsule.ch.plen.set(76);
    let wrong = !crc32c(capsule.as_bytes());
    let bytes = [capsule.as_bytes(), &wrong.to_le_bytes()].concat();
    let recording = host_sends(&[req.as_bytes(), &bytes]);
    let term = term_req(&recording, End::Controller);
    assert_eq!((term.fes.get(), term.fei.get()), (fes::HEADER_DIGEST_ERROR, wrong));
    let found = found_with(&recording, End::Host);
    let wrong = "nvme-tcp.hdgst is wrong, says tshark";
    assert!(found.iter().any(|finding| finding.what.starts_with(wrong)), "{found:?}");
}

#[test]
fn a_host_that_speaks_another_protocol_is_told_so() {
    let recording = host_sends(&[b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    let stream = recording.stream(0, End::Controller);
    assert_eq!(stream[..10], [3, 0, 24, 0, 32, 0, 0, 0, 1, 0]);
    let term = term_req(&recording, End::Controller);
    assert_eq!((term.fes.get(), term.fei.get()), (fes::INVALID_HEADER_FIELD, 0));
}

#[test]
fn a_controller_that_takes_too_little_data_is_refused() {
    let mut resp = ic_resp();
    resp.maxh2cdata.set(4095);
    let term = term_req(&controller_sends(resp.as_bytes()), End::Host);
    assert_eq!((term.fes.get(), term.fei.get()), (fes::INVALID_HEADER_FIELD, 12));
}

#[test]
fn a_controller_that_takes_digests_nobody_asked_for_is_refused() {
    let mut resp = ic_resp();
    resp.dgst = digest::HEADER;
    let term = term_req(&controller_sends(resp.as_bytes()), End::Host);
    assert_eq!((term.fes.get(), term.fei.get()), (fes::UNSUPPORTED_PARAMETER, 11));
}

#[test]
fn a_controller_that_begins_with_data_is_refused() {
    let mut data = pdu::Data::new_zeroed();
    (data.ch.kind, data.ch.hlen, data.ch.pdo) = (kind::C2H_DATA, 24, 24);
    data.ch.plen.set(28);
    data.datal.set(4);
    let bytes = [data.as_bytes(), &[0; 4]].concat();
    let term = term_req(&controller_sends(&bytes), End::Host);
    assert_eq!(term.fes.get(), fes::SEQUENCE_ERROR);
}
