//! Discovery: what targets offer, and where (Base 2.1, sections 3.1.3.3 and 5.1.12.3.1).
//!
//! | what | how |
//! |---|---|
//! | one log, as it was at one moment | [`Association::discovery_log`] |
//! | the logs of several controllers and of those that they refer to | [`Discoverer::walk`] |
//! | what changes, while it changes | [`Discoverer::watch`] |
//! | what is different between two logs | [`Changes::between`] |
//!
//! ```no_run
//! use nvmf::host::HostOptions;
//! use nvmf::host::discovery::{Discoverer, DiscoveryController, WalkLimits};
//!
//! let discoverer = Discoverer::new(HostOptions::from_system()?);
//! let begin = DiscoveryController::new("192.0.2.7", 8009);
//! for visit in discoverer.walk([begin], &WalkLimits::default()).visits {
//!     match visit.log {
//!         Ok(log) => println!("{}: {} entries", visit.controller, log.entries.len()),
//!         Err(error) => println!("{}: {error}", visit.controller),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod changes;
mod controller;
mod discoverer;
mod walk;
mod watch;

use std::collections::BTreeMap;

use nvme_spec::Status;
use nvme_spec::log::{
    DiscoveryEntry, DiscoveryError, DiscoveryHeader, DiscoveryRecords, ExtendedDiscoveryEntry,
    GetLogPage, lid,
};
use nvme_spec::print::{FieldSink, Fields};
use zerocopy::FromBytes;

use super::association::Association;
use crate::{Deadline, Error};

pub use changes::Changes;
pub use controller::{DiscoveryController, NoReferral};
pub use discoverer::Discoverer;
pub use walk::{PassedOver, Reason, Visit, WalkLimits, Walked, walk};
pub use watch::{DiscoveryEvent, DiscoveryWatch, Watched};

/// The discovery log as it was at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveryLog {
    /// The generation counter: another number, another log.
    pub generation: u64,
    /// What the log is of what was asked for: bits [`DiscoveryHeader::DLPF_EXTENDED`],
    /// [`DiscoveryHeader::DLPF_PORT_LOCAL`] and [`DiscoveryHeader::DLPF_ALL_SUBSYSTEMS`].
    pub flags: u8,
    /// The entries.
    pub entries: Vec<DiscoveryEntry>,
    /// The attributes of those extended entries that have any, by their index in `entries`.
    pub attributes: BTreeMap<usize, Vec<DiscoveryAttribute>>,
}

/// An attribute of an extended entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveryAttribute {
    /// Its type ([`nvme_spec::log::exattype`]).
    pub exattype: u16,
    /// Its value, padded with zeroes to a multiple of 4 bytes.
    pub value: Vec<u8>,
}

/// With the names that nvme-cli has.
impl Fields for DiscoveryLog {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("genctr", self.generation);
        out.objects("records", self.entries.iter());
    }
}

/// Bytes of the header.
const HEADER: u64 = size_of::<DiscoveryHeader>() as u64;
/// The most entries that are read.
const MOST_ENTRIES: u64 = 16 << 10;
/// The most bytes of entries that are read: so many extended ones, and as much again for their
/// attributes.
const MOST_BYTES: u64 = MOST_ENTRIES * 2 * size_of::<ExtendedDiscoveryEntry>() as u64;
/// How often a log that changes while it is read is read again.
const ATTEMPTS: u32 = 8;
/// How long all of it may take, in times of [`HostOptions::timeout`](super::HostOptions::timeout):
/// a controller that answers each command at the last moment is not waited for forever.
const PATIENCE: u32 = 6;

impl Association {
    /// Reads the discovery log: the header, the entries, and the header again, until nothing
    /// changed in between.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers; [`Error::InvalidData`] for a log of an unknown
    /// format or of more than 16,384 entries; [`Error::DiscoveryUnstable`] for one that changes
    /// every time; [`Error::is_timeout`] if all of it takes longer than six times
    /// [`HostOptions::timeout`](super::HostOptions::timeout).
    pub fn discovery_log(&mut self) -> Result<DiscoveryLog, Error> {
        self.discovery_log_of(0)
    }

    /// The same of a log that is of some kind: `kind` is the Log Specific Parameter, of the bits
    /// that [`DiscoveryLog::flags`] has. A controller gives what it can, and says what that is.
    ///
    /// # Errors
    ///
    /// As [`Association::discovery_log`]; [`Error::InvalidData`] also for extended entries that
    /// are not as they have to be, or of more than 32 MiB.
    pub fn discovery_log_of(&mut self, kind: u8) -> Result<DiscoveryLog, Error> {
        let deadline = Deadline::after(self.options().timeout.saturating_mul(PATIENCE));
        for _ in 0..ATTEMPTS {
            match self.discovery_attempt(kind, deadline) {
                Ok(Some(log)) => return Ok(log),
                Ok(None) => {}
                Err(error) if error.has_status(Status::DISCOVERY_RESTART) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::DiscoveryUnstable { attempts: ATTEMPTS })
    }

    /// Reads the log once; `None` if it changed meanwhile.
    fn discovery_attempt(
        &mut self,
        kind: u8,
        deadline: Deadline,
    ) -> Result<Option<DiscoveryLog>, Error> {
        let request = GetLogPage { lid: lid::DISCOVERY, lsp: kind, ..Default::default() };
        let before = self.discovery_header(request, deadline)?;
        let page = match entries_length(&before)? {
            0 => Vec::new(),
            length => {
                let entries = GetLogPage { offset: HEADER, ..request };
                self.log_page_until(entries, length, Some(deadline))?
            }
        };
        if self.discovery_header(request, deadline)? != before {
            return Ok(None);
        }
        let log = whole(&before, &page).map_err(|error| invalid(error.to_string()))?;
        Ok(Some(log))
    }

    /// The log's header, its format and length checked.
    fn discovery_header(
        &mut self,
        request: GetLogPage,
        deadline: Deadline,
    ) -> Result<DiscoveryHeader, Error> {
        let page = self.log_page_until(request, HEADER, Some(deadline))?;
        let header = DiscoveryHeader::read_from_bytes(&page[..])
            .map_err(|_| invalid("its length is wrong".to_owned()))?;
        if header.recfmt != 0 {
            return Err(invalid(format!("record format {} is unknown", header.recfmt)));
        }
        if header.numrec.get() > MOST_ENTRIES {
            return Err(invalid(format!(
                "{} entries; at most {MOST_ENTRIES} are read",
                header.numrec
            )));
        }
        Ok(header)
    }
}

fn invalid(reason: String) -> Error {
    Error::invalid("discovery log", reason)
}

/// Bytes of the entries that a header tells of, none of which is taken to be where it is not.
fn entries_length(header: &DiscoveryHeader) -> Result<u64, Error> {
    let count = header.numrec.get();
    if !header.is_extended() {
        return Ok(count.saturating_mul(size_of::<DiscoveryEntry>() as u64));
    }
    let tdlpl = u64::from(header.tdlpl.get());
    let least = count.saturating_mul(size_of::<ExtendedDiscoveryEntry>() as u64);
    tdlpl
        .checked_sub(HEADER)
        .filter(|length| length.is_multiple_of(4) && (least..=MOST_BYTES).contains(length))
        .ok_or_else(|| invalid(format!("{count} extended entries in {tdlpl} bytes")))
}

fn whole(header: &DiscoveryHeader, page: &[u8]) -> Result<DiscoveryLog, DiscoveryError> {
    let (mut entries, mut attributes) = (Vec::new(), BTreeMap::new());
    for record in DiscoveryRecords::new(header, page) {
        let record = record?;
        let own: Vec<_> = record
            .attributes
            .map(|attribute| DiscoveryAttribute {
                exattype: attribute.exattype,
                value: attribute.value.to_vec(),
            })
            .collect();
        if !own.is_empty() {
            attributes.insert(entries.len(), own);
        }
        entries.push(*record.entry);
    }
    let (generation, flags) = (header.genctr.get(), header.dlpf);
    Ok(DiscoveryLog { generation, flags, entries, attributes })
}
