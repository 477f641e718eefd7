//! What a subsystem calls itself in Identify data: its serial number (Base 2.1, section
//! 5.1.13.2.1, SN).

use std::fmt;

use nvme_spec::Nqn;
use uuid::Uuid;

/// The serial number of an NVM subsystem: 1 to 20 printable ASCII characters.
///
/// All controllers of a subsystem report the same one, and hosts that assemble paths to a
/// subsystem (Linux's multipath among them) take a changed serial number for another disk. So
/// where none is configured it has to follow from something that stays: [`SerialNumber::derived`].
///
/// ```
/// use nvme_spec::Nqn;
/// use nvmf::controller::SerialNumber;
///
/// let subsystem = Nqn::parse_strict("nqn.2026-01.org.example:disks").unwrap();
/// let serial = SerialNumber::derived(&subsystem);
/// assert_eq!(serial, SerialNumber::derived(&subsystem));
/// assert_eq!(serial.as_str().len(), 20);
/// assert!(SerialNumber::new("").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SerialNumber(String);

/// Why a text is not a serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SerialNumberError {
    /// There is none.
    #[error("the serial number is empty")]
    Empty,
    /// The field has 20 bytes.
    #[error("the serial number has {0} characters; at most 20 are allowed")]
    TooLong(usize),
    /// Only printable ASCII is allowed, and no space at either end, where it would be padding.
    #[error("the serial number has {found:?} at character {at}")]
    Character {
        /// Its index, from 0.
        at: usize,
        /// What stands there.
        found: char,
    },
}

impl SerialNumber {
    /// The most characters of a serial number.
    pub const MAX: usize = 20;

    /// A serial number as configured.
    ///
    /// # Errors
    ///
    /// [`SerialNumberError`] unless the text is 1 to 20 printable ASCII characters that neither
    /// begin nor end with a space.
    pub fn new(text: &str) -> Result<Self, SerialNumberError> {
        let last = text.chars().count().checked_sub(1).ok_or(SerialNumberError::Empty)?;
        let wrong = |(at, c): &(usize, char)| match c {
            ' ' => *at == 0 || *at == last,
            c => !c.is_ascii_graphic(),
        };
        if let Some((at, found)) = text.chars().enumerate().find(wrong) {
            return Err(SerialNumberError::Character { at, found });
        }
        if last >= Self::MAX {
            return Err(SerialNumberError::TooLong(last + 1));
        }
        Ok(Self(text.into()))
    }

    /// The serial number that follows from the subsystem's name: 20 hexadecimal digits, always
    /// the same for the same name.
    pub fn derived(subsystem: &Nqn) -> Self {
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, subsystem.as_bytes());
        let mut digits = hash.simple().to_string();
        // The digit that says "version 5" is the same in all of them; the rest tells apart.
        digits.remove(12);
        digits.truncate(Self::MAX);
        digits.make_ascii_uppercase();
        Self(digits)
    }

    /// The serial number, without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nqn(text: &str) -> Nqn {
        Nqn::lenient(text).unwrap()
    }

    #[test]
    fn a_derived_serial_number_never_changes() {
        // Hosts remember it: a change of the derivation is a change of everybody's disks.
        let serial = SerialNumber::derived(&nqn("nqn.2026-01.org.example:one"));
        assert_eq!(serial.as_str(), "161C34E56054D78A2663");
        assert_eq!(SerialNumber::new(serial.as_str()), Ok(serial));
    }

    #[test]
    fn other_subsystems_have_other_serial_numbers() {
        let one = SerialNumber::derived(&nqn("nqn.2026-01.org.example:one"));
        let two = SerialNumber::derived(&nqn("nqn.2026-01.org.example:two"));
        assert_ne!(one, two);
    }

    #[test]
    fn what_the_field_cannot_hold_is_refused() {
        assert_eq!(SerialNumber::new(""), Err(SerialNumberError::Empty));
        assert_eq!(SerialNumber::new(&"x".repeat(21)), Err(SerialNumberError::TooLong(21)));
        let at = |at, found| Err(SerialNumberError::Character { at, found });
        assert_eq!(SerialNumber::new("a\n"), at(1, '\n'));
        assert_eq!(SerialNumber::new("é"), at(0, 'é'));
        assert_eq!(SerialNumber::new(" a"), at(0, ' '));
        assert_eq!(SerialNumber::new("a "), at(1, ' '));
        assert!(SerialNumber::new("a b").is_ok());
        assert!(SerialNumber::new(&"x".repeat(20)).is_ok());
    }
}
