//! Get Log Page.

use nvme_spec::identify::NSID_ALL;
use nvme_spec::log::{ChangedNamespaceList, FirmwareSlotLog, GetLogPage, SmartLog, lid};
use nvme_spec::{Sqe, Status};
use nvmf::controller::discovery::log_page_part;
use nvmf::controller::identify::command_effects;
use zerocopy::IntoBytes;

use super::{Controller, INVALID_FIELD, Role, check_length};
use crate::limits;

impl Controller {
    /// The part of a log page that the command asks for.
    pub(super) fn log_page(&self, sqe: &Sqe, data_len: u32) -> Result<Vec<u8>, Status> {
        let get = GetLogPage::from_sqe(sqe);
        let length = u32::try_from(get.len())
            .ok()
            .filter(|length| *length <= limits::MAX_TRANSFER)
            .ok_or(INVALID_FIELD)?;
        check_length(data_len, length)?;
        // No page here has an index, and none is of a single namespace.
        if get.ot || !matches!(get.nsid, 0 | NSID_ALL) {
            return Err(INVALID_FIELD);
        }
        let page = self.whole_page(get.lid)?;
        let length = usize::try_from(length).map_err(|_| INVALID_FIELD)?;
        log_page_part(&page, get.offset, length).ok_or(INVALID_FIELD)
    }

    fn whole_page(&self, lid: u8) -> Result<Vec<u8>, Status> {
        match (&self.role, lid) {
            (Role::Discovery { page }, lid::DISCOVERY) => Ok(page.clone()),
            (Role::Io, lid::ERROR) => Ok(self.association.errors().page()),
            (Role::Io, lid::SMART) => Ok(self.smart().as_bytes().to_vec()),
            (Role::Io, lid::FIRMWARE_SLOT) => {
                Ok(FirmwareSlotLog::single(limits::FIRMWARE).as_bytes().to_vec())
            }
            (Role::Io, lid::CHANGED_NAMESPACES) => {
                // The namespaces of a subsystem are settled when it is built.
                Ok(ChangedNamespaceList::default().as_bytes().to_vec())
            }
            (Role::Io, lid::COMMAND_EFFECTS) => {
                Ok(command_effects(limits::OPTIONAL_COMMANDS).as_bytes().to_vec())
            }
            _ => Err(Status::INVALID_LOG_PAGE.with_dnr(true)),
        }
    }

    /// What the subsystem's hosts did since it was made, which is when the power came on.
    fn smart(&self) -> SmartLog {
        let subsystem = self.association.subsystem();
        let counted = subsystem.statistics();
        let hours = subsystem.started().elapsed().as_secs() / 3600;
        let mut log = SmartLog { avail_spare: 100, ..Default::default() };
        log.data_units_read.set(SmartLog::data_units(counted.bytes_read.into()));
        log.data_units_written.set(SmartLog::data_units(counted.bytes_written.into()));
        log.host_read_commands.set(counted.reads.into());
        log.host_write_commands.set(counted.writes.into());
        log.power_cycles.set(1);
        log.power_on_hours.set(hours.into());
        log.media_errors.set(counted.media_errors.into());
        log.num_err_log_entries.set(self.association.errors().count().into());
        log
    }
}
