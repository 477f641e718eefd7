//! What a request does.

use std::path::PathBuf;
use std::time::Instant;

use nvme_spec::Nqn;
use nvme_spec::nqn::UuidText;
use nvmf_storage::replace_file;

use super::{
    Activity, Controller, Done, NamespaceStatus, OperationActivity, PortStatus, Reply, Request,
    Status, SubsystemStatus,
};
use crate::config::{self, Config, HostList, Layout};
use crate::manage::{Applied, ManageError, Manager};
use crate::statistics::TargetReport;
use crate::{ControllerInfo, Namespace, Subsystem};

/// What requests are executed on.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) manager: std::sync::Arc<Manager>,
    /// The configuration file, if there is one.
    pub(super) file: Option<PathBuf>,
    pub(super) started: Instant,
}

type Outcome = Result<Reply, ManageError>;

impl Executor {
    pub(super) fn execute(&self, request: Request) -> Reply {
        self.run(request).unwrap_or_else(|error| Reply::Error { message: error.to_string() })
    }

    fn run(&self, request: Request) -> Outcome {
        let manager = &self.manager;
        match request {
            Request::Status {} => Ok(Reply::Status(Box::new(self.status()))),
            Request::Config {} => Ok(Reply::Config(Box::new(manager.layout().config()))),
            Request::Controllers {} => {
                let controllers = manager.handle().controllers();
                Ok(Reply::Controllers(controllers.iter().map(Controller::of).collect()))
            }
            Request::Activity {} => Ok(Reply::Activity(Activity::of(&manager.handle().report()))),
            Request::Apply { config } => done(manager.apply(config.resolve()?)?),
            Request::Reload {} => done(self.reload()?),
            Request::Save { path } => self.save(path),
            Request::SubsystemAdd { subsystem } => self.edit(|config| {
                config.subsystems.push(*subsystem);
                Ok(())
            }),
            Request::SubsystemRemove { subsystem } => self.edit(|config| {
                let _ = find(config, &subsystem)?;
                config.subsystems.retain(|s| s.nqn != subsystem);
                for port in &mut config.ports {
                    if let Some(only) = &mut port.subsystems {
                        only.retain(|nqn| *nqn != subsystem);
                    }
                }
                Ok(())
            }),
            Request::NamespaceAdd { subsystem, namespace } => {
                self.add_namespace(&subsystem, *namespace)
            }
            Request::NamespaceRemove { subsystem, id } => self.edit(|config| {
                let _ = find_namespace(config, &subsystem, id)?;
                find(config, &subsystem)?.namespaces.retain(|ns| ns.id != Some(id));
                Ok(())
            }),
            Request::NamespaceResize { subsystem, id, size } => self.resize(&subsystem, id, size),
            Request::NamespaceSet { subsystem, id, limits, ana_group, read_only, hosts } => self
                .edit(|config| {
                    let ns = find_namespace(config, &subsystem, id)?;
                    ns.limits = limits.unwrap_or_else(|| ns.limits.clone());
                    ns.ana_group = ana_group.or(ns.ana_group);
                    ns.read_only = read_only.unwrap_or(ns.read_only);
                    match hosts {
                        None => {}
                        Some(HostList::Any) => ns.hosts = None,
                        Some(HostList::Only(hosts)) => ns.hosts = Some(hosts),
                    }
                    Ok(())
                }),
            Request::HostAllow { subsystem, host } => {
                self.edit(|config| allow(find(config, &subsystem)?, host))
            }
            Request::HostDeny { subsystem, host } => {
                self.edit(|config| deny(find(config, &subsystem)?, &host))
            }
            Request::PortAdd { port } => self.add_port(*port),
            Request::PortRemove { id } => self.edit(|config| {
                let _ = find_port(config, id)?;
                config.ports.retain(|port| port.id != Some(id));
                Ok(())
            }),
            Request::AnaSet { port, group, state } => self.edit(|config| {
                find_port(config, port)?.ana.insert(group.to_string(), state);
                Ok(())
            }),
            Request::Drop { subsystem, cntlid } => {
                let missing = |_| no_subsystem(&subsystem);
                let nqn = Nqn::lenient(&subsystem).map_err(missing)?;
                manager.handle().disconnect(&nqn, cntlid)?;
                Ok(Reply::Done(Done { changes: 1, ..Done::default() }))
            }
        }
    }

    /// Reads the configuration file again.
    pub(super) fn reload(&self) -> Result<Applied, ManageError> {
        let missing = || {
            let message = "there is no configuration file to read again: the target was started \
                           without --config";
            ManageError::Missing(message.into())
        };
        let file = self.file.as_deref().ok_or_else(missing)?;
        let layout = Layout::read(file).map_err(|error| ManageError::Clash(error.to_string()))?;
        self.manager.reload(layout)
    }

    fn save(&self, path: Option<PathBuf>) -> Outcome {
        let missing = || {
            let message = "there is no configuration file to save to; name one";
            ManageError::Missing(message.into())
        };
        let path = path.or_else(|| self.file.clone()).ok_or_else(missing)?;
        let layout = self.manager.layout();
        replace_file(&path, layout.config().to_toml().as_bytes()).map_err(|error| {
            ManageError::Clash(format!("cannot save to {}: {error}", path.display()))
        })?;
        if self.file.as_ref() == Some(&path) {
            // What it would be started with now is what it is.
            let _ = self.manager.reload(layout)?;
        }
        Ok(Reply::Saved { path })
    }

    fn edit(&self, change: impl FnOnce(&mut Config) -> Result<(), ManageError>) -> Outcome {
        done(self.manager.edit(change)?)
    }

    fn add_namespace(&self, subsystem: &str, mut namespace: config::Namespace) -> Outcome {
        let mut id = 0;
        let applied = self.manager.edit(|config| {
            let subsystem = find(config, subsystem)?;
            let taken = |id: &u32| subsystem.namespaces.iter().any(|ns| ns.id == Some(*id));
            id = namespace.id.or_else(|| (1..).find(|id| !taken(id))).unwrap_or(0);
            namespace.id = Some(id);
            subsystem.namespaces.push(namespace);
            Ok(())
        })?;
        added(applied, id)
    }

    fn add_port(&self, mut port: config::Port) -> Outcome {
        let mut id = 0;
        let applied = self.manager.edit(|config| {
            let taken = |id: &u32| config.ports.iter().any(|port| port.id == Some(*id));
            id = port.id.or_else(|| (1..).find(|id| !taken(id))).unwrap_or(0);
            port.id = Some(id);
            config.ports.push(port);
            Ok(())
        })?;
        added(applied, id)
    }

    fn resize(&self, subsystem: &str, id: u32, size: Option<config::Size>) -> Outcome {
        let nqn = Nqn::lenient(subsystem).map_err(|_| no_subsystem(subsystem))?;
        let bytes = size.map(|size| nvmf_storage::parse_size(size.as_str())).transpose();
        let bytes = bytes.map_err(|error| ManageError::Clash(error.to_string()))?;
        let _ = self.manager.resize(&nqn, id, bytes)?;
        Ok(Reply::Done(Done { changes: 1, ..Done::default() }))
    }

    fn status(&self) -> Status {
        let handle = self.manager.handle();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed().as_secs(),
            pid: std::process::id(),
            metrics: self.manager.metrics_address().map(|at| at.to_string()),
            connections: handle.connections(),
            ports: handle
                .ports()
                .iter()
                .map(|port| PortStatus { id: port.id(), address: port.address().to_string() })
                .collect(),
            subsystems: handle.subsystems().iter().map(|s| SubsystemStatus::of(s)).collect(),
        }
    }
}

impl Activity {
    fn of(report: &TargetReport) -> Self {
        let hosts = report.subsystems.iter().flat_map(|s| s.hosts.iter().map(move |h| (s, h)));
        let operations = hosts.clone().flat_map(|(subsystem, host)| {
            host.operations.iter().map(|((nsid, operation), sum)| OperationActivity {
                subsystem: subsystem.nqn.to_string(),
                namespace: *nsid,
                host: host.host.as_ref().map_or_else(String::new, Nqn::to_string),
                operation: operation.name().to_owned(),
                commands: sum.latency.count(),
                bytes: sum.bytes,
                seconds: sum.latency.seconds(),
            })
        });
        Self {
            connections: report.connections,
            digest_errors: report.digest_errors,
            violations: report.violations,
            under_way: report.subsystems.iter().map(|s| s.under_way).sum(),
            operations: operations.collect(),
            failures: hosts.flat_map(|(_, host)| host.failures.values()).sum(),
        }
    }
}

impl SubsystemStatus {
    fn of(subsystem: &Subsystem) -> Self {
        let counted = subsystem.statistics();
        Self {
            nqn: subsystem.nqn().to_string(),
            controllers: subsystem.controller_ids().len(),
            namespaces: subsystem.namespaces().iter().map(|ns| NamespaceStatus::of(ns)).collect(),
            reads: counted.reads,
            writes: counted.writes,
            bytes_read: counted.bytes_read,
            bytes_written: counted.bytes_written,
            media_errors: counted.media_errors,
        }
    }
}

impl NamespaceStatus {
    fn of(ns: &Namespace) -> Self {
        let geometry = ns.backend().geometry();
        Self {
            id: ns.nsid(),
            location: ns.backend().location(),
            blocks: geometry.blocks(),
            block_size: geometry.block_size(),
            uuid: UuidText(ns.uuid()).to_string(),
            ana_group: ns.ana_group(),
            read_only: ns.is_read_only(),
        }
    }
}

impl Controller {
    fn of(info: &ControllerInfo) -> Self {
        Self {
            subnqn: info.subsystem.to_string(),
            cntlid: info.cntlid,
            hostnqn: info.host.to_string(),
            hostid: info.host_id.to_string(),
            port: info.port,
            peer: info.peer.clone(),
            io_queues: info.io_queues.clone(),
            io_commands: info.io_commands,
        }
    }
}

fn done(applied: Applied) -> Outcome {
    let Applied { changes, warnings } = applied;
    Ok(Reply::Done(Done { changes, id: None, warnings }))
}

fn added(applied: Applied, id: u32) -> Outcome {
    let Applied { changes, warnings } = applied;
    Ok(Reply::Done(Done { changes, id: Some(id), warnings }))
}

fn no_subsystem(nqn: &str) -> ManageError {
    ManageError::Missing(format!("there is no subsystem {nqn}"))
}

fn find<'a>(config: &'a mut Config, nqn: &str) -> Result<&'a mut config::Subsystem, ManageError> {
    config.subsystems.iter_mut().find(|s| s.nqn == nqn).ok_or_else(|| no_subsystem(nqn))
}

fn find_namespace<'a>(
    config: &'a mut Config,
    nqn: &str,
    id: u32,
) -> Result<&'a mut config::Namespace, ManageError> {
    let found = find(config, nqn)?.namespaces.iter_mut().find(|ns| ns.id == Some(id));
    found.ok_or_else(|| ManageError::Missing(format!("{nqn} has no namespace {id}")))
}

fn find_port(config: &mut Config, id: u32) -> Result<&mut config::Port, ManageError> {
    let found = config.ports.iter_mut().find(|port| port.id == Some(id));
    found.ok_or_else(|| ManageError::Missing(format!("there is no port {id}")))
}

fn allow(subsystem: &mut config::Subsystem, host: String) -> Result<(), ManageError> {
    if host == HostList::ANY {
        subsystem.hosts = Some(HostList::Any);
        return Ok(());
    }
    // Where everybody may connect already nobody else looks at the name.
    Nqn::parse_strict(&host).map_err(|error| ManageError::Clash(format!("`{host}`: {error}")))?;
    match &mut subsystem.hosts {
        Some(HostList::Any) => {}
        Some(HostList::Only(hosts)) if hosts.contains(&host) => {}
        Some(HostList::Only(hosts)) => hosts.push(host),
        None => subsystem.hosts = Some(HostList::Only(vec![host])),
    }
    Ok(())
}

fn deny(subsystem: &mut config::Subsystem, host: &str) -> Result<(), ManageError> {
    let nqn = &subsystem.nqn;
    match &mut subsystem.hosts {
        Some(HostList::Only(hosts)) if host != HostList::ANY => {
            let before = hosts.len();
            hosts.retain(|allowed| allowed != host);
            if hosts.len() == before {
                return Err(ManageError::Missing(format!("{host} is not one of {nqn}'s hosts")));
            }
            for ns in &mut subsystem.namespaces {
                if let Some(only) = &mut ns.hosts {
                    only.retain(|allowed| allowed != host);
                }
            }
            Ok(())
        }
        hosts @ (Some(HostList::Any) | None) if host == HostList::ANY => {
            *hosts = Some(HostList::Only(Vec::new()));
            Ok(())
        }
        Some(HostList::Only(_)) => Ok(()),
        Some(HostList::Any) | None => Err(ManageError::Clash(format!(
            "every host may connect to {nqn}; deny `any`, then allow those that are to"
        ))),
    }
}
