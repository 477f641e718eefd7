//! Identify Controller (CNS 01h; Base 2.1, section 5.1.13).

use zerocopy::little_endian::{U16, U32, U64, U128};

use super::{Ascii, write_ascii};
use crate::nqn::{Nqn, NqnError};
use crate::wire::wire;

wire! {
    /// Identify Controller data structure: what a controller is and can do.
    ///
    /// Lengths given as a power of two count in units of the minimum memory page size (CAP.MPSMIN;
    /// 4 KiB here). Fields marked 0's based hold one less than they mean.
    pub struct IdentifyController: 4096 bytes {
        /// PCI Vendor ID.
        0 => vid: U16,
        /// PCI Subsystem Vendor ID.
        2 => ssvid: U16,
        /// Serial Number, ASCII.
        4 => sn: [u8; 20],
        /// Model Number, ASCII.
        24 => mn: [u8; 40],
        /// Firmware Revision, ASCII.
        64 => fr: [u8; 8],
        /// Recommended Arbitration Burst, as a power of two of commands.
        72 => rab: u8,
        /// IEEE OUI Identifier, least significant byte first.
        73 => ieee: [u8; 3],
        /// Controller Multi-Path I/O and Namespace Sharing Capabilities (`CMIC_*`).
        76 => cmic: u8,
        /// Maximum Data Transfer Size, as a power of two of pages; 0: no limit.
        77 => mdts: u8,
        /// Controller ID.
        78 => cntlid: U16,
        /// Version, as in property VS.
        80 => ver: U32,
        /// RTD3 Resume Latency, in microseconds.
        84 => rtd3r: U32,
        /// RTD3 Entry Latency, in microseconds.
        88 => rtd3e: U32,
        /// Optional Asynchronous Events Supported (`OAES_*`).
        92 => oaes: U32,
        /// Controller Attributes (`CTRATT_*`).
        96 => ctratt: U32,
        /// Read Recovery Levels Supported.
        100 => rrls: U16,
        /// Boot Partition Capabilities.
        102 => bpcap: u8,
        /// Reserved.
        103 => reserved1: u8,
        /// NVM Subsystem Shutdown Latency, in microseconds.
        104 => nssl: U32,
        /// Reserved.
        108 => reserved2: [u8; 2],
        /// Power Loss Signaling Information.
        110 => plsi: u8,
        /// Controller Type ([`controller_type`]).
        111 => cntrltype: u8,
        /// FRU Globally Unique Identifier.
        112 => fguid: [u8; 16],
        /// Command Retry Delay Time 1, in units of 100 ms.
        128 => crdt1: U16,
        /// Command Retry Delay Time 2, in units of 100 ms.
        130 => crdt2: U16,
        /// Command Retry Delay Time 3, in units of 100 ms.
        132 => crdt3: U16,
        /// Controller Reachability Capabilities.
        134 => crcap: u8,
        /// Controller Instance Uniquifier: changes each time the controller comes into being.
        135 => ciu: u8,
        /// Controller Instance Random Number.
        136 => cirn: U64,
        /// Reserved.
        144 => reserved3: [u8; 109],
        /// NVM Subsystem Report (NVMe-MI).
        253 => nvmsr: u8,
        /// VPD Write Cycle Information (NVMe-MI).
        254 => vwci: u8,
        /// Management Endpoint Capabilities (NVMe-MI).
        255 => mec: u8,
        /// Optional Admin Command Support (`OACS_*`).
        256 => oacs: U16,
        /// Abort Command Limit, 0's based.
        258 => acl: u8,
        /// Asynchronous Event Request Limit, 0's based.
        259 => aerl: u8,
        /// Firmware Updates.
        260 => frmw: u8,
        /// Log Page Attributes (`LPA_*`).
        261 => lpa: u8,
        /// Error Log Page Entries, 0's based.
        262 => elpe: u8,
        /// Number of Power States Support, 0's based.
        263 => npss: u8,
        /// Admin Vendor Specific Command Configuration.
        264 => avscc: u8,
        /// Autonomous Power State Transition Attributes.
        265 => apsta: u8,
        /// Warning Composite Temperature Threshold, in kelvins.
        266 => wctemp: U16,
        /// Critical Composite Temperature Threshold, in kelvins.
        268 => cctemp: U16,
        /// Maximum Time for Firmware Activation, in units of 100 ms.
        270 => mtfa: U16,
        /// Host Memory Buffer Preferred Size, in units of 4 KiB.
        272 => hmpre: U32,
        /// Host Memory Buffer Minimum Size, in units of 4 KiB.
        276 => hmmin: U32,
        /// Total NVM Capacity, in bytes.
        280 => tnvmcap: U128,
        /// Unallocated NVM Capacity, in bytes.
        296 => unvmcap: U128,
        /// Replay Protected Memory Block Support.
        312 => rpmbs: U32,
        /// Extended Device Self-test Time, in minutes.
        316 => edstt: U16,
        /// Device Self-test Options.
        318 => dsto: u8,
        /// Firmware Update Granularity, in units of 4 KiB.
        319 => fwug: u8,
        /// Keep Alive Support: granularity of the timer, in units of 100 ms; 0: no Keep Alive.
        320 => kas: U16,
        /// Host Controlled Thermal Management Attributes.
        322 => hctma: U16,
        /// Minimum Thermal Management Temperature, in kelvins.
        324 => mntmt: U16,
        /// Maximum Thermal Management Temperature, in kelvins.
        326 => mxtmt: U16,
        /// Sanitize Capabilities.
        328 => sanicap: U32,
        /// Host Memory Buffer Minimum Descriptor Entry Size, in units of 4 KiB.
        332 => hmminds: U32,
        /// Host Memory Maximum Descriptors Entries.
        336 => hmmaxd: U16,
        /// NVM Set Identifier Maximum.
        338 => nsetidmax: U16,
        /// Endurance Group Identifier Maximum.
        340 => endgidmax: U16,
        /// ANA Transition Time, in seconds.
        342 => anatt: u8,
        /// Asymmetric Namespace Access Capabilities (`ANACAP_*`).
        343 => anacap: u8,
        /// ANA Group Identifier Maximum.
        344 => anagrpmax: U32,
        /// Number of ANA Group Identifiers.
        348 => nanagrpid: U32,
        /// Persistent Event Log Size, in units of 64 KiB.
        352 => pels: U32,
        /// Domain Identifier.
        356 => domainid: U16,
        /// Key Per I/O Capabilities.
        358 => kpioc: u8,
        /// Reserved.
        359 => reserved4: u8,
        /// Maximum Processing Time for Firmware Activation Without Reset, in units of 100 ms.
        360 => mptfawr: U16,
        /// Reserved.
        362 => reserved5: [u8; 6],
        /// Max Endurance Group Capacity, in bytes.
        368 => megcap: U128,
        /// Temperature Threshold Hysteresis Attributes.
        384 => tmpthha: u8,
        /// Reserved.
        385 => reserved6: u8,
        /// Command Quiesce Time, in milliseconds: after losing contact, how long until the
        /// controller has certainly stopped executing commands.
        386 => cqt: U16,
        /// Configurable Device Personality Attributes.
        388 => cdpa: U16,
        /// Maximum Unlimited Power.
        390 => mup: U16,
        /// Interval Power Measurement Sample Rate.
        392 => ipmsr: U16,
        /// Maximum Stop Measurement Time.
        394 => msmt: U16,
        /// Reserved.
        396 => reserved7: [u8; 116],
        /// Submission Queue Entry Size: required 3:0 and maximum 7:4, powers of two of bytes.
        512 => sqes: u8,
        /// Completion Queue Entry Size: required 3:0 and maximum 7:4, powers of two of bytes.
        513 => cqes: u8,
        /// Maximum Outstanding Commands per queue.
        514 => maxcmd: U16,
        /// Number of Namespaces: the greatest valid namespace identifier.
        516 => nn: U32,
        /// Optional NVM Command Support (`ONCS_*`).
        520 => oncs: U16,
        /// Fused Operation Support (`FUSES_*`).
        522 => fuses: U16,
        /// Format NVM Attributes.
        524 => fna: u8,
        /// Volatile Write Cache (`VWC_*`).
        525 => vwc: u8,
        /// Atomic Write Unit Normal, in blocks, 0's based.
        526 => awun: U16,
        /// Atomic Write Unit Power Fail, in blocks, 0's based.
        528 => awupf: U16,
        /// I/O Command Set Vendor Specific Command Configuration.
        530 => icsvscc: u8,
        /// Namespace Write Protection Capabilities.
        531 => nwpc: u8,
        /// Atomic Compare & Write Unit, in blocks, 0's based.
        532 => acwu: U16,
        /// Optional Copy Formats Supported (Copy Descriptor Formats Supported), one bit each.
        534 => ocfs: U16,
        /// SGL Support (`SGLS_*`).
        536 => sgls: U32,
        /// Maximum Number of Allowed Namespaces.
        540 => mnan: U32,
        /// Maximum Domain Namespace Attachments.
        544 => maxdna: U128,
        /// Maximum I/O Controller Namespace Attachments.
        560 => maxcna: U32,
        /// Optimal Aggregated Queue Depth.
        564 => oaqd: U32,
        /// Recommended Host-Initiated Refresh Interval, in days.
        568 => rhiri: u8,
        /// Host-Initiated Refresh Time, in minutes.
        569 => hirt: u8,
        /// Controller Maximum Memory Range Tracking Descriptors.
        570 => cmmrtd: U16,
        /// NVM Subsystem Maximum Memory Range Tracking Descriptors.
        572 => nmmrtd: U16,
        /// Minimum Memory Range Tracking Granularity.
        574 => minmrtg: u8,
        /// Maximum Memory Range Tracking Granularity.
        575 => maxmrtg: u8,
        /// Tracking Attributes.
        576 => trattr: u8,
        /// Reserved.
        577 => reserved8: u8,
        /// Maximum Controller User Data Migration Queues.
        578 => mcudmq: U16,
        /// Maximum NVM Subsystem User Data Migration Queues.
        580 => mnsudmq: U16,
        /// Maximum CDQ Memory Ranges.
        582 => mcmr: U16,
        /// NVM Subsystem Maximum CDQ Memory Ranges.
        584 => nmcmr: U16,
        /// Maximum Controller Data Queue PRP Count.
        586 => mcdqpc: U16,
        /// Reserved.
        588 => reserved9: [u8; 180],
        /// NVM Subsystem NVMe Qualified Name, closed by a NUL.
        768 => subnqn: [u8; 256],
        /// Reserved.
        1024 => reserved10: [u8; 768],
        /// I/O Queue Command Capsule Supported Size, in units of 16 bytes, with in-capsule data.
        1792 => ioccsz: U32,
        /// I/O Queue Response Capsule Supported Size, in units of 16 bytes.
        1796 => iorcsz: U32,
        /// In Capsule Data Offset, in units of 16 bytes from the end of the command.
        1800 => icdoff: U16,
        /// Fabrics Controller Attributes: bit 0 set if controllers are allocated statically.
        1802 => fcatt: u8,
        /// Maximum SGL Data Block Descriptors in a capsule; 0: no limit.
        1803 => msdbd: u8,
        /// Optional Fabrics Commands Support (`OFCS_*`).
        1804 => ofcs: U16,
        /// Discovery Controller Type: 0 not reported, 1 direct (DDC), 2 central (CDC).
        1806 => dctype: u8,
        /// Cross-Controller Reset Limit.
        1807 => ccrl: u8,
        /// Reserved.
        1808 => reserved11: [u8; 240],
        /// Power State Descriptors, of which NPSS + 1 mean something.
        2048 => psd: [PowerState; 32],
        /// Vendor specific.
        3072 => vs: [u8; 1024],
    }
}

/// Values of [`IdentifyController::cntrltype`].
pub mod controller_type {
    /// I/O controller.
    pub const IO: u8 = 1;
    /// Discovery controller.
    pub const DISCOVERY: u8 = 2;
    /// Administrative controller.
    pub const ADMIN: u8 = 3;
}

/// Bits of the capability fields.
#[allow(
    missing_docs,
    reason = "each name is its field and the name the specification gives the bit"
)]
impl IdentifyController {
    pub const CMIC_MULTI_PORT: u8 = 1 << 0;
    pub const CMIC_MULTI_CONTROLLER: u8 = 1 << 1;
    pub const CMIC_SRIOV: u8 = 1 << 2;
    pub const CMIC_ANA: u8 = 1 << 3;

    pub const OAES_NAMESPACE_ATTRIBUTE: u32 = 1 << 8;
    pub const OAES_FIRMWARE_ACTIVATION: u32 = 1 << 9;
    pub const OAES_ANA_CHANGE: u32 = 1 << 11;
    pub const OAES_DISCOVERY_CHANGE: u32 = 1 << 31;

    pub const CTRATT_HOSTID_128: u32 = 1 << 0;
    pub const CTRATT_TRAFFIC_BASED_KEEP_ALIVE: u32 = 1 << 6;
    pub const CTRATT_EXTENDED_LBA_FORMATS: u32 = 1 << 15;

    pub const OACS_SECURITY: u16 = 1 << 0;
    pub const OACS_FORMAT: u16 = 1 << 1;
    pub const OACS_FIRMWARE: u16 = 1 << 2;
    pub const OACS_NAMESPACE_MANAGEMENT: u16 = 1 << 3;

    pub const LPA_SMART_PER_NAMESPACE: u8 = 1 << 0;
    pub const LPA_COMMAND_EFFECTS: u8 = 1 << 1;
    pub const LPA_EXTENDED_DATA: u8 = 1 << 2;
    pub const LPA_MISC: u8 = 1 << 5;

    pub const ANACAP_OPTIMIZED: u8 = 1 << 0;
    pub const ANACAP_NON_OPTIMIZED: u8 = 1 << 1;
    pub const ANACAP_INACCESSIBLE: u8 = 1 << 2;
    pub const ANACAP_PERSISTENT_LOSS: u8 = 1 << 3;
    pub const ANACAP_CHANGE: u8 = 1 << 4;
    pub const ANACAP_GROUP_FIXED: u8 = 1 << 6;
    pub const ANACAP_NONZERO_GROUP: u8 = 1 << 7;

    pub const ONCS_COMPARE: u16 = 1 << 0;
    pub const ONCS_WRITE_UNCORRECTABLE: u16 = 1 << 1;
    pub const ONCS_DSM: u16 = 1 << 2;
    pub const ONCS_WRITE_ZEROES: u16 = 1 << 3;
    pub const ONCS_SAVE_SELECT: u16 = 1 << 4;
    pub const ONCS_RESERVATIONS: u16 = 1 << 5;
    pub const ONCS_TIMESTAMP: u16 = 1 << 6;
    pub const ONCS_VERIFY: u16 = 1 << 7;
    pub const ONCS_COPY: u16 = 1 << 8;

    pub const FUSES_COMPARE_AND_WRITE: u16 = 1 << 0;

    pub const VWC_PRESENT: u8 = 1 << 0;
    /// Flush of NSID FFFFFFFFh is not supported (bits 2:1 = 10b).
    pub const VWC_FLUSH_ALL_UNSUPPORTED: u8 = 0b10 << 1;
    /// Flush of NSID FFFFFFFFh flushes all namespaces (bits 2:1 = 11b).
    pub const VWC_FLUSH_ALL: u8 = 0b11 << 1;

    /// SGLs are supported without alignment requirement (bits 1:0 = 01b).
    pub const SGLS_SUPPORTED: u32 = 1;
    pub const SGLS_KEYED: u32 = 1 << 2;
    pub const SGLS_ADDRESS_AS_OFFSET: u32 = 1 << 20;
    pub const SGLS_TRANSPORT: u32 = 1 << 21;

    pub const FCATT_STATIC: u8 = 1 << 0;

    pub const OFCS_DISCONNECT: u16 = 1 << 0;
}

impl IdentifyController {
    /// Serial number.
    pub fn serial_number(&self) -> Ascii<'_> {
        Ascii::new(&self.sn)
    }

    /// Model number.
    pub fn model_number(&self) -> Ascii<'_> {
        Ascii::new(&self.mn)
    }

    /// Firmware revision.
    pub fn firmware_revision(&self) -> Ascii<'_> {
        Ascii::new(&self.fr)
    }

    /// Sets serial number (20 bytes), model number (40) and firmware revision (8), cut if longer.
    pub fn set_names(&mut self, serial: &str, model: &str, firmware: &str) {
        write_ascii(&mut self.sn, serial);
        write_ascii(&mut self.mn, model);
        write_ascii(&mut self.fr, firmware);
    }

    /// The IEEE organizationally unique identifier, as the 24-bit number it is printed as.
    pub const fn oui(&self) -> u32 {
        u32::from_le_bytes([self.ieee[0], self.ieee[1], self.ieee[2], 0])
    }

    /// The subsystem's name.
    pub fn subsystem_nqn(&self) -> Result<Nqn, NqnError> {
        Nqn::from_wire(&self.subnqn)
    }

    /// The most bytes one command may transfer, when pages have `page` bytes (4096 << CAP.MPSMIN);
    /// `None` for no limit.
    pub const fn max_transfer(&self, page: u32) -> Option<u64> {
        match self.mdts {
            0 => None,
            // A shift that loses bits means more than anyone can send.
            mdts if mdts < 32 => Some((page as u64) << mdts),
            _ => None,
        }
    }

    /// The most bytes of data that fit into a command capsule on an I/O queue: IOCCSZ less the
    /// 64 bytes of the command.
    pub fn in_capsule_data(&self) -> u64 {
        (u64::from(self.ioccsz.get()) * 16).saturating_sub(64)
    }
}

wire! {
    /// Power State Descriptor (Base 2.1, section 5.1.13).
    pub struct PowerState: 32 bytes {
        /// Maximum Power, in units that `flags` choose.
        0 => mp: U16,
        /// Reserved.
        2 => reserved1: u8,
        /// Bit 0: MP counts 0.0001 W instead of 0.01 W; bit 1: not operational.
        3 => flags: u8,
        /// Entry Latency, in microseconds.
        4 => enlat: U32,
        /// Exit Latency, in microseconds.
        8 => exlat: U32,
        /// Relative Read Throughput, 0 is best.
        12 => rrt: u8,
        /// Relative Read Latency, 0 is best.
        13 => rrl: u8,
        /// Relative Write Throughput, 0 is best.
        14 => rwt: u8,
        /// Relative Write Latency, 0 is best.
        15 => rwl: u8,
        /// Idle Power.
        16 => idlp: U16,
        /// Idle Power Scale, bits 7:6.
        18 => ips: u8,
        /// Reserved.
        19 => reserved2: u8,
        /// Active Power.
        20 => actp: U16,
        /// Active Power Workload 2:0, Active Power Scale 7:6.
        22 => apws: u8,
        /// Emergency Power Fail Recovery Time.
        23 => epfrt: u8,
        /// Forced Quiescence Vault Time.
        24 => fqvt: u8,
        /// Emergency Power Fail Vault Time.
        25 => epfvt: u8,
        /// Scales of EPFRT 3:0 and FQVT 7:4.
        26 => epfr_fqv_ts: u8,
        /// Scale of EPFVT 3:0.
        27 => epfvts: u8,
        /// Reserved.
        28 => reserved3: [u8; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let mut id = IdentifyController::default();
        id.vid.set(0x1234);
        id.set_names("SERIAL", "a model", "1.0");
        id.cntlid.set(0xabcd);
        id.kas.set(10);
        id.cqt.set(0x0102);
        id.nn.set(0x0403_0201);
        id.sgls.set(IdentifyController::SGLS_SUPPORTED | IdentifyController::SGLS_TRANSPORT);
        id.subnqn = Nqn::DISCOVERY.to_wire();
        id.ioccsz.set(516);
        id.ofcs.set(IdentifyController::OFCS_DISCONNECT);
        id.psd[1].mp.set(2500);

        let bytes = id.as_bytes();
        assert_eq!(bytes[0..2], [0x34, 0x12]);
        assert_eq!(&bytes[4..24], b"SERIAL              ");
        assert_eq!(&bytes[24..32], b"a model ");
        assert_eq!(&bytes[64..72], b"1.0     ");
        assert_eq!(bytes[78..80], [0xcd, 0xab]);
        assert_eq!(bytes[320..322], [10, 0]);
        assert_eq!(bytes[386..388], [2, 1]);
        assert_eq!(bytes[516..520], [1, 2, 3, 4]);
        assert_eq!(bytes[536..540], [1, 0, 0x20, 0]);
        assert_eq!(&bytes[768..772], b"nqn.");
        assert_eq!(bytes[1792..1794], [4, 2]);
        assert_eq!(bytes[1804], 1);
        assert_eq!(bytes[2080..2082], [0xc4, 0x09]);
        assert_eq!(IdentifyController::read_from_bytes(bytes), Ok(id));
    }

    #[test]
    fn lengths_are_counted_in_bytes() {
        let mut id = IdentifyController::default();
        assert_eq!(id.max_transfer(4096), None);
        id.mdts = 5;
        assert_eq!(id.max_transfer(4096), Some(128 << 10));
        id.mdts = 255;
        assert_eq!(id.max_transfer(4096), None);
        assert_eq!(id.in_capsule_data(), 0);
        id.ioccsz.set(4 + 8192 / 16);
        assert_eq!(id.in_capsule_data(), 8192);
        id.ioccsz.set(u32::MAX);
        assert_eq!(id.in_capsule_data(), u64::from(u32::MAX) * 16 - 64);
    }

    #[test]
    fn names_read_back_without_padding() {
        let mut id = IdentifyController::default();
        id.set_names("S1", "model x", "12345678");
        assert_eq!(id.serial_number().as_str(), Some("S1"));
        assert_eq!(id.model_number().as_str(), Some("model x"));
        assert_eq!(id.firmware_revision().as_str(), Some("12345678"));
        id.ieee = [0x56, 0x34, 0x12];
        assert_eq!(id.oui(), 0x12_3456);
        assert_eq!(id.subsystem_nqn(), Err(NqnError::Empty));
    }
}
