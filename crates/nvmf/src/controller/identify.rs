//! Capabilities and Identify data of a controller, built from what a target knows about itself
//! (Base 2.1, sections 3.1.4.1 and 5.1.13; NVM Command Set 1.1, section 4.1.5).
//!
//! The builders fill in what follows from the transport and from what hosts insist on (SGLs,
//! queue entry sizes, capsule sizes); a target with more to say changes the fields afterwards:
//! they are all public.

use std::time::Duration;

use nvme_spec::Nqn;
use nvme_spec::copy::SourceRange;
use nvme_spec::identify::{
    DescriptorList, IdentifyController, IdentifyControllerNvm, IdentifyNamespace,
    IndependentNamespace, LbaFormat, NamespaceId, cns, controller_type,
};
use nvme_spec::log::CommandEffects;
use nvme_spec::opcode::{self, admin, nvm};
use nvme_spec::property::{Cap, Vs};
use nvmf_proto::queue::QueueSize;

use super::SerialNumber;

/// CAP of a controller with I/O queues of up to `entries`, which becomes ready within `ready` of
/// being enabled (rounded up to 500 ms, at most 127.5 s).
///
/// A discovery controller, which has no I/O queues, better gives the same: Linux compares the
/// number with the queues that it would have, and warns.
pub fn capabilities(entries: QueueSize, ready: Duration) -> Cap {
    let to = u8::try_from(ready.as_millis().div_ceil(500)).unwrap_or(u8::MAX);
    Cap(0).with_mqes(entries.zero_based()).with_cqr(1).with_to(to).with_css(Cap::CSS_NVM)
}

/// Who a controller is.
#[derive(Clone, Copy, Debug)]
pub struct ControllerIdentity<'a> {
    /// The identifier that the Connect command was answered with.
    pub cntlid: u16,
    /// The version it claims in property VS.
    pub version: Vs,
    /// Its subsystem.
    pub subsystem: &'a Nqn,
    /// The subsystem's serial number.
    pub serial: &'a SerialNumber,
    /// Model, up to 40 ASCII characters.
    pub model: &'a str,
    /// Firmware revision, up to 8 ASCII characters.
    pub firmware: &'a str,
    /// Largest admin or I/O queue in entries, which is how many commands may be outstanding.
    pub max_commands: QueueSize,
    /// Granularity of the Keep Alive Timer, in steps of 100 ms; hosts refuse an I/O controller
    /// without one.
    pub keep_alive_granularity: Duration,
    /// Asynchronous Event Requests that are held at once, 1 to 256.
    pub async_events: u16,
}

impl<'a> ControllerIdentity<'a> {
    /// Controller `cntlid` of `subsystem`: NVMe 1.4, model `nvmf`, this library's version as
    /// firmware revision, queues of up to 1024 entries, Keep Alive by the second, four events.
    pub fn new(cntlid: u16, subsystem: &'a Nqn, serial: &'a SerialNumber) -> Self {
        Self {
            cntlid,
            version: Vs::V1_4,
            subsystem,
            serial,
            model: "nvmf",
            firmware: env!("CARGO_PKG_VERSION"),
            max_commands: QueueSize::new(1024).unwrap_or(QueueSize::MIN),
            keep_alive_granularity: Duration::from_secs(1),
            async_events: 4,
        }
    }
}

/// What an I/O controller can do.
#[derive(Clone, Copy, Debug)]
pub struct IoCapabilities {
    /// The most data of one command: 2^`mdts` times 4 KiB; 0 for no limit.
    pub mdts: u8,
    /// Bytes of data a command capsule on an I/O queue may carry, a multiple of 16.
    pub in_capsule: u32,
    /// The greatest namespace identifier that is valid.
    pub namespaces: u32,
    /// Optional commands, `IdentifyController::ONCS_*`.
    pub optional_commands: u16,
    /// Whether Compare and Write can be fused.
    pub compare_and_write: bool,
    /// Whether a write that was answered can be lost before a Flush.
    pub volatile_write_cache: bool,
}

impl IoCapabilities {
    /// Namespaces 1 to `namespaces`, 1 MiB per command, 8 KiB of it in a capsule, only the
    /// mandatory commands, no volatile write cache.
    pub fn new(namespaces: u32) -> Self {
        Self {
            mdts: 8,
            in_capsule: 8192,
            namespaces,
            optional_commands: 0,
            compare_and_write: false,
            volatile_write_cache: false,
        }
    }
}

/// The most data of a fused Compare and Write in bytes (ACWU, NACWU): while it is executed, nobody
/// else writes to the namespace, so it is not to take long. Cluster file systems use one block.
pub const COMPARE_AND_WRITE_BYTES: u64 = 128 << 10;

/// The most data that one Copy copies, in one range or in all (MSSRL, MCL), in bytes: large enough
/// that commands cost nothing beside it, and done in milliseconds, so that whoever has to wait for
/// it, to reset a controller or to be alone, waits no longer than for other commands.
pub const COPY_BYTES: u64 = 16 << 20;

/// The most source ranges of one Copy (MSRC), not 0's based.
pub const COPY_RANGES: u8 = 128;

const LARGEST_BLOCK_SHIFT: u8 = 12;

/// So many bytes as a 0's based number of blocks.
fn zero_based_blocks(bytes: u64, block_shift: u8) -> u16 {
    u16::try_from((bytes >> block_shift.min(63)).saturating_sub(1)).unwrap_or(u16::MAX)
}

/// What controllers of every type have in common.
fn controller(identity: &ControllerIdentity<'_>) -> IdentifyController {
    let mut data = IdentifyController::default();
    data.set_names(identity.serial.as_str(), identity.model, identity.firmware);
    data.cntlid.set(identity.cntlid);
    data.ver.set(identity.version.0);
    let kas = identity.keep_alive_granularity.as_millis().div_ceil(100);
    data.kas.set(u16::try_from(kas).unwrap_or(u16::MAX));
    data.ctratt.set(
        IdentifyController::CTRATT_HOSTID_128 | IdentifyController::CTRATT_TRAFFIC_BASED_KEEP_ALIVE,
    );
    data.aerl = u8::try_from(identity.async_events.saturating_sub(1)).unwrap_or(u8::MAX);
    // MAXCMD is not 0's based; the one size that does not fit is 65536.
    data.maxcmd.set(u16::try_from(identity.max_commands.entries()).unwrap_or(u16::MAX));
    data.lpa = IdentifyController::LPA_EXTENDED_DATA;
    data.sgls.set(
        IdentifyController::SGLS_SUPPORTED
            | IdentifyController::SGLS_ADDRESS_AS_OFFSET
            | IdentifyController::SGLS_TRANSPORT,
    );
    data.subnqn = identity.subsystem.to_wire();
    data
}

/// Identify Controller data of an I/O controller of a subsystem with several of them.
pub fn io_controller(
    identity: &ControllerIdentity<'_>,
    capabilities: &IoCapabilities,
) -> IdentifyController {
    let mut data = controller(identity);
    data.cntrltype = controller_type::IO;
    data.rab = 6;
    data.cmic = IdentifyController::CMIC_MULTI_CONTROLLER;
    data.mdts = capabilities.mdts;
    data.oaes.set(IdentifyController::OAES_NAMESPACE_ATTRIBUTE);
    data.acl = 3;
    // One firmware slot, which is read-only.
    data.frmw = 1 << 1 | 1;
    data.lpa |= IdentifyController::LPA_COMMAND_EFFECTS;
    data.sqes = 0x66;
    data.cqes = 0x44;
    data.nn.set(capabilities.namespaces);
    data.oncs.set(capabilities.optional_commands);
    if capabilities.optional_commands & IdentifyController::ONCS_COPY != 0 {
        data.ocfs.set(1 << SourceRange::FORMAT);
    }
    // AWUN and AWUPF stay 0: what is written is seen whole block by block, and no more is promised.
    if capabilities.compare_and_write {
        data.fuses.set(IdentifyController::FUSES_COMPARE_AND_WRITE);
        // For every block size that there may be.
        data.acwu.set(zero_based_blocks(COMPARE_AND_WRITE_BYTES, LARGEST_BLOCK_SHIFT));
    }
    data.vwc = IdentifyController::VWC_FLUSH_ALL
        | if capabilities.volatile_write_cache { IdentifyController::VWC_PRESENT } else { 0 };
    data.ioccsz.set((64 + capabilities.in_capsule) / 16);
    data.iorcsz.set(1);
    data.msdbd = 1;
    data.ofcs.set(IdentifyController::OFCS_DISCONNECT);
    data
}

/// Identify Controller data of a discovery controller.
pub fn discovery_controller(identity: &ControllerIdentity<'_>, mdts: u8) -> IdentifyController {
    let mut data = controller(identity);
    data.cntrltype = controller_type::DISCOVERY;
    data.mdts = mdts;
    data.oaes.set(IdentifyController::OAES_DISCOVERY_CHANGE);
    data.dctype = 1;
    data
}

/// Identify Controller data of the NVM command set (CNS 06h): how large the commands without
/// data may be. Limits are powers of two of 4 KiB, 0 for none.
pub fn nvm_controller(verify: u8, write_zeroes: u8) -> IdentifyControllerNvm {
    IdentifyControllerNvm { vsl: verify, wzsl: write_zeroes, ..Default::default() }
}

/// A namespace as its controllers describe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamespaceDescription {
    /// Its size in blocks.
    pub blocks: u64,
    /// The size of a block in bytes as a power of two, 9 or more.
    pub block_shift: u8,
    /// Whether writes are refused.
    pub read_only: bool,
    /// UUID in the order it is written. All identifiers must be the same after every restart:
    /// hosts drop a disk whose identifiers changed.
    pub uuid: [u8; 16],
    /// NGUID in the order it is written.
    pub nguid: [u8; 16],
    /// EUI-64 in the order it is written; zeroes for none.
    pub eui64: [u8; 8],
    /// The ANA group that it is in; 0 where there is no asymmetric access.
    pub ana_group: u32,
    /// Reservation Capabilities, `IdentifyNamespace::RESCAP_*`; 0: there are no reservations.
    pub reservations: u8,
}

impl NamespaceDescription {
    /// A writable namespace of `blocks` blocks of 2^`block_shift` bytes.
    pub fn new(blocks: u64, block_shift: u8, uuid: [u8; 16], nguid: [u8; 16]) -> Self {
        Self {
            blocks,
            block_shift,
            read_only: false,
            uuid,
            nguid,
            eui64: [0; 8],
            ana_group: 0,
            reservations: 0,
        }
    }

    /// Identify Namespace data (CNS 00h).
    pub fn namespace(&self) -> IdentifyNamespace {
        let mut data = IdentifyNamespace::default();
        data.nsze.set(self.blocks);
        data.ncap.set(self.blocks);
        data.nuse.set(self.blocks);
        data.nsfeat = IdentifyNamespace::NSFEAT_UID_REUSE | IdentifyNamespace::NSFEAT_OPTIMAL;
        data.nmic = IdentifyNamespace::NMIC_SHARED;
        data.rescap = self.reservations;
        // NAWUN and NAWUPF stay 0: one block, as for the controller.
        data.nsfeat |= IdentifyNamespace::NSFEAT_ATOMIC;
        data.nacwu.set(zero_based_blocks(COMPARE_AND_WRITE_BYTES, self.block_shift));
        let copy = u32::try_from(COPY_BYTES >> self.block_shift.min(63)).unwrap_or(u32::MAX);
        data.mcl.set(copy);
        data.mssrl.set(u16::try_from(copy).unwrap_or(u16::MAX));
        data.msrc = COPY_RANGES - 1;
        data.dlfeat = IdentifyNamespace::DLFEAT_READS_ZEROES
            | IdentifyNamespace::DLFEAT_WRITE_ZEROES_DEALLOCATE;
        // Whatever the block size, below it are pages of 4 KiB: 0's based counts of blocks.
        let page = (1u16 << 12u8.saturating_sub(self.block_shift).min(12)) - 1;
        for field in [&mut data.npwg, &mut data.npwa, &mut data.npdg, &mut data.npda] {
            field.set(page);
        }
        data.nvmcap.set(u128::from(self.blocks) << self.block_shift.min(63));
        data.nsattr = self.attributes();
        data.nguid = self.nguid;
        data.eui64 = self.eui64;
        data.anagrpid.set(self.ana_group);
        data.lbaf[0] = LbaFormat::new(self.block_shift);
        data
    }

    /// I/O Command Set Independent Identify Namespace data (CNS 08h).
    pub fn independent(&self) -> IndependentNamespace {
        IndependentNamespace {
            anagrpid: self.ana_group.into(),
            nsfeat: IdentifyNamespace::NSFEAT_UID_REUSE,
            nmic: IdentifyNamespace::NMIC_SHARED,
            rescap: self.reservations,
            nsattr: self.attributes(),
            nstat: 1,
            ..Default::default()
        }
    }

    /// Namespace Identification Descriptors (CNS 03h): UUID, NGUID, command set.
    pub fn descriptors(&self) -> DescriptorList {
        let mut list = DescriptorList::new();
        let eui64 = (self.eui64 != [0; 8]).then_some(NamespaceId::Eui64(self.eui64));
        let ids = [
            NamespaceId::Nguid(self.nguid),
            NamespaceId::Uuid(self.uuid),
            NamespaceId::Csi(cns::CSI_NVM),
        ];
        for id in eui64.into_iter().chain(ids) {
            // 57 bytes go into 4096: no descriptor is ever refused.
            let _ = list.push(id);
        }
        list
    }

    fn attributes(&self) -> u8 {
        if self.read_only { IdentifyNamespace::NSATTR_WRITE_PROTECTED } else { 0 }
    }
}

/// Commands Supported and Effects (LID 05h) of an I/O controller that has the mandatory commands
/// and these optional ones (`IdentifyController::ONCS_*`).
pub fn command_effects(optional_commands: u16) -> CommandEffects {
    let mut log = CommandEffects::default();
    let admin_commands = [
        admin::GET_LOG_PAGE,
        admin::IDENTIFY,
        admin::ABORT,
        admin::SET_FEATURES,
        admin::GET_FEATURES,
        admin::ASYNC_EVENT_REQUEST,
        admin::KEEP_ALIVE,
        opcode::FABRICS,
    ];
    for command in admin_commands {
        log.set_admin(command, 0);
    }
    for (command, effects) in
        [(nvm::FLUSH, 0), (nvm::READ, 0), (nvm::WRITE, CommandEffects::CHANGES_DATA)]
    {
        log.set_io(command, effects);
    }
    log.set_io(opcode::FABRICS, 0);
    let optional = [
        (IdentifyController::ONCS_COMPARE, nvm::COMPARE, 0),
        (IdentifyController::ONCS_VERIFY, nvm::VERIFY, 0),
        (IdentifyController::ONCS_DSM, nvm::DATASET_MANAGEMENT, CommandEffects::CHANGES_DATA),
        (IdentifyController::ONCS_WRITE_ZEROES, nvm::WRITE_ZEROES, CommandEffects::CHANGES_DATA),
        (
            IdentifyController::ONCS_WRITE_UNCORRECTABLE,
            nvm::WRITE_UNCORRECTABLE,
            CommandEffects::CHANGES_DATA,
        ),
        (IdentifyController::ONCS_COPY, nvm::COPY, CommandEffects::CHANGES_DATA),
        (IdentifyController::ONCS_RESERVATIONS, nvm::RESERVATION_REGISTER, 0),
        (IdentifyController::ONCS_RESERVATIONS, nvm::RESERVATION_REPORT, 0),
        (IdentifyController::ONCS_RESERVATIONS, nvm::RESERVATION_ACQUIRE, 0),
        (IdentifyController::ONCS_RESERVATIONS, nvm::RESERVATION_RELEASE, 0),
    ];
    for (bit, command, effects) in optional {
        if optional_commands & bit != 0 {
            log.set_io(command, effects);
        }
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::identify::Descriptors;

    fn nqn() -> Nqn {
        Nqn::lenient("nqn.2026-01.org.example:x").unwrap()
    }

    fn with_identity<T>(f: impl FnOnce(&ControllerIdentity<'_>) -> T) -> T {
        let (nqn, serial) = (nqn(), SerialNumber::new("S1").unwrap());
        f(&ControllerIdentity::new(7, &nqn, &serial))
    }

    const IO: IoCapabilities = IoCapabilities {
        mdts: 8,
        in_capsule: 16 << 10,
        namespaces: 3,
        optional_commands: IdentifyController::ONCS_DSM,
        compare_and_write: true,
        volatile_write_cache: true,
    };

    #[test]
    fn capabilities_say_what_linux_wants_to_read() {
        let cap = capabilities(QueueSize::new(1024).unwrap(), Duration::from_secs(15));
        assert_eq!(cap.0, 0x20_1e01_03ff);
        assert_eq!(capabilities(QueueSize::MIN, Duration::MAX).to(), 255);
        assert_eq!(capabilities(QueueSize::MIN, Duration::from_millis(501)).to(), 2);
    }

    #[test]
    fn an_io_controller_passes_the_checks_of_hosts() {
        let data = with_identity(|identity| io_controller(identity, &IO));
        assert_eq!(data.cntlid, 7);
        assert_eq!(data.cntrltype, controller_type::IO);
        assert_eq!(data.kas, 10);
        assert_eq!(data.maxcmd, 1024);
        assert_eq!(data.icdoff, 0);
        assert_eq!(data.iorcsz, 1);
        assert_eq!(data.ioccsz, 4 + 1024);
        assert_eq!(data.in_capsule_data(), 16 << 10);
        assert_eq!(data.max_transfer(4096), Some(1 << 20));
        assert_eq!(data.sgls.get() & 1, 1);
        assert_eq!((data.sqes, data.cqes), (0x66, 0x44));
        assert_eq!((data.aerl, data.vwc), (3, 0b111));
        assert_eq!((data.fuses.get(), data.acwu.get(), data.awun.get()), (1, 31, 0));
        assert_eq!(data.subsystem_nqn().unwrap(), nqn());
        assert_eq!(&data.sn, b"S1                  ");
    }

    #[test]
    fn a_discovery_controller_has_no_namespaces_and_no_io_queues() {
        let data = with_identity(|identity| discovery_controller(identity, 8));
        assert_eq!(data.cntrltype, controller_type::DISCOVERY);
        assert_eq!((data.nn.get(), data.sqes, data.oncs.get()), (0, 0, 0));
        assert_eq!(data.oaes, 1 << 31);
        assert_ne!(data.kas, 0, "persistent connections need Keep Alive");
    }

    #[test]
    fn a_namespace_says_its_size_and_who_it_is() {
        let mut description = NamespaceDescription {
            blocks: 1000,
            block_shift: 9,
            read_only: true,
            uuid: [1; 16],
            nguid: [2; 16],
            eui64: [0; 8],
            ana_group: 5,
            reservations: IdentifyNamespace::RESCAP_ALL_TYPES,
        };
        let data = description.namespace();
        assert_eq!((data.anagrpid.get(), data.eui64), (5, [0; 8]));
        assert_eq!((data.nsze.get(), data.ncap.get(), data.block_size()), (1000, 1000, Some(512)));
        assert_eq!(data.nvmcap, 512_000);
        assert_eq!((data.rescap, description.independent().rescap), (0x7e, 0x7e));
        assert_eq!((data.nawun.get(), data.nawupf.get(), data.nacwu.get()), (0, 0, 255));
        assert_eq!((data.mcl.get(), data.mssrl.get(), data.msrc), (32_768, 32_768, 127));
        assert_eq!(data.nsattr & 1, 1);
        assert_eq!(data.npwg, 7);
        assert_eq!(description.independent().nsattr & 1, 1);
        let list = description.descriptors();
        let ids: Vec<_> = Descriptors::new(list.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(
            ids,
            [NamespaceId::Nguid([2; 16]), NamespaceId::Uuid([1; 16]), NamespaceId::Csi(0)]
        );
        description.block_shift = 12;
        assert_eq!(description.namespace().npwg, 0);
        assert_eq!(
            (description.namespace().nacwu.get(), description.namespace().mcl),
            (31, 4096.into())
        );
        description.eui64 = [3; 8];
        assert_eq!(description.namespace().eui64, [3; 8]);
        let list = description.descriptors();
        let first = Descriptors::new(list.as_bytes()).next().unwrap();
        assert_eq!(first.unwrap(), NamespaceId::Eui64([3; 8]));
    }

    #[test]
    fn effects_list_exactly_the_commands_there_are() {
        let log = command_effects(IdentifyController::ONCS_DSM);
        assert_eq!(log.acs[0x06], 1);
        assert_eq!(log.acs[0x01], 0, "Create I/O Submission Queue is PCIe's");
        assert_eq!(log.iocs[0x01], 0b11);
        assert_eq!(log.iocs[0x09], 0b11);
        assert_eq!(log.iocs[0x08], 0);
        assert_eq!(log.iocs[0x0d], 0);
        let log = command_effects(IdentifyController::ONCS_RESERVATIONS);
        assert!([0x0d, 0x0e, 0x11, 0x15].iter().all(|command| log.iocs[*command] == 1));
    }
}
