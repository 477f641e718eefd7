//! The host's side of a queue pair.

use nvme_spec::Cqe;

use super::{QueueSize, SQHD_FLOW_CONTROL_OFF};
use crate::Violation;

/// There is no room for another command until one completes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the submission queue is full: {outstanding} commands are outstanding")]
pub struct QueueFull {
    /// Commands outstanding.
    pub outstanding: u32,
}

/// Command identifiers and flow control of a host's queue pair.
///
/// An identifier is never given out again while its command is live. Commands outstanding are
/// counted apart from SQHD: the head says what the controller consumed, not what it completed.
#[derive(Debug)]
pub struct HostQueue {
    size: QueueSize,
    flow: Flow,
    /// A bit per identifier: live or not.
    live: Vec<u64>,
    outstanding: u32,
    /// Where the search for a free identifier begins, so that identifiers take turns.
    next: u16,
}

/// Submission queue flow control.
#[derive(Clone, Copy, Debug)]
enum Flow {
    /// Connect has not succeeded: where the queue stands is not known yet, and the SQHD of a
    /// response says nothing that could be wrong.
    Unsettled,
    On {
        head: u16,
        tail: u16,
    },
    Off,
}

impl HostQueue {
    /// A queue on which nothing but Connect may go out yet.
    pub fn new() -> Self {
        let mut queue = Self {
            size: QueueSize::MIN,
            flow: Flow::Unsettled,
            live: Vec::new(),
            outstanding: 0,
            next: 0,
        };
        queue.resize(QueueSize::MIN);
        queue
    }

    /// Connect succeeded: the queue has `size` entries, and the response's `sqhd` says where it
    /// stands or, with FFFFh, that flow control is off.
    pub fn establish(&mut self, size: QueueSize, sqhd: u16) {
        self.flow = match sqhd {
            SQHD_FLOW_CONTROL_OFF => Flow::Off,
            sqhd => Flow::On { head: sqhd, tail: sqhd },
        };
        self.resize(size);
    }

    fn resize(&mut self, size: QueueSize) {
        self.size = size;
        self.live.resize((size.entries() as usize).div_ceil(64), 0);
    }

    /// Whether submission queue flow control is on, as it is until Connect succeeds.
    pub fn flow_control(&self) -> bool {
        !matches!(self.flow, Flow::Off)
    }

    /// The controller turned out to do without flow control: no SQHD is to be expected any more.
    pub(crate) fn end_flow_control(&mut self) {
        self.flow = Flow::Off;
    }

    /// The submission queue's size.
    pub fn size(&self) -> QueueSize {
        self.size
    }

    /// Head and tail of the submission queue; `None` where there is no flow control, and until
    /// Connect succeeds.
    ///
    /// While nothing is outstanding they are the same, unless a controller named its heads in
    /// another order than that of its responses.
    pub fn position(&self) -> Option<(u16, u16)> {
        match self.flow {
            Flow::On { head, tail } => Some((head, tail)),
            Flow::Unsettled | Flow::Off => None,
        }
    }

    /// How many commands can be outstanding at once: one less than the queue has entries.
    pub fn capacity(&self) -> u32 {
        self.size.entries() - 1
    }

    /// Commands that are outstanding.
    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Whether another command can be submitted now.
    pub fn has_room(&self) -> bool {
        let entry_free = match self.flow {
            Flow::On { head, tail } => self.size.next(tail) != head,
            Flow::Unsettled | Flow::Off => true,
        };
        self.outstanding < self.capacity() && entry_free
    }

    /// Takes an identifier for a new command, less than the queue's size.
    pub fn submit(&mut self) -> Result<u16, QueueFull> {
        let full = QueueFull { outstanding: self.outstanding };
        if !self.has_room() {
            return Err(full);
        }
        let cid = self.free_identifier().ok_or(full)?;
        self.live[usize::from(cid) / 64] |= 1 << (cid % 64);
        self.outstanding += 1;
        self.next = self.size.next(cid);
        if let Flow::On { tail, .. } = &mut self.flow {
            *tail = self.size.next(*tail);
        }
        Ok(cid)
    }

    fn free_identifier(&self) -> Option<u16> {
        // FFFFh stands for "no command" in error logs and is never used.
        let mut cid = self.next;
        for _ in 0..self.size.entries() {
            if !self.is_live(cid) && cid != 0xffff {
                return Some(cid);
            }
            cid = self.size.next(cid);
        }
        None
    }

    /// Whether command `cid` is outstanding.
    pub fn is_live(&self, cid: u16) -> bool {
        self.live.get(usize::from(cid) / 64).is_some_and(|word| word >> (cid % 64) & 1 == 1)
    }

    /// Checks a response's SQHD and takes it over.
    ///
    /// Does nothing before Connect has succeeded, and where flow control is off: the field is
    /// reserved then.
    pub fn take_head(&mut self, cqe: &Cqe) -> Result<(), Violation> {
        let Flow::On { head, tail } = &mut self.flow else { return Ok(()) };
        let sqhd = cqe.sqhd.get();
        let pending = self.size.distance(*head, *tail);
        if u32::from(sqhd) >= self.size.entries() {
            return Err(Violation::QueueHead { sqhd, head: *head, tail: *tail });
        }
        // A head that was passed already is old news: SPDK sends responses in another order than
        // that in which it noted their heads. It frees nothing, so it can do no harm.
        if self.size.distance(*head, sqhd) <= pending {
            *head = sqhd;
        }
        Ok(())
    }

    /// The command is complete: its identifier may be used again.
    ///
    /// Returns whether it was outstanding.
    pub fn complete(&mut self, cid: u16) -> bool {
        if !self.is_live(cid) {
            return false;
        }
        self.live[usize::from(cid) / 64] &= !(1 << (cid % 64));
        self.outstanding -= 1;
        true
    }
}

impl Default for HostQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::Status;
    use proptest::prelude::*;

    fn queue(entries: u32, sqhd: u16) -> HostQueue {
        let mut queue = HostQueue::new();
        queue.establish(QueueSize::new(entries).unwrap(), sqhd);
        queue
    }

    fn head(sqhd: u16) -> Cqe {
        let mut cqe = Cqe::new(0, Status::SUCCESS);
        cqe.sqhd.set(sqhd);
        cqe
    }

    #[test]
    fn before_connect_one_command_is_the_most() {
        let mut queue = HostQueue::new();
        queue.submit().unwrap();
        assert_eq!(queue.submit(), Err(QueueFull { outstanding: 1 }));
    }

    #[test]
    fn the_answer_to_connect_may_bring_any_head() {
        for sqhd in [0, 1, 2, SQHD_FLOW_CONTROL_OFF] {
            let mut queue = HostQueue::new();
            let cid = queue.submit().unwrap();
            assert!(queue.flow_control());
            queue.take_head(&head(sqhd)).unwrap();
            assert!(queue.complete(cid));
            assert!(queue.has_room(), "refused, it may be tried again");
        }
    }

    #[test]
    fn without_flow_control_completions_alone_make_room() {
        let mut queue = queue(4, SQHD_FLOW_CONTROL_OFF);
        let cids: Vec<u16> = (0..3).map(|_| queue.submit().unwrap()).collect();
        assert!(queue.submit().is_err());
        queue.take_head(&head(77)).unwrap();
        assert!(queue.complete(cids[1]));
        assert!(queue.submit().is_ok());
    }

    #[test]
    fn with_flow_control_an_entry_is_free_only_once_the_head_has_passed_it() {
        let mut queue = queue(4, 0);
        let cids: Vec<u16> = (0..3).map(|_| queue.submit().unwrap()).collect();
        queue.complete(cids[0]);
        assert!(queue.submit().is_err(), "completed, but the head has not moved");
        queue.take_head(&head(1)).unwrap();
        assert!(queue.submit().is_ok());
        assert!(queue.submit().is_err(), "three are outstanding again");
    }

    #[test]
    fn a_head_beyond_the_queue_is_a_violation() {
        let mut queue = queue(4, 2);
        queue.submit().unwrap();
        queue.take_head(&head(3)).unwrap();
        for bad in [4, 0xffff] {
            let violation = Violation::QueueHead { sqhd: bad, head: 3, tail: 3 };
            assert_eq!(queue.take_head(&head(bad)), Err(violation));
        }
    }

    #[test]
    fn a_head_that_was_passed_already_changes_nothing() {
        let mut queue = queue(4, 0);
        let cids: Vec<u16> = (0..3).map(|_| queue.submit().unwrap()).collect();
        queue.take_head(&head(2)).unwrap();
        queue.take_head(&head(1)).unwrap();
        for cid in cids {
            queue.complete(cid);
        }
        queue.submit().unwrap();
        queue.submit().unwrap();
        assert!(queue.submit().is_err(), "the head is at 2, and the entry before it is the last");
    }

    #[test]
    fn head_and_tail_are_told_where_there_is_flow_control() {
        assert_eq!(HostQueue::new().position(), None);
        assert_eq!(queue(4, SQHD_FLOW_CONTROL_OFF).position(), None);
        let mut queue = queue(4, 2);
        assert_eq!((queue.position(), queue.size().entries()), (Some((2, 2)), 4));
        let cid = queue.submit().unwrap();
        assert_eq!(queue.position(), Some((2, 3)));
        queue.take_head(&head(3)).unwrap();
        queue.complete(cid);
        assert_eq!(queue.position(), Some((3, 3)));
    }

    #[test]
    fn an_identifier_that_is_not_live_completes_nothing() {
        let mut queue = queue(4, 0);
        assert!(!queue.complete(0));
        assert!(!queue.complete(0xffff));
    }

    proptest! {
        #[test]
        fn live_identifiers_are_never_given_out_again(entries in 2u32..300, picks in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 1..600)) {
            let mut queue = queue(entries, SQHD_FLOW_CONTROL_OFF);
            let mut live = Vec::new();
            for (submit, pick) in picks {
                if submit || live.is_empty() {
                    match queue.submit() {
                        Ok(cid) => {
                            prop_assert!(!live.contains(&cid));
                            prop_assert!(u32::from(cid) < entries);
                            live.push(cid);
                        }
                        Err(full) => prop_assert_eq!(full.outstanding, entries - 1),
                    }
                } else {
                    let cid = live.swap_remove(pick.index(live.len()));
                    prop_assert!(queue.complete(cid));
                    prop_assert!(!queue.is_live(cid));
                }
                prop_assert_eq!(queue.outstanding() as usize, live.len());
            }
        }
    }
}
