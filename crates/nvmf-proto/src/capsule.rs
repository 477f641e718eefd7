//! Where the data of a received command is (Base 2.1, section 4.3.2; NVMe/TCP 1.1, 3.3).

use nvme_spec::{SglDescriptor, Sqe};

use crate::Violation;

/// Where a command's data is, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataLocation {
    /// There is none.
    None,
    /// In the capsule, right behind the command.
    InCapsule {
        /// Bytes, at least 1.
        length: u32,
    },
    /// With the transport: fetched or sent when the controller asks.
    Transport {
        /// Bytes, at least 1.
        length: u32,
    },
}

impl DataLocation {
    /// The length of the data in bytes, 0 where there is none.
    pub fn length(self) -> u32 {
        match self {
            Self::None => 0,
            Self::InCapsule { length } | Self::Transport { length } => length,
        }
    }
}

/// Checks a command's flags and SGL against the bytes that came in its capsule.
///
/// A command without data may carry any descriptor of length 0: hosts differ there. Both halves of
/// a fused operation pass: whether there is such a one is for who executes commands to say.
pub fn locate_data(sqe: &Sqe, in_capsule: u32) -> Result<DataLocation, Violation> {
    if sqe.psdt() != Sqe::PSDT_SGL >> 6 {
        return Err(Violation::DataPointer { psdt: sqe.psdt() });
    }
    // The reserved value, and the bits where no command has a FUSE field.
    if sqe.fuse() == Sqe::FUSE_MASK || (sqe.is_fabrics() && sqe.fuse() != 0) {
        return Err(Violation::Fused { fuse: sqe.fuse() });
    }
    let sgl = &sqe.sgl;
    let length = sgl.length.get();
    match sgl.identifier {
        0 if length == 0 && in_capsule == 0 => return Ok(DataLocation::None),
        SglDescriptor::IN_CAPSULE | SglDescriptor::TRANSPORT => {}
        identifier => return Err(Violation::SglType { identifier }),
    }
    if sgl.address != 0 {
        return Err(Violation::SglOffset { address: sgl.address.get() });
    }
    match sgl.identifier {
        SglDescriptor::IN_CAPSULE if length != in_capsule => {
            Err(Violation::SglLength { length, actual: in_capsule })
        }
        SglDescriptor::TRANSPORT if in_capsule != 0 => {
            Err(Violation::StrayCapsuleData { actual: in_capsule })
        }
        _ if length == 0 => Ok(DataLocation::None),
        SglDescriptor::IN_CAPSULE => Ok(DataLocation::InCapsule { length }),
        _ => Ok(DataLocation::Transport { length }),
    }
}
