//! I/O commands: from a submission queue entry to blocks and a status.
//!
//! Nothing here knows of a transport. [`plan`] judges a command before any of its data is moved or
//! any memory taken; the [`Operation`] it gives says which data to move, and executes.

mod copy;
pub(crate) mod fused;
mod operation;
mod reserve;

use std::sync::Arc;

use nvme_spec::fabrics::Disconnect;
use nvme_spec::identify::NSID_ALL;
use nvme_spec::reservation::{
    ReportRequest, ReservationAcquire, ReservationRegister, ReservationRelease,
};
use nvme_spec::{Sqe, Status, opcode};
use nvmf_storage::{Durability, Zero};

use crate::association::Association;
use crate::reservation::Access;
use crate::subsystem::{Namespace, View, Visible};
use copy::Copy;
pub(crate) use operation::{By, Kind, Operation, flush_all, storage_status};

/// What to do with a command that came on an I/O queue.
#[derive(Debug)]
pub(crate) enum Plan<'a> {
    /// Move its data, execute it, answer it.
    Execute(Operation<&'a Arc<Namespace>>),
    /// Flush all these.
    FlushAll(Vec<Arc<Namespace>>),
    /// Answer it with success, then close the queue.
    Disconnect,
}

/// Which data a command has; lengths are in bytes, at most
/// [`Association::max_transfer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transfer {
    None,
    /// To be received before the command is executed.
    FromHost(u32),
    /// To be sent once it was.
    ToHost(u32),
}

/// How a command failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failed {
    pub(crate) status: Status,
    /// Dword 0 of its completion.
    pub(crate) dw0: u32,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self { status, dw0: 0 }
    }
}

/// Dword 12 of Read, Write and Write Zeroes: Force Unit Access.
const FUA: u32 = 1 << 30;
/// Dword 12 of Write Zeroes: Deallocate.
const DEAC: u32 = 1 << 25;
/// Dword 12 of commands that write: Directive Type. There are no directives; where the host did not
/// enable one, none but 0 is right (Base 2.1, section 8.1.8).
const DTYPE: u32 = 0xf << 20;
/// Dword 11 of Dataset Management: Attribute Deallocate.
const AD: u32 = 1 << 2;

const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr(true);

const RANGE_LEN: u32 = 16;
const MAX_RANGES: u32 = 256;

/// Judges a command that came on an I/O queue with `data_len` bytes of data, where its host sees
/// `view`.
pub(crate) fn plan<'a>(
    association: &Association,
    view: &'a View,
    sqe: &Sqe,
    data_len: u32,
) -> Result<Plan<'a>, Status> {
    if sqe.is_fabrics() {
        return fabrics(sqe);
    }
    if association.is_shut_down() {
        return Err(Status::COMMAND_SEQUENCE_ERROR);
    }
    if sqe.fuse() != 0 {
        // Halves of a pair are not judged here: see `fused`.
        return Err(INVALID_FIELD);
    }
    if sqe.opcode == opcode::nvm::FLUSH && sqe.nsid.get() == NSID_ALL {
        check_length(data_len, 0)?;
        let reachable = view.namespaces().iter().filter(|ns| ns.ana.status().is_none());
        let namespaces: Vec<_> = reachable.map(|ns| Arc::clone(&ns.namespace)).collect();
        let host = association.host_id();
        for ns in &namespaces {
            ns.reservations().check(host, Access::Write)?;
        }
        return Ok(Plan::FlushAll(namespaces));
    }
    plan_one(association, view, sqe, data_len).map(Plan::Execute)
}

/// Judges a command on one namespace, whether it is fused with another or not.
///
/// Of its fields those are not looked at that mean nothing here: limited retry, which is no more
/// than leave to give up early; the hints of Dataset Management; and the protection information and
/// storage tags, which count only on a namespace that is formatted with such (NVM Command Set 1.1,
/// section 5.2): here is none.
fn plan_one<'a>(
    association: &Association,
    view: &'a View,
    sqe: &Sqe,
    data_len: u32,
) -> Result<Operation<&'a Arc<Namespace>>, Status> {
    if !is_known(sqe.opcode) {
        return Err(Status::INVALID_OPCODE.with_dnr(true));
    }
    let ns = &namespace(association, view, sqe)?.namespace;
    if let Some(access) = Access::of(sqe.opcode) {
        ns.reservations().check(association.host_id(), access)?;
    }
    let kind = match sqe.opcode {
        opcode::nvm::READ => {
            let (offset, length) = source(association, ns, sqe)?;
            Kind::Read { offset, length, durable: sqe.cdw(12) & FUA != 0 }
        }
        opcode::nvm::WRITE => {
            let (offset, length) = blocks(association, ns, sqe)?;
            writable(ns)?;
            undirected(sqe)?;
            Kind::Write { offset, length, durability: durability(association, sqe) }
        }
        opcode::nvm::COMPARE => {
            let (offset, length) = source(association, ns, sqe)?;
            Kind::Compare { offset, length }
        }
        opcode::nvm::VERIFY => {
            let (offset, length) = source(association, ns, sqe)?;
            Kind::Verify { offset, length }
        }
        opcode::nvm::WRITE_ZEROES => write_zeroes(association, ns, sqe)?,
        opcode::nvm::WRITE_UNCORRECTABLE => {
            writable(ns)?;
            undirected(sqe)?;
            range(ns, sqe.slba(), sqe.block_count())?;
            Kind::WriteUncorrectable { slba: sqe.slba(), blocks: sqe.block_count().into() }
        }
        opcode::nvm::DATASET_MANAGEMENT => dataset_management(ns, sqe, data_len)?,
        opcode::nvm::COPY => {
            writable(ns)?;
            undirected(sqe)?;
            Kind::Copy(Copy::plan(sqe, data_len, durability(association, sqe))?)
        }
        opcode::nvm::RESERVATION_REGISTER => {
            Kind::Register(ReservationRegister::from_sqe(sqe).ok_or(INVALID_FIELD)?)
        }
        opcode::nvm::RESERVATION_ACQUIRE => {
            Kind::Acquire(ReservationAcquire::from_sqe(sqe).ok_or(INVALID_FIELD)?)
        }
        opcode::nvm::RESERVATION_RELEASE => {
            let command = ReservationRelease::from_sqe(sqe).ok_or(INVALID_FIELD)?;
            // Linux sends as much as for an Acquire.
            let padded = data_len == reserve::ACQUIRE_LEN;
            let length = if padded { data_len } else { reserve::RELEASE_LEN };
            Kind::Release { command, length }
        }
        opcode::nvm::RESERVATION_REPORT => reservation_report(association, sqe)?,
        _ => Kind::Flush,
    };
    let operation = Operation { ns, kind };
    let length = match operation.transfer() {
        Transfer::None => 0,
        Transfer::FromHost(length) | Transfer::ToHost(length) => length,
    };
    check_length(data_len, length)?;
    Ok(operation)
}

fn is_known(opcode: u8) -> bool {
    use opcode::nvm;
    matches!(
        opcode,
        nvm::FLUSH
            | nvm::WRITE
            | nvm::READ
            | nvm::WRITE_UNCORRECTABLE
            | nvm::COMPARE
            | nvm::WRITE_ZEROES
            | nvm::DATASET_MANAGEMENT
            | nvm::VERIFY
            | nvm::RESERVATION_REGISTER
            | nvm::RESERVATION_REPORT
            | nvm::RESERVATION_ACQUIRE
            | nvm::RESERVATION_RELEASE
            | nvm::COPY
    )
}

fn check_length(data_len: u32, length: u32) -> Result<(), Status> {
    if data_len == length { Ok(()) } else { Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true)) }
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

/// The namespace that a command is for, if it can be reached.
fn namespace<'a>(
    association: &Association,
    view: &'a View,
    sqe: &Sqe,
) -> Result<&'a Visible, Status> {
    let nsid = sqe.nsid.get();
    let Some(ns) = view.get(nsid) else {
        // An identifier that could be a namespace's but is not is another error than one that
        // never can.
        let inactive = (1..=association.subsystem().max_nsid()).contains(&nsid);
        let status = if inactive { Status::INVALID_FIELD } else { Status::INVALID_NAMESPACE };
        return Err(status.with_dnr(true));
    };
    // Without DNR: the host is to try another path, or this one again.
    ns.ana.status().map_or(Ok(ns), Err)
}

/// Byte offset and byte length of a command on SLBA and NLB that moves or reads data.
fn blocks(association: &Association, ns: &Namespace, sqe: &Sqe) -> Result<(u64, u32), Status> {
    let (offset, length) = range(ns, sqe.slba(), sqe.block_count())?;
    let length = u32::try_from(length)
        .ok()
        .filter(|length| *length <= association.max_transfer())
        .ok_or(Status::INVALID_FIELD.with_dnr(true))?;
    Ok((offset, length))
}

/// The same of a command that reads them, which must be possible.
fn source(association: &Association, ns: &Namespace, sqe: &Sqe) -> Result<(u64, u32), Status> {
    let (offset, length) = blocks(association, ns, sqe)?;
    readable(ns, offset, length.into())?;
    Ok((offset, length))
}

/// Whether no host marked any of these blocks as not to be read (Write Uncorrectable).
#[inline]
fn readable(ns: &Namespace, offset: u64, length: u64) -> Result<(), Status> {
    let shift = ns.backend().geometry().block_shift();
    match ns.marks().overlaps(offset >> shift, length >> shift) {
        true => Err(Status::UNRECOVERED_READ_ERROR.with_dnr(true)),
        false => Ok(()),
    }
}

fn range(ns: &Namespace, slba: u64, blocks: u32) -> Result<(u64, u64), Status> {
    let geometry = ns.backend().geometry();
    geometry.byte_range(slba, u64::from(blocks)).map_err(|e| storage_status(&e, false))
}

fn writable(ns: &Namespace) -> Result<(), Status> {
    if ns.is_read_only() {
        return Err(Status::NAMESPACE_WRITE_PROTECTED.with_dnr(true));
    }
    Ok(())
}

/// Whether a command that writes names no directive.
fn undirected(sqe: &Sqe) -> Result<(), Status> {
    if sqe.cdw(12) & DTYPE == 0 { Ok(()) } else { Err(INVALID_FIELD) }
}

fn durability(association: &Association, sqe: &Sqe) -> Durability {
    if sqe.cdw(12) & FUA != 0 || !association.write_cache() {
        Durability::ForceUnitAccess
    } else {
        Durability::Cached
    }
}

fn write_zeroes(association: &Association, ns: &Namespace, sqe: &Sqe) -> Result<Kind, Status> {
    writable(ns)?;
    undirected(sqe)?;
    let (offset, length) = range(ns, sqe.slba(), sqe.block_count())?;
    let deallocate = sqe.cdw(12) & DEAC != 0;
    let how = Zero { deallocate, durability: durability(association, sqe) };
    Ok(Kind::WriteZeroes { offset, length, how })
}

fn dataset_management(ns: &Namespace, sqe: &Sqe, data_len: u32) -> Result<Kind, Status> {
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
        Kind::Deallocate { ranges, length: data_len }
    } else {
        Kind::Hint { length: data_len }
    })
}

fn reservation_report(association: &Association, sqe: &Sqe) -> Result<Kind, Status> {
    let request = ReportRequest::from_sqe(sqe);
    if !request.extended {
        // All hosts here have 128-bit identifiers, which the short structure has no room for.
        return Err(Status::HOST_IDENTIFIER_INCONSISTENT.with_dnr(true));
    }
    let most = association.max_transfer();
    let length = u32::try_from(request.len()).ok().filter(|length| *length <= most);
    Ok(Kind::Report { length: length.ok_or(INVALID_FIELD)? })
}

#[cfg(test)]
mod tests;
