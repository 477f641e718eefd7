//! What of a namespace's state outlasts a restart, and where it is kept.

use std::ops::Range;
use std::sync::Arc;
use std::{fmt, io};

use nvme_spec::Status;

use crate::reservation::Saved;

/// Where what has to outlast a restart is kept: a file, mostly.
///
/// What is saved is given back when the namespace is made again, to
/// [`reservations`](crate::NamespaceBuilder::reservations),
/// [`protected_by_host`](crate::NamespaceBuilder::protected_by_host) and
/// [`uncorrectable`](crate::NamespaceBuilder::uncorrectable).
///
/// Each is called by a thread that may wait, and for each namespace by one at a time, in the order in
/// which its state changes. Once it returns, what it was given has to be durable: the host is
/// answered then. It takes effect after that, so that nothing is true that would not outlast a
/// restart.
///
/// ```
/// use std::{collections::BTreeMap, io, ops::Range, sync::{Arc, Mutex, PoisonError}};
/// use nvmf_target::{Persistence, SavedReservations, Subsystem};
///
/// #[derive(Debug, Default)]
/// struct Kept {
///     reservations: Option<SavedReservations>,
///     protected: bool,
///     uncorrectable: Vec<Range<u64>>,
/// }
///
/// #[derive(Debug, Default)]
/// struct InMemory(Mutex<BTreeMap<u32, Kept>>);
///
/// impl InMemory {
///     fn change(&self, nsid: u32, change: impl FnOnce(&mut Kept)) -> io::Result<()> {
///         let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         change(all.entry(nsid).or_default());
///         Ok(())
///     }
/// }
///
/// impl Persistence for InMemory {
///     fn save_reservations(&self, nsid: u32, saved: Option<&SavedReservations>) -> io::Result<()> {
///         self.change(nsid, |kept| kept.reservations = saved.cloned())
///     }
///
///     fn save_protection(&self, nsid: u32, protected: bool) -> io::Result<()> {
///         self.change(nsid, |kept| kept.protected = protected)
///     }
///
///     fn save_uncorrectable(&self, nsid: u32, ranges: &[Range<u64>]) -> io::Result<()> {
///         self.change(nsid, |kept| kept.uncorrectable = ranges.to_vec())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let subsystem = Subsystem::builder("nqn.2026-01.org.example:disks".parse()?)
///     .open(&"mem:1M".parse()?)?
///     .persistence(Arc::new(InMemory::default()))
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub trait Persistence: fmt::Debug + Send + Sync {
    /// Makes durable what a namespace's hosts registered and reserved (Base 2.1, section 8.1.22);
    /// `None`: there is nothing to be kept any more.
    ///
    /// # Errors
    ///
    /// The command of the host fails with Internal Error then, and has changed nothing.
    fn save_reservations(&self, nsid: u32, saved: Option<&Saved>) -> io::Result<()>;

    /// Makes durable whether a host has write-protected the namespace (feature 84h; Base 2.1,
    /// section 8.1.16).
    ///
    /// # Errors
    ///
    /// As [`save_reservations`](Self::save_reservations).
    fn save_protection(&self, nsid: u32, protected: bool) -> io::Result<()>;

    /// Makes durable which blocks hosts marked as not to be read (Write Uncorrectable): all of them,
    /// in ascending order, by the first of each range and the one behind its last. There are at most
    /// [`Uncorrectable::MAX_RANGES`](nvmf_storage::Uncorrectable::MAX_RANGES).
    ///
    /// # Errors
    ///
    /// The blocks stay as they were marked; the command fails with Internal Error, though a write may
    /// have changed what is in them.
    fn save_uncorrectable(&self, nsid: u32, ranges: &[Range<u64>]) -> io::Result<()>;
}

/// The place of one namespace's state.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    nsid: u32,
    persistence: Arc<dyn Persistence>,
}

impl Store {
    pub(crate) fn new(nsid: u32, persistence: Arc<dyn Persistence>) -> Self {
        Self { nsid, persistence }
    }

    pub(crate) fn save_reservations(&self, saved: Option<&Saved>) -> Result<(), Status> {
        self.status("reservations", self.persistence.save_reservations(self.nsid, saved))
    }

    pub(crate) fn save_protection(&self, protected: bool) -> Result<(), Status> {
        self.status("write protection", self.persistence.save_protection(self.nsid, protected))
    }

    pub(crate) fn save_uncorrectable(&self, ranges: &[Range<u64>]) -> Result<(), Status> {
        self.status("uncorrectable blocks", self.persistence.save_uncorrectable(self.nsid, ranges))
    }

    /// The answer to the command that changed something.
    fn status(&self, what: &'static str, saved: io::Result<()>) -> Result<(), Status> {
        saved.map_err(|error| {
            tracing::error!(nsid = self.nsid, %error, what, "not saved");
            Status::INTERNAL_ERROR
        })
    }
}
