//! Commands on their way to a path's thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::command::Command;
use crate::Handle;
use crate::namespace::error::IoError;

/// What a path's thread is to send. Closed while the path is not connected.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// Commands in here and under way: what policy `QueueDepth` compares.
    load: AtomicUsize,
    pub(crate) handle: Handle,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    commands: VecDeque<Command>,
    /// The thread found nothing, and sleeps or is about to.
    idle: bool,
    /// Somebody gave up on an operation.
    cuts: bool,
    /// No command comes any more.
    closing: bool,
}

impl Inbox {
    pub(crate) fn open(&self) {
        self.lock().open = true;
    }

    /// Closes it; gives what was in it.
    pub(crate) fn close(&self) -> VecDeque<Command> {
        let mut state = self.lock();
        state.open = false;
        state.idle = false;
        state.cuts = false;
        self.load.store(0, Ordering::Relaxed);
        std::mem::take(&mut state.commands)
    }

    /// Puts a command in; gives it back if this is closed.
    #[must_use]
    pub(crate) fn push(&self, command: Command) -> Option<Command> {
        let wake = {
            let mut state = self.lock();
            if !state.open {
                return Some(command);
            }
            state.commands.push_back(command);
            // Before the thread can have it, and before this can be closed.
            self.load.fetch_add(1, Ordering::Relaxed);
            std::mem::take(&mut state.idle)
        };
        if wake {
            self.handle.wake();
        }
        None
    }

    /// The next command, for the path's thread; with none, the next one wakes it.
    pub(crate) fn pop(&self) -> Option<Command> {
        let mut state = self.lock();
        let command = state.commands.pop_front();
        state.idle |= command.is_none();
        command
    }

    /// A command that was popped is complete.
    pub(crate) fn completed(&self) {
        // A path that was closed meanwhile has begun to count anew.
        let _ = self.load.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }

    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Has the thread look for operations that nobody waits for.
    pub(crate) fn cut(&self) {
        self.lock().cuts = true;
        self.handle.wake();
    }

    /// Has the thread end once it has nothing to do.
    pub(crate) fn finish(&self) {
        self.lock().closing = true;
        self.handle.wake();
    }

    /// Whether there are cuts to look for, said once: with the commands in here that nobody waits for.
    pub(crate) fn take_cuts(&self) -> Option<Vec<(Command, IoError)>> {
        let mut state = self.lock();
        if !std::mem::take(&mut state.cuts) {
            return None;
        }
        let mut cut = Vec::new();
        for command in std::mem::take(&mut state.commands) {
            match command.is_cut() {
                Some(error) => cut.push((command, error)),
                None => state.commands.push_back(command),
            }
        }
        self.load.fetch_sub(cut.len(), Ordering::Relaxed);
        Some(cut)
    }

    /// Whether the thread is to end, and nothing is in here.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.closing && state.commands.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use nvmf::spec::Sqe;

    use crate::multipath::command::CommandData;
    use crate::namespace::error::{Asked, Verb};
    use crate::namespace::operation::{Cut, Operation};

    fn operation() -> Arc<Operation> {
        Operation::new(Asked { verb: Verb::Other, offset: 0, length: 0 }, 1, None)
    }

    fn command(operation: &Arc<Operation>) -> Command {
        Command::new(Arc::clone(operation), 0, Sqe::new(0), CommandData::None)
    }

    #[test]
    fn the_load_is_what_is_in_here_and_under_way() {
        let (inbox, operation) = (Inbox::default(), operation());
        assert!(inbox.push(command(&operation)).is_some());
        assert_eq!(inbox.load(), 0);
        inbox.open();
        for _ in 0..3 {
            assert!(inbox.push(command(&operation)).is_none());
        }
        assert!(inbox.pop().is_some() && inbox.load() == 3);
        inbox.completed();
        assert_eq!((inbox.load(), inbox.close().len(), inbox.load()), (2, 2, 0));
        inbox.completed();
        assert_eq!(inbox.load(), 0);
    }

    #[test]
    fn what_is_cut_does_not_wait_for_room_on_a_queue() {
        let inbox = Inbox::default();
        inbox.open();
        let (first, second) = (operation(), operation());
        assert!(inbox.push(command(&first)).is_none() && inbox.push(command(&second)).is_none());
        assert!(inbox.take_cuts().is_none());
        assert!(first.cut(Cut::Late));
        inbox.cut();
        inbox.finish();
        assert_eq!(inbox.take_cuts().unwrap().len(), 1);
        assert!(inbox.take_cuts().is_none());
        assert!(!inbox.is_finished() && inbox.load() == 1);
        assert!(inbox.pop().unwrap().is_cut().is_none());
        assert!(inbox.is_finished());
    }
}
