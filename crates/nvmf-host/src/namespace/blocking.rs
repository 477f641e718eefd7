//! Waiting for a future on this thread.

use std::cell::OnceCell;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    /// Made once for each thread that waits.
    static WAKER: OnceCell<Waker> = const { OnceCell::new() };
}

/// Waits for a future, which is also polled when its deadline has passed: it ends soon then.
pub(super) fn block_on<F: Future>(future: F, deadline: Option<Instant>) -> F::Output {
    let mut future = pin!(future);
    let waker = WAKER.with(|waker| {
        waker.get_or_init(|| Waker::from(Arc::new(Unpark(thread::current())))).clone()
    });
    let mut context = Context::from_waker(&waker);
    let mut deadline = deadline;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        match deadline {
            None => thread::park(),
            Some(time) => match time.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                // Polled once more: that has told it.
                _ => deadline = None,
            },
        }
    }
}
