//! Why a request fails.

use std::fmt;
use std::io;

use crate::protocol::cut;

/// The errors that the protocol has ("Error values").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `NBD_EPERM`: what would write, on an export that is read-only.
    NotPermitted = 1,
    /// `NBD_EIO`: the device failed.
    Io = 5,
    /// `NBD_ENOMEM`.
    NoMemory = 12,
    /// `NBD_EINVAL`: the request is wrong.
    Invalid = 22,
    /// `NBD_ENOSPC`: no space left, or a write past the end.
    NoSpace = 28,
    /// `NBD_EOVERFLOW`: too long.
    Overflow = 75,
    /// `NBD_ENOTSUP`: zeroes cannot be written fast.
    Unsupported = 95,
    /// `NBD_ESHUTDOWN`: the server is being stopped.
    Shutdown = 108,
}

impl ErrorCode {
    /// As it stands on the wire.
    pub fn to_wire(self) -> u32 {
        self as u32
    }
}

/// A request failed: why, for the client's program and for its user.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    code: ErrorCode,
    message: String,
}

impl Failure {
    /// What is longer than the protocol has room for is cut.
    pub fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self { code, message: cut(&message.to_string()).to_owned() }
    }

    /// For the client's program.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// For its user: 4096 bytes at most.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<io::Error> for Failure {
    /// By its kind. What no other code is for is [`ErrorCode::Io`].
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let code = match error.kind() {
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => ErrorCode::NotPermitted,
            // ENOTSUP is for zeroes that cannot be written fast, and for nothing else.
            Kind::InvalidInput | Kind::Unsupported => ErrorCode::Invalid,
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => ErrorCode::NoSpace,
            Kind::OutOfMemory => ErrorCode::NoMemory,
            _ => ErrorCode::Io,
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_errors_have_codes() {
        let code = |kind: io::ErrorKind| Failure::from(io::Error::from(kind)).code();
        assert_eq!(code(io::ErrorKind::ReadOnlyFilesystem), ErrorCode::NotPermitted);
        assert_eq!(code(io::ErrorKind::StorageFull), ErrorCode::NoSpace);
        assert_eq!(code(io::ErrorKind::Unsupported), ErrorCode::Invalid);
        assert_eq!(code(io::ErrorKind::TimedOut), ErrorCode::Io);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let failure = Failure::new(ErrorCode::Io, format!("a{}", "ß".repeat(4096)));
        assert_eq!(failure.message().len(), 4095);
    }
}
