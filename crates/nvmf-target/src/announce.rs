//! Tells the link of discovery services by multicast DNS, so that hosts find them without being told
//! an address (NVMe Base 2.1, 8.3.1.1; RFC 6762 and 6763).
//!
//! Each service is an instance of `_nvme-disc._tcp.local` with the TXT keys `p` (the transport
//! protocol, `tcp`) and `nqn` (the discovery subsystem's name). The subtype `_cdc` is not announced:
//! it is for centralized discovery controllers, and a target's own is a direct one.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mdns_sd::{DaemonEvent, IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceInfo};
use nvme_spec::Nqn;
pub use nvmf::host::mdns::SERVICE_TYPE;
use uuid::Uuid;

/// The longest instance name in bytes of UTF-8: one label of a domain name.
pub const INSTANCE_MAX: usize = 63;

/// The most services that one [`Announcer`] announces.
pub const SERVICES_MAX: usize = 64;

/// How long withdrawing may take before it is left undone.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long names of this machine's may be, of which its host names here are made, in bytes.
const MACHINE_MAX: usize = 40;

/// A discovery service to announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    instance: String,
    port: u16,
    /// Empty for all addresses of the families.
    addresses: BTreeSet<IpAddr>,
    families: Families,
    nqn: Nqn,
}

/// Which of the machine's addresses are announced, where none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Families {
    V4,
    Both,
}

impl Service {
    /// A service of this name at `port` of `addresses`.
    ///
    /// 0.0.0.0 among the addresses stands for all IPv4 addresses of the machine, `::` for all of
    /// both families, as they do for a listener; neither includes loopback, and both follow the
    /// machine's addresses as they change.
    ///
    /// # Errors
    ///
    /// [`AnnounceError::Instance`] if the name is not 1 to [`INSTANCE_MAX`] bytes or has control
    /// characters, [`AnnounceError::NoPort`], [`AnnounceError::NoAddress`].
    pub fn new(
        instance: impl Into<String>,
        port: u16,
        addresses: impl IntoIterator<Item = IpAddr>,
        nqn: Nqn,
    ) -> Result<Self, AnnounceError> {
        let instance = instance.into();
        let bad = instance.is_empty()
            || instance.len() > INSTANCE_MAX
            || instance.chars().any(char::is_control);
        if bad {
            return Err(AnnounceError::Instance { instance });
        }
        if port == 0 {
            return Err(AnnounceError::NoPort { instance });
        }
        let given: BTreeSet<IpAddr> = addresses.into_iter().map(|ip| ip.to_canonical()).collect();
        if given.is_empty() {
            return Err(AnnounceError::NoAddress { instance });
        }
        let unspecified = |v4| given.iter().any(|ip| ip.is_unspecified() && ip.is_ipv4() == v4);
        let (any_v4, any_v6) = (unspecified(true), unspecified(false));
        let families = if any_v6 { Families::Both } else { Families::V4 };
        let addresses = if any_v4 || any_v6 { BTreeSet::new() } else { given };
        Ok(Self { instance, port, addresses, families, nqn })
    }

    /// The services of a target that listens on these addresses: one for each port, named after
    /// the machine and the port.
    ///
    /// ```
    /// use nvme_spec::Nqn;
    /// use nvmf_target::announce::Service;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listen = ["192.0.2.1:8009".parse()?, "[2001:db8::1]:8009".parse()?, "[::]:4420".parse()?];
    /// let services = Service::of_listeners(&listen, &Nqn::DISCOVERY);
    /// assert_eq!(services.iter().map(Service::port).collect::<Vec<_>>(), [4420, 8009]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_listeners(listen: &[SocketAddr], nqn: &Nqn) -> Vec<Self> {
        let machine = machine();
        let ports: BTreeSet<u16> = listen.iter().map(SocketAddr::port).collect();
        let services = ports.into_iter().map(|port| {
            let at_port = listen.iter().filter(|address| address.port() == port);
            let instance = format!("nvmf on {machine}, port {port}");
            Self::new(instance, port, at_port.map(SocketAddr::ip), nqn.clone())
        });
        // The name fits, and there is an address; port 0 is no service.
        services.filter_map(Result::ok).collect()
    }

    /// The name of this instance of the service, for people to read.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of the discovery subsystem.
    pub fn nqn(&self) -> &Nqn {
        &self.nqn
    }

    /// Two services clash if DNS would take their names for the same.
    fn key(&self) -> String {
        self.instance.to_lowercase()
    }

    /// A host name of this service's own: what the machine's usual name resolves to is for others to
    /// say, and services at different addresses must not share theirs.
    fn host_name(&self) -> String {
        let digest = Uuid::new_v5(&Uuid::NAMESPACE_DNS, self.key().as_bytes());
        let digits = digest.simple().to_string();
        format!("{}-{}.local.", machine(), digits.get(..8).unwrap_or_default())
    }

    fn info(&self) -> Result<ServiceInfo, AnnounceError> {
        let txt = [("p", "tcp"), ("nqn", self.nqn.as_str())];
        let addresses: Vec<IpAddr> = self.addresses.iter().copied().collect();
        let (instance, host) = (self.instance.as_str(), self.host_name());
        let info =
            ServiceInfo::new(SERVICE_TYPE, instance, &host, &addresses[..], self.port, &txt[..])?;
        if !self.addresses.is_empty() {
            return Ok(info);
        }
        let families = self.families;
        let reachable = IfPredicate::new(move |interface| {
            !interface.is_loopback() && (families == Families::Both || interface.ip().is_ipv4())
        });
        let mut info = info.enable_addr_auto();
        info.set_interfaces(vec![IfKind::Predicate(reachable)]);
        Ok(info)
    }
}

/// The machine's name, as a label that may stand in a host name.
fn machine() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    let label: String = first
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(MACHINE_MAX)
        .collect();
    match label.trim_matches('-') {
        "" => "nvmf".to_owned(),
        label => label.to_owned(),
    }
}

/// Announces services until it is dropped, from a thread of its own.
///
/// Dropping it tells the link that they are gone, so that hosts do not try them until their records
/// expire; it waits for that, for two seconds at most.
///
/// ```no_run
/// use nvme_spec::Nqn;
/// use nvmf_target::announce::{Announcer, Service};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let services = Service::of_listeners(&["0.0.0.0:8009".parse()?], &Nqn::DISCOVERY);
/// let announcer = Announcer::start(services)?;
/// // …serve…
/// drop(announcer);
/// # Ok(())
/// # }
/// ```
pub struct Announcer {
    daemon: ServiceDaemon,
    announced: Mutex<Vec<(String, Service)>>,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").field("announced", &self.announced).finish_non_exhaustive()
    }
}

impl Announcer {
    /// Begins to announce these services.
    ///
    /// That a network does not take them (no multicast there, say) shows only later, in the log:
    /// what has no addresses now may have some in a minute.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); [`AnnounceError::Daemon`] also if there can be no thread.
    pub fn start(services: Vec<Service>) -> Result<Self, AnnounceError> {
        Self::start_at(services, mdns_sd::MDNS_PORT)
    }

    fn start_at(services: Vec<Service>, port: u16) -> Result<Self, AnnounceError> {
        check(&services)?;
        let daemon = ServiceDaemon::new_with_port(port)?;
        let announcer = Self { daemon, announced: Mutex::default() };
        let events = announcer.daemon.monitor()?;
        // It ends with the daemon, which ends with the announcer.
        thread::Builder::new()
            .name("nvmf-announce".to_owned())
            .spawn(move || events.iter().for_each(tell))
            .map_err(|error| AnnounceError::Daemon { source: Box::new(error) })?;
        announcer.update(services)?;
        Ok(announcer)
    }

    /// Announces these services and no others: those that are new begin, those that are not among
    /// them are withdrawn, those that changed do both, and the rest is left as it is.
    ///
    /// # Errors
    ///
    /// [`AnnounceError::SameInstance`] and [`AnnounceError::TooMany`], and then nothing changes;
    /// [`AnnounceError::Daemon`] if the thread that announces is gone or does not keep up.
    pub fn update(&self, services: Vec<Service>) -> Result<(), AnnounceError> {
        check(&services)?;
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, gone): (Vec<_>, Vec<_>) =
            announced.drain(..).partition(|(_, service)| services.contains(service));
        *announced = kept;
        let leaving: Vec<_> =
            gone.iter().filter_map(|(name, _)| self.daemon.unregister(name).ok()).collect();
        wait_for_all(&leaving);
        for service in services {
            if announced.iter().any(|(_, known)| *known == service) {
                continue;
            }
            let info = service.info()?;
            let name = info.get_fullname().to_owned();
            self.daemon.register(info)?;
            tracing::info!(instance = service.instance, port = service.port, "announced");
            announced.push((name, service));
        }
        Ok(())
    }

    /// What is announced now.
    pub fn services(&self) -> Vec<Service> {
        let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.iter().map(|(_, service)| service.clone()).collect()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        match self.daemon.shutdown() {
            Ok(done) => wait_for_all(&[done]),
            Err(error) => tracing::warn!(%error, "the services were not withdrawn"),
        }
    }
}

fn check(services: &[Service]) -> Result<(), AnnounceError> {
    if services.len() > SERVICES_MAX {
        return Err(AnnounceError::TooMany { services: services.len() });
    }
    let mut keys = BTreeSet::new();
    match services.iter().find(|service| !keys.insert(service.key())) {
        Some(twice) => Err(AnnounceError::SameInstance { instance: twice.instance.clone() }),
        None => Ok(()),
    }
}

/// Waits until everything was answered, for [`PATIENCE`] in all.
fn wait_for_all<T>(answers: &[Receiver<T>]) {
    let deadline = Instant::now() + PATIENCE;
    for answer in answers {
        if answer.recv_deadline(deadline).is_err() {
            tracing::warn!("withdrawing a service took too long");
        }
    }
}

fn tell(event: DaemonEvent) {
    match event {
        DaemonEvent::Error(error) => tracing::warn!(%error, "multicast DNS"),
        DaemonEvent::NameChange(change) => {
            let (asked, got) = (change.original, change.new_name);
            tracing::warn!(asked, got, "the name is taken on this link");
        }
        event => tracing::debug!(?event, "multicast DNS"),
    }
}

/// Why services are not announced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// The name cannot be one.
    #[error("{instance:?} cannot name a service: use 1 to {INSTANCE_MAX} bytes of text")]
    Instance {
        /// The name.
        instance: String,
    },
    /// Port 0 is not where a service is.
    #[error("{instance:?} has no port")]
    NoPort {
        /// The service's name.
        instance: String,
    },
    /// Without an address there is nothing to announce.
    #[error("{instance:?} has no address")]
    NoAddress {
        /// The service's name.
        instance: String,
    },
    /// Two services have the same name, but perhaps for the case of letters.
    #[error("there are two services {instance:?}")]
    SameInstance {
        /// The name.
        instance: String,
    },
    /// More services than [`SERVICES_MAX`].
    #[error("{services} services are more than the {SERVICES_MAX} that can be announced")]
    TooMany {
        /// How many.
        services: usize,
    },
    /// The thread that announces cannot be started, or has failed.
    #[error("multicast DNS does not work: {source}")]
    Daemon {
        /// How.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<mdns_sd::Error> for AnnounceError {
    fn from(error: mdns_sd::Error) -> Self {
        Self::Daemon { source: Box::new(error) }
    }
}

#[cfg(test)]
mod tests;
