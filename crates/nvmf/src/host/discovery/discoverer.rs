//! Asking discovery controllers over TCP.

use std::time::Duration;

use nvme_spec::identify::controller_type;

use super::DiscoveryLog;
use super::controller::DiscoveryController;
use super::walk::{WalkLimits, Walked, walk};
use super::watch::DiscoveryWatch;
use crate::host::{Association, HostOptions, TcpDialer};
use crate::pdu_trace::PduTrace;
use crate::{Deadline, Error};

/// The keep-alive time of connections that last, where the options have none.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Asks discovery controllers over TCP, as one host or as several; see the [module](super).
#[derive(Clone, Debug)]
pub struct Discoverer {
    options: HostOptions,
    trace: Option<PduTrace>,
}

impl Discoverer {
    /// With these options; a controller that has an
    /// [identity](DiscoveryController::with_identity) is asked as that host.
    pub fn new(options: HostOptions) -> Self {
        Self { options, trace: None }
    }

    /// Tells every PDU of its connections to `trace`, both ways.
    #[must_use]
    pub fn trace_pdus(self, trace: PduTrace) -> Self {
        Self { trace: Some(trace), ..self }
    }

    /// Connects to a discovery controller, for as long as it takes to ask it something.
    ///
    /// # Errors
    ///
    /// As [`TcpDialer::resolve`] and [`Association::connect`]; [`Error::NotDiscovery`] if it is an
    /// I/O controller.
    pub fn connect(&self, controller: &DiscoveryController) -> Result<Association, Error> {
        self.connect_with(controller, self.options.clone())
    }

    /// The same with a keep-alive time, for a connection that lasts.
    pub(super) fn connect_to_stay(
        &self,
        controller: &DiscoveryController,
    ) -> Result<Association, Error> {
        let mut options = self.options.clone();
        options.persistent_discovery = true;
        if options.keep_alive.is_zero() {
            // Without, it would be a connection like any other, and told nothing.
            options.keep_alive = KEEP_ALIVE;
        }
        self.connect_with(controller, options)
    }

    fn connect_with(
        &self,
        controller: &DiscoveryController,
        mut options: HostOptions,
    ) -> Result<Association, Error> {
        if let Some(identity) = controller.identity() {
            options.host = identity.host.clone();
            options.host_id = identity.host_id;
        }
        let deadline = Deadline::after(options.timeout);
        let dialer = TcpDialer::resolve(controller.address(), controller.port(), deadline)?;
        let dialer = match &self.trace {
            Some(trace) => dialer.trace_pdus(trace.clone()),
            None => dialer,
        };
        let association = Association::connect(dialer, controller.subsystem(), options)?;
        // Older controllers say nothing of their type.
        if association.controller().cntrltype == controller_type::IO {
            return Err(Error::NotDiscovery { subsystem: controller.subsystem().to_string() });
        }
        Ok(association)
    }

    /// A controller's log.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect) and [`Association::discovery_log`].
    pub fn log(&self, controller: &DiscoveryController) -> Result<DiscoveryLog, Error> {
        // Discovery controllers need not be told that their host leaves.
        self.connect(controller)?.discovery_log()
    }

    /// The logs of these controllers and of those that they refer to; see [`walk`].
    ///
    /// Each controller may take [`HostOptions::timeout`] for each answer and six times as long for
    /// its log.
    pub fn walk(
        &self,
        beginnings: impl IntoIterator<Item = DiscoveryController>,
        limits: &WalkLimits,
    ) -> Walked<DiscoveryLog, Error> {
        walk(beginnings, limits, |controller| self.log(controller))
    }

    /// Stays connected to these controllers, and to those that they refer to, and tells what
    /// changes.
    pub fn watch(
        &self,
        beginnings: impl IntoIterator<Item = DiscoveryController>,
        limits: &WalkLimits,
    ) -> DiscoveryWatch {
        DiscoveryWatch::start(self.clone(), beginnings.into_iter().collect(), *limits)
    }

    /// How long each answer is waited for, and the rest.
    pub fn options(&self) -> &HostOptions {
        &self.options
    }
}
