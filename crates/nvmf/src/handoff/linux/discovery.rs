//! Everything that a discovery controller tells of, and what of it the kernel can connect to.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nvme_spec::Nqn;
use nvme_spec::log::{DiscoveryEntry, sectype, subtype, treq, trtype};

use super::kernel::traddr;
use super::options::Options;
use super::topology::Controller;
use crate::Error;
use crate::host::{Association, HostOptions, TcpDialer};

/// The most discovery logs that are read, referrals followed.
const MOST_LOGS: usize = 64;
/// The most referrals between the first log and another.
const MOST_DEPTH: u32 = 8;
/// The most entries of all logs together.
const MOST_ENTRIES: usize = 16 << 10;

/// What was found by asking one discovery controller and those that it refers to.
#[derive(Debug, Default)]
pub struct Discovered {
    /// The subsystems' entries, in the order in which they were told, each once.
    pub entries: Vec<DiscoveryEntry>,
    /// Referrals that led nowhere, and why.
    pub failed: Vec<(SocketAddr, Error)>,
    /// There is more than is followed: 64 logs, 8 referrals deep, 16,384 entries.
    pub truncated: bool,
}

/// Reads the discovery log of `subsystem`, and those of the discovery controllers over TCP that it
/// refers to, each once.
///
/// # Errors
///
/// Why the first cannot be read; what became of referrals is in the answer.
pub fn discover(
    dialer: &TcpDialer,
    subsystem: &Nqn,
    options: &HostOptions,
) -> Result<Discovered, Error> {
    let mut found = Discovered::default();
    let mut asked = BTreeSet::new();
    let mut told = BTreeSet::new();
    let mut waiting = VecDeque::new();
    // One that refers to the first is not to lead back to it.
    asked.extend(dialer.addresses().iter().copied());
    let first = read_log(dialer.clone(), subsystem, options)?;
    take(first, 0, &mut found, &mut told, &mut waiting);
    let mut logs = 1;
    while let Some((depth, address, name)) = waiting.pop_front() {
        if !asked.insert(address) {
            continue;
        }
        if depth > MOST_DEPTH || logs == MOST_LOGS {
            found.truncated = true;
            continue;
        }
        logs += 1;
        match read_log(dialer.to(address), &name, options) {
            Ok(entries) => take(entries, depth, &mut found, &mut told, &mut waiting),
            Err(error) => found.failed.push((address, error)),
        }
    }
    Ok(found)
}

fn read_log(
    dialer: TcpDialer,
    subsystem: &Nqn,
    options: &HostOptions,
) -> Result<Vec<DiscoveryEntry>, Error> {
    Ok(Association::connect(dialer, subsystem, options.clone())?.discovery_log()?.entries)
}

/// Sorts a log into subsystems and referrals.
fn take(
    entries: Vec<DiscoveryEntry>,
    depth: u32,
    found: &mut Discovered,
    told: &mut BTreeSet<(u8, String, String, String)>,
    waiting: &mut VecDeque<(u32, SocketAddr, Nqn)>,
) {
    for entry in entries {
        match entry.subtype {
            subtype::REFERRAL => {
                if let (trtype::TCP, Some(address)) = (entry.trtype, address_of(&entry)) {
                    if waiting.len() == MOST_ENTRIES {
                        found.truncated = true;
                    } else {
                        // Most have the well-known name; what is none will be called by it.
                        let name = entry.subsystem_nqn().unwrap_or(Nqn::DISCOVERY);
                        waiting.push_back((depth.saturating_add(1), address, name));
                    }
                }
            }
            // The log that is being read.
            subtype::CURRENT => {}
            _ if found.entries.len() == MOST_ENTRIES => found.truncated = true,
            _ => {
                let subsystem = nvme_spec::identify::Ascii::new(&entry.subnqn).to_string();
                let place = (entry.address().to_string(), entry.service().to_string());
                if told.insert((entry.trtype, subsystem, place.0, place.1)) {
                    found.entries.push(entry);
                }
            }
        }
    }
}

fn address_of(entry: &DiscoveryEntry) -> Option<SocketAddr> {
    let ip: IpAddr = entry.address().as_str()?.parse().ok()?;
    Some(SocketAddr::new(ip, entry.port().filter(|port| *port != 0)?))
}

/// What is to be done with an entry of a discovery log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Candidate {
    /// The kernel can be told to connect.
    Connect {
        /// Where it is.
        address: SocketAddr,
        /// With what.
        options: Box<Options>,
    },
    /// There is nothing to connect.
    Skip {
        /// The subsystem, as the entry has it.
        subsystem: String,
        /// Transport, address and port, as the entry has them.
        place: String,
        /// Why.
        reason: Skip,
    },
}

/// Why an entry is not connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Skip {
    /// The kernel has this controller for it.
    Connected {
        /// Its name.
        device: String,
    },
    /// Its transport is another one than TCP.
    Transport(&'static str),
    /// It is reached by TLS only, and that was not asked for.
    Tls,
    /// It is no subsystem with namespaces.
    Subtype(u8),
    /// Its address is no IP address, or its port none.
    Address,
    /// Its subsystem's name is none.
    Nqn,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { device } => write!(f, "already connected as {device}"),
            Self::Transport(name) => {
                write!(f, "its transport is {name}, and only tcp is connected to")
            }
            Self::Tls => f.write_str("it wants TLS; --tls asks for it"),
            Self::Subtype(subtype) => write!(f, "its subsystem is of the unknown type {subtype}"),
            Self::Address => f.write_str("its address is no IP address with a port"),
            Self::Nqn => f.write_str("its NQN is none"),
        }
    }
}

/// What of a discovery log the kernel can connect to. `template` says who this host is and how to
/// connect; each entry gives subsystem and address. What one of `existing` is a controller of is
/// skipped, but with [`Options::duplicate_connect`].
pub fn candidates(
    entries: &[DiscoveryEntry],
    template: &Options,
    existing: &[Controller],
) -> Vec<Candidate> {
    let candidate = |entry| match options_for(entry, template, existing) {
        Ok((address, options)) => Candidate::Connect { address, options: Box::new(options) },
        Err(reason) => Candidate::Skip {
            subsystem: nvme_spec::identify::Ascii::new(&entry.subnqn).to_string(),
            place: format!(
                "{} {} {}",
                trtype::name(entry.trtype),
                entry.address(),
                entry.service()
            ),
            reason,
        },
    };
    entries.iter().map(candidate).collect()
}

fn options_for(
    entry: &DiscoveryEntry,
    template: &Options,
    existing: &[Controller],
) -> Result<(SocketAddr, Options), Skip> {
    if entry.subtype != subtype::NVM {
        return Err(Skip::Subtype(entry.subtype));
    }
    if entry.trtype != trtype::TCP {
        return Err(Skip::Transport(trtype::name(entry.trtype)));
    }
    let required = entry.treq & treq::SECURE_CHANNEL_MASK == treq::REQUIRED;
    if required && entry.sectype() != Some(sectype::NONE) && !template.tls && !template.concat {
        return Err(Skip::Tls);
    }
    let address = address_of(entry).ok_or(Skip::Address)?;
    let options = Options {
        nqn: entry.subsystem_nqn().map_err(|_| Skip::Nqn)?,
        traddr: Some(traddr(address)),
        trsvcid: Some(address.port().to_string()),
        ..template.clone()
    };
    if !options.duplicate_connect
        && let Some(controller) = existing.iter().find(|controller| controller.matches(&options))
    {
        return Err(Skip::Connected { device: controller.name.clone() });
    }
    Ok((address, options))
}

#[cfg(test)]
mod tests {
    use nvme_spec::log::adrfam;

    use super::super::Sysfs;
    use super::super::testing::{Machine, NQN};
    use super::*;

    fn entry(subtype: u8, traddr: &str) -> DiscoveryEntry {
        let nqn = Nqn::lenient(NQN).unwrap();
        DiscoveryEntry::tcp(subtype, &nqn, adrfam::IPV4, traddr, "4420").unwrap()
    }

    fn template() -> Options {
        Options::new("tcp", Nqn::DISCOVERY)
    }

    fn reason(entry: DiscoveryEntry) -> Skip {
        match &candidates(&[entry], &template(), &[])[..] {
            [Candidate::Skip { reason, subsystem, place }] => {
                assert!(!subsystem.contains('\0') && !place.is_empty());
                reason.clone()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_entry_becomes_options_with_those_of_the_template() {
        let template = Options { hdr_digest: true, queue_size: Some(32), ..template() };
        let found = candidates(&[entry(subtype::NVM, "192.0.2.7")], &template, &[]);
        let wanted = Options {
            nqn: Nqn::lenient(NQN).unwrap(),
            traddr: Some("192.0.2.7".to_owned()),
            trsvcid: Some("4420".to_owned()),
            ..template
        };
        let address = "192.0.2.7:4420".parse().unwrap();
        assert_eq!(found, [Candidate::Connect { address, options: Box::new(wanted) }]);
    }

    #[test]
    fn what_is_connected_is_skipped_unless_asked_for_again() {
        let machine = Machine::new();
        machine.subsystem(0, NQN);
        machine.controller(4, 0, "192.0.2.7");
        let existing = Sysfs::at(machine.root()).controllers().unwrap();
        let entries = [entry(subtype::NVM, "192.0.2.7"), entry(subtype::NVM, "192.0.2.8")];
        let [first, second] = &candidates(&entries, &template(), &existing)[..] else { panic!() };
        let Candidate::Skip { reason, .. } = first else { panic!("{first:?}") };
        assert_eq!(reason.to_string(), "already connected as nvme4");
        assert!(matches!(second, Candidate::Connect { .. }));
        let again = Options { duplicate_connect: true, ..template() };
        assert!(matches!(candidates(&entries, &again, &existing)[0], Candidate::Connect { .. }));
    }

    #[test]
    fn what_the_kernel_cannot_be_told_is_skipped_with_the_reason() {
        let nvm = || entry(subtype::NVM, "192.0.2.7");
        assert_eq!(
            reason(DiscoveryEntry { trtype: trtype::RDMA, ..nvm() }),
            Skip::Transport("rdma")
        );
        assert_eq!(reason(entry(subtype::NVM, "storage.example")), Skip::Address);
        assert_eq!(reason(entry(subtype::NVM, "192.0.2.7,tls")), Skip::Address);
        assert_eq!(reason(DiscoveryEntry { trsvcid: [0; 32], ..nvm() }), Skip::Address);
        assert_eq!(reason(DiscoveryEntry { subnqn: [0xff; 256], ..nvm() }), Skip::Nqn);
        assert_eq!(reason(DiscoveryEntry { subtype: 9, ..nvm() }), Skip::Subtype(9));
        let mut tls = DiscoveryEntry { treq: treq::REQUIRED, ..nvm() };
        tls.tsas[0] = sectype::TLS13;
        assert_eq!(reason(tls), Skip::Tls);
        let with_tls = Options { tls: true, ..template() };
        assert!(matches!(candidates(&[tls], &with_tls, &[])[0], Candidate::Connect { .. }));
    }

    #[test]
    fn a_log_is_sorted_into_subsystems_each_once_and_referrals() {
        let (mut found, mut told, mut waiting) = Default::default();
        let other =
            DiscoveryEntry { trtype: trtype::RDMA, ..entry(subtype::REFERRAL, "192.0.2.9") };
        let entries = vec![
            entry(subtype::CURRENT, "192.0.2.7"),
            entry(subtype::NVM, "192.0.2.7"),
            entry(subtype::REFERRAL, "192.0.2.8"),
            entry(subtype::REFERRAL, "no address"),
            other,
            entry(subtype::NVM, "192.0.2.7"),
        ];
        take(entries, 3, &mut found, &mut told, &mut waiting);
        assert_eq!(found.entries, [entry(subtype::NVM, "192.0.2.7")]);
        let referred = (4, "192.0.2.8:4420".parse().unwrap(), Nqn::lenient(NQN).unwrap());
        assert_eq!(waiting, [referred]);
        assert!(!found.truncated);
        let many = (0..=MOST_ENTRIES).map(|n| entry(subtype::NVM, &n.to_string())).collect();
        take(many, 0, &mut found, &mut told, &mut waiting);
        assert_eq!((found.entries.len(), found.truncated), (MOST_ENTRIES, true));
    }
}
