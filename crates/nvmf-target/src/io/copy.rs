//! The Copy command (NVM Command Set 1.1, section 3.3.2), from ranges of the namespace itself.

use nvme_spec::copy::{CopyRequest, SourceRange};
use nvme_spec::{Sqe, Status};
use nvmf::controller::identify::{COPY_BYTES, COPY_RANGES};
use nvmf_storage::Durability;
use zerocopy::FromBytes;

use super::operation::{By, wrote};
use super::{Failed, MAX_RANGES, Operation, readable, storage_status};
use crate::limits::MaxTransfer;
use crate::subsystem::Namespace;

/// Bytes of a source range.
const RANGE: u32 = 32;
const _: () = assert!(size_of::<SourceRange>() == RANGE as usize);
// So that its data need not be compared with the most of one command.
const _: () = assert!(MAX_RANGES * RANGE <= MaxTransfer::MIN.bytes());

const TOO_LARGE: Status = Status::COMMAND_SIZE_LIMIT_EXCEEDED.with_dnr(true);

/// A Copy whose fields are right; its ranges, which are its data, were not looked at yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Copy {
    /// The first block that is written.
    slba: u64,
    ranges: usize,
    /// Bytes of data: ranges, and perhaps more.
    pub(super) length: u32,
    durability: Durability,
}

/// A part of a copy, in bytes.
struct Part {
    from: u64,
    to: u64,
    length: u64,
}

impl Copy {
    pub(super) fn plan(sqe: &Sqe, data_len: u32, durability: Durability) -> Result<Self, Status> {
        let request = CopyRequest::from_sqe(sqe);
        if request.format != SourceRange::FORMAT {
            return Err(Status::INVALID_FIELD.with_dnr(true));
        }
        if request.ranges() > u16::from(COPY_RANGES) {
            return Err(TOO_LARGE);
        }
        // Some hosts send room for as many ranges as a descriptor list can have.
        let least = u32::from(request.ranges()) * RANGE;
        if !(least..=MAX_RANGES * RANGE).contains(&data_len) {
            return Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true));
        }
        let ranges = request.ranges().into();
        Ok(Self { slba: request.sdlba, ranges, length: data_len, durability })
    }

    /// What it copies, in bytes, whether that is possible or not.
    pub(super) fn bytes(&self, ns: &Namespace, data: &[u8]) -> u64 {
        let blocks = self.sources(data).iter().map(|range| u64::from(range.blocks())).sum::<u64>();
        blocks << ns.backend().geometry().block_shift()
    }

    fn sources<'a>(&self, data: &'a [u8]) -> &'a [SourceRange] {
        // The length was checked when it was planned.
        <[SourceRange]>::ref_from_prefix_with_elems(data, self.ranges)
            .map_or(&[], |(ranges, _)| ranges)
    }

    /// Copies range by range. Where that fails, dword 0 says which is the first range that was not
    /// copied; what is wrong with the command itself is found before anything is.
    pub(super) fn execute<N: AsRef<Namespace>>(
        &self,
        operation: &Operation<N>,
        data: &[u8],
        by: &By<'_>,
    ) -> Result<(), Failed> {
        let ns = operation.namespace();
        let backend = ns.backend();
        let parts = self.parts(ns, data)?;
        let mut copied = 0;
        let mut done = Ok(());
        for (index, part) in parts.iter().enumerate() {
            if let Err(status) = copy_part(operation, part, by) {
                done = Err(Failed { status, dw0: u32::try_from(index).unwrap_or(u32::MAX) });
                break;
            }
            copied += part.length;
        }
        if copied > 0 {
            by.counters.copied(ns.nsid(), copied);
        }
        done?;
        if self.durability == Durability::ForceUnitAccess {
            backend.flush().map_err(|error| {
                let status = storage_status(&error, true);
                operation.note_failure(&error, status, by.counters);
                status
            })?;
        }
        Ok(())
    }

    /// Cuts the copy up, if all of it is possible.
    fn parts(&self, ns: &Namespace, data: &[u8]) -> Result<Vec<Part>, Status> {
        let geometry = ns.backend().geometry();
        let most = COPY_BYTES >> geometry.block_shift();
        let longest = most.min(u64::from(u16::MAX));
        let mut to = self.slba;
        let mut total = 0;
        let mut parts = Vec::with_capacity(self.ranges);
        for range in self.sources(data) {
            let blocks = u64::from(range.blocks());
            total += blocks;
            if blocks > longest || total > most {
                return Err(TOO_LARGE);
            }
            let place = |slba| {
                geometry.byte_range(slba, blocks).map_err(|error| storage_status(&error, false))
            };
            let ((from, length), (to_offset, _)) = (place(range.slba.get())?, place(to)?);
            parts.push(Part { from, to: to_offset, length });
            // No further than the end of the namespace.
            to = to.saturating_add(blocks);
        }
        Ok(parts)
    }
}

fn copy_part<N: AsRef<Namespace>>(
    operation: &Operation<N>,
    part: &Part,
    by: &By<'_>,
) -> Result<(), Status> {
    let ns = operation.namespace();
    readable(ns, part.from, part.length)?;
    let copied = ns.backend().copy_within(part.from, part.to, part.length, Durability::Cached);
    copied.map_err(|error| {
        // Whether it was reading or writing is not told; the host has not lost what it had.
        let status = storage_status(&error, false);
        operation.note_failure(&error, status, by.counters);
        status
    })?;
    wrote(ns, part.to, part.length)
}
