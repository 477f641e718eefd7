//! Endpoints in memory, which fail where they are told to.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::endpoint::{Destination, Identity, Rest, Source};

/// Bytes in memory. What it holds durably is what it held at the last flush.
#[derive(Debug)]
pub(crate) struct Memory {
    name: String,
    bytes: Mutex<Vec<u8>>,
    durable: Mutex<Vec<u8>>,
    map: bool,
    grows: bool,
    block: u32,
    /// Calls until one fails; every one after it does too. 0 is never.
    fails_after: AtomicU64,
    /// Where what is written is wrong.
    damaged: Vec<u64>,
    panics: bool,
    /// Calls until the power is lost, once, without an error: 0 is never.
    loses_after: AtomicU64,
    losses: AtomicU64,
    /// Blocks that somebody writes to at present.
    busy: Mutex<BTreeSet<u64>>,
}

impl Memory {
    pub(crate) fn zeroed(length: usize) -> Self {
        Self::new("memory", vec![0; length])
    }

    pub(crate) fn new(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            durable: Mutex::new(bytes.clone()),
            bytes: Mutex::new(bytes),
            map: true,
            grows: false,
            block: 512,
            fails_after: AtomicU64::new(0),
            damaged: Vec::new(),
            panics: false,
            loses_after: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            busy: Mutex::default(),
        }
    }

    pub(crate) fn without_map(self) -> Self {
        Self { map: false, ..self }
    }

    pub(crate) fn growing(self) -> Self {
        Self { grows: true, ..self }
    }

    /// Writes a wrong byte at each of these places of what is copied to offset 1000000.
    pub(crate) fn damaging(self, places: &[u64]) -> Self {
        Self { damaged: places.iter().map(|at| at + 1_000_000).collect(), ..self }
    }

    /// Writing to it is the end.
    pub(crate) fn panicking(self) -> Self {
        Self { panics: true, ..self }
    }

    /// Calls that read, write or flush fail after so many.
    pub(crate) fn fail_after(&self, calls: u64) {
        self.fails_after.store(calls, Ordering::Relaxed);
    }

    /// The power is lost after so many calls, and is back at once.
    pub(crate) fn lose_power_after(&self, calls: u64) {
        self.loses_after.store(calls, Ordering::Relaxed);
    }

    /// Everything is as it was before anything was written.
    pub(crate) fn forget(&self) {
        self.bytes().fill(0xEE);
        self.durable.lock().unwrap().fill(0xEE);
    }

    /// Nothing fails any more.
    pub(crate) fn repair(&self) {
        self.fails_after.store(0, Ordering::Relaxed);
    }

    pub(crate) fn put(&mut self, at: u64, data: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.bytes()[at..at + data.len()].copy_from_slice(data);
    }

    pub(crate) fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap()
    }

    /// What would be left after a loss of power.
    pub(crate) fn durable(&self) -> Vec<u8> {
        self.durable.lock().unwrap().clone()
    }

    /// Loses power: what was not flushed is gone.
    pub(crate) fn lose_power(&self) {
        *self.bytes() = self.durable();
    }

    fn may_fail(&self) -> io::Result<()> {
        let left = self
            .loses_after
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.lose_power();
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
        let left = self.fails_after.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left > 1).then(|| left - 1)
        });
        if left == Err(1) { Err(io::Error::other("told to fail")) } else { Ok(()) }
    }

    fn range(&self, at: u64, length: u64) -> io::Result<Range<usize>> {
        let (start, end) = (usize::try_from(at).unwrap(), usize::try_from(at + length).unwrap());
        if end > self.bytes().len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(start..end)
    }

    /// Does something to whole blocks, which nobody else may do anything to meanwhile.
    fn alone(&self, at: u64, length: u64, act: impl FnOnce()) {
        let block = u64::from(self.block);
        let blocks: Vec<u64> = (at / block..(at + length).div_ceil(block)).collect();
        for one in &blocks {
            assert!(self.busy.lock().unwrap().insert(*one), "two at once write block {one}");
        }
        std::thread::yield_now();
        act();
        for one in &blocks {
            self.busy.lock().unwrap().remove(one);
        }
    }
}

impl Source for Memory {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> io::Result<Identity> {
        let (place, size) = (self.name.clone(), self.bytes().len() as u64);
        Ok(Identity { lasting: place.clone(), place, size, version: None })
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.may_fail()?;
        let range = self.range(offset, into.len() as u64)?;
        into.copy_from_slice(&self.bytes()[range]);
        Ok(())
    }

    fn has_map(&self) -> bool {
        self.map
    }

    /// By blocks of 512 bytes, as a file system would.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if !self.map {
            return Ok(Some(offset..u64::MAX));
        }
        let bytes = self.bytes();
        let has_data = |block: &u64| {
            let start = usize::try_from(block * 512).unwrap();
            bytes[start..bytes.len().min(start + 512)].iter().any(|byte| *byte != 0)
        };
        let all = (bytes.len() as u64).div_ceil(512);
        let Some(first) = (offset / 512..all).find(has_data) else { return Ok(None) };
        let end = (first..all).find(|block| !has_data(block)).unwrap_or(all);
        Ok(Some(offset.max(first * 512)..(end * 512).min(bytes.len() as u64)))
    }
}

impl Destination for Memory {
    fn block_size(&self) -> u32 {
        self.block
    }

    fn grows(&self) -> bool {
        self.grows
    }

    fn prepare(&self, end: u64, rest: Rest) -> io::Result<()> {
        if self.grows {
            let mut bytes = self.bytes();
            if rest == Rest::Goes {
                bytes.clear();
            }
            let length = bytes.len().max(usize::try_from(end).unwrap());
            bytes.resize(length, 0);
        }
        Ok(())
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        self.may_fail()?;
        let range = self.range(offset, from.len() as u64)?;
        assert!(!self.panics, "told to panic");
        self.alone(offset, from.len() as u64, || {
            self.bytes()[range].copy_from_slice(from);
            let end = offset + from.len() as u64;
            for at in self.damaged.iter().filter(|at| (offset..end).contains(at)) {
                self.bytes()[usize::try_from(*at).unwrap()] ^= 0xFF;
            }
        });
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.may_fail()?;
        let range = self.range(offset, length)?;
        self.alone(offset, length, || self.bytes()[range].fill(0));
        Ok(())
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    fn flush(&self) -> io::Result<()> {
        self.may_fail()?;
        // Only what was there when it began.
        let now = self.bytes().clone();
        *self.durable.lock().unwrap() = now;
        Ok(())
    }
}
