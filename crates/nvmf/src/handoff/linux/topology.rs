//! Subsystems, controllers and namespaces, as the kernel has them at one moment.

use std::net::IpAddr;

use super::options::Options;

/// A subsystem that the kernel is connected to, or has in a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Subsystem {
    /// The kernel's name: `nvme-subsys0`.
    pub name: String,
    /// Its NQN.
    pub nqn: String,
    /// `nvm` or `discovery`, where the kernel tells.
    pub kind: Option<String>,
    /// How a path is chosen: `numa`, `round-robin`, `queue-depth`.
    pub io_policy: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its controllers, by number.
    pub controllers: Vec<Controller>,
    /// Its namespaces, by the number of their disk.
    pub namespaces: Vec<Namespace>,
}

/// A controller of the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Controller {
    /// The kernel's name: `nvme0`.
    pub name: String,
    /// The number in it.
    pub instance: u32,
    /// `tcp`, `rdma`, `fc`, `loop` or `pcie`.
    pub transport: String,
    /// Where it is.
    pub address: Address,
    /// The subsystem's NQN.
    pub subsystem: String,
    /// `live`, `connecting`, `resetting`, `new`, `deleting`, `deleting (no IO)`, `dead`.
    pub state: String,
    /// `io`, `discovery` or `admin`, where the kernel tells.
    pub kind: Option<String>,
    /// The controller's identifier at the target.
    pub cntlid: Option<u16>,
    /// The NQN that the kernel connected with; none of a controller in a slot.
    pub host: Option<String>,
    /// The host identifier that it connected with.
    pub host_id: Option<String>,
    /// Queues, the admin queue among them.
    pub queue_count: Option<u32>,
    /// Entries of an I/O queue.
    pub queue_size: Option<u32>,
    /// Keep Alive Timeout in seconds.
    pub keep_alive: Option<u32>,
    /// Seconds until it is given up when it is lost, or `off`.
    pub ctrl_loss_tmo: Option<String>,
    /// Seconds between attempts to connect again, or `off`.
    pub reconnect_delay: Option<String>,
    /// Seconds until commands fail when it is lost, or `off`.
    pub fast_io_fail_tmo: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The revision of its firmware.
    pub firmware: Option<String>,
}

impl Controller {
    /// Whether it is reached over a fabric, and not in a slot of this machine.
    pub fn is_fabrics(&self) -> bool {
        !matches!(self.transport.as_str(), "pcie" | "apple-nvme" | "")
    }

    /// Whether the kernel would call it the same as one with these options: the same subsystem by the
    /// same host, at the same address by the same interface. One that is on its way out is not.
    pub fn matches(&self, options: &Options) -> bool {
        let is = |field, wanted: &Option<String>| self.address.field(field) == wanted.as_deref();
        let same = |ours: &Option<String>, wanted: Option<String>| match (ours, wanted) {
            (Some(ours), Some(wanted)) => ours.eq_ignore_ascii_case(&wanted),
            // The kernel's own default, which is not known here.
            _ => true,
        };
        !self.state.starts_with("deleting")
            && self.state != "dead"
            && self.transport == options.transport
            && self.subsystem == options.nqn.as_str()
            && same_address(self.address.field("traddr"), options.traddr.as_deref())
            && is("trsvcid", &options.trsvcid)
            && same_address(self.address.field("host_traddr"), options.host_traddr.as_deref())
            && is("host_iface", &options.host_iface)
            && self.host.as_deref().is_none_or(|host| {
                options.hostnqn.as_ref().is_none_or(|wanted| host == wanted.as_str())
            })
            && same(&self.host_id, options.hostid.map(|id| id.to_string()))
    }
}

/// IPv6 addresses can be written in several ways.
fn same_address(one: Option<&str>, other: Option<&str>) -> bool {
    let parsed = |text: Option<&str>| text.and_then(|text| text.parse::<IpAddr>().ok());
    match (parsed(one), parsed(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// A controller's address as the kernel writes it: `traddr=192.0.2.7,trsvcid=4420,src_addr=…` over a
/// fabric, a PCI address otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address(pub(super) String);

impl Address {
    /// As the kernel writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One of its parts: `traddr`, `trsvcid`, `host_traddr`, `host_iface` or `src_addr`.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.0.split(',').filter_map(|part| part.trim().split_once('='));
        fields.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// A namespace, and the ways to it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Namespace {
    /// Its disk: `nvme0n1`.
    pub name: String,
    /// Its identifier.
    pub nsid: Option<u32>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes of a block; 0 where the kernel does not tell.
    pub block_size: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its NGUID.
    pub nguid: Option<String>,
    /// What the kernel tells disks apart by.
    pub wwid: Option<String>,
    /// Whether its block device is there. It is not while it has never had a path that can be used.
    pub has_device: bool,
    /// The ways to it, by the number of the controller. Without multipath there is one, of the disk's
    /// own name.
    pub paths: Vec<NamespacePath>,
}

impl Namespace {
    pub(super) fn named(name: String) -> Self {
        Self {
            name,
            nsid: None,
            bytes: 0,
            block_size: 0,
            read_only: false,
            uuid: None,
            nguid: None,
            wwid: None,
            has_device: false,
            paths: Vec::new(),
        }
    }

    /// Whether there will be no block device for now: no path's ANA state lets it be used.
    pub fn is_inaccessible(&self) -> bool {
        // For a moment a new path has no state, which is none of these.
        let unusable = |state: &str| matches!(state, "inaccessible" | "persistent-loss" | "change");
        !self.paths.is_empty()
            && self.paths.iter().all(|path| path.ana_state.as_deref().is_some_and(unusable))
    }
}

/// A way to a namespace, by one controller.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NamespacePath {
    /// The kernel's name: `nvme0c1n1`.
    pub name: String,
    /// The controller: `nvme1`.
    pub controller: String,
    /// The ANA state: `optimized`, `non-optimized`, `inaccessible`, `persistent-loss`, `change`; none
    /// where the kernel tells none.
    pub ana_state: Option<String>,
    /// The ANA group.
    pub ana_group: Option<u32>,
}

#[cfg(test)]
mod tests {
    use nvme_spec::{HostId, Nqn};

    use super::super::Sysfs;
    use super::super::testing::{HOST, Machine, NQN};
    use super::*;

    fn controller(traddr: &str) -> (Machine, Controller) {
        let machine = Machine::new();
        machine.subsystem(0, NQN);
        machine.controller(0, 0, traddr);
        let controller = Sysfs::at(machine.root()).controller("nvme0").unwrap();
        (machine, controller)
    }

    fn options(traddr: &str) -> Options {
        let host: HostId = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        Options {
            traddr: Some(traddr.to_owned()),
            trsvcid: Some("4420".to_owned()),
            hostnqn: Some(Nqn::lenient(HOST).unwrap()),
            hostid: Some(host),
            ..Options::new("tcp", Nqn::lenient(NQN).unwrap())
        }
    }

    #[test]
    fn a_controller_is_the_same_by_subsystem_address_and_host() {
        let (_machine, controller) = controller("192.0.2.7");
        assert!(controller.matches(&options("192.0.2.7")));
        // The kernel would take its own default, which may be this one.
        assert!(controller.matches(&Options {
            hostid: None,
            hostnqn: None,
            ..options("192.0.2.7")
        }));
        let other = |text: &str| Nqn::lenient(text).unwrap();
        for different in [
            options("192.0.2.8"),
            Options { trsvcid: Some("4421".to_owned()), ..options("192.0.2.7") },
            Options { transport: "rdma".to_owned(), ..options("192.0.2.7") },
            Options { nqn: other("nqn.2026-01.org.example:other"), ..options("192.0.2.7") },
            Options {
                hostnqn: Some(other("nqn.2026-01.org.example:host")),
                ..options("192.0.2.7")
            },
            Options { hostid: Some(HostId([1; 16])), ..options("192.0.2.7") },
            Options { host_traddr: Some("192.0.2.1".to_owned()), ..options("192.0.2.7") },
            Options { host_iface: Some("eth0".to_owned()), ..options("192.0.2.7") },
        ] {
            assert!(!controller.matches(&different), "{different:?}");
        }
    }

    #[test]
    fn an_ipv6_address_is_the_same_however_it_is_written() {
        let (_machine, controller) = controller("2001:db8::7");
        assert!(controller.matches(&options("2001:0db8:0:0::7")));
    }

    #[test]
    fn a_controller_on_its_way_out_is_none_to_be_connected_to() {
        let (_machine, mut controller) = controller("192.0.2.7");
        for (state, is) in [("connecting", true), ("deleting (no IO)", false), ("dead", false)] {
            controller.state = state.to_owned();
            assert_eq!(controller.matches(&options("192.0.2.7")), is, "{state}");
        }
    }

    #[test]
    fn parts_of_an_address_are_found_by_name() {
        let address = Address("traddr=fe80::1%eth0,trsvcid=4420,src_addr=fe80::2%eth0".to_owned());
        assert_eq!(address.field("traddr"), Some("fe80::1%eth0"));
        assert_eq!(address.field("trsvcid"), Some("4420"));
        assert_eq!(address.field("host_traddr"), None);
        assert_eq!(Address("0000:00:04.0".to_owned()).field("traddr"), None);
    }
}
