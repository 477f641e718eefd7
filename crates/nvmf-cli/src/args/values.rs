//! The values of options: what may be written, and what it means.

use std::time::Duration;

use nvmf::spec::HostId;
use nvmf_storage::parse_size;
use nvmf_target::limits::{InCapsule, MaxTransfer};

/// CPUs by number, in the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cpus(pub Vec<usize>);

pub(crate) fn parse_hostid(text: &str) -> Result<HostId, String> {
    match text.parse::<HostId>() {
        Ok(id) if id.is_zero() => Err("a host identifier of zeroes names no host".to_owned()),
        Ok(id) => Ok(id),
        Err(e) => Err(e.to_string()),
    }
}

pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    const DAY: f64 = 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=DAY).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("seconds are 0.001 to 86400".to_owned()),
    }
}

/// Microseconds, or `forever`.
pub(crate) fn parse_spin(text: &str) -> Result<Duration, String> {
    match text {
        "forever" => Ok(Duration::MAX),
        _ => match text.parse::<u32>() {
            Ok(us) if us <= 1_000_000 => Ok(Duration::from_micros(us.into())),
            _ => Err("microseconds are 0 to 1000000, or `forever`".to_owned()),
        },
    }
}

/// A power of two.
pub(crate) fn parse_max_transfer(text: &str) -> Result<MaxTransfer, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    let most = u32::try_from(bytes).ok().and_then(MaxTransfer::new);
    most.ok_or_else(|| "it is a power of two from 8K to 1M".to_owned())
}

/// A multiple of 16.
pub(crate) fn parse_in_capsule(text: &str) -> Result<InCapsule, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    let most = u32::try_from(bytes).ok().and_then(InCapsule::new);
    most.ok_or_else(|| "it is a multiple of 16 up to 16K".to_owned())
}

/// CPUs as in 0,2,4-7.
pub(crate) fn parse_cpus(text: &str) -> Result<Cpus, String> {
    const MOST: usize = 1024;
    let wrong = || format!("CPUs are numbers below {MOST}, each once, as in 0,2 or 4-7");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().ok().filter(|cpu| *cpu < MOST);
        let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(wrong());
            }
            cpus.push(cpu);
        }
        if first > last {
            return Err(wrong());
        }
    }
    Ok(Cpus(cpus))
}

pub(crate) fn parse_byte(text: &str) -> Result<u8, String> {
    parse_number(text)
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| "a number is 0 to 255, or 0x00 to 0xff".to_owned())
}

pub(crate) fn parse_dword(text: &str) -> Result<u32, String> {
    parse_number(text).ok_or_else(|| "a number is 0 to 4294967295, or as in 0x1f".to_owned())
}

/// A number in decimal or, with `0x`, in hexadecimal.
pub(crate) fn parse_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` would take a sign.
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal_without_sign() {
        assert_eq!(parse_number("28"), Some(28));
        assert_eq!(parse_number("0x1C"), Some(28));
        for text in ["", "0x", "0x+1", "+1", "-1", "1c", "4294967296"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    #[test]
    fn cpus_are_numbers_and_ranges_each_once() {
        assert_eq!(parse_cpus("0"), Ok(Cpus(vec![0])));
        assert_eq!(parse_cpus("3,0-1"), Ok(Cpus(vec![3, 0, 1])));
        for text in ["", "a", "0,", "1-0", "0,0", "0-2,1", "-1", "1024", "0-99999999999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_spin_is_microseconds_or_forever() {
        assert_eq!(parse_spin("0"), Ok(Duration::ZERO));
        assert_eq!(parse_spin("30"), Ok(Duration::from_micros(30)));
        assert_eq!(parse_spin("forever"), Ok(Duration::MAX));
        for text in ["", "-1", "1.5", "1000001", "ever"] {
            assert!(parse_spin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "1e9", "x", ""] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
