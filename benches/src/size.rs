//! Sizes as people write them.

/// The largest size of anything here, in bytes.
pub const MOST: u32 = 256 << 20;

/// Bytes, or with a k or an M behind: 1 to [`MOST`].
///
/// # Errors
///
/// What a size is, for whoever wrote another.
pub fn parse(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        _ => (text, 1),
    };
    digits
        .parse::<u32>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .filter(|n| (1..=MOST).contains(n))
        .ok_or_else(|| format!("a size is 1 to {MOST} bytes, as in 4096 or 4k"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("128k"), Ok(128 << 10));
        for text in ["", "k", "0", "4g", "1000M", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
