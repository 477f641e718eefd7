//! One connection, at either end: bytes in, PDUs out.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::TcpStream;

use rustix::io::{Errno, readv};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use zerocopy::IntoBytes;

use crate::wire::{COMMAND, HEADER, Header};

/// What an end does with what comes.
pub(crate) trait End {
    /// Something has come, and is taken apart now.
    fn received(&mut self) {}

    /// Where in the memory the payload behind `header` belongs.
    fn place(&self, header: &Header) -> usize;

    /// A PDU is there, with all of its payload; the answer goes to `outgoing`.
    fn take(&mut self, header: &Header, outgoing: &mut Outgoing);
}

/// Bytes taken with one receive at most.
const RECEIVE: usize = 1 << 20;

/// As many pieces as Linux takes with one send.
const PIECES: usize = 1024;

pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Box<[u8]>,
    /// What of the buffer is the beginning of a PDU.
    filled: usize,
    /// The PDU whose payload is coming.
    payload: Option<Payload>,
    pub(crate) outgoing: Outgoing,
}

struct Payload {
    header: Header,
    /// Where in the memory the next byte belongs.
    at: usize,
    left: usize,
}

impl Connection {
    pub(crate) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let buffer = vec![0; RECEIVE].into_boxed_slice();
        Ok(Self { socket, buffer, filled: 0, payload: None, outgoing: Outgoing::default() })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Receives once, and gives each PDU that is complete with that to `end`.
    ///
    /// The rest of a payload goes to where it belongs, without a copy.
    pub(crate) fn receive(&mut self, memory: &mut [u8], end: &mut impl End) -> io::Result<()> {
        let received = match &self.payload {
            None => recv(&self.socket, &mut self.buffer[self.filled..], RecvFlags::empty())
                .map(|(n, _)| n),
            Some(payload) => {
                let rest = IoSliceMut::new(piece(memory, payload.at, payload.left)?);
                readv(&self.socket, &mut [rest, IoSliceMut::new(&mut self.buffer)])
            }
        };
        let mut n = match received {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        end.received();
        if let Some(payload) = &mut self.payload {
            if n < payload.left {
                payload.at += n;
                payload.left -= n;
                return Ok(());
            }
            n -= payload.left;
            end.take(&payload.header, &mut self.outgoing);
            self.payload = None;
        }
        self.filled += n;
        self.take_apart(memory, end)
    }

    fn take_apart(&mut self, memory: &mut [u8], end: &mut impl End) -> io::Result<()> {
        let mut at = 0;
        while let Some(header) = Header::read(&self.buffer[at..self.filled]) {
            at += header.len();
            let length = header.payload.get() as usize;
            if length > 0 {
                let place = end.place(&header);
                let destination = piece(memory, place, length)?;
                let here = length.min(self.filled - at);
                destination[..here].copy_from_slice(&self.buffer[at..at + here]);
                at += here;
                if here < length {
                    self.payload = Some(Payload { header, at: place + here, left: length - here });
                    break;
                }
            }
            end.take(&header, &mut self.outgoing);
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    /// Sends what there is to be sent, as far as the other end takes it.
    pub(crate) fn flush(&mut self, memory: &[u8]) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let mut pieces = reuse(std::mem::take(&mut self.outgoing.spare));
            self.outgoing.pieces(memory, &mut pieces)?;
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = sendmsg(&self.socket, &pieces, &mut SendAncillaryBuffer::default(), flags);
            self.outgoing.spare = reuse(pieces);
            match sent {
                Ok(n) => self.outgoing.advance(n),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A part of the memory, if it has that; the other end may say anything.
fn piece(memory: &mut [u8], at: usize, length: usize) -> io::Result<&mut [u8]> {
    at.checked_add(length).and_then(|end| memory.get_mut(at..end)).ok_or_else(beyond)
}

fn beyond() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other end names bytes that do not exist")
}

/// PDUs still to be sent, headers by value and payload by reference to the memory.
#[derive(Default)]
pub(crate) struct Outgoing {
    pdus: VecDeque<Pdu>,
    /// Bytes of the first PDU that are sent.
    sent: usize,
    /// The room of the last send's list, empty.
    spare: Vec<IoSlice<'static>>,
}

struct Pdu {
    header: [u8; COMMAND],
    header_len: usize,
    payload: usize,
    payload_len: usize,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.pdus.is_empty()
    }

    /// A PDU without payload.
    pub(crate) fn push(&mut self, header: Header) {
        self.push_with(header, 0, 0);
    }

    /// A PDU with `length` bytes of payload, which is in the memory at `payload`.
    pub(crate) fn push_with(&mut self, mut header: Header, payload: usize, length: u32) {
        header.payload.set(length);
        let mut bytes = [0; COMMAND];
        bytes[..HEADER].copy_from_slice(header.as_bytes());
        let header_len = header.len();
        let payload_len = length as usize;
        self.pdus.push_back(Pdu { header: bytes, header_len, payload, payload_len });
    }

    /// What to send next, as much as fits into one send.
    fn pieces<'a>(&'a self, memory: &'a [u8], pieces: &mut Vec<IoSlice<'a>>) -> io::Result<()> {
        let mut skip = self.sent;
        for pdu in self.pdus.iter().take(PIECES / 2) {
            let header = &pdu.header[..pdu.header_len];
            if skip < header.len() {
                pieces.push(IoSlice::new(&header[skip..]));
            }
            if pdu.payload_len > 0 {
                let payload =
                    memory.get(pdu.payload..pdu.payload + pdu.payload_len).ok_or_else(beyond)?;
                pieces.push(IoSlice::new(&payload[skip.saturating_sub(header.len())..]));
            }
            skip = 0;
        }
        Ok(())
    }

    /// The next `n` bytes are sent.
    fn advance(&mut self, n: usize) {
        self.sent += n;
        while let Some(first) = self.pdus.front() {
            let length = first.header_len + first.payload_len;
            if self.sent < length {
                return;
            }
            self.sent -= length;
            self.pdus.pop_front();
        }
    }
}

/// The same room for pieces of something else.
fn reuse<'b>(mut pieces: Vec<IoSlice<'_>>) -> Vec<IoSlice<'b>> {
    pieces.clear();
    pieces.into_iter().map(|_| IoSlice::new(&[])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kind;

    #[test]
    fn a_send_that_took_a_part_goes_on_behind_it() {
        let memory: Vec<u8> = (0..100).collect();
        let mut outgoing = Outgoing::default();
        outgoing.push(Header::new(kind::RESPONSE, 1));
        outgoing.push_with(Header::new(kind::DATA_TO_HOST, 2), 10, 50);
        let bytes = |outgoing: &Outgoing| -> Vec<u8> {
            let mut pieces = Vec::new();
            outgoing.pieces(&memory, &mut pieces).unwrap();
            pieces.iter().flat_map(|piece| piece.to_vec()).collect()
        };
        let all = bytes(&outgoing);
        assert_eq!(all.len(), 24 + 24 + 50);
        assert_eq!(all[48..], memory[10..60]);
        for sent in 1..=all.len() {
            outgoing.advance(1);
            assert_eq!(bytes(&outgoing), all[sent..]);
        }
        assert!(outgoing.is_empty());
    }

    #[test]
    fn payload_beyond_the_memory_is_an_error() {
        let mut outgoing = Outgoing::default();
        outgoing.push_with(Header::new(kind::DATA_TO_HOST, 2), 10, 50);
        assert!(outgoing.pieces(&[0; 59], &mut Vec::new()).is_err());
        assert!(piece(&mut [0; 10], usize::MAX, 2).is_err());
        assert!(piece(&mut [0; 10], 8, 3).is_err());
    }
}
