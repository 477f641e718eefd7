//! Controller or Namespace Structure: which data structure an Identify command asks for (Base 2.1,
//! section 5.1.13). It is bits 7:0 of command dword 10; bits 31:16 hold a controller identifier.

/// Identify Namespace of the NVM command set: [`super::IdentifyNamespace`].
pub const NAMESPACE: u8 = 0x00;
/// Identify Controller: [`super::IdentifyController`].
pub const CONTROLLER: u8 = 0x01;
/// Active namespace identifiers greater than NSID: [`super::ActiveNamespaceList`].
pub const ACTIVE_NAMESPACES: u8 = 0x02;
/// Namespace Identification Descriptor list: [`super::Descriptors`].
pub const NAMESPACE_DESCRIPTORS: u8 = 0x03;
/// NVM Set list.
pub const NVM_SETS: u8 = 0x04;
/// Identify Namespace of the command set in CSI: [`super::IdentifyNamespaceNvm`] for CSI 0.
pub const CSI_NAMESPACE: u8 = 0x05;
/// Identify Controller of the command set in CSI: [`super::IdentifyControllerNvm`] for CSI 0.
pub const CSI_CONTROLLER: u8 = 0x06;
/// Active namespaces greater than NSID that belong to the command set in CSI.
pub const CSI_ACTIVE_NAMESPACES: u8 = 0x07;
/// What is common to the namespaces of all command sets: [`super::IndependentNamespace`].
pub const INDEPENDENT_NAMESPACE: u8 = 0x08;
/// Allocated namespace identifiers greater than NSID.
pub const ALLOCATED_NAMESPACES: u8 = 0x10;
/// Identify Namespace of an allocated namespace.
pub const ALLOCATED_NAMESPACE: u8 = 0x11;
/// Controllers attached to NSID: [`super::ControllerList`].
pub const NAMESPACE_CONTROLLERS: u8 = 0x12;
/// Controllers of the subsystem: [`super::ControllerList`].
pub const CONTROLLERS: u8 = 0x13;
/// Primary controller capabilities.
pub const PRIMARY_CONTROLLER: u8 = 0x14;
/// Secondary controller list.
pub const SECONDARY_CONTROLLERS: u8 = 0x15;
/// Namespace granularity list.
pub const NAMESPACE_GRANULARITY: u8 = 0x16;
/// UUID list.
pub const UUIDS: u8 = 0x17;
/// Domain list.
pub const DOMAINS: u8 = 0x18;
/// Endurance group list.
pub const ENDURANCE_GROUPS: u8 = 0x19;
/// Allocated namespaces of the command set in CSI.
pub const CSI_ALLOCATED_NAMESPACES: u8 = 0x1a;
/// Identify Namespace of the command set in CSI, of an allocated namespace.
pub const CSI_ALLOCATED_NAMESPACE: u8 = 0x1b;
/// Combinations of command sets the controller offers: [`super::CommandSetList`].
pub const COMMAND_SETS: u8 = 0x1c;

/// Command set identifier of the NVM command set.
pub const CSI_NVM: u8 = 0x00;
/// Command set identifier of the Key Value command set.
pub const CSI_KEY_VALUE: u8 = 0x01;
/// Command set identifier of the Zoned Namespace command set.
pub const CSI_ZONED: u8 = 0x02;

/// What a CNS value asks for.
pub const fn name(cns: u8) -> &'static str {
    match cns {
        NAMESPACE => "Identify Namespace",
        CONTROLLER => "Identify Controller",
        ACTIVE_NAMESPACES => "Active Namespace ID List",
        NAMESPACE_DESCRIPTORS => "Namespace Identification Descriptor List",
        NVM_SETS => "NVM Set List",
        CSI_NAMESPACE => "I/O Command Set Specific Identify Namespace",
        CSI_CONTROLLER => "I/O Command Set Specific Identify Controller",
        CSI_ACTIVE_NAMESPACES => "I/O Command Set Specific Active Namespace ID List",
        INDEPENDENT_NAMESPACE => "I/O Command Set Independent Identify Namespace",
        ALLOCATED_NAMESPACES => "Allocated Namespace ID List",
        ALLOCATED_NAMESPACE => "Identify Allocated Namespace",
        NAMESPACE_CONTROLLERS => "Controllers Attached to Namespace",
        CONTROLLERS => "Controller List",
        PRIMARY_CONTROLLER => "Primary Controller Capabilities",
        SECONDARY_CONTROLLERS => "Secondary Controller List",
        NAMESPACE_GRANULARITY => "Namespace Granularity List",
        UUIDS => "UUID List",
        DOMAINS => "Domain List",
        ENDURANCE_GROUPS => "Endurance Group List",
        CSI_ALLOCATED_NAMESPACES => "I/O Command Set Specific Allocated Namespace ID List",
        CSI_ALLOCATED_NAMESPACE => "I/O Command Set Specific Identify Allocated Namespace",
        COMMAND_SETS => "I/O Command Set List",
        0xc0.. => "Vendor Specific",
        _ => "Unknown",
    }
}
