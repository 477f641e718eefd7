//! What one thread of a benchmark does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use nvmf::host::NamespaceInfo;
use nvmf::spec::Cqe;
use nvmf_host::{Buffer, CommandError, Next, Request, Workload};

use super::args::{Bench, Rw};
use super::random::Random;

pub(crate) struct Plan {
    rw: Rw,
    mix: u64,
    nsid: u32,
    first: u64,
    units: u64,
    blocks: u32,
    bytes: usize,
    warmup: Duration,
    time: Duration,
    seed: u64,
    data: Bytes,
}

impl Plan {
    pub(crate) fn new(args: &Bench, namespace: &NamespaceInfo) -> anyhow::Result<Self> {
        let block = u64::from(namespace.block_size);
        anyhow::ensure!(args.bs > 0 && args.bs % block == 0, "bs");
        let size = args.size.unwrap_or(namespace.bytes() - args.offset);
        Ok(Self {
            rw: args.rw,
            mix: u64::from(args.rw.mix(args.mix)),
            nsid: namespace.nsid,
            first: args.offset / block,
            units: size / args.bs,
            blocks: u32::try_from(args.bs / block)?,
            bytes: usize::try_from(args.bs)?,
            warmup: args.warmup,
            time: args.time,
            seed: args.seed,
            data: Bytes::from_static(vec![7; usize::try_from(args.bs)?].leak()),
        })
    }
}

pub(crate) struct Job {
    plan: Arc<Plan>,
    random: Random,
    at: u64,
    from: Instant,
    end: Instant,
    since: Vec<Instant>,
    free: Vec<u32>,
    buffers: Vec<BytesMut>,
    pub(crate) latency: Histogram<u64>,
    pub(crate) ios: u64,
}

pub(crate) fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap_or_else(|_| unreachable!());
    histogram.auto(true);
    histogram
}

impl Job {
    pub(crate) fn new(plan: Arc<Plan>, number: usize, start: Instant) -> Self {
        let random = Random::new(plan.seed.wrapping_add(u64::try_from(number).unwrap_or(0) << 32));
        let from = start + plan.warmup;
        let end = from + plan.time;
        Self {
            plan,
            random,
            at: 0,
            from,
            end,
            since: Vec::new(),
            free: Vec::new(),
            buffers: Vec::new(),
            latency: histogram(),
            ios: 0,
        }
    }
}

impl Workload for Job {
    fn next(&mut self, _: usize, now: Instant) -> Next {
        if now >= self.end {
            return Next::Done;
        }
        let plan = &*self.plan;
        let unit = if plan.rw.is_random() {
            self.random.below(plan.units)
        } else {
            self.at = if self.at + 1 < plan.units { self.at + 1 } else { 0 };
            self.at
        };
        let reads = plan.mix == 100 || (plan.mix > 0 && self.random.below(100) < plan.mix);
        let token = self.free.pop().unwrap_or_else(|| {
            self.since.push(now);
            u32::try_from(self.since.len() - 1).unwrap_or(u32::MAX)
        });
        self.since[token as usize] = now;
        let lba = plan.first + unit * u64::from(plan.blocks);
        let request = if reads {
            let buffer = self.buffers.pop().unwrap_or_else(|| BytesMut::zeroed(plan.bytes));
            Request::read(plan.nsid, lba, plan.blocks, buffer)
        } else {
            Request::write(plan.nsid, lba, plan.blocks, plan.data.clone())
        };
        Next::Io(request.with_token(u64::from(token)))
    }

    #[allow(clippy::cast_possible_truncation, reason = "tokens are indices")]
    fn complete(
        &mut self,
        _: usize,
        token: u64,
        _: Result<Cqe, CommandError>,
        buffer: Buffer,
        now: Instant,
    ) {
        let token = token as u32;
        self.free.push(token);
        if now >= self.from && now < self.end {
            let took = now.duration_since(self.since[token as usize]).as_nanos() as u64;
            let _ = self.latency.record(took);
            self.ios += 1;
        }
        if let Buffer::Read(buffer) = buffer {
            self.buffers.push(buffer);
        }
    }
}
