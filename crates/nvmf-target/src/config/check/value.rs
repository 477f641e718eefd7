//! Values that have a form of their own.

use std::net::SocketAddr;

use uuid::Uuid;

/// `IP:PORT` or `[IP6]:PORT`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{}` is no address; write IP:PORT or [IP6]:PORT, no names", text.escape_debug())
    })
}

/// A model number or firmware revision: 1 to `most` printable ASCII characters, no space at either
/// end, where it would be padding.
pub(super) fn identity_text(text: &str, most: usize) -> Result<String, String> {
    let form = format!("use 1 to {most} printable ASCII characters without spaces at the ends");
    if text.is_empty() {
        return Err(format!("this is empty; {form}"));
    }
    if let Some(c) = text.chars().find(|c| *c != ' ' && !c.is_ascii_graphic()) {
        return Err(format!("there is a {c:?} in it; {form}"));
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(format!("there is a space at an end; {form}"));
    }
    match text.len() {
        len if len > most => Err(format!("this has {len} characters; {form}")),
        _ => Ok(text.to_owned()),
    }
}

/// A UUID as RFC 9562 writes it, or without hyphens; not all zero, which is none.
pub(super) fn uuid(text: &str) -> Result<[u8; 16], String> {
    let right = matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok()).flatten();
    right.filter(|uuid| !uuid.is_nil()).map(Uuid::into_bytes).ok_or_else(|| {
        format!(
            "`{}` is no UUID; write 8-4-4-4-12 hexadecimal digits, not all zero",
            text.escape_debug()
        )
    })
}

/// Hexadecimal digits, not all zero, which is none.
pub(super) fn hex<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let wrong = || {
        let digits = N * 2;
        format!("`{}` is not {digits} hexadecimal digits, not all zero", text.escape_debug())
    };
    let mut bytes = [0; N];
    if text.len() != N * 2 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        let pair = text.get(at..at + 2).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    if bytes == [0; N] { Err(wrong()) } else { Ok(bytes) }
}
