use nvme_spec::identify::NSID_ALL;
use nvmf_storage::NamespaceSpec;

use super::*;
use crate::limits;
use crate::testing::{NQN, connect, nqn, request};

fn spec(text: &str) -> NamespaceSpec {
    text.parse().unwrap()
}

fn build(specs: &[&str]) -> Arc<Subsystem> {
    let mut builder = Subsystem::builder(nqn(NQN));
    for text in specs {
        builder = builder.open(&spec(text)).unwrap();
    }
    builder.build().unwrap()
}

#[test]
fn namespaces_are_numbered_in_their_order() {
    let subsystem = build(&["mem:1M", "null:1M"]);
    assert_eq!(subsystem.max_nsid(), limits::NAMESPACES);
    assert_eq!(subsystem.namespace(1).unwrap().backend().location(), "mem:1");
    assert_eq!(subsystem.namespace(2).unwrap().backend().location(), "null:2");
    assert!(subsystem.namespace(0).is_none() && subsystem.namespace(3).is_none());
}

#[test]
fn identifiers_are_the_same_after_a_restart() {
    let (before, after) = (build(&["mem:1M", "null:1M"]), build(&["mem:1M", "null:1M"]));
    for (a, b) in before.namespaces().iter().zip(&after.namespaces()) {
        assert_eq!((a.uuid(), a.nguid()), (b.uuid(), b.nguid()));
        assert_ne!(a.uuid(), a.nguid());
    }
    assert_ne!(before.namespaces()[0].uuid(), before.namespaces()[1].uuid());
    assert_eq!(before.serial(), after.serial());
}

#[test]
fn a_configured_uuid_is_kept() {
    let subsystem = build(&["mem:1M,uuid=00112233-4455-6677-8899-aabbccddeeff"]);
    assert_eq!(subsystem.namespaces()[0].uuid()[..3], [0x00, 0x11, 0x22]);
    let backend = Arc::new(nvmf_storage::Null::new(
        nvmf_storage::Geometry::new(nvmf_storage::BlockSize::B512, 8).unwrap(),
    ));
    let subsystem =
        Subsystem::builder(nqn(NQN)).namespace_with_uuid(5, backend, [7; 16]).build().unwrap();
    let ns = subsystem.namespace(5).unwrap();
    assert_eq!(ns.uuid(), [7; 16]);
    assert_ne!(ns.nguid(), [7; 16]);
}

#[test]
fn clashes_are_refused() {
    let backend = || Arc::from(spec("mem:1M").open().unwrap());
    let builder = || Subsystem::builder(nqn(NQN));
    let error = |builder: SubsystemBuilder| builder.build().unwrap_err();
    assert_eq!(error(Subsystem::builder(Nqn::DISCOVERY)), SubsystemError::DiscoveryName);
    for nsid in [0, NSID_ALL] {
        assert_eq!(error(builder().namespace(nsid, backend())), SubsystemError::Nsid { nsid });
    }
    let other = Arc::from(spec("null:1M").open().unwrap());
    assert_eq!(
        error(builder().namespace(7, backend()).namespace(7, other)),
        SubsystemError::NsidTwice { nsid: 7 }
    );
    assert_eq!(
        error(builder().namespace(1, backend()).namespace(2, backend())),
        SubsystemError::SameIdentity { first: 1, second: 2, location: "mem:1".into() }
    );
}

#[test]
fn controllers_get_identifiers_that_no_live_one_has() {
    let subsystem = build(&["mem:1M"]);
    let one = connect(&subsystem, 1);
    let two = connect(&subsystem, 2);
    assert_eq!((one.cntlid(), two.cntlid()), (1, 2));
    drop(one);
    assert_eq!(subsystem.controller_ids(), [2]);
    assert_eq!(connect(&subsystem, 1).cntlid(), 3, "not 1 again");
    subsystem.controllers().last = ConnectData::CNTLID_MAX;
    assert_eq!(connect(&subsystem, 1).cntlid(), 1, "around");
    subsystem.controllers().last = 1;
    assert_eq!(connect(&subsystem, 1).cntlid(), 3, "2 lives");
}

#[test]
fn without_a_free_identifier_the_subsystem_is_busy() {
    let subsystem = build(&["mem:1M"]);
    let all = (1..=ConnectData::CNTLID_MAX).map(|id| (id, Weak::new()));
    subsystem.controllers().by_id.extend(all);
    let port = Arc::new(Port::none());
    assert_eq!(subsystem.connect_admin(&request(1), &port).unwrap_err(), Refusal::Busy);
}

#[test]
fn an_io_queue_finds_the_controller_of_its_own_host_only() {
    let subsystem = build(&["mem:1M"]);
    let association = connect(&subsystem, 1);
    assert!(subsystem.find_controller(1, &request(1)).is_ok());
    let offset = |cntlid, request: &ConnectRequest| match subsystem
        .find_controller(cntlid, request)
        .unwrap_err()
    {
        Refusal::Invalid { parameter, .. } => {
            assert!(parameter.in_data);
            parameter.offset
        }
        other => panic!("{other}"),
    };
    assert_eq!(offset(2, &request(1)), 16);
    assert_eq!(offset(1, &request(2)), 0);
    let mut other_name = request(1);
    other_name.host = nqn(&format!("{}x", association.host()));
    assert_eq!(offset(1, &other_name), 512);
}

#[test]
fn a_host_that_is_not_named_is_refused() {
    let only = |host: u8| Hosts::Only([request(host).host].into());
    let subsystem = Subsystem::builder(nqn(NQN)).hosts(only(1)).build().unwrap();
    let port = Arc::new(Port::none());
    let association = connect(&subsystem, 1);
    let refusal = subsystem.connect_admin(&request(2), &port).unwrap_err();
    assert_eq!(refusal, Refusal::Host);
    subsystem.set_hosts(only(2));
    assert!(subsystem.connect_admin(&request(2), &port).is_ok());
    let io_queue = subsystem.find_controller(association.cntlid(), &request(1));
    assert_eq!(io_queue.unwrap_err(), Refusal::Host);
}

#[test]
fn a_host_that_is_shut_out_loses_its_controllers_and_no_other_does() {
    let subsystem = build(&["mem:1M"]);
    let (one, two) = (connect(&subsystem, 1), connect(&subsystem, 2));
    let (stop, stopped) = std::sync::mpsc::channel();
    for (n, association) in [(1, &one), (2, &two)] {
        let stop = stop.clone();
        association.admin_is(String::new(), move || stop.send(n).unwrap());
    }
    subsystem.set_hosts(Hosts::Only([request(2).host].into()));
    assert_eq!(stopped.try_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn namespaces_come_and_go_and_each_host_is_told() {
    use nvme_spec::event::Event;
    let subsystem = build(&["mem:1M"]);
    let association = connect(&subsystem, 1);
    association.events().configure(u32::MAX);
    let ns = |nsid| Namespace::open(nsid, &spec("null:1M")).unwrap().build(subsystem.nqn());
    subsystem.attach(ns(7).unwrap()).unwrap();
    assert!(association.view().get(7).is_some());
    assert_eq!(association.events().next(), Some(Event::NAMESPACE_ATTRIBUTE_CHANGED));
    assert_eq!(association.events().next(), Some(Event::ANA_CHANGE));
    assert_eq!(association.events().changed_namespaces(true).changed().unwrap().next(), Some(7));
    assert_eq!(
        subsystem.attach(ns(7).unwrap()).unwrap_err(),
        SubsystemError::NsidTwice { nsid: 7 }
    );
    let far = limits::NAMESPACES + 1;
    assert!(matches!(
        subsystem.attach(ns(far).unwrap()),
        Err(SubsystemError::NsidTooGreat { nsid, .. }) if nsid == far
    ));
    let gone = subsystem.detach(7).unwrap();
    assert!(gone.is_detached() && association.view().get(7).is_none());
    assert!(subsystem.detach(7).is_none());
}

#[test]
fn static_controllers_are_there_and_hosts_come_back_to_theirs() {
    let subsystem = Subsystem::builder(nqn(NQN)).controller_ids(5, 90).static_controllers(3);
    let subsystem = subsystem.build().unwrap();
    let port = Arc::new(Port::none());
    let ask = |host, controller| {
        subsystem.connect_admin(&ConnectRequest { controller, ..request(host) }, &port)
    };
    let any = ControllerChoice::StaticAny;
    assert_eq!(subsystem.controller_ids(), [5, 6, 7]);
    let (one, two) = (ask(1, any).unwrap(), ask(2, any).unwrap());
    assert_eq!((one.cntlid(), two.cntlid()), (5, 6));
    drop((one, two));
    let two = ask(2, any).unwrap();
    assert_eq!(two.cntlid(), 6, "the one that it had");
    assert_eq!(ask(3, any).unwrap().cntlid(), 7, "one that none had");
    assert_eq!(ask(4, any).unwrap().cntlid(), 5, "one that is free");
    assert_eq!(ask(1, ControllerChoice::Id(7)).unwrap().cntlid(), 7);
    assert_eq!(ask(1, ControllerChoice::Id(6)).unwrap_err(), Refusal::Busy);
    for choice in [ControllerChoice::Dynamic, ControllerChoice::Id(8)] {
        match ask(1, choice).unwrap_err() {
            Refusal::Invalid { parameter, .. } => assert_eq!(parameter.offset, 16),
            other => panic!("{other}"),
        }
    }
    let _others = (ask(1, any).unwrap(), ask(3, any).unwrap());
    assert_eq!(ask(4, any).unwrap_err(), Refusal::Busy);
    let dynamic = build(&["mem:1M"]);
    for controller in [any, ControllerChoice::Id(1)] {
        let request = ConnectRequest { controller, ..request(1) };
        assert!(dynamic.connect_admin(&request, &port).is_err());
    }
}

#[test]
fn controller_identifiers_stay_in_their_range() {
    let subsystem = Subsystem::builder(nqn(NQN)).controller_ids(5, 6).build().unwrap();
    let (one, two) = (connect(&subsystem, 1), connect(&subsystem, 1));
    assert_eq!((one.cntlid(), two.cntlid()), (5, 6));
    let port = Arc::new(Port::none());
    assert_eq!(subsystem.connect_admin(&request(1), &port).unwrap_err(), Refusal::Busy);
    drop(one);
    assert_eq!(connect(&subsystem, 1).cntlid(), 5);
}

#[test]
fn an_io_queue_has_as_many_entries_as_there_are_at_most() {
    let size = |entries| QueueSize::new(entries).unwrap();
    let builder = Subsystem::builder(nqn(NQN)).max_queue_entries(size(31));
    let subsystem = builder.build().unwrap();
    let association = connect(&subsystem, 1);
    let find = |entries| {
        let mut request = request(1);
        request.command.size = size(entries);
        subsystem.find_controller(association.cntlid(), &request)
    };
    assert!(find(2).is_ok() && find(31).is_ok());
    match find(32).unwrap_err() {
        Refusal::Invalid { parameter, .. } => {
            assert_eq!((parameter.in_data, parameter.offset), (false, Connect::OFFSET_SQSIZE));
        }
        other => panic!("{other}"),
    }
    let huge = Subsystem::builder(nqn(NQN)).max_queue_entries(QueueSize::MAX_IO);
    assert_eq!(huge.build().unwrap().max_queue_entries(), limits::IO_ENTRIES);
}
