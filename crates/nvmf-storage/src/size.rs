//! Sizes as people write them: `256M`, `1.5GiB`, `4096`.

use crate::Geometry;

/// Parses a number of bytes: digits, perhaps with a decimal fraction, and perhaps a unit.
///
/// Units are `K`, `M`, `G`, `T` and `P`, powers of 1024, in either case, each alone or followed by
/// `i`, `iB` or `B` (all the same); `B` alone, or no unit, is bytes. A fraction must come out as
/// whole bytes. Zero is a size here; what needs more checks itself.
///
/// ```
/// use nvmf_storage::parse_size;
/// assert_eq!(parse_size("256M"), Ok(256 << 20));
/// assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
/// assert_eq!(parse_size("4096"), Ok(4096));
/// assert!(parse_size("0.3K").is_err());
/// ```
///
/// # Errors
///
/// [`SizeError`], which quotes the text.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let malformed = || SizeError::Malformed { text: text.into() };
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let shift = unit_shift(unit).ok_or_else(malformed)?;

    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && !fraction.contains('.') => {
            (whole, fraction)
        }
        Some(_) => return Err(malformed()),
        None => (number, ""),
    };
    if whole.is_empty() {
        return Err(malformed());
    }
    let too_large = || SizeError::TooLarge { text: text.into() };
    // The only way to fail for a string of digits is too many of them.
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let bytes = u128::from(whole) << shift;
    let bytes = bytes + fraction_bytes(fraction, shift).ok_or_else(malformed)?;
    match u64::try_from(bytes) {
        Ok(bytes) if bytes <= Geometry::MAX_BYTES => Ok(bytes),
        _ => Err(too_large()),
    }
}

/// The power of two a unit stands for.
fn unit_shift(unit: &str) -> Option<u32> {
    let mut rest = unit.chars();
    let shift = match rest.next().map(|c| c.to_ascii_uppercase()) {
        None | Some('B') => 0,
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some('P') => 50,
        Some(_) => return None,
    };
    match (shift, rest.as_str()) {
        (_, "") | (10.., "i" | "iB" | "B" | "ib" | "b" | "I" | "IB") => Some(shift),
        _ => None,
    }
}

/// The decimal digits after the point, times the unit, if that is whole bytes.
fn fraction_bytes(digits: &str, shift: u32) -> Option<u128> {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    // 2^-n has n digits, so no more than the 50 of a byte in `P` make sense; far fewer do for people,
    // and 20 keep the arithmetic in 128 bits (10^20 < 2^67, times 2^50).
    if digits.len() > 20 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    let scaled = digits.parse::<u128>().ok()? << shift;
    scaled.is_multiple_of(scale).then(|| scaled / scale)
}

/// Writes a number of bytes with the largest unit that keeps it whole; [`parse_size`] reads it back.
///
/// ```
/// use nvmf_storage::display_size;
/// assert_eq!(display_size(256 << 20), "256M");
/// assert_eq!(display_size(3 << 29), "1536M");
/// assert_eq!(display_size(513), "513");
/// ```
#[must_use]
pub fn display_size(bytes: u64) -> String {
    for (shift, unit) in [(50, 'P'), (40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// Not a number with a unit, or not whole bytes.
    #[error("`{text}` is not a size; write bytes (4096) or K, M, G, T (256M, 1.5G)")]
    Malformed {
        /// The text.
        text: String,
    },
    /// More than [`Geometry::MAX_BYTES`].
    #[error("`{text}` is too large; the most is {} bytes", Geometry::MAX_BYTES)]
    TooLarge {
        /// The text.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_powers_of_1024_in_every_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("1k", 1 << 10),
            ("1K", 1 << 10),
            ("2Ki", 2 << 10),
            ("2KiB", 2 << 10),
            ("2KB", 2 << 10),
            ("256M", 256 << 20),
            ("1GiB", 1 << 30),
            ("3t", 3 << 40),
            ("1P", 1 << 50),
            ("007M", 7 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn fractions_are_exact_or_refused() {
        assert_eq!(parse_size("1.5G"), Ok(3 << 29));
        assert_eq!(parse_size("0.5K"), Ok(512));
        assert_eq!(parse_size("1.0"), Ok(1));
        assert_eq!(parse_size("2.50M"), Ok(5 << 19));
        for text in ["1.5", "0.3K", "1.0001K", "1.000000000000000000000000001T"] {
            assert!(matches!(parse_size(text), Err(SizeError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_its_own_words() {
        for text in [
            "", " ", "M", "-1", "+1", "1 M", " 1M", "1M ", "1.M", ".5M", "1..5M", "1.5.5M", "1X",
            "1Mx", "1Bi", "1MM", "0x10", "1e3", "٣M", "1MiBB",
        ] {
            let error = parse_size(text).unwrap_err();
            assert_eq!(error, SizeError::Malformed { text: text.into() });
            assert!(error.to_string().contains(&format!("`{text}`")));
        }
    }

    #[test]
    fn sizes_past_the_largest_offset_are_too_large() {
        assert_eq!(parse_size("9223372036854775807"), Ok(Geometry::MAX_BYTES));
        for text in
            ["9223372036854775808", "8192P", "18446744073709551616", "99999999999999999999999P"]
        {
            assert_eq!(parse_size(text), Err(SizeError::TooLarge { text: text.into() }));
        }
    }

    proptest! {
        #[test]
        fn a_displayed_size_reads_back(bytes in 0..=Geometry::MAX_BYTES, zeros in 0_u32..63) {
            let bytes = bytes >> zeros << zeros;
            prop_assert_eq!(parse_size(&display_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9.]{0,40}[a-zA-Z]{0,4}|\\PC{0,12}") {
            let _ = parse_size(&text);
        }
    }
}
