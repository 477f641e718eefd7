//! Identify.

use nvmf_proto::queue::QueueSize;

use super::*;
use crate::limits::MaxTransfer;
use crate::subsystem::Subsystem;
use crate::testing::{NQN, nqn};

#[test]
fn the_controller_tells_what_it_can() {
    let mut c = enabled();
    let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
    let id = IdentifyController::ref_from_bytes(&bytes).unwrap();
    assert_eq!(id.cntrltype, controller_type::IO);
    assert_eq!(id.cntlid, 1);
    assert_eq!((id.nn.get(), id.mnan.get(), id.elpe, id.aerl), (1024, 1024, 63, 3));
    assert_eq!((id.cmic, id.anacap, id.nanagrpid.get()), (0b1011, 0x1f, 32));
    assert_eq!(id.oncs, 0b1_1111_1111);
    assert_eq!((id.acl, id.nwpc, id.rtd3e.get()), (3, 1, 15_000_000));
    assert_eq!(id.max_transfer(4096), Some(limits::MAX_TRANSFER.into()));
    assert_eq!(id.model_number().as_str(), Some("nvmf"));
    assert_eq!(id.serial_number().as_str(), Some(c.association().subsystem().serial().as_str()));
}

#[test]
fn a_namespace_is_active_inactive_or_invalid() {
    let mut c = enabled();
    let bytes = data(&mut c, &identify(cns::NAMESPACE, 1), 4096);
    let ns = IdentifyNamespace::ref_from_bytes(&bytes).unwrap();
    assert_eq!((ns.nsze.get(), ns.block_size()), (2048, Some(512)));
    assert_eq!(data(&mut c, &identify(cns::NAMESPACE, 2), 4096), [0; 4096]);
    for nsid in [0, 1025, NSID_ALL] {
        for cns in [cns::NAMESPACE, cns::CSI_NAMESPACE, cns::INDEPENDENT_NAMESPACE] {
            refused(&mut c, &identify(cns, nsid), 4096, Status::INVALID_NAMESPACE);
        }
    }
}

#[test]
fn lists_have_what_follows_the_given_identifier() {
    let mut c = enabled();
    let mut list = |cns, nsid| {
        let bytes = data(&mut c, &identify(cns, nsid), 4096);
        ActiveNamespaceList::ref_from_bytes(&bytes).unwrap().iter().collect::<Vec<_>>()
    };
    assert_eq!(list(cns::ACTIVE_NAMESPACES, 0), [1, 3]);
    assert_eq!(list(cns::ACTIVE_NAMESPACES, 1), [3]);
    assert!(list(cns::ACTIVE_NAMESPACES, 3).is_empty());
    assert_eq!(list(cns::CSI_ACTIVE_NAMESPACES, 0), [1, 3]);
    assert_eq!(list(cns::ALLOCATED_NAMESPACES, 1), [3]);
    assert_eq!(list(cns::CSI_ALLOCATED_NAMESPACES, 0), [1, 3]);
    for nsid in [NSID_ALL, NSID_ALL - 1] {
        let sqe = identify(cns::ACTIVE_NAMESPACES, nsid);
        refused(&mut c, &sqe, 4096, Status::INVALID_NAMESPACE);
    }
}

#[test]
fn descriptors_identify_an_active_namespace() {
    let mut c = enabled();
    let bytes = data(&mut c, &identify(cns::NAMESPACE_DESCRIPTORS, 1), 4096);
    let ids: Vec<_> = Descriptors::new(&bytes).map(Result::unwrap).collect();
    let ns = &c.association().subsystem().namespaces()[0];
    assert!(ids.contains(&NamespaceId::Uuid(ns.uuid())));
    assert!(ids.contains(&NamespaceId::Nguid(ns.nguid())));
    let inactive = identify(cns::NAMESPACE_DESCRIPTORS, 2);
    refused(&mut c, &inactive, 4096, Status::INVALID_NAMESPACE);
}

#[test]
fn the_nvm_command_set_tells_its_limits_and_others_are_not_there() {
    let mut c = enabled();
    let mut sqe = identify(cns::CSI_CONTROLLER, 0);
    let bytes = data(&mut c, &sqe, 4096);
    let nvm = IdentifyControllerNvm::ref_from_bytes(&bytes).unwrap();
    assert_eq!((nvm.vsl, nvm.wzsl), (8, 16));
    sqe.set_cdw(11, 2 << 24);
    refused(&mut c, &sqe, 4096, Status::INVALID_FIELD);
}

#[test]
fn controllers_are_listed() {
    let mut c = enabled();
    let _other = association(c.association().subsystem());
    let mut list = |sqe: &Sqe| {
        let bytes = data(&mut c, sqe, 4096);
        ControllerList::ref_from_bytes(&bytes).unwrap().iter().collect::<Vec<_>>()
    };
    assert_eq!(list(&identify(cns::CONTROLLERS, 0)), [1, 2]);
    assert_eq!(list(&identify(cns::NAMESPACE_CONTROLLERS, 3)), [1, 2]);
    assert!(list(&identify(cns::NAMESPACE_CONTROLLERS, 2)).is_empty());
    let mut from = identify(cns::CONTROLLERS, 0);
    from.set_cdw(10, u32::from(cns::CONTROLLERS) | 2 << 16);
    assert_eq!(list(&from), [2]);
}

#[test]
fn unknown_structures_and_wrong_lengths_are_refused() {
    let mut c = enabled();
    for cns in [cns::NVM_SETS, cns::PRIMARY_CONTROLLER, cns::UUIDS, 0xff] {
        refused(&mut c, &identify(cns, 1), 4096, Status::INVALID_FIELD);
    }
    for length in [0, 4092, 4100] {
        let sqe = identify(cns::CONTROLLER, 0);
        refused(&mut c, &sqe, length, Status::DATA_SGL_LENGTH_INVALID);
    }
}

#[test]
fn namespaces_are_allocated_to_those_who_may_see_them() {
    let mut c = enabled();
    let active = data(&mut c, &identify(cns::NAMESPACE, 1), 4096);
    assert_eq!(data(&mut c, &identify(cns::ALLOCATED_NAMESPACE, 1), 4096), active);
    let hidden = c.association().subsystem().namespace(1).unwrap();
    hidden.set_hosts(Some([nqn("nqn.somebody")].into()));
    c.association().subsystem().refresh();
    assert_eq!(data(&mut c, &identify(cns::ALLOCATED_NAMESPACE, 1), 4096), [0; 4096]);
    let bytes = data(&mut c, &identify(cns::ALLOCATED_NAMESPACES, 0), 4096);
    assert!(ActiveNamespaceList::ref_from_bytes(&bytes).unwrap().iter().eq([3]));
    let mut sqe = identify(cns::CSI_ALLOCATED_NAMESPACE, 3);
    assert_eq!(data(&mut c, &sqe, 4096), [0; 4096]);
    sqe.set_cdw(11, 1 << 24);
    refused(&mut c, &sqe, 4096, Status::INVALID_FIELD);
}

#[test]
fn the_nvm_command_set_is_the_only_combination() {
    let mut c = enabled();
    let mut sqe = identify(cns::COMMAND_SETS, 0);
    for cntid in [0xffff, 1] {
        sqe.set_cdw(10, u32::from(cns::COMMAND_SETS) | cntid << 16);
        assert_eq!(
            data(&mut c, &sqe, 4096)[..16],
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }
    sqe.set_cdw(10, u32::from(cns::COMMAND_SETS) | 9 << 16);
    refused(&mut c, &sqe, 4096, Status::INVALID_FIELD);
}

#[test]
fn a_controller_says_whether_it_was_there_before_its_host() {
    let name = nqn(NQN);
    let fixed = Subsystem::builder(name).static_controllers(3).build().unwrap();
    let request = nvmf_proto::connect::ConnectRequest {
        controller: nvmf_proto::connect::ControllerChoice::StaticAny,
        ..crate::testing::request(1)
    };
    let association = fixed.connect_admin(&request, &Arc::new(Port::none())).unwrap();
    let fcatt = |mut c: Controller| {
        let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
        IdentifyController::ref_from_bytes(&bytes).unwrap().fcatt
    };
    assert_eq!(fcatt(enabled_for(association)), 1);
    assert_eq!(fcatt(enabled()), 0);
}

#[test]
fn the_controller_tells_the_sizes_that_were_asked_for() {
    let builder = Subsystem::builder(nqn(NQN))
        .max_transfer(MaxTransfer::new(32 << 10).unwrap())
        .max_queue_entries(QueueSize::new(100).unwrap());
    let a = association(&builder.build().unwrap());
    let in_capsule = InCapsule::new(0).unwrap();
    let mut c = Controller::io(a, in_capsule, 0, Instant::now());
    assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
    let bytes = data(&mut c, &identify(cns::CONTROLLER, 0), 4096);
    let id = IdentifyController::ref_from_bytes(&bytes).unwrap();
    assert_eq!((id.mdts, id.maxcmd.get(), id.ioccsz.get()), (3, 100, 4));
    let bytes = data(&mut c, &identify(cns::CSI_CONTROLLER, 0), 4096);
    let nvm = IdentifyControllerNvm::ref_from_bytes(&bytes).unwrap();
    assert_eq!((nvm.vsl, nvm.wzsl), (3, 16));
    match run(&mut c, &PropertyGet::new(offset::CAP, true).to_sqe(), 0) {
        Outcome::Answer(cqe) => assert_eq!(cqe.dw0.get() & 0xffff, 99, "MQES"),
        other => panic!("{other:?}"),
    }
    let most = 32 << 10;
    assert_eq!(data(&mut c, &log(lid::SMART, 0, most), 32 << 10).len(), 32 << 10);
    refused(&mut c, &log(lid::SMART, 0, most + 4), (32 << 10) + 4, Status::INVALID_FIELD);
}
