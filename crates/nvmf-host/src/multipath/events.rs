//! What happens to the paths of a namespace, for whoever wants to know.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nvmf::spec::log::AnaState;

/// Something happened to a path or to the namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A path is there.
    Connected {
        /// Its address.
        path: String,
        /// The controller at its end.
        cntlid: u16,
        /// How the namespace is reached by it.
        state: AnaState,
    },
    /// A path that was there is not any more. It is connected again.
    Lost {
        /// Its address.
        path: String,
        /// Why.
        reason: String,
        /// Commands that were under way on it, and are tried again.
        commands: usize,
    },
    /// A path could not be connected. It is tried again.
    Failed {
        /// Its address.
        path: String,
        /// Why.
        reason: String,
        /// The next try is after this long.
        pause: Duration,
    },
    /// A path is given up: it was gone for `ctrl_loss_tmo`.
    GivenUp {
        /// Its address.
        path: String,
    },
    /// The namespace is reached in another way by a path.
    Ana {
        /// The path's address.
        path: String,
        /// How it is reached now.
        state: AnaState,
    },
    /// The controller at a path's end has asynchronous events faster than anybody can do something
    /// about them. They are taken more slowly.
    Storm {
        /// The path's address.
        path: String,
    },
    /// The namespace's size changed.
    Resized {
        /// Bytes before.
        from: u64,
        /// Bytes now.
        to: u64,
    },
    /// By this path the namespace is not there any more.
    Gone {
        /// The path's address.
        path: String,
    },
    /// By this path the namespace is there again.
    Back {
        /// The path's address.
        path: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { path, cntlid, state } => {
                write!(f, "{path}: connected to controller {cntlid}, {state}")
            }
            Self::Lost { path, reason, commands } => {
                write!(f, "{path}: lost with {commands} commands under way: {reason}")
            }
            Self::Failed { path, reason, pause } => {
                write!(f, "{path}: cannot connect: {reason}; again in {pause:.1?}")
            }
            Self::GivenUp { path } => write!(f, "{path}: given up"),
            Self::Ana { path, state } => write!(f, "{path}: {state}"),
            Self::Storm { path } => {
                write!(f, "{path}: it has events all the time; they are taken more slowly")
            }
            Self::Resized { from, to } => write!(f, "resized from {from} to {to} bytes"),
            Self::Gone { path } => write!(f, "{path}: the namespace is gone"),
            Self::Back { path } => write!(f, "{path}: the namespace is back"),
        }
    }
}

/// Those who want to know.
#[derive(Debug, Default)]
pub(crate) struct Subscribers(Mutex<Vec<SyncSender<Event>>>);

impl Subscribers {
    /// Events that a subscriber may be behind; those after that are lost to it.
    const BACKLOG: usize = 1024;

    pub(crate) fn subscribe(&self) -> Receiver<Event> {
        let (sender, receiver) = sync_channel(Self::BACKLOG);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    pub(crate) fn tell(&self, event: &Event) {
        tracing::info!(%event);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| {
            !matches!(one.try_send(event.clone()), Err(TrySendError::Disconnected(_)))
        });
    }
}
