//! Any configuration that nvmet can have.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::{of, weighted};
use proptest::prelude::*;

use super::IMAGES;
use crate::config::{
    Config, Discovery, HostList, Namespace, Port, Referral, Size, Subsystem, Transport,
};

/// Configurations that have much in common, so that two of them differ in all ways.
pub(super) fn config() -> impl Strategy<Value = Config> {
    let parts = (discovery(), transport(), vec(port(), 1..4), vec(subsystem(), 2..5));
    parts.prop_filter_map("it is no configuration", |(discovery, transport, ports, subsystems)| {
        let mut config = Config { discovery, metrics: None, transport, ports, subsystems };
        config.ports.sort_by_key(|port| port.id);
        config.ports.dedup_by_key(|port| port.id);
        config.subsystems.sort_by(|a, b| a.nqn.cmp(&b.nqn));
        config.subsystems.dedup_by(|a, b| a.nqn == b.nqn);
        once_each(&mut config.subsystems);
        for port in &mut config.ports {
            // Some of those that there are, and at least one.
            if let Some(names) = &mut port.subsystems {
                names.retain(|name| config.subsystems.iter().any(|s| s.nqn == *name));
                if names.is_empty() {
                    names.push(config.subsystems[0].nqn.clone());
                }
            }
        }
        config.resolve().is_ok().then_some(config)
    })
}

/// No file and no identifier is there twice.
fn once_each(subsystems: &mut [Subsystem]) {
    let mut files = Vec::new();
    for subsystem in subsystems {
        subsystem.namespaces.sort_by_key(|ns| ns.id);
        subsystem.namespaces.dedup_by_key(|ns| ns.id);
        let mut uuids = Vec::new();
        subsystem.namespaces.retain(|ns| {
            let file = ns.source.trim_end_matches(",direct").to_owned();
            let again = ns.uuid.as_ref().is_some_and(|uuid| uuids.contains(uuid));
            let new = !again && !files.contains(&file);
            files.push(file);
            uuids.extend(ns.uuid.clone());
            new
        });
    }
}

fn name(letter: char) -> impl Strategy<Value = String> {
    (0_u8..3).prop_map(move |n| format!("nqn.2026-01.org.example:{letter}{n}"))
}

fn discovery() -> impl Strategy<Value = Discovery> {
    let referral = (1_u8..4, of(1_u32..3)).prop_map(|(n, port_id)| Referral {
        address: format!("192.0.2.{n}:8009"),
        nqn: None,
        port_id,
    });
    (weighted(0.2, name('d')), vec(referral, 0..3)).prop_map(|(nqn, mut referrals)| {
        referrals.sort_by(|a, b| a.address.cmp(&b.address));
        referrals.dedup_by(|a, b| a.address == b.address);
        Discovery { nqn, mdns: false, referrals }
    })
}

fn transport() -> impl Strategy<Value = Transport> {
    of(prop_oneof![Just(4096_u64), Just(16384)])
        .prop_map(|bytes| Transport { in_capsule: bytes.map(Size::from), ..Transport::default() })
}

fn port() -> impl Strategy<Value = Port> {
    let address = prop_oneof![
        (1..3_u8, 1..4_u16).prop_map(|(ip, port)| format!("127.0.0.{ip}:{port}")),
        (1..4_u16).prop_map(|port| format!("[::1]:{port}")),
    ];
    let state = prop_oneof![Just("optimized"), Just("inaccessible"), Just("change")];
    let groups = (1..5_u32).prop_map(|group| group.to_string());
    let ana = btree_map(groups, state.prop_map(str::to_owned), 0..3);
    let subsystems = of(btree_set(name('s'), 0..3).prop_map(|set| set.into_iter().collect()));
    (1_u32..4, address, subsystems, ana).prop_map(|(id, listen, subsystems, ana)| Port {
        id: Some(id),
        listen,
        subsystems,
        ana,
    })
}

fn subsystem() -> impl Strategy<Value = Subsystem> {
    let hosts = prop_oneof![
        Just(HostList::Any),
        btree_set(name('h'), 0..3).prop_map(|hosts| HostList::Only(hosts.into_iter().collect())),
    ];
    // Seldom: where one differs, the subsystem is made anew, and nothing of it changes.
    let text = |text: &'static str| weighted(0.1, Just(text.to_owned()));
    let numbers = (of(1_u32..4), of(1_u32..4), of(3_u32..6));
    let parts = (name('s'), text("S"), text("M"), of(hosts), numbers, vec(namespace(), 0..5));
    parts.prop_map(|(nqn, serial, model, hosts, (queues, min, max), namespaces)| Subsystem {
        nqn,
        serial,
        model,
        hosts,
        max_io_queues: queues,
        cntlid_min: min,
        cntlid_max: max,
        namespaces,
        ..Subsystem::default()
    })
}

fn namespace() -> impl Strategy<Value = Namespace> {
    let file = (prop_oneof![Just("a"), Just("b"), Just("c")], any::<bool>());
    let uuid = of((1_u8..3).prop_map(|n| format!("01234567-89ab-cdef-0123-00000000000{n}")));
    let nguid = of(Just("0123456789abcdef0123456789abcdef".to_owned()));
    (1_u32..4, file, uuid, nguid, of(1_u32..4)).prop_map(|(id, file, uuid, nguid, ana_group)| {
        Namespace {
            id: Some(id),
            source: IMAGES.source(file.0, file.1),
            // No two of a subsystem have the same.
            nguid: nguid.map(|nguid| format!("{}{id}", &nguid[1..])),
            uuid,
            ana_group,
            ..Namespace::default()
        }
    })
}
