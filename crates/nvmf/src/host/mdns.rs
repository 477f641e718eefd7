//! Finding discovery controllers by multicast DNS (NVMe Base 2.1, section 8.3.1.1; RFC 6762 and
//! 6763).
//!
//! Each is an instance of [`SERVICE_TYPE`], with the TXT keys `p` (the transport protocol) and
//! `nqn` (the discovery subsystem's name). What the link says is believed no further than that
//! somebody may be asked there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mdns_sd::{Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use nvme_spec::Nqn;

use super::discovery::DiscoveryController;
use crate::Deadline;

/// The type of service, as DNS-SD has it, with the domain of multicast DNS.
pub const SERVICE_TYPE: &str = "_nvme-disc._tcp.local.";

/// Services that are kept at once, at most; what else the link tells is left out.
pub const SERVICES_MAX: usize = 256;

/// What a link tells of its discovery controllers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "they are few, and none is kept")]
pub enum MdnsEvent {
    /// This instance of the service is there, or has moved to here.
    Found {
        /// Its name, for people.
        instance: String,
        /// Where it is.
        controller: DiscoveryController,
    },
    /// This instance has gone.
    Gone {
        /// Its name.
        instance: String,
    },
}

/// Looks for discovery controllers until it is dropped, from a thread of its own.
///
/// ```no_run
/// use std::time::Duration;
/// use nvmf::host::mdns::Browser;
///
/// let mut browser = Browser::start()?;
/// for (instance, controller) in browser.find(Duration::from_secs(2)) {
///     println!("{instance}: {controller}");
/// }
/// # Ok::<(), nvmf::host::mdns::MdnsError>(())
/// ```
pub struct Browser {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    /// By the full name of the instance.
    found: BTreeMap<String, DiscoveryController>,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").field("found", &self.found).finish_non_exhaustive()
    }
}

/// Multicast DNS cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("multicast DNS does not work: {source}")]
pub struct MdnsError {
    /// Why.
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl From<mdns_sd::Error> for MdnsError {
    fn from(error: mdns_sd::Error) -> Self {
        Self { source: Box::new(error) }
    }
}

impl Browser {
    /// Begins to look.
    ///
    /// # Errors
    ///
    /// If there can be no socket or no thread for it. That a network knows no multicast is no
    /// error: nothing is found then.
    pub fn start() -> Result<Self, MdnsError> {
        Self::start_at(mdns_sd::MDNS_PORT)
    }

    /// The same at another port than that of multicast DNS, where there is nobody but whom a test
    /// has put there.
    #[doc(hidden)]
    pub fn start_at(port: u16) -> Result<Self, MdnsError> {
        let daemon = ServiceDaemon::new_with_port(port)?;
        let events = daemon.browse(SERVICE_TYPE)?;
        Ok(Self { daemon, events, found: BTreeMap::new() })
    }

    /// Waits for the next event; `None` if there is none before the deadline.
    pub fn next(&mut self, deadline: Deadline) -> Option<MdnsEvent> {
        loop {
            let event = match self.events.recv_deadline(deadline.instant()) {
                Ok(ServiceEvent::ServiceResolved(service)) => self.resolved(&service),
                Ok(ServiceEvent::ServiceRemoved(_, name)) => {
                    let gone = self.found.remove(&name);
                    gone.map(|_| MdnsEvent::Gone { instance: instance(&name) })
                }
                Ok(_) => None,
                Err(_) => return None,
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// What is there after looking for so long, in the order of the instances' names.
    pub fn find(&mut self, time: Duration) -> Vec<(String, DiscoveryController)> {
        let deadline = Deadline::after(time);
        while self.next(deadline).is_some() {}
        self.found()
    }

    /// What is there, as far as is known now.
    pub fn found(&self) -> Vec<(String, DiscoveryController)> {
        self.found.iter().map(|(name, one)| (instance(name), one.clone())).collect()
    }

    fn resolved(&mut self, service: &ResolvedService) -> Option<MdnsEvent> {
        let Some(controller) = controller(service) else {
            tracing::debug!(name = service.fullname, "announced, but of no use over TCP");
            return None;
        };
        let name = &service.fullname;
        let known = self.found.get(name);
        if known == Some(&controller) {
            return None;
        }
        if known.is_none() && self.found.len() >= SERVICES_MAX {
            tracing::warn!(name, "left out: {SERVICES_MAX} services are enough");
            return None;
        }
        self.found.insert(name.clone(), controller.clone());
        Some(MdnsEvent::Found { instance: instance(name), controller })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Err(error) = self.daemon.shutdown() {
            tracing::debug!(%error, "multicast DNS was not ended");
        }
    }
}

/// What an instance is called, without its type.
fn instance(name: &str) -> String {
    let suffix = name.len().checked_sub(SERVICE_TYPE.len() + 1);
    let own = suffix.and_then(|at| name.split_at_checked(at));
    match own {
        Some((own, rest)) if rest[1..].eq_ignore_ascii_case(SERVICE_TYPE) => own.to_owned(),
        _ => name.to_owned(),
    }
}

/// Where a service is, if it is one over TCP with an address.
fn controller(service: &ResolvedService) -> Option<DiscoveryController> {
    let protocols = service.get_property_val_str("p").unwrap_or("tcp");
    if !protocols.split(',').any(|one| one.trim().eq_ignore_ascii_case("tcp")) || service.port == 0
    {
        return None;
    }
    let nqn = match service.get_property_val_str("nqn") {
        None | Some("") => Nqn::DISCOVERY,
        Some(text) => Nqn::lenient(text).ok()?,
    };
    let address = service.addresses.iter().min_by_key(|ip| (preference(ip), ip.to_ip_addr()))?;
    Some(DiscoveryController::new(&address.to_string(), service.port).with_subsystem(nqn))
}

/// Which address of several is tried: one that needs no zone, of the older family, and one of
/// loopback only where there is no other.
fn preference(ip: &ScopedIp) -> u8 {
    match ip.to_ip_addr() {
        ip if ip.is_loopback() => 3,
        IpAddr::V4(ip) if !ip.is_link_local() => 0,
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdns_sd::ServiceInfo;

    fn resolved(addresses: &str, txt: &[(&str, &str)]) -> ResolvedService {
        let host = "host.local.";
        let info = ServiceInfo::new(SERVICE_TYPE, "disks", host, addresses, 8009, txt).unwrap();
        info.as_resolved_service()
    }

    fn found(addresses: &str, txt: &[(&str, &str)]) -> Option<String> {
        controller(&resolved(addresses, txt)).map(|one| one.to_string())
    }

    #[test]
    fn a_service_over_tcp_is_a_controller() {
        let plain = Some("nvme+tcp://192.0.2.1:8009".to_owned());
        let nqn = "nqn.2014-08.org.nvmexpress.discovery";
        assert_eq!(found("192.0.2.1", &[("p", "tcp"), ("nqn", nqn)]), plain);
        assert_eq!(found("192.0.2.1", &[("P", "TCP"), ("NQN", nqn)]), plain);
        assert_eq!(found("192.0.2.1", &[]), plain);
        let own = found("192.0.2.1", &[("p", "rdma,tcp"), ("nqn", "nqn.2026-01.example:d")]);
        assert_eq!(own.unwrap(), "nvme+tcp://192.0.2.1:8009/nqn.2026-01.example:d");
    }

    #[test]
    fn what_is_no_service_over_tcp_is_left_out() {
        assert_eq!(found("192.0.2.1", &[("p", "rdma")]), None);
        let long = "n".repeat(230);
        assert_eq!(found("192.0.2.1", &[("p", "tcp"), ("nqn", &long)]), None);
        assert_eq!(found("", &[("p", "tcp")]), None);
    }

    #[test]
    fn an_address_that_can_be_used_from_anywhere_comes_first() {
        let best = |addresses| found(addresses, &[]).unwrap();
        assert_eq!(best("127.0.0.1,2001:db8::1,192.0.2.1"), "nvme+tcp://192.0.2.1:8009");
        assert_eq!(best("127.0.0.1,169.254.0.1,2001:db8::1"), "nvme+tcp://[2001:db8::1]:8009");
        assert_eq!(best("127.0.0.1"), "nvme+tcp://127.0.0.1:8009");
    }

    #[test]
    fn an_instance_is_named_without_its_type() {
        assert_eq!(instance(&format!("rack 1.left.{SERVICE_TYPE}")), "rack 1.left");
        assert_eq!(instance("odd"), "odd");
        assert_eq!(instance(SERVICE_TYPE), SERVICE_TYPE);
    }

    #[test]
    fn no_more_services_are_kept_than_there_is_room_for() {
        let mut browser = Browser::start_at(15358).unwrap();
        for n in 0..SERVICES_MAX + 10 {
            let mut service = resolved("192.0.2.1", &[]);
            service.fullname = format!("{n}.{SERVICE_TYPE}");
            assert_eq!(browser.resolved(&service).is_some(), n < SERVICES_MAX);
            assert_eq!(browser.resolved(&service), None, "it is known, or left out");
        }
        assert_eq!(browser.found().len(), SERVICES_MAX);
    }
}
