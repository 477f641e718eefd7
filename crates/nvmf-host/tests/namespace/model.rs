//! Random operations on a namespace whose paths are cut and stalled, against a model in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nvmf_host::{Event, IoError, Namespace};
use nvmf_target::limits::MaxTransfer;

use crate::proxy::Proxy;
use crate::target::{Running, by, pattern};

const THREADS: usize = 4;
/// Odd: neighbours share a block.
const SHARE: usize = 300_007;
/// Where the first share begins.
const FIRST: usize = 1001;
const MOST: usize = 60_000;
const LASTS: Duration = Duration::from_millis(2500);

/// Numbers that look random, the same again for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 8).unwrap() % end
    }
}

/// A part of the namespace that one thread has, and what is in it.
struct Share<'a> {
    disk: &'a Namespace,
    random: Random,
    start: usize,
    bytes: Vec<u8>,
}

impl Share<'_> {
    /// A place in it, often at one of its ends, where a neighbour has the rest of the block.
    fn range(&mut self) -> (usize, usize) {
        let length = match self.random.below(3) {
            0 => self.random.below(100),
            1 => self.random.below(5000),
            _ => self.random.below(MOST),
        };
        let from = match self.random.below(4) {
            0 => 0,
            1 => SHARE - length,
            _ => self.random.below(SHARE - length + 1),
        };
        (from, length)
    }

    /// The whole blocks of a place in it, which may be none.
    fn whole(&self, from: usize, length: usize) -> (usize, usize) {
        let block = self.disk.block_size() as usize;
        let (start, end) = (self.start + from, self.start + from + length);
        let (first, last) = (start.next_multiple_of(block), end - end % block);
        if first < last { (first - self.start, last - first) } else { (from, 0) }
    }

    fn step(&mut self) -> Result<(), IoError> {
        let (from, length) = self.range();
        let (offset, bytes) = ((self.start + from) as u64, length as u64);
        match self.random.below(16) {
            0..5 => {
                let read = self.disk.read_bytes_at(offset, length)?;
                assert!(read == self.bytes[from..from + length], "read of {length} at {offset}");
            }
            5..10 => {
                let data = pattern(self.random.0, length);
                self.disk.write_at(&data, offset)?;
                self.bytes[from..from + length].copy_from_slice(&data);
            }
            10 | 11 => {
                self.disk.write_zeroes(offset, bytes, self.random.below(2) == 0)?;
                self.bytes[from..from + length].fill(0);
            }
            12 => {
                self.disk.discard(offset, bytes)?;
                // This target has zeroes there.
                let (from, length) = self.whole(from, length);
                self.bytes[from..from + length].fill(0);
            }
            13 | 14 => self.compare(from, length)?,
            _ => self.disk.flush()?,
        }
        Ok(())
    }

    fn compare(&mut self, from: usize, length: usize) -> Result<(), IoError> {
        let (from, length) = self.whole(from, length);
        if length == 0 {
            return Ok(());
        }
        let offset = (self.start + from) as u64;
        let mut data = self.bytes[from..from + length].to_vec();
        self.disk.compare(&data, offset)?;
        data[self.random.below(length)] ^= 1;
        let result = self.disk.compare(&data, offset);
        assert!(matches!(result, Err(IoError::Mismatch { .. })), "{result:?} at {offset}");
        Ok(())
    }
}

/// Cuts and stalls until it is over. No write arrives after its path is known to be lost: that may
/// happen in the world, and no host can know.
fn disturb(proxies: &[Proxy], mut random: Random, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(20 + random.below(150) as u64));
        let proxy = &proxies[random.below(proxies.len())];
        match random.below(8) {
            0..4 => proxy.cut_in_order(),
            4 => proxies.iter().for_each(Proxy::cut_in_order),
            _ => {
                proxy.stall(true);
                thread::sleep(Duration::from_millis(random.below(150) as u64));
                proxy.stall(false);
            }
        }
    }
}

#[test]
fn a_namespace_is_what_its_model_is_whatever_happens_to_its_paths() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = now.as_secs() << 32 | u64::from(now.subsec_nanos()) | 1;
    println!("seed {seed}");
    for (number, spec) in ["mem:2M,bs=512", "mem:2M"].into_iter().enumerate() {
        against_model(spec, seed.wrapping_add(number as u64 * 2));
    }
}

fn against_model(spec: &str, seed: u64) {
    let target = Running::start_with(2, |subsystem| {
        let small = MaxTransfer::new(8192).unwrap();
        subsystem.max_transfer(small).open(&spec.parse().unwrap()).unwrap()
    });
    let proxies: Vec<_> = target.addresses.iter().map(|to| Proxy::start(*to)).collect();
    let addresses: Vec<_> = proxies.iter().map(|proxy| proxy.address).collect();
    // A stall is not taken for the end of a path.
    let disk = by(&addresses).keep_alive(Duration::from_secs(8)).connect().unwrap();
    let events = disk.events();
    let over = AtomicBool::new(false);
    let end = Instant::now() + LASTS;
    let (mut steps, mut all) = (0, vec![0; 2 << 20]);
    thread::scope(|scope| {
        scope.spawn(|| disturb(&proxies, Random(seed), &over));
        let threads = (0..THREADS).map(|number| {
            let random = Random(seed.wrapping_mul(number as u64 * 2 + 3));
            let (start, bytes) = (FIRST + number * SHARE, vec![0; SHARE]);
            let mut share = Share { disk: &disk, random, start, bytes };
            scope.spawn(move || {
                let mut steps = 0;
                while Instant::now() < end {
                    share.step().unwrap();
                    steps += 1;
                }
                (steps, share.start, share.bytes)
            })
        });
        let threads: Vec<_> = threads.collect();
        let results: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::SeqCst);
        for result in results {
            let (done, start, bytes) = result.unwrap();
            steps += done;
            all[start..start + bytes.len()].copy_from_slice(&bytes);
        }
    });
    let lost = events.try_iter().filter(|event| matches!(event, Event::Lost { .. })).count();
    println!("{spec}: {steps} steps, {lost} paths lost");
    assert!(steps > 100 && lost > 3, "{steps} steps, {lost} paths lost");
    let read = disk.read_bytes_at(0, all.len()).unwrap();
    let different = read.iter().zip(&all).position(|(is, should)| is != should);
    assert_eq!(different, None, "{spec}: the first byte that is different");
}

#[test]
fn operations_are_cut_where_mdts_says() {
    let target = Running::start_with(1, |subsystem| {
        let small = MaxTransfer::new(16 << 10).unwrap();
        subsystem.max_transfer(small).open(&"mem:1M".parse().unwrap()).unwrap()
    });
    let disk = target.namespace();
    let commands = || target.handle.controllers()[0].io_commands;
    assert_eq!(disk.geometry().max_transfer, 16 << 10);
    let data = pattern(6, 100 << 10);
    let before = commands();
    disk.write_at(&data, 4096).unwrap();
    assert_eq!(commands() - before, 7);
    assert!(disk.read_bytes_at(4096, data.len()).unwrap() == data);
    assert_eq!(commands() - before, 14);
    // Both ends are read before.
    disk.write_at(&data[..32 << 10], 100).unwrap();
    assert_eq!(commands() - before, 14 + 2 + 3);
    assert!(disk.read_bytes_at(100, 32 << 10).unwrap() == data[..32 << 10]);
}
