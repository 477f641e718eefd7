//! The entries of a Discovery log page in either format (Base 2.1, section 5.1.12.3.1): plain ones,
//! or extended ones, which end with attributes (section 5.3.4).

use core::fmt;

use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

use super::discovery::{DiscoveryEntry, DiscoveryHeader};
use crate::wire::wire;

wire! {
    /// An Extended Discovery Log Page Entry, followed by its attributes.
    pub struct ExtendedDiscoveryEntry: 1032 bytes {
        /// What a plain entry has.
        0 => entry: DiscoveryEntry,
        /// Total Entry Length in bytes, attributes included.
        1024 => tel: U32,
        /// Number of Extended Attributes.
        1028 => numexat: U16,
        /// Reserved.
        1030 => reserved: [u8; 2],
    }
}

impl ExtendedDiscoveryEntry {
    /// An entry without attributes.
    pub fn new(entry: DiscoveryEntry) -> Self {
        Self { entry, tel: U32::new(1032), ..Self::default() }
    }
}

wire! {
    /// What an extended attribute begins with; its value follows.
    pub struct ExtendedAttributeHeader: 4 bytes {
        /// Extended Attribute Type ([`exattype`]).
        0 => exattype: U16,
        /// Extended Attribute Length: bytes of the value, a multiple of 4 and not 0.
        2 => exatlen: U16,
    }
}

/// Extended Attribute Types.
pub mod exattype {
    /// The Host Identifier, 16 bytes.
    pub const HOST_ID: u16 = 1;
    /// Admin label, ASCII, 4 to 256 bytes.
    pub const LABEL_ASCII: u16 = 2;
    /// Admin label, UTF-8, 4 to 256 bytes.
    pub const LABEL_UTF8: u16 = 3;

    /// What the type stands for.
    pub const fn name(exattype: u16) -> &'static str {
        match exattype {
            HOST_ID => "host identifier",
            LABEL_ASCII => "admin label, ASCII",
            LABEL_UTF8 => "admin label, UTF-8",
            0xff00.. => "vendor specific",
            _ => "reserved",
        }
    }
}

/// An entry as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct DiscoveryRecord<'a> {
    /// What every entry has.
    pub entry: &'a DiscoveryEntry,
    /// What an extended one has besides; none with a plain one.
    pub attributes: ExtendedAttributes<'a>,
}

/// Reads the entries of a page, whatever its bytes are. After an error nothing follows.
#[derive(Clone, Debug)]
pub struct DiscoveryRecords<'a> {
    rest: &'a [u8],
    left: u64,
    extended: bool,
}

impl<'a> DiscoveryRecords<'a> {
    /// The entries that follow this header, of the format and as many as it says. Where `entries`
    /// is cut short they end with an error.
    ///
    /// The specification lets both formats stand in one page and gives no way to tell them apart;
    /// so all are taken to be of the format in the header, as those that write such pages have it.
    pub fn new(header: &DiscoveryHeader, entries: &'a [u8]) -> Self {
        Self { rest: entries, left: header.numrec.get(), extended: header.is_extended() }
    }

    fn plain(&mut self) -> Result<DiscoveryRecord<'a>, DiscoveryError> {
        let (entry, rest) =
            DiscoveryEntry::ref_from_prefix(self.rest).map_err(|_| DiscoveryError::Truncated)?;
        self.rest = rest;
        Ok(DiscoveryRecord { entry, attributes: ExtendedAttributes(&[]) })
    }

    fn extended(&mut self) -> Result<DiscoveryRecord<'a>, DiscoveryError> {
        let (fixed, after) = ExtendedDiscoveryEntry::ref_from_prefix(self.rest)
            .map_err(|_| DiscoveryError::Truncated)?;
        let tel = fixed.tel.get();
        let beyond = usize::try_from(tel)
            .ok()
            .filter(|tel| tel.is_multiple_of(4))
            .and_then(|tel| tel.checked_sub(size_of::<ExtendedDiscoveryEntry>()))
            .ok_or(DiscoveryError::EntryLength { tel })?;
        let (list, rest) = after.split_at_checked(beyond).ok_or(DiscoveryError::Truncated)?;
        let attributes = ExtendedAttributes::parse(list, fixed.numexat.get())?;
        self.rest = rest;
        Ok(DiscoveryRecord { entry: &fixed.entry, attributes })
    }
}

impl<'a> Iterator for DiscoveryRecords<'a> {
    type Item = Result<DiscoveryRecord<'a>, DiscoveryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = if self.extended { self.extended() } else { self.plain() };
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

/// An attribute of an extended entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExtendedAttribute<'a> {
    /// Its type ([`exattype`]).
    pub exattype: u16,
    /// Its value, of 4 to 65,532 bytes, zeroes at the end where it is shorter.
    pub value: &'a [u8],
}

/// The attributes of an extended entry, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct ExtendedAttributes<'a>(
    /// Whole attributes only.
    &'a [u8],
);

impl<'a> ExtendedAttributes<'a> {
    /// As many attributes as were told, all within the entry; what may follow them is left out.
    fn parse(list: &'a [u8], count: u16) -> Result<Self, DiscoveryError> {
        let mut rest = list;
        for _ in 0..count {
            (_, rest) = split_attribute(rest)?;
        }
        Ok(Self(&list[..list.len() - rest.len()]))
    }
}

impl<'a> Iterator for ExtendedAttributes<'a> {
    type Item = ExtendedAttribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (attribute, rest) = split_attribute(self.0).ok()?;
        self.0 = rest;
        Some(attribute)
    }
}

fn split_attribute(list: &[u8]) -> Result<(ExtendedAttribute<'_>, &[u8]), DiscoveryError> {
    let (header, rest) =
        ExtendedAttributeHeader::ref_from_prefix(list).map_err(|_| DiscoveryError::Attributes)?;
    let length = header.exatlen.get();
    if length == 0 || !length.is_multiple_of(4) {
        return Err(DiscoveryError::AttributeLength { exatlen: length });
    }
    let (value, rest) =
        rest.split_at_checked(usize::from(length)).ok_or(DiscoveryError::Attributes)?;
    Ok((ExtendedAttribute { exattype: header.exattype.get(), value }, rest))
}

/// What is wrong with a Discovery log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// An entry runs past the end of the page.
    Truncated,
    /// The length of an extended entry is less than what each has, or no multiple of 4.
    EntryLength {
        /// Total Entry Length.
        tel: u32,
    },
    /// The attributes of an entry run past its end.
    Attributes,
    /// The length of an attribute is 0 or no multiple of 4.
    AttributeLength {
        /// Extended Attribute Length.
        exatlen: u16,
    },
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a discovery entry ends past its log page"),
            Self::EntryLength { tel } => {
                write!(f, "an extended discovery entry cannot have {tel} bytes")
            }
            Self::Attributes => f.write_str("an attribute ends past its discovery entry"),
            Self::AttributeLength { exatlen } => {
                write!(f, "an attribute of a discovery entry cannot have {exatlen} bytes")
            }
        }
    }
}

impl core::error::Error for DiscoveryError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::DiscoveryLog;
    use crate::nqn::Nqn;
    use std::vec::Vec;
    use zerocopy::IntoBytes;

    fn entry(port: &str) -> DiscoveryEntry {
        DiscoveryEntry::tcp(2, &Nqn::DISCOVERY, 1, "192.0.2.1", port).unwrap()
    }

    /// An entry with attributes; `length` is added to its TEL.
    fn extended(attributes: &[(u16, &[u8])], length: i32) -> Vec<u8> {
        let mut list = Vec::new();
        for (exattype, value) in attributes {
            list.extend(exattype.to_le_bytes());
            list.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            list.extend(*value);
        }
        let mut fixed = ExtendedDiscoveryEntry::new(entry("4420"));
        fixed.numexat.set(u16::try_from(attributes.len()).unwrap());
        let tel = 1032 + u32::try_from(list.len()).unwrap();
        fixed.tel.set(tel.wrapping_add_signed(length));
        [fixed.as_bytes(), &list].concat()
    }

    fn page(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut header = DiscoveryHeader::new(7, u64::try_from(entries.len()).unwrap());
        header.dlpf = DiscoveryHeader::DLPF_EXTENDED;
        [header.as_bytes(), &entries.concat()].concat()
    }

    #[track_caller]
    fn read(page: &[u8]) -> Vec<Result<usize, DiscoveryError>> {
        let log = DiscoveryLog::parse(page).unwrap();
        log.records().map(|record| record.map(|record| record.attributes.count())).collect()
    }

    #[test]
    fn an_extended_entry_has_its_bytes_where_the_specification_puts_them() {
        let bytes = extended(&[(exattype::LABEL_ASCII, b"disk")], 0);
        assert_eq!(bytes[..1024], *entry("4420").as_bytes());
        assert_eq!(bytes[1024..1032], [0x10, 4, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[1032..], *b"\x02\0\x04\0disk");
        let none = ExtendedDiscoveryEntry::new(entry("4420"));
        assert_eq!(none.as_bytes()[1024..], [8, 4, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn entries_of_different_lengths_follow_each_other() {
        let two: &[(u16, &[u8])] = &[(exattype::LABEL_UTF8, b"r\xc3\xb6t"), (0xff00, &[9; 256])];
        let page = page(&[extended(two, 0), extended(&[], 0), extended(&two[..1], 0)]);
        let log = DiscoveryLog::parse(&page).unwrap();
        assert!(log.is_complete());
        let records: Vec<_> = log.records().map(Result::unwrap).collect();
        assert_eq!(
            records.iter().map(|r| r.attributes.clone().count()).collect::<Vec<_>>(),
            [2, 0, 1]
        );
        let first: Vec<_> = records[0].attributes.clone().map(|a| (a.exattype, a.value)).collect();
        assert_eq!(first, two);
        assert!(records.iter().all(|record| *record.entry == entry("4420")));
    }

    #[test]
    fn what_follows_the_attributes_within_an_entry_is_left_out() {
        let mut long = extended(&[(1, &[5; 16])], 8);
        long.extend([0xee; 8]);
        assert_eq!(read(&page(&[long, extended(&[], 0)])), [Ok(1), Ok(0)]);
    }

    #[test]
    fn an_entry_of_a_wrong_length_ends_the_page() {
        let label: &[(u16, &[u8])] = &[(2, b"disk")];
        for (length, error) in [
            (-8, DiscoveryError::Attributes),
            (-4, DiscoveryError::Attributes),
            (-12, DiscoveryError::EntryLength { tel: 1028 }),
            (-1040, DiscoveryError::EntryLength { tel: 0 }),
            (-1041, DiscoveryError::EntryLength { tel: u32::MAX }),
            (-3, DiscoveryError::EntryLength { tel: 1037 }),
            (i32::MAX - 3, DiscoveryError::Truncated),
            (1 << 20, DiscoveryError::Truncated),
        ] {
            let page = page(&[extended(&[], 0), extended(label, length), extended(&[], 0)]);
            assert_eq!(read(&page), [Ok(0), Err(error)], "{length}");
        }
        // A length over that of the attributes takes from the entry behind.
        let page = page(&[extended(label, 4), extended(&[], 0)]);
        assert!(matches!(read(&page)[..], [Ok(1), Err(_)]));
    }

    #[test]
    fn an_attribute_of_a_wrong_length_ends_the_page() {
        for exatlen in [0, 1, 6, u16::MAX] {
            let mut entry = extended(&[(2, b"disk")], 0);
            entry[1034..1036].copy_from_slice(&exatlen.to_le_bytes());
            let error = DiscoveryError::AttributeLength { exatlen };
            assert_eq!(read(&page(&[entry])), [Err(error)]);
        }
        let mut entry = extended(&[(2, b"disk")], 0);
        entry[1034] = 8;
        assert_eq!(read(&page(&[entry])), [Err(DiscoveryError::Attributes)]);
        let mut entry = extended(&[(2, b"disk")], 0);
        entry[1028..1030].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(read(&page(&[entry])), [Err(DiscoveryError::Attributes)]);
    }

    #[test]
    fn a_page_that_is_cut_anywhere_gives_the_entries_it_holds() {
        let whole = page(&[extended(&[(2, b"disk")], 0), extended(&[], 0)]);
        for end in 1024..whole.len() {
            let found = read(&whole[..end]);
            let held = usize::from(end >= 1024 + 1040);
            assert_eq!(found.iter().filter(|record| record.is_ok()).count(), held, "{end}");
            assert_eq!(found.last(), Some(&Err(DiscoveryError::Truncated)), "{end}");
            assert!(!DiscoveryLog::parse(&whole[..end]).unwrap().is_complete());
        }
    }
}
