//! Asymmetric Namespace Access log page (LID 0Ch; Base 2.1, section 5.1.12): a header, then
//! for each group a descriptor and the identifiers of its namespaces.

use core::fmt;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::status::Status;
use crate::wire::wire;

wire! {
    /// The header of the page.
    pub struct AnaHeader: 16 bytes {
        /// Change Count, of the whole page.
        0 => chgcnt: U64,
        /// Number of ANA Group Descriptors.
        8 => ngrps: U16,
        /// Reserved.
        10 => reserved: [u8; 6],
    }
}

wire! {
    /// ANA Group Descriptor, followed by `nnsids` namespace identifiers, ascending.
    pub struct AnaGroupDescriptor: 32 bytes {
        /// ANA Group ID, from 1.
        0 => grpid: U32,
        /// Number of NSID Values; 0 also if the host asked for groups only (RGO).
        4 => nnsids: U32,
        /// Change Count, of this group.
        8 => chgcnt: U64,
        /// Asymmetric Namespace Access State, bits 3:0 ([`AnaState`]).
        16 => state: u8,
        /// Reserved.
        17 => reserved: [u8; 15],
    }
}

impl AnaHeader {
    /// Bit 0 of the Log Specific Parameter: Return Groups Only, without namespaces.
    pub const RGO: u8 = 1 << 0;

    /// A header for this many groups.
    pub fn new(chgcnt: u64, ngrps: u16) -> Self {
        Self { chgcnt: chgcnt.into(), ngrps: ngrps.into(), reserved: [0; 6] }
    }
}

/// How namespaces of a group can be accessed through a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum AnaState {
    /// The best way.
    Optimized = 0x1,
    /// A way, but not the best.
    NonOptimized = 0x2,
    /// No way now.
    Inaccessible = 0x3,
    /// No way ever again.
    PersistentLoss = 0x4,
    /// Changing; wait up to ANATT seconds.
    Change = 0xf,
}

impl AnaState {
    /// From a descriptor's state field, of which bits 3:0 count; `None` if reserved.
    pub const fn from_wire(state: u8) -> Option<Self> {
        Some(match state & 0xf {
            0x1 => Self::Optimized,
            0x2 => Self::NonOptimized,
            0x3 => Self::Inaccessible,
            0x4 => Self::PersistentLoss,
            0xf => Self::Change,
            _ => return None,
        })
    }

    /// To a descriptor's state field.
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    /// The state's name, as nvme-cli and Linux write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        }
    }

    /// What a command to a namespace in this state completes with; `None` if it is executed.
    pub const fn status(self) -> Option<Status> {
        match self {
            Self::Optimized | Self::NonOptimized => None,
            Self::Inaccessible => Some(Status::ANA_INACCESSIBLE),
            Self::PersistentLoss => Some(Status::ANA_PERSISTENT_LOSS),
            Self::Change => Some(Status::ANA_TRANSITION),
        }
    }
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl AnaGroupDescriptor {
    /// Writes a group: its descriptor, then its namespaces, which have to ascend.
    ///
    /// With Return Groups Only, give no namespaces.
    pub fn write(
        out: &mut impl Extend<u8>,
        grpid: u32,
        chgcnt: u64,
        state: AnaState,
        nsids: &[u32],
    ) {
        // A slice of more than 2^32 - 1 identifiers would hold some twice; those are left out.
        let nnsids = u32::try_from(nsids.len()).unwrap_or(u32::MAX);
        let descriptor = Self {
            grpid: grpid.into(),
            nnsids: nnsids.into(),
            chgcnt: chgcnt.into(),
            state: state.to_wire(),
            reserved: [0; 15],
        };
        out.extend(descriptor.as_bytes().iter().copied());
        let nsids = (0..nnsids).zip(nsids);
        out.extend(nsids.flat_map(|(_, nsid)| nsid.to_le_bytes()));
    }
}

/// A group as it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AnaGroup<'a> {
    /// Its descriptor.
    pub descriptor: &'a AnaGroupDescriptor,
    /// Its namespaces.
    pub nsids: &'a [U32],
}

impl AnaGroup<'_> {
    /// Its state; `None` if reserved.
    pub fn state(&self) -> Option<AnaState> {
        AnaState::from_wire(self.descriptor.state)
    }
}

/// Reads the groups of a page, whatever its bytes are. After an error nothing follows.
#[derive(Clone, Debug)]
pub struct AnaGroups<'a> {
    rest: &'a [u8],
    left: u16,
}

impl<'a> AnaGroups<'a> {
    /// The header and the groups of a page, which may be cut short (the groups then end with an
    /// error); `None` if it does not even hold a header.
    pub fn parse(page: &'a [u8]) -> Option<(&'a AnaHeader, Self)> {
        let (header, rest) = AnaHeader::ref_from_prefix(page).ok()?;
        Some((header, Self { rest, left: header.ngrps.get() }))
    }

    fn parse_group(&mut self) -> Result<AnaGroup<'a>, AnaError> {
        let (descriptor, rest) =
            AnaGroupDescriptor::ref_from_prefix(self.rest).map_err(|_| AnaError::Truncated)?;
        // Held against the bytes there are before anything is multiplied.
        let count = usize::try_from(descriptor.nnsids.get()).unwrap_or(usize::MAX);
        if count > rest.len() / size_of::<U32>() {
            return Err(AnaError::Truncated);
        }
        let (nsids, rest) =
            <[U32]>::ref_from_prefix_with_elems(rest, count).map_err(|_| AnaError::Truncated)?;
        self.rest = rest;
        Ok(AnaGroup { descriptor, nsids })
    }
}

impl<'a> Iterator for AnaGroups<'a> {
    type Item = Result<AnaGroup<'a>, AnaError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let group = self.parse_group();
        if group.is_err() {
            self.left = 0;
        }
        Some(group)
    }
}

/// What is wrong with an Asymmetric Namespace Access log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnaError {
    /// A group runs past the end of the page.
    Truncated,
}

impl fmt::Display for AnaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("an ANA group ends past its log page"),
        }
    }
}

impl core::error::Error for AnaError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn page() -> Vec<u8> {
        let mut page = AnaHeader::new(5, 2).as_bytes().to_vec();
        AnaGroupDescriptor::write(&mut page, 1, 3, AnaState::Optimized, &[1, 0x0203]);
        AnaGroupDescriptor::write(&mut page, 2, 5, AnaState::Change, &[]);
        page
    }

    #[test]
    fn a_page_has_its_bytes_where_the_specification_puts_them() {
        let page = page();
        assert_eq!(page.len(), 16 + 32 + 8 + 32);
        assert_eq!(page[..10], [5, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        assert_eq!(page[16..25], [1, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(page[32..34], [1, 0]);
        assert_eq!(page[48..56], [1, 0, 0, 0, 3, 2, 0, 0]);
        assert_eq!(page[56..61], [2, 0, 0, 0, 0]);
        assert_eq!(page[72], 0xf);
    }

    #[test]
    fn a_page_reads_back() {
        let page = page();
        let (header, groups) = AnaGroups::parse(&page).unwrap();
        assert_eq!(header.chgcnt, 5);
        let groups: Vec<_> = groups.map(Result::unwrap).collect();
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].nsids, [1, 0x203]);
        assert_eq!(groups[0].state(), Some(AnaState::Optimized));
        assert_eq!(groups[1].state(), Some(AnaState::Change));
        assert!(groups[1].nsids.is_empty());
    }

    #[test]
    fn a_page_cut_short_anywhere_ends_in_an_error() {
        let page = page();
        for end in 0..page.len() {
            match AnaGroups::parse(&page[..end]) {
                None => assert!(end < 16),
                Some((_, groups)) => {
                    assert!(groups.last().unwrap().is_err(), "cut at {end}");
                }
            }
        }
    }

    #[test]
    fn a_group_that_claims_too_much_is_an_error() {
        let mut page = page();
        page[20..24].copy_from_slice(&[0xff; 4]);
        let (_, mut groups) = AnaGroups::parse(&page).unwrap();
        assert_eq!(groups.next(), Some(Err(AnaError::Truncated)));
        assert_eq!(groups.next(), None);
    }

    #[test]
    fn each_state_has_its_code_and_status() {
        for state in 0..=0xff {
            match AnaState::from_wire(state) {
                Some(known) => assert_eq!(known.to_wire(), state & 0xf),
                None => assert!(matches!(state & 0xf, 0 | 5..=14)),
            }
        }
        assert_eq!(AnaState::NonOptimized.status(), None);
        assert_eq!(AnaState::Inaccessible.status(), Some(Status::new(3, 2)));
        assert_eq!(AnaState::PersistentLoss.status(), Some(Status::new(3, 1)));
        assert_eq!(AnaState::Change.status(), Some(Status::new(3, 3)));
    }
}
