//! Reservations: which hosts may read and write a namespace (Base 2.1, section 8.1.22).
//!
//! One [`Reservations`] belongs to a namespace and is shared by all that serve it. It takes the
//! reservation commands, parsed, with the Host Identifier of whoever sent them, and says what has
//! to follow: hosts to be told, commands to be aborted, something to be saved. It knows neither
//! controllers nor connections: all controllers of a host are one registrant.
//!
//! An I/O command asks [`Reservations::check`] first, which is one load while nothing is reserved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use nvme_spec::reservation::{
    AcquireData, Notification, RegisterData, ReleaseData, ReservationAcquire, ReservationRegister,
    ReservationRelease,
};
use nvme_spec::{HostId, Status, opcode};

mod log;
mod saved;
mod state;
#[cfg(test)]
mod tests;

use crate::persistence::Store;
pub(crate) use log::ReservationLog;
pub use saved::{RestoreError, Saved};
use state::State;

/// What an I/O command does to a namespace, as far as reservations matter (Base 2.1, figure 646,
/// and its like in the NVM Command Set 1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// The read command group.
    Read,
    /// The write command group.
    Write,
}

impl Access {
    /// The group of an I/O command. `None` if a reservation does not stand in its way: the
    /// reservation commands judge for themselves, and of other commands none is executed.
    ///
    /// Copy reads as well. With a source in the same namespace that needs no look: who may write
    /// may read, whatever the type.
    pub(crate) const fn of(opcode: u8) -> Option<Self> {
        match opcode {
            opcode::nvm::READ | opcode::nvm::COMPARE | opcode::nvm::VERIFY => Some(Self::Read),
            opcode::nvm::WRITE
            | opcode::nvm::WRITE_ZEROES
            | opcode::nvm::WRITE_UNCORRECTABLE
            | opcode::nvm::DATASET_MANAGEMENT
            | opcode::nvm::COPY
            | opcode::nvm::FLUSH => Some(Self::Write),
            _ => None,
        }
    }
}

/// What has to follow a command that succeeded.
#[must_use = "hosts wait for what follows"]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    /// Whom to tell what: each entry is for all controllers of the host that have not masked it.
    /// Never the host that sent the command.
    pub(crate) notify: Vec<(HostId, Notification)>,
    /// Hosts whose commands on this namespace are to be aborted, before the command is answered.
    /// Never the host that sent the command.
    pub(crate) abort: Vec<HostId>,
    /// What [`Reservations::saved`] gives has changed, and was saved where there is a place for it.
    pub(crate) save: bool,
}

/// Registrations and reservation of one namespace.
#[derive(Debug)]
pub(crate) struct Reservations {
    /// Whether a reservation is held: what I/O commands look at first. Written under the lock.
    held: AtomicBool,
    /// Whether somebody says that there is a place to save to, without saying it here.
    saveable: bool,
    /// That place.
    store: OnceLock<Store>,
    /// Held by who changes the state, which may wait for the storage; others read meanwhile.
    changing: Mutex<()>,
    /// For reading by many at once: where a reservation is held, every I/O command looks.
    state: RwLock<State>,
}

impl Reservations {
    /// Nobody registered, nothing reserved. Only if it is `saveable`, hosts can ask for it to
    /// outlast a restart (bit 0 of RESCAP says so).
    pub(crate) fn new(saveable: bool) -> Self {
        Self::with(State::default(), saveable)
    }

    /// What was saved, which stays saveable.
    pub(crate) fn restore(saved: Saved) -> Result<Self, RestoreError> {
        Ok(Self::with(State::restore(saved)?, true))
    }

    fn with(state: State, saveable: bool) -> Self {
        Self {
            held: AtomicBool::new(state.is_held()),
            saveable,
            store: OnceLock::new(),
            changing: Mutex::default(),
            state: RwLock::new(state),
        }
    }

    /// Has every change that is to outlast a restart saved there, before it takes effect. The first
    /// place that is said counts.
    pub(crate) fn persist(&self, store: Store) {
        let _ = self.store.set(store);
    }

    /// Whether hosts can ask for what they reserve to outlast a restart.
    pub(crate) fn can_persist(&self) -> bool {
        self.saveable || self.store.get().is_some()
    }

    /// Reservation Register.
    pub(crate) fn register(
        &self,
        host: HostId,
        command: &ReservationRegister,
        data: &RegisterData,
    ) -> Result<Changes, Status> {
        self.change(|state| state.register(host, command, data))
    }

    /// Reservation Acquire.
    pub(crate) fn acquire(
        &self,
        host: HostId,
        command: &ReservationAcquire,
        data: &AcquireData,
    ) -> Result<Changes, Status> {
        self.change(|state| state.acquire(host, command, data))
    }

    /// Reservation Release.
    pub(crate) fn release(
        &self,
        host: HostId,
        command: &ReservationRelease,
        data: &ReleaseData,
    ) -> Result<Changes, Status> {
        self.change(|state| state.release(host, command, data))
    }

    /// The Persist Through Power Loss state (feature 83h).
    pub(crate) fn persistence(&self) -> bool {
        self.read().persistent()
    }

    /// Sets the Persist Through Power Loss state (feature 83h).
    pub(crate) fn set_persistence(&self, on: bool) -> Result<Changes, Status> {
        self.change(|state| {
            state.set_persistent(on);
            Ok(Changes::default())
        })
    }

    /// Whether a command of this host that does this may be executed; Reservation Conflict if not.
    pub(crate) fn check(&self, host: HostId, access: Access) -> Result<(), Status> {
        if !self.held.load(Ordering::Acquire) || self.read().admits(host, access) {
            return Ok(());
        }
        Err(state::CONFLICT)
    }

    /// What Reservation Report answers, in the extended format and whole: an entry for each of
    /// these controllers whose host is registered, and one for each registered host without.
    pub(crate) fn report(&self, controllers: &[(HostId, u16)]) -> Vec<u8> {
        self.read().report(controllers)
    }

    /// What is to outlast a restart; `None` if nothing is.
    pub(crate) fn saved(&self) -> Option<Saved> {
        self.read().saved()
    }

    /// Lets a command change the state, if it succeeds, and nothing if it fails.
    fn change(
        &self,
        command: impl FnOnce(&mut State) -> Result<Changes, Status>,
    ) -> Result<Changes, Status> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.read().clone();
        let mut next = before.clone();
        let mut changes = command(&mut next)?;
        if next.persistent() && !self.can_persist() {
            return Err(state::INVALID_FIELD);
        }
        changes.save = (before.persistent() || next.persistent()) && before != next;
        if changes.save {
            self.save(&next)?;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.held.store(next.is_held(), Ordering::Release);
        *state = next;
        Ok(changes)
    }

    /// Saves what is about to be, so that nothing is true that would not outlast a restart. If that
    /// fails the command does, and has changed nothing (Base 2.1, section 8.1.22 leaves open what it
    /// has; so nothing is certain for the host, and nothing surprising).
    fn save(&self, next: &State) -> Result<(), Status> {
        self.store.get().map_or(Ok(()), |store| store.save_reservations(next.saved().as_ref()))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}
