//! The Identify command.

use nvme_spec::identify::{
    ActiveNamespaceList, CommandSetList, ControllerList, IdentifyController, IdentifyNamespace,
    IdentifyNamespaceNvm, IdentifyRequest, NSID_ALL, cns,
};
use nvme_spec::{Sqe, Status};
use nvmf::controller::identify::{
    ControllerIdentity, IoCapabilities, NamespaceDescription, discovery_controller, io_controller,
    nvm_controller,
};
use zerocopy::IntoBytes;

use super::{Controller, INVALID_FIELD, INVALID_NAMESPACE, Role};
use crate::limits;
use crate::subsystem::{Subsystem, Visible};

/// The length of every Identify data structure in bytes.
pub(super) const LENGTH: u32 = 4096;

/// CNTID of the I/O Command Set data structure: the controller that is asked.
const THIS_CONTROLLER: u16 = u16::MAX;

/// ANACAP, bits 4:0: every ANA state there is can be told.
const ANA_STATES: u8 = 0x1f;

impl Controller {
    /// The data that an Identify command asks for: 4096 bytes.
    pub(super) fn identify(&self, sqe: &Sqe) -> Result<Vec<u8>, Status> {
        // There is no UUID list, so that a UUID index means nothing.
        let IdentifyRequest { nsid, cns, cntid, csi, .. } = IdentifyRequest::from_sqe(sqe);
        if cns == cns::CONTROLLER {
            return Ok(self.identify_controller().as_bytes().to_vec());
        }
        if matches!(self.role, Role::Discovery(_)) {
            return Err(INVALID_FIELD);
        }
        let for_command_set = matches!(
            cns,
            cns::CSI_NAMESPACE
                | cns::CSI_CONTROLLER
                | cns::CSI_ACTIVE_NAMESPACES
                | cns::CSI_ALLOCATED_NAMESPACES
                | cns::CSI_ALLOCATED_NAMESPACE
        );
        if for_command_set && csi != cns::CSI_NVM {
            return Err(INVALID_FIELD);
        }
        let subsystem = self.association.subsystem();
        Ok(match cns {
            // Namespaces are not allocated without being attached to those who may see them.
            cns::NAMESPACE | cns::ALLOCATED_NAMESPACE => match self.valid_namespace(nsid)? {
                Some(ns) => ns.namespace().as_bytes().to_vec(),
                None => IdentifyNamespace::default().as_bytes().to_vec(),
            },
            cns::ACTIVE_NAMESPACES
            | cns::CSI_ACTIVE_NAMESPACES
            | cns::ALLOCATED_NAMESPACES
            | cns::CSI_ALLOCATED_NAMESPACES => {
                if nsid >= NSID_ALL - 1 {
                    return Err(INVALID_NAMESPACE);
                }
                let view = self.association.view();
                let ids = view.namespaces().iter().map(Visible::nsid);
                ActiveNamespaceList::after(nsid, ids).as_bytes().to_vec()
            }
            cns::NAMESPACE_DESCRIPTORS => {
                let view = self.association.view();
                let ns = view.get(nsid).ok_or(INVALID_NAMESPACE)?;
                ns.description.descriptors().as_bytes().to_vec()
            }
            cns::CSI_NAMESPACE | cns::CSI_ALLOCATED_NAMESPACE => {
                self.valid_namespace(nsid)?;
                IdentifyNamespaceNvm::default().as_bytes().to_vec()
            }
            cns::CSI_CONTROLLER => {
                let verify = subsystem.max_transfer().mdts();
                nvm_controller(verify, limits::WRITE_ZEROES_LIMIT).as_bytes().to_vec()
            }
            cns::INDEPENDENT_NAMESPACE => match self.valid_namespace(nsid)? {
                Some(ns) => ns.independent().as_bytes().to_vec(),
                None => vec![0; 4096],
            },
            cns::NAMESPACE_CONTROLLERS => {
                let ids = self.valid_namespace(nsid)?.map(|_| controllers_of(subsystem, nsid));
                ControllerList::from(cntid, ids.unwrap_or_default()).as_bytes().to_vec()
            }
            cns::CONTROLLERS => {
                ControllerList::from(cntid, subsystem.controller_ids()).as_bytes().to_vec()
            }
            cns::COMMAND_SETS => {
                if cntid != THIS_CONTROLLER && cntid != self.association.cntlid() {
                    return Err(INVALID_FIELD);
                }
                CommandSetList::nvm_only().as_bytes().to_vec()
            }
            _ => return Err(INVALID_FIELD),
        })
    }

    pub(super) fn identify_controller(&self) -> IdentifyController {
        let subsystem = self.association.subsystem();
        let identity = ControllerIdentity {
            cntlid: self.association.cntlid(),
            version: limits::VERSION,
            subsystem: subsystem.nqn(),
            serial: subsystem.serial(),
            model: subsystem.model(),
            firmware: subsystem.firmware(),
            max_commands: subsystem.max_queue_entries(),
            keep_alive_granularity: limits::KEEP_ALIVE_GRANULARITY,
            async_events: limits::ASYNC_EVENTS,
        };
        let mdts = subsystem.max_transfer().mdts();
        if matches!(self.role, Role::Discovery(_)) {
            return discovery_controller(&identity, mdts);
        }
        let capabilities = IoCapabilities {
            mdts,
            in_capsule: self.in_capsule.bytes(),
            namespaces: subsystem.max_nsid(),
            optional_commands: limits::OPTIONAL_COMMANDS,
            compare_and_write: true,
            // Whatever the namespaces are now, one that needs to be flushed may come.
            volatile_write_cache: true,
        };
        let mut data = io_controller(&identity, &capabilities);
        // 0's based, and 64 entries.
        data.elpe = u8::try_from(limits::ERROR_LOG_ENTRIES - 1).unwrap_or(u8::MAX);
        if subsystem.is_static() {
            data.fcatt |= IdentifyController::FCATT_STATIC;
        }
        data.acl = limits::ABORTS - 1;
        let latency = limits::SHUTDOWN_LATENCY.as_micros();
        data.rtd3e.set(u32::try_from(latency).unwrap_or(u32::MAX));
        data.nwpc = limits::WRITE_PROTECTION;
        data.mnan.set(limits::NAMESPACES);
        data.cmic |= IdentifyController::CMIC_MULTI_PORT | IdentifyController::CMIC_ANA;
        data.oaes.set(data.oaes.get() | IdentifyController::OAES_ANA_CHANGE);
        data.anatt = u8::try_from(limits::ANA_TRANSITION.as_secs()).unwrap_or(u8::MAX);
        data.anacap = ANA_STATES;
        data.anagrpmax.set(limits::ANA_GROUPS);
        data.nanagrpid.set(limits::ANA_GROUPS);
        data
    }

    /// The namespace of a valid identifier, `None` if it is inactive.
    pub(super) fn valid_namespace(
        &self,
        nsid: u32,
    ) -> Result<Option<NamespaceDescription>, Status> {
        let subsystem = self.association.subsystem();
        if !(1..=subsystem.max_nsid()).contains(&nsid) {
            return Err(INVALID_NAMESPACE);
        }
        Ok(self.association.view().get(nsid).map(|ns| ns.description))
    }
}

/// The controllers that have a namespace.
fn controllers_of(subsystem: &Subsystem, nsid: u32) -> Vec<u16> {
    let associations = subsystem.associations();
    let with = associations.iter().filter(|association| association.view().get(nsid).is_some());
    with.map(|association| association.cntlid()).collect()
}
