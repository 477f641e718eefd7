//! Conversations of every kind, in each combination of digests, flow control and padding: tshark
//! reads what was sent, and finds no fault but those that are known to be its own.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

use std::collections::{BTreeMap, BTreeSet};

use nvme_spec::pdu::{self, flags, kind};
use nvmf_proto::tcp::ControllerConfig;
use nvmf_wire_tests::check::{findings, name_of};
use nvmf_wire_tests::exceptions::{Verdict, is_known_version};
use nvmf_wire_tests::recording::Recording;
use nvmf_wire_tests::sent::{self, Pdu};
use nvmf_wire_tests::talk;
use nvmf_wire_tests::tshark::{DataDigests, dissect};

/// What the two ends agree on.
#[derive(Clone, Copy, Debug)]
struct Terms {
    header_digest: bool,
    data_digest: bool,
    flow_control: bool,
    padding: bool,
}

impl Terms {
    /// Records everything, with transfers that are split in every way.
    fn record(self) -> Recording {
        let mut options = talk::options();
        options.header_digest = self.header_digest;
        options.data_digest = self.data_digest;
        options.disable_flow_control = !self.flow_control;
        let mut config = ControllerConfig {
            maxh2cdata: 4096,
            r2t_length: 7000,
            c2h_data_length: 5000,
            ..ControllerConfig::default()
        };
        if self.padding {
            // Alignments of 48 and 40 bytes, of which neither is a power of two.
            options.hpda = 11;
            config.cpda = 9;
        }
        talk::record(config, |dialer| talk::everything(dialer, &options))
    }

    fn data_digests(self) -> DataDigests {
        if self.padding { DataDigests::Unverified } else { DataDigests::Verified }
    }
}

/// With these digests: flow control on and off, padding and none.
fn tshark_reads_what_was_sent(header_digest: bool, data_digest: bool) {
    let mut verdict = Verdict::default();
    for (flow_control, padding) in [(false, false), (false, true), (true, false), (true, true)] {
        let terms = Terms { header_digest, data_digest, flow_control, padding };
        let recording = terms.record();
        assert_everything_was_said(terms, &sent::pdus(&recording));
        verdict.add(findings(&recording, &dissect(&recording, terms.data_digests())));
    }
    verdict.assert_faultless();
    verdict.assert_all_excepted(data_digest);
}

#[test]
fn tshark_reads_what_was_sent_without_digests() {
    tshark_reads_what_was_sent(false, false);
}

#[test]
fn tshark_reads_what_was_sent_with_header_digests() {
    tshark_reads_what_was_sent(true, false);
}

#[test]
fn tshark_reads_what_was_sent_with_data_digests() {
    tshark_reads_what_was_sent(false, true);
}

#[test]
fn tshark_reads_what_was_sent_with_both_digests() {
    tshark_reads_what_was_sent(true, true);
}

/// All commands of a conversation.
const COMMANDS: [&str; 20] = [
    "Connect",
    "Property Get",
    "Property Set",
    "Disconnect",
    "Identify",
    "Get Log Page",
    "Get Features",
    "Set Features",
    "Keep Alive",
    "Asynchronous Event Request",
    "Abort",
    "Delete I/O Submission Queue",
    "Read",
    "Write",
    "Write Uncorrectable",
    "Write Zeroes",
    "Compare",
    "Dataset Management",
    "Flush",
    "Verify",
];

/// What tshark reads is what was sent: so it is enough to see that enough was sent.
fn assert_everything_was_said(terms: Terms, pdus: &[Pdu]) {
    let of = |kind: u8| pdus.iter().filter(move |pdu| pdu.kind() == kind);
    let usual = [
        kind::IC_REQ,
        kind::IC_RESP,
        kind::CAPSULE_CMD,
        kind::CAPSULE_RESP,
        kind::H2C_DATA,
        kind::C2H_DATA,
        kind::R2T,
    ];
    for kind in usual {
        assert!(of(kind).count() > 0, "{terms:?}: no {}", pdu::name(kind));
    }
    let said: BTreeSet<_> = of(kind::CAPSULE_CMD)
        .filter_map(|pdu| {
            // The first two connections are those of admin queues.
            Some(name_of(&pdu.sqe()?, u16::from(pdu.connection > 1)))
        })
        .collect();
    assert_eq!(said, BTreeSet::from(COMMANDS), "{terms:?}");
    let in_capsule = |pdu: &&Pdu| pdu.connection > 1 && pdu.data().len() > 8192;
    assert!(of(kind::CAPSULE_CMD).any(|pdu| in_capsule(&pdu)), "{terms:?}: no data in a capsule");
    let handshakes = [kind::IC_REQ, kind::IC_RESP];
    let later: Vec<_> = pdus.iter().filter(|pdu| !handshakes.contains(&pdu.kind())).collect();
    for pdu in &later {
        assert_eq!(pdu.header_digest().is_some(), terms.header_digest, "{terms:?}: {pdu:?}");
        let has_data = !pdu.data().is_empty();
        assert_eq!(pdu.data_digest().is_some(), terms.data_digest && has_data, "{pdu:?}");
    }
    for kind in [kind::CAPSULE_CMD, kind::H2C_DATA, kind::C2H_DATA] {
        let padded = of(kind).any(|pdu| pdu.padding() > 0);
        assert_eq!(padded, terms.padding, "{terms:?}: {}", pdu::name(kind));
    }
    for kind in [kind::H2C_DATA, kind::C2H_DATA] {
        let (last, more): (Vec<_>, Vec<_>) = of(kind).partition(|pdu| pdu.has(flags::LAST));
        assert!(!last.is_empty() && !more.is_empty(), "{terms:?}: {}", pdu::name(kind));
    }
    let success = of(kind::C2H_DATA).filter(|pdu| pdu.has(flags::SUCCESS)).count();
    assert_eq!(success > 0, !terms.flow_control, "{terms:?}: SUCCESS");
    let mut r2ts = BTreeMap::new();
    for r2t in of(kind::R2T) {
        *r2ts.entry(r2t.read::<pdu::R2t>().cccid).or_insert(0) += 1;
    }
    assert!(r2ts.values().any(|count| *count > 4), "{terms:?}: {r2ts:?} R2Ts per command");
    let failed = of(kind::CAPSULE_RESP).filter(|pdu| !pdu.cqe().unwrap().status().is_success());
    assert!(failed.count() > 10, "{terms:?}: hardly a command failed");
    let flows = of(kind::CAPSULE_RESP).filter_map(Pdu::cqe).filter(|cqe| cqe.sqhd != 0xffff);
    assert_eq!(flows.clone().any(|cqe| cqe.sqhd > 1), terms.flow_control, "{terms:?}: SQHD");
}

/// Why data digests of padded data are not left to tshark.
#[test]
fn tshark_takes_padding_for_data_and_its_digest_for_wrong() {
    let terms =
        Terms { header_digest: false, data_digest: true, flow_control: false, padding: true };
    let recording = terms.record();
    let found = findings(&recording, &dissect(&recording, DataDigests::Verified));
    let wrong = found.iter().find(|finding| finding.what.starts_with("nvme-tcp.ddgst is wrong"));
    assert!(
        wrong.is_some() || !is_known_version(),
        "tshark understands padding now: let it verify data digests in all conversations"
    );
}
