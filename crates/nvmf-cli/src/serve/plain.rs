//! A target that is described by the command line alone.

use std::net::{SocketAddr, ToSocketAddrs};

use nvmf_target::config::{
    Config, Discovery, Layout, Metrics, Namespace, Port, Subsystem, Transport,
};
use nvmf_target::identity;

use crate::args;
use crate::ctl::host_list;
use crate::failure::Usage;

/// What the options say, as a configuration would.
pub(super) fn layout(args: &args::Serve) -> anyhow::Result<Layout> {
    let listen = addresses(&args.listen)?;
    let discovery = addresses(&args.discovery)?;
    let hosts = host_list("--allow", args.allow.clone())?;
    let beyond = listen.iter().find(|address| !address.ip().is_loopback());
    if let (None, Some(address)) = (&hosts, beyond) {
        return Err(Usage::new(format!(
            "{address} is reached from other machines: say who may connect, --allow HOSTNQN for \
             each host, or --allow any"
        ))
        .into());
    }
    let port = |address: &SocketAddr, subsystems| Port {
        listen: address.to_string(),
        subsystems,
        ..Port::default()
    };
    let ports = listen.iter().map(|address| port(address, None));
    let discovery_ports = discovery.iter().map(|address| port(address, Some(Vec::new())));
    let namespaces = args
        .namespace
        .iter()
        .map(|spec| Namespace { source: spec.to_string(), ..Namespace::default() });
    let config = Config {
        discovery: Discovery { mdns: args.mdns, ..Discovery::default() },
        metrics: args.metrics.map(|listen| Metrics { listen: listen.to_string() }),
        transport: Transport::default(),
        ports: ports.chain(discovery_ports).collect(),
        subsystems: vec![Subsystem {
            nqn: args.nqn.clone().unwrap_or_else(identity::default_subsystem_nqn).to_string(),
            hosts,
            max_transfer: args.max_transfer.map(|most| u64::from(most.bytes()).into()),
            max_queue_entries: args.max_queue_entries,
            namespaces: namespaces.collect(),
            ..Subsystem::default()
        }],
    };
    Ok(config.resolve()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parsed(args: &[&str]) -> anyhow::Result<Layout> {
        let cli = args::Cli::try_parse_from(["nvmf", "serve"].iter().chain(args)).unwrap();
        let args::Command::Serve(args) = cli.command else { panic!() };
        layout(&args)
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

    #[test]
    fn sizes_are_those_of_the_subsystem() {
        let subsystem =
            |args: &[&str]| parsed(args).unwrap().subsystems().values().next().unwrap().clone();
        let sized = subsystem(&["--max-transfer", "128K", "--max-queue-entries", "32"]);
        assert_eq!(sized.max_transfer.bytes(), 128 << 10);
        assert_eq!(sized.max_queue_entries.entries(), 32);
        assert_eq!(subsystem(&[]).max_transfer.bytes(), 1 << 20);
        for wrong in [
            ["--max-transfer", "4K"],
            ["--max-transfer", "3M"],
            ["--max-queue-entries", "1"],
            ["--max-queue-entries", "1025"],
            ["--in-capsule", "17"],
            ["--in-capsule", "32K"],
        ] {
            assert!(args::Cli::try_parse_from(["nvmf", "serve"].iter().chain(&wrong)).is_err());
        }
    }

    #[test]
    fn beyond_loopback_hosts_have_to_be_named() {
        let listen = ["--listen", "0.0.0.0:4420"];
        assert!(parsed(&listen).unwrap_err().is::<Usage>());
        let with = |more: &[&'static str]| parsed(&[&listen[..], more].concat());
        let open = with(&["--allow", "any"]).unwrap();
        let host = nvmf::spec::Nqn::parse_strict("nqn.2026-01.org.example:h").unwrap();
        let subsystem = |layout: Layout| layout.subsystems().values().next().unwrap().clone();
        assert!(subsystem(open).allows(&host));
        let named = with(&["--allow", "nqn.2026-01.org.example:other"]).unwrap();
        assert!(!subsystem(named).allows(&host));
        assert!(with(&["--allow", "any", "--allow", "nqn.2026-01.org.example:h"]).is_err());
        assert!(with(&["--allow", "not a name"]).is_err());
        assert!(subsystem(parsed(&[]).unwrap()).allows(&host), "loopback alone");
    }
}
