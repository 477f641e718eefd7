//! From lists to bytes.

use std::collections::HashSet;

use super::{
    CLOSING, DEPTH_MAX, FLAG_BIG_ENDIAN, LIST_HEADER, MAGIC, NAME_MAX, NvList, Order, PAIR_HEADER,
    VERSION, Value, kind,
};

/// A list cannot be encoded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Two values have one name.
    #[error("the list has two values {name:?}")]
    Twice {
        /// The name.
        name: String,
    },
    /// A name is too long, or a NUL is in it.
    #[error("a name must be {NAME_MAX} bytes at most and without NUL, and not {name:?}")]
    Name {
        /// The name.
        name: String,
    },
    /// A NUL is in a string.
    #[error("the text {name:?} has a NUL in it")]
    Nul {
        /// Its name.
        name: String,
    },
    /// Binary data or an array has nothing in it.
    #[error("the value {name:?} has nothing in it")]
    Empty {
        /// Its name.
        name: String,
    },
    /// A descriptor's place is not among those that the list has.
    #[error("descriptor {index} of the value {name:?}: the list has {count} descriptors")]
    Descriptor {
        /// The value's name.
        name: String,
        /// The place.
        index: u32,
        /// How many there are.
        count: u64,
    },
    /// Lists are in lists too often.
    #[error("lists are more than {DEPTH_MAX} deep in lists")]
    Depth,
}

impl NvList {
    /// The packed form, in the byte order of this machine.
    ///
    /// # Errors
    ///
    /// A name or a value cannot be encoded; see [`EncodeError`].
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        self.encode_in(Order::NATIVE)
    }

    pub(super) fn encode_in(&self, order: Order) -> Result<Vec<u8>, EncodeError> {
        check(self, 1)?;
        let all = Extent::of(self);
        check_descriptors(self, all.descriptors)?;
        let total = LIST_HEADER.saturating_add(all.bytes);
        let mut encoder = Encoder { out: Vec::with_capacity(total), total, order };
        encoder.list(self, Extent::default());
        Ok(encoder.out)
    }
}

/// Finds what has no encoding, before anything is measured.
fn check(list: &NvList, depth: usize) -> Result<(), EncodeError> {
    if depth > DEPTH_MAX {
        return Err(EncodeError::Depth);
    }
    let mut names = HashSet::new();
    for (name, value) in list.iter() {
        let owned = || name.to_owned();
        if name.len() > NAME_MAX || name.contains('\0') {
            return Err(EncodeError::Name { name: owned() });
        }
        if !names.insert(name) {
            return Err(EncodeError::Twice { name: owned() });
        }
        let (empty, nul) = match value {
            Value::String(text) => (false, text.contains('\0')),
            Value::Strings(texts) => (texts.is_empty(), texts.iter().any(|t| t.contains('\0'))),
            Value::Binary(bytes) => (bytes.is_empty(), false),
            Value::Bools(items) => (items.is_empty(), false),
            Value::Numbers(items) => (items.is_empty(), false),
            Value::Descriptors(items) => (items.is_empty(), false),
            Value::Lists(items) => (items.is_empty(), false),
            _ => (false, false),
        };
        if empty {
            return Err(EncodeError::Empty { name: owned() });
        }
        if nul {
            return Err(EncodeError::Nul { name: owned() });
        }
        inner(value).try_for_each(|inner| check(inner, depth + 1))?;
    }
    Ok(())
}

fn check_descriptors(list: &NvList, count: u64) -> Result<(), EncodeError> {
    for (name, value) in list.iter() {
        let places = match value {
            Value::Descriptor(place) => std::slice::from_ref(place),
            Value::Descriptors(places) => places,
            _ => &[],
        };
        if let Some(&index) = places.iter().find(|place| u64::from(**place) >= count) {
            return Err(EncodeError::Descriptor { name: name.to_owned(), index, count });
        }
        inner(value).try_for_each(|inner| check_descriptors(inner, count))?;
    }
    Ok(())
}

/// The lists that a value consists of.
fn inner(value: &Value) -> impl Iterator<Item = &NvList> {
    match value {
        Value::List(list) => std::slice::from_ref(list),
        Value::Lists(lists) => lists,
        _ => &[],
    }
    .iter()
}

/// What something takes.
#[derive(Clone, Copy, Default)]
struct Extent {
    bytes: usize,
    descriptors: u64,
}

impl Extent {
    /// The pairs of a list, without its header and what closes it.
    fn of(list: &NvList) -> Self {
        list.iter().fold(Self::default(), |sum, (name, value)| sum.and(Self::of_pair(name, value)))
    }

    fn of_pair(name: &str, value: &Value) -> Self {
        let closed = |list: &NvList| Self::of(list).and_bytes(LIST_HEADER + CLOSING);
        let value = match value {
            Value::List(list) => closed(list),
            Value::Lists(lists) => {
                lists.iter().fold(Self::default(), |sum, list| sum.and(closed(list)))
            }
            Value::Descriptor(_) => Self { bytes: 8, descriptors: 1 },
            Value::Descriptors(places) => {
                Self { bytes: places.len() * 8, descriptors: places.len() as u64 }
            }
            _ => Self { bytes: value_len(value), descriptors: 0 },
        };
        value.and_bytes(PAIR_HEADER + name.len() + 1)
    }

    fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, descriptors: self.descriptors + other.descriptors }
    }

    /// What is left of a sum without one of its parts.
    fn without(self, part: Self) -> Self {
        Self { bytes: self.bytes - part.bytes, descriptors: self.descriptors - part.descriptors }
    }

    fn and_bytes(self, bytes: usize) -> Self {
        self.and(Self { bytes, descriptors: 0 })
    }
}

/// Length in bytes of a value that has no list in it.
fn value_len(value: &Value) -> usize {
    match value {
        Value::Null | Value::List(_) | Value::Lists(_) => 0,
        Value::Bool(_) => 1,
        Value::Number(_) | Value::Descriptor(_) => 8,
        Value::String(text) => text.len() + 1,
        Value::Binary(bytes) => bytes.len(),
        Value::Bools(items) => items.len(),
        Value::Numbers(items) => items.len() * 8,
        Value::Descriptors(items) => items.len() * 8,
        Value::Strings(texts) => texts.iter().map(|text| text.len() + 1).sum(),
    }
}

struct Encoder {
    out: Vec<u8>,
    /// How long it will be.
    total: usize,
    order: Order,
}

impl Encoder {
    /// A list with its header; `behind` is what libnv counts behind it: the pairs that follow in
    /// the lists around it.
    fn list(&mut self, list: &NvList, behind: Extent) {
        let mut left = Extent::of(list).and(behind);
        let flags = if self.order == Order::Big { FLAG_BIG_ENDIAN } else { 0 };
        self.out.extend([MAGIC, VERSION, flags]);
        self.number(left.descriptors);
        let follows = self.total - self.out.len() - 8;
        self.number(follows as u64);
        for (name, value) in list.iter() {
            left = left.without(Extent::of_pair(name, value));
            self.pair(name, value, left);
        }
    }

    fn pair(&mut self, name: &str, value: &Value, behind: Extent) {
        let (kind, items) = match value {
            Value::Null => (kind::NULL, 0),
            Value::Bool(_) => (kind::BOOL, 0),
            Value::Number(_) => (kind::NUMBER, 0),
            Value::String(_) => (kind::STRING, 0),
            Value::List(_) => (kind::LIST, 0),
            Value::Descriptor(_) => (kind::DESCRIPTOR, 0),
            Value::Binary(_) => (kind::BINARY, 0),
            Value::Bools(items) => (kind::BOOLS, items.len()),
            Value::Numbers(items) => (kind::NUMBERS, items.len()),
            Value::Strings(items) => (kind::STRINGS, items.len()),
            Value::Lists(items) => (kind::LISTS, items.len()),
            Value::Descriptors(items) => (kind::DESCRIPTORS, items.len()),
        };
        let len = match value {
            // Of an empty list libnv looks at nothing else.
            Value::List(list) if list.is_empty() => LIST_HEADER,
            Value::List(list) => LIST_HEADER + Extent::of(list).and(behind).bytes,
            _ => value_len(value),
        };
        self.pair_header(kind, name, len, items);
        self.value(value, behind);
    }

    fn pair_header(&mut self, kind: u8, name: &str, len: usize, items: usize) {
        self.out.push(kind);
        // Judged before: it is at most 2048.
        let name_len = u16::try_from(name.len() + 1).unwrap_or(u16::MAX);
        match self.order {
            Order::Little => self.out.extend(name_len.to_le_bytes()),
            Order::Big => self.out.extend(name_len.to_be_bytes()),
        }
        self.number(len as u64);
        self.number(items as u64);
        self.text(name);
    }

    fn value(&mut self, value: &Value, behind: Extent) {
        match value {
            Value::Null => {}
            Value::Bool(value) => self.out.push((*value).into()),
            Value::Number(value) => self.number(*value),
            Value::String(text) => self.text(text),
            Value::List(list) => {
                self.list(list, behind);
                self.pair_header(kind::UP, "", 0, 0);
            }
            Value::Descriptor(place) => self.number((*place).into()),
            Value::Binary(bytes) => self.out.extend(bytes),
            Value::Bools(items) => self.out.extend(items.iter().map(|item| u8::from(*item))),
            Value::Numbers(items) => items.iter().for_each(|item| self.number(*item)),
            Value::Strings(texts) => texts.iter().for_each(|text| self.text(text)),
            Value::Descriptors(places) => {
                places.iter().for_each(|place| self.number((*place).into()));
            }
            Value::Lists(lists) => self.lists(lists, behind),
        }
    }

    fn lists(&mut self, lists: &[NvList], behind: Extent) {
        // Of the lists that follow in the array libnv counts the pairs.
        let mut behind = lists.iter().map(Extent::of).fold(behind, Extent::and);
        for list in lists {
            behind = behind.without(Extent::of(list));
            self.list(list, behind);
            self.pair_header(kind::NEXT, "", 0, 0);
        }
    }

    fn number(&mut self, number: u64) {
        match self.order {
            Order::Little => self.out.extend(number.to_le_bytes()),
            Order::Big => self.out.extend(number.to_be_bytes()),
        }
    }

    fn text(&mut self, text: &str) {
        self.out.extend(text.as_bytes());
        self.out.push(0);
    }
}
