//! Changed Attached Namespace List log page (LID 04h; Base 2.1, section 5.1.12).

use zerocopy::little_endian::U32;

use crate::identify::NSID_ALL;
use crate::wire::wire;

wire! {
    /// The namespaces that changed since the page was last read: identifiers ascending, zeroes
    /// after them; FFFFFFFFh alone if they are more than 1,024.
    pub struct ChangedNamespaceList: 4096 bytes {
        /// The identifiers.
        0 => nsids: [U32; 1024],
    }
}

impl ChangedNamespaceList {
    /// A list of these identifiers, which have to ascend.
    pub fn new(ids: impl IntoIterator<Item = u32>) -> Self {
        let mut list = Self::default();
        let mut ids = ids.into_iter();
        for (to, id) in list.nsids.iter_mut().zip(ids.by_ref()) {
            to.set(id);
        }
        // `zip` stops at a full list without taking another identifier.
        if ids.next().is_some() {
            list = Self::default();
            list.nsids[0].set(NSID_ALL);
        }
        list
    }

    /// The identifiers; `None` if too many namespaces changed to list them.
    pub fn changed(&self) -> Option<impl Iterator<Item = u32> + Clone + '_> {
        if self.nsids[0] == NSID_ALL {
            return None;
        }
        Some(self.nsids.iter().map(|id| id.get()).take_while(|&id| id != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn a_list_holds_up_to_1024() {
        let list = ChangedNamespaceList::new([1, 0x0203]);
        assert_eq!(list.as_bytes()[..12], [1, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0]);
        assert!(list.changed().unwrap().eq([1, 0x203]));
        let list = ChangedNamespaceList::new(1..=1024);
        assert!(list.changed().unwrap().eq(1..=1024));
    }

    #[test]
    fn more_are_not_listed() {
        let list = ChangedNamespaceList::new(1..=1025);
        assert_eq!(list.as_bytes()[..8], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert!(list.changed().is_none());
    }
}
