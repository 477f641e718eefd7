//! Where the process has its memory from: jemalloc, which lays what is long-lived side by side and
//! asks the kernel to back it with huge pages where it has some.
//!
//! A namespace in memory is made of chunks that come one at a time, as blocks are written. On pages
//! of 4 KiB every read of a block is a miss in the processor's table of pages too.
#![allow(unsafe_code, reason = "jemalloc finds its options by the name of a symbol")]

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// - `thp:always`: huge pages wherever the kernel gives them to who asks.
/// - `narenas:4`: an arena for each of many cores would cost each of them a huge page.
/// - `background_thread:true`: what is freed goes back to the kernel even if nothing follows.
// SAFETY: jemalloc declares it as `const char *`, which a reference to bytes is, and reads to the
// zero at their end. Its own definition is weak, made to be replaced, and nothing else has the name.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8; 44] = b"thp:always,narenas:4,background_thread:true\0";
