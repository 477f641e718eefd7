//! Every violation, in each role that can see it, with the answer it gets on the wire.

mod order;
mod table;

use std::collections::BTreeSet;

use nvmf_proto::tcp::ControllerEvent;
use nvmf_proto::{Answer, Role, Violation};

use crate::raw::{ControllerEnd, HostEnd, only_pdu};
use table::{Case, End, Wire};

#[test]
fn every_violation_is_told_by_its_name_and_answered_as_defined() {
    for case in table::cases() {
        let segmented = (case.end)();
        check(&case, segmented, 1);
        check(&case, (case.end)(), case.bytes.len());
    }
}

#[test]
fn every_violation_is_in_the_table_for_every_role_that_can_see_it() {
    let cases = table::cases();
    let covered: BTreeSet<(String, bool)> =
        cases.iter().map(|c| (name(&c.violation), c.role() == Role::Host)).collect();
    let mut wanted = BTreeSet::new();
    for case in &cases {
        for role in [Role::Host, Role::Controller] {
            if case.violation.seen_by(role) {
                wanted.insert((name(&case.violation), role == Role::Host));
            }
        }
    }
    assert_eq!(covered, wanted);
    let covered: BTreeSet<String> = covered.into_iter().map(|(name, _)| name).collect();
    assert_eq!(covered, variants());
}

#[test]
fn every_violation_prints_something_of_its_own() {
    let texts: BTreeSet<(String, String)> =
        table::cases().iter().map(|c| (c.violation.to_string(), name(&c.violation))).collect();
    let distinct: BTreeSet<&String> = texts.iter().map(|(text, _)| text).collect();
    assert_eq!(distinct.len(), texts.len(), "two violations print alike: {texts:#?}");
}

/// The variants as the source has them: the enum is `non_exhaustive`, so that no match from here
/// could break when one is added.
fn variants() -> BTreeSet<String> {
    let source = include_str!("../../../src/violation.rs");
    let (_, body) = source.split_once("pub enum Violation {\n").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let variant = |line: &str| {
        let line = line.strip_prefix("    ")?;
        line.starts_with(|c: char| c.is_ascii_uppercase())
            .then(|| line.trim_end_matches([' ', '{', ',']).to_owned())
    };
    let variants: BTreeSet<String> = body.lines().filter_map(variant).collect();
    assert!(variants.contains("PduType") && variants.contains("StrayCapsuleData"));
    variants
}

fn name(violation: &Violation) -> String {
    let debug = format!("{violation:?}");
    debug.split([' ', '{']).next().unwrap().to_owned()
}

/// Gives the bytes in segments and checks what comes of it.
fn check(case: &Case, end: End, segment: usize) {
    let Case { violation, wire, bytes, .. } = case;
    assert!(violation.seen_by(case.role()), "{violation:?}");
    let defined = match *wire {
        Wire::TermReq { fes, fei, .. } => Answer::Terminate { fes, fei },
        Wire::Closed => Answer::Close,
        Wire::Failed(status) => Answer::Fail(status),
    };
    assert_eq!(violation.answer(), defined, "{violation:?}");
    assert_eq!(violation.is_fatal(), !matches!(wire, Wire::Failed(_)));
    match end {
        End::Host(end) => check_host(case, end, bytes.chunks(segment)),
        End::Controller(end) => check_controller(case, end, bytes.chunks(segment)),
    }
}

fn check_host<'a>(case: &Case, mut end: HostEnd, segments: impl Iterator<Item = &'a [u8]>) {
    let Case { violation, wire, .. } = case;
    let mut given = Ok(());
    for segment in segments {
        given = end.give(segment);
        if given.is_err() {
            break;
        }
    }
    if let Wire::Failed(status) = wire {
        assert_eq!(given, Ok(()), "{violation:?}");
        let [completion] = end.completions[..] else { panic!("{violation:?}: no completion") };
        assert_eq!(completion.violation, Some(*violation));
        assert_eq!(completion.cqe.status(), *status);
        assert!(!end.host.has_ended());
        return;
    }
    assert_eq!(given, Err(*violation));
    assert!(end.host.has_ended());
    assert_eq!(end.host.wants_transmit(), matches!(wire, Wire::TermReq { .. }));
    let sent = end.sent();
    check_term_req(case, 2, &sent);
    assert!(!end.host.wants_transmit() && end.sent().is_empty(), "nothing follows");
    assert_eq!(end.host.handle_bytes(&[0x55; 99]), Ok((99, None)), "nothing is heard");
    assert!(end.host.submit(nvme_spec::Sqe::new(0), nvmf_proto::tcp::Transfer::None).is_err());
}

fn check_controller<'a>(
    case: &Case,
    mut end: ControllerEnd,
    segments: impl Iterator<Item = &'a [u8]>,
) {
    let Case { violation, wire, .. } = case;
    let mut given = Ok(());
    for segment in segments {
        given = end.give(segment);
        if given.is_err() {
            break;
        }
    }
    if let Wire::Failed(status) = wire {
        assert_eq!(given, Ok(()), "{violation:?}");
        let told = end.events.iter().find_map(|event| match event {
            ControllerEvent::Rejected { violation, .. } => Some(*violation),
            ControllerEvent::Data { violation, .. } => *violation,
            _ => None,
        });
        assert_eq!(told, Some(*violation));
        if let Some(ControllerEvent::Data { slot, .. }) = end.events.last() {
            // The application may say what it likes: the data was wrong.
            end.controller.respond(*slot, nvme_spec::Cqe::default());
        }
        let sent = end.sent();
        let pdu = only_pdu(&sent);
        assert_eq!(pdu[0], 5, "{violation:?}");
        assert_eq!(pdu[22..24], status.to_wire().to_le_bytes(), "{violation:?}");
        assert!(!end.controller.has_ended());
        return;
    }
    assert_eq!(given, Err(*violation));
    assert!(end.controller.has_ended());
    assert_eq!(end.controller.wants_transmit(), matches!(wire, Wire::TermReq { .. }));
    let sent = end.sent();
    check_term_req(case, 3, &sent);
    assert!(!end.controller.wants_transmit() && end.sent().is_empty(), "nothing follows");
    assert_eq!(end.controller.handle_bytes(&[0x55; 99]), Ok((99, None)), "nothing is heard");
}

/// A TermReq to the last byte, or nothing.
fn check_term_req(case: &Case, kind: u8, sent: &[u8]) {
    let Case { violation, wire, bytes, .. } = case;
    let Wire::TermReq { fes, fei, copied } = wire else {
        return assert!(sent.is_empty(), "{violation:?} is not answered");
    };
    let mut expected = vec![kind, 0, 24, 0];
    expected.extend((24 + u32::try_from(*copied).unwrap()).to_le_bytes());
    expected.extend(fes.to_le_bytes());
    expected.extend(fei.to_le_bytes());
    expected.extend([0; 10]);
    // The PDU at fault is the last one given, and begins where the case says.
    expected.extend(&bytes[case.at..case.at + copied]);
    assert_eq!(sent, expected, "{violation:?}");
}
