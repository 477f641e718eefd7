//! Having memory at hand before it is needed.
#![allow(unsafe_code, reason = "the processor's hint takes an address")]

/// Bytes that one hint brings.
const LINE: usize = 64;

/// Hints that `bytes` will be read soon, by this thread or by the kernel for it, so that they are on
/// their way from memory while something else is done. Changes nothing else, and does nothing on
/// processors other than x86-64.
///
/// Worth it where the bytes are not in the cache and at least a few hundred nanoseconds are between
/// the hint and the use: for answers that are gathered before they are sent, it is (4 KiB reads from
/// memory of 256 MiB, queue depth 32: 11 % more of them). Not worth it beyond some KiB in a row,
/// which the processor follows by itself.
///
/// ```
/// let block = vec![7; 4096];
/// nvmf_engine::prefetch(&block);
/// ```
#[inline]
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        // Four at a time: the counting costs as much as the hints.
        let (fours, rest) = bytes.as_chunks::<{ 4 * LINE }>();
        for four in fours {
            hint(four);
            hint(&four[LINE..]);
            hint(&four[2 * LINE..]);
            hint(&four[3 * LINE..]);
        }
        rest.chunks(LINE).for_each(hint);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, LINE);
}

/// Hints at the line where `bytes` begin.
#[cfg(target_arch = "x86_64")]
#[inline]
fn hint(bytes: &[u8]) {
    use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a hint reads nothing and cannot fault, whatever the address; this one is in `bytes`,
    // or at its end. SSE, which it is part of, belongs to every x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(bytes.as_ptr().cast()) };
}
