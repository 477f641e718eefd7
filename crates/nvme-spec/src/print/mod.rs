//! Printing every structure by one description of it.
//!
//! A type says once, through [`Fields`], what it consists of: names, values and, where a number
//! hides one, a meaning. [`Line`], [`Table`] and [`Json`] turn that into text; anything else that
//! wants to see the fields (a JSON library, a tracing layer, a test) is a [`FieldSink`] of its own.
//! Names are those of nvme-cli's JSON output wherever it has the structure.
//!
//! ```
//! use nvme_spec::identify::LbaFormat;
//! use nvme_spec::print::{Json, Line};
//!
//! let format = LbaFormat::new(9);
//! assert_eq!(Line(&format).to_string(), "ms=0 ds=9 (512 bytes) rp=0 (best)");
//! assert_eq!(Json(&format).to_string(), r#"{"ms":0,"ds":9,"rp":0}"#);
//! ```

use core::fmt;

mod command;
mod feature;
mod identify;
mod json;
mod line;
mod log;
mod pdu;
mod property;
mod table;

pub use command::{AdminCommand, IoCommand};
pub use identify::DescriptorFields;
pub use json::Json;
pub use line::Line;
pub use log::{AnaFields, ErrorLogFields, LogPageFields};
pub use pdu::{PduFields, QueuePduFields};
pub use property::PropertyValue;
pub use table::Table;

/// A type that can say what it consists of.
pub trait Fields {
    /// Gives each field to `out`, in order. Equal values give equal fields every time.
    fn fields(&self, out: &mut dyn FieldSink);
}

/// Something that takes fields and does something with them.
pub trait FieldSink {
    /// Takes one field.
    fn field(&mut self, field: Field<'_>);
}

/// One field of a structure.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// What it is called, as nvme-cli calls it.
    pub name: &'static str,
    /// What it holds.
    pub value: Value<'a>,
    /// What that means, for human readers; absent if the value speaks for itself.
    pub meaning: Option<&'a dyn fmt::Display>,
}

/// What a field holds.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A number, read in decimal.
    Number(u128),
    /// A number that people read in hexadecimal (flags, addresses, identifiers); JSON has no such
    /// thing and gives it in decimal.
    Hex(u128),
    /// True or false.
    Bool(bool),
    /// Text. It may hold anything a peer put there: sinks escape what is not printable.
    Text(&'a dyn fmt::Display),
    /// Bytes, printed as hexadecimal digits in their order.
    Bytes(&'a [u8]),
    /// A structure within.
    Object(&'a dyn Fields),
    /// Several values of one kind.
    List(&'a dyn List),
}

/// A list of values, each made when it is asked for.
///
/// Any `Fn(&mut dyn FnMut(Value))` that calls its argument with each value is one.
pub trait List {
    /// Gives each value to `item`, in order.
    fn each(&self, item: &mut dyn FnMut(Value<'_>));
}

impl<F: Fn(&mut dyn FnMut(Value<'_>))> List for F {
    fn each(&self, item: &mut dyn FnMut(Value<'_>)) {
        self(item);
    }
}

impl<T: Fields + ?Sized> Fields for &T {
    fn fields(&self, out: &mut dyn FieldSink) {
        (**self).fields(out);
    }
}

/// Short ways to give a field.
impl dyn FieldSink + '_ {
    fn plain(&mut self, name: &'static str, value: Value<'_>) {
        self.field(Field { name, value, meaning: None });
    }

    fn meant(&mut self, name: &'static str, value: Value<'_>, meaning: impl fmt::Display) {
        self.field(Field { name, value, meaning: Some(&meaning) });
    }

    /// A number, read in decimal.
    pub fn number(&mut self, name: &'static str, value: impl Number) {
        self.plain(name, Value::Number(value.number()));
    }

    /// A number, read in decimal, and what it means.
    pub fn number_as(
        &mut self,
        name: &'static str,
        value: impl Number,
        meaning: impl fmt::Display,
    ) {
        self.meant(name, Value::Number(value.number()), meaning);
    }

    /// A number, read in hexadecimal.
    pub fn hex(&mut self, name: &'static str, value: impl Number) {
        self.plain(name, Value::Hex(value.number()));
    }

    /// A number, read in hexadecimal, and what it means.
    pub fn hex_as(&mut self, name: &'static str, value: impl Number, meaning: impl fmt::Display) {
        self.meant(name, Value::Hex(value.number()), meaning);
    }

    /// A number whose bits have names.
    pub fn bits(&mut self, name: &'static str, value: impl Number, names: &[(u8, &'static str)]) {
        let bits = Bits { value: value.number(), names };
        if bits.value == 0 {
            self.hex(name, 0u8);
        } else {
            self.hex_as(name, bits.value, bits);
        }
    }

    /// Text.
    pub fn text(&mut self, name: &'static str, value: impl fmt::Display) {
        self.plain(name, Value::Text(&value));
    }

    /// Bytes.
    pub fn bytes(&mut self, name: &'static str, value: &[u8]) {
        self.plain(name, Value::Bytes(value));
    }

    /// True or false.
    pub fn flag(&mut self, name: &'static str, value: bool) {
        self.plain(name, Value::Bool(value));
    }

    /// A structure within.
    pub fn object(&mut self, name: &'static str, value: &dyn Fields) {
        self.plain(name, Value::Object(value));
    }

    /// A list.
    pub fn list(&mut self, name: &'static str, value: &dyn List) {
        self.plain(name, Value::List(value));
    }

    /// A list of structures.
    pub fn objects<T: Fields>(
        &mut self,
        name: &'static str,
        values: impl Iterator<Item = T> + Clone,
    ) {
        self.list(name, &|item: &mut dyn FnMut(Value<'_>)| {
            for value in values.clone() {
                item(Value::Object(&value));
            }
        });
    }

    /// A list of numbers.
    pub fn numbers(&mut self, name: &'static str, values: impl Iterator<Item: Number> + Clone) {
        self.list(name, &|item: &mut dyn FnMut(Value<'_>)| {
            for value in values.clone() {
                item(Value::Number(value.number()));
            }
        });
    }
}

/// An unsigned integer of any width, native or as it lies on the wire.
pub trait Number {
    /// Its value.
    fn number(self) -> u128;
}

macro_rules! numbers {
    ($($native:ty),*; $($wire:ty),*) => {
        $( impl Number for $native {
            fn number(self) -> u128 {
                self.into()
            }
        } )*
        $( impl Number for $wire {
            fn number(self) -> u128 {
                self.get().into()
            }
        } )*
    };
}

numbers! {
    u8, u16, u32, u64, u128;
    zerocopy::little_endian::U16, zerocopy::little_endian::U32, zerocopy::little_endian::U64,
    zerocopy::little_endian::U128
}

/// The names of the bits that are set; those without a name as `bit n`.
struct Bits<'a> {
    value: u128,
    names: &'a [(u8, &'static str)],
}

impl fmt::Display for Bits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for bit in (0..128).filter(|bit| self.value >> bit & 1 != 0) {
            f.write_str(separator)?;
            match self.names.iter().find(|(named, _)| *named == bit) {
                Some((_, name)) => f.write_str(name)?,
                None => write!(f, "bit {bit}")?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

/// A [`fmt::Display`] made of a closure.
struct With<F>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for With<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

/// Whether a character is better not shown as it is: it could steer a terminal, break a line, or
/// turn the direction of what follows.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes text with everything that is not printable escaped.
struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if is_unprintable(c) {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// The form of scalar values that lines and tables share. Objects and lists print nothing.
fn write_scalar(f: &mut fmt::Formatter<'_>, value: Value<'_>) -> fmt::Result {
    use fmt::Write;
    match value {
        Value::Number(value) => write!(f, "{value}"),
        Value::Hex(value) => write!(f, "{value:#x}"),
        Value::Bool(value) => write!(f, "{value}"),
        Value::Text(text) => write!(Escaping(f), "{text}"),
        Value::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        Value::Object(_) | Value::List(_) => Ok(()),
    }
}

/// Structures debug as their one line of fields.
macro_rules! debug_as_line {
    ($($type:ty),* $(,)?) => { $(
        impl core::fmt::Debug for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let name = stringify!($type);
                write!(f, "{} {{ {} }}", name, crate::print::Line(self))
            }
        }
    )* };
}

/// Gives fields of the same name and kind: `give!(out, self; number: rab, mdts; hex: vid)`.
macro_rules! give {
    ($out:ident, $self:ident; $($kind:ident: $($field:ident),+);+ $(;)?) => {
        $( $( $out.$kind(stringify!($field), $self.$field); )+ )+
    };
}

use {debug_as_line, give};

#[cfg(test)]
mod tests;
