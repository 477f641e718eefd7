//! Lists of namespace and controller identifiers (Base 2.1, section 5.1.13).

use zerocopy::little_endian::{U16, U32};

use crate::wire::wire;

wire! {
    /// Namespace list (CNS 02h, 07h, 10h, 1Ah): up to 1,024 identifiers, ascending, zeroes after.
    pub struct ActiveNamespaceList: 4096 bytes {
        /// The identifiers.
        0 => nsids: [U32; 1024],
    }
}

impl ActiveNamespaceList {
    /// The most identifiers a list can hold; a host asks again with the last one it got.
    pub const MAX: usize = 1024;

    /// The first 1,024 of the given identifiers that are greater than `after`, as Identify with
    /// NSID `after` answers. The identifiers have to ascend.
    pub fn after(after: u32, ids: impl IntoIterator<Item = u32>) -> Self {
        let mut list = Self::default();
        let ids = ids.into_iter().filter(|&id| id > after);
        for (to, id) in list.nsids.iter_mut().zip(ids) {
            to.set(id);
        }
        list
    }

    /// The identifiers, up to the first zero.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.nsids.iter().map(|id| id.get()).take_while(|&id| id != 0)
    }

    /// Whether every entry is taken, so that more may follow.
    pub fn is_full(&self) -> bool {
        self.iter().count() == Self::MAX
    }
}

wire! {
    /// Controller list (CNS 12h, 13h): up to 2,047 identifiers, ascending.
    pub struct ControllerList: 4096 bytes {
        /// Number of Identifiers.
        0 => numids: U16,
        /// The identifiers.
        2 => ids: [U16; 2047],
    }
}

impl ControllerList {
    /// The most identifiers a list can hold.
    pub const MAX: usize = 2047;

    /// The first 2,047 of the given identifiers that are at least `from`, as Identify with CNTID
    /// `from` answers. The identifiers have to ascend.
    pub fn from(from: u16, ids: impl IntoIterator<Item = u16>) -> Self {
        let mut list = Self::default();
        let mut count = 0;
        let ids = ids.into_iter().filter(|&id| id >= from);
        for (to, id) in list.ids.iter_mut().zip(ids) {
            to.set(id);
            count += 1;
        }
        list.numids.set(count);
        list
    }

    /// The identifiers; of a list that claims more than it can hold, those it holds.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.ids.iter().take(usize::from(self.numids.get())).map(|id| id.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn a_namespace_list_goes_on_after_the_given_one() {
        let list = ActiveNamespaceList::after(2, [1, 2, 3, 0x0102]);
        assert_eq!(list.as_bytes()[..12], [3, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert!(list.iter().eq([3, 0x102]));
        assert!(!list.is_full());
        assert_eq!(ActiveNamespaceList::after(0, []).iter().count(), 0);
    }

    #[test]
    fn more_namespaces_than_fit_are_left_for_the_next_list() {
        let first = ActiveNamespaceList::after(0, 1..=1500);
        assert!(first.is_full());
        assert!(first.iter().eq(1..=1024));
        let second = ActiveNamespaceList::after(first.iter().last().unwrap(), 1..=1500);
        assert!(second.iter().eq(1025..=1500));
    }

    #[test]
    fn a_controller_list_says_how_many_it_holds() {
        let list = ControllerList::from(2, [1, 2, 0x0304]);
        assert_eq!(list.as_bytes()[..8], [2, 0, 2, 0, 4, 3, 0, 0]);
        assert!(list.iter().eq([2, 0x304]));
        assert_eq!(ControllerList::from(0, 0..=u16::MAX).iter().count(), 2047);
    }

    #[test]
    fn a_list_that_claims_too_much_gives_what_it_has() {
        let list = ControllerList::read_from_bytes(&[0xff; 4096]).unwrap();
        assert_eq!(list.iter().count(), 2047);
        let list = ActiveNamespaceList::read_from_bytes(&[0xff; 4096]).unwrap();
        assert_eq!(list.iter().count(), 1024);
    }
}
