//! Making a namespace object.

use std::io;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nvmf::Deadline;
use nvmf::host::HostOptions;
use nvmf::pdu_trace::PduTrace;
use nvmf::spec::Nqn;
use nvmf_engine::{EngineChoice, Pace};

use super::options::Settings;
use super::{Inner, Namespace};
use crate::multipath::paths::Phase;
use crate::multipath::{Head, Policy};
use crate::session;

/// How a namespace is reached; [`connect`](Self::connect) does so.
///
/// | option | what it is without |
/// |---|---|
/// | [`path`](Self::path) | none: at least one has to be named |
/// | [`policy`](Self::policy) | round-robin |
/// | [`keep_alive`](Self::keep_alive) | 5 s |
/// | [`io_timeout`](Self::io_timeout) | 30 s |
/// | [`deadline`](Self::deadline) | 900 s |
/// | [`reconnect_delay`](Self::reconnect_delay) | 10 s |
/// | [`ctrl_loss_tmo`](Self::ctrl_loss_tmo) | 600 s |
/// | [`fast_io_fail_tmo`](Self::fast_io_fail_tmo) | never |
/// | [`queues`](Self::queues) | 2 on each path |
/// | [`queue_depth`](Self::queue_depth) | 127 on each queue |
#[derive(Clone, Debug)]
#[must_use]
pub struct NamespaceBuilder {
    nsid: u32,
    settings: Settings,
}

/// A namespace could not be reached by any path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No path was named.
    #[error("no path was named")]
    NoPath,
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// Each path failed, or did not answer in time.
    #[error("cannot connect to {subsystem}: {}", all(.failures))]
    Failed {
        /// The subsystem's NQN.
        subsystem: Box<Nqn>,
        /// Each path and why it is not there; nothing: it did not answer in time.
        failures: Vec<(String, Option<nvmf::Error>)>,
    },
}

fn all(failures: &[(String, Option<nvmf::Error>)]) -> String {
    let one = |(path, error): &(String, Option<nvmf::Error>)| match error {
        Some(error) => format!("{path}: {error}"),
        None => format!("{path}: no answer in time"),
    };
    failures.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Namespace {
    /// Namespace `nsid` of a subsystem, for this host.
    ///
    /// The keep-alive time of `host` is not taken over: see [`NamespaceBuilder::keep_alive`].
    pub fn builder(subsystem: Nqn, nsid: u32, host: HostOptions) -> NamespaceBuilder {
        NamespaceBuilder { nsid, settings: Settings::new(subsystem, host) }
    }
}

impl NamespaceBuilder {
    /// Reaches it by `HOST:PORT` (an IPv6 address in brackets), too. Names are looked up again at
    /// each connection.
    pub fn path(mut self, address: impl Into<String>) -> Self {
        self.settings.paths.push(address.into());
        self
    }

    /// Which of several paths that are equally good a command takes.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// KATO: a controller that hears nothing for this long gives the host up. A path whose
    /// controller does not answer for three quarters of it is given up by the host.
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.settings.host.keep_alive = time;
        self
    }

    /// A command that is not answered for this long ends its path, and is tried by another one.
    pub fn io_timeout(mut self, time: Duration) -> Self {
        self.settings.io_timeout = time;
        self
    }

    /// How long an operation may take, with all its tries, where it is not said with it.
    /// `None`: as long as there is hope for a path.
    pub fn deadline(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.deadline = time.into();
        self
    }

    /// The longest pause between two tries to connect a path again. The first is 50 ms, and they
    /// double.
    pub fn reconnect_delay(mut self, time: Duration) -> Self {
        self.settings.reconnect_delay = time;
        self
    }

    /// A path that is gone for this long is given up for good; `None`: never.
    pub fn ctrl_loss_tmo(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.ctrl_loss = time.into();
        self
    }

    /// Operations do not wait for a path that is gone for this long. `None`: they wait until it is
    /// given up.
    pub fn fast_io_fail_tmo(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.fast_io_fail = time.into();
        self
    }

    /// I/O queues on each path, if the controller grants as many.
    pub fn queues(mut self, queues: NonZeroU16) -> Self {
        self.settings.queues = queues;
        self
    }

    /// Commands under way on each I/O queue, if the controller takes as many.
    pub fn queue_depth(mut self, depth: u32) -> Self {
        self.settings.queue_depth = depth.max(1);
        self
    }

    /// Which event loop.
    pub fn engine(mut self, engine: EngineChoice) -> Self {
        self.settings.engine = engine;
        self
    }

    /// How long threads look for answers before they sleep.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.settings.pace = pace;
        self
    }

    /// Tells every PDU of all paths to `trace`.
    pub fn trace_pdus(mut self, trace: PduTrace) -> Self {
        self.settings.trace = Some(trace);
        self
    }

    /// Connects all paths, and returns as soon as one is there; the others come later. Each has a
    /// thread of its own.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Failed`] once each path has failed, with the reason of each.
    pub fn connect(self) -> Result<Namespace, ConnectError> {
        let Self { nsid, settings } = self;
        if settings.paths.is_empty() {
            return Err(ConnectError::NoPath);
        }
        let (subsystem, count) = (Box::new(settings.subsystem.clone()), settings.paths.len());
        // By then each path has told why it is not there.
        let limit = settings.connect_limit().saturating_add(settings.host.timeout);
        let deadline = Deadline::after(limit).instant();
        let head = Arc::new(Head::new(nsid, settings));
        let inner = Inner { head, gate: Arc::default(), threads: Mutex::default() };
        for at in 0..count {
            let head = Arc::clone(&inner.head);
            inner.start("nvmf-path", move || session::keep_connected(&head, at))?;
        }
        let head = Arc::clone(&inner.head);
        inner.start("nvmf-time", move || head.keep_time())?;
        inner.head.wait_for_path(deadline).map_err(|phases| {
            let failure = |(path, phase)| match phase {
                Phase::Connecting { failure, .. } => (path, failure),
                Phase::Live { .. } | Phase::GivenUp { .. } => (path, None),
            };
            ConnectError::Failed { subsystem, failures: phases.into_iter().map(failure).collect() }
        })?;
        Ok(Namespace(Arc::new(inner)))
    }
}

impl Inner {
    fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(thread);
        Ok(())
    }
}
