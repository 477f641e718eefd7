//! Reading the discovery log (Base 2.1, sections 3.1.3.3 and 5.1.12.3.1).

use nvme_spec::Status;
use nvme_spec::log::{DiscoveryEntry, DiscoveryHeader, GetLogPage, lid};
use nvme_spec::print::{FieldSink, Fields};
use zerocopy::FromBytes;

use super::association::Association;
use crate::Error;

/// The discovery log as it was at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveryLog {
    /// The generation counter: another number, another log.
    pub generation: u64,
    /// The entries.
    pub entries: Vec<DiscoveryEntry>,
}

/// With the names that nvme-cli has.
impl Fields for DiscoveryLog {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("genctr", self.generation);
        out.objects("records", self.entries.iter());
    }
}

/// Bytes of the header, and of an entry.
const RECORD: u64 = 1024;
/// The most entries that are read.
const MOST_ENTRIES: u64 = 16 << 10;
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
        for _ in 0..ATTEMPTS {
            match self.discovery_attempt() {
                Ok(Some(log)) => return Ok(log),
                Ok(None) => {}
                Err(error) if error.has_status(Status::DISCOVERY_RESTART) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::DiscoveryUnstable { attempts: ATTEMPTS })
    }

    /// Reads the log once; `None` if it changed meanwhile.
    fn discovery_attempt(&mut self) -> Result<Option<DiscoveryLog>, Error> {
        let before = self.discovery_header()?;
        let (generation, count) = (before.genctr.get(), before.numrec.get());
        let mut entries = Vec::new();
        if count > 0 {
            let request = GetLogPage { lid: lid::DISCOVERY, offset: RECORD, ..Default::default() };
            let page = self.log_page(request, count * RECORD)?;
            for entry in page.chunks_exact(size_of::<DiscoveryEntry>()) {
                entries.extend(DiscoveryEntry::read_from_bytes(entry));
            }
        }
        let after = self.discovery_header()?;
        let same = (after.genctr.get(), after.numrec.get()) == (generation, count);
        Ok(same.then_some(DiscoveryLog { generation, entries }))
    }

    /// The log's header, its format and length checked.
    fn discovery_header(&mut self) -> Result<DiscoveryHeader, Error> {
        let invalid = |reason: String| Error::invalid("discovery log", reason);
        let request = GetLogPage { lid: lid::DISCOVERY, ..Default::default() };
        let page = self.log_page(request, RECORD)?;
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
