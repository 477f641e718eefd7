//! The server's end of the handshake ("Fixed newstyle negotiation").

use super::option::{InfoRequest, OPTION_MAGIC, OptionHeader, info, kind, push_reply, reply};
use crate::export::Terms;

/// What a server begins with: the ASCII of `NBDMAGIC`.
const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;

/// Handshake flags, the client's and the server's alike.
const FIXED_NEWSTYLE: u32 = 1;
const NO_ZEROES: u32 = 1 << 1;

/// The most data of an option that is looked at, in bytes: the longest name, and room for every
/// kind of information a hundred times over.
const MAX_OPTION: u32 = 8 << 10;

/// What follows the flags in the answer to `EXPORT_NAME`, for clients that have not refused it.
const PADDING: [u8; 124] = [0; 124];

/// A client breaks the protocol, or cannot be told what is wrong: the connection has to be closed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It sets flags that it was not offered.
    #[error("client flags {0:#x}, of which some are unknown")]
    ClientFlags(u32),
    /// What should be an option is none.
    #[error("what should be an option does not begin as one")]
    OptionMagic,
    /// It names, by `EXPORT_NAME`, which has no error, an export that there is not.
    #[error("there is no such export, and EXPORT_NAME has no other way to say so")]
    NoExport,
}

/// What a client and the server agreed upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Negotiated {
    /// Replies are structured.
    pub structured: bool,
}

/// How far a handshake is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is more to come.
    More,
    /// The client goes on to transmission.
    Transmission(Negotiated),
    /// The client has left.
    Aborted,
}

/// The server's end of one handshake: bytes in, bytes out.
///
/// It holds no more than one option, 8 KiB at most; what of an option is longer is skipped.
#[derive(Debug)]
pub struct Handshake {
    terms: Terms,
    awaited: Awaited,
    /// What has come of it.
    buffer: Vec<u8>,
    structured: bool,
    padding: bool,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    ClientFlags,
    Header,
    Data(OptionHeader),
    /// The rest of an option that is too long.
    Skipped(OptionHeader, u32),
    Nothing,
}

impl Handshake {
    /// The handshake with one client, which may use the export on these terms. `out` gets what the
    /// server begins with.
    pub fn new(terms: Terms, out: &mut Vec<u8>) -> Self {
        out.extend(SERVER_MAGIC.to_be_bytes());
        out.extend(OPTION_MAGIC.to_be_bytes());
        let [_, _, flags @ ..] = (FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes();
        out.extend(flags);
        Self {
            terms,
            awaited: Awaited::ClientFlags,
            buffer: Vec::new(),
            structured: false,
            padding: true,
        }
    }

    /// Takes what has come, up to the end of a message. Says how many bytes it took, which is not
    /// all of them if several messages came at once; `out` gets what is to be sent. After
    /// [`Step::Transmission`] and [`Step::Aborted`] it takes nothing more.
    ///
    /// # Errors
    ///
    /// [`Violation`]: there is nothing to be said, the connection is to be closed.
    pub fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, Step), Violation> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let missing = self.missing();
            let taken = missing.min(rest.len());
            used += taken;
            if let Awaited::Skipped(header, left) = self.awaited {
                // No more than is left, so it fits.
                let left = left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                self.awaited = Awaited::Skipped(header, left);
            } else {
                self.buffer.extend_from_slice(&rest[..taken]);
            }
            if taken < missing {
                return Ok((used, Step::More));
            }
            let message = std::mem::take(&mut self.buffer);
            match self.awaited {
                Awaited::Nothing => return Ok((used, Step::More)),
                Awaited::ClientFlags => {
                    self.client_flags(&message)?;
                    return Ok((used, Step::More));
                }
                // Its data may be none, and then it is complete.
                Awaited::Header => self.header(&message)?,
                Awaited::Data(header) => {
                    self.awaited = Awaited::Header;
                    let step = self.option(header.kind, &message, out)?;
                    if step != Step::More {
                        self.awaited = Awaited::Nothing;
                    }
                    return Ok((used, step));
                }
                Awaited::Skipped(header, _) => {
                    self.awaited = Awaited::Header;
                    too_big(header, out);
                    return Ok((used, Step::More));
                }
            }
        }
    }

    /// Bytes that are missing from what comes next.
    fn missing(&self) -> usize {
        let length = match self.awaited {
            Awaited::ClientFlags => 4,
            Awaited::Header => OptionHeader::LENGTH,
            Awaited::Data(header) => usize::try_from(header.length).unwrap_or(usize::MAX),
            Awaited::Skipped(_, left) => usize::try_from(left).unwrap_or(usize::MAX),
            Awaited::Nothing => 0,
        };
        length.saturating_sub(self.buffer.len())
    }

    fn client_flags(&mut self, message: &[u8]) -> Result<(), Violation> {
        let flags = message.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        if flags & !(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
            return Err(Violation::ClientFlags(flags));
        }
        self.padding = flags & NO_ZEROES == 0;
        self.awaited = Awaited::Header;
        Ok(())
    }

    fn header(&mut self, message: &[u8]) -> Result<(), Violation> {
        let bytes = message.first_chunk().ok_or(Violation::OptionMagic)?;
        let header = OptionHeader::decode(*bytes)?;
        self.awaited = match header {
            OptionHeader { length: ..=MAX_OPTION, .. } => Awaited::Data(header),
            // No export has such a name.
            OptionHeader { kind: kind::EXPORT_NAME, .. } => return Err(Violation::NoExport),
            OptionHeader { length, .. } => Awaited::Skipped(header, length),
        };
        Ok(())
    }

    fn option(&mut self, kind: u32, data: &[u8], out: &mut Vec<u8>) -> Result<Step, Violation> {
        let refuse = |out: &mut Vec<u8>, error, why: &str| {
            push_reply(out, kind, error, &[why.as_bytes()]);
            Ok(Step::More)
        };
        match kind {
            kind::EXPORT_NAME => self.export_name(data, out),
            kind::ABORT => {
                push_reply(out, kind, reply::ACK, &[]);
                Ok(Step::Aborted)
            }
            kind::LIST | kind::STRUCTURED_REPLY | kind::STARTTLS if !data.is_empty() => {
                refuse(out, reply::ERR_INVALID, "this option has no data")
            }
            kind::LIST => {
                let name = self.terms.name.as_bytes();
                let length = u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes();
                let server = [&length, name, self.terms.description.as_bytes()];
                push_reply(out, kind, reply::SERVER, &server);
                push_reply(out, kind, reply::ACK, &[]);
                Ok(Step::More)
            }
            kind::STRUCTURED_REPLY => {
                self.structured = true;
                push_reply(out, kind, reply::ACK, &[]);
                Ok(Step::More)
            }
            kind::INFO | kind::GO => match InfoRequest::decode(data) {
                Some(request) => Ok(self.info(kind, &request, out)),
                None => refuse(out, reply::ERR_INVALID, "the lengths in this option do not add up"),
            },
            kind::STARTTLS => refuse(
                out,
                reply::ERR_UNSUP,
                "this server has no TLS: use a Unix socket, or a tunnel",
            ),
            kind::LIST_META_CONTEXT | kind::SET_META_CONTEXT => refuse(
                out,
                reply::ERR_UNSUP,
                "this server has no metadata contexts: it does not know what is allocated",
            ),
            _ => refuse(out, reply::ERR_UNSUP, "this server does not know this option"),
        }
    }

    fn is_export(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.terms.name.as_bytes()
    }

    fn export_name(&mut self, name: &[u8], out: &mut Vec<u8>) -> Result<Step, Violation> {
        if !self.is_export(name) {
            return Err(Violation::NoExport);
        }
        out.extend(self.terms.size.to_be_bytes());
        out.extend(self.terms.flags.to_wire(self.structured).to_be_bytes());
        if self.padding {
            out.extend(PADDING);
        }
        Ok(self.done())
    }

    fn info(&mut self, kind: u32, request: &InfoRequest<'_>, out: &mut Vec<u8>) -> Step {
        if !self.is_export(request.name) {
            let name = String::from_utf8_lossy(request.name);
            let why = format!("there is no export `{name}`; LIST says what there is");
            push_reply(out, kind, reply::ERR_UNKNOWN, &[super::cut(&why).as_bytes()]);
            return Step::More;
        }
        let terms = &self.terms;
        let mut tell = |which: u16, parts: [&[u8]; 3]| {
            let [a, b, c] = parts;
            push_reply(out, kind, reply::INFO, &[&which.to_be_bytes(), a, b, c]);
        };
        let flags = terms.flags.to_wire(self.structured).to_be_bytes();
        tell(info::EXPORT, [&terms.size.to_be_bytes(), &flags, &[]]);
        if request.wants(info::NAME) {
            tell(info::NAME, [terms.name.as_bytes(), &[], &[]]);
        }
        if request.wants(info::DESCRIPTION) && !terms.description.is_empty() {
            tell(info::DESCRIPTION, [terms.description.as_bytes(), &[], &[]]);
        }
        if request.wants(info::BLOCK_SIZE) {
            let sizes = terms.block_sizes;
            let [minimum, preferred, most] =
                [sizes.minimum(), sizes.preferred(), terms.max_payload].map(u32::to_be_bytes);
            tell(info::BLOCK_SIZE, [&minimum, &preferred, &most]);
        }
        push_reply(out, kind, reply::ACK, &[]);
        if kind == kind::GO { self.done() } else { Step::More }
    }

    fn done(&self) -> Step {
        Step::Transmission(Negotiated { structured: self.structured })
    }
}

/// Refuses an option that was skipped.
fn too_big(header: OptionHeader, out: &mut Vec<u8>) {
    let why = format!("an option has {MAX_OPTION} bytes at most, and this one {}", header.length);
    push_reply(out, header.kind, reply::ERR_TOO_BIG, &[why.as_bytes()]);
}

#[cfg(test)]
mod tests;
