//! Text in fixed fields: ASCII, left justified, padded with spaces.

use core::fmt;

/// Fills a field with ASCII text, left justified, padded with spaces.
///
/// What does not fit is cut off, and what is not printable ASCII becomes `?`.
pub fn write_ascii(field: &mut [u8], text: &str) {
    field.fill(b' ');
    for (to, from) in field.iter_mut().zip(text.chars()) {
        let printable = matches!(from, ' '..='~');
        *to = u8::try_from(from).ok().filter(|_| printable).unwrap_or(b'?');
    }
}

/// The text of such a field: without the padding, spaces or NULs at its end, as it came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ascii<'a>(&'a [u8]);

impl<'a> Ascii<'a> {
    /// Reads a field. Everything from the first NUL on counts as padding.
    pub fn new(field: &'a [u8]) -> Self {
        let text = match field.iter().position(|&b| b == 0) {
            Some(end) => &field[..end],
            None => field,
        };
        Self(text.trim_ascii_end())
    }

    /// The text, if it is UTF-8 (as all ASCII is).
    pub fn as_str(&self) -> Option<&'a str> {
        str::from_utf8(self.0).ok()
    }

    /// The bytes of the text.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no text.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Prints the text; what is neither printable nor UTF-8 becomes U+FFFD, so that nothing a peer
/// sends can steer a terminal.
impl fmt::Display for Ascii<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Ascii<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_field_is_filled_with_spaces() {
        let mut field = [0; 8];
        write_ascii(&mut field, "abc");
        assert_eq!(&field, b"abc     ");
        write_ascii(&mut field, "");
        assert_eq!(&field, b"        ");
        write_ascii(&mut field, "0123456789");
        assert_eq!(&field, b"01234567");
        write_ascii(&mut field, "ä\n€x");
        assert_eq!(&field, b"???x    ");
    }

    #[test]
    fn padding_of_either_kind_is_cut() {
        assert_eq!(Ascii::new(b" ab c   ").as_str(), Some(" ab c"));
        assert_eq!(Ascii::new(b"ab\0\0\0").as_str(), Some("ab"));
        assert_eq!(Ascii::new(b"ab  \0xy").as_str(), Some("ab"));
        assert!(Ascii::new(b"\0\0").is_empty() && Ascii::new(b"  ").is_empty());
    }

    #[test]
    fn what_a_peer_sends_cannot_steer_a_terminal() {
        assert_eq!(Ascii::new(b"a\x1b[2Jb\xff").to_string(), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(Ascii::new(b"\xff").as_str(), None);
    }
}
