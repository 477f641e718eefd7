//! Printing.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use comfy_table::presets;
use nvmf::spec::print::{Fields, Json, Table};

use crate::args::Format;

/// Prints to standard output, at once.
pub(crate) fn print(text: impl fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints a structure in the format that was asked for.
pub(crate) fn show<T: Fields + ?Sized>(format: Format, value: &T) -> io::Result<()> {
    match format {
        Format::Json => print(format_args!("{:#}", Json(value))),
        Format::Normal => print(Table(value)),
    }
}

/// A table without lines, of rows that are alike.
pub(crate) fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// An address that reaches this machine from itself.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Bytes as people read them: offset, sixteen of them in hexadecimal, and their text.
pub(crate) struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, bytes) in self.0.chunks(16).enumerate() {
            if row > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{:04x}:", row * 16)?;
            for column in 0..16 {
                match bytes.get(column) {
                    Some(byte) => write!(f, " {byte:02x}")?,
                    None => f.write_str("   ")?,
                }
            }
            let text = bytes.iter().map(|b| if (32..127).contains(b) { *b as char } else { '.' });
            write!(f, "  {}", text.collect::<String>())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_in_rows_of_sixteen_with_their_text() {
        let shown = Hex(b"0123456789abcdefgh\0").to_string();
        let rows: Vec<_> = shown.lines().collect();
        assert!(rows[0].starts_with("0000: 30 31 32") && rows[0].ends_with("  0123456789abcdef"));
        assert!(rows[1].starts_with("0010: 67 68 00  ") && rows[1].ends_with("  gh."));
        assert_eq!(rows.len(), 2);
    }
}
