//! What is changed is what is done, and nothing else.

use proptest::prelude::*;

use super::super::testing::{any_layout, everything};
use super::super::{Config, HostList, Limits, Metrics, Port, Size};
use super::*;

/// The layout with one thing changed.
fn changed(change: impl FnOnce(&mut Config)) -> Vec<Change> {
    let old = everything();
    let mut config = old.config();
    change(&mut config);
    diff(&old, &config.resolve().unwrap())
}

fn nqn(name: &str) -> Nqn {
    Nqn::parse_strict(&format!("nqn.2026-01.org.example:{name}")).unwrap()
}

#[test]
fn nothing_is_done_where_nothing_changed() {
    assert_eq!(changed(|_| {}), []);
    // Said otherwise, it is the same.
    assert_eq!(changed(|c| c.ports.reverse()), []);
    assert_eq!(changed(|c| c.subsystems.reverse()), []);
    assert_eq!(changed(|c| drop(c.ports[1].ana.insert("5".into(), "optimized".into()))), []);
    assert_eq!(changed(|c| c.subsystems[1].namespaces[0].ana_group = Some(1)), []);
    assert_eq!(
        changed(|c| c.subsystems[0].namespaces[0].limits.bandwidth = Some(Size::from(100 << 20))),
        []
    );
    assert_eq!(
        changed(|c| {
            let ns = &mut c.subsystems[0].namespaces[0];
            ns.source = format!("{},uuid={}", ns.source, ns.uuid.take().unwrap());
        }),
        []
    );
}

#[test]
fn properties_of_a_namespace_change_in_place() {
    let (subsystem, nsid) = (|| nqn("b"), 1);
    type Edit = fn(&mut super::super::Namespace);
    let cases: [(Edit, Change); 5] = [
        (
            |ns| ns.source = "mem:2M".into(),
            Change::NamespaceResized { subsystem: subsystem(), nsid, bytes: 2 << 20 },
        ),
        (
            |ns| ns.read_only = true,
            Change::NamespaceProtected { subsystem: subsystem(), nsid, read_only: true },
        ),
        (
            |ns| ns.ana_group = Some(3),
            Change::NamespaceRegrouped {
                subsystem: subsystem(),
                nsid,
                group: AnaGroup::new(3).unwrap(),
            },
        ),
        (
            |ns| ns.hosts = Some(vec!["nqn.2026-01.org.example:h".into()]),
            Change::NamespaceHostsChanged {
                subsystem: subsystem(),
                nsid,
                hosts: Some([nqn("h")].into()),
            },
        ),
        (
            |ns| ns.limits = Limits { iops: Some(5), ..Limits::default() },
            Change::NamespaceLimited {
                subsystem: subsystem(),
                nsid,
                limits: super::Limits { iops: std::num::NonZeroU32::new(5), ..Default::default() },
            },
        ),
    ];
    for (edit, wanted) in cases {
        assert_eq!(changed(|c| edit(&mut c.subsystems[1].namespaces[0])), [wanted]);
    }
}

#[test]
fn what_makes_another_disk_of_a_namespace_removes_and_adds_it() {
    type Edit = fn(&mut super::super::Namespace);
    let edits: [Edit; 6] = [
        |ns| ns.source = "null:1M".into(),
        |ns| ns.source = "mem:1M,bs=512".into(),
        |ns| ns.source = "file:/srv/b.img".into(),
        |ns| ns.uuid = Some("0123456789abcdef0123456789abcdef".into()),
        |ns| ns.nguid = Some("0123456789abcdef0123456789abcdef".into()),
        |ns| ns.eui64 = Some("0123456789abcdef".into()),
    ];
    for edit in edits {
        let changes = changed(|c| edit(&mut c.subsystems[1].namespaces[0]));
        assert!(
            matches!(
                &changes[..],
                [Change::NamespaceRemoved { nsid: 1, .. }, Change::NamespaceAdded { .. }]
            ),
            "{changes:?}"
        );
    }
}

#[test]
fn a_subsystem_is_made_again_only_for_what_hosts_were_told_of_it() {
    for edit in [
        |c: &mut Config| c.subsystems[0].serial = None,
        |c: &mut Config| c.subsystems[0].model = None,
        |c: &mut Config| c.subsystems[0].firmware = None,
        |c: &mut Config| c.subsystems[0].max_transfer = None,
        |c: &mut Config| c.subsystems[0].max_queue_entries = Some(65),
        |c: &mut Config| c.subsystems[0].static_controllers = Some(2),
    ] {
        let changes = changed(edit);
        assert!(matches!(&changes[..], [Change::SubsystemReplaced { .. }]), "{changes:?}");
    }
    let changes = changed(|c| c.subsystems[0].max_io_queues = None);
    assert!(matches!(&changes[..], [Change::ControllersChanged { max_io_queues: 128, .. }]));
    let changes = changed(|c| c.subsystems[0].cntlid_max = None);
    assert!(matches!(&changes[..], [Change::ControllersChanged { .. }]), "{changes:?}");
    let hosts = Some(Hosts::Only([nqn("h")].into()));
    assert_eq!(
        changed(|c| c.subsystems[1].hosts = Some(HostList::Only(vec![nqn("h").to_string()]))),
        [Change::HostsChanged { subsystem: nqn("b"), hosts }]
    );
}

#[test]
fn ports_move_where_the_way_is_free_and_come_again_where_it_is_not() {
    let moved = changed(|c| c.ports[0].listen = "192.0.2.9:4420".into());
    let listen = "192.0.2.9:4420".parse().unwrap();
    assert_eq!(moved, [Change::PortMoved { id: 1, listen }]);

    let swapped = changed(|c| {
        let first = c.ports[0].listen.clone();
        c.ports[0].listen = std::mem::replace(&mut c.ports[1].listen, first);
    });
    assert!(
        matches!(
            &swapped[..],
            [
                Change::PortRemoved { id: 1 },
                Change::PortRemoved { id: 2 },
                Change::PortAdded { .. },
                Change::PortAdded { .. }
            ]
        ),
        "{swapped:?}"
    );
    let widened = changed(|c| c.ports[0].listen = "0.0.0.0:4420".into());
    assert!(
        matches!(&widened[..], [Change::PortRemoved { id: 1 }, Change::PortAdded { .. }]),
        "{widened:?}"
    );
}

#[test]
fn states_discovery_and_metrics_change_by_themselves() {
    let (port, group) = (1, AnaGroup::new(2).unwrap());
    let state = AnaState::Optimized;
    assert_eq!(
        changed(|c| drop(c.ports[0].ana.remove("2"))),
        [Change::AnaChanged { port, group, state }]
    );
    let changes = changed(|c| c.discovery.mdns = false);
    assert!(matches!(&changes[..], [Change::DiscoveryChanged { .. }]));
    let changes = changed(|c| c.transport.data_digest = None);
    assert!(
        matches!(&changes[..], [Change::TransportChanged { transport }] if transport.data_digest),
        "{changes:?}"
    );
    assert_eq!(changed(|c| c.metrics = None), [Change::MetricsStopped]);
    let listen = "127.0.0.1:1";
    assert_eq!(
        changed(|c| c.metrics = Some(Metrics { listen: listen.into() })),
        [Change::MetricsStopped, Change::MetricsStarted { listen: listen.parse().unwrap() }]
    );
    assert_eq!(
        changed(|c| c.ports[0].subsystems = None),
        [Change::PortSubsystemsChanged { id: 1, subsystems: None }]
    );
}

#[test]
fn what_goes_goes_first_and_ports_open_last() {
    let changes = changed(|c| {
        c.subsystems[0].nqn = nqn("c").to_string();
        c.ports[0] = Port { id: Some(3), listen: "192.0.2.7:4420".into(), ..Port::default() };
    });
    let kinds = changes.iter().map(|change| match change {
        Change::PortRemoved { id: 1 } => 1,
        Change::SubsystemRemoved { .. } => 2,
        Change::SubsystemAdded { .. } => 3,
        Change::PortAdded { .. } => 4,
        _ => 0,
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// Does to a layout what a target would do, and refuses what a target could not do then.
fn apply(layout: &mut Layout, change: Change) {
    fn namespace<'a>(layout: &'a mut Layout, nqn: &Nqn, nsid: u32) -> &'a mut Namespace {
        layout.subsystems.get_mut(nqn).unwrap().namespaces.get_mut(&nsid).unwrap()
    }
    let free = |layout: &Layout, at: SocketAddr| {
        let used = layout.ports.values().map(|port| port.listen).chain(layout.metrics);
        for other in used {
            assert!(!overlap(other, at), "{other} is there when {at} comes");
        }
    };
    match change {
        Change::MetricsStopped => layout.metrics = None,
        Change::MetricsStarted { listen } => {
            free(layout, listen);
            assert!(layout.metrics.replace(listen).is_none());
        }
        Change::PortRemoved { id } => assert!(layout.ports.remove(&id).is_some()),
        Change::PortAdded { port } => {
            free(layout, port.listen);
            assert!(layout.ports.insert(port.id, *port).is_none());
        }
        Change::PortMoved { id, listen } => {
            free(layout, listen);
            layout.ports.get_mut(&id).unwrap().listen = listen;
        }
        Change::PortSubsystemsChanged { id, subsystems } => {
            layout.ports.get_mut(&id).unwrap().subsystems = subsystems;
        }
        Change::AnaChanged { port, group, state } => {
            let ana = &mut layout.ports.get_mut(&port).unwrap().ana;
            ana.remove(&group);
            if state != AnaState::Optimized {
                ana.insert(group, state);
            }
        }
        Change::SubsystemRemoved { nqn } => assert!(layout.subsystems.remove(&nqn).is_some()),
        Change::SubsystemReplaced { subsystem } => {
            assert!(layout.subsystems.insert(subsystem.nqn.clone(), *subsystem).is_some());
        }
        Change::SubsystemAdded { subsystem } => {
            assert!(layout.subsystems.insert(subsystem.nqn.clone(), *subsystem).is_none());
        }
        Change::HostsChanged { subsystem, hosts } => {
            layout.subsystems.get_mut(&subsystem).unwrap().hosts = hosts;
        }
        Change::ControllersChanged { subsystem, max_io_queues, cntlid } => {
            let subsystem = layout.subsystems.get_mut(&subsystem).unwrap();
            (subsystem.max_io_queues, subsystem.cntlid) = (max_io_queues, cntlid);
        }
        Change::NamespaceRemoved { subsystem, nsid } => {
            let namespaces = &mut layout.subsystems.get_mut(&subsystem).unwrap().namespaces;
            assert!(namespaces.remove(&nsid).is_some());
        }
        Change::NamespaceAdded { subsystem, namespace } => {
            let namespaces = &mut layout.subsystems.get_mut(&subsystem).unwrap().namespaces;
            assert!(namespaces.insert(namespace.nsid, *namespace).is_none());
        }
        Change::NamespaceHostsChanged { subsystem, nsid, hosts } => {
            namespace(layout, &subsystem, nsid).hosts = hosts;
        }
        Change::NamespaceProtected { subsystem, nsid, read_only } => {
            namespace(layout, &subsystem, nsid).read_only = read_only;
        }
        Change::NamespaceRegrouped { subsystem, nsid, group } => {
            namespace(layout, &subsystem, nsid).ana_group = group;
        }
        Change::NamespaceLimited { subsystem, nsid, limits } => {
            namespace(layout, &subsystem, nsid).limits = limits;
        }
        Change::NamespaceResized { subsystem, nsid, bytes } => {
            let spec = &mut namespace(layout, &subsystem, nsid).spec;
            match &mut spec.source {
                Source::Memory { bytes: size } | Source::Null { bytes: size } => *size = bytes,
                other => panic!("{other:?} cannot be resized"),
            }
        }
        Change::TransportChanged { transport } => layout.transport = transport,
        Change::DiscoveryChanged { discovery } => layout.discovery = discovery,
    }
}

proptest! {
    #[test]
    fn the_steps_lead_from_one_to_the_other_and_none_is_in_vain(
        old in any_layout(),
        new in any_layout(),
    ) {
        prop_assert_eq!(diff(&old, &old), []);
        let mut layout = old.clone();
        for change in diff(&old, &new) {
            let before = layout.clone();
            apply(&mut layout, change.clone());
            prop_assert_ne!(before, layout.clone(), "{:?}", change);
        }
        prop_assert_eq!(layout, new);
    }

    #[test]
    fn a_layout_written_down_resolves_to_itself(layout in any_layout()) {
        prop_assert_eq!(layout.config().resolve(), Ok(layout));
    }
}
