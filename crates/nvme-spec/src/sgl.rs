//! Scatter Gather List descriptors (Base 2.1, section 4.3.2).

use zerocopy::little_endian::{U32, U64};

use crate::wire::wire;

wire! {
    /// An SGL descriptor: 16 bytes. NVMe/TCP carries exactly one, in the command itself.
    #[derive(Debug)]
    pub struct SglDescriptor: 16 bytes {
        /// Memory address, or the offset of in-capsule data.
        0 => address: U64,
        /// Length of the data in bytes.
        8 => length: U32,
        /// Reserved.
        12 => reserved: [u8; 3],
        /// SGL descriptor type (bits 7:4) and sub type (bits 3:0).
        15 => identifier: u8,
    }
}

impl SglDescriptor {
    /// SGL Data Block descriptor, Offset sub type: data inside the capsule.
    pub const IN_CAPSULE: u8 = 0x01;
    /// Transport SGL Data Block descriptor: data moved by the transport (R2T or C2HData).
    pub const TRANSPORT: u8 = 0x5a;

    /// A descriptor for `length` bytes of data inside the capsule, at offset 0.
    pub fn in_capsule(length: u32) -> Self {
        Self { length: U32::new(length), identifier: Self::IN_CAPSULE, ..Self::default() }
    }

    /// A descriptor for `length` bytes that the transport moves.
    pub fn transport(length: u32) -> Self {
        Self { length: U32::new(length), identifier: Self::TRANSPORT, ..Self::default() }
    }
}
