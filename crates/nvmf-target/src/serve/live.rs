//! Changes to a target while hosts are connected.
//!
//! Each change is whole when its method returns, and hosts that it concerns were told by the events
//! that they asked for. Connections that it does not concern go on.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nvme_spec::event::Event;
use nvme_spec::log::AnaState;
use nvme_spec::{HostId, Nqn, Status};
use nvmf_storage::{Geometry, ResizeError};

use super::builder::BoundPort;
use super::core::Post;
use super::target::Handle;
use super::{Listener, Listening};
use crate::association::Association;
use crate::directory::{Directory, Referral};
use crate::io::storage_status;
use crate::limit::Limits;
use crate::port::Port;
use crate::subsystem::{Hosts, Namespace, Subsystem, SubsystemError};

/// How long commands that are under way may keep what was taken away.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked whether they have let go.
const TICK: Duration = Duration::from_millis(2);

/// Why a target cannot be changed as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is no subsystem of this name.
    #[error("there is no subsystem {nqn}")]
    NoSubsystem {
        /// The name.
        nqn: Box<Nqn>,
    },
    /// There is one already.
    #[error("there is a subsystem {nqn} already")]
    SameSubsystem {
        /// The name.
        nqn: Box<Nqn>,
    },
    /// The subsystem has no such namespace.
    #[error("{nqn} has no namespace {nsid}")]
    NoNamespace {
        /// The subsystem.
        nqn: Box<Nqn>,
        /// The identifier.
        nsid: u32,
    },
    /// The namespace does not go with the subsystem.
    #[error(transparent)]
    Namespace(#[from] SubsystemError),
    /// There is no such port.
    #[error("there is no port {id}")]
    NoPort {
        /// The identifier.
        id: u16,
    },
    /// There is one already.
    #[error("there is a port {id} already")]
    SamePort {
        /// The identifier.
        id: u16,
    },
    /// There is no such controller.
    #[error("{nqn} has no controller {cntlid}")]
    NoController {
        /// The subsystem.
        nqn: Box<Nqn>,
        /// The identifier.
        cntlid: u16,
    },
    /// What was taken away is gone for hosts, but its storage is still in use.
    #[error("{what} is gone, but commands that are under way still hold its storage")]
    InUse {
        /// What.
        what: String,
    },
    /// What was taken away is gone, but what was written to it could not be made durable.
    #[error("{what} is gone, and data of it may be lost: flushing it failed: {status}")]
    Flush {
        /// What.
        what: String,
        /// How.
        status: Status,
    },
    /// The namespace cannot get this size.
    #[error(transparent)]
    Resize(#[from] ResizeError),
    /// The target stops.
    #[error("the target stops")]
    Stopping,
}

/// A controller, as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControllerInfo {
    /// Its subsystem.
    pub subsystem: Nqn,
    /// Its identifier.
    pub cntlid: u16,
    /// Its host.
    pub host: Nqn,
    /// Its host's identifier.
    pub host_id: HostId,
    /// The port that the host came through; 0 for none.
    pub port: u16,
    /// The host's address.
    pub peer: String,
    /// The identifiers of its I/O queues.
    pub io_queues: Vec<u16>,
    /// Commands that came on I/O queues.
    pub io_commands: u64,
}

impl ControllerInfo {
    fn of(association: &Association) -> Self {
        Self {
            subsystem: association.subsystem().nqn().clone(),
            cntlid: association.cntlid(),
            host: association.host().clone(),
            host_id: association.host_id(),
            port: association.port().id(),
            peer: association.peer(),
            io_queues: association.io_queues(),
            io_commands: association.io_commands(),
        }
    }
}

impl Handle {
    /// The subsystems there are.
    pub fn subsystems(&self) -> Vec<Arc<Subsystem>> {
        self.shared.directory.load().subsystems.clone()
    }

    /// The ports there are.
    pub fn ports(&self) -> Vec<Arc<Port>> {
        self.shared.directory.load().ports.clone()
    }

    /// The controllers there are, those of discovery among them.
    pub fn controllers(&self) -> Vec<ControllerInfo> {
        let directory = self.shared.directory.load();
        let subsystems = std::iter::once(&directory.discovery).chain(&directory.subsystems);
        let associations = subsystems.flat_map(|subsystem| subsystem.associations());
        associations.map(|association| ControllerInfo::of(&association)).collect()
    }

    /// Adds a subsystem.
    ///
    /// # Errors
    ///
    /// [`ChangeError::SameSubsystem`].
    pub fn add_subsystem(&self, subsystem: Arc<Subsystem>) -> Result<(), ChangeError> {
        self.edit(|directory| {
            if directory.subsystem(subsystem.nqn()).is_some() {
                return Err(ChangeError::SameSubsystem { nqn: Box::new(subsystem.nqn().clone()) });
            }
            directory.subsystems.push(subsystem);
            Ok(())
        })
    }

    /// Takes a subsystem away, and its controllers with it; waits until its storage is free.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`]; [`ChangeError::InUse`] and [`ChangeError::Flush`] once it is
    /// gone.
    pub fn remove_subsystem(&self, nqn: &Nqn) -> Result<(), ChangeError> {
        let subsystem = self.edit(|directory| {
            let at = directory.subsystems.iter().position(|s| s.nqn() == nqn);
            let at = at.ok_or_else(|| no_subsystem(nqn))?;
            Ok(directory.subsystems.remove(at))
        })?;
        // An association that is let go has no connection any more.
        let associations: Vec<Weak<Association>> = subsystem
            .associations()
            .iter()
            .map(|association| {
                association.disconnect();
                Arc::downgrade(association)
            })
            .collect();
        let ended = wait_for(|| associations.iter().all(|a| a.strong_count() == 0));
        let mut result = Ok(());
        for ns in subsystem.namespaces() {
            let nsid = ns.nsid();
            drop(ns);
            let gone = subsystem.detach(nsid).map(|ns| self.release(&subsystem, ns));
            result = result.and(gone.unwrap_or(Ok(())));
        }
        if ended { result } else { result.and(Err(ChangeError::InUse { what: nqn.to_string() })) }
    }

    /// Says who may connect to a subsystem from now on. Those that may no more lose their
    /// controllers.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`].
    pub fn set_hosts(&self, nqn: &Nqn, hosts: Hosts) -> Result<(), ChangeError> {
        let subsystem = self.subsystem(nqn)?;
        subsystem.set_hosts(hosts);
        self.edit(|_| Ok(()))
    }

    /// Listens on another port.
    ///
    /// # Errors
    ///
    /// [`ChangeError::SamePort`], [`ChangeError::Stopping`].
    pub fn add_port(&self, bound: BoundPort) -> Result<(), ChangeError> {
        let BoundPort { listener, port } = bound;
        self.edit_running(|directory, listening| {
            if directory.port(port.id()).is_some() {
                return Err(ChangeError::SamePort { id: port.id() });
            }
            directory.ports.push(Arc::clone(&port));
            match listening {
                Listening::NotYet(listeners) => listeners.push((listener, port)),
                Listening::On(cores) => {
                    if !cores.tell_first(Post::Listen(listener, port)) {
                        return Err(ChangeError::Stopping);
                    }
                }
            }
            Ok(())
        })
    }

    /// Listens on a port no more; the controllers of hosts that came through it are ended.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoPort`].
    pub fn remove_port(&self, id: u16) -> Result<(), ChangeError> {
        let (done, closed) = mpsc::channel();
        self.edit_running(|directory, listening| {
            let at = directory.ports.iter().position(|port| port.id() == id);
            directory.ports.remove(at.ok_or(ChangeError::NoPort { id })?);
            match listening {
                Listening::NotYet(listeners) => {
                    listeners.retain(|(_, port): &Listener| port.id() != id);
                }
                // Without the core nothing is accepted either.
                Listening::On(cores) => drop(cores.tell_first(Post::Unlisten(id, done))),
            }
            Ok(())
        })?;
        self.disconnect_where(|association| association.port().id() == id);
        // Nothing is ever sent: it ends when the socket is closed.
        let _ = closed.recv_timeout(PATIENCE);
        Ok(())
    }

    /// Says which subsystems are reached through a port: `None` is all. Controllers of others that
    /// hosts reached through it are ended.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoPort`].
    pub fn set_port_subsystems(
        &self,
        id: u16,
        subsystems: Option<BTreeSet<Nqn>>,
    ) -> Result<(), ChangeError> {
        let port = self.port(id)?;
        port.set_subsystems(subsystems);
        self.edit(|_| Ok(()))?;
        self.disconnect_where(|association| {
            association.port().id() == id
                && !association.subsystem().is_discovery()
                && !port.serves(association.subsystem().nqn())
        });
        Ok(())
    }

    /// Sets how a group of namespaces can be reached through a port.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoPort`]; [`SubsystemError::AnaGroup`] if there is no such group.
    pub fn set_ana(&self, port: u16, group: u32, state: AnaState) -> Result<(), ChangeError> {
        if !Port::is_group(group) {
            return Err(SubsystemError::AnaGroup { group }.into());
        }
        if self.port(port)?.set_ana(group, state) {
            self.subsystems().iter().for_each(|subsystem| subsystem.refresh());
        }
        Ok(())
    }

    /// Adds a namespace, which was built for this subsystem.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`], [`ChangeError::Namespace`].
    pub fn add_namespace(&self, nqn: &Nqn, ns: Arc<Namespace>) -> Result<(), ChangeError> {
        Ok(self.subsystem(nqn)?.attach(ns)?)
    }

    /// Takes a namespace away, makes durable what was written to it, and waits until nothing uses
    /// its storage any more.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`], [`ChangeError::NoNamespace`]; [`ChangeError::InUse`] and
    /// [`ChangeError::Flush`] once it is gone.
    pub fn remove_namespace(&self, nqn: &Nqn, nsid: u32) -> Result<(), ChangeError> {
        let subsystem = self.subsystem(nqn)?;
        let ns = subsystem.detach(nsid).ok_or_else(|| no_namespace(nqn, nsid))?;
        self.release(&subsystem, ns)
    }

    /// Changes how a namespace may be used, and tells those that it concerns.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`], [`ChangeError::NoNamespace`].
    pub fn change_namespace(
        &self,
        nqn: &Nqn,
        nsid: u32,
        change: NamespaceChange,
    ) -> Result<(), ChangeError> {
        let subsystem = self.subsystem(nqn)?;
        let ns = self.namespace(nqn, nsid)?;
        match change {
            NamespaceChange::AnaGroup(group) if !Port::is_group(group) => {
                return Err(SubsystemError::AnaGroup { group }.into());
            }
            NamespaceChange::AnaGroup(group) => ns.set_ana_group(group),
            NamespaceChange::WriteProtected(on) => ns.set_write_protected(on),
            NamespaceChange::Hosts(hosts) => ns.set_hosts(hosts),
            NamespaceChange::Limits(limits) => {
                ns.set_limits(limits);
                // Who waits is to ask again.
                self.refresh_cores();
                return Ok(());
            }
        }
        subsystem.refresh();
        Ok(())
    }

    fn refresh_cores(&self) {
        if let Listening::On(cores) = &*self.shared.running() {
            cores.tell_all(|| Post::Refresh);
        }
    }

    /// Ends a controller: its host's connections are closed. The host may come again.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`], [`ChangeError::NoController`].
    pub fn disconnect(&self, nqn: &Nqn, cntlid: u16) -> Result<(), ChangeError> {
        let directory = self.shared.directory.load();
        let subsystem = directory.subsystem(nqn).ok_or_else(|| no_subsystem(nqn))?;
        let associations = subsystem.associations();
        let found = associations.iter().find(|association| association.cntlid() == cntlid);
        let missing = || ChangeError::NoController { nqn: Box::new(nqn.clone()), cntlid };
        found.ok_or_else(missing)?.disconnect();
        Ok(())
    }

    /// Makes a namespace larger: to so many bytes, or as large as what is behind it has become. The
    /// hosts that see it are told.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`], [`ChangeError::NoNamespace`], [`ChangeError::Resize`].
    pub fn resize_namespace(
        &self,
        nqn: &Nqn,
        nsid: u32,
        bytes: Option<u64>,
    ) -> Result<Geometry, ChangeError> {
        let geometry = self.namespace(nqn, nsid)?.backend().resize(bytes)?;
        self.subsystem(nqn)?.refresh();
        Ok(geometry)
    }

    /// Says what controllers that come from now on are like: how many I/O queues they grant, and
    /// which identifiers they get.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`].
    pub fn set_controllers(
        &self,
        nqn: &Nqn,
        max_io_queues: u16,
        cntlids: RangeInclusive<u16>,
    ) -> Result<(), ChangeError> {
        self.subsystem(nqn)?.set_controllers(max_io_queues, cntlids);
        Ok(())
    }

    /// Gives the discovery subsystem this name and refers hosts to these others. Where the name is
    /// another one, hosts that are connected to it have to come again.
    pub fn set_discovery(&self, nqn: Nqn, referrals: Vec<Referral>) {
        // Nothing is refused here.
        let before = self.edit(|directory| {
            directory.referrals = referrals;
            let renamed = *directory.discovery.nqn() != nqn;
            let before = Arc::clone(&directory.discovery);
            if renamed {
                directory.discovery = Subsystem::discovery(nqn);
            }
            Ok(renamed.then_some(before))
        });
        if let Ok(Some(before)) = before {
            before.associations().iter().for_each(|association| association.disconnect());
        }
    }

    /// The namespace of this identifier.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSubsystem`], [`ChangeError::NoNamespace`].
    pub fn namespace(&self, nqn: &Nqn, nsid: u32) -> Result<Arc<Namespace>, ChangeError> {
        self.subsystem(nqn)?.namespace(nsid).ok_or_else(|| no_namespace(nqn, nsid))
    }

    /// The port of this identifier.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoPort`].
    pub fn port(&self, id: u16) -> Result<Arc<Port>, ChangeError> {
        self.shared.directory.load().port(id).cloned().ok_or(ChangeError::NoPort { id })
    }

    fn subsystem(&self, nqn: &Nqn) -> Result<Arc<Subsystem>, ChangeError> {
        let directory = self.shared.directory.load();
        let found = directory.subsystems.iter().find(|s| s.nqn() == nqn);
        found.cloned().ok_or_else(|| no_subsystem(nqn))
    }

    fn disconnect_where(&self, which: impl Fn(&Association) -> bool) {
        let directory = self.shared.directory.load();
        let subsystems = std::iter::once(&directory.discovery).chain(&directory.subsystems);
        for association in subsystems.flat_map(|subsystem| subsystem.associations()) {
            if which(&association) {
                association.disconnect();
            }
        }
    }

    /// Waits until nothing uses a namespace that was taken away, and makes it durable.
    fn release(&self, subsystem: &Subsystem, ns: Arc<Namespace>) -> Result<(), ChangeError> {
        let what = format!("namespace {} of {}", ns.nsid(), subsystem.nqn());
        self.refresh_cores();
        let (backend, left) = (Arc::clone(ns.backend()), Arc::downgrade(&ns));
        drop(ns);
        let released = wait_for(|| left.strong_count() == 0);
        if let Err(error) = backend.flush() {
            return Err(ChangeError::Flush { what, status: storage_status(&error, true) });
        }
        if released { Ok(()) } else { Err(ChangeError::InUse { what }) }
    }

    /// Makes another directory of the one there is, and tells the hosts that watch discovery.
    fn edit<R>(
        &self,
        change: impl FnOnce(&mut Directory) -> Result<R, ChangeError>,
    ) -> Result<R, ChangeError> {
        self.edit_running(|directory, _| change(directory))
    }

    fn edit_running<R>(
        &self,
        change: impl FnOnce(&mut Directory, &mut Listening) -> Result<R, ChangeError>,
    ) -> Result<R, ChangeError> {
        let mut running = self.shared.running();
        let mut directory = Directory::clone(&self.shared.directory.load());
        let result = change(&mut directory, &mut running)?;
        directory.next_generation();
        let discovery = Arc::clone(&directory.discovery);
        self.shared.directory.store(Arc::new(directory));
        for association in discovery.associations() {
            association.events().raise(Event::DISCOVERY_LOG_CHANGED);
        }
        Ok(result)
    }
}

/// A change of how a namespace may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamespaceChange {
    /// It belongs to this ANA group.
    AnaGroup(u32),
    /// It refuses writes, or does no more.
    WriteProtected(bool),
    /// It is private to these hosts; `None`: it is not.
    Hosts(Option<BTreeSet<Nqn>>),
    /// What hosts may ask of it in a second. They are not told.
    Limits(Limits),
}

fn no_subsystem(nqn: &Nqn) -> ChangeError {
    ChangeError::NoSubsystem { nqn: Box::new(nqn.clone()) }
}

fn no_namespace(nqn: &Nqn, nsid: u32) -> ChangeError {
    ChangeError::NoNamespace { nqn: Box::new(nqn.clone()), nsid }
}

/// Waits until it is so; false if it is not in time.
fn wait_for(so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !so() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        thread::sleep(TICK);
    }
    true
}
