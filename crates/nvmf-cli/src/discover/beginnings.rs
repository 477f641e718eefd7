//! Whom to ask first.

use nvmf::host::HostOptions;
use nvmf::host::config_files::{ConfigJson, Connection, DiscoveryConf};
use nvmf::host::discovery::DiscoveryController;
use nvmf::host::identity::Identity;

use super::args::Discover;
use super::mdns::Mdns;
use crate::failure::{self, Usage};
use crate::target::Target;

/// The discovery controllers to ask first.
pub(super) struct Beginnings {
    /// By address or by file.
    pub(super) named: Vec<DiscoveryController>,
    /// By multicast DNS, if that was asked for.
    pub(super) mdns: Option<Mdns>,
    /// There is one, by address, and it is all that was asked for.
    pub(super) single: bool,
    /// What was wrong with the files, which was said.
    pub(super) wrong: usize,
}

impl Beginnings {
    /// What the command line names, or the files do.
    pub(super) fn new(args: &Discover, options: &HostOptions) -> anyhow::Result<Self> {
        let mut named: Vec<_> = args.targets.iter().map(by_url).collect();
        match (&args.connect.traddr, named.is_empty()) {
            (Some(_), false) => {
                let what = "TARGET and -a both say whom to connect to; give one";
                return Err(Usage::new(what).into());
            }
            (Some(address), true) => {
                let port = args.connect.trsvcid.unwrap_or(nvmf::spec::IO_PORT);
                named.push(with_nqn(DiscoveryController::new(address, port), &args.connect.nqn));
            }
            (None, _) => {}
        }
        let mdns = if args.mdns { Some(Mdns::start(args.mdns_time)?) } else { None };
        if mdns.is_some() || !named.is_empty() {
            let single = mdns.is_none() && named.len() == 1;
            return Ok(Self { named, mdns, single, wrong: 0 });
        }
        let files = Files::read(args, options)?;
        if files.found.is_empty() && files.wrong == 0 {
            return Err(Usage::new(format!(
                "no target; give nvme+tcp://HOST[:PORT] or --mdns ({} no discovery controller over \
                 TCP)",
                files.name(args)
            ))
            .into());
        }
        Ok(Self { named: files.found, mdns: None, single: false, wrong: files.wrong })
    }

    /// All of them, as far as they are known now.
    pub(super) fn all(&self) -> Vec<DiscoveryController> {
        let announced = self.mdns.as_ref().map(Mdns::found).unwrap_or_default();
        self.named.iter().cloned().chain(announced).collect()
    }
}

fn by_url(target: &Target) -> DiscoveryController {
    with_nqn(DiscoveryController::new(&target.host, target.port), &target.subsystem)
}

fn with_nqn(controller: DiscoveryController, nqn: &Option<nvmf::spec::Nqn>) -> DiscoveryController {
    match nqn {
        Some(nqn) => controller.with_subsystem(nqn.clone()),
        None => controller,
    }
}

/// What the files of nvme-cli name.
struct Files<'a> {
    options: &'a HostOptions,
    found: Vec<DiscoveryController>,
    wrong: usize,
    there: bool,
}

impl<'a> Files<'a> {
    fn read(args: &Discover, options: &'a HostOptions) -> anyhow::Result<Self> {
        let mut files = Self { options, found: Vec::new(), wrong: 0, there: false };
        let directory = &args.config_dir;
        if let Some(conf) = DiscoveryConf::read(directory)? {
            files.there = true;
            let name = directory.join("discovery.conf").display().to_string();
            for error in &conf.errors {
                failure::say(&format!("{name}: {error}; the line is passed over"));
                files.wrong += 1;
            }
            conf.connections.iter().for_each(|one| files.take(&name, one));
        }
        if let Some(config) = ConfigJson::read(directory)? {
            files.there = true;
            let name = directory.join("config.json").display().to_string();
            let discovery = config.connections.iter().filter(|one| one.is_discovery());
            discovery.for_each(|one| files.take(&name, one));
        }
        Ok(files)
    }

    /// Takes a connection, if it is one over TCP.
    fn take(&mut self, file: &str, connection: &Connection) {
        let place = format!("{file}: {}", connection.place);
        let controller = match connection.discovery_controller() {
            Ok(controller) => controller,
            Err(reason) => {
                failure::say(&format!("{place}: passed over, because {reason}"));
                return;
            }
        };
        if connection.host_traddr.is_some() || connection.host_iface.is_some() {
            failure::say(&format!(
                "{place}: the system chooses by which of this host's addresses it is reached, \
                 whatever host-traddr and host-iface say"
            ));
        }
        let this =
            || Ok(Identity { host: self.options.host.clone(), host_id: self.options.host_id });
        match connection.identity(this) {
            Ok(Some(identity)) => self.found.push(controller.with_identity(identity)),
            Ok(None) => self.found.push(controller),
            // `this` does not fail.
            Err(error) => failure::say(&format!("{place}: {error}")),
        }
    }

    /// What they are, as the subject of a sentence.
    fn name(&self, args: &Discover) -> String {
        let directory = args.config_dir.display();
        match self.there {
            true => format!("discovery.conf and config.json in {directory} name"),
            false => format!("{directory} has no discovery.conf and no config.json, which names"),
        }
    }
}
