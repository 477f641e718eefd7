//! Replies ("Simple reply message", "Structured reply chunk message").

use crate::error::Failure;

use super::Negotiated;

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;

/// The chunk is the last of its reply: all of ours are.
const DONE: u16 = 1;

/// "Structured reply types".
mod kind {
    pub(super) const NONE: u16 = 0;
    pub(super) const OFFSET_DATA: u16 = 1;
    pub(super) const ERROR: u16 = 1 << 15 | 1;
}

/// A reply up to its data: a reply is one message, simple or a structured one of one chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head(Vec<u8>);

impl Head {
    /// The request was done, and there is no data.
    pub fn done(negotiated: Negotiated, cookie: u64) -> Self {
        if negotiated.structured {
            Self::chunk(kind::NONE, cookie, 0, &[])
        } else {
            Self::simple(cookie, 0)
        }
    }

    /// What was read from `offset` on: so many bytes follow.
    pub fn data(negotiated: Negotiated, cookie: u64, offset: u64, length: u32) -> Self {
        match (negotiated.structured, length) {
            // A chunk of data has at least one byte.
            (_, 0) => Self::done(negotiated, cookie),
            (true, _) => Self::chunk(kind::OFFSET_DATA, cookie, length, &[&offset.to_be_bytes()]),
            (false, _) => Self::simple(cookie, 0),
        }
    }

    /// The request failed.
    pub fn failed(negotiated: Negotiated, cookie: u64, failure: &Failure) -> Self {
        let code = failure.code().to_wire();
        if !negotiated.structured {
            return Self::simple(cookie, code);
        }
        let message = failure.message().as_bytes();
        // It has 4096 bytes at most.
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
        Self::chunk(kind::ERROR, cookie, 0, &[&code.to_be_bytes(), &length, message])
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn simple(cookie: u64, error: u32) -> Self {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend(SIMPLE_MAGIC.to_be_bytes());
        bytes.extend(error.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        Self(bytes)
    }

    /// A chunk of these parts, which so much data follows.
    fn chunk(kind: u16, cookie: u64, data: u32, parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(STRUCTURED_MAGIC.to_be_bytes());
        bytes.extend(DONE.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).unwrap_or(u32::MAX).saturating_add(data);
        bytes.extend(length.to_be_bytes());
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    const PLAIN: Negotiated = Negotiated { structured: false };
    const STRUCTURED: Negotiated = Negotiated { structured: true };
    const COOKIE: u64 = 0x0102_0304_0506_0708;
    const COOKIE_BYTES: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn simple_replies_are_error_and_cookie() {
        let head = |error: u8| [&b"\x67\x44\x66\x98\0\0\0"[..], &[error], &COOKIE_BYTES].concat();
        assert_eq!(Head::done(PLAIN, COOKIE).as_bytes(), head(0));
        assert_eq!(Head::data(PLAIN, COOKIE, 5, 512).as_bytes(), head(0));
        let failure = Failure::new(ErrorCode::Shutdown, "words that nobody will see");
        assert_eq!(Head::failed(PLAIN, COOKIE, &failure).as_bytes(), head(108));
    }

    #[test]
    fn structured_replies_are_one_last_chunk() {
        let chunk = |kind: [u8; 2], rest: &[u8]| {
            [&b"\x66\x8e\x33\xef\0\x01"[..], &kind, &COOKIE_BYTES, rest].concat()
        };
        let none = chunk([0, 0], &[0; 4]);
        assert_eq!(Head::done(STRUCTURED, COOKIE).as_bytes(), none);
        assert_eq!(Head::data(STRUCTURED, COOKIE, 5, 0).as_bytes(), none);
        // The length of the chunk has the offset in it.
        let data = chunk([0, 1], b"\0\0\x02\x08\0\0\0\0\0\0\0\x05");
        assert_eq!(Head::data(STRUCTURED, COOKIE, 5, 512).as_bytes(), data);
        let failure = Failure::new(ErrorCode::NoSpace, "full");
        let failed = chunk([0x80, 1], b"\0\0\0\x0a\0\0\0\x1c\0\x04full");
        assert_eq!(Head::failed(STRUCTURED, COOKIE, &failure).as_bytes(), failed);
    }
}
