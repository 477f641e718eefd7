//! Several lines, for people: one field each, names in a column.

use core::fmt::{self, Write};

use super::line::write_value;
use super::{Escaping, Field, FieldSink, Fields, Value, write_scalar};

/// Prints a structure on several lines, a field each, without a newline at the end:
///
/// ```text
/// nsze  : 2048
/// nmic  : 0x1 (shared)
/// lbafs :
///   [0] ms=0 ds=9 (512 bytes) rp=0 (best)
/// ```
///
/// Structures within are indented; those in a list stand on one line each if they are small.
pub struct Table<'a, T: ?Sized>(pub &'a T);

/// Structures in a list with at most this many fields stand on one line.
const SMALL: usize = 4;

impl<T: Fields + ?Sized> fmt::Display for Table<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        write_rows(f, &|out| self.0.fields(out), 0, &mut first)
    }
}

/// Writes the fields as rows, `first` telling whether anything stands above them.
fn write_rows(
    f: &mut fmt::Formatter<'_>,
    fields: &dyn Fn(&mut dyn FieldSink),
    indent: usize,
    first: &mut bool,
) -> fmt::Result {
    let mut shape = Shape::default();
    fields(&mut shape);
    let mut rows = Rows { f, indent, width: shape.width, first, result: Ok(()) };
    fields(&mut rows);
    rows.result
}

/// How many fields there are, and how long the longest name is.
#[derive(Default)]
struct Shape {
    count: usize,
    width: usize,
}

impl FieldSink for Shape {
    fn field(&mut self, field: Field<'_>) {
        self.count += 1;
        self.width = self.width.max(field.name.len());
    }
}

struct Rows<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    indent: usize,
    width: usize,
    first: &'a mut bool,
    result: fmt::Result,
}

impl FieldSink for Rows<'_, '_> {
    fn field(&mut self, field: Field<'_>) {
        if self.result.is_ok() {
            self.result = self.write(field);
        }
    }
}

impl Rows<'_, '_> {
    fn write(&mut self, field: Field<'_>) -> fmt::Result {
        start_row(self.f, self.indent, self.first)?;
        write!(self.f, "{:width$} :", field.name, width = self.width)?;
        match field.value {
            Value::Object(object) => {
                write_rows(self.f, &|out| object.fields(out), self.indent + 2, self.first)
            }
            Value::List(list) => {
                let (f, indent, first) = (&mut *self.f, self.indent + 2, &mut *self.first);
                let (mut index, mut result) = (0, Ok(()));
                list.each(&mut |item| {
                    if result.is_ok() {
                        result = write_item(f, index, item, indent, first);
                        index += 1;
                    }
                });
                result
            }
            scalar => {
                self.f.write_str(" ")?;
                write_scalar(self.f, scalar)?;
                match field.meaning {
                    Some(meaning) => {
                        self.f.write_str(" (")?;
                        write!(Escaping(self.f), "{meaning}")?;
                        self.f.write_str(")")
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

fn write_item(
    f: &mut fmt::Formatter<'_>,
    index: usize,
    item: Value<'_>,
    indent: usize,
    first: &mut bool,
) -> fmt::Result {
    start_row(f, indent, first)?;
    write!(f, "[{index}]")?;
    match item {
        Value::Object(object) => {
            let mut shape = Shape::default();
            object.fields(&mut shape);
            if shape.count <= SMALL {
                write!(f, " {}", super::Line(&object))
            } else {
                write_rows(f, &|out| object.fields(out), indent + 2, first)
            }
        }
        other => {
            f.write_str(" ")?;
            write_value(f, other)
        }
    }
}

fn start_row(f: &mut fmt::Formatter<'_>, indent: usize, first: &mut bool) -> fmt::Result {
    if !core::mem::take(first) {
        f.write_str("\n")?;
    }
    write!(f, "{:indent$}", "")
}
