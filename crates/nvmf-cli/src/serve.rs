//! `nvmf serve`

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::thread;

use anyhow::Context;
use nvmf::spec::Nqn;
use nvmf_storage::{Geometry, NamespaceSpec};
use nvmf_target::{Handle, Subsystem, Target, identity};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args;
use crate::failure::Usage;
use crate::limits;
use crate::output;

pub(crate) fn run(args: &args::Serve) -> anyhow::Result<()> {
    let addresses = addresses(&args.listen)?;
    let nqn = args.nqn.clone().unwrap_or_else(identity::default_subsystem_nqn);
    let mut subsystem = Subsystem::builder(nqn.clone());
    for spec in &args.namespace {
        subsystem =
            subsystem.open(spec).with_context(|| format!("cannot serve namespace `{spec}`"))?;
    }
    let subsystem = subsystem.build()?;
    let geometries: Vec<_> =
        subsystem.namespaces().iter().map(|n| n.backend().geometry()).collect();
    let target = addresses
        .into_iter()
        .fold(Target::builder(), |target, address| target.listen(address))
        .subsystem(subsystem)
        .header_digest(!args.no_hdgst)
        .data_digest(!args.no_ddgst)
        .engine(args.engine.engine);
    let target = match (args.cores, &args.pin) {
        (_, Some(cpus)) => target.pin(cpus.0.clone()),
        (Some(cores), None) => target.cores(cores.into()),
        (None, None) => target,
    };
    let target = match args.spin {
        Some(spin) => target.spin(spin),
        None => target,
    };
    let target = match &args.trace {
        Some(trace) => target.trace_pdus(trace.clone()),
        None => target,
    };
    let target = target.bind()?;
    tracing::info!(engine = %target.engine(), cores = target.cores(), "serving");
    limits::raise_descriptors();
    stop_on_signals(target.handle())?;
    output::print(announcement(&nqn, &args.namespace, &geometries, &target.local_addrs()))?;
    Ok(target.run()?)
}

/// Where to listen; a name stands for all of its addresses.
fn addresses(listen: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for text in listen {
        let found = text.to_socket_addrs().map_err(|e| {
            Usage::new(format!("cannot listen on `{text}`: {e}; write ADDR:PORT or [ADDR]:PORT"))
        })?;
        for address in found {
            // Port 0 is another one each time.
            if address.port() == 0 || !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

/// Stops the target at the first SIGINT or SIGTERM, and the process at the second.
fn stop_on_signals(handle: Handle) -> anyhow::Result<()> {
    const KILLED_BY: i32 = 128;
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot wait for signals")?;
    thread::Builder::new()
        .name("nvmf-signals".to_owned())
        .spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
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

/// What is served, and how to reach it.
fn announcement(
    nqn: &Nqn,
    specs: &[NamespaceSpec],
    geometries: &[Geometry],
    addresses: &[SocketAddr],
) -> String {
    let mut text = format!("Serving {nqn}\n");
    for (nsid, (spec, geometry)) in (1..).zip(specs.iter().zip(geometries)) {
        // Writing to a string does not fail.
        let (blocks, size) = (geometry.blocks(), geometry.block_size());
        let _ = writeln!(text, "  namespace {nsid}: {spec}, {blocks} blocks of {size} bytes");
    }
    for address in addresses {
        let ip = reachable(address.ip());
        let port = address.port();
        let authority = SocketAddr::new(ip, port);
        let _ = writeln!(text, "Ready on {address}; to use it:");
        let _ = writeln!(text, "  nvme connect -t tcp -a {ip} -s {port} -n {nqn}");
        let _ = writeln!(text, "  nvmf read nvme+tcp://{authority}/{nqn}/1 copy.img");
        if address.ip().is_unspecified() {
            let _ = writeln!(text, "  (on other machines, with this machine's address for {ip})");
        }
    }
    text.push_str("Ctrl-C ends it.");
    text
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
    use nvmf_storage::BlockSize;

    #[test]
    fn the_announcement_has_lines_to_paste() {
        let nqn = Nqn::lenient("nqn.2026-01.org.example:d").unwrap();
        let specs = ["mem:256M".parse().unwrap(), "file:/srv/a b.img,ro".parse().unwrap()];
        let addresses = ["0.0.0.0:4420".parse().unwrap(), "[::1]:4421".parse().unwrap()];
        let geometry = |bytes| Geometry::from_bytes(BlockSize::default(), bytes).unwrap();
        let geometries = [geometry(256 << 20), geometry(1 << 30)];
        let text = announcement(&nqn, &specs, &geometries, &addresses);
        for line in [
            "  namespace 1: mem:256M, 65536 blocks of 4096 bytes",
            "  namespace 2: file:/srv/a b.img,ro, 262144 blocks of 4096 bytes",
            "  nvme connect -t tcp -a 127.0.0.1 -s 4420 -n nqn.2026-01.org.example:d",
            "  nvmf read nvme+tcp://[::1]:4421/nqn.2026-01.org.example:d/1 copy.img",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
        assert!(text.contains("other machines"));
    }

    #[test]
    fn addresses_are_checked_and_listened_on_once() {
        let parse = |listen: &[&str]| {
            addresses(&listen.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(parse(&["127.0.0.1:1", "[::1]:1", "127.0.0.1:1"]).unwrap().len(), 2);
        assert_eq!(parse(&["127.0.0.1:0", "127.0.0.1:0"]).unwrap().len(), 2);
        for text in ["nonsense", "127.0.0.1", "::1", "127.0.0.1:99999", ""] {
            assert!(parse(&[text]).unwrap_err().is::<Usage>(), "{text}");
        }
    }
}
