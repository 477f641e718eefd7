//! The controller's side of a queue pair.

use super::{QueueSize, SQHD_FLOW_CONTROL_OFF};
use crate::Violation;

/// Commands outstanding and the submission queue head of a controller's queue pair.
#[derive(Debug)]
pub struct ControllerQueue {
    size: QueueSize,
    flow_control: bool,
    head: u16,
    live: Identifiers,
    /// Commands whose identifier was in use, not yet answered: they fill entries like the others.
    conflicts: u32,
}

impl ControllerQueue {
    /// A queue on which nothing but Connect can have come yet.
    pub fn new() -> Self {
        Self {
            size: QueueSize::MIN,
            flow_control: true,
            head: 0,
            live: Identifiers::default(),
            conflicts: 0,
        }
    }

    /// Connect is accepted for a queue of `size` entries.
    pub fn establish(&mut self, size: QueueSize, flow_control: bool) {
        self.size = size;
        self.flow_control = flow_control;
        self.head = 0;
    }

    /// Whether submission queue flow control is on.
    pub fn flow_control(&self) -> bool {
        self.flow_control
    }

    /// The queue's size.
    pub fn size(&self) -> QueueSize {
        self.size
    }

    /// Commands that are outstanding.
    pub fn outstanding(&self) -> usize {
        self.live.count as usize
    }

    /// Notes a command that came.
    ///
    /// With flow control, a queue of N entries holds N − 1 commands; without it, hosts may fill
    /// every entry.
    pub fn receive(&mut self, cid: u16) -> Result<(), Violation> {
        let size = self.size.entries();
        let most = if self.flow_control { size - 1 } else { size };
        if self.live.count.saturating_add(self.conflicts) >= most {
            return Err(Violation::QueueOverflow { size });
        }
        if self.live.insert(cid) {
            Ok(())
        } else {
            self.conflicts += 1;
            Err(Violation::CommandId { cid })
        }
    }

    /// The command is answered now: returns the SQHD of its response.
    ///
    /// The head moves on with each answer, so that a host can never have more commands
    /// outstanding than the queue has entries.
    pub fn complete(&mut self, cid: u16) -> u16 {
        self.live.remove(cid);
        self.advance()
    }

    /// A command with a conflicting identifier is answered now: returns the SQHD of its response.
    pub fn complete_conflict(&mut self) -> u16 {
        self.conflicts = self.conflicts.saturating_sub(1);
        self.advance()
    }

    fn advance(&mut self) -> u16 {
        if !self.flow_control {
            return 0;
        }
        self.head = self.size.next(self.head);
        self.head
    }

    /// The Connect command is answered: returns the SQHD that says how flow control stands.
    pub fn complete_connect(&mut self, cid: u16) -> u16 {
        self.live.remove(cid);
        if self.flow_control { self.head } else { SQHD_FLOW_CONTROL_OFF }
    }
}

impl Default for ControllerQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// A set of command identifiers: a bit for each up to the greatest that came, at most 8 KiB.
#[derive(Debug, Default)]
struct Identifiers {
    words: Vec<u64>,
    count: u32,
}

impl Identifiers {
    fn place(cid: u16) -> (usize, u64) {
        (usize::from(cid / 64), 1 << (cid % 64))
    }

    /// False if it is in the set already.
    fn insert(&mut self, cid: u16) -> bool {
        let (at, bit) = Self::place(cid);
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        let new = self.words[at] & bit == 0;
        self.words[at] |= bit;
        self.count += u32::from(new);
        new
    }

    fn remove(&mut self, cid: u16) {
        let (at, bit) = Self::place(cid);
        if let Some(word) = self.words.get_mut(at) {
            self.count -= u32::from(*word & bit != 0);
            *word &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(entries: u32, flow_control: bool) -> ControllerQueue {
        let mut queue = ControllerQueue::new();
        queue.establish(QueueSize::new(entries).unwrap(), flow_control);
        queue
    }

    #[test]
    fn a_live_identifier_is_a_conflict_and_a_completed_one_is_not() {
        let mut queue = queue(8, false);
        queue.receive(5).unwrap();
        assert_eq!(queue.receive(5), Err(Violation::CommandId { cid: 5 }));
        queue.complete(5);
        queue.receive(5).unwrap();
    }

    #[test]
    fn more_commands_than_entries_is_an_overflow() {
        let mut with = queue(3, true);
        with.receive(0).unwrap();
        with.receive(1).unwrap();
        assert_eq!(with.receive(2), Err(Violation::QueueOverflow { size: 3 }));
        let mut without = queue(3, false);
        (0..3).for_each(|cid| without.receive(cid).unwrap());
        assert_eq!(without.receive(3), Err(Violation::QueueOverflow { size: 3 }));
    }

    #[test]
    fn commands_with_identifiers_in_use_fill_the_queue_too() {
        let mut queue = queue(4, true);
        queue.receive(5).unwrap();
        for _ in 0..2 {
            assert_eq!(queue.receive(5), Err(Violation::CommandId { cid: 5 }));
        }
        assert_eq!(queue.receive(5), Err(Violation::QueueOverflow { size: 4 }));
        assert_eq!((queue.complete_conflict(), queue.complete(5)), (1, 2));
        queue.receive(5).unwrap();
        queue.receive(6).unwrap();
    }

    #[test]
    fn the_head_counts_answers_modulo_the_size() {
        let mut queue = queue(3, true);
        let heads: Vec<u16> = (0..5)
            .map(|cid| {
                queue.receive(cid).unwrap();
                queue.complete(cid)
            })
            .collect();
        assert_eq!(heads, [1, 2, 0, 1, 2]);
    }

    #[test]
    fn connect_says_whether_flow_control_is_on() {
        assert_eq!(queue(8, true).complete_connect(0), 0);
        assert_eq!(queue(8, false).complete_connect(0), SQHD_FLOW_CONTROL_OFF);
    }
}
