//! `nvmf serve`

mod plain;

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use nvmf_target::config::Layout;
use nvmf_target::control::{Control, Listener, Server};
use nvmf_target::manage::{Manager, StateFile};
use nvmf_target::{Handle, Target, TargetBuilder};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args;
use crate::config;
use crate::limits;
use crate::output;
use crate::stop::KILLED_BY;

pub(crate) fn run(args: &args::Serve) -> anyhow::Result<()> {
    let layout = match &args.config {
        Some(file) => config::read(file)?,
        None => plain::layout(args)?,
    };
    // Before anything is touched that another target may be using.
    let socket = control_socket(args).map(|path| Listener::bind(&path)).transpose()?;
    let (state, layout) = match &args.state {
        Some(path) => {
            let (state, layout) = StateFile::open(path, &layout)?;
            (Some(state), layout)
        }
        None => (None, layout),
    };
    let (target, manager) = Manager::start(layout, builder(args), state)?;
    tracing::info!(engine = %target.engine(), cores = target.cores(), "serving");
    limits::raise_descriptors();
    let control = Control::new(Arc::clone(&manager), args.config.clone());
    let socket = socket.map(|socket| socket.serve(control.clone())).transpose()?;
    heed_signals(target.handle(), control)?;
    output::print(announcement(&manager, socket.as_ref().map(Server::path)))?;
    Ok(target.run()?)
}

/// What does not follow from the layout, and what counts before it because it was given here.
fn builder(args: &args::Serve) -> TargetBuilder {
    let mut builder = Target::builder().engine(args.engine.engine);
    if args.hdgst || args.no_hdgst {
        builder = builder.header_digest(args.hdgst);
    }
    if args.ddgst || args.no_ddgst {
        builder = builder.data_digest(args.ddgst);
    }
    if let Some(in_capsule) = args.in_capsule {
        builder = builder.in_capsule(in_capsule);
    }
    builder = match (args.cores, &args.pin) {
        (_, Some(cpus)) => builder.pin(cpus.0.clone()),
        (Some(cores), None) => builder.cores(cores.into()),
        (None, None) => builder,
    };
    if let Some(spin) = args.spin {
        builder = builder.spin(spin);
    }
    if let Some(connections) = args.max_connections {
        builder = builder.max_connections(connections);
    }
    if let Some(trace) = &args.trace {
        builder = builder.trace_pdus(trace.clone());
    }
    builder
}

/// Where the target is controlled: a target with a configuration always is.
fn control_socket(args: &args::Serve) -> Option<PathBuf> {
    let default = || args.config.as_ref().map(|_| crate::ctl::default_socket());
    args.control.clone().or_else(default)
}

/// Stops the target at the first SIGINT or SIGTERM, and the process at the second; SIGHUP has the
/// configuration read again.
fn heed_signals(handle: Handle, control: Control) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    thread::Builder::new()
        .name("nvmf-signals".to_owned())
        .spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
                if signal == SIGHUP {
                    reload(&control);
                    continue;
                }
                if stopping {
                    std::process::exit(KILLED_BY + signal);
                }
                tracing::info!(signal, "stopping");
                handle.shutdown();
                stopping = true;
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

fn reload(control: &Control) {
    match control.reload() {
        Ok(applied) => tracing::info!(changes = applied.changes, "configuration read again"),
        Err(error) => {
            for line in error.to_string().lines() {
                tracing::error!("the configuration stays as it is: {line}");
            }
        }
    }
}

/// What is served, and how to reach it.
fn announcement(manager: &Manager, control: Option<&Path>) -> String {
    let handle = manager.handle();
    let layout = manager.layout();
    let mut text = String::new();
    // Writing to a string does not fail.
    for subsystem in handle.subsystems() {
        let _ = writeln!(text, "Serving {}", subsystem.nqn());
        for ns in subsystem.namespaces() {
            let (nsid, geometry) = (ns.nsid(), ns.backend().geometry());
            let (blocks, size) = (geometry.blocks(), geometry.block_size());
            let source = source(&layout, subsystem.nqn(), nsid);
            let _ = writeln!(text, "  namespace {nsid}: {source}, {blocks} blocks of {size} bytes");
        }
    }
    for port in handle.ports() {
        let address = port.address();
        let subsystems = handle.subsystems();
        let nqn = subsystems.iter().map(|subsystem| subsystem.nqn()).find(|nqn| port.serves(nqn));
        let ip = reachable(address.ip());
        let port = address.port();
        let authority = SocketAddr::new(ip, port);
        let _ = writeln!(text, "Ready on {address}; to use it:");
        if let Some(nqn) = nqn {
            let _ = writeln!(text, "  nvme connect -t tcp -a {ip} -s {port} -n {nqn}");
            let _ = writeln!(text, "  nvmf read nvme+tcp://{authority}/{nqn}/1 copy.img");
        } else {
            let _ = writeln!(text, "  nvmf discover nvme+tcp://{authority}");
        }
        if address.ip().is_unspecified() {
            let _ = writeln!(text, "  (on other machines, with this machine's address for {ip})");
        }
    }
    if let Some(address) = manager.metrics_address() {
        let _ = writeln!(text, "Metrics on http://{address}/metrics");
    }
    if let Some(path) = control {
        let _ = writeln!(text, "Controlled by: nvmf ctl --socket {} status", path.display());
    }
    text.push_str("Ctrl-C ends it.");
    text
}

/// Where a namespace's blocks are, as it was asked for.
fn source(layout: &Layout, nqn: &nvmf::spec::Nqn, nsid: u32) -> String {
    let ns = layout.subsystems().get(nqn).and_then(|subsystem| subsystem.namespaces.get(&nsid));
    ns.map_or_else(String::new, |ns| ns.spec.to_string())
}

/// An address that reaches this machine from itself.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_has_lines_to_paste() {
        let layout = Layout::from_toml(
            "[[port]]\nlisten = \"[::1]:0\"\n[[port]]\nlisten = \"127.0.0.1:0\"\n\
             [[subsystem]]\nnqn = \"nqn.2026-01.org.example:d\"\n\
             [[subsystem.namespace]]\nsource = \"mem:256M\"\n",
        );
        let (_, manager) = Manager::start(layout.unwrap(), Target::builder(), None).unwrap();
        let text = announcement(&manager, Some(Path::new("/run/nvmf.sock")));
        let port = |at: usize| manager.handle().ports()[at].address().port();
        for line in [
            "  namespace 1: mem:256M, 65536 blocks of 4096 bytes",
            &format!(
                "  nvme connect -t tcp -a 127.0.0.1 -s {} -n nqn.2026-01.org.example:d",
                port(1)
            ),
            &format!(
                "  nvmf read nvme+tcp://[::1]:{}/nqn.2026-01.org.example:d/1 copy.img",
                port(0)
            ),
            "Controlled by: nvmf ctl --socket /run/nvmf.sock status",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
