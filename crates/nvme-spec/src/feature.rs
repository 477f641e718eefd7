//! Features: their identifiers, and the values Get Features and Set Features carry in dwords (Base
//! 2.1, section 5.1.25).
//!
//! Most values are one dword: dword 11 of Set Features, and dword 0 of the completion of Get
//! Features. Each has a type here, made from the dword and back (`T(dword)`, `.0`).

use zerocopy::little_endian::U16;

use crate::reservation::Notification;
use crate::wire::wire;

/// Feature Identifiers.
pub mod fid {
    /// Arbitration: [`super::Arbitration`].
    pub const ARBITRATION: u8 = 0x01;
    /// Power Management: [`super::PowerManagement`].
    pub const POWER_MANAGEMENT: u8 = 0x02;
    /// LBA Range Type.
    pub const LBA_RANGE_TYPE: u8 = 0x03;
    /// Temperature Threshold: [`super::TemperatureThreshold`].
    pub const TEMPERATURE_THRESHOLD: u8 = 0x04;
    /// Error Recovery: [`super::ErrorRecovery`].
    pub const ERROR_RECOVERY: u8 = 0x05;
    /// Volatile Write Cache: [`super::VolatileWriteCache`].
    pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
    /// Number of Queues: [`super::NumberOfQueues`].
    pub const NUMBER_OF_QUEUES: u8 = 0x07;
    /// Interrupt Coalescing (not over fabrics).
    pub const INTERRUPT_COALESCING: u8 = 0x08;
    /// Interrupt Vector Configuration (not over fabrics).
    pub const INTERRUPT_VECTOR: u8 = 0x09;
    /// Write Atomicity Normal: [`super::WriteAtomicity`].
    pub const WRITE_ATOMICITY: u8 = 0x0a;
    /// Asynchronous Event Configuration: [`super::AsyncEventConfig`].
    pub const ASYNC_EVENT_CONFIG: u8 = 0x0b;
    /// Autonomous Power State Transition.
    pub const AUTONOMOUS_POWER: u8 = 0x0c;
    /// Host Memory Buffer (not over fabrics).
    pub const HOST_MEMORY_BUFFER: u8 = 0x0d;
    /// Timestamp: [`super::Timestamp`].
    pub const TIMESTAMP: u8 = 0x0e;
    /// Keep Alive Timer: milliseconds, 0 for none.
    pub const KEEP_ALIVE_TIMER: u8 = 0x0f;
    /// Host Controlled Thermal Management.
    pub const THERMAL_MANAGEMENT: u8 = 0x10;
    /// Non-Operational Power State Config.
    pub const NON_OPERATIONAL_POWER: u8 = 0x11;
    /// Read Recovery Level Config.
    pub const READ_RECOVERY_LEVEL: u8 = 0x12;
    /// Predictable Latency Mode Config.
    pub const PREDICTABLE_LATENCY_CONFIG: u8 = 0x13;
    /// Predictable Latency Mode Window.
    pub const PREDICTABLE_LATENCY_WINDOW: u8 = 0x14;
    /// LBA Status Information Report Interval.
    pub const LBA_STATUS_INTERVAL: u8 = 0x15;
    /// Host Behavior Support: [`super::HostBehaviorSupport`].
    pub const HOST_BEHAVIOR_SUPPORT: u8 = 0x16;
    /// Sanitize Config.
    pub const SANITIZE_CONFIG: u8 = 0x17;
    /// Endurance Group Event Configuration.
    pub const ENDURANCE_GROUP_EVENT: u8 = 0x18;
    /// I/O Command Set Profile.
    pub const COMMAND_SET_PROFILE: u8 = 0x19;
    /// Spinup Control.
    pub const SPINUP_CONTROL: u8 = 0x1a;
    /// Software Progress Marker.
    pub const SOFTWARE_PROGRESS_MARKER: u8 = 0x80;
    /// Host Identifier: 8 or 16 bytes of data, see [`super::HOST_ID_EXTENDED`].
    pub const HOST_IDENTIFIER: u8 = 0x81;
    /// Reservation Notification Mask.
    pub const RESERVATION_MASK: u8 = 0x82;
    /// Reservation Persistence.
    pub const RESERVATION_PERSISTENCE: u8 = 0x83;
    /// Namespace Write Protection Config.
    pub const WRITE_PROTECTION: u8 = 0x84;
}

/// What a Feature Identifier stands for.
pub const fn name(fid: u8) -> &'static str {
    match fid {
        fid::ARBITRATION => "Arbitration",
        fid::POWER_MANAGEMENT => "Power Management",
        fid::LBA_RANGE_TYPE => "LBA Range Type",
        fid::TEMPERATURE_THRESHOLD => "Temperature Threshold",
        fid::ERROR_RECOVERY => "Error Recovery",
        fid::VOLATILE_WRITE_CACHE => "Volatile Write Cache",
        fid::NUMBER_OF_QUEUES => "Number of Queues",
        fid::INTERRUPT_COALESCING => "Interrupt Coalescing",
        fid::INTERRUPT_VECTOR => "Interrupt Vector Configuration",
        fid::WRITE_ATOMICITY => "Write Atomicity Normal",
        fid::ASYNC_EVENT_CONFIG => "Asynchronous Event Configuration",
        fid::AUTONOMOUS_POWER => "Autonomous Power State Transition",
        fid::HOST_MEMORY_BUFFER => "Host Memory Buffer",
        fid::TIMESTAMP => "Timestamp",
        fid::KEEP_ALIVE_TIMER => "Keep Alive Timer",
        fid::THERMAL_MANAGEMENT => "Host Controlled Thermal Management",
        fid::NON_OPERATIONAL_POWER => "Non-Operational Power State Config",
        fid::READ_RECOVERY_LEVEL => "Read Recovery Level Config",
        fid::PREDICTABLE_LATENCY_CONFIG => "Predictable Latency Mode Config",
        fid::PREDICTABLE_LATENCY_WINDOW => "Predictable Latency Mode Window",
        fid::LBA_STATUS_INTERVAL => "LBA Status Information Report Interval",
        fid::HOST_BEHAVIOR_SUPPORT => "Host Behavior Support",
        fid::SANITIZE_CONFIG => "Sanitize Config",
        fid::ENDURANCE_GROUP_EVENT => "Endurance Group Event Configuration",
        fid::COMMAND_SET_PROFILE => "I/O Command Set Profile",
        fid::SPINUP_CONTROL => "Spinup Control",
        fid::SOFTWARE_PROGRESS_MARKER => "Software Progress Marker",
        fid::HOST_IDENTIFIER => "Host Identifier",
        fid::RESERVATION_MASK => "Reservation Notification Mask",
        fid::RESERVATION_PERSISTENCE => "Reservation Persistence",
        fid::WRITE_PROTECTION => "Namespace Write Protection Config",
        0xc0.. => "Vendor Specific",
        _ => "Unknown",
    }
}

/// Which value of a feature Get Features asks for: dword 10 bits 10:8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// The one in effect.
    Current,
    /// The one the controller starts with if none was saved.
    Default,
    /// The one kept over resets and power cycles.
    Saved,
    /// No value: whether the feature is saveable, per namespace, changeable
    /// ([`SupportedCapabilities`]).
    Supported,
}

/// Dword 10 of Get Features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetFeatures {
    /// Feature Identifier.
    pub fid: u8,
    /// Which value.
    pub select: Select,
}

impl GetFeatures {
    /// From dword 10; `None` if the Select field is reserved (4..=7).
    pub const fn from_cdw10(cdw10: u32) -> Option<Self> {
        let [fid, select, _, _] = cdw10.to_le_bytes();
        let select = match select & 0x7 {
            0 => Select::Current,
            1 => Select::Default,
            2 => Select::Saved,
            3 => Select::Supported,
            _ => return None,
        };
        Some(Self { fid, select })
    }

    /// To dword 10.
    pub const fn to_cdw10(self) -> u32 {
        let select = match self.select {
            Select::Current => 0,
            Select::Default => 1,
            Select::Saved => 2,
            Select::Supported => 3,
        };
        u32::from_le_bytes([self.fid, select, 0, 0])
    }
}

/// Dword 10 of Set Features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetFeatures {
    /// Feature Identifier.
    pub fid: u8,
    /// SV: keep the value over resets and power cycles.
    pub save: bool,
}

impl SetFeatures {
    /// From dword 10.
    pub const fn from_cdw10(cdw10: u32) -> Self {
        let [fid, _, _, top] = cdw10.to_le_bytes();
        Self { fid, save: top & 0x80 != 0 }
    }

    /// To dword 10.
    pub const fn to_cdw10(self) -> u32 {
        u32::from_le_bytes([self.fid, 0, 0, if self.save { 0x80 } else { 0 }])
    }
}

/// Bit 0 of dword 11 of the Host Identifier feature: the identifier has 128 bits, not 64. Over
/// fabrics it always has.
pub const HOST_ID_EXTENDED: u32 = 1 << 0;

/// A dword value: its type, and its fields as `first bit, width => name, setter: type`.
macro_rules! dword {
    ($(#[$doc:meta])* $name:ident {
        $( $(#[$inner:meta])* $shift:literal, $width:literal => $get:ident, $with:ident: $ty:ty; )*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub u32);

        #[allow(clippy::cast_possible_truncation, reason = "masked to the width of the field")]
        #[allow(clippy::unnecessary_cast, reason = "fields have several types")]
        impl $name {
            $(
                $(#[$inner])*
                pub const fn $get(self) -> $ty {
                    (self.0 >> $shift & ((1 << $width) - 1)) as $ty
                }

                #[doc = concat!("The same with another [`Self::", stringify!($get), "`].")]
                pub const fn $with(self, value: $ty) -> Self {
                    let mask = ((1u32 << $width) - 1) << $shift;
                    Self(self.0 & !mask | (value as u32) << $shift & mask)
                }
            )*
        }
    };
}

dword! {
    /// Arbitration (FID 01h).
    Arbitration {
        /// AB: how many commands are taken at once, as a power of two; 7: no limit.
        0, 3 => burst, with_burst: u8;
        /// LPW: low priority weight, 0's based.
        8, 8 => low, with_low: u8;
        /// MPW: medium priority weight, 0's based.
        16, 8 => medium, with_medium: u8;
        /// HPW: high priority weight, 0's based.
        24, 8 => high, with_high: u8;
    }
}

dword! {
    /// Power Management (FID 02h).
    PowerManagement {
        /// PS: power state.
        0, 5 => power_state, with_power_state: u8;
        /// WH: workload hint.
        5, 3 => workload_hint, with_workload_hint: u8;
    }
}

dword! {
    /// Temperature Threshold (FID 04h).
    TemperatureThreshold {
        /// TMPTH: the threshold, in kelvins.
        0, 16 => threshold, with_threshold: u16;
        /// TMPSEL: 0 the composite temperature, 1..=8 a sensor, Fh all of them (to set).
        16, 4 => sensor, with_sensor: u8;
        /// THSEL: 0 the threshold is for being over, 1 for being under.
        20, 2 => kind, with_kind: u8;
        /// TMPTHH: hysteresis, in kelvins.
        22, 3 => hysteresis, with_hysteresis: u8;
    }
}

dword! {
    /// Error Recovery (FID 05h).
    ErrorRecovery {
        /// TLER: limit for error recovery, in units of 100 ms; 0: none.
        0, 16 => time_limit, with_time_limit: u16;
        /// DULBE: 1 if reading deallocated or unwritten blocks is an error.
        16, 1 => deallocated_error, with_deallocated_error: u8;
    }
}

dword! {
    /// Volatile Write Cache (FID 06h).
    VolatileWriteCache {
        /// WCE: 1 if the cache is in use.
        0, 1 => enabled, with_enabled: u8;
    }
}

dword! {
    /// Write Atomicity Normal (FID 0Ah).
    WriteAtomicity {
        /// DN: 1 if the host needs no atomicity beyond what survives a power failure.
        0, 1 => disable_normal, with_disable_normal: u8;
    }
}

dword! {
    /// Keep Alive Timer (FID 0Fh). Fits all 32 bits, hence [`KeepAliveTimer::milliseconds`].
    KeepAliveTimer {}
}

impl KeepAliveTimer {
    /// KATO, in milliseconds; 0: no timer.
    pub const fn milliseconds(self) -> u32 {
        self.0
    }
}

dword! {
    /// Asynchronous Event Configuration (FID 0Bh): a bit for each event that is to be reported.
    ///
    /// The bits of the notices are those by which Identify Controller offers them in OAES.
    AsyncEventConfig {
        /// Critical warnings of the SMART log that are to be reported, a bit each.
        0, 8 => critical_warnings, with_critical_warnings: u8;
    }
}

impl AsyncEventConfig {
    /// Namespace Attribute Notices.
    pub const NAMESPACE_ATTRIBUTE: u32 = 1 << 8;
    /// Firmware Activation Notices.
    pub const FIRMWARE_ACTIVATION: u32 = 1 << 9;
    /// Telemetry Log Notices.
    pub const TELEMETRY_LOG: u32 = 1 << 10;
    /// ANA Change Notices.
    pub const ANA_CHANGE: u32 = 1 << 11;
    /// Predictable Latency Event Aggregate Log Change Notices.
    pub const PREDICTABLE_LATENCY: u32 = 1 << 12;
    /// LBA Status Information Alert Notices.
    pub const LBA_STATUS: u32 = 1 << 13;
    /// Endurance Group Event Aggregate Log Change Notices.
    pub const ENDURANCE_GROUP: u32 = 1 << 14;
    /// Normal NVM Subsystem Shutdown.
    pub const NORMAL_SHUTDOWN: u32 = 1 << 15;
    /// Zone Descriptor Changed Notices.
    pub const ZONE_DESCRIPTOR: u32 = 1 << 27;
    /// Discovery Log Page Change Notification.
    pub const DISCOVERY_LOG: u32 = 1 << 31;

    /// Whether any of these bits is set.
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// Number of Queues (FID 07h), as counts and not 0's based as on the wire.
///
/// The host asks for numbers; the controller answers, in dword 0, with those it granted, which may
/// be less or more. The Admin Queue does not count.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NumberOfQueues {
    /// I/O Submission Queues, 1..=65,535 to ask for, up to 65,536 in an answer.
    pub submission: u32,
    /// I/O Completion Queues, likewise.
    pub completion: u32,
}

impl NumberOfQueues {
    /// The same number of both, as Fabrics has it: its queues come in pairs.
    pub const fn pairs(count: u16) -> Self {
        Self { submission: count as u32, completion: count as u32 }
    }

    /// From dword 11 of Set Features; `None` if either number is FFFFh, which may not be asked for.
    pub const fn from_request(cdw11: u32) -> Option<Self> {
        let [s0, s1, c0, c1] = cdw11.to_le_bytes();
        match (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([c0, c1])) {
            (u16::MAX, _) | (_, u16::MAX) => None,
            _ => Some(Self::from_dw0(cdw11)),
        }
    }

    /// From dword 0 of a completion.
    pub const fn from_dw0(dw0: u32) -> Self {
        Self { submission: (dw0 & 0xffff) + 1, completion: (dw0 >> 16) + 1 }
    }

    /// To dword 11 of Set Features or dword 0 of a completion. A count of 0, which the encoding
    /// does not have, becomes 1; one above 65,536 becomes that.
    pub const fn to_dword(self) -> u32 {
        const fn zeroes_based(count: u32) -> u32 {
            match count {
                0 => 0,
                1..=0xffff => count - 1,
                _ => 0xffff,
            }
        }
        zeroes_based(self.submission) | zeroes_based(self.completion) << 16
    }
}

dword! {
    /// Dword 0 of Get Features that asked for [`Select::Supported`].
    SupportedCapabilities {
        /// 1 if the value can be saved.
        0, 1 => saveable, with_saveable: u8;
        /// 1 if each namespace has a value of its own.
        1, 1 => namespace_specific, with_namespace_specific: u8;
        /// 1 if the value can be changed.
        2, 1 => changeable, with_changeable: u8;
    }
}

dword! {
    /// Reservation Notification Mask (FID 82h), of each namespace: what makes no Reservation
    /// Notification log page.
    ReservationNotificationMask {
        /// REGPRE: 1 if registration preempted is masked.
        1, 1 => registration_preempted, with_registration_preempted: u8;
        /// RESREL: 1 if reservation released is masked.
        2, 1 => reservation_released, with_reservation_released: u8;
        /// RESPRE: 1 if reservation preempted is masked.
        3, 1 => reservation_preempted, with_reservation_preempted: u8;
    }
}

impl ReservationNotificationMask {
    /// Whether notifications of this kind are not wanted.
    pub const fn masks(self, notification: Notification) -> bool {
        let bit = match notification {
            Notification::RegistrationPreempted => self.registration_preempted(),
            Notification::ReservationReleased => self.reservation_released(),
            Notification::ReservationPreempted => self.reservation_preempted(),
        };
        bit != 0
    }
}

dword! {
    /// Reservation Persistence (FID 83h), of each namespace.
    ReservationPersistence {
        /// PTPL: 1 if registrations and reservations outlast a loss of power.
        0, 1 => ptpl, with_ptpl: u8;
    }
}

wire! {
    /// Timestamp (FID 0Eh): the data of Get and Set Features.
    pub struct Timestamp: 8 bytes {
        /// Milliseconds since 1970-01-01 00:00 UTC, least significant byte first.
        0 => timestamp: [u8; 6],
        /// Bit 0: the clock may have stopped at times; bits 3:1: 1 if a host set it.
        6 => attributes: u8,
        /// Reserved.
        7 => reserved: u8,
    }
}

impl Timestamp {
    /// A time in milliseconds since 1970, of which 48 bits are kept (till the year 10,889).
    pub fn new(milliseconds: u64) -> Self {
        let [a, b, c, d, e, f, _, _] = milliseconds.to_le_bytes();
        Self { timestamp: [a, b, c, d, e, f], ..Self::default() }
    }

    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub const fn milliseconds(&self) -> u64 {
        let [a, b, c, d, e, f] = self.timestamp;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Whether a host has set the time, instead of a reset having zeroed it.
    pub const fn set_by_host(&self) -> bool {
        self.attributes >> 1 & 0x7 == 1
    }
}

wire! {
    /// Host Behavior Support (FID 16h): what the host can deal with.
    pub struct HostBehaviorSupport: 512 bytes {
        /// Advanced Command Retry Enable: 1 if Command Interrupted and CRD may be used.
        0 => acre: u8,
        /// Extended Telemetry Data Area 4 Supported.
        1 => etdas: u8,
        /// LBA Format Extension Enable.
        2 => lbafee: u8,
        /// Host Dispersed Namespace Support.
        3 => hdisns: u8,
        /// Copy Descriptor Formats Enable, a bit for each format from 2h to 4h.
        4 => cdfe: U16,
        /// Reserved.
        6 => reserved: [u8; 506],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn numbers_of_queues_are_zeroes_based() {
        assert_eq!(NumberOfQueues::pairs(4).to_dword(), 0x0003_0003);
        assert_eq!(
            NumberOfQueues::from_dw0(0x0003_0007),
            NumberOfQueues { submission: 8, completion: 4 }
        );
        assert_eq!(NumberOfQueues::from_dw0(u32::MAX).to_dword(), u32::MAX);
        assert_eq!(NumberOfQueues::pairs(0).to_dword(), 0);
        let huge = NumberOfQueues { submission: u32::MAX, completion: u32::MAX };
        assert_eq!(huge.to_dword(), u32::MAX);
    }

    #[test]
    fn ffffh_queues_may_not_be_asked_for() {
        assert_eq!(NumberOfQueues::from_request(0x0000_ffff), None);
        assert_eq!(NumberOfQueues::from_request(0xffff_0000), None);
        assert_eq!(
            NumberOfQueues::from_request(0xfffe_fffe).map(NumberOfQueues::to_dword),
            Some(0xfffe_fffe)
        );
    }

    #[test]
    fn dword_10_names_feature_select_and_save() {
        let get = GetFeatures { fid: fid::NUMBER_OF_QUEUES, select: Select::Supported };
        assert_eq!(get.to_cdw10(), 0x307);
        assert_eq!(GetFeatures::from_cdw10(0x307), Some(get));
        assert_eq!(GetFeatures::from_cdw10(0x400), None);
        for select in [Select::Current, Select::Default, Select::Saved, Select::Supported] {
            let get = GetFeatures { fid: 0x0b, select };
            assert_eq!(GetFeatures::from_cdw10(get.to_cdw10()), Some(get));
        }
        let set = SetFeatures { fid: fid::ASYNC_EVENT_CONFIG, save: true };
        assert_eq!(set.to_cdw10(), 0x8000_000b);
        assert_eq!(SetFeatures::from_cdw10(0x8000_000b), set);
        assert!(!SetFeatures::from_cdw10(0x7fff_ff0b).save);
    }

    #[test]
    fn dword_values_have_their_fields_in_place() {
        let value = TemperatureThreshold(0).with_threshold(343).with_sensor(2).with_kind(1);
        assert_eq!(value.0, 0x0012_0157);
        assert_eq!((value.threshold(), value.sensor(), value.kind()), (343, 2, 1));
        assert_eq!(value.with_threshold(0).0, 0x0012_0000);
        let value = Arbitration(0x0403_0207);
        assert_eq!((value.burst(), value.low(), value.medium(), value.high()), (7, 2, 3, 4));
        assert_eq!(PowerManagement(0).with_power_state(31).with_workload_hint(2).0, 0x5f);
        assert_eq!(ErrorRecovery(0).with_deallocated_error(1).with_time_limit(5).0, 0x1_0005);
        assert_eq!(VolatileWriteCache(0xffff_fffe).enabled(), 0);
        // What does not fit its field does not spill into the next.
        assert_eq!(PowerManagement(0).with_power_state(0xff).0, 0x1f);
    }

    #[test]
    fn each_reservation_notification_has_a_bit_that_masks_it() {
        let mask = ReservationNotificationMask(0b0100);
        assert!(mask.masks(Notification::ReservationReleased));
        assert!(!mask.masks(Notification::RegistrationPreempted));
        assert!(!mask.masks(Notification::ReservationPreempted));
        let mask = mask.with_reservation_released(0).with_registration_preempted(1);
        assert_eq!(mask.0, 0b0010);
        assert!(mask.masks(Notification::RegistrationPreempted));
        assert!(ReservationNotificationMask(0b1000).masks(Notification::ReservationPreempted));
        // Bit 0 means nothing.
        assert_eq!(ReservationNotificationMask(0b0001).with_reservation_preempted(1).0, 0b1001);
        assert_eq!(ReservationPersistence(0).with_ptpl(1).0, 1);
        assert_eq!(ReservationPersistence(0xffff_fffe).ptpl(), 0);
    }

    #[test]
    fn a_timestamp_keeps_48_bits() {
        let stamp = Timestamp::new(0x0001_0203_0405_0607);
        assert_eq!(stamp.as_bytes(), [7, 6, 5, 4, 3, 2, 0, 0]);
        assert_eq!(stamp.milliseconds(), 0x0203_0405_0607);
        assert!(Timestamp { attributes: 0b10, ..stamp }.set_by_host() && !stamp.set_by_host());
    }

    #[test]
    fn host_behavior_starts_with_its_switches() {
        let mut bytes = [0; 512];
        bytes[..6].copy_from_slice(&[1, 0, 1, 0, 4, 0]);
        let support = HostBehaviorSupport::read_from_bytes(&bytes).unwrap();
        assert_eq!((support.acre, support.lbafee, support.cdfe.get()), (1, 1, 4));
        assert_eq!(support.as_bytes(), bytes);
    }

    #[test]
    fn features_have_names() {
        assert_eq!(name(fid::NUMBER_OF_QUEUES), "Number of Queues");
        assert_eq!(name(0x00), "Unknown");
        assert_eq!(name(0xc0), "Vendor Specific");
    }
}
