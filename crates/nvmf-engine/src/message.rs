//! What goes out in one gathered send.

use std::io::IoSlice;

use bytes::Bytes;

use crate::Lent;

/// Bytes for one gathered send: short ones by value, long ones by reference.
///
/// ```
/// use bytes::Bytes;
/// use nvmf_engine::Message;
///
/// let mut message = Message::new();
/// message.push(b"head");
/// message.push(b"er ");
/// message.push_shared(Bytes::from_static(b"payload"));
/// assert_eq!(message.len(), 14);
/// assert_eq!(message.segments(), 2);
/// assert_eq!(message.to_vec(), b"header payload");
/// ```
#[derive(Debug, Default)]
pub struct Message {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    len: usize,
}

#[derive(Debug)]
enum Segment {
    /// `bytes[start..end]`.
    Own {
        start: usize,
        end: usize,
    },
    Lent(Lent),
}

impl Message {
    /// An empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes by value.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.len += bytes.len();
        match self.segments.last_mut() {
            Some(Segment::Own { end, .. }) => *end += bytes.len(),
            _ => self.segments.push(Segment::Own { start, end: start + bytes.len() }),
        }
    }

    /// Appends bytes by reference.
    pub fn push_shared(&mut self, bytes: impl Into<Lent>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.segments.push(Segment::Lent(bytes));
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In how many pieces it lies: a gathered send takes 1024 at once.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Empties it for the next use, gives back what was lent, and lets `recycle` have what was
    /// sent as [`Bytes`].
    pub fn clear(&mut self, mut recycle: impl FnMut(Bytes)) {
        self.bytes.clear();
        self.len = 0;
        for segment in self.segments.drain(..) {
            if let Segment::Lent(lent) = segment
                && let Some(bytes) = lent.into_shared()
            {
                recycle(bytes);
            }
        }
    }

    /// The pieces, in order; their addresses stay the same until the message is changed or
    /// dropped, also when it is moved.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(|segment| match segment {
            Segment::Own { start, end } => &self.bytes[*start..*end],
            Segment::Lent(lent) => lent,
        })
    }

    /// The pieces behind the first `skip` bytes.
    pub(crate) fn rest(&self, mut skip: usize) -> impl Iterator<Item = &[u8]> {
        self.slices().filter_map(move |piece| {
            let left = piece.get(skip..).filter(|left| !left.is_empty());
            skip = skip.saturating_sub(piece.len());
            left
        })
    }

    /// Appends the pieces behind the first `skip` bytes, at most `max` of them, to `slices`.
    pub(crate) fn io_slices<'a>(&'a self, skip: usize, max: usize, slices: &mut Vec<IoSlice<'a>>) {
        let room = max.saturating_sub(slices.len());
        slices.extend(self.rest(skip).take(room).map(IoSlice::new));
    }

    /// All of it in one piece: for tests and logs.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slices().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_already_is_skipped_wherever_it_ends() {
        let mut message = Message::new();
        message.push(b"abc");
        message.push_shared(Bytes::from_static(b"defgh"));
        message.push(b"ij");
        let whole = message.to_vec();
        for skip in 0..whole.len() {
            let mut slices = Vec::new();
            message.io_slices(skip, 1024, &mut slices);
            let left: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(left, whole[skip..]);
        }
        let mut slices = Vec::new();
        message.io_slices(1, 2, &mut slices);
        assert_eq!(slices.len(), 2);
    }

    #[test]
    fn a_cleared_message_gives_its_shared_bytes_back_and_is_empty() {
        let mut message = Message::new();
        message.push(b"a");
        message.push_shared(Bytes::from_static(b"b"));
        let mut back = Vec::new();
        message.clear(|bytes| back.push(bytes));
        assert_eq!(back, [&b"b"[..]]);
        assert!(message.is_empty() && message.to_vec().is_empty());
        message.push(b"c");
        assert_eq!(message.to_vec(), b"c");
    }
}
