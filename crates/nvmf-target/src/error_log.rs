//! The Error Information log: the commands that failed last (Base 2.1, section 5.1.12.1.2).

use std::collections::VecDeque;

use nvme_spec::log::{ErrorLogEntry, trtype};
use nvme_spec::{Sqe, Status};
use zerocopy::IntoBytes;

use crate::limits::ERROR_LOG_ENTRIES;

/// The entries, newest first.
#[derive(Debug, Default)]
pub(crate) struct ErrorLog {
    entries: VecDeque<ErrorLogEntry>,
    count: u64,
}

impl ErrorLog {
    /// Notes a command that failed with this status.
    pub(crate) fn record(&mut self, qid: u16, sqe: &Sqe, status: Status) {
        self.count = self.count.saturating_add(1);
        self.entries.truncate(ERROR_LOG_ENTRIES - 1);
        let mut entry = ErrorLogEntry { opcode: sqe.opcode, lpver: 1, ..Default::default() };
        entry.trtype = trtype::TCP;
        entry.error_count.set(self.count);
        entry.sqid.set(qid);
        entry.cmdid = sqe.cid;
        entry.status_field.set(status.to_wire());
        entry.parm_error_location.set(location(status));
        if !sqe.is_fabrics() {
            entry.nsid = sqe.nsid;
        }
        if qid != 0 && !sqe.is_fabrics() {
            entry.lba.set(sqe.slba());
        }
        self.entries.push_front(entry);
    }

    /// Errors noted since the controller came into being.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The whole page: [`ERROR_LOG_ENTRIES`] entries of 64 bytes.
    pub(crate) fn page(&self) -> Vec<u8> {
        let mut page: Vec<u8> =
            self.entries.iter().flat_map(|entry| entry.as_bytes().iter().copied()).collect();
        page.resize(ERROR_LOG_ENTRIES * size_of::<ErrorLogEntry>(), 0);
        page
    }
}

/// Which byte of the command, in bits 7:0, and which bit of that, in 10:8, is to blame, where the
/// status says as much.
fn location(status: Status) -> u16 {
    const BLAME: [(Status, u16); 7] = [
        (Status::INVALID_OPCODE, 0),
        (Status::INVALID_NAMESPACE, 4),
        (Status::FEATURE_NOT_NAMESPACE_SPECIFIC, 4),
        // The length in the SGL descriptor.
        (Status::DATA_SGL_LENGTH_INVALID, 32),
        (Status::INVALID_LOG_PAGE, 40),
        (Status::LBA_OUT_OF_RANGE, 40),
        (Status::FEATURE_NOT_SAVEABLE, 43 | 7 << 8),
    ];
    let known = BLAME.iter().find(|(of, _)| of.same_code(status));
    known.map_or(u16::MAX, |(_, location)| *location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::opcode;
    use zerocopy::FromBytes;

    #[test]
    fn the_newest_failures_are_kept_and_counted() {
        let mut log = ErrorLog::default();
        for cid in 0..70 {
            let mut sqe = Sqe::new(opcode::nvm::READ);
            sqe.cid.set(cid);
            sqe.nsid.set(3);
            sqe.set_slba(9);
            log.record(1, &sqe, Status::LBA_OUT_OF_RANGE);
        }
        let page = log.page();
        assert_eq!(page.len(), 4096);
        let entries = <[ErrorLogEntry]>::ref_from_bytes(&page).unwrap();
        assert_eq!(entries[0].error_count, 70);
        assert_eq!(entries[0].cmdid, 69);
        assert_eq!(entries[0].status(), Status::LBA_OUT_OF_RANGE);
        assert_eq!((entries[0].lba.get(), entries[0].nsid.get(), entries[0].sqid.get()), (9, 3, 1));
        assert_eq!(entries[63].error_count, 7);
        assert_eq!(log.count(), 70);
    }

    #[test]
    fn the_field_to_blame_is_told_where_it_is_known() {
        let mut log = ErrorLog::default();
        for (status, blame) in [
            (Status::INVALID_FIELD, 0xffff),
            (Status::LBA_OUT_OF_RANGE, 40),
            (Status::FEATURE_NOT_SAVEABLE, 0x72b),
            (Status::INVALID_OPCODE.with_dnr(true).with_more(true), 0),
        ] {
            log.record(0, &Sqe::new(0), status);
            assert_eq!(log.entries[0].parm_error_location, blame);
        }
    }

    #[test]
    fn an_empty_log_is_a_page_of_zeroes() {
        assert_eq!(ErrorLog::default().page(), vec![0; 4096]);
    }
}
