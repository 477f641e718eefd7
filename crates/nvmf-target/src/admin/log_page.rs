//! Get Log Page.

use nvme_spec::event::Event;
use nvme_spec::identify::{NSID_ALL, cns};
use nvme_spec::log::{
    AnaGroupDescriptor, AnaHeader, ChangedNamespaceList, DiscoveryHeader, FirmwareSlotLog,
    GetLogPage, ReservationNotification, SmartLog, SupportedLogPages, lid,
};
use nvme_spec::{Sqe, Status};
use nvmf::controller::discovery::log_page_part;
use nvmf::controller::identify::command_effects;
use zerocopy::IntoBytes;

use super::{Controller, INVALID_FIELD, Role, check_length};
use crate::reservation::ReservationLog;
use crate::subsystem::View;
use crate::{discovery, limits};

/// The pages of I/O controllers.
const PAGES: [u8; 9] = [
    lid::SUPPORTED,
    lid::ERROR,
    lid::SMART,
    lid::FIRMWARE_SLOT,
    lid::CHANGED_NAMESPACES,
    lid::COMMAND_EFFECTS,
    lid::ANA,
    lid::FEATURE_EFFECTS,
    lid::RESERVATION_NOTIFICATION,
];

/// The pages of discovery controllers.
const DISCOVERY_PAGES: [u8; 3] = [lid::SUPPORTED, lid::FEATURE_EFFECTS, lid::DISCOVERY];

impl Controller {
    /// The part of a log page that the command asks for.
    pub(super) fn log_page(&self, sqe: &Sqe, data_len: u32) -> Result<Vec<u8>, Status> {
        let get = GetLogPage::from_sqe(sqe);
        let length = u32::try_from(get.len())
            .ok()
            .filter(|length| *length <= self.association.max_transfer())
            .ok_or(INVALID_FIELD)?;
        if !self.pages().contains(&get.lid) {
            return Err(Status::INVALID_LOG_PAGE.with_dnr(true));
        }
        check_length(data_len, length)?;
        // No page here has an index, and none is of a single namespace. There is no UUID list, so
        // that a UUID index means nothing, as does what is specific to other pages.
        if get.ot || !matches!(get.nsid, 0 | NSID_ALL) {
            return Err(INVALID_FIELD);
        }
        if get.lid == lid::COMMAND_EFFECTS && get.csi != cns::CSI_NVM {
            return Err(INVALID_FIELD);
        }
        let page = self.whole_page(&get)?;
        let length = usize::try_from(length).map_err(|_| INVALID_FIELD)?;
        let part = log_page_part(&page, get.offset, length).ok_or(INVALID_FIELD)?;
        if !get.rae {
            self.association.events().log_was_read(get.lid);
            let more = |log: &mut ReservationLog| !log.is_empty();
            if get.lid == lid::RESERVATION_NOTIFICATION && self.association.reservation_log(more) {
                self.association.events().raise(Event::RESERVATION_LOG_AVAILABLE);
            }
        }
        Ok(part)
    }

    fn pages(&self) -> &'static [u8] {
        match self.role {
            Role::Io => &PAGES,
            Role::Discovery(_) => &DISCOVERY_PAGES,
        }
    }

    fn supported_pages(&self) -> SupportedLogPages {
        let mut log = SupportedLogPages::of(self.pages().iter().copied());
        if let Role::Discovery(_) = self.role {
            let entry = &mut log.lids[usize::from(lid::DISCOVERY)];
            let kinds = SupportedLogPages::DISCOVERY_EXTENDED;
            entry.set(entry.get() | kinds | SupportedLogPages::DISCOVERY_PORT_LOCAL);
        }
        log
    }

    fn whole_page(&self, get: &GetLogPage) -> Result<Vec<u8>, Status> {
        let association = &self.association;
        Ok(match (&self.role, get.lid) {
            (Role::Discovery(lookup), lid::DISCOVERY) => {
                let local = get.lsp & DiscoveryHeader::DLPF_PORT_LOCAL != 0;
                let only = local.then(|| association.port().id());
                let extended = get.lsp & DiscoveryHeader::DLPF_EXTENDED != 0;
                discovery::page(&lookup.directory.load(), &lookup.asker, only, extended).to_bytes()
            }
            // Each is read once; one that the host does not get stays.
            (Role::Io, lid::RESERVATION_NOTIFICATION)
                if is_within::<ReservationNotification>(get) =>
            {
                association.reservation_log(ReservationLog::pop).as_bytes().to_vec()
            }
            (Role::Io, lid::RESERVATION_NOTIFICATION) => return Err(INVALID_FIELD),
            (_, lid::SUPPORTED) => self.supported_pages().as_bytes().to_vec(),
            (_, lid::FEATURE_EFFECTS) => self.feature_effects().as_bytes().to_vec(),
            (Role::Io, lid::ERROR) => association.errors().page(),
            (Role::Io, lid::SMART) => self.smart().as_bytes().to_vec(),
            (Role::Io, lid::FIRMWARE_SLOT) => {
                FirmwareSlotLog::single(association.subsystem().firmware()).as_bytes().to_vec()
            }
            (Role::Io, lid::CHANGED_NAMESPACES) => {
                let clear = !get.rae && is_within::<ChangedNamespaceList>(get);
                association.events().changed_namespaces(clear).as_bytes().to_vec()
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
        if subsystem.has_lost_writes() {
            log.critical_warning |= SmartLog::WARNING_RELIABILITY;
        }
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

/// Whether the offset is one within a page of this length, so that the host gets what is there.
fn is_within<Page>(get: &GetLogPage) -> bool {
    get.offset.is_multiple_of(4) && get.offset <= size_of::<Page>() as u64
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
