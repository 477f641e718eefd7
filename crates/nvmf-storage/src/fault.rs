//! A wrapper that makes operations fail or wait, for tests.

use crate::vectored;
use crate::{Backend, Durability, Error, Geometry, ResizeError, Zero};
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A backend that does what another one does, except where a [`Fault`] says otherwise.
///
/// ```
/// use nvmf_storage::{Backend, BlockSize, Durability, Error, Failure, Fault, Faulty};
/// use nvmf_storage::{Geometry, Memory, Operation};
/// use std::io::IoSlice;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let disk = Faulty::new(Memory::new(Geometry::new(BlockSize::B512, 64)?)?);
/// // The first write that touches LBA 8 fails, the next one works: a passing disturbance.
/// disk.inject(Fault::on(Operation::Write).within(4096..4608).times(1).failing(Failure::Io));
///
/// let write = || disk.write(3584, &[IoSlice::new(&[1; 1024])], Durability::Cached);
/// assert!(matches!(write(), Err(Error::Io(_))));
/// assert!(write().is_ok());
/// assert_eq!(disk.count(Operation::Write), 2);
/// # Ok(())
/// # }
/// ```
///
/// An operation that fails does not reach the backend inside. A copy is the reads and writes that it
/// is made of ([`Backend::copy_within`]). Of several faults that apply to one
/// operation, all delays are waited for, and the failure is that of the one injected first; each of
/// them counts the operation.
///
/// Because it may wait and because every call has to pass through it, its [`Backend::access`] is
/// [`Access::Blocking`](crate::Access::Blocking), whatever is inside.
#[derive(Debug)]
pub struct Faulty<B> {
    inner: B,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    counts: [u64; 6],
}

/// What a [`Fault`] applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Backend::read`].
    Read,
    /// [`Backend::write`].
    Write,
    /// [`Backend::flush`].
    Flush,
    /// [`Backend::write_zeroes`].
    WriteZeroes,
    /// [`Backend::deallocate`].
    Deallocate,
    /// [`Backend::resize`].
    Resize,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// [`Error::Io`] with `EIO`, as from a broken disk.
    Io,
    /// [`Error::NoSpace`].
    NoSpace,
    /// [`Error::WritesLost`].
    WritesLost,
}

/// One thing that goes wrong: on which operations, where, how often, and how.
///
/// Without further words a fault applies to every call of its operation, for ever, and does
/// nothing; [`Fault::failing`] and [`Fault::delayed`] say what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    operation: Operation,
    range: Option<Range<u64>>,
    skip: u64,
    times: u64,
    failure: Option<Failure>,
    delay: Duration,
}

impl Fault {
    /// A fault of this operation.
    #[must_use]
    pub fn on(operation: Operation) -> Self {
        let (range, failure) = (None, None);
        Self { operation, range, skip: 0, times: u64::MAX, failure, delay: Duration::ZERO }
    }

    /// Only when the operation touches a byte of this range. A flush touches none, nor does a resize.
    #[must_use]
    pub fn within(self, bytes: Range<u64>) -> Self {
        Self { range: Some(bytes), ..self }
    }

    /// Only after this many operations that it would have applied to.
    #[must_use]
    pub fn after(self, operations: u64) -> Self {
        Self { skip: operations, ..self }
    }

    /// Only this many times, then never again.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// The operation fails.
    #[must_use]
    pub fn failing(self, failure: Failure) -> Self {
        Self { failure: Some(failure), ..self }
    }

    /// The operation takes this much longer; other threads are not held up.
    #[must_use]
    pub fn delayed(self, by: Duration) -> Self {
        Self { delay: by, ..self }
    }

    /// Whether it strikes now; counts the operation if it is one of its own.
    fn strikes(&mut self, operation: Operation, offset: u64, length: u64) -> bool {
        let end = offset.saturating_add(length);
        let touches = match &self.range {
            Some(range) => offset.max(range.start) < end.min(range.end),
            None => true,
        };
        if operation != self.operation || !touches {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let strikes = self.times > 0;
        self.times -= u64::from(strikes);
        strikes
    }
}

impl<B: Backend> Faulty<B> {
    /// A backend without any faults yet.
    pub fn new(inner: B) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Adds a fault; may be called while other threads use the backend.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// How many times this operation was called, failed ones included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.lock().counts[operation as usize]
    }

    /// The backend inside.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the faults act on an operation.
    fn suffer(&self, operation: Operation, offset: u64, length: u64) -> Result<(), Error> {
        let (mut delay, mut failure) = (Duration::ZERO, None);
        {
            let mut state = self.lock();
            state.counts[operation as usize] += 1;
            for fault in &mut state.faults {
                if fault.strikes(operation, offset, length) {
                    delay = delay.saturating_add(fault.delay);
                    failure = failure.or(fault.failure);
                }
            }
        }
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        match failure {
            None => Ok(()),
            Some(Failure::Io) => Err(Error::Io(io::Error::from(rustix::io::Errno::IO))),
            Some(Failure::NoSpace) => Err(Error::NoSpace),
            Some(Failure::WritesLost) => Err(Error::WritesLost),
        }
    }
}

impl<B: Backend> Backend for Faulty<B> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
        self.suffer(Operation::Read, offset, vectored::length_mut(into))?;
        self.inner.read(offset, into)
    }

    fn write(
        &self,
        offset: u64,
        from: &[IoSlice<'_>],
        durability: Durability,
    ) -> Result<(), Error> {
        self.suffer(Operation::Write, offset, vectored::length(from))?;
        self.inner.write(offset, from, durability)
    }

    fn flush(&self) -> Result<(), Error> {
        self.suffer(Operation::Flush, 0, 0)?;
        self.inner.flush()
    }

    fn write_zeroes(&self, offset: u64, length: u64, how: Zero) -> Result<(), Error> {
        self.suffer(Operation::WriteZeroes, offset, length)?;
        self.inner.write_zeroes(offset, length, how)
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.suffer(Operation::Deallocate, offset, length)?;
        self.inner.deallocate(offset, length)
    }

    fn resize(&self, bytes: Option<u64>) -> Result<Geometry, ResizeError> {
        self.suffer(Operation::Resize, 0, 0)?;
        self.inner.resize(bytes)
    }

    fn volatile_write_cache(&self) -> bool {
        self.inner.volatile_write_cache()
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, BlockSize, Memory};
    use std::time::Instant;

    fn disk() -> Faulty<Memory> {
        Faulty::new(Memory::new(Geometry::new(BlockSize::B512, 8).unwrap()).unwrap())
    }

    fn write(disk: &impl Backend, block: u64, byte: u8) -> Result<(), Error> {
        disk.write(block * 512, &[IoSlice::new(&[byte; 512])], Durability::Cached)
    }

    fn read(disk: &impl Backend, block: u64) -> Result<u8, Error> {
        let mut bytes = [0xEE; 512];
        disk.read(block * 512, &mut [IoSliceMut::new(&mut bytes)])?;
        Ok(bytes[0])
    }

    #[test]
    fn without_faults_it_is_the_backend_inside() {
        let disk = disk();
        write(&disk, 3, 7).unwrap();
        assert_eq!(read(&disk, 3).unwrap(), 7);
        assert_eq!(disk.geometry(), disk.inner().geometry());
        assert_eq!(disk.location(), "mem:1");
        assert!(matches!(disk.access(), Access::Blocking), "so that no call passes it by");
        assert!(disk.write(1, &[IoSlice::new(&[0; 512])], Durability::Cached).is_err());
    }

    #[test]
    fn a_failed_write_leaves_the_old_data() {
        let disk = disk();
        write(&disk, 1, 5).unwrap();
        disk.inject(Fault::on(Operation::Write).failing(Failure::NoSpace));
        assert!(matches!(write(&disk, 1, 6), Err(Error::NoSpace)));
        assert_eq!(read(&disk, 1).unwrap(), 5);
        disk.heal();
        write(&disk, 1, 6).unwrap();
        assert_eq!(read(&disk, 1).unwrap(), 6);
    }

    #[test]
    fn each_operation_fails_alone() {
        let all = [
            Operation::Read,
            Operation::Write,
            Operation::Flush,
            Operation::WriteZeroes,
            Operation::Deallocate,
            Operation::Resize,
        ];
        for failing in all {
            let disk = disk();
            disk.inject(Fault::on(failing).failing(Failure::Io));
            for operation in all {
                let result = match operation {
                    Operation::Read => read(&disk, 0).map(|_| ()),
                    Operation::Resize => match disk.resize(None) {
                        Err(ResizeError::Failed(error)) => Err(error),
                        resized => resized.map(|_| ()).map_err(|error| panic!("{error}")),
                    },
                    Operation::Write => write(&disk, 0, 1),
                    Operation::Flush => disk.flush(),
                    Operation::WriteZeroes => disk.write_zeroes(0, 512, Zero::default()),
                    Operation::Deallocate => disk.deallocate(0, 512),
                };
                assert_eq!(result.is_err(), operation == failing, "{operation:?} of {failing:?}");
                assert_eq!(disk.count(operation), 1);
            }
        }
    }

    #[test]
    fn only_the_chosen_range_fails() {
        let disk = disk();
        disk.inject(Fault::on(Operation::Read).within(1024..1025).failing(Failure::Io));
        let bad: Vec<u64> = (0..8).filter(|block| read(&disk, *block).is_err()).collect();
        assert_eq!(bad, [2]);
        let mut two = [0; 1024];
        assert!(disk.read(512, &mut [IoSliceMut::new(&mut two)]).is_err(), "it ends in the range");
        assert!(disk.read(0, &mut [IoSliceMut::new(&mut two)]).is_ok(), "it ends before");
    }

    #[test]
    fn only_the_chosen_calls_fail() {
        let disk = disk();
        disk.inject(Fault::on(Operation::Flush).after(2).times(3).failing(Failure::WritesLost));
        let failed: Vec<bool> = (0..8).map(|_| disk.flush().is_err()).collect();
        assert_eq!(failed, [false, false, true, true, true, false, false, false]);
    }

    #[test]
    fn a_delay_holds_up_its_own_operation_and_no_other() {
        let disk = disk();
        let delay = Duration::from_millis(300);
        disk.inject(Fault::on(Operation::Read).delayed(delay));
        thread::scope(|scope| {
            let slow = scope.spawn(|| {
                let start = Instant::now();
                read(&disk, 0).unwrap();
                start.elapsed()
            });
            while disk.count(Operation::Read) == 0 {
                thread::yield_now();
            }
            write(&disk, 0, 1).unwrap();
            assert!(!slow.is_finished(), "the write did not wait for the read");
            assert!(slow.join().unwrap() >= delay);
        });
    }
}
