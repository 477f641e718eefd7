//! One PDU at a time: [`Decoder`] under any segmentation of the stream, [`Batch`] for one
//! gathered send of everything that is ready (NVMe/TCP Transport 1.1, section 3.6).

mod batch;
mod decode;
mod header;

pub use batch::{Batch, MissingPayload, NoPayload, PayloadSource, Piece};
pub use decode::{Decoder, Item};
pub use header::{DataHeader, Header, Pdu, R2tHeader};

/// How PDUs are laid out on a connection, one direction of it: set by the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Header digests are on.
    pub header_digest: bool,
    /// Data digests are on.
    pub data_digest: bool,
    /// Data begins at a multiple of this many bytes: 4 to 128, any multiple of 4.
    pub alignment: u8,
}

impl Format {
    /// The layout during the handshake: no digests, no alignment but the natural one.
    pub const INITIAL: Self = Self { header_digest: false, data_digest: false, alignment: 4 };

    /// The alignment that an HPDA or CPDA of 0 to 31 asks for, in bytes.
    pub(crate) fn alignment_of(pda: u8) -> u8 {
        pda.min(nvme_spec::pdu::PDA_MAX).saturating_add(1).saturating_mul(4)
    }

    /// Length of the header digest in bytes: 4 or 0.
    pub(crate) fn header_digest_len(self) -> u8 {
        if self.header_digest { 4 } else { 0 }
    }

    /// Length of the digest behind `data` bytes: 4 or 0.
    pub(crate) fn data_digest_len(self, data: u32) -> u32 {
        if self.data_digest && data > 0 { 4 } else { 0 }
    }

    /// Where data begins behind a header of `hlen` bytes.
    pub(crate) fn data_offset(self, hlen: u8) -> u8 {
        // At most 72 + 4 rounded up to a multiple of at most 128: 144 fits.
        (hlen + self.header_digest_len()).next_multiple_of(self.alignment.max(4))
    }
}
