//! What a benchmark does, checked.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};
use bytes::Bytes;

use super::args::{Bench, Rw};
use super::random::{Random, mix};

/// What all threads of a benchmark do together.
#[derive(Debug)]
pub(crate) struct Plan {
    pub rw: Rw,
    /// Percent of the commands that are reads.
    pub mix: u8,
    pub nsid: u32,
    /// The first block of the range.
    pub first: u64,
    /// How many commands' worth the range has.
    pub units: u64,
    /// Blocks of one command, and bytes of a block and of a command.
    pub blocks: u32,
    pub block_size: usize,
    pub bytes: usize,
    pub depth: usize,
    pub queues: usize,
    pub threads: usize,
    pub warmup: Duration,
    pub time: Duration,
    /// Commands in a second.
    pub rate: Option<u64>,
    pub verify: bool,
    pub seed: u64,
    /// A number that no other run has.
    pub run: u64,
    /// What is written where it does not matter.
    pub data: Bytes,
}

/// What has to be known of the namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub nsid: u32,
    pub block_size: u32,
    pub blocks: u64,
    pub write_protected: bool,
    /// The most bytes of one command.
    pub max_transfer: u32,
}

impl Plan {
    pub(crate) fn new(args: &Bench, namespace: &Measured) -> anyhow::Result<Self> {
        let Measured { nsid, block_size, .. } = *namespace;
        let block = u64::from(block_size);
        let bs = args.bs;
        ensure!(
            bs > 0 && bs.is_multiple_of(block),
            "namespace {nsid} has blocks of {block} bytes, and --bs {bs} is no multiple of that"
        );
        let most = u64::from(namespace.max_transfer).min(block << 16);
        ensure!(bs <= most, "one command may move only {most} bytes, and --bs is {bs}");
        ensure!(
            args.offset.is_multiple_of(block),
            "namespace {nsid} has blocks of {block} bytes, and --offset {} is no multiple of that",
            args.offset
        );
        let size = namespace.blocks * block;
        let length = args.size.unwrap_or_else(|| size.saturating_sub(args.offset));
        let inside = args.offset.checked_add(length).is_some_and(|end| end <= size);
        ensure!(
            inside,
            "{length} bytes at offset {} are not all in namespace {nsid}, which has {size} bytes",
            args.offset
        );
        let units = length / bs;
        let threads = u64::from(args.cores);
        ensure!(
            units >= threads,
            "the range has {length} bytes, which is not enough for --cores {threads} and --bs {bs}"
        );
        let mix = args.rw.mix(args.mix);
        if mix < 100 && namespace.write_protected {
            bail!("namespace {nsid} is write protected");
        }
        if mix == 100 && args.verify && namespace.write_protected {
            bail!("namespace {nsid} is write protected, and --verify writes what it reads");
        }
        let bytes = usize::try_from(bs)?;
        Ok(Self {
            rw: args.rw,
            mix,
            nsid,
            first: args.offset / block,
            units,
            blocks: u32::try_from(bs / block)?,
            block_size: usize::try_from(block)?,
            bytes,
            depth: usize::try_from(args.qd)?,
            queues: usize::from(args.queues),
            threads: usize::from(args.cores),
            warmup: args.warmup,
            time: args.time,
            rate: args.rate,
            verify: args.verify,
            seed: args.seed,
            run: run_number(args.seed),
            data: data(bytes, args.seed),
        })
    }

    /// The units of one thread: no two threads have any in common.
    pub(crate) fn part(&self, thread: usize) -> Range<u64> {
        let edge = |at: usize| {
            let at = u128::try_from(at).unwrap_or(0);
            let threads = u128::try_from(self.threads).unwrap_or(1);
            u64::try_from(u128::from(self.units) * at / threads).unwrap_or(self.units)
        };
        edge(thread)..edge(thread + 1)
    }

    /// Commands outstanding on a queue.
    pub(crate) fn share(&self, queue: usize) -> usize {
        self.depth / self.queues + usize::from(queue < self.depth % self.queues)
    }

    /// The queues of a thread.
    pub(crate) fn queues_of(&self, thread: usize) -> impl Iterator<Item = usize> {
        (thread..self.queues).step_by(self.threads)
    }

    /// Commands outstanding on all queues of a thread.
    pub(crate) fn depth_of(&self, thread: usize) -> usize {
        self.queues_of(thread).map(|queue| self.share(queue)).sum()
    }

    pub(crate) fn lba(&self, unit: u64) -> u64 {
        self.first + unit * u64::from(self.blocks)
    }
}

fn run_number(seed: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = now.as_secs() << 30 ^ u64::from(now.subsec_nanos());
    mix(mix(now ^ u64::from(std::process::id()) << 32) ^ seed)
}

/// Bytes that do not get smaller if somebody compresses them.
fn data(length: usize, seed: u64) -> Bytes {
    let mut random = Random::new(!seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Random reads of 4 KiB, as many units as said.
    pub(crate) fn plan(units: u64) -> Plan {
        Plan {
            rw: Rw::Randread,
            mix: 100,
            nsid: 1,
            first: 0,
            units,
            blocks: 1,
            block_size: 4096,
            bytes: 4096,
            depth: 8,
            queues: 1,
            threads: 1,
            warmup: Duration::ZERO,
            time: Duration::from_secs(1),
            rate: None,
            verify: false,
            seed: 1,
            run: 1,
            data: data(4096, 1),
        }
    }

    #[test]
    fn threads_have_all_units_and_none_twice() {
        for (units, threads) in [(10, 3), (3, 3), (1000, 7), (u64::MAX >> 12, 64)] {
            let plan = Plan { threads, ..plan(units) };
            let mut at = 0;
            for part in (0..threads).map(|thread| plan.part(thread)) {
                assert_eq!(part.start, at);
                assert!(!part.is_empty());
                at = part.end;
            }
            assert_eq!(at, units);
        }
    }

    #[test]
    fn queues_share_the_depth_and_threads_the_queues() {
        let plan = Plan { depth: 10, queues: 4, threads: 3, ..plan(100) };
        assert_eq!((0..4).map(|queue| plan.share(queue)).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!(plan.queues_of(0).collect::<Vec<_>>(), [0, 3]);
        assert_eq!((0..3).map(|thread| plan.depth_of(thread)).collect::<Vec<_>>(), [5, 3, 2]);
    }
}
