//! `raw load`

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use nvmf_benches::latency::Latencies;
use nvmf_benches::proc::CpuTime;
use nvmf_benches::report::{Cpu, Part, Report, Workload};
use rustix::event::{Timespec, epoll};

use crate::connection::{Connection, End, Outgoing};
use crate::serve::NO_EVENT;
use crate::wire::{Header, kind, operation};
use crate::{Load, STORE};

/// What comes before the measurement: connections get their windows, caches their content.
const WARM_UP: Duration = Duration::from_millis(500);

/// Commands have buffers of their own up to this many, and share them beyond.
const BUFFERS: usize = 128;

pub(crate) fn run(args: &Load) -> anyhow::Result<Report> {
    anyhow::ensure!((0.1..=86_400.0).contains(&args.seconds), "seconds are 0.1 to 86400");
    let seconds = Duration::from_secs_f64(args.seconds);
    let bs = args.bs as usize;
    let mut memory = vec![0xa5; 2 * BUFFERS * bs];
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut work = Work::new(args)?;
    let mut hosts = Vec::new();
    for index in 0..args.connections {
        // The first connections get what cannot be divided.
        let share = args.qd / args.connections + u32::from(index < args.qd % args.connections);
        let connection = Connection::new(connect(args.port)?)?;
        let data = epoll::EventData::new_u64(index.into());
        epoll::add(&poll, connection.socket(), data, epoll::EventFlags::IN)?;
        hosts.push((connection, vec![Slot::default(); share as usize]));
    }
    for (connection, slots) in &mut hosts {
        let mut host = Host { slots, work: &mut work };
        for cid in 0..=u16::MAX {
            if !host.submit(cid, &mut connection.outgoing) {
                break;
            }
        }
        connection.flush(&memory)?;
    }

    let mut end = Instant::now() + WARM_UP;
    let mut measured: Option<(Instant, CpuTime)> = None;
    let mut events = [NO_EVENT; 64];
    let mut idle = 0u8;
    loop {
        let n = epoll::wait(&poll, &mut events, Some(&Timespec::default()))?;
        for event in &events[..n] {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some((connection, slots)) = hosts.get_mut(index) else { continue };
            connection
                .receive(&mut memory, &mut Host { slots, work: &mut work })
                .context("the server is lost")?;
        }
        for (connection, _) in &mut hosts {
            connection.flush(&memory).context("the server is lost")?;
        }
        // The clock is read with every receive; where nothing comes, it is here, now and then.
        idle = if n == 0 { idle.wrapping_add(1) } else { 1 };
        if n == 0 {
            // The other end may be on the same core's other thread.
            std::hint::spin_loop();
        }
        if idle == 0 {
            work.now = Instant::now();
        }
        if work.now >= end {
            if let Some((start, cpu)) = measured {
                let cpu = CpuTime::of_self()?.since(&cpu);
                return Ok(work.report(args, work.now - start, &cpu));
            }
            work.reads.clear();
            work.writes.clear();
            measured = Some((work.now, CpuTime::of_self()?));
            end = work.now + seconds;
        }
    }
}

/// Connects, to a server that may only just have been started.
fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < give_up =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other.with_context(|| format!("cannot connect to port {port}")),
        }
    }
}

/// What all connections have in common.
struct Work {
    bs: u32,
    in_capsule: u32,
    reads_of_hundred: u64,
    random: Random,
    /// When the last bytes came: reading the clock for every command would cost a few percent.
    now: Instant,
    reads: Latencies,
    writes: Latencies,
}

impl Work {
    fn new(args: &Load) -> anyhow::Result<Self> {
        Ok(Self {
            bs: args.bs,
            in_capsule: args.in_capsule,
            reads_of_hundred: args.reads().into(),
            random: Random::new(args.seed),
            now: Instant::now(),
            reads: Latencies::new()?,
            writes: Latencies::new()?,
        })
    }

    fn report(&self, args: &Load, elapsed: Duration, cpu: &CpuTime) -> Report {
        let seconds = elapsed.as_secs_f64();
        let mut both = self.reads.clone();
        both.add(&self.writes);
        let part = |l: &Latencies| Part::new(l.count(), self.bs, seconds, l.summary());
        let total = part(&both);
        let cpu_seconds = cpu.total().as_secs_f64();
        Report {
            target: format!("raw://127.0.0.1:{}", args.port),
            workload: Workload {
                rw: ["randread", "randwrite", "randrw"][args.rw as usize].to_owned(),
                mix: args.reads(),
                block_size: args.bs,
                queue_depth: args.qd,
                queues: args.connections,
                seconds,
                seed: args.seed,
                ..Workload::default()
            },
            cpu: Cpu {
                user_seconds: cpu.user.as_secs_f64(),
                system_seconds: cpu.system.as_secs_f64(),
                us_per_io: cpu_seconds * 1e6 / (total.iops * seconds).max(1.0),
            },
            read: part(&self.reads),
            write: part(&self.writes),
            total,
            ..Report::default()
        }
    }
}

/// A report for people.
pub(crate) fn line(report: &Report) -> String {
    let Report { workload: w, total, cpu, .. } = report;
    let (l, mib) = (&total.latency_us, total.bytes_per_second / f64::from(1 << 20));
    format!(
        "{} {} bytes, QD {} over {}: {:.0} IOPS, {mib:.1} MiB/s, mean {:.2} us, p50 {:.2}, \
         p99 {:.2}, p99.9 {:.2}, max {:.1}; CPU {:.2} us per I/O",
        w.rw,
        w.block_size,
        w.queue_depth,
        w.queues,
        total.iops,
        l.mean,
        l.p50,
        l.p99,
        l.p99_9,
        l.max,
        cpu.us_per_io
    )
}

/// A command that may be outstanding, on one connection.
#[derive(Clone, Copy)]
struct Slot {
    submitted: Instant,
    offset: u64,
    is_read: bool,
}

impl Default for Slot {
    fn default() -> Self {
        Self { submitted: Instant::now(), offset: 0, is_read: false }
    }
}

/// One connection's commands.
struct Host<'a> {
    slots: &'a mut [Slot],
    work: &'a mut Work,
}

impl Host<'_> {
    /// Sends command `cid`, if the connection has that many.
    fn submit(&mut self, cid: u16, outgoing: &mut Outgoing) -> bool {
        let Some(slot) = self.slots.get_mut(usize::from(cid)) else { return false };
        let work = &mut *self.work;
        let is_read = match work.reads_of_hundred {
            0 => false,
            100 => true,
            reads => work.random.below(100) < reads,
        };
        let offset = work.random.below(u64::from(STORE / work.bs)) * u64::from(work.bs);
        *slot = Slot { submitted: work.now, offset, is_read };
        let mut command = Header::new(kind::COMMAND, cid);
        command.length = work.bs.into();
        command.offset = offset.into();
        if is_read {
            command.operation = operation::READ;
            outgoing.push(command);
        } else if work.bs <= work.in_capsule {
            command.operation = operation::WRITE;
            outgoing.push_with(command, buffer(cid, work.bs), work.bs);
        } else {
            command.operation = operation::WRITE_LATER;
            outgoing.push(command);
        }
        true
    }
}

impl End for Host<'_> {
    fn received(&mut self) {
        self.work.now = Instant::now();
    }

    fn place(&self, header: &Header) -> usize {
        // Behind the buffers that writes send.
        BUFFERS * self.work.bs as usize + buffer(header.cid.get(), self.work.bs)
    }

    fn take(&mut self, header: &Header, outgoing: &mut Outgoing) {
        let cid = header.cid.get();
        let Some(slot) = self.slots.get(usize::from(cid)) else { return };
        if header.kind == kind::READY_TO_TRANSFER {
            let mut data = Header::new(kind::DATA_TO_SERVER, cid);
            data.offset = slot.offset.into();
            outgoing.push_with(data, buffer(cid, self.work.bs), self.work.bs);
            return;
        }
        let took = self.work.now.saturating_duration_since(slot.submitted);
        if slot.is_read {
            self.work.reads.record(took);
        } else {
            self.work.writes.record(took);
        }
        self.submit(cid, outgoing);
    }
}

fn buffer(cid: u16, bs: u32) -> usize {
    usize::from(cid) % BUFFERS * bs as usize
}

/// Xorshift: quick, and good enough to choose places by.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}
