//! What a client sends, message by message.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

use crate::protocol::{BadMagic, RequestHeader};

/// Room for many requests that came together.
const BUFFER: usize = 64 << 10;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Magic(#[from] BadMagic),
    #[error("the connection ended in the middle of a message")]
    Cut,
    #[error("the client began a message and did not go on")]
    Stalled,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The client's stream, and what of it was received and not yet looked at.
#[derive(Debug)]
pub(super) struct Incoming<R> {
    stream: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: Read> Incoming<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: vec![0; BUFFER].into(), start: 0, end: 0 }
    }

    /// What there is, at least a byte of it; nothing at the end. Waits for as long as the stream's
    /// reads do.
    pub(super) fn some(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.end = self.receive()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// So many bytes of it are done with.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start = self.end.min(self.start.saturating_add(bytes));
    }

    /// The next request, up to its data; `None` at the end. In front of a request the client may
    /// take its time.
    pub(super) fn request(&mut self) -> Result<Option<RequestHeader>, Broken> {
        while self.end - self.start < RequestHeader::LENGTH {
            let begun = self.start < self.end;
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            match self.receive() {
                Ok(0) if begun => return Err(Broken::Cut),
                Ok(0) => return Ok(None),
                Ok(received) => self.end += received,
                Err(error) if is_silence(&error) && !begun => {}
                Err(error) => return Err(broken(error)),
            }
        }
        let bytes = self.buffer[self.start..].first_chunk().ok_or(Broken::Cut)?;
        let request = RequestHeader::decode(bytes)?;
        self.start += RequestHeader::LENGTH;
        Ok(Some(request))
    }

    /// The next bytes: what is buffered, and the rest straight from the stream.
    pub(super) fn payload(&mut self, length: usize) -> Result<Bytes, Broken> {
        let mut payload = BytesMut::zeroed(length);
        let mut filled = self.take(&mut payload);
        while filled < length {
            match self.stream.read(&mut payload[filled..]) {
                Ok(0) => return Err(Broken::Cut),
                Ok(received) => filled += received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(payload.freeze())
    }

    /// Takes the next bytes in and forgets them.
    pub(super) fn discard(&mut self, mut length: usize) -> Result<(), Broken> {
        while length > 0 {
            let there = self.some().map_err(broken)?.len();
            if there == 0 {
                return Err(Broken::Cut);
            }
            let discarded = there.min(length);
            self.consume(discarded);
            length -= discarded;
        }
        Ok(())
    }

    /// Moves what is buffered, as much as there is room for.
    fn take(&mut self, into: &mut [u8]) -> usize {
        let there = &self.buffer[self.start..self.end];
        let taken = there.len().min(into.len());
        into[..taken].copy_from_slice(&there[..taken]);
        self.start += taken;
        taken
    }

    /// Receives behind what is there.
    fn receive(&mut self) -> io::Result<usize> {
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// The stream's patience has ended.
pub(super) fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn broken(error: io::Error) -> Broken {
    if is_silence(&error) { Broken::Stalled } else { Broken::Io(error) }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::testing::request;

    /// A stream that comes in these segments; an empty one is a silence, the last the end.
    struct Segments(VecDeque<Vec<u8>>);

    impl Read for Segments {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(mut segment) = self.0.pop_front() else { return Ok(0) };
            if segment.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = segment.len().min(into.len());
            into[..taken].copy_from_slice(&segment[..taken]);
            segment.drain(..taken);
            if !segment.is_empty() {
                self.0.push_front(segment);
            }
            Ok(taken)
        }
    }

    fn incoming(segments: &[&[u8]]) -> Incoming<Segments> {
        Incoming::new(Segments(segments.iter().map(|segment| segment.to_vec()).collect()))
    }

    #[test]
    fn silence_is_borne_between_requests_and_nowhere_else() {
        let read = request(0, 0, 1, 0, 512);
        let mut quiet = incoming(&[b"", b"", &read, b"", &read[..5], b"", &read[5..]]);
        assert_eq!(quiet.request().unwrap().unwrap().cookie(), 1);
        assert!(matches!(quiet.request(), Err(Broken::Stalled)));
        let mut payload = incoming(&[&request(1, 0, 1, 0, 4), b"ab", b"", b"cd"]);
        assert_eq!(payload.request().unwrap().unwrap().payload(), 4);
        assert!(matches!(payload.payload(4), Err(Broken::Stalled)));
        let mut skipped = incoming(&[b"ab", b"", b"cd"]);
        assert!(matches!(skipped.discard(4), Err(Broken::Stalled)));
    }

    #[test]
    fn an_end_within_a_message_is_told_from_one_between() {
        let read = request(0, 0, 1, 0, 512);
        let mut ended = incoming(&[&read]);
        assert!(ended.request().unwrap().is_some());
        assert!(ended.request().unwrap().is_none());
        for length in 1..28 {
            assert!(matches!(incoming(&[&read[..length]]).request(), Err(Broken::Cut)));
        }
        assert!(matches!(incoming(&[b"abc"]).payload(4), Err(Broken::Cut)));
        assert!(matches!(incoming(&[b"abc"]).discard(4), Err(Broken::Cut)));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let bad = [&b"\0"[..], &request(0, 0, 0, 0, 0)[1..]].concat();
        assert!(matches!(incoming(&[&bad]).request(), Err(Broken::Magic(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 300, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn requests_and_data_come_whole_however_the_stream_is_cut(
            writes in prop::collection::vec((any::<u8>(), 0usize..300, any::<bool>()), 1..20),
            cuts in prop::collection::vec(1usize..200, 1..8),
        ) {
            let mut stream = Vec::new();
            // The data of each are its cookie, again and again.
            for (byte, length, _) in &writes {
                let cookie = u64::from(*byte);
                stream.extend(request(1, 0, cookie, 0, u32::try_from(*length).unwrap()));
                stream.extend(std::iter::repeat_n(*byte, *length));
            }
            let mut segments = VecDeque::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (segment, more) = rest.split_at((*cut).min(rest.len()));
                segments.push_back(segment.to_vec());
                rest = more;
            }
            let mut incoming = Incoming::new(Segments(segments));
            for (byte, length, refused) in writes {
                let request = incoming.request().unwrap().unwrap();
                prop_assert_eq!((request.cookie(), request.payload() as usize), (byte.into(), length));
                if refused {
                    incoming.discard(length).unwrap();
                } else {
                    let payload = incoming.payload(length).unwrap();
                    prop_assert_eq!(payload, vec![byte; length]);
                }
            }
            prop_assert!(incoming.request().unwrap().is_none());
        }
    }
}
