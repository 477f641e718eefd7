//! I/O commands: from a submission queue entry to blocks and a status.
//!
//! Nothing here knows of a transport. [`plan`] judges a command before any of its data is moved or
//! any memory taken; the [`Operation`] it gives says which data to move, and executes.

use std::io::{IoSlice, IoSliceMut};

use nvme_spec::fabrics::Disconnect;
use nvme_spec::identify::NSID_ALL;
use nvme_spec::{Sqe, Status, opcode};
use nvmf_storage::{Backend, Durability, Zero};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::association::Association;
use crate::limits::MAX_TRANSFER;
use crate::statistics::Counters;
use crate::subsystem::{Namespace, Subsystem};

/// What to do with a command that came on an I/O queue.
#[derive(Debug)]
pub(crate) enum Plan<'a> {
    /// Move its data, execute it, answer it.
    Execute(Operation<'a>),
    /// Answer it with success, then close the queue.
    Disconnect,
}

/// An I/O command whose fields are right.
#[derive(Debug)]
pub(crate) struct Operation<'a> {
    kind: Kind<'a>,
}

/// What a command does; offsets and lengths are in bytes, and inside the namespace.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Read {
        ns: &'a Namespace,
        offset: u64,
        length: u32,
        durable: bool,
    },
    Write {
        ns: &'a Namespace,
        offset: u64,
        length: u32,
        durability: Durability,
    },
    Compare {
        ns: &'a Namespace,
        offset: u64,
        length: u32,
    },
    Verify {
        ns: &'a Namespace,
        offset: u64,
        length: u32,
    },
    WriteZeroes {
        ns: &'a Namespace,
        offset: u64,
        length: u64,
        how: Zero,
    },
    Deallocate {
        ns: &'a Namespace,
        ranges: u32,
        length: u32,
    },
    /// Dataset Management that only tells how the blocks will be used.
    Hint {
        length: u32,
    },
    Flush {
        ns: &'a Namespace,
    },
    FlushAll {
        subsystem: &'a Subsystem,
    },
}

/// Which data a command has; lengths are in bytes, at most [`MAX_TRANSFER`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transfer {
    None,
    /// To be received before the command is executed.
    FromHost(u32),
    /// To be sent once it was.
    ToHost(u32),
}

/// A range of Dataset Management.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Range {
    _attributes: U32,
    blocks: U32,
    slba: U64,
}

/// Dword 12 of Read, Write and Write Zeroes: Force Unit Access.
const FUA: u32 = 1 << 30;
/// Dword 12 of Write Zeroes: Deallocate.
const DEAC: u32 = 1 << 25;
/// Dword 11 of Dataset Management: Attribute Deallocate.
const AD: u32 = 1 << 2;
/// Verify and Compare read this much at a time.
const CHUNK: usize = 64 << 10;

/// Judges a command that came on an I/O queue with `data_len` bytes of data.
pub(crate) fn plan<'a>(
    association: &'a Association,
    sqe: &Sqe,
    data_len: u32,
) -> Result<Plan<'a>, Status> {
    if sqe.is_fabrics() {
        return fabrics(sqe);
    }
    let subsystem = association.subsystem();
    let kind = match sqe.opcode {
        opcode::nvm::READ => read(subsystem, sqe)?,
        opcode::nvm::WRITE => write(association, sqe)?,
        opcode::nvm::FLUSH => flush(subsystem, sqe)?,
        opcode::nvm::WRITE_ZEROES => write_zeroes(association, sqe)?,
        opcode::nvm::DATASET_MANAGEMENT => dataset_management(subsystem, sqe, data_len)?,
        opcode::nvm::COMPARE => {
            let (ns, offset, length) = blocks(subsystem, sqe)?;
            Kind::Compare { ns, offset, length }
        }
        opcode::nvm::VERIFY => {
            let (ns, offset, length) = blocks(subsystem, sqe)?;
            Kind::Verify { ns, offset, length }
        }
        _ => return Err(Status::INVALID_OPCODE.with_dnr(true)),
    };
    let operation = Operation { kind };
    let length = match operation.transfer() {
        Transfer::None => 0,
        Transfer::FromHost(length) | Transfer::ToHost(length) => length,
    };
    if data_len != length {
        return Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true));
    }
    Ok(Plan::Execute(operation))
}

fn fabrics<'a>(sqe: &Sqe) -> Result<Plan<'a>, Status> {
    if let Some(disconnect) = Disconnect::from_sqe(sqe) {
        return match disconnect.recfmt.get() {
            0 => Ok(Plan::Disconnect),
            _ => Err(Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr(true)),
        };
    }
    Err(match sqe.fctype() {
        opcode::fabrics::CONNECT => Status::COMMAND_SEQUENCE_ERROR,
        opcode::fabrics::PROPERTY_GET | opcode::fabrics::PROPERTY_SET => Status::INVALID_QUEUE_TYPE,
        _ => Status::INVALID_OPCODE,
    }
    .with_dnr(true))
}

/// The namespace that a command is for.
fn namespace<'a>(subsystem: &'a Subsystem, sqe: &Sqe) -> Result<&'a Namespace, Status> {
    let nsid = sqe.nsid.get();
    subsystem.namespace(nsid).ok_or_else(|| {
        // An identifier that could be a namespace's but is not is another error than one that
        // never can.
        let inactive = (1..=subsystem.max_nsid()).contains(&nsid);
        let status = if inactive { Status::INVALID_FIELD } else { Status::INVALID_NAMESPACE };
        status.with_dnr(true)
    })
}

/// Namespace, byte offset and byte length of a command on SLBA and NLB that moves or reads data.
fn blocks<'a>(subsystem: &'a Subsystem, sqe: &Sqe) -> Result<(&'a Namespace, u64, u32), Status> {
    let ns = namespace(subsystem, sqe)?;
    let (offset, length) = range(ns, sqe.slba(), sqe.block_count())?;
    let length = u32::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_TRANSFER)
        .ok_or(Status::INVALID_FIELD.with_dnr(true))?;
    Ok((ns, offset, length))
}

fn range(ns: &Namespace, slba: u64, blocks: u32) -> Result<(u64, u64), Status> {
    let geometry = ns.backend().geometry();
    geometry.byte_range(slba, u64::from(blocks)).map_err(|e| storage_status(&e, false))
}

fn writable(ns: &Namespace) -> Result<(), Status> {
    if ns.backend().geometry().read_only() {
        return Err(Status::NAMESPACE_WRITE_PROTECTED.with_dnr(true));
    }
    Ok(())
}

fn durability(association: &Association, sqe: &Sqe) -> Durability {
    if sqe.cdw(12) & FUA != 0 || !association.write_cache() {
        Durability::ForceUnitAccess
    } else {
        Durability::Cached
    }
}

fn read<'a>(subsystem: &'a Subsystem, sqe: &Sqe) -> Result<Kind<'a>, Status> {
    let (ns, offset, length) = blocks(subsystem, sqe)?;
    Ok(Kind::Read { ns, offset, length, durable: sqe.cdw(12) & FUA != 0 })
}

fn write<'a>(association: &'a Association, sqe: &Sqe) -> Result<Kind<'a>, Status> {
    let (ns, offset, length) = blocks(association.subsystem(), sqe)?;
    writable(ns)?;
    Ok(Kind::Write { ns, offset, length, durability: durability(association, sqe) })
}

fn flush<'a>(subsystem: &'a Subsystem, sqe: &Sqe) -> Result<Kind<'a>, Status> {
    if sqe.nsid.get() == NSID_ALL {
        return Ok(Kind::FlushAll { subsystem });
    }
    Ok(Kind::Flush { ns: namespace(subsystem, sqe)? })
}

fn write_zeroes<'a>(association: &'a Association, sqe: &Sqe) -> Result<Kind<'a>, Status> {
    let ns = namespace(association.subsystem(), sqe)?;
    writable(ns)?;
    let (offset, length) = range(ns, sqe.slba(), sqe.block_count())?;
    let deallocate = sqe.cdw(12) & DEAC != 0;
    let how = Zero { deallocate, durability: durability(association, sqe) };
    Ok(Kind::WriteZeroes { ns, offset, length, how })
}

fn dataset_management<'a>(
    subsystem: &'a Subsystem,
    sqe: &Sqe,
    data_len: u32,
) -> Result<Kind<'a>, Status> {
    let ns = namespace(subsystem, sqe)?;
    let ranges = (sqe.cdw(10) & 0xff) + 1;
    let deallocate = sqe.cdw(11) & AD != 0;
    if deallocate {
        writable(ns)?;
    }
    // Linux sends room for all 256 ranges, however few it means.
    if !(ranges * RANGE_LEN..=MAX_RANGES * RANGE_LEN).contains(&data_len) {
        return Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true));
    }
    Ok(if deallocate {
        Kind::Deallocate { ns, ranges, length: data_len }
    } else {
        Kind::Hint { length: data_len }
    })
}

const RANGE_LEN: u32 = 16;
const MAX_RANGES: u32 = 256;
const _: () = assert!(size_of::<Range>() == RANGE_LEN as usize);

impl<'a> Operation<'a> {
    /// What it does, for those who do it in another way than [`execute`](Self::execute).
    pub(crate) fn kind(&self) -> &Kind<'a> {
        &self.kind
    }

    /// Which data the command has.
    pub(crate) fn transfer(&self) -> Transfer {
        match self.kind {
            Kind::Read { length, .. } => Transfer::ToHost(length),
            Kind::Write { length, .. }
            | Kind::Compare { length, .. }
            | Kind::Deallocate { length, .. }
            | Kind::Hint { length } => Transfer::FromHost(length),
            Kind::Verify { .. }
            | Kind::WriteZeroes { .. }
            | Kind::Flush { .. }
            | Kind::FlushAll { .. } => Transfer::None,
        }
    }

    /// Does it. `data` is as long as [`transfer`](Self::transfer) says: the host's data, or room
    /// for what is to be sent.
    pub(crate) fn execute(&self, data: &mut [u8], counters: &Counters) -> Result<(), Status> {
        match self.run(data) {
            Ok(outcome) => outcome,
            Err((error, writing)) => {
                let status = storage_status(&error, writing);
                self.note_failure(&error, status, counters);
                Err(status)
            }
        }
    }

    /// Counts a failure of the storage, and says so.
    pub(crate) fn note_failure(
        &self,
        error: &nvmf_storage::Error,
        status: Status,
        counters: &Counters,
    ) {
        if status.sct() == nvme_spec::status::SCT_MEDIA {
            counters.media_error();
            tracing::error!(%error, operation = ?self.kind.name(), "the storage failed");
        }
    }

    /// Errors of the storage are on the outside, with whether it was being written; those of the
    /// command inside.
    fn run(&self, data: &mut [u8]) -> Result<Result<(), Status>, (nvmf_storage::Error, bool)> {
        let reading = |error| (error, false);
        let writing = |error| (error, true);
        match self.kind {
            Kind::Read { ns, offset, durable, .. } => {
                let backend = ns.backend();
                if durable && backend.volatile_write_cache() {
                    // Forced access: the data has to come from where it is safe.
                    backend.flush().map_err(writing)?;
                }
                backend.read(offset, &mut [IoSliceMut::new(data)]).map_err(reading)?;
            }
            Kind::Write { ns, offset, durability, .. } => {
                ns.backend().write(offset, &[IoSlice::new(data)], durability).map_err(writing)?;
            }
            Kind::Compare { ns, offset, .. } => {
                let same = compare(&**ns.backend(), offset, data).map_err(reading)?;
                if !same {
                    return Ok(Err(Status::COMPARE_FAILURE.with_dnr(true)));
                }
            }
            Kind::Verify { ns, offset, length } => {
                verify(&**ns.backend(), offset, length).map_err(reading)?;
            }
            Kind::WriteZeroes { ns, offset, length, how } => {
                ns.backend().write_zeroes(offset, length, how).map_err(writing)?;
            }
            Kind::Deallocate { ns, ranges, .. } => {
                return deallocate(ns, data, ranges as usize).map_err(writing);
            }
            Kind::Hint { .. } => {}
            Kind::Flush { ns } => ns.backend().flush().map_err(writing)?,
            Kind::FlushAll { subsystem } => return Ok(subsystem.flush()),
        }
        Ok(Ok(()))
    }
}

impl Kind<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Read",
            Self::Write { .. } => "Write",
            Self::Compare { .. } => "Compare",
            Self::Verify { .. } => "Verify",
            Self::WriteZeroes { .. } => "Write Zeroes",
            Self::Deallocate { .. } | Self::Hint { .. } => "Dataset Management",
            Self::Flush { .. } | Self::FlushAll { .. } => "Flush",
        }
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Whether the blocks from byte `offset` on are `expected`.
fn compare(
    backend: &dyn Backend,
    mut offset: u64,
    expected: &[u8],
) -> Result<bool, nvmf_storage::Error> {
    let mut chunk = vec![0; expected.len().min(CHUNK)];
    for part in expected.chunks(CHUNK) {
        let found = &mut chunk[..part.len()];
        backend.read(offset, &mut [IoSliceMut::new(found)])?;
        if found != part {
            return Ok(false);
        }
        offset += bytes(part.len());
    }
    Ok(true)
}

/// Reads the blocks to see that it is possible.
fn verify(backend: &dyn Backend, offset: u64, length: u32) -> Result<(), nvmf_storage::Error> {
    let mut chunk = vec![0; CHUNK];
    let end = offset + u64::from(length);
    let mut at = offset;
    while at < end {
        let length = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
        backend.read(at, &mut [IoSliceMut::new(&mut chunk[..length])])?;
        at += bytes(length);
    }
    Ok(())
}

/// Gives back the first `count` ranges, once all of them were found to be inside the namespace.
fn deallocate(
    ns: &Namespace,
    data: &[u8],
    count: usize,
) -> Result<Result<(), Status>, nvmf_storage::Error> {
    let Ok((ranges, _)) = <[Range]>::ref_from_prefix_with_elems(data, count) else {
        return Ok(Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true)));
    };
    let geometry = ns.backend().geometry();
    let place = |r: &Range| geometry.byte_range(r.slba.get(), u64::from(r.blocks.get()));
    for r in ranges {
        place(r)?;
    }
    for r in ranges {
        let (offset, length) = place(r)?;
        if length != 0 {
            ns.backend().deallocate(offset, length)?;
        }
    }
    Ok(Ok(()))
}

/// The status that tells a host of an error of the storage.
pub(crate) fn storage_status(error: &nvmf_storage::Error, writing: bool) -> Status {
    use nvmf_storage::Error;
    match error {
        Error::OutOfRange { .. } => Status::LBA_OUT_OF_RANGE.with_dnr(true),
        Error::ReadOnly => Status::NAMESPACE_WRITE_PROTECTED.with_dnr(true),
        Error::NoSpace => Status::CAPACITY_EXCEEDED.with_dnr(true),
        Error::WritesLost => Status::WRITE_FAULT.with_dnr(true),
        Error::Io(_) if writing => Status::WRITE_FAULT,
        Error::Io(_) => Status::UNRECOVERED_READ_ERROR,
        // Unaligned is this target's own mistake, and so is a kind it does not know.
        _ => Status::INTERNAL_ERROR,
    }
}

#[cfg(test)]
mod tests;
