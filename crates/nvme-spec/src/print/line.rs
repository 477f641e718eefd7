//! One line, for logs: `cid=7 status=0x4002 (Invalid Field in Command) lbafs=[{ds=9} {ds=12}]`.

use core::fmt::{self, Write};

use super::{Escaping, Field, FieldSink, Fields, Value, write_scalar};

/// Prints a structure on one line, fields as `name=value (meaning)`, structures within in braces,
/// lists in brackets. Text with spaces is quoted.
pub struct Line<'a, T: ?Sized>(pub &'a T);

impl<T: Fields + ?Sized> fmt::Display for Line<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fields(f, &|out| self.0.fields(out))
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &dyn Fn(&mut dyn FieldSink)) -> fmt::Result {
    let mut sink = Sink { f, first: true, result: Ok(()) };
    fields(&mut sink);
    sink.result
}

struct Sink<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    first: bool,
    result: fmt::Result,
}

impl Sink<'_, '_> {
    fn write(&mut self, field: Field<'_>) -> fmt::Result {
        if !core::mem::take(&mut self.first) {
            self.f.write_str(" ")?;
        }
        write!(self.f, "{}=", field.name)?;
        write_value(self.f, field.value)?;
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

impl FieldSink for Sink<'_, '_> {
    fn field(&mut self, field: Field<'_>) {
        if self.result.is_ok() {
            self.result = self.write(field);
        }
    }
}

pub(super) fn write_value(f: &mut fmt::Formatter<'_>, value: Value<'_>) -> fmt::Result {
    match value {
        Value::Object(object) => {
            f.write_str("{")?;
            write_fields(f, &|out| object.fields(out))?;
            f.write_str("}")
        }
        Value::List(list) => {
            f.write_str("[")?;
            let (mut first, mut result) = (true, Ok(()));
            list.each(&mut |item| {
                if result.is_ok() && !core::mem::take(&mut first) {
                    result = f.write_str(" ");
                }
                if result.is_ok() {
                    result = write_value(f, item);
                }
            });
            result?;
            f.write_str("]")
        }
        Value::Text(text) => {
            let mut word = Word::default();
            write!(word, "{text}")?;
            let quote = if word.any && !word.space { "" } else { "\"" };
            f.write_str(quote)?;
            write_scalar(f, value)?;
            f.write_str(quote)
        }
        scalar => write_scalar(f, scalar),
    }
}

/// Looks for what makes a text need quotes to stay one word: nothing in it, or white space.
#[derive(Default)]
struct Word {
    any: bool,
    space: bool,
}

impl Write for Word {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.any |= !text.is_empty();
        self.space |= text.contains(char::is_whitespace);
        Ok(())
    }
}
