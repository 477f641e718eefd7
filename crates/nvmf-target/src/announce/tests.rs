//! What is announced is really seen: another multicast DNS implementation instance browses for it.
//!
//! The tests that do so need multicast on the loopback interface (Linux has it as it comes) and fail
//! where it is not. They use ports of their own, so that they disturb nobody and none disturbs them.

use std::net::{Ipv4Addr, Ipv6Addr};

use mdns_sd::{ResolvedService, ServiceEvent};

use super::*;

const NQN: &str = "nqn.2026-01.org.example:discovery";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn service(instance: &str, port: u16) -> Service {
    Service::new(instance, port, [LOOPBACK], Nqn::lenient(NQN).unwrap()).unwrap()
}

/// Sees what is announced at a port of multicast DNS.
struct Browser {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
}

impl Browser {
    fn start(port: u16) -> Self {
        let daemon = ServiceDaemon::new_with_port(port).unwrap();
        let events = daemon.browse(SERVICE_TYPE).unwrap();
        Self { daemon, events }
    }

    fn wait<T>(&self, what: &str, mut found: impl FnMut(ServiceEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let event = self.events.recv_deadline(deadline).unwrap_or_else(|_| {
                panic!("no {what}; this test needs UDP multicast on the loopback interface")
            });
            if let Some(found) = found(event) {
                return found;
            }
        }
    }

    fn resolved(&self, instance: &str) -> Box<ResolvedService> {
        self.wait(&format!("service {instance:?}"), |event| match event {
            ServiceEvent::ServiceResolved(service) if is(&service.fullname, instance) => {
                Some(service)
            }
            _ => None,
        })
    }

    fn removed(&self, instance: &str) {
        self.wait(&format!("goodbye of {instance:?}"), |event| match event {
            ServiceEvent::ServiceRemoved(_, name) if is(&name, instance) => Some(()),
            _ => None,
        });
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

fn is(fullname: &str, instance: &str) -> bool {
    fullname.eq_ignore_ascii_case(&format!("{instance}.{SERVICE_TYPE}"))
}

#[test]
fn a_browser_sees_port_address_and_name_and_that_the_service_is_gone() {
    let browser = Browser::start(15353);
    let announcer = Announcer::start_at(vec![service("disks", 8009)], 15353).unwrap();
    let seen = browser.resolved("disks");
    assert_eq!(seen.get_port(), 8009);
    assert_eq!(seen.get_property_val_str("p"), Some("tcp"));
    assert_eq!(seen.get_property_val_str("nqn"), Some(NQN));
    assert_eq!(seen.get_addresses_v4(), [Ipv4Addr::LOCALHOST].into());
    assert_eq!(*seen.get_subtype(), None);
    let begin = Instant::now();
    drop(announcer);
    assert!(begin.elapsed() < PATIENCE + Duration::from_secs(1));
    browser.removed("disks");
}

#[test]
fn an_update_withdraws_and_announces_the_difference() {
    let browser = Browser::start(15354);
    let (one, two) = (service("one", 4420), service("two", 8009));
    let announcer = Announcer::start_at(vec![one.clone(), two], 15354).unwrap();
    let mut both: BTreeSet<&str> = ["one", "two"].into();
    browser.wait("both services", |event| {
        if let ServiceEvent::ServiceResolved(seen) = event {
            both.retain(|instance| !is(&seen.fullname, instance));
        }
        both.is_empty().then_some(())
    });
    announcer.update(vec![one.clone(), service("three", 8010)]).unwrap();
    let mut left = BTreeSet::from(["gone", "came"]);
    browser.wait("two's end and three's beginning", |event| {
        match event {
            ServiceEvent::ServiceRemoved(_, name) => {
                assert!(is(&name, "two"), "{name} was to stay");
                left.remove("gone");
            }
            ServiceEvent::ServiceResolved(seen) if is(&seen.fullname, "three") => {
                left.remove("came");
            }
            _ => {}
        }
        left.is_empty().then_some(())
    });
    assert_eq!(announcer.services(), [one, service("three", 8010)]);
}

#[test]
fn a_service_that_moves_to_another_port_is_seen_there() {
    let browser = Browser::start(15355);
    let announcer = Announcer::start_at(vec![service("moving", 8009)], 15355).unwrap();
    assert_eq!(browser.resolved("moving").get_port(), 8009);
    announcer.update(vec![service("moving", 8010)]).unwrap();
    browser.wait("new port", |event| match event {
        ServiceEvent::ServiceResolved(seen) if seen.get_port() == 8010 => Some(()),
        _ => None,
    });
}

#[test]
fn a_host_of_this_library_finds_the_service_and_that_it_is_gone() {
    use nvmf::Deadline;
    use nvmf::host::discovery::DiscoveryController;
    use nvmf::host::mdns::MdnsEvent;

    let mut browser = nvmf::host::mdns::Browser::start_at(15356).unwrap();
    let announcer = Announcer::start_at(vec![service("disks", 8009)], 15356).unwrap();
    let soon = || Deadline::after(Duration::from_secs(20));
    let own = Nqn::lenient(NQN).unwrap();
    let controller = DiscoveryController::new("127.0.0.1", 8009).with_subsystem(own);
    let instance = "disks".to_owned();
    let found = MdnsEvent::Found { instance: instance.clone(), controller: controller.clone() };
    assert_eq!(browser.next(soon()), Some(found), "this needs multicast on the loopback interface");
    assert_eq!(browser.found(), [(instance.clone(), controller)]);
    drop(announcer);
    assert_eq!(browser.next(soon()), Some(MdnsEvent::Gone { instance }));
    assert_eq!(browser.find(Duration::ZERO), []);
}

#[test]
fn nonsense_is_refused() {
    let new = |instance: &str, port, addresses: &[IpAddr]| {
        Service::new(instance, port, addresses.iter().copied(), Nqn::DISCOVERY)
    };
    for bad in ["", "two\nlines", &"x".repeat(64)] {
        let error = new(bad, 1, &[LOOPBACK]).unwrap_err();
        assert!(matches!(error, AnnounceError::Instance { .. }), "{bad:?}: {error}");
    }
    assert!(new(&"x".repeat(63), 1, &[LOOPBACK]).is_ok());
    assert!(matches!(new("a", 0, &[LOOPBACK]), Err(AnnounceError::NoPort { .. })));
    assert!(matches!(new("a", 1, &[]), Err(AnnounceError::NoAddress { .. })));
    let twice = vec![service("Disks", 1), service("disks", 2)];
    assert!(matches!(check(&twice), Err(AnnounceError::SameInstance { .. })));
    let many: Vec<Service> = (0..=SERVICES_MAX).map(|n| service(&n.to_string(), 1)).collect();
    assert!(matches!(check(&many), Err(AnnounceError::TooMany { services: 65 })));
    assert!(check(&many[1..]).is_ok());
}

#[test]
fn listeners_become_one_service_for_each_port() {
    let listen: Vec<SocketAddr> = ["192.0.2.1:8009", "[2001:db8::1]:8009", "0.0.0.0:4420"]
        .map(|address| address.parse().unwrap())
        .into();
    let services = Service::of_listeners(&listen, &Nqn::DISCOVERY);
    assert_eq!(services.len(), 2);
    assert_eq!((services[0].port(), services[0].families), (4420, Families::V4));
    assert!(services[0].addresses.is_empty() && services[0].info().unwrap().is_addr_auto());
    assert_eq!(services[1].addresses, [listen[0].ip(), listen[1].ip()].into());
    assert!(!services[1].info().unwrap().is_addr_auto());
    assert_ne!(services[0].host_name(), services[1].host_name());
    check(&services).unwrap();
}

#[test]
fn any_address_stands_for_those_a_listener_would_have() {
    let families = |ip: IpAddr| Service::new("a", 1, [ip], Nqn::DISCOVERY).unwrap().families;
    assert_eq!(families(Ipv4Addr::UNSPECIFIED.into()), Families::V4);
    assert_eq!(families(Ipv6Addr::UNSPECIFIED.into()), Families::Both);
}

#[test]
fn names_of_instances_may_have_dots_and_backslashes() {
    for instance in ["rack 1.left", r"a\b", "büro"] {
        let info = service(instance, 8009).info().unwrap();
        assert!(info.get_fullname().ends_with(SERVICE_TYPE), "{}", info.get_fullname());
        let machine = machine();
        assert!(!machine.is_empty() && machine.len() <= MACHINE_MAX, "{machine}");
    }
}
