//! A received command, to be answered once.

use std::sync::{Arc, Mutex, PoisonError};

use nvme_spec::{DataDirection, Sqe};
use nvmf_proto::tcp::ReceivedCommand;

/// A received command.
///
/// It is answered by the methods of its [`QueuePair`](super::QueuePair) that take it by value.
/// Dropped without an answer, it is answered with Internal Error at the queue pair's next call:
/// no host waits forever for a command that somebody lost.
#[derive(Debug)]
#[must_use = "a command must be answered"]
pub struct Command {
    received: ReceivedCommand,
    /// Bytes of its data received in order.
    pub(super) received_to: u32,
    /// Bytes received but not yet asked for, which end at `received_to`.
    pub(super) spill: Vec<u8>,
    orphans: Orphans,
    answered: bool,
}

impl Command {
    pub(super) fn new(received: ReceivedCommand, orphans: &Orphans) -> Self {
        let orphans = orphans.clone();
        Self { received, received_to: 0, spill: Vec::new(), orphans, answered: false }
    }

    /// The command as it came.
    pub fn sqe(&self) -> &Sqe {
        &self.received.sqe
    }

    /// The length of its data in bytes, as its data pointer says; 0 where there is none.
    ///
    /// The host chose the number: check it against the transfer limit before making room.
    pub fn data_len(&self) -> u32 {
        self.received.data.length()
    }

    /// Which way the data flows.
    pub fn direction(&self) -> DataDirection {
        self.received.sqe.data_direction()
    }

    pub(super) fn slot(&self) -> u16 {
        self.received.slot
    }

    /// The slot, of a command that is being answered now.
    pub(super) fn answer(mut self) -> u16 {
        self.answered = true;
        self.received.slot
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if !self.answered {
            self.orphans.push(self.received.slot);
        }
    }
}

/// Slots of commands that were dropped without an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Orphans(Arc<Mutex<Vec<u16>>>);

impl Orphans {
    fn push(&self, slot: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }

    pub(super) fn take(&self) -> Vec<u16> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
