//! Asynchronous events: what completes an Asynchronous Event Request (Base 2.1, section 5.1.2).

use core::fmt;

use crate::log::lid;

/// Dword 0 of the completion of an Asynchronous Event Request.
///
/// | bits | field |
/// |---|---|
/// | 2:0 | type |
/// | 15:8 | information, whose meaning depends on the type |
/// | 23:16 | log page that tells more, and whose reading (without RAE) rearms the event |
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// Asynchronous Event Type, three bits ([`kind`]).
    pub kind: u8,
    /// Asynchronous Event Information ([`error`], [`health`], [`notice`]).
    pub info: u8,
    /// Log Page Identifier.
    pub lid: u8,
}

/// Asynchronous Event Types.
pub mod kind {
    /// Error status; [`super::error`].
    pub const ERROR: u8 = 0;
    /// SMART / health status; [`super::health`].
    pub const HEALTH: u8 = 1;
    /// Notice; [`super::notice`].
    pub const NOTICE: u8 = 2;
    /// Immediate.
    pub const IMMEDIATE: u8 = 3;
    /// One-shot.
    pub const ONE_SHOT: u8 = 4;
    /// I/O command specific status; [`super::io`].
    pub const IO_COMMAND_SET: u8 = 6;
    /// Vendor specific.
    pub const VENDOR: u8 = 7;
}

/// Information of [`kind::ERROR`].
pub mod error {
    /// A doorbell of a queue that does not exist was written.
    pub const INVALID_DOORBELL_REGISTER: u8 = 0;
    /// A doorbell was written with an invalid value.
    pub const INVALID_DOORBELL_VALUE: u8 = 1;
    /// A diagnostic failed.
    pub const DIAGNOSTIC_FAILURE: u8 = 2;
    /// The controller has an internal error that will stay.
    pub const PERSISTENT_INTERNAL_ERROR: u8 = 3;
    /// The controller has an internal error that will go.
    pub const TRANSIENT_INTERNAL_ERROR: u8 = 4;
    /// A firmware image could not be loaded.
    pub const FIRMWARE_IMAGE_LOAD: u8 = 5;
}

/// Information of [`kind::HEALTH`].
pub mod health {
    /// The subsystem's reliability is degraded.
    pub const RELIABILITY: u8 = 0;
    /// A temperature passed its threshold.
    pub const TEMPERATURE: u8 = 1;
    /// Available spare fell below its threshold.
    pub const SPARE: u8 = 2;
}

/// Information of [`kind::NOTICE`].
pub mod notice {
    /// Attached namespaces, or their Identify data, changed.
    pub const NAMESPACE_ATTRIBUTE_CHANGED: u8 = 0x00;
    /// Firmware activation is starting.
    pub const FIRMWARE_ACTIVATION_STARTING: u8 = 0x01;
    /// The controller-initiated telemetry log changed.
    pub const TELEMETRY_LOG_CHANGED: u8 = 0x02;
    /// The asymmetric access of a namespace changed.
    pub const ANA_CHANGE: u8 = 0x03;
    /// Predictable latency events are pending.
    pub const PREDICTABLE_LATENCY: u8 = 0x04;
    /// LBA status information is available.
    pub const LBA_STATUS: u8 = 0x05;
    /// An endurance group event is pending.
    pub const ENDURANCE_GROUP: u8 = 0x06;
    /// The subsystem is going to shut down normally.
    pub const NORMAL_SHUTDOWN: u8 = 0x08;
    /// The descriptors of a zone changed.
    pub const ZONE_DESCRIPTOR_CHANGED: u8 = 0xef;
    /// The Discovery log page changed.
    pub const DISCOVERY_LOG_CHANGED: u8 = 0xf0;
}

/// Information of [`kind::IO_COMMAND_SET`] for the NVM command set.
pub mod io {
    /// The Reservation Notification log page has something new.
    pub const RESERVATION_LOG_AVAILABLE: u8 = 0;
    /// A sanitize operation completed.
    pub const SANITIZE_COMPLETED: u8 = 1;
    /// A sanitize operation completed with unexpected deallocation.
    pub const SANITIZE_COMPLETED_DEALLOCATED: u8 = 2;
}

impl Event {
    /// Attached namespaces changed.
    pub const NAMESPACE_ATTRIBUTE_CHANGED: Self =
        Self::notice(notice::NAMESPACE_ATTRIBUTE_CHANGED, lid::CHANGED_NAMESPACES);
    /// The asymmetric access of a namespace changed.
    pub const ANA_CHANGE: Self = Self::notice(notice::ANA_CHANGE, lid::ANA);
    /// The Discovery log page changed.
    pub const DISCOVERY_LOG_CHANGED: Self =
        Self::notice(notice::DISCOVERY_LOG_CHANGED, lid::DISCOVERY);
    /// The controller has an internal error that will stay.
    pub const PERSISTENT_INTERNAL_ERROR: Self =
        Self { kind: kind::ERROR, info: error::PERSISTENT_INTERNAL_ERROR, lid: lid::ERROR };
    /// The subsystem's reliability is degraded.
    pub const RELIABILITY: Self =
        Self { kind: kind::HEALTH, info: health::RELIABILITY, lid: lid::SMART };
    /// The Reservation Notification log page has something new.
    pub const RESERVATION_LOG_AVAILABLE: Self = Self {
        kind: kind::IO_COMMAND_SET,
        info: io::RESERVATION_LOG_AVAILABLE,
        lid: lid::RESERVATION_NOTIFICATION,
    };

    const fn notice(info: u8, lid: u8) -> Self {
        Self { kind: kind::NOTICE, info, lid }
    }

    /// From dword 0 of the completion. Reserved bits are not looked at.
    pub const fn from_dw0(dw0: u32) -> Self {
        let [kind, info, lid, _] = dw0.to_le_bytes();
        Self { kind: kind & 0x7, info, lid }
    }

    /// To dword 0 of the completion.
    pub const fn to_dw0(self) -> u32 {
        u32::from_le_bytes([self.kind & 0x7, self.info, self.lid, 0])
    }

    /// The name the specification gives this event.
    pub const fn name(self) -> &'static str {
        match (self.kind, self.info) {
            (kind::ERROR, error::INVALID_DOORBELL_REGISTER) => "Write to Invalid Doorbell Register",
            (kind::ERROR, error::INVALID_DOORBELL_VALUE) => "Invalid Doorbell Write Value",
            (kind::ERROR, error::DIAGNOSTIC_FAILURE) => "Diagnostic Failure",
            (kind::ERROR, error::PERSISTENT_INTERNAL_ERROR) => "Persistent Internal Error",
            (kind::ERROR, error::TRANSIENT_INTERNAL_ERROR) => "Transient Internal Error",
            (kind::ERROR, error::FIRMWARE_IMAGE_LOAD) => "Firmware Image Load Error",
            (kind::ERROR, _) => "Error Status",
            (kind::HEALTH, health::RELIABILITY) => "NVM Subsystem Reliability",
            (kind::HEALTH, health::TEMPERATURE) => "Temperature Threshold",
            (kind::HEALTH, health::SPARE) => "Spare Below Threshold",
            (kind::HEALTH, _) => "SMART / Health Status",
            (kind::NOTICE, info) => notice_name(info),
            (kind::IMMEDIATE, _) => "Immediate",
            (kind::ONE_SHOT, _) => "One-Shot",
            (kind::IO_COMMAND_SET, io::RESERVATION_LOG_AVAILABLE) => {
                "Reservation Log Page Available"
            }
            (kind::IO_COMMAND_SET, io::SANITIZE_COMPLETED) => "Sanitize Operation Completed",
            (kind::IO_COMMAND_SET, io::SANITIZE_COMPLETED_DEALLOCATED) => {
                "Sanitize Operation Completed With Unexpected Deallocation"
            }
            (kind::IO_COMMAND_SET, _) => "I/O Command Specific Status",
            (kind::VENDOR, _) => "Vendor Specific",
            _ => "Reserved",
        }
    }
}

const fn notice_name(info: u8) -> &'static str {
    match info {
        notice::NAMESPACE_ATTRIBUTE_CHANGED => "Namespace Attribute Changed",
        notice::FIRMWARE_ACTIVATION_STARTING => "Firmware Activation Starting",
        notice::TELEMETRY_LOG_CHANGED => "Telemetry Log Changed",
        notice::ANA_CHANGE => "Asymmetric Namespace Access Change",
        notice::PREDICTABLE_LATENCY => "Predictable Latency Event Aggregate Log Change",
        notice::LBA_STATUS => "LBA Status Information Alert",
        notice::ENDURANCE_GROUP => "Endurance Group Event Aggregate Log Change",
        notice::NORMAL_SHUTDOWN => "Normal NVM Subsystem Shutdown",
        notice::ZONE_DESCRIPTOR_CHANGED => "Zone Descriptor Changed",
        notice::DISCOVERY_LOG_CHANGED => "Discovery Log Page Change",
        _ => "Notice",
    }
}

/// Prints name and numbers: `Discovery Log Page Change (type 2h info F0h log 70h)`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, info, lid } = self;
        write!(f, "{} (type {kind:X}h info {info:02X}h log {lid:02X}h)", self.name())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn events_are_the_dwords_seen_on_the_wire() {
        assert_eq!(Event::NAMESPACE_ATTRIBUTE_CHANGED.to_dw0(), 0x04_0002);
        assert_eq!(Event::ANA_CHANGE.to_dw0(), 0x0c_0302);
        assert_eq!(Event::DISCOVERY_LOG_CHANGED.to_dw0(), 0x70_f002);
        assert_eq!(Event::RESERVATION_LOG_AVAILABLE.to_dw0(), 0x80_0006);
        assert_eq!(Event::from_dw0(0x70_f002), Event::DISCOVERY_LOG_CHANGED);
    }

    #[test]
    fn reserved_bits_are_ignored_and_never_sent() {
        assert_eq!(Event::from_dw0(0xff70_f0fa), Event::DISCOVERY_LOG_CHANGED);
        assert_eq!(Event { kind: 0xff, info: 0, lid: 0 }.to_dw0(), 7);
    }

    #[test]
    fn every_event_has_a_name() {
        assert_eq!(
            Event::DISCOVERY_LOG_CHANGED.to_string(),
            "Discovery Log Page Change (type 2h info F0h log 70h)"
        );
        for dw0 in 0..=0xffff {
            assert!(!Event::from_dw0(dw0).name().is_empty());
        }
        assert_eq!(Event::from_dw0(5).name(), "Reserved");
    }
}
