//! The table: what a peer does wrong, and what comes of it. Numbers are written out, as they are
//! in the specification, rather than taken from the crate.

use nvme_spec::Status;
use nvmf_proto::tcp::Transfer;
use nvmf_proto::{Role, Violation as V};

use crate::raw::{ControllerEnd, HostEnd, Raw, capsule, data, ic, ic_req, ic_resp, response};

/// Who is wronged.
pub enum End {
    Host(HostEnd),
    Controller(ControllerEnd),
}

/// What the wronged end then sends.
#[derive(Clone, Copy, Debug)]
pub enum Wire {
    /// A TermReq with this much of the offending header.
    TermReq { fes: u16, fei: u32, copied: usize },
    /// Nothing.
    Closed,
    /// A response with this status, or a completion with it at a host.
    Failed(Status),
}

pub struct Case {
    pub violation: V,
    pub wire: Wire,
    pub end: fn() -> End,
    pub bytes: Vec<u8>,
    /// Where in the bytes the PDU at fault begins.
    pub at: usize,
}

impl Case {
    pub fn role(&self) -> Role {
        match (self.end)() {
            End::Host(_) => Role::Host,
            End::Controller(_) => Role::Controller,
        }
    }
}

const SUCCESS: Status = Status::SUCCESS;

fn case(end: fn() -> End, bytes: Vec<u8>, violation: V, wire: Wire) -> Case {
    Case { violation, wire, end, bytes, at: 0 }
}

/// The same, behind PDUs that are right.
fn after(end: fn() -> End, before: &[Raw], raw: &Raw, violation: V, wire: Wire) -> Case {
    let mut bytes: Vec<u8> = before.iter().flat_map(Raw::bytes).collect();
    let at = bytes.len();
    bytes.extend(raw.bytes());
    Case { violation, wire, end, bytes, at }
}

/// A field of the common header is wrong: the rest of the header is not waited for.
fn common(fei: u32) -> Wire {
    Wire::TermReq { fes: 1, fei, copied: 8 }
}

fn term(fes: u16, fei: u32, copied: usize) -> Wire {
    Wire::TermReq { fes, fei, copied }
}

pub fn cases() -> Vec<Case> {
    let mut cases = host_handshake();
    cases.extend(host_headers());
    cases.extend(host_commands());
    cases.extend(controller_handshake());
    cases.extend(controller_headers());
    cases.extend(controller_data());
    cases.extend(controller_commands());
    cases
}

fn fresh_host() -> End {
    End::Host(HostEnd::fresh(false))
}

fn host() -> End {
    End::Host(HostEnd::ready(false))
}

fn digesting_host() -> End {
    End::Host(HostEnd::ready(true).with(Transfer::ToHost { length: 64 }))
}

/// Command 0 reads 4096 bytes.
fn reading_host() -> End {
    End::Host(HostEnd::ready(false).with(Transfer::ToHost { length: 4096 }))
}

/// Command 0 writes 16384 bytes, which do not go into a capsule.
fn writing_host() -> End {
    End::Host(HostEnd::ready(false).with(Transfer::ToController { length: 16384 }))
}

fn idle_host() -> End {
    End::Host(HostEnd::ready(false).with(Transfer::None))
}

fn host_handshake() -> Vec<Case> {
    let ic = |pfv, cpda, dgst, maxh2cdata| ic(1, pfv, cpda, dgst, maxh2cdata).bytes();
    let max = |maxh2cdata| V::MaxH2cData { maxh2cdata };
    vec![
        case(fresh_host, response(0, 0, SUCCESS).bytes(), V::Sequence { kind: 5 }, term(2, 0, 24)),
        case(
            fresh_host,
            data(7, 0, 0, 0, 4, &[0; 4]).flags(4).bytes(),
            V::Sequence { kind: 7 },
            term(2, 0, 24),
        ),
        case(fresh_host, data(9, 0, 0, 0, 4, &[]).bytes(), V::Sequence { kind: 9 }, term(2, 0, 24)),
        case(host, ic_resp().bytes(), V::Sequence { kind: 1 }, term(2, 0, 128)),
        case(fresh_host, ic(1, 0, 0, 4096), V::FormatVersion { pfv: 1 }, term(6, 8, 128)),
        case(fresh_host, ic(0, 32, 0, 4096), V::Alignment { pda: 32 }, term(1, 10, 128)),
        case(fresh_host, ic(0, 0, 4, 4096), V::DigestBits { dgst: 4 }, term(1, 11, 128)),
        case(fresh_host, ic(0, 0, 1, 4096), V::DigestNotAsked { dgst: 1 }, term(6, 11, 128)),
        case(fresh_host, ic(0, 0, 2, 4096), V::DigestNotAsked { dgst: 2 }, term(6, 11, 128)),
        case(fresh_host, ic(0, 0, 0, 4092), max(4092), term(1, 12, 128)),
        case(fresh_host, ic(0, 0, 0, 4098), max(4098), term(1, 12, 128)),
    ]
}

fn host_headers() -> Vec<Case> {
    let resp = || response(0, 0, SUCCESS);
    let c2h = || data(7, 0, 0, 0, 4, &[0; 4]).flags(4);
    let r2t = || data(9, 0, 0, 0, 4, &[]);
    let offset = |kind, pdo| V::DataOffset { kind, pdo };
    let mut cases = Vec::new();
    for kind in [0, 2, 4, 6, 8, 10, 0xff] {
        let raw = Raw { kind, ..resp() };
        cases.push(case(host, raw.bytes(), V::PduType { kind }, common(0)));
    }
    for (raw, flags) in [
        (resp(), 1),
        (resp(), 2),
        (resp(), 4),
        (resp(), 0x80),
        (c2h(), 8),
        (c2h(), 2 | 4),
        (r2t(), 4),
        (Raw { plen: 24, ..Raw::new(3, &[0; 16], &[]) }, 1),
        (ic_resp(), 1),
    ] {
        let violation = V::Flags { kind: raw.kind, flags };
        cases.push(case(host, raw.flags(flags).bytes(), violation, common(1)));
    }
    cases.extend([
        // Digests were agreed on, and there are none.
        case(digesting_host, resp().bytes(), V::Flags { kind: 5, flags: 0 }, common(1)),
        case(digesting_host, c2h().bytes(), V::Flags { kind: 7, flags: 4 }, common(1)),
        case(host, resp().hlen(25).bytes(), V::HeaderLength { kind: 5, hlen: 25 }, common(2)),
        case(host, c2h().hlen(0).bytes(), V::HeaderLength { kind: 7, hlen: 0 }, common(2)),
        case(host, resp().pdo(24).bytes(), offset(5, 24), common(3)),
        case(host, c2h().pdo(20).bytes(), offset(7, 20), common(3)),
        case(host, c2h().pdo(26).plen(40).bytes(), offset(7, 26), common(3)),
        case(host, c2h().pdo(28).bytes(), offset(7, 28), common(3)),
        case(host, resp().plen(25).bytes(), V::PduLength { kind: 5, plen: 25 }, common(4)),
        case(host, r2t().plen(0).bytes(), V::PduLength { kind: 9, plen: 0 }, common(4)),
        case(host, c2h().pdo(0).plen(24).bytes(), V::PduLength { kind: 7, plen: 24 }, common(4)),
    ]);
    for plen in [0, 23, 153, u32::MAX] {
        let raw = Raw::new(3, &[0; 16], &[]).plen(plen);
        cases.push(case(host, raw.bytes(), V::TermReqLength { plen }, Wire::Closed));
    }
    let mut digest = resp().digested();
    let last = digest.len();
    digest[last - 4..].copy_from_slice(&[4, 3, 2, 1]);
    let received = 0x0102_0304;
    cases.push(case(digesting_host, digest, V::HeaderDigest { received }, term(3, received, 24)));
    cases
}

fn host_commands() -> Vec<Case> {
    let c2h = |cid, offset, length: u32| data(7, cid, 0, offset, length, &vec![0; length as usize]);
    let r2t = |cid, offset, length| data(9, cid, 0, offset, length, &[]);
    let range = |kind, offset, length| V::DataRange { kind, cid: 0, offset, length };
    let order = |kind, offset, expected| V::DataOrder { kind, cid: 0, offset, expected };
    let unknown = |kind, cid| V::UnknownCommand { kind, cid };
    let unexpected = |kind| V::UnexpectedTransfer { kind, cid: 0 };
    let short = |moved, expected| V::ShortTransfer { cid: 0, moved, expected };
    let head = |sqhd| V::QueueHead { sqhd, head: 0, tail: 1 };
    let mut digest = data(7, 0, 0, 0, 64, &[0; 64]).flags(4).digested();
    *digest.last_mut().unwrap() ^= 0x80;
    digest.extend(response(0, 1, SUCCESS).digested());
    vec![
        case(digesting_host, digest, V::DataDigest { cid: 0 }, Wire::Failed(Status::new(0, 0x22))),
        case(host, response(0, 0, SUCCESS).bytes(), unknown(5, 0), term(1, 20, 24)),
        case(idle_host, response(1, 0, SUCCESS).bytes(), unknown(5, 1), term(1, 20, 24)),
        case(idle_host, response(0xffff, 0, SUCCESS).bytes(), unknown(5, 0xffff), term(1, 20, 24)),
        case(reading_host, c2h(1, 0, 4096).flags(4).bytes(), unknown(7, 1), term(1, 8, 24)),
        case(writing_host, r2t(3, 0, 4096).bytes(), unknown(9, 3), term(1, 8, 24)),
        case(writing_host, c2h(0, 0, 64).bytes(), unexpected(7), term(2, 0, 24)),
        case(idle_host, c2h(0, 0, 64).bytes(), unexpected(7), term(2, 0, 24)),
        case(reading_host, r2t(0, 0, 4096).bytes(), unexpected(9), term(2, 0, 24)),
        case(
            reading_host,
            data(7, 0, 0, 0, 63, &[0; 64]).bytes(),
            V::DataLength { datal: 63, actual: 64 },
            term(1, 16, 24),
        ),
        case(
            writing_host,
            r2t(0, 0, 0).bytes(),
            V::DataLength { datal: 0, actual: 16384 },
            term(1, 16, 24),
        ),
        case(reading_host, c2h(0, 0, 4097).flags(4).bytes(), range(7, 0, 4097), term(4, 0, 24)),
        case(reading_host, c2h(0, u32::MAX, 64).bytes(), range(7, u32::MAX, 64), term(4, 0, 24)),
        case(writing_host, r2t(0, 0, 16385).bytes(), range(9, 0, 16385), term(4, 0, 24)),
        case(writing_host, r2t(0, 4, u32::MAX).bytes(), range(9, 4, u32::MAX), term(4, 0, 24)),
        case(reading_host, c2h(0, 64, 64).bytes(), order(7, 64, 0), term(2, 0, 24)),
        after(reading_host, &[c2h(0, 0, 64)], &c2h(0, 0, 64), order(7, 0, 64), term(2, 0, 24)),
        case(writing_host, r2t(0, 64, 64).bytes(), order(9, 64, 0), term(2, 0, 24)),
        after(writing_host, &[r2t(0, 0, 64)], &r2t(0, 0, 64), order(9, 0, 64), term(2, 0, 24)),
        case(reading_host, c2h(0, 0, 4096).bytes(), V::LastFlag { cid: 0 }, term(2, 0, 24)),
        case(reading_host, c2h(0, 0, 64).flags(4).bytes(), V::LastFlag { cid: 0 }, term(2, 0, 24)),
        case(
            reading_host,
            c2h(0, 0, 4096).flags(4 | 8).bytes(),
            V::SuccessFlag { cid: 0 },
            term(1, 1, 24),
        ),
        case(reading_host, response(0, 1, SUCCESS).bytes(), short(0, 4096), term(2, 0, 24)),
        after(
            reading_host,
            &[c2h(0, 0, 64)],
            &response(0, 1, SUCCESS),
            short(64, 4096),
            term(2, 0, 24),
        ),
        case(writing_host, response(0, 1, SUCCESS).bytes(), short(0, 16384), term(2, 0, 24)),
        after(
            writing_host,
            &[r2t(0, 0, 64), r2t(0, 64, 64)],
            &r2t(0, 128, 64),
            V::R2tLimit { cid: 0, limit: 2 },
            term(5, 0, 24),
        ),
        case(idle_host, response(0, 4, SUCCESS).bytes(), head(4), term(1, 16, 24)),
        case(idle_host, response(0, 0xffff, SUCCESS).bytes(), head(0xffff), term(1, 16, 24)),
    ]
}

fn fresh_controller() -> End {
    End::Controller(ControllerEnd::fresh())
}

fn controller() -> End {
    End::Controller(ControllerEnd::ready(false))
}

fn digesting_controller() -> End {
    End::Controller(ControllerEnd::ready(true))
}

/// Command 5 writes 16384 bytes; R2T 0 asks for the first half, R2T 1 for the second.
fn asking_controller() -> End {
    End::Controller(ControllerEnd::asked(false))
}

fn controller_handshake() -> Vec<Case> {
    let ic = |pfv, hpda, dgst| ic(0, pfv, hpda, dgst, 0).bytes();
    let none = capsule(1, 0x5a, 0, &[]);
    let h2c = data(6, 0, 0, 0, 4, &[0; 4]);
    vec![
        case(fresh_controller, none.bytes(), V::Sequence { kind: 4 }, term(2, 0, 72)),
        case(fresh_controller, h2c.bytes(), V::Sequence { kind: 6 }, term(2, 0, 24)),
        case(controller, ic_req().bytes(), V::Sequence { kind: 0 }, term(2, 0, 128)),
        case(fresh_controller, ic(7, 0, 0), V::FormatVersion { pfv: 7 }, term(6, 8, 128)),
        case(fresh_controller, ic(0, 32, 0), V::Alignment { pda: 32 }, term(1, 10, 128)),
        case(fresh_controller, ic(0, 255, 0), V::Alignment { pda: 255 }, term(1, 10, 128)),
        case(fresh_controller, ic(0, 0, 0x83), V::DigestBits { dgst: 0x83 }, term(1, 11, 128)),
    ]
}

fn controller_headers() -> Vec<Case> {
    let none = || capsule(1, 0x5a, 0, &[]);
    let full = || capsule(1, 0x01, 64, &[0; 64]);
    let h2c = || data(6, 5, 0, 0, 64, &[0; 64]);
    let offset = |kind, pdo| V::DataOffset { kind, pdo };
    let mut cases = Vec::new();
    for kind in [1, 3, 5, 7, 8, 9, 11, 0xfe] {
        let raw = Raw { kind, ..none() };
        cases.push(case(controller, raw.bytes(), V::PduType { kind }, common(0)));
    }
    for (raw, flags) in [
        (none(), 1),
        (none(), 2),
        (none(), 4),
        (full(), 2),
        (full(), 0x10),
        (h2c(), 8),
        (h2c(), 1),
        (ic_req(), 2),
        (Raw::new(2, &[0; 16], &[]), 1),
    ] {
        let violation = V::Flags { kind: raw.kind, flags };
        cases.push(case(controller, raw.flags(flags).bytes(), violation, common(1)));
    }
    cases.extend([
        case(digesting_controller, none().bytes(), V::Flags { kind: 4, flags: 0 }, common(1)),
        case(controller, none().hlen(64).bytes(), V::HeaderLength { kind: 4, hlen: 64 }, common(2)),
        case(
            fresh_controller,
            ic_req().hlen(127).bytes(),
            V::HeaderLength { kind: 0, hlen: 127 },
            common(2),
        ),
        case(
            controller,
            h2c().hlen(255).bytes(),
            V::HeaderLength { kind: 6, hlen: 255 },
            common(2),
        ),
        case(controller, none().pdo(76).bytes(), offset(4, 76), common(3)),
        case(controller, full().pdo(0).bytes(), offset(4, 0), common(3)),
        case(controller, full().pdo(74).bytes(), offset(4, 74), common(3)),
        case(controller, full().pdo(136).bytes(), offset(4, 136), common(3)),
        case(controller, h2c().pdo(23).bytes(), offset(6, 23), common(3)),
        case(fresh_controller, ic_req().pdo(128).bytes(), offset(0, 128), common(3)),
        case(controller, none().plen(71).bytes(), V::PduLength { kind: 4, plen: 71 }, common(4)),
        case(
            fresh_controller,
            ic_req().plen(129).bytes(),
            V::PduLength { kind: 0, plen: 129 },
            common(4),
        ),
        case(
            controller,
            h2c().pdo(0).plen(24).bytes(),
            V::PduLength { kind: 6, plen: 24 },
            common(4),
        ),
        // More in the capsule than the queue takes: the header is read before that is known.
        case(
            controller,
            capsule(1, 0x01, 4100, &[0; 4100]).bytes(),
            V::PduLength { kind: 4, plen: 4172 },
            term(1, 4, 72),
        ),
    ]);
    for plen in [0, 23, 153, u32::MAX] {
        let raw = Raw::new(2, &[0; 16], &[]).plen(plen);
        cases.push(case(controller, raw.bytes(), V::TermReqLength { plen }, Wire::Closed));
    }
    let mut digest = none().digested();
    digest[72..76].copy_from_slice(&[0xd, 0xc, 0xb, 0xa]);
    let received = 0x0a0b_0c0d;
    cases.push(case(
        digesting_controller,
        digest,
        V::HeaderDigest { received },
        term(3, received, 72),
    ));
    cases
}

fn controller_data() -> Vec<Case> {
    let h2c = |cid, ttag, offset, length: u32| {
        data(6, cid, ttag, offset, length, &vec![0; length as usize])
    };
    let range = |offset, length| V::DataRange { kind: 6, cid: 5, offset, length };
    let order = |offset, expected| V::DataOrder { kind: 6, cid: 5, offset, expected };
    let tag = |ttag| V::TransferTag { ttag };
    let end = asking_controller;
    let halves = [h2c(5, 0, 0, 4096), h2c(5, 0, 4096, 4096).flags(4)];
    vec![
        case(controller, h2c(5, 0, 0, 64).bytes(), tag(0), term(1, 10, 24)),
        case(end, h2c(5, 2, 0, 64).bytes(), tag(2), term(1, 10, 24)),
        case(end, h2c(5, 0xffff, 0, 64).bytes(), tag(0xffff), term(1, 10, 24)),
        // An R2T that is done is none any more.
        after(end, &halves, &h2c(5, 0, 0, 64), tag(0), term(1, 10, 24)),
        case(end, h2c(6, 0, 0, 64).bytes(), V::TransferCommand { cid: 6, ttag: 0 }, term(1, 8, 24)),
        case(
            end,
            data(6, 5, 0, 0, 65, &[0; 64]).bytes(),
            V::DataLength { datal: 65, actual: 64 },
            term(1, 16, 24),
        ),
        case(end, h2c(5, 0, 8192, 64).bytes(), range(8192, 64), term(4, 0, 24)),
        case(end, h2c(5, 1, 0, 64).bytes(), range(0, 64), term(4, 0, 24)),
        case(end, h2c(5, 1, u32::MAX, 64).bytes(), range(u32::MAX, 64), term(4, 0, 24)),
        case(end, h2c(5, 0, 0, 8196).bytes(), range(0, 8196), term(4, 0, 24)),
        case(end, h2c(5, 0, 64, 64).bytes(), order(64, 0), term(2, 0, 24)),
        after(end, &[h2c(5, 0, 0, 64)], &h2c(5, 0, 0, 64), order(0, 64), term(2, 0, 24)),
        case(
            end,
            h2c(5, 0, 0, 4100).bytes(),
            V::DataLimit { datal: 4100, limit: 4096 },
            term(5, 0, 24),
        ),
        case(end, h2c(5, 0, 0, 64).flags(4).bytes(), V::LastFlag { cid: 5 }, term(2, 0, 24)),
        after(end, &halves[..1], &h2c(5, 0, 4096, 4096), V::LastFlag { cid: 5 }, term(2, 0, 24)),
    ]
}

fn controller_commands() -> Vec<Case> {
    let none = |cid| capsule(cid, 0x5a, 0, &[]);
    let failed = |sc| Wire::Failed(Status::new(0, sc).with_dnr(true));
    let mut digest = capsule(1, 0x01, 64, &[0; 64]).digested();
    *digest.last_mut().unwrap() ^= 1;
    let sgl_type = |identifier| V::SglType { identifier };
    let pointer = |psdt| V::DataPointer { psdt };
    let mut cases = vec![
        case(
            digesting_controller,
            digest,
            V::DataDigest { cid: 1 },
            Wire::Failed(Status::new(0, 0x22)),
        ),
        after(
            controller,
            &[none(1), none(2), none(3)],
            &none(4),
            V::QueueOverflow { size: 4 },
            term(2, 0, 72),
        ),
        after(controller, &[none(1)], &none(1), V::CommandId { cid: 1 }, failed(0x03)),
        case(controller, none(1).byte(9, 0x00), pointer(0), failed(0x02)),
        case(controller, none(1).byte(9, 0x80), pointer(2), failed(0x02)),
        case(controller, none(1).byte(9, 0xc0), pointer(3), failed(0x02)),
        case(controller, capsule(1, 0x00, 64, &[]).bytes(), sgl_type(0), failed(0x11)),
        case(controller, capsule(1, 0x00, 64, &[0; 64]).bytes(), sgl_type(0), failed(0x11)),
        case(controller, capsule(1, 0x40, 64, &[]).bytes(), sgl_type(0x40), failed(0x11)),
        case(controller, capsule(1, 0x51, 64, &[]).bytes(), sgl_type(0x51), failed(0x11)),
        case(
            controller,
            capsule(1, 0x5a, 64, &[]).byte(32, 1),
            V::SglOffset { address: 1 },
            failed(0x16),
        ),
        case(
            controller,
            capsule(1, 0x01, 64, &[0; 64]).byte(39, 0x80),
            V::SglOffset { address: 0x80 << 56 },
            failed(0x16),
        ),
        case(
            controller,
            capsule(1, 0x01, 65, &[0; 64]).bytes(),
            V::SglLength { length: 65, actual: 64 },
            failed(0x0f),
        ),
        case(
            controller,
            capsule(1, 0x01, 65, &[]).bytes(),
            V::SglLength { length: 65, actual: 0 },
            failed(0x0f),
        ),
        case(
            controller,
            capsule(1, 0x5a, 64, &[0; 64]).bytes(),
            V::StrayCapsuleData { actual: 64 },
            failed(0x02),
        ),
    ];
    let reserved = none(1).byte(9, 0x43);
    cases.push(case(controller, reserved, V::Fused { fuse: 3 }, failed(0x02)));
    for fuse in 1..=2 {
        let mut fabrics = none(1).byte(9, 0x40 | fuse);
        fabrics[8] = 0x7f;
        cases.push(case(controller, fabrics, V::Fused { fuse }, failed(0x02)));
    }
    cases
}
