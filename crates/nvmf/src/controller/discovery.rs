//! The Discovery log page, as a discovery controller builds it (Base 2.1, section 5.1.12.3.1).

use nvme_spec::log::{DiscoveryEntry, DiscoveryHeader, ExtendedDiscoveryEntry};
use zerocopy::IntoBytes;

/// A Discovery log page: entries under a generation counter.
///
/// Hosts read the header, then the entries, then the header again, and begin anew if the
/// generation counter moved: so it has to move with every change, and two pages that one
/// controller ever gave out under the same number have to be the same page.
///
/// ```
/// use nvme_spec::log::{DiscoveryEntry, adrfam, subtype};
/// use nvme_spec::Nqn;
/// use nvmf::controller::discovery::DiscoveryLogPage;
///
/// let subsystem = Nqn::parse_strict("nqn.2026-01.org.example:disks").unwrap();
/// let entry =
///     DiscoveryEntry::tcp(subtype::NVM, &subsystem, adrfam::IPV4, "192.0.2.1", "4420").unwrap();
/// let mut page = DiscoveryLogPage::new(vec![entry]);
/// assert_eq!(page.to_bytes().len(), 2048);
///
/// let before = page.generation();
/// page.set_entries(vec![]);
/// assert_ne!(page.generation(), before);
/// ```
#[derive(Clone, Debug)]
pub struct DiscoveryLogPage {
    generation: u64,
    flags: u8,
    entries: Vec<DiscoveryEntry>,
}

impl DiscoveryLogPage {
    /// A page of generation 1; a host may take 0 for "never read".
    pub fn new(entries: Vec<DiscoveryEntry>) -> Self {
        Self::with_generation(1, entries)
    }

    /// A page of a given generation, for whom several pages change together; 0 becomes 1.
    pub fn with_generation(generation: u64, entries: Vec<DiscoveryEntry>) -> Self {
        Self { generation: generation.max(1), flags: 0, entries }
    }

    /// The same as the answer to a host that asked for a page of this kind
    /// ([`DiscoveryHeader::DLPF_PORT_LOCAL`] and its like), for whom the entries were chosen. With
    /// [`DiscoveryHeader::DLPF_EXTENDED`] they are written as extended ones without attributes.
    #[must_use]
    pub fn with_flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    /// The generation counter, never 0.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The entries.
    pub fn entries(&self) -> &[DiscoveryEntry] {
        &self.entries
    }

    /// Replaces the entries and moves the generation counter, unless nothing changed.
    pub fn set_entries(&mut self, entries: Vec<DiscoveryEntry>) {
        if self.entries != entries {
            self.entries = entries;
            self.generation = self.generation.checked_add(1).unwrap_or(1);
        }
    }

    /// The whole page: 1024 bytes of header, 1024 for each entry or 1032 for an extended one. Cut
    /// it with [`log_page_part`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let numrec = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        let header = DiscoveryHeader::new(self.generation, numrec);
        let mut header = DiscoveryHeader { dlpf: self.flags, ..header };
        if !header.is_extended() {
            return [header.as_bytes(), self.entries.as_bytes()].concat();
        }
        let entries = self.entries.iter().map(|entry| ExtendedDiscoveryEntry::new(*entry));
        let entries: Vec<_> = entries.collect();
        let length = size_of::<DiscoveryHeader>().saturating_add(entries.as_bytes().len());
        header.tdlpl.set(u32::try_from(length).unwrap_or(u32::MAX));
        [header.as_bytes(), entries.as_bytes()].concat()
    }
}

/// The part of a log page that a Get Log Page command asks for: `length` bytes from `offset`,
/// zeroes after the page's end. `None` if the offset is past the end or not a multiple of 4,
/// which is Invalid Field in Command.
///
/// Some targets answer a request that reaches past the end with an error; hosts that read a
/// fixed amount cannot know the end beforehand, so here it is padded.
pub fn log_page_part(page: &[u8], offset: u64, length: usize) -> Option<Vec<u8>> {
    let offset = usize::try_from(offset).ok()?;
    if !offset.is_multiple_of(4) {
        return None;
    }
    let rest = page.get(offset..)?;
    let mut part = rest[..rest.len().min(length)].to_vec();
    part.resize(length, 0);
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::Nqn;
    use nvme_spec::log::{DiscoveryLog, adrfam, subtype};

    fn entry(port: &str) -> DiscoveryEntry {
        let nqn = Nqn::lenient("nqn.2026-01.org.example:x").unwrap();
        DiscoveryEntry::tcp(subtype::NVM, &nqn, adrfam::IPV4, "127.0.0.1", port).unwrap()
    }

    #[test]
    fn the_bytes_read_back_as_the_entries() {
        let page = DiscoveryLogPage::new(vec![entry("4420"), entry("4421")]).to_bytes();
        let log = DiscoveryLog::parse(&page).unwrap();
        assert!(log.is_complete());
        assert_eq!(log.header.tdlpl, 3072);
        assert!(log.entries().eq(&[entry("4420"), entry("4421")]));
    }

    #[test]
    fn extended_entries_are_those_of_the_plain_page() {
        let page = DiscoveryLogPage::new(vec![entry("4420"), entry("4421")]);
        let flags = DiscoveryHeader::DLPF_EXTENDED | DiscoveryHeader::DLPF_PORT_LOCAL;
        let bytes = page.with_flags(flags).to_bytes();
        assert_eq!(bytes.len(), 1024 + 2 * 1032);
        let log = DiscoveryLog::parse(&bytes).unwrap();
        assert!(log.is_complete());
        assert_eq!((log.header.dlpf, log.header.tdlpl.get()), (flags, 3088));
        assert!(log.entries().eq(&[entry("4420"), entry("4421")]));
        let none = DiscoveryLogPage::new(vec![]).with_flags(flags).to_bytes();
        assert_eq!((none.len(), none[20..24].to_vec()), (1024, vec![0, 4, 0, 0]));
    }

    #[test]
    fn the_generation_moves_with_a_change_only_and_is_never_zero() {
        let mut page = DiscoveryLogPage::with_generation(0, vec![entry("1")]);
        assert_eq!(page.generation(), 1);
        page.set_entries(vec![entry("1")]);
        assert_eq!(page.generation(), 1);
        page.set_entries(vec![entry("2")]);
        assert_eq!(page.generation(), 2);
        let mut last = DiscoveryLogPage::with_generation(u64::MAX, vec![entry("1")]);
        last.set_entries(vec![]);
        assert_eq!(last.generation(), 1);
    }

    #[test]
    fn a_part_is_padded_with_zeroes_past_the_end() {
        let page: Vec<u8> = (1..=8).collect();
        assert_eq!(log_page_part(&page, 0, 4), Some(vec![1, 2, 3, 4]));
        assert_eq!(log_page_part(&page, 4, 8), Some(vec![5, 6, 7, 8, 0, 0, 0, 0]));
        assert_eq!(log_page_part(&page, 8, 4), Some(vec![0; 4]));
        assert_eq!(log_page_part(&page, 12, 4), None);
        assert_eq!(log_page_part(&page, 2, 4), None);
        assert_eq!(log_page_part(&page, u64::MAX, 4), None);
    }
}
