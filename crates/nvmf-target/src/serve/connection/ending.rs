//! How a connection ends.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use nvmf_engine::{End, Engine};
use nvmf_proto::Violation;

use super::{Admin, Connection, Stage};
use crate::serve::core::Context;
use crate::serve::{DATA_TIMEOUT, DRAIN};
use crate::who::say;

/// How long the peer may take to close after the last words of this end.
const GOODBYE: Duration = Duration::from_secs(1);
/// When the target stops, a connection that has been silent for this long has nothing under way.
const QUIET: Duration = Duration::from_millis(50);

/// Whether a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Serving,
    /// What is ready is sent, then it ends.
    Leaving,
    /// All is sent, and that is said; what still comes is dropped until the peer closes too: a
    /// connection closed with bytes unread is reset, which may take the last words with it.
    Lingering,
    /// It can be closed once nothing outside is busy with it.
    Over,
}

/// Why a connection ends, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    Closed,
    Stopped,
    Expired,
    Failed,
}

impl Connection {
    /// Whether it can be closed and forgotten.
    pub(in crate::serve) fn is_over(&self) -> bool {
        self.life == Life::Over && self.outside == 0
    }

    /// Sends what is ready, then ends.
    pub(super) fn leave(&mut self) {
        if self.life == Life::Serving {
            self.life = Life::Leaving;
        }
    }

    /// The peer broke the protocol: it is told so, where it is to be told.
    pub(super) fn violated(&mut self, cx: &Context, violation: &Violation) {
        cx.shared.events.violated(violation);
        say!(warn, self.who, %violation, "the host broke the protocol");
        self.life = if self.tcp.wants_transmit() { Life::Leaving } else { Life::Over };
    }

    /// Nothing is in flight or ready to be sent: perhaps that was the last.
    pub(super) fn all_sent(&mut self, cx: &mut Context) {
        if self.life == Life::Leaving && self.outside == 0 {
            self.life = Life::Lingering;
            self.guard.shutdown(Shutdown::Write);
            self.arm(cx, cx.now.checked_add(GOODBYE));
        }
    }

    /// The engine says that nothing more comes.
    pub(in crate::serve) fn ended(&mut self, end: &End) {
        match end {
            End::Closed => {
                if let Stage::Connecting(_) = self.stage {
                    say!(debug, self.who, "closed before Connect");
                }
            }
            End::Failed(error) => {
                match &self.stage {
                    // That the socket failed then is this end's own doing.
                    Stage::Io(stage) if stage.is_stopped() => {}
                    // Linux as host sends RST right behind its FIN: an end like any other.
                    _ if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                    _ => say!(warn, self.who, %error, "connection failed"),
                }
            }
        }
        self.life = Life::Over;
    }

    /// Its timer has run out.
    pub(in crate::serve) fn due<E: Engine>(&mut self, cx: &mut Context, engine: &mut E) {
        self.arm(cx, None);
        match (self.life, &self.stage) {
            (Life::Lingering, _) => self.life = Life::Over,
            (_, Stage::Connecting(_)) => {
                say!(warn, self.who, "no Connect in time");
                self.life = Life::Over;
            }
            (Life::Serving, Stage::Admin(_)) => self.admin_due(cx),
            (Life::Serving, Stage::Io(_)) => self.limits_due(cx, engine),
            _ => {}
        }
    }

    /// Looks whether the host takes what is sent to it and sends what it owes.
    pub(in crate::serve) fn check(&mut self, now: Instant) {
        let late = |since: Instant| now.saturating_duration_since(since) > DATA_TIMEOUT;
        let what = if self.sending_since.is_some_and(late) {
            "the host does not take what is sent to it"
        } else if self.owed > 0 && late(self.owed_since) {
            "the host does not send a command's data"
        } else {
            return;
        };
        say!(warn, self.who, after = ?DATA_TIMEOUT, "{what}");
        self.life = Life::Over;
    }

    /// The target stops, since `since`: a connection with nothing under way ends.
    pub(in crate::serve) fn stop(&mut self, now: Instant, since: Instant) {
        let quiet = now.saturating_duration_since(self.heard) >= QUIET || now >= since + DRAIN;
        if now >= since + DRAIN {
            self.give_up_waiting();
        }
        let sent = self.sending_since.is_none() && !self.tcp.wants_transmit();
        let idle = match &self.stage {
            Stage::Connecting(_) => true,
            // Commands that wait for an event would wait forever.
            Stage::Admin(admin) => quiet && sent && admin.is_alone(),
            Stage::Io(_) => quiet && sent && self.tcp.queue().outstanding() == 0,
        };
        if idle && self.life == Life::Serving {
            self.why = Why::Stopped;
            self.life = Life::Over;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match &self.stage {
            Stage::Connecting(_) => {}
            Stage::Admin(_) => Admin::tell_end(&self.who, self.why),
            Stage::Io(_) => say!(debug, self.who, "I/O queue ended"),
        }
    }
}
