//! How a namespace is reached.

use std::num::NonZeroU16;
use std::time::Duration;

use nvmf::host::HostOptions;
use nvmf::pdu_trace::PduTrace;
use nvmf::spec::Nqn;
use nvmf_engine::{EngineChoice, Pace};

use crate::multipath::Policy;

/// Everything a path's thread has to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) subsystem: Nqn,
    pub(crate) host: HostOptions,
    /// `HOST:PORT` of each path.
    pub(crate) paths: Vec<String>,
    pub(crate) policy: Policy,
    /// I/O queues of each path.
    pub(crate) queues: NonZeroU16,
    /// Commands on each I/O queue.
    pub(crate) queue_depth: u32,
    pub(crate) reconnect_delay: Duration,
    pub(crate) ctrl_loss: Option<Duration>,
    pub(crate) fast_io_fail: Option<Duration>,
    /// A command that is not answered for so long ends its path.
    pub(crate) io_timeout: Duration,
    /// Operations are given up after this long.
    pub(crate) deadline: Option<Duration>,
    pub(crate) engine: EngineChoice,
    pub(crate) pace: Pace,
    pub(crate) trace: Option<PduTrace>,
}

impl Settings {
    /// The time that an aborted command has to end before its path is given up.
    pub(crate) const ABORT_GRACE: Duration = Duration::from_secs(1);

    /// How long connecting a path may take, with all its steps, of which each has a limit too.
    pub(crate) fn connect_limit(&self) -> Duration {
        self.host.timeout.saturating_mul(4)
    }

    pub(crate) fn new(subsystem: Nqn, mut host: HostOptions) -> Self {
        const QUEUES: NonZeroU16 = match NonZeroU16::new(2) {
            Some(queues) => queues,
            None => NonZeroU16::MIN,
        };
        // What the Linux kernel has: a path that is cut is noticed within seconds.
        host.keep_alive = Duration::from_secs(5);
        Self {
            subsystem,
            host,
            paths: Vec::new(),
            policy: Policy::default(),
            queues: QUEUES,
            queue_depth: 127,
            reconnect_delay: Duration::from_secs(10),
            ctrl_loss: Some(Duration::from_secs(600)),
            fast_io_fail: None,
            io_timeout: Duration::from_secs(30),
            deadline: Some(Duration::from_secs(900)),
            engine: EngineChoice::Auto,
            pace: Pace::default(),
            trace: None,
        }
    }
}
