//! Status codes: what a completion says of its command (NVMe Base 2.1, 4.2.3; NVM Command Set 1.1,
//! 3.1.1; the Fabrics codes of Base 2.1, 6).

use core::fmt;

/// The 15-bit status field of a completion, without the phase tag that shares its word.
///
/// | bits | field |
/// |---|---|
/// | 7:0 | SC, status code |
/// | 10:8 | SCT, status code type |
/// | 12:11 | CRD, which command retry delay applies (0: none) |
/// | 13 | M, the Error Information log says more |
/// | 14 | DNR, a retry on this controller will fail too |
///
/// Two statuses are equal when all of these are; [`Status::same_code`] compares type and code alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(u16);

const CODE_MASK: u16 = 0x07ff;
const CRD_SHIFT: u32 = 11;
const CRD_MASK: u16 = 0x3 << CRD_SHIFT;
const MORE: u16 = 1 << 13;
const DNR: u16 = 1 << 14;

/// Status code type 0: applies to any command.
pub const SCT_GENERIC: u8 = 0;
/// Status code type 1: the meaning depends on the command.
pub const SCT_COMMAND_SPECIFIC: u8 = 1;
/// Status code type 2: media and data integrity errors.
pub const SCT_MEDIA: u8 = 2;
/// Status code type 3: path related, among them the asymmetric access states.
pub const SCT_PATH: u8 = 3;
/// Status code type 7: vendor specific.
pub const SCT_VENDOR: u8 = 7;

/// Which set of command specific codes applies: codes 80h and up of type 1 are used twice, once by
/// the Fabrics commands and once by the I/O command sets, so the number alone does not name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// Opcode 7Fh: Connect, Disconnect, Property Get and Set, authentication; and, for code 90h and
    /// 91h, whatever command was answered with it.
    Fabrics,
    /// A command of the NVM or Zoned Namespace command set.
    Io,
    /// Any other Admin command.
    Admin,
}

impl Status {
    /// A status of this type and code, with CRD, M and DNR clear. Bits of `sct` beyond three are
    /// dropped.
    pub const fn new(sct: u8, sc: u8) -> Status {
        Status((((sct & 0x7) as u16) << 8) | sc as u16)
    }

    /// From the last word of a completion, whose bit 0 is the phase tag.
    pub const fn from_wire(word: u16) -> Status {
        Status(word >> 1)
    }

    /// To the last word of a completion, phase tag 0 as Fabrics has it.
    pub const fn to_wire(self) -> u16 {
        self.0 << 1
    }

    /// The 15 bits as they are printed by most tools (`0x4002`).
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// Status code type.
    #[allow(clippy::cast_possible_truncation, reason = "masked to three bits")]
    pub const fn sct(self) -> u8 {
        ((self.0 >> 8) & 0x7) as u8
    }

    /// Status code.
    #[allow(clippy::cast_possible_truncation, reason = "masked to eight bits")]
    pub const fn sc(self) -> u8 {
        (self.0 & 0xff) as u8
    }

    /// Command retry delay: 0 for none, else 1..=3 for CRDT1..CRDT3 of Identify Controller.
    #[allow(clippy::cast_possible_truncation, reason = "masked to two bits")]
    pub const fn crd(self) -> u8 {
        ((self.0 & CRD_MASK) >> CRD_SHIFT) as u8
    }

    /// Whether the Error Information log has more to say.
    pub const fn more(self) -> bool {
        self.0 & MORE != 0
    }

    /// Do Not Retry: the same command to any controller of the subsystem is expected to fail again.
    pub const fn dnr(self) -> bool {
        self.0 & DNR != 0
    }

    /// The same status with DNR set or cleared.
    pub const fn with_dnr(self, dnr: bool) -> Status {
        Status(if dnr { self.0 | DNR } else { self.0 & !DNR })
    }

    /// The same status with M set or cleared.
    pub const fn with_more(self, more: bool) -> Status {
        Status(if more { self.0 | MORE } else { self.0 & !MORE })
    }

    /// The same status with this command retry delay (its low two bits).
    pub const fn with_crd(self, crd: u8) -> Status {
        Status((self.0 & !CRD_MASK) | (((crd & 0x3) as u16) << CRD_SHIFT))
    }

    /// Whether the command succeeded: type 0, code 0.
    pub const fn is_success(self) -> bool {
        self.0 & CODE_MASK == 0
    }

    /// Whether type and code agree, whatever CRD, M and DNR say.
    pub const fn same_code(self, other: Status) -> bool {
        self.0 & CODE_MASK == other.0 & CODE_MASK
    }

    /// The name the specifications give this code.
    ///
    /// Where a code is used by both the Fabrics commands and an I/O command set, both names are
    /// given, the Fabrics one first; [`Status::name_for`] picks one. Codes this crate does not
    /// know are named by the range they fall into.
    pub const fn name(self) -> &'static str {
        if self.sct() == SCT_COMMAND_SPECIFIC
            && let Some(name) = shared_name(self.sc())
        {
            return name;
        }
        self.name_for(CommandKind::Io)
    }

    /// The name of this code in answer to a command of this kind.
    pub const fn name_for(self, kind: CommandKind) -> &'static str {
        let code = self.0 & CODE_MASK;
        let own = match kind {
            CommandKind::Fabrics => fabrics_name(code),
            CommandKind::Io => io_name(code),
            CommandKind::Admin => None,
        };
        // Discover Restart and Authentication Required may answer any command, hence Fabrics last.
        match (own, common_name(code), fabrics_name(code)) {
            (Some(name), _, _) | (None, Some(name), _) => name,
            (None, None, Some(name)) if matches!(self.sc(), 0x90 | 0x91) => name,
            _ => self.range_name(),
        }
    }

    const fn range_name(self) -> &'static str {
        match (self.sct(), self.sc()) {
            (_, 0xc0..) | (SCT_VENDOR, _) => "Vendor Specific",
            (SCT_GENERIC, _) => "Unknown Generic Status",
            (SCT_COMMAND_SPECIFIC, _) => "Unknown Command Specific Status",
            (SCT_MEDIA, _) => "Unknown Media and Data Integrity Status",
            (SCT_PATH, _) => "Unknown Path Related Status",
            _ => "Reserved Status Code Type",
        }
    }
}

/// Prints the name, the numbers, and whatever else is set:
/// `Invalid Field in Command (sct 0h sc 02h, dnr)`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (sct {:x}h sc {:02x}h", self.name(), self.sct(), self.sc())?;
        if self.crd() != 0 {
            write!(f, ", crd {}", self.crd())?;
        }
        if self.more() {
            f.write_str(", more")?;
        }
        if self.dnr() {
            f.write_str(", dnr")?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({self})")
    }
}

/// One line per code: the constant, its type and code, its printed name.
macro_rules! codes {
    ($( $(#[$outer:meta])* $lookup:ident { $( $name:ident = $sct:literal / $sc:literal, $text:literal; )* } )*) => {
        impl Status {
            $( $(
                #[doc = concat!($text, " (type ", stringify!($sct), ", code ", stringify!($sc), ").")]
                pub const $name: Status = Status::new($sct, $sc);
            )* )*
        }

        $(
            $(#[$outer])*
            const fn $lookup(code: u16) -> Option<&'static str> {
                match Status(code) {
                    $( Status::$name => Some($text), )*
                    _ => None,
                }
            }
        )*

        #[cfg(test)]
        const ALL: &[(&[(Status, &str)], &str)] = &[
            $( (&[ $( (Status::$name, $text), )* ], stringify!($lookup)), )*
        ];
    };
}

codes! {
    common_name {
        SUCCESS = 0/0x00, "Successful Completion";
        INVALID_OPCODE = 0/0x01, "Invalid Command Opcode";
        INVALID_FIELD = 0/0x02, "Invalid Field in Command";
        COMMAND_ID_CONFLICT = 0/0x03, "Command ID Conflict";
        DATA_TRANSFER_ERROR = 0/0x04, "Data Transfer Error";
        ABORTED_POWER_LOSS = 0/0x05, "Commands Aborted due to Power Loss Notification";
        INTERNAL_ERROR = 0/0x06, "Internal Error";
        ABORT_REQUESTED = 0/0x07, "Command Abort Requested";
        ABORTED_SQ_DELETION = 0/0x08, "Command Aborted due to SQ Deletion";
        ABORTED_FAILED_FUSED = 0/0x09, "Command Aborted due to Failed Fused Command";
        ABORTED_MISSING_FUSED = 0/0x0a, "Command Aborted due to Missing Fused Command";
        INVALID_NAMESPACE = 0/0x0b, "Invalid Namespace or Format";
        COMMAND_SEQUENCE_ERROR = 0/0x0c, "Command Sequence Error";
        INVALID_SGL_SEGMENT = 0/0x0d, "Invalid SGL Segment Descriptor";
        INVALID_SGL_COUNT = 0/0x0e, "Invalid Number of SGL Descriptors";
        DATA_SGL_LENGTH_INVALID = 0/0x0f, "Data SGL Length Invalid";
        METADATA_SGL_LENGTH_INVALID = 0/0x10, "Metadata SGL Length Invalid";
        SGL_DESCRIPTOR_TYPE_INVALID = 0/0x11, "SGL Descriptor Type Invalid";
        INVALID_CMB_USE = 0/0x12, "Invalid Use of Controller Memory Buffer";
        PRP_OFFSET_INVALID = 0/0x13, "PRP Offset Invalid";
        ATOMIC_WRITE_UNIT_EXCEEDED = 0/0x14, "Atomic Write Unit Exceeded";
        OPERATION_DENIED = 0/0x15, "Operation Denied";
        SGL_OFFSET_INVALID = 0/0x16, "SGL Offset Invalid";
        HOST_IDENTIFIER_INCONSISTENT = 0/0x18, "Host Identifier Inconsistent Format";
        KEEP_ALIVE_EXPIRED = 0/0x19, "Keep Alive Timer Expired";
        KEEP_ALIVE_INVALID = 0/0x1a, "Keep Alive Timeout Invalid";
        ABORTED_PREEMPT = 0/0x1b, "Command Aborted due to Preempt and Abort";
        SANITIZE_FAILED = 0/0x1c, "Sanitize Failed";
        SANITIZE_IN_PROGRESS = 0/0x1d, "Sanitize In Progress";
        SGL_GRANULARITY_INVALID = 0/0x1e, "SGL Data Block Granularity Invalid";
        NOT_SUPPORTED_FOR_CMB_QUEUE = 0/0x1f, "Command Not Supported for Queue in CMB";
        NAMESPACE_WRITE_PROTECTED = 0/0x20, "Namespace is Write Protected";
        COMMAND_INTERRUPTED = 0/0x21, "Command Interrupted";
        TRANSIENT_TRANSPORT_ERROR = 0/0x22, "Transient Transport Error";
        PROHIBITED_BY_LOCKDOWN = 0/0x23, "Command Prohibited by Command and Feature Lockdown";
        ADMIN_MEDIA_NOT_READY = 0/0x24, "Admin Command Media Not Ready";
        INVALID_KEY_TAG = 0/0x25, "Invalid Key Tag";
        HOST_DISPERSED_NAMESPACE_NOT_ENABLED = 0/0x26, "Host Dispersed Namespace Support Not Enabled";
        HOST_IDENTIFIER_NOT_INITIALIZED = 0/0x27, "Host Identifier Not Initialized";
        INCORRECT_KEY = 0/0x28, "Incorrect Key";
        FDP_DISABLED = 0/0x29, "FDP Disabled";
        INVALID_PLACEMENT_HANDLE_LIST = 0/0x2a, "Invalid Placement Handle List";
        LBA_OUT_OF_RANGE = 0/0x80, "LBA Out of Range";
        CAPACITY_EXCEEDED = 0/0x81, "Capacity Exceeded";
        NAMESPACE_NOT_READY = 0/0x82, "Namespace Not Ready";
        RESERVATION_CONFLICT = 0/0x83, "Reservation Conflict";
        FORMAT_IN_PROGRESS = 0/0x84, "Format In Progress";
        INVALID_VALUE_SIZE = 0/0x85, "Invalid Value Size";
        INVALID_KEY_SIZE = 0/0x86, "Invalid Key Size";
        KEY_DOES_NOT_EXIST = 0/0x87, "KV Key Does Not Exist";
        UNRECOVERED_ERROR = 0/0x88, "Unrecovered Error";
        KEY_EXISTS = 0/0x89, "Key Exists";

        COMPLETION_QUEUE_INVALID = 1/0x00, "Completion Queue Invalid";
        INVALID_QUEUE_IDENTIFIER = 1/0x01, "Invalid Queue Identifier";
        INVALID_QUEUE_SIZE = 1/0x02, "Invalid Queue Size";
        ABORT_LIMIT = 1/0x03, "Abort Command Limit Exceeded";
        ABORT_MISSING = 1/0x04, "Abort Command Is Missing";
        AER_LIMIT_EXCEEDED = 1/0x05, "Asynchronous Event Request Limit Exceeded";
        INVALID_FIRMWARE_SLOT = 1/0x06, "Invalid Firmware Slot";
        INVALID_FIRMWARE_IMAGE = 1/0x07, "Invalid Firmware Image";
        INVALID_INTERRUPT_VECTOR = 1/0x08, "Invalid Interrupt Vector";
        INVALID_LOG_PAGE = 1/0x09, "Invalid Log Page";
        INVALID_FORMAT = 1/0x0a, "Invalid Format";
        FIRMWARE_NEEDS_CONVENTIONAL_RESET = 1/0x0b, "Firmware Activation Requires Conventional Reset";
        INVALID_QUEUE_DELETION = 1/0x0c, "Invalid Queue Deletion";
        FEATURE_NOT_SAVEABLE = 1/0x0d, "Feature Identifier Not Saveable";
        FEATURE_NOT_CHANGEABLE = 1/0x0e, "Feature Not Changeable";
        FEATURE_NOT_NAMESPACE_SPECIFIC = 1/0x0f, "Feature Not Namespace Specific";
        FIRMWARE_NEEDS_SUBSYSTEM_RESET = 1/0x10, "Firmware Activation Requires NVM Subsystem Reset";
        FIRMWARE_NEEDS_RESET = 1/0x11, "Firmware Activation Requires Controller Level Reset";
        FIRMWARE_MAX_TIME_VIOLATION = 1/0x12, "Firmware Activation Requires Maximum Time Violation";
        FIRMWARE_ACTIVATION_PROHIBITED = 1/0x13, "Firmware Activation Prohibited";
        OVERLAPPING_RANGE = 1/0x14, "Overlapping Range";
        NAMESPACE_INSUFFICIENT_CAPACITY = 1/0x15, "Namespace Insufficient Capacity";
        NAMESPACE_IDENTIFIER_UNAVAILABLE = 1/0x16, "Namespace Identifier Unavailable";
        NAMESPACE_ALREADY_ATTACHED = 1/0x18, "Namespace Already Attached";
        NAMESPACE_IS_PRIVATE = 1/0x19, "Namespace Is Private";
        NAMESPACE_NOT_ATTACHED = 1/0x1a, "Namespace Not Attached";
        THIN_PROVISIONING_NOT_SUPPORTED = 1/0x1b, "Thin Provisioning Not Supported";
        CONTROLLER_LIST_INVALID = 1/0x1c, "Controller List Invalid";
        SELF_TEST_IN_PROGRESS = 1/0x1d, "Device Self-test In Progress";
        BOOT_PARTITION_WRITE_PROHIBITED = 1/0x1e, "Boot Partition Write Prohibited";
        INVALID_CONTROLLER_IDENTIFIER = 1/0x1f, "Invalid Controller Identifier";
        INVALID_SECONDARY_CONTROLLER_STATE = 1/0x20, "Invalid Secondary Controller State";
        INVALID_CONTROLLER_RESOURCES = 1/0x21, "Invalid Number of Controller Resources";
        INVALID_RESOURCE_IDENTIFIER = 1/0x22, "Invalid Resource Identifier";
        SANITIZE_PROHIBITED_PMR = 1/0x23, "Sanitize Prohibited While Persistent Memory Region is Enabled";
        ANA_GROUP_INVALID = 1/0x24, "ANA Group Identifier Invalid";
        ANA_ATTACH_FAILED = 1/0x25, "ANA Attach Failed";
        INSUFFICIENT_CAPACITY = 1/0x26, "Insufficient Capacity";
        NAMESPACE_ATTACHMENT_LIMIT = 1/0x27, "Namespace Attachment Limit Exceeded";
        PROHIBITION_NOT_SUPPORTED = 1/0x28, "Prohibition of Command Execution Not Supported";
        COMMAND_SET_NOT_SUPPORTED = 1/0x29, "I/O Command Set Not Supported";
        COMMAND_SET_NOT_ENABLED = 1/0x2a, "I/O Command Set Not Enabled";
        COMMAND_SET_COMBINATION_REJECTED = 1/0x2b, "I/O Command Set Combination Rejected";
        INVALID_COMMAND_SET = 1/0x2c, "Invalid I/O Command Set";
        IDENTIFIER_UNAVAILABLE = 1/0x2d, "Identifier Unavailable";
        NAMESPACE_IS_DISPERSED = 1/0x2e, "Namespace Is Dispersed";
        INVALID_DISCOVERY_INFORMATION = 1/0x2f, "Invalid Discovery Information";
        ZONING_DATA_STRUCTURE_LOCKED = 1/0x30, "Zoning Data Structure Locked";
        ZONING_DATA_STRUCTURE_NOT_FOUND = 1/0x31, "Zoning Data Structure Not Found";
        INSUFFICIENT_DISCOVERY_RESOURCES = 1/0x32, "Insufficient Discovery Resources";
        REQUESTED_FUNCTION_DISABLED = 1/0x33, "Requested Function Disabled";
        ZONEGROUP_ORIGINATOR_INVALID = 1/0x34, "ZoneGroup Originator Invalid";
        INVALID_HOST = 1/0x35, "Invalid Host";
        INVALID_NVM_SUBSYSTEM = 1/0x36, "Invalid NVM Subsystem";
        INVALID_CONTROLLER_DATA_QUEUE = 1/0x37, "Invalid Controller Data Queue";
        NOT_ENOUGH_RESOURCES = 1/0x38, "Not Enough Resources";
        CONTROLLER_SUSPENDED = 1/0x39, "Controller Suspended";
        CONTROLLER_NOT_SUSPENDED = 1/0x3a, "Controller Not Suspended";
        CONTROLLER_DATA_QUEUE_FULL = 1/0x3b, "Controller Data Queue Full";

        WRITE_FAULT = 2/0x80, "Write Fault";
        UNRECOVERED_READ_ERROR = 2/0x81, "Unrecovered Read Error";
        GUARD_CHECK_ERROR = 2/0x82, "End-to-end Guard Check Error";
        APPLICATION_TAG_CHECK_ERROR = 2/0x83, "End-to-end Application Tag Check Error";
        REFERENCE_TAG_CHECK_ERROR = 2/0x84, "End-to-end Reference Tag Check Error";
        COMPARE_FAILURE = 2/0x85, "Compare Failure";
        ACCESS_DENIED = 2/0x86, "Access Denied";
        DEALLOCATED_BLOCK = 2/0x87, "Deallocated or Unwritten Logical Block";
        STORAGE_TAG_CHECK_ERROR = 2/0x88, "End-to-End Storage Tag Check Error";

        INTERNAL_PATH_ERROR = 3/0x00, "Internal Path Error";
        ANA_PERSISTENT_LOSS = 3/0x01, "Asymmetric Access Persistent Loss";
        ANA_INACCESSIBLE = 3/0x02, "Asymmetric Access Inaccessible";
        ANA_TRANSITION = 3/0x03, "Asymmetric Access Transition";
        CONTROLLER_PATHING_ERROR = 3/0x60, "Controller Pathing Error";
        HOST_PATHING_ERROR = 3/0x70, "Host Pathing Error";
        ABORTED_BY_HOST = 3/0x71, "Command Aborted By Host";
    }

    /// The command specific codes of the Fabrics commands.
    fabrics_name {
        CONNECT_INCOMPATIBLE_FORMAT = 1/0x80, "Connect Incompatible Format";
        CONNECT_CONTROLLER_BUSY = 1/0x81, "Connect Controller Busy";
        CONNECT_INVALID_PARAMETERS = 1/0x82, "Connect Invalid Parameters";
        CONNECT_RESTART_DISCOVERY = 1/0x83, "Connect Restart Discovery";
        CONNECT_INVALID_HOST = 1/0x84, "Connect Invalid Host";
        INVALID_QUEUE_TYPE = 1/0x85, "Invalid Queue Type";
        DISCOVERY_RESTART = 1/0x90, "Discover Restart";
        AUTHENTICATION_REQUIRED = 1/0x91, "Authentication Required";
    }

    /// The command specific codes of the NVM and Zoned Namespace command sets.
    io_name {
        CONFLICTING_ATTRIBUTES = 1/0x80, "Conflicting Attributes";
        INVALID_PROTECTION_INFORMATION = 1/0x81, "Invalid Protection Information";
        WRITE_TO_READ_ONLY_RANGE = 1/0x82, "Attempted Write to Read Only Range";
        COMMAND_SIZE_LIMIT_EXCEEDED = 1/0x83, "Command Size Limit Exceeded";
        INCOMPATIBLE_NAMESPACE = 1/0x85, "Incompatible Namespace or Format";
        FAST_COPY_NOT_POSSIBLE = 1/0x86, "Fast Copy Not Possible";
        OVERLAPPING_IO_RANGE = 1/0x87, "Overlapping I/O Range";
        NAMESPACE_NOT_REACHABLE = 1/0x88, "Namespace Not Reachable";
        INSUFFICIENT_RESOURCES = 1/0x89, "Insufficient Resources";
        ZONE_INVALID_OPERATION = 1/0xb6, "Invalid Zone Operation Request";
        ZRWA_RESOURCES_UNAVAILABLE = 1/0xb7, "ZRWA Resources Unavailable";
        ZONE_BOUNDARY_ERROR = 1/0xb8, "Zoned Boundary Error";
        ZONE_IS_FULL = 1/0xb9, "Zone Is Full";
        ZONE_IS_READ_ONLY = 1/0xba, "Zone Is Read Only";
        ZONE_IS_OFFLINE = 1/0xbb, "Zone Is Offline";
        ZONE_INVALID_WRITE = 1/0xbc, "Zone Invalid Write";
        TOO_MANY_ACTIVE_ZONES = 1/0xbd, "Too Many Active Zones";
        TOO_MANY_OPEN_ZONES = 1/0xbe, "Too Many Open Zones";
        INVALID_ZONE_TRANSITION = 1/0xbf, "Invalid Zone State Transition";
    }
}

/// Both names of a command specific code that the Fabrics and the I/O command sets share.
const fn shared_name(sc: u8) -> Option<&'static str> {
    match sc {
        0x80 => Some("Connect Incompatible Format / Conflicting Attributes"),
        0x81 => Some("Connect Controller Busy / Invalid Protection Information"),
        0x82 => Some("Connect Invalid Parameters / Attempted Write to Read Only Range"),
        0x83 => Some("Connect Restart Discovery / Command Size Limit Exceeded"),
        // Its I/O neighbour was never assigned, so here the Fabrics name stands alone.
        0x84 => Some("Connect Invalid Host"),
        0x85 => Some("Invalid Queue Type / Incompatible Namespace or Format"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn the_wire_word_keeps_its_phase_bit_apart() {
        // Invalid Field, DNR: 4002h shifted past the phase.
        assert_eq!(Status::INVALID_FIELD.with_dnr(true).to_wire(), 0x8004);
        assert_eq!(Status::from_wire(0x8005), Status::INVALID_FIELD.with_dnr(true));
        assert_eq!(Status::COMPARE_FAILURE.to_wire(), 0x050a);
        for word in 0..=u16::MAX {
            assert_eq!(Status::from_wire(word).to_wire(), word & !1);
        }
    }

    #[test]
    fn each_field_is_where_the_table_says() {
        let status = Status::from_wire(0xffff);
        assert_eq!((status.sct(), status.sc(), status.crd()), (7, 0xff, 3));
        assert!(status.more() && status.dnr());
        let status = Status::new(3, 2).with_crd(1).with_more(true);
        assert_eq!(status.raw(), 0x2000 | 0x0800 | 0x302);
        assert_eq!(status.with_crd(0).with_more(false), Status::ANA_INACCESSIBLE);
        assert_eq!(Status::new(0xff, 0).sct(), 7);
    }

    #[test]
    fn success_is_the_code_and_not_its_flags() {
        assert!(Status::SUCCESS.with_more(true).is_success());
        assert!(!Status::ANA_TRANSITION.is_success());
        assert!(Status::new(2, 0x81).with_dnr(true).same_code(Status::UNRECOVERED_READ_ERROR));
        assert!(!Status::new(2, 0x81).same_code(Status::new(3, 0x81)));
        assert_ne!(Status::SUCCESS, Status::SUCCESS.with_dnr(true));
    }

    #[test]
    fn display_gives_name_numbers_and_flags() {
        assert_eq!(
            Status::INVALID_FIELD.with_dnr(true).to_string(),
            "Invalid Field in Command (sct 0h sc 02h, dnr)"
        );
        assert_eq!(
            format!("{:?}", Status::COMMAND_INTERRUPTED.with_crd(2).with_more(true)),
            "Status(Command Interrupted (sct 0h sc 21h, crd 2, more))"
        );
    }

    #[test]
    fn a_code_used_twice_is_named_by_its_command() {
        let status = Status::CONNECT_INVALID_PARAMETERS;
        assert_eq!(status, Status::WRITE_TO_READ_ONLY_RANGE);
        assert_eq!(status.name_for(CommandKind::Fabrics), "Connect Invalid Parameters");
        assert_eq!(status.name_for(CommandKind::Io), "Attempted Write to Read Only Range");
        assert_eq!(status.name_for(CommandKind::Admin), "Unknown Command Specific Status");
        assert!(status.name().contains(" / "));
        for kind in [CommandKind::Fabrics, CommandKind::Io, CommandKind::Admin] {
            assert_eq!(Status::AUTHENTICATION_REQUIRED.name_for(kind), "Authentication Required");
        }
    }

    #[test]
    fn every_constant_has_its_own_name() {
        for &(codes, table) in ALL {
            for (i, &(status, name)) in codes.iter().enumerate() {
                let kind = match table {
                    "fabrics_name" => CommandKind::Fabrics,
                    "io_name" => CommandKind::Io,
                    _ => CommandKind::Admin,
                };
                assert_eq!(status.name_for(kind), name);
                assert!(status.name().contains(name), "{} lacks {name}", status.name());
                assert!(codes[..i].iter().all(|&(s, n)| s != status && n != name), "{name} twice");
            }
        }
    }

    #[test]
    fn unknown_codes_are_named_by_their_range() {
        assert_eq!(Status::new(0, 0x17).name(), "Unknown Generic Status");
        assert_eq!(Status::new(1, 0x7f).name(), "Unknown Command Specific Status");
        assert_eq!(Status::new(2, 0).name(), "Unknown Media and Data Integrity Status");
        assert_eq!(Status::new(3, 0x10).name(), "Unknown Path Related Status");
        assert_eq!(Status::new(5, 0).name(), "Reserved Status Code Type");
        assert_eq!(Status::new(0, 0xc0).name(), "Vendor Specific");
        assert_eq!(Status::new(7, 0).name(), "Vendor Specific");
    }
}
