//! FreeBSD's name/value lists (`nv(9)`) in their packed form, which its kernel takes and gives.
//!
//! [`NvList`] is such a list: typed values by name, lists and arrays of lists among them.
//! [`NvList::encode`] gives the bytes that FreeBSD's libnv gives for the same list, and
//! [`NvList::decode`] reads any that libnv reads, as long as their names are unique.
//!
//! ```
//! use nvmf::handoff::freebsd::nvlist::NvList;
//!
//! let list = NvList::new()
//!     .with("connected", true)
//!     .with("last_disconnect", NvList::new().with("tv_sec", 7u64).with("tv_nsec", 0u64));
//! let packed = list.encode()?;
//! assert_eq!(NvList::decode(&packed)?, list);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The format
//!
//! Everything is packed without padding. Numbers are in the byte order of the machine that wrote
//! them, which a flag tells; both are read.
//!
//! | header of a list | bytes |
//! |---|---|
//! | magic, 6Ch | 1 |
//! | version, 0 | 1 |
//! | flags: 80h big-endian; 01h and 02h, names without case and names that repeat, are not for here | 1 |
//! | file descriptors in the list and behind it | 8 |
//! | bytes that follow this header, up to the end of everything | 8 |
//!
//! | header of a pair | bytes |
//! |---|---|
//! | type | 1 |
//! | length of the name, its NUL included | 2 |
//! | length of the value | 8 |
//! | items, of an array | 8 |
//! | the name | |
//! | the value | |
//!
//! The value of a list is that list with its header, closed by a pair of type FFh; that of an array
//! of lists is one list after the other, each closed by a pair of type FEh. The length of a list is
//! what libnv counts: its own bytes without what closes it, and all that follows in the lists
//! around it.

mod decode;
mod encode;

pub use decode::{DecodeError, Fault};
pub use encode::EncodeError;

/// The longest name in bytes.
pub const NAME_MAX: usize = 2047;
/// As deep may lists be in lists, the outermost counted.
pub const DEPTH_MAX: usize = 16;

const MAGIC: u8 = 0x6c;
const VERSION: u8 = 0;
const FLAG_BIG_ENDIAN: u8 = 0x80;
/// Length of the header of a list in bytes.
const LIST_HEADER: usize = 19;
/// Length of the header of a pair in bytes.
const PAIR_HEADER: usize = 19;
/// Length of a pair that closes a list in bytes: its name is empty.
const CLOSING: usize = PAIR_HEADER + 1;

/// The types of pairs.
mod kind {
    pub(super) const NULL: u8 = 1;
    pub(super) const BOOL: u8 = 2;
    pub(super) const NUMBER: u8 = 3;
    pub(super) const STRING: u8 = 4;
    pub(super) const LIST: u8 = 5;
    pub(super) const DESCRIPTOR: u8 = 6;
    pub(super) const BINARY: u8 = 7;
    pub(super) const BOOLS: u8 = 8;
    pub(super) const NUMBERS: u8 = 9;
    pub(super) const STRINGS: u8 = 10;
    pub(super) const LISTS: u8 = 11;
    pub(super) const DESCRIPTORS: u8 = 12;
    /// Closes a list of an array.
    pub(super) const NEXT: u8 = 254;
    /// Closes a list.
    pub(super) const UP: u8 = 255;
}

/// The order of bytes in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Little,
    Big,
}

impl Order {
    /// That of this machine, which is the kernel's too.
    const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };
}

/// Values by name, in the order in which they were added.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NvList {
    pairs: Vec<(String, Value)>,
}

/// A value of a list.
///
/// Arrays that are empty and binary data of no bytes cannot be encoded: libnv knows neither.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A name without a value.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(u64),
    /// Text without NUL.
    String(String),
    /// A list.
    List(NvList),
    /// A file descriptor that goes along with the list over a Unix socket: its place among those.
    /// No ioctl takes one.
    Descriptor(u32),
    /// Bytes.
    Binary(Vec<u8>),
    /// An array of what [`Bool`](Self::Bool) has.
    Bools(Vec<bool>),
    /// An array of what [`Number`](Self::Number) has.
    Numbers(Vec<u64>),
    /// An array of what [`String`](Self::String) has.
    Strings(Vec<String>),
    /// An array of lists.
    Lists(Vec<NvList>),
    /// An array of what [`Descriptor`](Self::Descriptor) has.
    Descriptors(Vec<u32>),
}

/// A list lacks what was asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the list has no {wanted} {name:?}")]
pub struct Missing {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub wanted: &'static str,
}

impl NvList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The list with one more value. A name that is there already is found out by
    /// [`encode`](Self::encode).
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.pairs.push((name.to_owned(), value.into()));
        self
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// Values of one type, by name.
macro_rules! typed {
    ($($name:ident: $wanted:literal, $kind:ident($value:ident) => $take:expr, $type:ty;)*) => {
        impl NvList {
            $(
            #[doc = concat!("The [`Value::", stringify!($kind), "`] of this name.")]
            ///
            /// # Errors
            ///
            /// It is not there, or of another type.
            pub fn $name(&self, name: &'static str) -> Result<$type, Missing> {
                match self.get(name) {
                    Some(Value::$kind($value)) => Ok($take),
                    _ => Err(Missing { name, wanted: $wanted }),
                }
            }
            )*
        }
    };
}

typed! {
    bool: "bool", Bool(value) => *value, bool;
    number: "number", Number(value) => *value, u64;
    string: "string", String(value) => value, &str;
    binary: "binary", Binary(value) => value, &[u8];
    list: "list", List(value) => value, &NvList;
    lists: "array of lists", Lists(value) => value, &[NvList];
}

macro_rules! from {
    ($($type:ty => $kind:ident;)*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$kind(value.into())
            }
        })*
    };
}

from! {
    bool => Bool;
    u16 => Number;
    u32 => Number;
    u64 => Number;
    &str => String;
    String => String;
    NvList => List;
    &[u8] => Binary;
    Vec<u8> => Binary;
    Vec<bool> => Bools;
    Vec<u64> => Numbers;
    Vec<String> => Strings;
    Vec<NvList> => Lists;
}

#[cfg(test)]
mod tests;
