//! From bytes to lists: nothing in them is believed before it is judged.

use std::collections::HashSet;

use super::{
    DEPTH_MAX, FLAG_BIG_ENDIAN, LIST_HEADER, MAGIC, NAME_MAX, NvList, Order, PAIR_HEADER, Value,
    kind,
};

/// Bytes are no packed list.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no packed nvlist: at byte {at}, {fault}")]
pub struct DecodeError {
    /// Where the header or value begins that is wrong.
    pub at: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a packed list.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It ends within something.
    #[error("it ends {missing} bytes too early")]
    Truncated {
        /// How many bytes are missing, at least.
        missing: u64,
    },
    /// A list begins with another magic than 6Ch.
    #[error("a list begins with {0:#x} and not {MAGIC:#x}")]
    Magic(u8),
    /// A list has flags that are unknown, or not those of the list around it.
    #[error("a list has the flags {0:#x}")]
    Flags(u8),
    /// A list says that another number of bytes follows than there are.
    #[error("a list says that {says} bytes follow, and {there} do")]
    Size {
        /// What it says.
        says: u64,
        /// What there is.
        there: u64,
    },
    /// A pair has a type that is unknown.
    #[error("a value has the type {0}")]
    Type(u8),
    /// A name is too long, or not closed by its only NUL, or no UTF-8.
    #[error("a name is not 1 to {NAME_MAX} bytes of text and a NUL")]
    Name,
    /// Two values of a list have one name.
    #[error("the list has two values {0:?}")]
    Twice(String),
    /// A value's length is none that its type can have.
    #[error("a value of type {kind} has {len} bytes and {items} items")]
    Length {
        /// The type.
        kind: u8,
        /// Its length in bytes.
        len: u64,
        /// The items of an array.
        items: u64,
    },
    /// A byte that says true or false is neither.
    #[error("{0} is neither true nor false")]
    Bool(u8),
    /// A string is not closed by its only NUL, or no UTF-8.
    #[error("a string is not text and a NUL")]
    Text,
    /// A descriptor's place is not among those that go along.
    #[error("descriptor {place} of {count}")]
    Descriptor {
        /// The place.
        place: u64,
        /// How many go along.
        count: u64,
    },
    /// A list says that another number of descriptors go along than it has.
    #[error("the list says that {says} descriptors go along, and has {has}")]
    Descriptors {
        /// What it says.
        says: u64,
        /// What it has.
        has: u64,
    },
    /// A list is closed that was not open, or is not as it was opened.
    #[error("a list is closed that is not open")]
    Unopened,
    /// Lists are in lists too often.
    #[error("lists are more than {DEPTH_MAX} deep in lists")]
    Depth,
}

impl NvList {
    /// Reads a packed list, which is all of `bytes`.
    ///
    /// It takes no more memory than a small multiple of what `bytes` has.
    ///
    /// # Errors
    ///
    /// Where the bytes are no list, and why.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder { bytes, at: 0, order: Order::Little, says: 0, has: 0 };
        let list = decoder.list(Around::Nothing, 1)?;
        let Decoder { says, has, .. } = decoder;
        if says != has {
            return Err(decoder.fault(Fault::Descriptors { says, has }));
        }
        Ok(list)
    }
}

/// What a list is in, which says how it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    /// Nothing: it ends where the bytes end.
    Nothing,
    List,
    Array,
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    order: Order,
    /// How many descriptors go along, as it says.
    says: u64,
    /// How many have come so far.
    has: u64,
}

/// The header of a pair.
struct Pair<'a> {
    /// Where it begins.
    at: usize,
    kind: u8,
    name: &'a str,
    len: u64,
    items: u64,
}

impl<'a> Decoder<'a> {
    fn list(&mut self, around: Around, depth: usize) -> Result<NvList, DecodeError> {
        if depth > DEPTH_MAX {
            return Err(self.fault(Fault::Depth));
        }
        self.list_header(around)?;
        let mut names = HashSet::new();
        let mut pairs = Vec::new();
        loop {
            if self.left() == 0 && around == Around::Nothing {
                return Ok(NvList { pairs });
            }
            let pair = self.pair()?;
            let closes = match pair.kind {
                kind::UP => Some(Around::List),
                kind::NEXT => Some(Around::Array),
                _ => None,
            };
            if let Some(closes) = closes {
                let as_opened = closes == around && pair.name.is_empty() && pair.len == 0;
                return if as_opened {
                    Ok(NvList { pairs })
                } else {
                    Err(pair.fault(Fault::Unopened))
                };
            }
            let value = self.value(&pair, depth)?;
            if !names.insert(pair.name) {
                return Err(pair.fault(Fault::Twice(pair.name.to_owned())));
            }
            pairs.push((pair.name.to_owned(), value));
        }
    }

    fn list_header(&mut self, around: Around) -> Result<(), DecodeError> {
        let at = self.at;
        let fault = |fault| Err(DecodeError { at, fault });
        let [magic, _version, flags] = self.array()?;
        if magic != MAGIC {
            return fault(Fault::Magic(magic));
        }
        let order = if flags & FLAG_BIG_ENDIAN == 0 { Order::Little } else { Order::Big };
        let is_outermost = around == Around::Nothing;
        if flags & !FLAG_BIG_ENDIAN != 0 || (!is_outermost && order != self.order) {
            return fault(Fault::Flags(flags));
        }
        self.order = order;
        let descriptors = self.number()?;
        if is_outermost {
            self.says = descriptors;
        }
        let says = self.number()?;
        let there = self.left() as u64;
        if says != there {
            return fault(Fault::Size { says, there });
        }
        Ok(())
    }

    fn pair(&mut self) -> Result<Pair<'a>, DecodeError> {
        let at = self.at;
        self.need(PAIR_HEADER as u64)?;
        let [kind] = self.array()?;
        let name_len = usize::from(match self.order {
            Order::Little => u16::from_le_bytes(self.array()?),
            Order::Big => u16::from_be_bytes(self.array()?),
        });
        let (len, items) = (self.number()?, self.number()?);
        if name_len > NAME_MAX + 1 {
            return Err(DecodeError { at, fault: Fault::Name });
        }
        let name =
            text(self.take(name_len as u64)?).ok_or(DecodeError { at, fault: Fault::Name })?;
        self.need(len)?;
        Ok(Pair { at, kind, name, len, items })
    }

    fn value(&mut self, pair: &Pair<'_>, depth: usize) -> Result<Value, DecodeError> {
        let at = self.at;
        match (pair.kind, pair.len) {
            (kind::NULL, 0) => Ok(Value::Null),
            (kind::BOOL, 1) => {
                let [byte] = self.array()?;
                Ok(Value::Bool(boolean(byte, at)?))
            }
            (kind::NUMBER, 8) => Ok(Value::Number(self.number()?)),
            (kind::DESCRIPTOR, 8) => Ok(Value::Descriptor(self.descriptor()?)),
            (kind::STRING, len) => {
                let text = text(self.take(len)?).ok_or(DecodeError { at, fault: Fault::Text })?;
                Ok(Value::String(text.to_owned()))
            }
            (kind::BINARY, 1..) => Ok(Value::Binary(self.take(pair.len)?.to_vec())),
            // Their lengths count what is not theirs; that they fit is all that can be said.
            (kind::LIST, LEAST_LIST..) => Ok(Value::List(self.list(Around::List, depth + 1)?)),
            (kind::BOOLS..=kind::DESCRIPTORS, _) if pair.items > 0 => self.array_value(pair, depth),
            (kind::NULL..=kind::DESCRIPTORS, _) => Err(pair.bad_length()),
            _ => Err(pair.fault(Fault::Type(pair.kind))),
        }
    }

    fn array_value(&mut self, pair: &Pair<'_>, depth: usize) -> Result<Value, DecodeError> {
        let Pair { kind, len, items, .. } = *pair;
        let of_eight = Some(len) == items.checked_mul(8);
        match kind {
            kind::BOOLS if len == items => {
                let at = self.at;
                let bytes = self.take(len)?;
                let items = bytes.iter().zip(at..).map(|(byte, at)| boolean(*byte, at));
                Ok(Value::Bools(items.collect::<Result<_, _>>()?))
            }
            kind::NUMBERS if of_eight => {
                Ok(Value::Numbers((0..items).map(|_| self.number()).collect::<Result<_, _>>()?))
            }
            kind::DESCRIPTORS if of_eight => {
                let places = (0..items).map(|_| self.descriptor());
                Ok(Value::Descriptors(places.collect::<Result<_, _>>()?))
            }
            kind::STRINGS if len >= items => self.strings(pair),
            kind::LISTS => {
                // Each has a header: there are no more of them than bytes.
                let lists = (0..items).map(|_| self.list(Around::Array, depth + 1));
                Ok(Value::Lists(lists.collect::<Result<_, _>>()?))
            }
            _ => Err(pair.bad_length()),
        }
    }

    fn strings(&mut self, pair: &Pair<'_>) -> Result<Value, DecodeError> {
        let at = self.at;
        let bytes = self.take(pair.len)?;
        let texts =
            bytes.split_inclusive(|byte| *byte == 0).map(|part| text(part).map(str::to_owned));
        let texts: Option<Vec<String>> = texts.collect();
        match texts {
            Some(texts) if texts.len() as u64 == pair.items => Ok(Value::Strings(texts)),
            Some(_) => Err(pair.bad_length()),
            None => Err(DecodeError { at, fault: Fault::Text }),
        }
    }

    fn descriptor(&mut self) -> Result<u32, DecodeError> {
        let (at, count) = (self.at, self.says);
        self.has += 1;
        let place = self.number()?;
        u32::try_from(place)
            .ok()
            .filter(|_| place < count)
            .ok_or(DecodeError { at, fault: Fault::Descriptor { place, count } })
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.array()?;
        Ok(match self.order {
            Order::Little => u64::from_le_bytes(bytes),
            Order::Big => u64::from_be_bytes(bytes),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.need(N as u64)?;
        let (array, _) = self.bytes[self.at..]
            .split_first_chunk()
            .ok_or_else(|| self.fault(Fault::Truncated { missing: N as u64 }))?;
        self.at += N;
        Ok(*array)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = self.need(len)?;
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    /// Whether so many bytes are left.
    fn need(&self, len: u64) -> Result<usize, DecodeError> {
        let left = self.left();
        usize::try_from(len).ok().filter(|len| *len <= left).ok_or_else(|| {
            self.fault(Fault::Truncated { missing: len.saturating_sub(left as u64) })
        })
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn fault(&self, fault: Fault) -> DecodeError {
        DecodeError { at: self.at, fault }
    }
}

/// The least length that a list's pair gives.
const LEAST_LIST: u64 = LIST_HEADER as u64;

impl Pair<'_> {
    fn fault(&self, fault: Fault) -> DecodeError {
        DecodeError { at: self.at, fault }
    }

    fn bad_length(&self) -> DecodeError {
        let Self { kind, len, items, .. } = *self;
        self.fault(Fault::Length { kind, len, items })
    }
}

/// What is before the NUL that closes it, and has none in it.
fn text(bytes: &[u8]) -> Option<&str> {
    let (nul, text) = bytes.split_last()?;
    (*nul == 0 && !text.contains(&0)).then(|| std::str::from_utf8(text).ok()).flatten()
}

fn boolean(byte: u8, at: usize) -> Result<bool, DecodeError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        byte => Err(DecodeError { at, fault: Fault::Bool(byte) }),
    }
}
