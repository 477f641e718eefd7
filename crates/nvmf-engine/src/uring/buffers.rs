//! Buffers that the kernel chooses from when something comes.

use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// As many connections can have something in one turn; more of them have to ask again, which costs
/// them an operation. Not more, because the kernel uses all of them in turn: with 4 MiB, more than
/// the cache of a core, a stream of writes of 16 KiB is a fifth slower. A power of two.
pub(super) const COUNT: u16 = 32;
/// A receive takes this much at most: what an in-capsule write or a burst of capsules needs, and
/// long enough that the price of a completion does not count. In bytes.
pub(super) const SIZE: u32 = 64 << 10;
/// The number of the only group there is.
pub(super) const GROUP: u16 = 0;

/// The ring of buffers begins at a page; the buffers follow it.
const HEAD: usize = 4096;
const LENGTH: usize = HEAD + COUNT as usize * SIZE as usize;
const _: () = assert!(COUNT.is_power_of_two());
const _: () = assert!(COUNT as usize * size_of::<BufRingEntry>() <= HEAD);

/// All buffers of an engine. What was never used takes no memory.
#[derive(Debug)]
pub(super) struct Buffers(Rc<Region>);

#[derive(Debug)]
struct Region {
    base: NonNull<u8>,
    /// How many buffers were given to the kernel so far, modulo 2^16.
    given: Cell<u16>,
    /// The kernel may write into it even now.
    leaked: Cell<bool>,
}

/// A buffer that the kernel has filled; goes back to it when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    /// Keeps the memory even where the engine is dropped meanwhile, as a handler can do.
    region: Rc<Region>,
    id: u16,
    length: usize,
}

impl Buffers {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a new mapping touches nobody's memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let region = Region { base, given: Cell::new(0), leaked: Cell::new(false) };
        for id in 0..COUNT {
            region.give(id);
        }
        Ok(Self(Rc::new(region)))
    }

    /// Where the kernel finds the ring of buffers.
    pub(super) fn address(&self) -> u64 {
        self.0.base.as_ptr() as u64
    }

    /// A buffer with `length` bytes in it.
    ///
    /// # Safety
    ///
    /// The kernel said that it has put so many into this buffer, and the buffer was not leased
    /// since.
    pub(super) unsafe fn lease(&self, id: u16, length: usize) -> Lease {
        debug_assert!(id < COUNT && length <= SIZE as usize);
        Lease { region: Rc::clone(&self.0), id, length }
    }

    /// Keeps the memory for ever.
    pub(super) fn leak(&self) {
        self.0.leaked.set(true);
    }
}

impl Region {
    fn buffer(&self, id: u16) -> *mut u8 {
        // SAFETY: the region has room for `COUNT` buffers behind its head, and `id` is below that.
        unsafe { self.base.as_ptr().add(HEAD + usize::from(id) * SIZE as usize) }
    }

    /// Puts a buffer behind those that the kernel has. There is always room, because there are not
    /// more buffers than places.
    fn give(&self, id: u16) {
        let given = self.given.get();
        let ring = self.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the place is within the head of the region, aligned because the region begins at
        // a page, and zeroed or written before, which is a valid entry. The kernel does not read
        // it before the tail says so. The tail lies in the reserved half-word of the first entry,
        // which the setters leave alone.
        let tail = unsafe {
            let entry = &mut *ring.add(usize::from(given % COUNT));
            entry.set_addr(self.buffer(id) as u64);
            entry.set_len(SIZE);
            entry.set_bid(id);
            &*BufRingEntry::tail(ring).cast::<AtomicU16>()
        };
        self.given.set(given.wrapping_add(1));
        // The entry must be seen by who sees this.
        tail.store(self.given.get(), Ordering::Release);
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is mapped as long as the region is, which this keeps. By the promise
        // given to `lease`, the kernel has written so many bytes and is done with the buffer until
        // it gets it back, which is when this is dropped.
        unsafe { std::slice::from_raw_parts(self.region.buffer(self.id), self.length) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.region.give(self.id);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if !self.leaked.get() {
            // SAFETY: mapped in `new`, with this length; nobody refers to it any more, the kernel
            // neither, or it would have been leaked.
            unsafe { libc::munmap(self.base.as_ptr().cast(), LENGTH) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_keeps_its_memory_when_the_buffers_are_gone() {
        let buffers = Buffers::new().unwrap();
        // SAFETY: no kernel knows these buffers, so the test may say what is in them; it is zeroed.
        let lease = unsafe { buffers.lease(COUNT - 1, SIZE as usize) };
        drop(buffers);
        assert!(lease.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_buffer_goes_back_when_its_lease_ends() {
        let buffers = Buffers::new().unwrap();
        for n in 0..200u16 {
            assert_eq!(buffers.0.given.get(), COUNT + n);
            // SAFETY: as above.
            drop(unsafe { buffers.lease(n % COUNT, 0) });
        }
    }
}
