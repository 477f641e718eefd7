//! What is registered and reserved, and what each command makes of it.

use std::collections::BTreeMap;

use nvme_spec::log::{RegisteredController, ReservationStatus};
use nvme_spec::reservation::{
    AcquireAction, AcquireData, Notification, PersistenceChange, RegisterAction, RegisterData,
    ReleaseData, ReservationAcquire, ReservationRegister, ReservationRelease, ReservationType,
};
use nvme_spec::{HostId, Status};
use zerocopy::IntoBytes;

use super::{Access, Changes};
use crate::limits::REGISTRANTS;

pub(super) const CONFLICT: Status = Status::RESERVATION_CONFLICT.with_dnr(true);
pub(super) const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr(true);

/// The specification names no status for a namespace that has no room for another registrant. This
/// one says what is the matter; it may pass, so a retry is not ruled out.
const NO_ROOM: Status = Status::NOT_ENOUGH_RESOURCES;

/// CNTLID of a registered host that has no controller.
const NO_CONTROLLER: u16 = 0xffff;

/// Registrations and reservation. Whoever holds the reservation is registered, and nothing is held
/// while nobody is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    /// The key of each registered host.
    pub(super) registrants: BTreeMap<HostId, u64>,
    pub(super) held: Option<Held>,
    /// GEN of the report.
    pub(super) generation: u32,
    /// The Persist Through Power Loss state.
    pub(super) persistent: bool,
}

/// A reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    rtype: ReservationType,
    /// `None` if all registrants hold it, which the type says.
    holder: Option<HostId>,
}

impl Held {
    /// A reservation of this type, taken by this host.
    pub(super) fn new(rtype: ReservationType, host: HostId) -> Self {
        Self { rtype, holder: (!rtype.held_by_all()).then_some(host) }
    }

    pub(super) fn rtype(&self) -> ReservationType {
        self.rtype
    }

    pub(super) fn holder(&self) -> Option<HostId> {
        self.holder
    }
}

impl State {
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn persistent(&self) -> bool {
        self.persistent
    }

    pub(super) fn set_persistent(&mut self, on: bool) {
        self.persistent = on;
    }

    /// Reservation Register (sections 8.1.22.3 and 8.1.22.4).
    pub(super) fn register(
        &mut self,
        host: HostId,
        command: &ReservationRegister,
        data: &RegisterData,
    ) -> Result<Changes, Status> {
        let mut changes = Changes::default();
        let nrkey = data.nrkey.get();
        match command.action {
            RegisterAction::Register => match self.registrants.get(&host) {
                None => self.add(host, nrkey)?,
                Some(key) if *key == nrkey => {}
                Some(_) => return Err(CONFLICT),
            },
            RegisterAction::Unregister => {
                if !command.ignore_key {
                    self.check_key(host, data.crkey.get())?;
                }
                self.registrants.remove(&host);
                // An All Registrants reservation ends with its last registrant, so that none is
                // there to be told.
                if self.release_orphan().is_some_and(ReservationType::admits_registrants) {
                    self.tell_others(host, Notification::ReservationReleased, &mut changes);
                }
            }
            RegisterAction::Replace => {
                if !command.ignore_key {
                    self.check_key(host, data.crkey.get())?;
                }
                self.add(host, nrkey)?;
            }
        }
        match command.persistence {
            PersistenceChange::Keep => {}
            PersistenceChange::Clear => self.persistent = false,
            PersistenceChange::Set => self.persistent = true,
        }
        self.count();
        Ok(changes)
    }

    /// Reservation Acquire (sections 8.1.22.5 and 8.1.22.7).
    pub(super) fn acquire(
        &mut self,
        host: HostId,
        command: &ReservationAcquire,
        data: &AcquireData,
    ) -> Result<Changes, Status> {
        self.check_key(host, data.crkey.get())?;
        let prkey = data.prkey.get();
        match command.action {
            AcquireAction::Acquire => {
                match self.held {
                    None => self.held = Some(Held::new(command.rtype, host)),
                    Some(held) if self.holds(host) && held.rtype == command.rtype => {}
                    Some(_) => return Err(CONFLICT),
                }
                Ok(Changes::default())
            }
            AcquireAction::Preempt => self.preempt(host, command.rtype, prkey),
            AcquireAction::PreemptAndAbort => {
                let mut changes = self.preempt(host, command.rtype, prkey)?;
                changes.abort = changes
                    .notify
                    .iter()
                    .filter(|(_, what)| *what == Notification::RegistrationPreempted)
                    .map(|(host, _)| *host)
                    .collect();
                Ok(changes)
            }
        }
    }

    /// Takes away the registrations with this key, and the reservation if that is how it is held.
    fn preempt(
        &mut self,
        host: HostId,
        rtype: ReservationType,
        prkey: u64,
    ) -> Result<Changes, Status> {
        let takes_over = match self.held.map(|held| held.holder) {
            None => false,
            Some(None) => prkey == 0,
            Some(Some(holder)) => {
                let holders = self.registrants.get(&holder) == Some(&prkey);
                if prkey == 0 && !holders {
                    return Err(INVALID_FIELD);
                }
                holders
            }
        };
        let everyone = takes_over && self.held.is_some_and(|held| held.holder.is_none());
        // Who takes over stays, even with the key that is preempted; else it goes like the others.
        let victims: Vec<HostId> = self
            .registrants
            .iter()
            .filter(|(_, key)| everyone || **key == prkey)
            .map(|(victim, _)| *victim)
            .filter(|victim| !takes_over || *victim != host)
            .collect();
        if !takes_over && victims.is_empty() {
            return Err(CONFLICT);
        }
        let mut changes = Changes::default();
        for victim in victims {
            self.registrants.remove(&victim);
            if victim != host {
                changes.notify.push((victim, Notification::RegistrationPreempted));
            }
        }
        if takes_over {
            let before = self.held.replace(Held::new(rtype, host));
            if before.is_some_and(|before| before.rtype != rtype) {
                self.tell_others(host, Notification::ReservationReleased, &mut changes);
            }
        } else {
            self.release_orphan();
        }
        self.count();
        Ok(changes)
    }

    /// Reservation Release (sections 8.1.22.6 and 8.1.22.8).
    pub(super) fn release(
        &mut self,
        host: HostId,
        command: &ReservationRelease,
        data: &ReleaseData,
    ) -> Result<Changes, Status> {
        self.check_key(host, data.crkey.get())?;
        let mut changes = Changes::default();
        match command {
            ReservationRelease::Release(rtype) => {
                // To release what one does not hold is no error, and does nothing.
                let Some(held) = self.held.filter(|_| self.holds(host)) else {
                    return Ok(changes);
                };
                if held.rtype != *rtype {
                    return Err(INVALID_FIELD);
                }
                self.held = None;
                // With the other types the registrants had nothing to lose or to gain.
                if rtype.admits_registrants() {
                    self.tell_others(host, Notification::ReservationReleased, &mut changes);
                }
            }
            ReservationRelease::Clear => {
                self.tell_others(host, Notification::ReservationPreempted, &mut changes);
                self.registrants.clear();
                self.held = None;
                self.count();
            }
        }
        Ok(changes)
    }

    /// Whether the host may do this (figure 645).
    pub(super) fn admits(&self, host: HostId, access: Access) -> bool {
        let Some(held) = self.held else { return true };
        let registered = held.rtype.admits_registrants() && self.registrants.contains_key(&host);
        let anyone = access == Access::Read && !held.rtype.excludes_reads();
        anyone || registered || self.holds(host)
    }

    /// The Reservation Status Extended data structure (section 7.8).
    pub(super) fn report(&self, controllers: &[(HostId, u16)]) -> Vec<u8> {
        let mut by_host: BTreeMap<HostId, Vec<u16>> =
            self.registrants.keys().map(|host| (*host, Vec::new())).collect();
        for (host, cntlid) in controllers {
            if let Some(cntlids) = by_host.get_mut(host) {
                cntlids.push(*cntlid);
            }
        }
        let mut entries = Vec::new();
        for (host, cntlids) in &mut by_host {
            if cntlids.is_empty() {
                cntlids.push(NO_CONTROLLER);
            }
            let key = self.registrants.get(host).copied().unwrap_or_default();
            let rcsts = if self.holds(*host) { RegisteredController::RCSTS_HOLDS } else { 0 };
            for cntlid in cntlids {
                let mut entry = RegisteredController { rcsts, hostid: *host, ..Default::default() };
                entry.cntlid.set(*cntlid);
                entry.rkey.set(key);
                entries.push(entry);
            }
        }
        let mut status = ReservationStatus {
            rtype: self.held.map_or(0, |held| held.rtype.to_wire()),
            ptpls: u8::from(self.persistent),
            ..Default::default()
        };
        status.generation.set(self.generation);
        // There are fewer controllers than identifiers for them.
        let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
        status.regctl.set(count);
        entries.truncate(count.into());
        let mut report = status.as_bytes().to_vec();
        report.extend_from_slice(entries.as_bytes());
        report
    }

    /// Whether the host holds the reservation, alone or with all others.
    fn holds(&self, host: HostId) -> bool {
        match self.held {
            None => false,
            Some(Held { holder: Some(holder), .. }) => holder == host,
            Some(Held { holder: None, .. }) => self.registrants.contains_key(&host),
        }
    }

    /// Registers a host, or changes its key.
    fn add(&mut self, host: HostId, key: u64) -> Result<(), Status> {
        if self.registrants.len() >= REGISTRANTS && !self.registrants.contains_key(&host) {
            return Err(NO_ROOM);
        }
        self.registrants.insert(host, key);
        Ok(())
    }

    /// Whether this is the key of the host, which therefore is registered.
    fn check_key(&self, host: HostId, key: u64) -> Result<(), Status> {
        if self.registrants.get(&host) == Some(&key) { Ok(()) } else { Err(CONFLICT) }
    }

    /// Releases the reservation if none of its holders is registered any more, and says of which
    /// type it was.
    fn release_orphan(&mut self) -> Option<ReservationType> {
        let orphaned = match self.held?.holder {
            Some(holder) => !self.registrants.contains_key(&holder),
            None => self.registrants.is_empty(),
        };
        if orphaned { self.held.take().map(|held| held.rtype) } else { None }
    }

    fn tell_others(&self, host: HostId, what: Notification, changes: &mut Changes) {
        let others = self.registrants.keys().filter(|other| **other != host);
        changes.notify.extend(others.map(|other| (*other, what)));
    }

    /// Counts a command in the generation: one of Register, Clear, Preempt, that succeeded.
    fn count(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}
