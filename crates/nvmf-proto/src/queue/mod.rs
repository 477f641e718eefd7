//! The queue pair of each role, whatever the transport: command identifiers, submission queue
//! flow control, how many commands may be outstanding (Base 2.1, section 3.3.2).

mod controller;
mod host;

pub use controller::ControllerQueue;
pub use host::{HostQueue, QueueFull};

/// SQHD of a Connect response that switches submission queue flow control off.
pub const SQHD_FLOW_CONTROL_OFF: u16 = 0xffff;

/// The entries of a submission queue: 2 to 65536.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct QueueSize(u32);

impl QueueSize {
    /// The smallest queue.
    pub const MIN: Self = Self(2);
    /// The largest admin queue.
    pub const MAX_ADMIN: Self = Self(4096);
    /// The largest I/O queue.
    pub const MAX_IO: Self = Self(65536);

    /// A size in entries, `None` unless it is 2 to 65536.
    pub const fn new(entries: u32) -> Option<Self> {
        if entries >= Self::MIN.0 && entries <= Self::MAX_IO.0 { Some(Self(entries)) } else { None }
    }

    /// From a 0's based field, `None` for 0: a queue of one entry can hold nothing.
    pub const fn from_zero_based(sqsize: u16) -> Option<Self> {
        Self::new(sqsize as u32 + 1)
    }

    /// As a 0's based field.
    #[allow(clippy::cast_possible_truncation, reason = "at most 65535 after the subtraction")]
    pub const fn zero_based(self) -> u16 {
        (self.0 - 1) as u16
    }

    /// The number of entries.
    pub const fn entries(self) -> u32 {
        self.0
    }

    /// The entry after `index`, going around at the end.
    fn next(self, index: u16) -> u16 {
        // Not by a modulo, which takes longer than all the rest of taking an identifier.
        if u32::from(index) + 1 < self.0 { index + 1 } else { 0 }
    }

    /// How many entries lie from `from` up to `to`, going around at the end.
    fn distance(self, from: u16, to: u16) -> u32 {
        (u32::from(to) + self.0 - u32::from(from)) % self.0
    }
}
