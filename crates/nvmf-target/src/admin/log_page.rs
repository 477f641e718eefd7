//! Get Log Page.

use nvme_spec::identify::NSID_ALL;
use nvme_spec::log::{AnaGroupDescriptor, AnaHeader, FirmwareSlotLog, GetLogPage, SmartLog, lid};
use nvme_spec::{Sqe, Status};
use nvmf::controller::discovery::log_page_part;
use nvmf::controller::identify::command_effects;
use zerocopy::IntoBytes;

use super::{Controller, INVALID_FIELD, Role, check_length};
use crate::subsystem::View;
use crate::{discovery, limits};

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
        let page = self.whole_page(&get)?;
        let length = usize::try_from(length).map_err(|_| INVALID_FIELD)?;
        let part = log_page_part(&page, get.offset, length).ok_or(INVALID_FIELD)?;
        if !get.rae {
            self.association.events().log_was_read(get.lid);
        }
        Ok(part)
    }

    fn whole_page(&self, get: &GetLogPage) -> Result<Vec<u8>, Status> {
        let association = &self.association;
        Ok(match (&self.role, get.lid) {
            (Role::Discovery(directory), lid::DISCOVERY) => {
                discovery::page(&directory.layout.load(), &directory.asker).to_bytes()
            }
            (Role::Io, lid::ERROR) => association.errors().page(),
            (Role::Io, lid::SMART) => self.smart().as_bytes().to_vec(),
            (Role::Io, lid::FIRMWARE_SLOT) => {
                FirmwareSlotLog::single(association.subsystem().firmware()).as_bytes().to_vec()
            }
            (Role::Io, lid::CHANGED_NAMESPACES) => {
                association.events().changed_namespaces(!get.rae).as_bytes().to_vec()
            }
            (Role::Io, lid::COMMAND_EFFECTS) => {
                command_effects(limits::OPTIONAL_COMMANDS).as_bytes().to_vec()
            }
            (Role::Io, lid::ANA) => ana_log(&association.view(), get.lsp & AnaHeader::RGO != 0),
            _ => return Err(Status::INVALID_LOG_PAGE.with_dnr(true)),
        })
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

/// The ANA log page; `groups_only` leaves the namespaces out.
fn ana_log(view: &View, groups_only: bool) -> Vec<u8> {
    let groups = view.groups();
    let count = u16::try_from(groups.len()).unwrap_or(u16::MAX);
    let mut page = AnaHeader::new(view.ana_changes(), count).as_bytes().to_vec();
    for (id, group, members) in groups {
        let members = if groups_only { &[][..] } else { &members };
        AnaGroupDescriptor::write(&mut page, id, group.changes, group.state, members);
    }
    page
}
