//! Configurations for tests: one that has everything, and any that are right.

use proptest::collection::{btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::{Config, HostList, Layout, Limits, Namespace, Port, Size, Subsystem, Transport};

/// Every key there is.
pub(super) const EVERYTHING: &str = r#"# everything
[discovery]
nqn = "nqn.2014-08.org.nvmexpress:uuid:6b2a0b8e-7d0f-4a57-9e39-0d9c3f1a2b4c"
mdns = true
[[discovery.referral]]
address = "192.0.2.8:8009"
nqn = "nqn.2026-01.org.example:elsewhere"
port-id = 9

[metrics]
listen = "127.0.0.1:9184"

[transport]
in-capsule = "8K"
header-digest = false
data-digest = false
max-connections = 100

[[port]]
id = 1
listen = "192.0.2.7:4420"
subsystems = ["nqn.2026-01.org.example:a"]
[port.ana]
2 = "inaccessible"
32 = "non-optimized"

[[port]]
id = 2
listen = "[2001:db8::7]:4420"

[[subsystem]]
nqn = "nqn.2026-01.org.example:a"
serial = "S 1"
model = "Disk"
firmware = "1.0"
hosts = ["nqn.2026-01.org.example:h1", "nqn.2026-01.org.example:h2"]
max-io-queues = 16
max-transfer = "128K"
max-queue-entries = 64
static-controllers = 3
cntlid-min = 10
cntlid-max = 20
[[subsystem.namespace]]
id = 7
source = "file:/srv/a.img,bs=512"
uuid = "01234567-89ab-cdef-0123-456789abcdef"
nguid = "0123456789abcdef0123456789abcdef"
eui64 = "0123456789abcdef"
ana-group = 2
read-only = true
hosts = ["nqn.2026-01.org.example:h1"]
[subsystem.namespace.limits]
iops = 10000
read-iops = 9000
write-iops = 8000
bandwidth = "100M"
read-bandwidth = 1000
write-bandwidth = "2K"

[[subsystem]]
nqn = "nqn.2026-01.org.example:b"
hosts = "any"
[[subsystem.namespace]]
source = "mem:1M"
"#;

pub(super) fn everything() -> Layout {
    Layout::from_toml(EVERYTHING).unwrap()
}

fn name(letter: char) -> impl Strategy<Value = String> {
    (0_u8..6).prop_map(move |n| format!("nqn.2026-01.org.example:{letter}{n}"))
}

/// Texts that a writer of TOML could get wrong.
pub(super) fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,12}", "[\\x00-\\x7f\"\\\\'#=\\[\\]]{0,12}", any::<String>()]
}

/// Any configuration, which need not be right.
pub(super) fn any_config() -> impl Strategy<Value = Config> {
    use super::{Discovery, Metrics, Referral};
    let referral = (any_text(), of(any_text()), of(any::<u32>()))
        .prop_map(|(address, nqn, port_id)| Referral { address, nqn, port_id });
    let discovery = (of(any_text()), any::<bool>(), vec(referral, 0..3))
        .prop_map(|(nqn, mdns, referrals)| Discovery { nqn, mdns, referrals });
    let metrics = of(any_text().prop_map(|listen| Metrics { listen }));
    let ana = proptest::collection::btree_map(any_text(), any_text(), 0..3);
    let port = (of(any::<u32>()), any_text(), of(vec(any_text(), 0..3)), ana)
        .prop_map(|(id, listen, subsystems, ana)| Port { id, listen, subsystems, ana });
    let size = || {
        of(prop_oneof![
            any_text().prop_map(|text| Size::from(text.as_str())),
            any::<u64>().prop_map(Size::from)
        ])
    };
    let number = || of(any::<u32>());
    let transport = (size(), of(any::<bool>()), of(any::<bool>()), number()).prop_map(
        |(in_capsule, header_digest, data_digest, max_connections)| Transport {
            in_capsule,
            header_digest,
            data_digest,
            max_connections,
        },
    );
    let limits = (number(), number(), number(), size(), size(), size()).prop_map(
        |(iops, read_iops, write_iops, bandwidth, read_bandwidth, write_bandwidth)| Limits {
            iops,
            read_iops,
            write_iops,
            bandwidth,
            read_bandwidth,
            write_bandwidth,
        },
    );
    let texts = || (of(any_text()), of(any_text()), of(any_text()));
    let namespace =
        (number(), any_text(), texts(), number(), any::<bool>(), of(vec(any_text(), 0..3)), limits)
            .prop_map(|(id, source, (uuid, nguid, eui64), ana_group, read_only, hosts, limits)| {
                Namespace { id, source, uuid, nguid, eui64, ana_group, read_only, hosts, limits }
            });
    let hosts =
        prop_oneof![Just(HostList::Any), vec(any_text(), 0..3).prop_map(HostList::Only)].boxed();
    let subsystem = (
        any_text(),
        texts(),
        of(hosts),
        (size(), [number(), number(), number(), number(), number()]),
        vec(namespace, 0..3),
    )
        .prop_map(
            |(nqn, (serial, model, firmware), hosts, (max_transfer, numbers), namespaces)| {
                Subsystem {
                    nqn,
                    serial,
                    model,
                    firmware,
                    hosts,
                    max_io_queues: numbers[0],
                    max_transfer,
                    max_queue_entries: numbers[3],
                    static_controllers: numbers[4],
                    cntlid_min: numbers[1],
                    cntlid_max: numbers[2],
                    namespaces,
                }
            },
        );
    (discovery, metrics, transport, vec(port, 0..3), vec(subsystem, 0..3)).prop_map(
        |(discovery, metrics, transport, ports, subsystems)| Config {
            discovery,
            metrics,
            transport,
            ports,
            subsystems,
        },
    )
}

/// Layouts that have much in common, so that two of them differ in all ways.
pub(super) fn any_layout() -> impl Strategy<Value = Layout> {
    let source = prop_oneof![
        Just("mem:1M".to_owned()),
        Just("mem:2M".to_owned()),
        Just("null:2M".to_owned()),
        Just("mem:2M,bs=512".to_owned()),
        Just("mem:2M,uuid=01234567-89ab-cdef-0123-456789abcdef".to_owned()),
    ];
    let limits = of(1_u32..3).prop_map(|iops| Limits { iops, ..Limits::default() });
    let hosts = of(btree_set(name('h'), 0..2).prop_map(|hosts| hosts.into_iter().collect()));
    let namespace = (1_u32..4, source, 1_u32..3, any::<bool>(), hosts, limits).prop_map(
        |(id, source, group, read_only, hosts, limits)| Namespace {
            id: Some(id),
            source,
            ana_group: Some(group),
            read_only,
            hosts,
            limits,
            ..Namespace::default()
        },
    );
    let sizes = (of(Just("64K".into())), of(3_u32..5), of(1_u32..3));
    let numbers = (of(1_u32..3), of(1_u32..3), of(Just("S".to_owned())), sizes);
    let subsystem = (name('s'), any::<bool>(), numbers, vec(namespace, 0..4)).prop_map(
        |(nqn, any, (queues, min, serial, (max_transfer, entries, fixed)), mut namespaces)| {
            namespaces.sort_by_key(|ns| ns.id);
            namespaces.dedup_by_key(|ns| ns.id);
            let mut uuid = false;
            namespaces
                .retain(|ns| !(ns.source.contains("uuid") && std::mem::replace(&mut uuid, true)));
            let all = (0..6).map(|n| format!("nqn.2026-01.org.example:h{n}")).collect();
            Subsystem {
                nqn,
                serial,
                hosts: Some(if any { HostList::Any } else { HostList::Only(all) }),
                max_io_queues: queues,
                max_transfer,
                max_queue_entries: entries,
                static_controllers: fixed,
                cntlid_min: min,
                namespaces,
                ..Subsystem::default()
            }
        },
    );
    let address = (prop_oneof![Just("127.0.0.1"), Just("127.0.0.2"), Just("0.0.0.0")], 1..4_u32)
        .prop_map(|(ip, port)| format!("{ip}:{port}"));
    let ana = prop_oneof![Just("optimized"), Just("inaccessible"), Just("change")];
    let ana = proptest::collection::btree_map(
        (1..4_u32).prop_map(|group| group.to_string()),
        ana.prop_map(str::to_owned),
        0..3,
    );
    let port = (1_u32..4, address, any::<bool>(), ana).prop_map(|(id, listen, all, ana)| Port {
        id: Some(id),
        listen,
        subsystems: (!all).then(Vec::new),
        ana,
    });
    let metrics = of((1..3_u32).prop_map(|n| super::Metrics { listen: format!("127.0.0.3:{n}") }));
    let transport = of(0_u32..3).prop_map(|connections| Transport {
        max_connections: connections.map(|n| n + 1),
        ..Transport::default()
    });
    let parts = (any::<bool>(), metrics, transport, vec(port, 1..4), vec(subsystem, 0..4));
    parts.prop_filter_map(
        "addresses clash",
        |(mdns, metrics, transport, mut ports, mut subsystems)| {
            ports.sort_by_key(|port| port.id);
            ports.dedup_by_key(|port| port.id);
            subsystems.sort_by_key(|subsystem| subsystem.nqn.clone());
            subsystems.dedup_by_key(|subsystem| subsystem.nqn.clone());
            let discovery = super::Discovery { mdns, ..super::Discovery::default() };
            Config { discovery, metrics, transport, ports, subsystems }.resolve().ok()
        },
    )
}
