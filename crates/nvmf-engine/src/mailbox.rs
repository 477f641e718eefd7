//! Messages from other threads to an engine's.

use std::sync::mpsc;

use crate::waker::Waker;

/// What other threads post for an engine's thread, in order.
#[derive(Debug)]
pub struct Mailbox<T> {
    receiver: mpsc::Receiver<T>,
    sender: Sender<T>,
}

/// Posts to a [`Mailbox`] from any thread.
#[derive(Debug)]
pub struct Sender<T> {
    sender: mpsc::Sender<T>,
    waker: Waker,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), waker: self.waker.clone() }
    }
}

impl<T> Mailbox<T> {
    /// A mailbox of the engine with this waker.
    pub fn new(waker: Waker) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { receiver, sender: Sender { sender, waker } }
    }

    /// For another thread.
    pub fn sender(&self) -> Sender<T> {
        self.sender.clone()
    }

    /// Takes the oldest message; to be called until there is none whenever the engine was woken.
    pub fn take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Sender<T> {
    /// Posts a message and wakes the engine; gives it back if the mailbox is gone.
    ///
    /// # Errors
    ///
    /// The message, if nobody is left to take it.
    pub fn post(&self, message: T) -> Result<(), T> {
        self.sender.send(message).map_err(|mpsc::SendError(message)| message)?;
        self.waker.wake();
        Ok(())
    }
}
