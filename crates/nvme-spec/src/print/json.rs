//! JSON, with the names and the kinds of values that nvme-cli has. Meanings are left out.

use core::fmt::{self, Write};

use super::{Field, FieldSink, Fields, Value, is_unprintable, write_scalar};

/// Prints a structure as JSON: compact as `{}`, indented by two spaces as `{:#}`, which
/// is the layout of nvme-cli.
pub struct Json<'a, T: ?Sized>(pub &'a T);

impl<T: Fields + ?Sized> fmt::Display for Json<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_object(f, &|out| self.0.fields(out), 0)
    }
}

fn write_object(
    f: &mut fmt::Formatter<'_>,
    fields: &dyn Fn(&mut dyn FieldSink),
    depth: usize,
) -> fmt::Result {
    f.write_str("{")?;
    let mut sink = Sink { f, depth: depth + 1, first: true, result: Ok(()) };
    fields(&mut sink);
    let empty = sink.first;
    sink.result?;
    close(f, "}", depth, empty)
}

struct Sink<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    depth: usize,
    first: bool,
    result: fmt::Result,
}

impl Sink<'_, '_> {
    fn write(&mut self, field: Field<'_>) -> fmt::Result {
        start_item(self.f, self.depth, &mut self.first)?;
        write!(self.f, "\"{}\":", field.name)?;
        write_value(self.f, field.value, self.depth)
    }
}

impl FieldSink for Sink<'_, '_> {
    fn field(&mut self, field: Field<'_>) {
        if self.result.is_ok() {
            self.result = self.write(field);
        }
    }
}

fn write_value(f: &mut fmt::Formatter<'_>, value: Value<'_>, depth: usize) -> fmt::Result {
    match value {
        Value::Number(value) | Value::Hex(value) => write!(f, "{value}"),
        Value::Bool(value) => write!(f, "{value}"),
        Value::Text(text) => {
            f.write_str("\"")?;
            write!(JsonString(f), "{text}")?;
            f.write_str("\"")
        }
        Value::Bytes(_) => {
            f.write_str("\"")?;
            write_scalar(f, value)?;
            f.write_str("\"")
        }
        Value::Object(object) => write_object(f, &|out| object.fields(out), depth),
        Value::List(list) => {
            f.write_str("[")?;
            let (mut first, mut result) = (true, Ok(()));
            list.each(&mut |item| {
                if result.is_ok() {
                    result = start_item(f, depth + 1, &mut first)
                        .and_then(|()| write_value(f, item, depth + 1));
                }
            });
            result?;
            close(f, "]", depth, first)
        }
    }
}

/// What stands before a field or an item: a comma unless it is the first, and in the indented form
/// a line of its own.
fn start_item(f: &mut fmt::Formatter<'_>, depth: usize, first: &mut bool) -> fmt::Result {
    if !core::mem::take(first) {
        f.write_str(",")?;
    }
    new_line(f, depth)
}

fn close(f: &mut fmt::Formatter<'_>, bracket: &str, depth: usize, empty: bool) -> fmt::Result {
    if !empty {
        new_line(f, depth)?;
    }
    f.write_str(bracket)
}

fn new_line(f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    if f.alternate() { write!(f, "\n{:width$}", "", width = depth * 2) } else { Ok(()) }
}

/// Writes what stands between the quotes of a JSON string (RFC 8259, section 7).
struct JsonString<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for JsonString<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(self.0, "\\{c}")?,
                '\n' => self.0.write_str("\\n")?,
                // JSON demands less, but terminals heed DEL, the C1 controls and directions too.
                c if is_unprintable(c) => write!(self.0, "\\u{:04x}", u32::from(c))?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}
