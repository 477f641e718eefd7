//! What a managed target has beside its ports: metrics over HTTP, and its announcement.

use std::net::SocketAddr;

use super::ManageError;
use crate::Handle;
use crate::config::Layout;

/// Metrics and announcement, as far as this build has them and the layout wants them.
#[derive(Debug, Default)]
pub(super) struct Services {
    #[cfg(feature = "metrics")]
    metrics: Option<crate::metrics::MetricsServer>,
    #[cfg(feature = "mdns")]
    announcer: Option<crate::announce::Announcer>,
}

/// A metrics server that has its address, and that nobody has been told of.
#[derive(Debug)]
pub(super) struct PreparedMetrics(#[cfg(feature = "metrics")] crate::metrics::MetricsServer);

impl PreparedMetrics {
    #[cfg(feature = "metrics")]
    pub(super) fn start(handle: &Handle, listen: SocketAddr) -> Result<Self, ManageError> {
        let handle = handle.clone();
        let exposition = crate::metrics::Exposition::new(move || handle.report());
        let render = std::sync::Arc::new(move || exposition.render());
        let server = crate::metrics::MetricsServer::start(listen, render)
            .map_err(|error| ManageError::Clash(error.to_string()))?;
        Ok(Self(server))
    }

    #[cfg(not(feature = "metrics"))]
    pub(super) fn start(_: &Handle, _: SocketAddr) -> Result<Self, ManageError> {
        Err(ManageError::Missing("this build has no metrics (feature `metrics`)".into()))
    }
}

impl Services {
    pub(super) fn stop_metrics(&mut self) {
        #[cfg(feature = "metrics")]
        {
            self.metrics = None;
        }
    }

    pub(super) fn serve_metrics(&mut self, prepared: PreparedMetrics) {
        #[cfg(feature = "metrics")]
        {
            self.metrics = Some(prepared.0);
        }
        #[cfg(not(feature = "metrics"))]
        let _ = prepared;
    }

    /// Where metrics are served.
    pub(super) fn metrics_address(&self) -> Option<SocketAddr> {
        #[cfg(feature = "metrics")]
        {
            self.metrics.as_ref().map(crate::metrics::MetricsServer::local_addr)
        }
        #[cfg(not(feature = "metrics"))]
        None
    }

    /// Announces the discovery service where the layout wants it, at the ports that there are.
    #[cfg(feature = "mdns")]
    pub(super) fn announce(&mut self, handle: &Handle, layout: &Layout) -> Result<(), ManageError> {
        use crate::announce::{Announcer, Service};
        if !layout.discovery().mdns {
            self.announcer = None;
            return Ok(());
        }
        let listeners: Vec<SocketAddr> = handle.ports().iter().map(|port| port.address()).collect();
        let nqn = super::build::discovery_nqn(layout.discovery());
        let services = Service::of_listeners(&listeners, &nqn);
        let announced = match &self.announcer {
            Some(announcer) => announcer.update(services),
            None => Announcer::start(services).map(|new| self.announcer = Some(new)),
        };
        announced.map_err(|error| ManageError::Clash(error.to_string()))
    }

    #[cfg(not(feature = "mdns"))]
    pub(super) fn announce(&mut self, _: &Handle, layout: &Layout) -> Result<(), ManageError> {
        if layout.discovery().mdns {
            return Err(ManageError::Missing(
                "this build cannot announce by mDNS (feature `mdns`)".into(),
            ));
        }
        Ok(())
    }
}
