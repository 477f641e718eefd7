//! The data of commands: owned for commands that are waited for later, borrowed for those that
//! are waited for at once.

use std::io::{IoSlice, IoSliceMut};

use bytes::{Bytes, BytesMut};

/// Data owned by an outstanding command, in any number of pieces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Data {
    /// None.
    #[default]
    None,
    /// Bytes for the controller.
    Write(Vec<Bytes>),
    /// Room for bytes from the controller.
    Read(Vec<BytesMut>),
}

impl Data {
    /// Room for `length` bytes from the controller.
    pub fn read(length: usize) -> Self {
        Self::Read(vec![BytesMut::zeroed(length)])
    }

    /// These bytes for the controller.
    pub fn write(bytes: impl Into<Bytes>) -> Self {
        Self::Write(vec![bytes.into()])
    }

    /// The length of all pieces in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Write(pieces) => pieces.iter().map(Bytes::len).sum(),
            Self::Read(pieces) => pieces.iter().map(BytesMut::len).sum(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes in one piece; without a copy where they are in one piece.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::Write(mut pieces) if pieces.len() == 1 => pieces.remove(0),
            Self::Read(mut pieces) if pieces.len() == 1 => pieces.remove(0).freeze(),
            Self::Write(pieces) => pieces.concat().into(),
            Self::Read(pieces) => pieces.concat().into(),
        }
    }
}

/// Data borrowed for a command that is waited for at once, in any number of pieces.
#[derive(Debug)]
pub enum Transfer<'a> {
    /// None.
    None,
    /// Bytes for the controller.
    Write(&'a [IoSlice<'a>]),
    /// Room for bytes from the controller.
    Read(&'a mut [IoSliceMut<'a>]),
}

impl Transfer<'_> {
    /// The length of all pieces in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Write(pieces) => pieces.iter().map(|p| p.len()).sum(),
            Self::Read(pieces) => pieces.iter().map(|p| p.len()).sum(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Calls `each` with the parts of `pieces` that make up `length` bytes at `offset`.
pub(crate) fn for_each_part<'a, P: AsRef<[u8]> + ?Sized + 'a>(
    pieces: impl Iterator<Item = &'a P>,
    offset: usize,
    length: usize,
    each: &mut dyn FnMut(&'a [u8]),
) {
    let (mut skip, mut left) = (offset, length);
    for piece in pieces {
        let piece = piece.as_ref();
        if skip >= piece.len() {
            skip -= piece.len();
            continue;
        }
        let part = &piece[skip..piece.len().min(skip.saturating_add(left))];
        skip = 0;
        left -= part.len();
        if !part.is_empty() {
            each(part);
        }
        if left == 0 {
            return;
        }
    }
}

/// The rest, from `offset` on, of the piece that holds the byte at `offset`; empty past the end.
pub(crate) fn room_at<'a, P: AsMut<[u8]> + ?Sized + 'a>(
    pieces: impl Iterator<Item = &'a mut P>,
    offset: usize,
) -> &'a mut [u8] {
    let mut skip = offset;
    for piece in pieces {
        let piece = piece.as_mut();
        if skip < piece.len() {
            return &mut piece[skip..];
        }
        skip -= piece.len();
    }
    &mut []
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pieces: &[&[u8]], offset: usize, length: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for_each_part(pieces.iter().copied(), offset, length, &mut |p| out.push(p.to_vec()));
        out
    }

    #[test]
    fn a_range_over_several_pieces_comes_in_its_parts() {
        let pieces: &[&[u8]] = &[b"abc", b"", b"de", b"fgh"];
        assert_eq!(parts(pieces, 0, 8), [b"abc".to_vec(), b"de".to_vec(), b"fgh".to_vec()]);
        assert_eq!(parts(pieces, 2, 4), [b"c".to_vec(), b"de".to_vec(), b"f".to_vec()]);
        assert_eq!(parts(pieces, 3, 1), [b"d".to_vec()]);
        assert_eq!(parts(pieces, 8, 1), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn room_is_the_rest_of_the_piece() {
        let mut pieces = [vec![1, 2, 3], vec![], vec![4, 5]];
        assert_eq!(room_at(pieces.iter_mut(), 1), [2, 3]);
        assert_eq!(room_at(pieces.iter_mut(), 3), [4, 5]);
        assert!(room_at(pieces.iter_mut(), 5).is_empty());
    }

    #[test]
    fn data_in_pieces_becomes_one() {
        assert_eq!(Data::Write(vec!["ab".into(), "c".into()]).into_bytes(), "abc");
        assert_eq!(Data::read(3).len(), 3);
        assert!(Data::None.is_empty());
    }
}
