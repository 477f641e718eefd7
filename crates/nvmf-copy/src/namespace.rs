//! Namespaces of a target.

use std::fmt::Write;
use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

use nvmf_host::{Event, Namespace};

use crate::endpoint::{Destination, Identity, Source};

/// A namespace of a target, to copy from or to.
///
/// It is whatever the [`Namespace`] makes of its paths: a copy goes on when a connection is cut and
/// made again, or by another path, as long as the namespace's deadlines let it.
///
/// ```no_run
/// use nvmf::host::HostOptions;
/// use nvmf::spec::Nqn;
/// use nvmf_copy::{Copier, FileDestination, Journal, NamespaceEnd};
/// use nvmf_host::Namespace;
///
/// let subsystem = Nqn::parse_strict("nqn.2026-01.com.example:disk")?;
/// let disk = Namespace::builder(subsystem, 1, HostOptions::from_system()?)
///     .path("192.0.2.7:4420")
///     .connect()?;
/// let source = NamespaceEnd::new(disk, "the disk", "namespace 1 of nqn.2026-01.com.example:disk");
/// let backup = FileDestination::open("backup.img")?;
/// let report = Copier::new(&source, &backup)
///     .journal(Journal::beside("backup.img"))
///     .verify(true)
///     .run()?;
/// println!("{} bytes, {} of them zeroes", report.length, report.zeroed);
/// source.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct NamespaceEnd {
    namespace: Namespace,
    name: String,
    /// What names it where it has no identifier of its own.
    address: String,
    events: Mutex<Events>,
}

#[derive(Debug)]
struct Events {
    to_come: Receiver<Event>,
    /// Connections that were lost so far.
    losses: u64,
}

impl NamespaceEnd {
    /// `name` is what people call it, a URL perhaps; `address`, the subsystem's NQN and the NSID,
    /// is what it is known by if it has no identifier that is the world's.
    pub fn new(namespace: Namespace, name: impl Into<String>, address: impl Into<String>) -> Self {
        let events = Mutex::new(Events { to_come: namespace.events(), losses: 0 });
        Self { namespace, name: name.into(), address: address.into(), events }
    }

    /// Tells the controllers that the host is done, and closes the paths.
    pub fn close(self) {
        self.namespace.close();
    }

    /// The identifier that is the world's, or else where it is.
    fn unique(&self) -> String {
        let ids = self.namespace.ids();
        match (ids.uuid, ids.nguid, ids.eui64) {
            (Some(uuid), _, _) => hexadecimal("uuid", &uuid),
            (None, Some(nguid), _) => hexadecimal("nguid", &nguid),
            (None, None, Some(eui64)) => hexadecimal("eui64", &eui64),
            (None, None, None) => self.address.clone(),
        }
    }
}

fn hexadecimal(kind: &str, bytes: &[u8]) -> String {
    let mut text = format!("{kind} ");
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Source for NamespaceEnd {
    fn name(&self) -> &str {
        &self.name
    }

    /// A namespace has no time of change.
    fn identity(&self) -> io::Result<Identity> {
        let unique = self.unique();
        let size = self.namespace.size();
        Ok(Identity { place: unique.clone(), lasting: unique, size, version: None })
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        Ok(self.namespace.read_at(into, offset)?)
    }
}

impl Destination for NamespaceEnd {
    fn block_size(&self) -> u32 {
        self.namespace.block_size()
    }

    fn is_read_only(&self) -> bool {
        self.namespace.is_read_only()
    }

    /// A lost connection may be all that is seen of a target that lost its power, and with it what
    /// was in its volatile write cache.
    fn losses(&self) -> u64 {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let lost =
            events.to_come.try_iter().filter(|one| matches!(one, Event::Lost { .. })).count();
        events.losses = events.losses.saturating_add(u64::try_from(lost).unwrap_or(u64::MAX));
        events.losses
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        Ok(self.namespace.write_at(from, offset)?)
    }

    /// Write Zeroes, with leave to deallocate.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(self.namespace.write_zeroes(offset, length, true)?)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(self.namespace.flush()?)
    }
}
