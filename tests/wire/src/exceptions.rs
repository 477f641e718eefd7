//! Where tshark 4.0 is wrong, and we are not.

use std::collections::BTreeSet;

use nvme_spec::feature::fid;
use nvme_spec::log::{GetLogPage, lid};
use nvme_spec::opcode::{admin, nvm};
use nvme_spec::pdu::kind;

use crate::check::Finding;
use crate::tshark;

/// The version of tshark that these exceptions were found in, Debian 12's.
const VERSION: (u32, u32) = (4, 0);

/// Something that tshark says and that is not so.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// What it is about.
    pub name: &'static str,
    /// Why it is tshark that is wrong.
    pub why: &'static str,
    /// Whether it occurs with data digests, too.
    with_data_digests: bool,
    covers: fn(&Finding) -> bool,
}

/// All of them.
pub const EXCEPTIONS: [Exception; 4] = [
    Exception {
        name: "Arbitration feature",
        why: "tshark aborts with `Unregistered hf!`: it never registered the fields of this \
              feature, and says so of a Set Features command as of the answer to Get Features, \
              whatever the value; of the answer's other fields it then says nothing",
        with_data_digests: true,
        covers: |finding| {
            let says = |words: &str| finding.what.contains(words);
            let spoilt = says("malformed packet") || says("Unregistered hf!");
            feature_of(finding) == Some(fid::ARBITRATION)
                && match (opcode_of(finding), kind_of(finding)) {
                    (Some(admin::SET_FEATURES), Some(kind::CAPSULE_CMD)) => spoilt,
                    (Some(admin::GET_FEATURES), Some(kind::CAPSULE_RESP)) => {
                        spoilt || finding.what.starts_with("nvme.cqe.") && says("has None")
                    }
                    _ => false,
                }
        },
    },
    Exception {
        name: "one entry of the Error Information log",
        why: "an entry has 64 bytes, of which the last 22 are reserved; tshark takes 24 from \
              byte 42 on, and misses two if one entry is all there is and no data digest follows",
        with_data_digests: false,
        covers: |finding| {
            let request = finding.command.as_ref().map(GetLogPage::from_sqe);
            opcode_of(finding) == Some(admin::GET_LOG_PAGE)
                && kind_of(finding) == Some(kind::C2H_DATA)
                && request.is_some_and(|get| get.lid == lid::ERROR && get.len() == 64)
                && finding.what.to_lowercase().contains("malformed packet")
        },
    },
    Exception {
        name: "padding",
        why: "tshark takes what lies between header and data (HPDA, CPDA) for data, though PDO \
              says where data begins: of a Connect or a Discovery log page, that many bytes \
              seem to be too many",
        with_data_digests: true,
        covers: |finding| {
            let padded = finding.pdu.as_ref().is_some_and(|pdu| pdu.padding() > 0);
            padded && finding.what.contains("Trailing stray characters")
        },
    },
    Exception {
        name: "Verify",
        why: "opcode 0Ch on an I/O queue is Verify (NVM Command Set); tshark has no name for it \
              there and takes that of admin opcode 0Ch",
        with_data_digests: true,
        covers: |finding| {
            opcode_of(finding) == Some(nvm::VERIFY)
                && finding.qid != 0
                && finding.what == "tshark does not say \"Opcode: 0x0c Verify\""
        },
    },
];

fn opcode_of(finding: &Finding) -> Option<u8> {
    finding.command.map(|sqe| sqe.opcode)
}

fn feature_of(finding: &Finding) -> Option<u8> {
    let [feature, ..] = finding.command?.cdw(10).to_le_bytes();
    Some(feature)
}

fn kind_of(finding: &Finding) -> Option<u8> {
    finding.pdu.as_ref().map(|pdu| pdu.kind())
}

/// Findings, sorted.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Those that are covered by no exception.
    pub faults: Vec<Finding>,
    /// The names of the exceptions that covered any.
    pub excepted: BTreeSet<&'static str>,
}

impl Verdict {
    /// Sorts these findings, too.
    pub fn add(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            match EXCEPTIONS.iter().find(|exception| (exception.covers)(&finding)) {
                Some(exception) => {
                    self.excepted.insert(exception.name);
                }
                None => self.faults.push(finding),
            }
        }
    }

    /// Stops the test if there are faults.
    pub fn assert_faultless(&self) {
        let faults: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "tshark finds fault:\n{}", faults.join("\n"));
    }

    /// Stops the test if one of the exceptions did not occur: then it is to be taken off the
    /// list. Only with the tshark they were found in; of any other, they are reported.
    pub fn assert_all_excepted(&self, data_digests: bool) {
        let due = EXCEPTIONS.iter().filter(|e| e.with_data_digests || !data_digests);
        for exception in due.filter(|exception| !self.excepted.contains(exception.name)) {
            let text =
                format!("tshark no longer errs about: {} ({})", exception.name, exception.why);
            assert!(!is_known_version(), "{text}");
            println!("{text}");
        }
    }
}

/// Whether tshark is the one that the exceptions were found in.
pub fn is_known_version() -> bool {
    tshark::version() == VERSION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::End;
    use crate::sent::Pdu;
    use nvme_spec::Sqe;
    use nvme_spec::feature::{GetFeatures, Select};

    fn finding(kind: u8, command: Sqe, what: &str) -> Finding {
        let bytes = [&[kind, 0, 24, 0, 24, 0, 0, 0][..], &[0; 64]].concat();
        let pdu = Some(Pdu { connection: 1, from: End::Controller, at: 0, bytes });
        Finding { what: what.to_owned(), pdu, command: Some(command), qid: 0 }
    }

    fn log(lid: u8, length: u64) -> Sqe {
        GetLogPage::new(lid, 0, length).unwrap().to_sqe()
    }

    fn get_feature(fid: u8) -> Sqe {
        let mut sqe = Sqe::new(admin::GET_FEATURES);
        sqe.set_cdw(10, GetFeatures { fid, select: Select::Current }.to_cdw10());
        sqe
    }

    fn faults(finding: Finding) -> usize {
        let mut verdict = Verdict::default();
        verdict.add(vec![finding]);
        assert_eq!(verdict.faults.len() + verdict.excepted.len(), 1);
        verdict.faults.len()
    }

    #[test]
    fn an_exception_covers_nothing_but_its_own() {
        let malformed = "packet 9, Controller: malformed packet";
        let data = |sqe| faults(finding(kind::C2H_DATA, sqe, malformed));
        assert_eq!(data(log(lid::ERROR, 64)), 0);
        assert_eq!(data(log(lid::ERROR, 128)), 1);
        assert_eq!(data(log(lid::SMART, 64)), 1);
        assert_eq!(data(Sqe::new(admin::IDENTIFY)), 1);
        let response = |fid| faults(finding(kind::CAPSULE_RESP, get_feature(fid), malformed));
        assert_eq!(response(fid::ARBITRATION), 0);
        assert_eq!(response(fid::POWER_MANAGEMENT), 1);
        let wrong = "nvme.cqe.cid is 0x1, tshark has Some([\"0x0002\"]) (packet 9)";
        assert_eq!(faults(finding(kind::CAPSULE_RESP, get_feature(fid::ARBITRATION), wrong)), 1);
    }

    #[test]
    #[should_panic(expected = "tshark finds fault")]
    fn a_fault_fails_the_test() {
        let mut verdict = Verdict::default();
        verdict.add(vec![finding(kind::C2H_DATA, log(lid::SMART, 512), "malformed packet")]);
        verdict.assert_faultless();
    }

    #[test]
    fn an_exception_that_does_not_occur_fails_the_test_with_the_version_that_has_it() {
        let stopped = std::panic::catch_unwind(|| Verdict::default().assert_all_excepted(false));
        assert_eq!(stopped.is_err(), is_known_version());
    }
}
