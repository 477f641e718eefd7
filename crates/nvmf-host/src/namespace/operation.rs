//! An operation under way: what its commands share, and the future that waits for all of them.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::BytesMut;

use super::error::{Asked, IoError};
use super::gate::Pass;
use crate::multipath::Head;
use crate::multipath::timers::{Due, Timer};

/// Why an operation is to end before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Its deadline has passed.
    Late,
    /// Nobody waits for it.
    Dropped,
}

/// What the commands of one operation share.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) asked: Asked,
    /// 0 while it goes on, else a [`Cut`].
    cut: AtomicU8,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Commands that are not complete.
    left: usize,
    /// The first thing that went wrong.
    error: Option<IoError>,
    /// Why a command had to be tried again last.
    cause: Option<String>,
    /// What was read, in the order of the commands.
    parts: Vec<BytesMut>,
    waker: Option<Waker>,
    /// The right to write, until no command can do so any more.
    pass: Option<Pass>,
}

impl Operation {
    /// An operation of this many commands.
    pub(crate) fn new(asked: Asked, commands: usize, pass: Option<Pass>) -> Arc<Self> {
        let (error, cause, parts, waker) = (None, None, Vec::new(), None);
        let state = State { left: commands, error, cause, parts, waker, pass };
        Arc::new(Self { asked, cut: AtomicU8::new(0), state: Mutex::new(state) })
    }

    /// A command is complete: the `part`th of the operation, with what it read.
    pub(crate) fn complete(&self, part: usize, result: Result<BytesMut, IoError>) {
        let (waker, _pass) = {
            let mut state = self.lock();
            match result {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if state.parts.len() <= part {
                        state.parts.resize_with(part + 1, BytesMut::new);
                    }
                    state.parts[part] = data;
                }
                Err(error) => {
                    state.error.get_or_insert(error);
                }
            }
            state.left = state.left.saturating_sub(1);
            if state.left > 0 {
                return;
            }
            (state.waker.take(), state.pass.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The error of a command that nobody wants any more, if it is one.
    pub(crate) fn is_cut(&self) -> Option<IoError> {
        let asked = self.asked;
        match self.cut.load(Ordering::Acquire) {
            0 => None,
            cut if cut == Cut::Late as u8 + 1 => {
                Some(IoError::TimedOut { asked, cause: self.lock().cause.clone() })
            }
            _ => Some(IoError::Cancelled { asked }),
        }
    }

    /// Keeps why a command has to be tried again.
    pub(crate) fn note(&self, cause: String) {
        self.lock().cause = Some(cause);
    }

    /// Says that it is to end; `false` if that was said before.
    pub(crate) fn cut(&self, cut: Cut) -> bool {
        self.cut.compare_exchange(0, cut as u8 + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an operation; gives what was read. Dropped before that, it has the operation's commands
/// aborted.
#[derive(Debug)]
pub(crate) struct Pending {
    operation: Arc<Operation>,
    head: Arc<Head>,
    /// Cuts the operation when its time is over. It still ends by itself then: as soon as its commands
    /// are aborted.
    _timer: Option<Timer>,
    done: bool,
}

impl Pending {
    pub(crate) fn new(
        operation: Arc<Operation>,
        head: Arc<Head>,
        deadline: Option<Instant>,
    ) -> Self {
        let timer = deadline.map(|time| Timer::set(&head, time, Due::Late(Arc::clone(&operation))));
        Self { operation, head, _timer: timer, done: false }
    }
}

impl Future for Pending {
    type Output = Result<BytesMut, IoError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = {
            let mut state = self.operation.lock();
            if state.left > 0 {
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    state.waker = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
            let error = state.error.take();
            error.map_or_else(|| Ok(joined(std::mem::take(&mut state.parts))), Err)
        };
        self.done = true;
        Poll::Ready(result)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(pass) = &self.operation.lock().pass {
            pass.abandon();
        }
        if self.operation.cut(Cut::Dropped) {
            self.head.look_for_cuts();
        }
    }
}

/// All parts in one piece: without a copy where they were cut from one.
fn joined(parts: Vec<BytesMut>) -> BytesMut {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        all.unsplit(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::error::Verb;

    const ASKED: Asked = Asked { verb: Verb::Read, offset: 0, length: 3 };

    #[test]
    fn parts_are_joined_in_their_order_whatever_order_they_came_in() {
        let operation = Operation::new(ASKED, 3, None);
        operation.complete(2, Ok(BytesMut::from(&b"c"[..])));
        operation.complete(0, Ok(BytesMut::from(&b"a"[..])));
        operation.complete(1, Ok(BytesMut::from(&b"b"[..])));
        let mut state = operation.lock();
        assert_eq!((state.left, &joined(std::mem::take(&mut state.parts))[..]), (0, &b"abc"[..]));
    }

    #[test]
    fn the_first_error_counts_and_the_operation_ends_with_its_last_command() {
        let operation = Operation::new(ASKED, 2, None);
        operation.complete(1, Err(IoError::ReadOnly { asked: ASKED }));
        assert_eq!(operation.lock().left, 1);
        operation.complete(0, Err(IoError::Closed { asked: ASKED }));
        let state = operation.lock();
        assert_eq!((state.left, &state.error), (0, &Some(IoError::ReadOnly { asked: ASKED })));
    }

    #[test]
    fn what_is_cut_first_says_why() {
        let operation = Operation::new(ASKED, 1, None);
        assert_eq!(operation.is_cut(), None);
        assert!(operation.cut(Cut::Late) && !operation.cut(Cut::Dropped));
        assert_eq!(operation.is_cut(), Some(IoError::TimedOut { asked: ASKED, cause: None }));
        operation.note("it is slow".to_owned());
        let text = operation.is_cut().unwrap().to_string();
        assert!(text.ends_with("not done in its time: it is slow"), "{text}");
    }
}
