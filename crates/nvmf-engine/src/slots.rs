//! Tables whose keys are never used twice.

/// A place in a [`Slots`] and the generation of what is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

    /// In one number, for the kernel to give back; below 2^56.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 24 | u64::from(self.index)
    }

    /// The key of [`to_bits`](Self::to_bits).
    #[allow(clippy::cast_possible_truncation, reason = "cut to the widths it was made of")]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32 & 0xff_ffff, generation: (bits >> 24) as u32 }
    }
}

/// Entries by key. The place freed last is used next, while its memory is warm.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

/// More entries than this do not fit the key; a process has fewer descriptors.
const MOST: u32 = 1 << 24;

impl<T> Slots<T> {
    /// Puts a value in, made from its key; `None` if the table is full.
    pub(crate) fn insert_with(&mut self, value: impl FnOnce(Key) -> T) -> Option<Key> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.entries.len()).ok().filter(|n| *n < MOST)?;
                self.entries.push(Entry { generation: 0, value: None });
                index
            }
        };
        let entry = &mut self.entries[index as usize];
        let key = Key { index, generation: entry.generation };
        entry.value = Some(value(key));
        Some(key)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.index())?;
        entry.value.as_ref().filter(|_| entry.generation == key.generation)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index())?;
        entry.value.as_mut().filter(|_| entry.generation == key.generation)
    }

    /// Takes a value out; its place gets a new generation.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.index())?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        // Where its generations are used up, the place is given up rather than a key used again.
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.free.push(key.index);
        }
        Some(value)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.iter().filter(|entry| entry.value.is_some()).count()
    }

    /// The keys in use.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0u32..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.value.is_some())
            .map(|(index, entry)| Key { index, generation: entry.generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_old_key_finds_nothing() {
        let mut slots = Slots::default();
        let old = slots.insert_with(|_| 'a').unwrap();
        assert_eq!(slots.remove(old), Some('a'));
        let new = slots.insert_with(|_| 'b').unwrap();
        assert_eq!(old.index(), new.index());
        assert_eq!((slots.get(old), slots.get(new)), (None, Some(&'b')));
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut 'b'));
    }

    #[test]
    fn a_place_whose_generations_are_used_up_is_given_up() {
        let mut slots = Slots::default();
        let key = slots.insert_with(|_| ()).unwrap();
        slots.entries[0].generation = u32::MAX;
        let last = Key { generation: u32::MAX, ..key };
        assert!(slots.remove(last).is_some());
        assert_ne!(slots.insert_with(|_| ()).unwrap().index(), key.index());
        assert!(slots.get(last).is_none());
    }

    proptest! {
        #[test]
        fn keys_survive_their_number(index in 0u32..MOST, generation: u32) {
            let key = Key { index, generation };
            prop_assert_eq!(Key::from_bits(key.to_bits()), key);
            prop_assert!(key.to_bits() < 1 << 56);
        }

        #[test]
        fn it_is_a_map(steps in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 1..200)) {
            let (mut slots, mut model, mut gone) = (Slots::default(), BTreeMap::new(), Vec::new());
            for (i, (insert, which)) in steps.into_iter().enumerate() {
                if insert || model.is_empty() {
                    model.insert(slots.insert_with(|_| i).unwrap(), i);
                } else {
                    let key = *which.get(&model.keys().copied().collect::<Vec<_>>());
                    prop_assert_eq!(slots.remove(key), model.remove(&key));
                    gone.push(key);
                }
                prop_assert_eq!(slots.len(), model.len());
                for (key, value) in &model {
                    prop_assert_eq!(slots.get(*key), Some(value));
                }
                prop_assert!(gone.iter().all(|key| slots.get(*key).is_none()));
            }
        }
    }
}
