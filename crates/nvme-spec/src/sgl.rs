//! Scatter Gather List descriptors (Base 2.1, section 4.3.2).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An SGL descriptor: 16 bytes. NVMe/TCP carries exactly one, in the command itself.
#[derive(
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Debug,
)]
#[repr(C)]
pub struct SglDescriptor {
    /// Memory address, or the offset of in-capsule data.
    pub address: U64,
    /// Length of the data in bytes.
    pub length: U32,
    /// Reserved.
    pub reserved: [u8; 3],
    /// SGL descriptor type (bits 7:4) and sub type (bits 3:0).
    pub identifier: u8,
}

const _: () = assert!(size_of::<SglDescriptor>() == 16);

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
