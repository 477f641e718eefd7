//! Every rule has a configuration that breaks it, and says so with its key.

use super::super::testing::{EVERYTHING, everything};
use super::super::{Config, Discovery, Metrics, Referral};
use super::*;

const A: &str = "nqn.2026-01.org.example:a";

/// A configuration that is right, changed, and what is wrong with it then.
fn wrong(change: impl FnOnce(&mut Config)) -> Vec<String> {
    let mut config = Config::from_toml(EVERYTHING).unwrap();
    change(&mut config);
    match config.resolve() {
        Ok(_) => Vec::new(),
        Err(error) => error.lines().collect(),
    }
}

type Edit = fn(&mut Config);

fn each_is_wrong(cases: &[(Edit, &str, &str)]) {
    for (edit, key, says) in cases {
        let lines = wrong(edit);
        assert_eq!(lines.len(), 1, "{key}: {says}: {lines:#?}");
        assert!(lines[0].starts_with(&format!("{key}: ")), "no {key}: in {}", lines[0]);
        assert!(lines[0].contains(says), "no {says:?} in {}", lines[0]);
    }
}

fn ns(config: &mut Config) -> &mut Namespace {
    &mut config.subsystems[0].namespaces[0]
}

/// Another namespace of the first subsystem.
fn second<'a>(config: &'a mut Config, source: &str) -> &'a mut Namespace {
    let namespace = Namespace { source: source.into(), ..Namespace::default() };
    config.subsystems[0].namespaces.push(namespace);
    config.subsystems[0].namespaces.last_mut().unwrap()
}

#[test]
fn everything_is_right_and_typed() {
    let layout = everything();
    let (a, b) = (Nqn::parse_strict(A).unwrap(), Nqn::parse_strict("nqn.2026-01.org.example:b"));
    let b = b.unwrap();
    assert_eq!(layout.ports().keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(layout.ports_of(&a).count(), 2);
    assert_eq!(layout.ports_of(&b).map(|port| port.id).collect::<Vec<_>>(), [2]);
    let port = &layout.ports()[&1];
    assert_eq!(port.state(AnaGroup::new(2).unwrap()), AnaState::Inaccessible);
    assert_eq!(port.state(AnaGroup::new(3).unwrap()), AnaState::Optimized);
    let subsystem = &layout.subsystems()[&a];
    assert_eq!((subsystem.serial.as_str(), subsystem.max_io_queues), ("S 1", 16));
    assert_eq!(subsystem.cntlid, 10..=20);
    assert_eq!(Some(subsystem.max_transfer), MaxTransfer::new(128 << 10));
    assert_eq!(subsystem.max_queue_entries.entries(), 64);
    assert_eq!(subsystem.static_controllers, Some(3));
    let transport = layout.transport();
    assert_eq!(Some(transport.in_capsule), InCapsule::new(8192));
    assert!(!transport.header_digest && !transport.data_digest);
    assert_eq!(transport.max_connections, 100);
    let (h1, h3) = (format!("{A}1"), "nqn.2026-01.org.example:h3");
    assert!(!subsystem.allows(&Nqn::lenient(&h1).unwrap()));
    assert!(!subsystem.allows(&Nqn::lenient(h3).unwrap()));
    let (h1, h2) =
        (format!("{}1", h3.trim_end_matches('3')), format!("{}2", h3.trim_end_matches('3')));
    let (h1, h2) = (Nqn::lenient(&h1).unwrap(), Nqn::lenient(&h2).unwrap());
    assert!(subsystem.allows(&h1) && subsystem.allows(&h2));
    let namespace = &subsystem.namespaces[&7];
    assert!(namespace.is_for(&h1) && !namespace.is_for(&h2));
    assert_eq!(namespace.uuid, namespace.nguid);
    assert_eq!(namespace.eui64, Some([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]));
    assert_eq!(namespace.limits.bandwidth, NonZeroU64::new(100 << 20));
    assert_eq!(namespace.limits.read_bandwidth, NonZeroU64::new(1000));
    assert_eq!(namespace.spec.to_string(), "file:/srv/a.img,bs=512");
    assert!(layout.subsystems()[&b].allows(&h1));
    assert_eq!(layout.subsystems()[&b].model, limits::MODEL);
}

#[test]
fn identifiers_that_were_left_out_are_the_lowest_that_nobody_has() {
    let mut config = Config::from_toml(EVERYTHING).unwrap();
    let namespace =
        |id, n: u32| Namespace { id, source: format!("mem:{n}M"), ..Namespace::default() };
    let ids = [None, Some(1), None, Some(3), None];
    config.subsystems[1].namespaces =
        ids.into_iter().zip(1..).map(|(id, n)| namespace(id, n)).collect();
    config.ports[0].id = None;
    config.ports[1].id = Some(1);
    let layout = config.resolve().unwrap();
    let resolved = layout.config();
    let sources: Vec<_> = resolved.subsystems[1]
        .namespaces
        .iter()
        .map(|ns| (ns.id.unwrap(), ns.source.as_str()))
        .collect();
    assert_eq!(
        sources,
        [(1, "mem:2M"), (2, "mem:1M"), (3, "mem:4M"), (4, "mem:3M"), (5, "mem:5M")]
    );
    assert_eq!(layout.ports()[&2].listen.to_string(), "192.0.2.7:4420");
    assert_eq!(resolved.resolve(), Ok(layout));
}

#[test]
fn an_empty_target_is_right_and_one_without_ports_is_not() {
    let port = Port { listen: "0.0.0.0:4420".into(), ..Port::default() };
    let config = Config { ports: vec![port], ..Config::default() };
    assert!(config.resolve().unwrap().subsystems().is_empty());
    let error = Config::default().resolve().unwrap_err().to_string();
    assert!(error.starts_with("port: there is no [[port]]"), "{error}");
}

#[test]
fn who_is_to_be_let_in_beyond_this_machine_has_to_be_said() {
    let open = |listen: &str| {
        let port = Port { listen: listen.into(), ..Port::default() };
        let subsystem = Subsystem { nqn: A.into(), ..Subsystem::default() };
        Config { ports: vec![port], subsystems: vec![subsystem], ..Config::default() }
    };
    for listen in ["127.0.0.1:4420", "127.9.9.9:0", "[::1]:4420", "[::ffff:127.0.0.1]:4420"] {
        let layout = open(listen).resolve().unwrap();
        assert_eq!(layout.subsystems().values().next().unwrap().hosts, None, "{listen}");
    }
    for listen in ["0.0.0.0:4420", "192.0.2.7:4420", "[::]:4420", "[2001:db8::1]:0"] {
        let mut config = open(listen);
        let error = config.resolve().unwrap_err().to_string();
        assert!(error.starts_with("subsystem[0].hosts: ") && error.contains(listen), "{error}");
        assert!(error.contains(A) && error.contains("hosts = \"any\""), "{error}");
        config.ports.push(Port { listen: "192.0.2.9:1".into(), ..Port::default() });
        let error = config.resolve().unwrap_err().to_string();
        assert!(error.contains(&format!("reaches {listen} (and 1 more);")), "{error}");
        config.ports.pop();
        config.subsystems[0].hosts = Some(HostList::Any);
        assert!(config.resolve().is_ok());
        config.subsystems[0].hosts = Some(HostList::Only(Vec::new()));
        assert!(config.resolve().is_ok());
        config.subsystems[0].hosts = None;
        // Through another port than that one.
        config.ports[0].subsystems = Some(Vec::new());
        assert!(config.resolve().is_ok());
    }
}

#[test]
fn ports_that_are_wrong_are_said_to_be() {
    each_is_wrong(&[
        (|c| c.ports[0].listen = "localhost:4420".into(), "port[0].listen", "IP:PORT"),
        (|c| c.ports[0].listen = "192.0.2.7".into(), "port[0].listen", "no address"),
        (|c| c.ports[1].id = Some(0), "port[1].id", "use 1 to 65535"),
        (|c| c.ports[1].id = Some(65536), "port[1].id", "use 1 to 65535"),
        (|c| c.ports[1].id = Some(1), "port[1].id", "port[0] has the id 1, too"),
        (
            |c| c.ports[1].listen = "192.0.2.7:4420".into(),
            "port[1].listen",
            "listens on 192.0.2.7:4420, too",
        ),
        (|c| c.ports[1].listen = "0.0.0.0:4420".into(), "port[1].listen", "covers"),
        (|c| c.ports[1].listen = "[::]:4420".into(), "port[1].listen", "covers"),
        (
            |c| c.metrics = Some(Metrics { listen: "192.0.2.7:4420".into() }),
            "metrics.listen",
            "port[0] listens on 192.0.2.7:4420, too",
        ),
        (|c| c.metrics = Some(Metrics { listen: "x".into() }), "metrics.listen", "no address"),
        (
            |c| c.ports[0].subsystems = Some(vec!["nqn.2026-01.org.example:c".into()]),
            "port[0].subsystems[0]",
            "no subsystem `nqn.2026-01.org.example:c`; did you mean nqn.2026-01.org.example:",
        ),
        (
            |c| drop(c.ports[0].ana.insert("33".into(), "change".into())),
            "port[0].ana.33",
            "1 to 32",
        ),
        (|c| drop(c.ports[0].ana.insert("0".into(), "change".into())), "port[0].ana.0", "1 to 32"),
        (
            |c| drop(c.ports[0].ana.insert("02".into(), "change".into())),
            "port[0].ana.02",
            "1 to 32",
        ),
        (
            |c| drop(c.ports[0].ana.insert("2".into(), "active".into())),
            "port[0].ana.2",
            "optimized, non-optimized, inaccessible, persistent-loss, change",
        ),
    ]);
    assert_eq!(wrong(|c| c.ports[1].listen = "192.0.2.8:4420".into()), [""; 0]);
    // Whichever stands first, and however many there are.
    let listening = |addresses: [&str; 3]| {
        wrong(|c| {
            c.metrics = None;
            c.ports = addresses.map(|at| Port { listen: at.into(), ..Port::default() }).into();
        })
        .len()
    };
    assert_eq!(listening(["192.0.2.8:1", "192.0.2.7:1", "0.0.0.0:1"]), 1);
    assert_eq!(listening(["192.0.2.8:1", "0.0.0.0:1", "192.0.2.7:1"]), 2);
    assert_eq!(listening(["[::1]:1", "0.0.0.0:1", "[::2]:1"]), 0);
    assert_eq!(listening(["[::2]:1", "[::1]:1", "[::]:1"]), 1);
    assert_eq!(listening(["[::2]:1", "192.0.2.7:1", "[::]:1"]), 1);
    assert_eq!(listening(["0.0.0.0:1", "0.0.0.0:2", "[::]:1"]), 1);
    assert_eq!(listening(["[::]:1", "0.0.0.0:1", "192.0.2.7:2"]), 1);
    assert_eq!(wrong(|c| c.ports.iter_mut().for_each(|p| p.listen = "0.0.0.0:0".into())), [""; 0]);
}

#[test]
fn discovery_that_is_wrong_is_said_to_be() {
    fn referral(config: &mut Config) -> &mut Referral {
        &mut config.discovery.referrals[0]
    }
    each_is_wrong(&[
        (|c| c.discovery.nqn = Some("x".into()), "discovery.nqn", "`x`: the NQN does not start"),
        (
            |c| c.discovery.nqn = Some("nqn.2014-08.org.nvmexpress.discovery".into()),
            "discovery.nqn",
            "well-known",
        ),
        (|c| c.discovery.nqn = Some(A.into()), "subsystem[0].nqn", "this is discovery.nqn, too"),
        (|c| referral(c).address = "a".into(), "discovery.referral[0].address", "no address"),
        (|c| referral(c).address = "0.0.0.0:1".into(), "discovery.referral[0].address", "no host"),
        (|c| referral(c).address = "[::1]:0".into(), "discovery.referral[0].address", "no host"),
        (|c| referral(c).nqn = Some(String::new()), "discovery.referral[0].nqn", "empty"),
        (|c| referral(c).port_id = Some(65536), "discovery.referral[0].port-id", "0 to 65535"),
        (
            |c| c.discovery.referrals.push(c.discovery.referrals[0].clone()),
            "discovery.referral[1].address",
            "another referral",
        ),
    ]);
    assert_eq!(wrong(|c| c.discovery = Discovery::default()), [""; 0]);
}

#[test]
fn subsystems_that_are_wrong_are_said_to_be() {
    fn first(config: &mut Config) -> &mut Subsystem {
        &mut config.subsystems[0]
    }
    each_is_wrong(&[
        (|c| c.subsystems[1].nqn = "nqn.x".into(), "subsystem[1].nqn", "write nqn.YYYY-MM"),
        (
            |c| c.subsystems[1].nqn = "nqn.2014-08.org.nvmexpress.discovery".into(),
            "subsystem[1].nqn",
            "discovery subsystem",
        ),
        (|c| c.subsystems[1].nqn = A.into(), "subsystem[1].nqn", "subsystem[0] has this NQN"),
        (|c| first(c).serial = Some("x".repeat(21)), "subsystem[0].serial", "at most 20"),
        (|c| first(c).serial = Some("ü".into()), "subsystem[0].serial", "'ü'"),
        (|c| first(c).model = Some("x".repeat(41)), "subsystem[0].model", "1 to 40"),
        (|c| first(c).model = Some(String::new()), "subsystem[0].model", "empty"),
        (|c| first(c).model = Some("a\n".into()), "subsystem[0].model", "'\\n'"),
        (|c| first(c).model = Some("a ".into()), "subsystem[0].model", "space at an end"),
        (|c| first(c).firmware = Some("123456789".into()), "subsystem[0].firmware", "1 to 8"),
        (|c| first(c).max_io_queues = Some(0), "subsystem[0].max-io-queues", "1 to 1024"),
        (|c| first(c).max_io_queues = Some(1025), "subsystem[0].max-io-queues", "1 to 1024"),
        (
            |c| first(c).max_transfer = Some("4K".into()),
            "subsystem[0].max-transfer",
            "4096 bytes cannot be; use a power of two from \"8K\" to \"1M\"",
        ),
        (|c| first(c).max_transfer = Some("2M".into()), "subsystem[0].max-transfer", "power"),
        (|c| first(c).max_transfer = Some("96K".into()), "subsystem[0].max-transfer", "power"),
        (|c| first(c).max_transfer = Some("8G".into()), "subsystem[0].max-transfer", "power"),
        (|c| first(c).max_transfer = Some("x".into()), "subsystem[0].max-transfer", "not a size"),
        (|c| first(c).max_queue_entries = Some(1), "subsystem[0].max-queue-entries", "2 to 1024"),
        (|c| first(c).max_queue_entries = Some(1025), "subsystem[0].max-queue-entries", "2 to"),
        (|c| first(c).static_controllers = Some(0), "subsystem[0].static-controllers", "1 to 1000"),
        (
            |c| c.subsystems[1].static_controllers = Some(1001),
            "subsystem[1].static-controllers",
            "1 to 1000",
        ),
        (
            |c| first(c).static_controllers = Some(12),
            "subsystem[0].static-controllers",
            "there are 11 identifiers",
        ),
        (|c| first(c).cntlid_min = Some(0), "subsystem[0].cntlid-min", "1 to 65519"),
        (|c| first(c).cntlid_max = Some(0xfff0), "subsystem[0].cntlid-max", "1 to 65519"),
        (|c| first(c).cntlid_max = Some(9), "subsystem[0].cntlid-max", "from 10 to 9"),
        (
            |c| c.subsystems[1].hosts = Some(HostList::Only(vec![A.into(), "host".into()])),
            "subsystem[1].hosts[1]",
            "`host`",
        ),
    ]);
}

#[test]
fn a_transport_that_is_wrong_is_said_to_be() {
    each_is_wrong(&[
        (
            |c| c.transport.in_capsule = Some("100".into()),
            "transport.in-capsule",
            "100 bytes cannot be; use a multiple of 16 up to \"16K\"",
        ),
        (|c| c.transport.in_capsule = Some(16400.into()), "transport.in-capsule", "up to"),
        (|c| c.transport.max_connections = Some(0), "transport.max-connections", "1 to 1000000"),
        (|c| c.transport.max_connections = Some(1_000_001), "transport.max-connections", "1 to"),
    ]);
    let mut config = Config::from_toml(EVERYTHING).unwrap();
    config.transport.in_capsule = Some(0.into());
    assert_eq!(config.resolve().unwrap().transport().in_capsule, InCapsule::NONE);
    config.transport = Transport::default();
    let usual = config.resolve().unwrap();
    assert_eq!(*usual.transport(), layout::Transport::default());
    assert_eq!(usual.config().transport, Transport::default(), "and is not written");
}

#[test]
fn namespaces_that_are_wrong_are_said_to_be() {
    each_is_wrong(&[
        (|c| ns(c).id = Some(0), "subsystem[0].namespace[0].id", "1 to 4294967294"),
        (|c| ns(c).id = Some(u32::MAX), "subsystem[0].namespace[0].id", "1 to 4294967294"),
        (
            |c| second(c, "mem:1M").id = Some(7),
            "subsystem[0].namespace[1].id",
            "subsystem[0].namespace[0] has the id 7, too",
        ),
        (|c| ns(c).source = "ram:1M".into(), "subsystem[0].namespace[0].source", "mem:256M"),
        (|c| ns(c).source = "mem:5000".into(), "subsystem[0].namespace[0].source", "multiple"),
        (|c| ns(c).uuid = Some("1".into()), "subsystem[0].namespace[0].uuid", "`1` is no UUID"),
        (|c| ns(c).uuid = Some("0".repeat(32)), "subsystem[0].namespace[0].uuid", "not all zero"),
        (
            |c| ns(c).source = "mem:1M,uuid=01234567-89ab-cdef-0123-456789abcdef".into(),
            "subsystem[0].namespace[0].uuid",
            "too",
        ),
        (
            |c| ns(c).nguid = Some("1".repeat(31)),
            "subsystem[0].namespace[0].nguid",
            "32 hexadecimal",
        ),
        (
            |c| ns(c).nguid = Some("+1".repeat(16)),
            "subsystem[0].namespace[0].nguid",
            "32 hexadecimal",
        ),
        (
            |c| ns(c).eui64 = Some("0".repeat(16)),
            "subsystem[0].namespace[0].eui64",
            "16 hexadecimal",
        ),
        (|c| ns(c).ana_group = Some(33), "subsystem[0].namespace[0].ana-group", "1 to 32"),
        (|c| ns(c).ana_group = Some(0), "subsystem[0].namespace[0].ana-group", "1 to 32"),
        (
            |c| ns(c).hosts = Some(vec!["nqn.2026-01.org.example:h3".into()]),
            "subsystem[0].namespace[0].hosts[0]",
            "may not connect to the subsystem",
        ),
        (|c| ns(c).hosts = Some(vec!["h".into()]), "subsystem[0].namespace[0].hosts[0]", "`h`"),
        (|c| ns(c).limits.iops = Some(0), "subsystem[0].namespace[0].limits.iops", "leave it out"),
        (
            |c| ns(c).limits.read_bandwidth = Some(0.into()),
            "subsystem[0].namespace[0].limits.read-bandwidth",
            "leave it out",
        ),
        (
            |c| ns(c).limits.bandwidth = Some("10 MB/s".into()),
            "subsystem[0].namespace[0].limits.bandwidth",
            "not a size",
        ),
    ]);
}

#[test]
fn two_disks_have_two_identities_and_two_files() {
    const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";
    each_is_wrong(&[
        (
            |c| second(c, "mem:1M").uuid = Some(UUID.into()),
            "subsystem[0].namespace[1].uuid",
            "subsystem[0].namespace[0] has the same UUID",
        ),
        (
            |c| second(c, "mem:1M").source = format!("mem:1M,uuid={UUID}"),
            "subsystem[0].namespace[1].source",
            "the same UUID",
        ),
        (
            |c| {
                let nguid = ns(c).nguid.clone();
                second(c, "mem:1M").nguid = nguid;
            },
            "subsystem[0].namespace[1].nguid",
            "the same NGUID",
        ),
        (
            |c| {
                let eui64 = ns(c).eui64.clone();
                second(c, "mem:1M").eui64 = eui64;
            },
            "subsystem[0].namespace[1].eui64",
            "the same EUI-64",
        ),
        (
            |c| second(c, "file:/srv//a.img,direct").id = None,
            "subsystem[0].namespace[1].source",
            "subsystem[0].namespace[0] is this file, too",
        ),
        (
            |c| c.subsystems[1].namespaces[0].source = "file:/srv/./a.img".into(),
            "subsystem[1].namespace[0].source",
            "is this file, too",
        ),
        (
            |c| {
                ns(c).uuid = None;
                second(c, "file:/srv/a.img,ro");
            },
            "subsystem[0].namespace[1].source",
            "the same file and no UUID of its own",
        ),
    ]);
    // Two that only read are no harm, nor are two memories.
    assert_eq!(wrong(|c| second(c, "file:/srv/a.img,ro").id = None), [""; 0]);
    assert_eq!(
        wrong(|c| c.subsystems[1].namespaces[0].source = "file:/srv/a.img,ro".into()),
        [""; 0]
    );
    assert_eq!(
        wrong(|c| {
            second(c, "mem:1M");
            second(c, "mem:1M");
        }),
        [""; 0]
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let lines = wrong(|c| {
        c.ports[0].listen = "x".into();
        c.subsystems[0].nqn = "y".into();
        c.subsystems[0].serial = Some(String::new());
        ns(c).source = "z".into();
    });
    let keys: Vec<_> = lines.iter().map(|line| line.split(": ").next().unwrap()).collect();
    for key in [
        "port[0].listen",
        "subsystem[0].nqn",
        "subsystem[0].serial",
        "subsystem[0].namespace[0].source",
    ] {
        assert!(keys.contains(&key), "no {key} in {lines:#?}");
    }
}
