//! Choosing an engine.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::engine::Engine;
use crate::poll::Poll;
#[cfg(target_os = "linux")]
use crate::uring::Uring;

/// Which engine somebody wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum EngineChoice {
    /// The one that works here, io_uring before readiness; for
    /// [sockets alone](EngineChoice::for_sockets_alone), readiness.
    #[default]
    Auto,
    /// This one and no other.
    Only(EngineKind),
}

impl EngineChoice {
    /// What this means to somebody who has no files to wait for: of the two, readiness takes less
    /// CPU time per command where payload is large, and no more where it is small. With files
    /// io_uring is ahead where they are written or not in the page cache, since readiness needs
    /// helper threads for what cannot be done at once.
    #[must_use]
    pub fn for_sockets_alone(self) -> Self {
        match self {
            Self::Auto => Self::Only(EngineKind::Poll),
            only => only,
        }
    }
}

/// An engine that there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum EngineKind {
    /// io_uring.
    Uring,
    /// Readiness.
    Poll,
}

/// The engine asked for does not work here.
#[derive(Debug, thiserror::Error)]
#[error(
    "io_uring does not work here: {reason}; it takes Linux 6.0 or later and a sandbox that permits it (the engine `poll` works everywhere)"
)]
pub struct Unavailable {
    reason: io::Error,
}

impl EngineKind {
    /// Finds out which engine works here, by trying it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] if just the one that does not is wanted. Where anything will do and io_uring
    /// does not, one line in the log says so.
    pub fn probe(choice: EngineChoice) -> Result<Self, Unavailable> {
        match choice {
            EngineChoice::Only(Self::Poll) => Ok(Self::Poll),
            EngineChoice::Only(Self::Uring) => {
                try_uring().map(|()| Self::Uring).map_err(|reason| Unavailable { reason })
            }
            EngineChoice::Auto => Ok(match try_uring() {
                Ok(()) => Self::Uring,
                Err(reason) => {
                    tracing::info!(%reason, "no io_uring here: sockets are polled");
                    Self::Poll
                }
            }),
        }
    }
}

#[cfg(target_os = "linux")]
fn try_uring() -> io::Result<()> {
    Uring::try_out()
}

#[cfg(not(target_os = "linux"))]
fn try_uring() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this is not Linux"))
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Poll => "poll",
        })
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(kind) => kind.fmt(f),
        }
    }
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Only(EngineKind::Uring)),
            "poll" => Ok(Self::Only(EngineKind::Poll)),
            _ => Err(format!("there is no engine `{text}`; there are auto, uring and poll")),
        }
    }
}

/// What runs on an engine, whichever it is.
pub trait Program {
    /// What comes of it.
    type Output;

    /// Runs it, on this thread.
    fn run<E: Engine>(self, engine: E) -> Self::Output;
}

/// Makes an engine on this thread and runs a program on it.
///
/// # Errors
///
/// Whatever the system has against the engine.
pub fn run<P: Program>(kind: EngineKind, program: P) -> io::Result<P::Output> {
    match kind {
        #[cfg(target_os = "linux")]
        EngineKind::Uring => Ok(program.run(Uring::new()?)),
        #[cfg(not(target_os = "linux"))]
        EngineKind::Uring => try_uring().and(Err(io::ErrorKind::Unsupported.into())),
        EngineKind::Poll => Ok(program.run(Poll::new()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_no_preference_gets_readiness_for_sockets() {
        for kind in [EngineKind::Uring, EngineKind::Poll] {
            let only = EngineChoice::Only(kind);
            assert_eq!(only.for_sockets_alone(), only);
        }
        let chosen = EngineKind::probe(EngineChoice::Auto.for_sockets_alone()).unwrap();
        assert_eq!(chosen, EngineKind::Poll);
    }

    #[test]
    fn choices_are_read_as_they_are_written() {
        for choice in [
            EngineChoice::Auto,
            EngineChoice::Only(EngineKind::Uring),
            EngineChoice::Only(EngineKind::Poll),
        ] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("epoll".parse::<EngineChoice>().unwrap_err().contains("auto, uring and poll"));
    }
}
