//! Reading the discovery log (Base 2.1, sections 3.1.3.3 and 5.1.12.3.1).

use std::collections::BTreeMap;

use nvme_spec::Status;
use nvme_spec::log::{
    DiscoveryEntry, DiscoveryError, DiscoveryHeader, DiscoveryRecords, ExtendedDiscoveryEntry,
    GetLogPage, lid,
};
use nvme_spec::print::{FieldSink, Fields};
use zerocopy::FromBytes;

use super::association::Association;
use crate::Error;

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

impl Association {
    /// Reads the discovery log: the header, the entries, and the header again, until nothing
    /// changed in between.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers; [`Error::InvalidData`] for a log of an unknown
    /// format or of more than 16,384 entries; [`Error::DiscoveryUnstable`] for one that changes
    /// every time.
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
        for _ in 0..ATTEMPTS {
            match self.discovery_attempt(kind) {
                Ok(Some(log)) => return Ok(log),
                Ok(None) => {}
                Err(error) if error.has_status(Status::DISCOVERY_RESTART) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::DiscoveryUnstable { attempts: ATTEMPTS })
    }

    /// Reads the log once; `None` if it changed meanwhile.
    fn discovery_attempt(&mut self, kind: u8) -> Result<Option<DiscoveryLog>, Error> {
        let request = GetLogPage { lid: lid::DISCOVERY, lsp: kind, ..Default::default() };
        let before = self.discovery_header(request)?;
        let page = match entries_length(&before)? {
            0 => Vec::new(),
            length => self.log_page(GetLogPage { offset: HEADER, ..request }, length)?,
        };
        if self.discovery_header(request)? != before {
            return Ok(None);
        }
        let log = whole(&before, &page).map_err(|error| invalid(error.to_string()))?;
        Ok(Some(log))
    }

    /// The log's header, its format and length checked.
    fn discovery_header(&mut self, request: GetLogPage) -> Result<DiscoveryHeader, Error> {
        let page = self.log_page(request, HEADER)?;
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
