//! `nvmf ctl`

pub(crate) mod args;
mod show;
mod top;

use std::path::{Path, PathBuf};

use nvmf_target::config::{self, HostList, Size};
use nvmf_target::control::{Client, ClientError, Done, Reply, Request};

use crate::args::Format;
use crate::failure::{self, Usage};
use crate::output;

/// The socket of the one target that a user has: in the user's own directory, or the system's.
pub(crate) fn default_socket() -> PathBuf {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    directory.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("nvmf.sock")
}

pub(crate) fn run(args: args::Ctl) -> anyhow::Result<()> {
    let socket = args.socket.unwrap_or_else(default_socket);
    let format = args.output.format;
    match request(args.command)? {
        Ask::Once(request) => show(&call(&socket, &request)?, format),
        Ask::Top(options) => top::run(&socket, &options, format),
    }
}

/// Asks the target at this socket.
fn call(socket: &Path, request: &Request) -> anyhow::Result<Reply> {
    Client::connect(socket)?.call(request).map_err(|error| match error {
        // All that is wrong with a configuration is a line each.
        ClientError::Refused(message) => anyhow::anyhow!("{}", message.replace('\n', "; ")),
        other => other.into(),
    })
}

/// What is to be asked.
enum Ask {
    Once(Request),
    Top(args::Top),
}

fn request(command: args::Command) -> anyhow::Result<Ask> {
    use args::Command;
    Ok(Ask::Once(match command {
        Command::Top(options) => return Ok(Ask::Top(options)),
        Command::Status => Request::Status {},
        Command::Config => Request::Config {},
        Command::Controllers => Request::Controllers {},
        Command::Subsystem(command) => subsystem(command)?,
        Command::Namespace(command) => namespace(command)?,
        Command::Host(args::Host::Allow { subsystem, host }) => {
            Request::HostAllow { subsystem, host }
        }
        Command::Host(args::Host::Deny { subsystem, host }) => {
            Request::HostDeny { subsystem, host }
        }
        Command::Port(args::Port::Add { address, id, subsystem, discovery_only }) => {
            let some = discovery_only || !subsystem.is_empty();
            let port = config::Port {
                id,
                listen: address,
                subsystems: some.then_some(subsystem),
                ..Default::default()
            };
            Request::PortAdd { port: Box::new(port) }
        }
        Command::Port(args::Port::Remove { id }) => Request::PortRemove { id },
        Command::Ana { port, group, state } => Request::AnaSet { port, group, state },
        Command::Drop { subsystem, cntlid } => Request::Drop { subsystem, cntlid },
        Command::Save { file } => Request::Save { path: file.map(absolute) },
        Command::Apply { file } => Request::Apply { config: Box::new(whole(&file)?) },
        Command::Reload => Request::Reload {},
    }))
}

/// What a configuration file says, if it is right.
fn whole(file: &Path) -> anyhow::Result<config::Config> {
    let mut config = crate::config::read(file)?.config();
    for ns in config.subsystems.iter_mut().flat_map(|subsystem| &mut subsystem.namespaces) {
        ns.source = absolute_source(std::mem::take(&mut ns.source));
    }
    Ok(config)
}

/// The target's working directory is another one than ours.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn subsystem(command: args::Subsystem) -> anyhow::Result<Request> {
    Ok(match command {
        args::Subsystem::Add { subsystem, allow, serial, model, firmware } => {
            let subsystem = config::Subsystem {
                nqn: subsystem,
                serial,
                model,
                firmware,
                hosts: host_list("--allow", allow)?,
                ..Default::default()
            };
            Request::SubsystemAdd { subsystem: Box::new(subsystem) }
        }
        args::Subsystem::Remove { subsystem } => Request::SubsystemRemove { subsystem },
    })
}

fn namespace(command: args::Namespace) -> anyhow::Result<Request> {
    use args::Namespace;
    Ok(match command {
        Namespace::Add { subsystem, source, id, ana_group, host, uuid, read_only } => {
            let namespace = config::Namespace {
                id,
                source: absolute_source(source),
                uuid,
                ana_group,
                read_only,
                hosts: (!host.is_empty()).then_some(host),
                ..Default::default()
            };
            Request::NamespaceAdd { subsystem, namespace: Box::new(namespace) }
        }
        Namespace::Remove { subsystem, id } => Request::NamespaceRemove { subsystem, id },
        Namespace::Resize { subsystem, id, size } => {
            Request::NamespaceResize { subsystem, id, size: size.map(Size::from) }
        }
        Namespace::Limit { subsystem, id, limits } => Request::NamespaceSet {
            subsystem,
            id,
            limits: Some(config::Limits {
                iops: limits.iops,
                read_iops: limits.read_iops,
                write_iops: limits.write_iops,
                bandwidth: limits.bandwidth.map(Size::from),
                read_bandwidth: limits.read_bandwidth.map(Size::from),
                write_bandwidth: limits.write_bandwidth.map(Size::from),
            }),
            ana_group: None,
            read_only: None,
            hosts: None,
        },
        Namespace::Set { subsystem, id, ana_group, read_only, host } => Request::NamespaceSet {
            subsystem,
            id,
            limits: None,
            ana_group,
            read_only,
            hosts: host_list("--host", host)?,
        },
    })
}

/// Who may connect; `None` if nothing was said.
pub(crate) fn host_list(option: &str, hosts: Vec<String>) -> anyhow::Result<Option<HostList>> {
    let any = hosts.iter().any(|host| host == HostList::ANY);
    match (any, hosts.len()) {
        (_, 0) => Ok(None),
        (true, 1) => Ok(Some(HostList::Any)),
        (true, _) => {
            let what = format!("{option} any and {option} of a host: give one or the other");
            Err(Usage::new(what).into())
        }
        (false, _) => Ok(Some(HostList::Only(hosts))),
    }
}

/// A file is named as seen from here.
fn absolute_source(source: String) -> String {
    match source.strip_prefix("file:") {
        Some(path) if !path.starts_with('/') && !path.is_empty() => {
            format!("file:{}", absolute(path.into()).display())
        }
        _ => source,
    }
}

fn show(reply: &Reply, format: Format) -> anyhow::Result<()> {
    if let Reply::Done(Done { warnings, .. }) = reply {
        warnings.iter().for_each(|warning| failure::say(warning));
    }
    if format == Format::Json {
        return Ok(output::print(show::json(reply)?)?);
    }
    match reply {
        Reply::Done(Done { id: Some(id), .. }) => output::print(id)?,
        Reply::Done(_) => {}
        Reply::Config(config) => output::print(config.to_toml().trim_end())?,
        Reply::Status(status) => output::print(show::status(status))?,
        Reply::Controllers(controllers) => output::print(show::controllers(controllers))?,
        Reply::Saved { path } => output::print(path.display())?,
        other => output::print(show::json(other)?)?,
    }
    Ok(())
}
