//! What an I/O command does to the blocks.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use nvme_spec::dataset_management::DatasetRange;
use nvme_spec::reservation::{ReservationAcquire, ReservationRegister, ReservationRelease};
use nvme_spec::{HostId, Status};
use nvmf_storage::{Backend, Durability, Zero};
use zerocopy::FromBytes;

use super::copy::Copy;
use super::{Failed, RANGE_LEN, Transfer, reserve};
use crate::association::Association;
use crate::limit::Direction;
use crate::statistics::Counters;
use crate::subsystem::Namespace;
use crate::who::say;

/// Verify and Compare read this much at a time.
const CHUNK: usize = 64 << 10;

/// An I/O command whose fields are right, on a namespace that is borrowed or shared.
#[derive(Debug)]
pub(crate) struct Operation<N> {
    pub(super) ns: N,
    pub(super) kind: Kind,
}

/// What a command does; offsets and lengths are in bytes, and inside the namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Read {
        offset: u64,
        length: u32,
        durable: bool,
    },
    Write {
        offset: u64,
        length: u32,
        durability: Durability,
    },
    Compare {
        offset: u64,
        length: u32,
    },
    Verify {
        offset: u64,
        length: u32,
    },
    WriteZeroes {
        offset: u64,
        length: u64,
        how: Zero,
    },
    Deallocate {
        ranges: u32,
        length: u32,
    },
    /// Dataset Management that only tells how the blocks will be used.
    Hint {
        length: u32,
    },
    Flush,
    WriteUncorrectable {
        slba: u64,
        blocks: u64,
    },
    Copy(Copy),
    Register(ReservationRegister),
    Acquire(ReservationAcquire),
    Release {
        command: ReservationRelease,
        /// At least what the command needs.
        length: u32,
    },
    Report {
        length: u32,
    },
}

/// On whose behalf a command is executed.
#[derive(Debug)]
pub(crate) struct By<'a> {
    pub(crate) association: &'a Association,
    pub(crate) counters: &'a Counters,
}

impl By<'_> {
    pub(crate) fn host(&self) -> HostId {
        self.association.host_id()
    }
}

const _: () = assert!(size_of::<DatasetRange>() == RANGE_LEN as usize);

impl Operation<&Arc<Namespace>> {
    /// The same, to be kept: it is done on this namespace even if the host sees it no more.
    pub(crate) fn keep(&self) -> Operation<Arc<Namespace>> {
        Operation { ns: Arc::clone(self.ns), kind: self.kind }
    }
}

impl Operation<Arc<Namespace>> {
    /// What it is done on, to be remembered.
    pub(crate) fn shared(&self) -> &Arc<Namespace> {
        &self.ns
    }
}

impl<N: AsRef<Namespace>> Operation<N> {
    /// What it does, for those who do it in another way than [`execute`](Self::execute).
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What it is done on.
    pub(crate) fn namespace(&self) -> &Namespace {
        self.ns.as_ref()
    }

    /// Which data the command has.
    pub(crate) fn transfer(&self) -> Transfer {
        match self.kind {
            Kind::Read { length, .. } => Transfer::ToHost(length),
            Kind::Write { length, .. }
            | Kind::Compare { length, .. }
            | Kind::Deallocate { length, .. }
            | Kind::Hint { length }
            | Kind::Copy(Copy { length, .. }) => Transfer::FromHost(length),
            Kind::Register(_) => Transfer::FromHost(reserve::REGISTER_LEN),
            Kind::Acquire(_) => Transfer::FromHost(reserve::ACQUIRE_LEN),
            Kind::Release { length, .. } => Transfer::FromHost(length),
            Kind::Report { length } => Transfer::ToHost(length),
            Kind::Verify { .. }
            | Kind::WriteZeroes { .. }
            | Kind::WriteUncorrectable { .. }
            | Kind::Flush => Transfer::None,
        }
    }

    /// Whether it changes blocks, so that it needs a place among those who write.
    pub(crate) fn writes(&self) -> bool {
        match self.kind {
            Kind::Write { .. }
            | Kind::WriteZeroes { .. }
            | Kind::Deallocate { .. }
            | Kind::WriteUncorrectable { .. }
            | Kind::Copy(_) => true,
            Kind::Read { .. }
            | Kind::Compare { .. }
            | Kind::Verify { .. }
            | Kind::Hint { .. }
            | Kind::Flush
            | Kind::Register(_)
            | Kind::Acquire(_)
            | Kind::Release { .. }
            | Kind::Report { .. } => false,
        }
    }

    /// Whether it marks blocks or takes marks away, which may have to be saved: it must not be done
    /// where nobody may wait.
    ///
    /// Where the answer is no, a block that is marked before a write is done counts as marked after
    /// it: they overlap in time, so that either order is right.
    pub(crate) fn changes_marks(&self) -> bool {
        let ns = self.ns.as_ref();
        let marks = ns.marks();
        match self.kind {
            Kind::Write { offset, length, .. } => {
                let shift = ns.backend().geometry().block_shift();
                marks.overlaps(offset >> shift, u64::from(length) >> shift)
            }
            _ => self.writes() && marks.last(),
        }
    }

    /// Which way it goes and how many bytes it moves, for the limits; `None` if it is not limited.
    /// What it moves of a Copy is in its data.
    pub(crate) fn cost(&self, data: &[u8]) -> Option<(Direction, u64)> {
        Some(match self.kind {
            Kind::Read { length, .. }
            | Kind::Compare { length, .. }
            | Kind::Verify { length, .. } => (Direction::Read, length.into()),
            Kind::Write { length, .. } => (Direction::Write, length.into()),
            // One command each; nothing is moved.
            Kind::WriteZeroes { .. }
            | Kind::Deallocate { .. }
            | Kind::WriteUncorrectable { .. } => (Direction::Write, 0),
            Kind::Copy(copy) => (Direction::Write, copy.bytes(self.ns.as_ref(), data)),
            Kind::Hint { .. }
            | Kind::Flush
            | Kind::Register(_)
            | Kind::Acquire(_)
            | Kind::Release { .. }
            | Kind::Report { .. } => return None,
        })
    }

    /// Does it, and waits for a place among those who write if it needs one. `data` is as long as
    /// [`transfer`](Self::transfer) says: the host's data, or room for what is to be sent.
    pub(crate) fn execute(&self, data: &mut [u8], by: &By<'_>) -> Result<(), Failed> {
        let ns = self.ns.as_ref();
        let _place = if self.writes() { Some(ns.wait(by.host())?) } else { None };
        self.perform(data, by)
    }

    /// Does it; a command that writes has a place, or is alone.
    pub(crate) fn perform(&self, data: &mut [u8], by: &By<'_>) -> Result<(), Failed> {
        match self.run(data, by) {
            Ok(outcome) => outcome,
            Err((error, writing)) => {
                let status = storage_status(&error, writing);
                self.note_failure(&error, status, by.counters);
                Err(status.into())
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
            let operation = self.kind.name();
            say!(error, counters.who(), %error, operation, "the storage failed");
        }
    }

    /// Errors of the storage are on the outside, with whether it was being written; those of the
    /// command inside.
    fn run(
        &self,
        data: &mut [u8],
        by: &By<'_>,
    ) -> Result<Result<(), Failed>, (nvmf_storage::Error, bool)> {
        let reading = |error| (error, false);
        let writing = |error| (error, true);
        let ns = self.ns.as_ref();
        let backend = ns.backend();
        match self.kind {
            Kind::Read { offset, durable, .. } => {
                if durable && backend.volatile_write_cache() {
                    // Forced access: the data has to come from where it is safe.
                    backend.flush().map_err(writing)?;
                }
                backend.read(offset, &mut [IoSliceMut::new(data)]).map_err(reading)?;
            }
            Kind::Write { offset, durability, .. } => {
                backend.write(offset, &[IoSlice::new(data)], durability).map_err(writing)?;
                return Ok(wrote(ns, offset, bytes(data.len())).map_err(Into::into));
            }
            Kind::Compare { offset, .. } => {
                let same = compare(&**backend, offset, data).map_err(reading)?;
                if !same {
                    return Ok(Err(Status::COMPARE_FAILURE.with_dnr(true).into()));
                }
            }
            Kind::Verify { offset, length } => {
                verify(&**backend, offset, length).map_err(reading)?;
            }
            Kind::WriteZeroes { offset, length, how } => {
                backend.write_zeroes(offset, length, how).map_err(writing)?;
                return Ok(wrote(ns, offset, length).map_err(Into::into));
            }
            Kind::Deallocate { ranges, .. } => {
                let done = deallocate(ns, data, ranges as usize).map_err(writing)?;
                return Ok(done.map_err(Into::into));
            }
            Kind::Hint { .. } => {}
            Kind::Flush => backend.flush().map_err(writing)?,
            Kind::WriteUncorrectable { slba, blocks } => {
                return Ok(ns.marks().mark(slba, blocks).map_err(Into::into));
            }
            Kind::Copy(copy) => return Ok(copy.execute(self, data, by)),
            Kind::Register(command) => return Ok(reserve::register(ns, &command, data, by)),
            Kind::Acquire(command) => return Ok(reserve::acquire(ns, &command, data, by)),
            Kind::Release { command, .. } => {
                return Ok(reserve::release(ns, &command, data, by));
            }
            Kind::Report { .. } => reserve::report(ns, data, by),
        }
        Ok(Ok(()))
    }
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Read",
            Self::Write { .. } => "Write",
            Self::Compare { .. } => "Compare",
            Self::Verify { .. } => "Verify",
            Self::WriteZeroes { .. } => "Write Zeroes",
            Self::Deallocate { .. } | Self::Hint { .. } => "Dataset Management",
            Self::Flush => "Flush",
            Self::WriteUncorrectable { .. } => "Write Uncorrectable",
            Self::Copy(_) => "Copy",
            Self::Register(_) => "Reservation Register",
            Self::Acquire(_) => "Reservation Acquire",
            Self::Release { .. } => "Reservation Release",
            Self::Report { .. } => "Reservation Report",
        }
    }
}

/// What was written, zeroed or deallocated can be read again, if it was marked as not to be.
///
/// The error is for the command that wrote: its blocks stay marked, so it must not succeed.
pub(super) fn wrote(ns: &Namespace, offset: u64, length: u64) -> Result<(), Status> {
    let (backend, marks) = (ns.backend(), ns.marks());
    let shift = backend.geometry().block_shift();
    let (first, count) = (offset >> shift, length >> shift);
    if !marks.overlaps(first, count) {
        return Ok(());
    }
    if marks.last() && backend.volatile_write_cache() {
        // Or else a power loss could leave blocks readable whose new contents it took.
        backend.flush().map_err(|error| storage_status(&error, true))?;
    }
    marks.clear(first, count)
}

/// Makes durable what was written to these namespaces, all of them even if one fails.
pub(crate) fn flush_all(namespaces: &[Arc<Namespace>]) -> Result<(), Status> {
    let mut result = Ok(());
    for ns in namespaces {
        if let Err(error) = ns.backend().flush() {
            tracing::error!(nsid = ns.nsid(), %error, "flush failed");
            result = result.and(Err(storage_status(&error, true)));
        }
    }
    result
}

pub(super) fn bytes(length: usize) -> u64 {
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
    let Ok((ranges, _)) = <[DatasetRange]>::ref_from_prefix_with_elems(data, count) else {
        return Ok(Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true)));
    };
    let geometry = ns.backend().geometry();
    let place = |r: &DatasetRange| geometry.byte_range(r.slba.get(), u64::from(r.blocks.get()));
    for r in ranges {
        place(r)?;
    }
    for r in ranges {
        let (offset, length) = place(r)?;
        if length != 0 {
            ns.backend().deallocate(offset, length)?;
            if let Err(status) = wrote(ns, offset, length) {
                return Ok(Err(status));
            }
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
