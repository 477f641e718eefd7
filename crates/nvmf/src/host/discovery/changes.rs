//! How one discovery log differs from another.

use std::collections::HashMap;

use nvme_spec::identify::Ascii;
use nvme_spec::log::DiscoveryEntry;
use zerocopy::IntoBytes;

/// What is different between the entries of two logs; their order is of no matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Entries that only the later one has.
    pub added: Vec<DiscoveryEntry>,
    /// Entries that only the earlier one has.
    pub removed: Vec<DiscoveryEntry>,
    /// Entries of the same subsystem at the same address that are otherwise different: before, and
    /// after.
    pub changed: Vec<(DiscoveryEntry, DiscoveryEntry)>,
}

impl Changes {
    /// From one log's entries to another's.
    ///
    /// ```
    /// use nvmf::host::discovery::Changes;
    /// use nvmf::spec::Nqn;
    /// use nvmf::spec::log::{DiscoveryEntry, adrfam, subtype, treq};
    ///
    /// let entry = |port| {
    ///     let nqn = Nqn::lenient("nqn.2026-01.example:disk").unwrap();
    ///     DiscoveryEntry::tcp(subtype::NVM, &nqn, adrfam::IPV4, "192.0.2.1", port).unwrap()
    /// };
    /// let required = DiscoveryEntry { treq: treq::REQUIRED, ..entry("4421") };
    /// let changes = Changes::between(&[entry("4420"), entry("4421")], &[required]);
    /// assert_eq!(changes.removed, [entry("4420")]);
    /// assert_eq!(changes.changed, [(entry("4421"), required)]);
    /// assert!(changes.added.is_empty());
    /// ```
    pub fn between(before: &[DiscoveryEntry], after: &[DiscoveryEntry]) -> Self {
        // Those that are the same byte for byte go first, or an entry might be taken for another
        // one's successor. What is left is told apart by what it is the way to.
        let (removed, added, _) = pair(before, after, |entry| entry.as_bytes());
        let (removed, added, changed) = pair(&removed, &added, way);
        Self { added, removed, changed }
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Entries of the first list only, of the second only, and of both; in the order of their lists.
type Paired = (Vec<DiscoveryEntry>, Vec<DiscoveryEntry>, Vec<(DiscoveryEntry, DiscoveryEntry)>);

/// Finds for each entry one with the same key in the other list.
fn pair<'a, K: Eq + std::hash::Hash>(
    before: &'a [DiscoveryEntry],
    after: &'a [DiscoveryEntry],
    key: impl Fn(&'a DiscoveryEntry) -> K,
) -> Paired {
    let mut places: HashMap<K, Vec<usize>> = HashMap::new();
    // The first of several is to be found first.
    for (place, entry) in before.iter().enumerate().rev() {
        places.entry(key(entry)).or_default().push(place);
    }
    let (mut only_after, mut both) = (Vec::new(), Vec::new());
    let mut left = vec![true; before.len()];
    for entry in after {
        match places.get_mut(&key(entry)).and_then(Vec::pop) {
            Some(place) => {
                left[place] = false;
                both.push((before[place], *entry));
            }
            None => only_after.push(*entry),
        }
    }
    let only_before = before.iter().zip(left).filter(|(_, left)| *left).map(|(entry, _)| *entry);
    (only_before.collect(), only_after, both)
}

/// What an entry is the way to, and how it goes.
fn way(entry: &DiscoveryEntry) -> impl Eq + std::hash::Hash {
    let text = |field| Ascii::new(field).as_bytes();
    (
        (entry.trtype, entry.adrfam, entry.subtype),
        (text(&entry.traddr), text(&entry.trsvcid), text(&entry.subnqn)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::Nqn;
    use nvme_spec::log::{adrfam, subtype};

    fn entry(name: &str, port_id: u16) -> DiscoveryEntry {
        let nqn = Nqn::lenient(name).unwrap();
        let mut entry =
            DiscoveryEntry::tcp(subtype::NVM, &nqn, adrfam::IPV4, "192.0.2.1", "4420").unwrap();
        entry.portid.set(port_id);
        entry
    }

    #[test]
    fn the_same_log_in_another_order_is_no_change() {
        let (a, b) = (entry("nqn.a", 1), entry("nqn.b", 1));
        assert!(Changes::between(&[a, b, a], &[a, a, b]).is_empty());
        assert!(Changes::between(&[], &[]).is_empty());
    }

    #[test]
    fn what_came_what_went_and_what_changed_is_told() {
        let [a1, a2, b, c] = [("nqn.a", 1), ("nqn.a", 2), ("nqn.b", 1), ("nqn.c", 1)]
            .map(|(name, port)| entry(name, port));
        let changes = Changes::between(&[a1, b], &[c, a2]);
        assert_eq!((changes.added, changes.removed), (vec![c], vec![b]));
        assert_eq!(changes.changed, [(a1, a2)]);
    }

    #[test]
    fn of_two_at_one_address_the_one_that_stayed_is_not_taken_for_the_other() {
        let (one, two) = (entry("nqn.a", 1), entry("nqn.a", 2));
        let changes = Changes::between(&[one, two], &[two]);
        assert_eq!((changes.removed, changes.changed), (vec![one], vec![]));
        let changes = Changes::between(&[one], &[one, one]);
        assert_eq!((changes.added, changes.changed), (vec![one], vec![]));
    }
}
