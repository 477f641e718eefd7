//! Log pages, and the command that reads them (Base 2.1, section 5.1.12).

mod ana;
mod changed_namespaces;
mod discovery;
mod discovery_records;
mod effects;
mod error;
mod firmware;
mod get_log_page;
mod reservation;
mod smart;

pub use ana::{AnaError, AnaGroup, AnaGroupDescriptor, AnaGroups, AnaHeader, AnaState};
pub use changed_namespaces::ChangedNamespaceList;
pub use discovery::{
    DiscoveryEntry, DiscoveryHeader, DiscoveryLog, TextTooLong, adrfam, eflags, sectype, subtype,
    treq, trtype,
};
pub use discovery_records::{
    DiscoveryError, DiscoveryRecord, DiscoveryRecords, ExtendedAttribute, ExtendedAttributeHeader,
    ExtendedAttributes, ExtendedDiscoveryEntry, exattype,
};
pub use effects::{CommandEffects, FeatureEffects, SupportedLogPages};
pub use error::ErrorLogEntry;
pub use firmware::FirmwareSlotLog;
pub use get_log_page::GetLogPage;
pub use reservation::{
    RegisteredController, ReservationNotification, ReservationReport, ReservationStatus,
    notification, rtype,
};
pub use smart::SmartLog;

/// Log Page Identifiers.
pub mod lid {
    /// Supported Log Pages: [`super::SupportedLogPages`].
    pub const SUPPORTED: u8 = 0x00;
    /// Error Information: [`super::ErrorLogEntry`], several.
    pub const ERROR: u8 = 0x01;
    /// SMART / Health Information: [`super::SmartLog`].
    pub const SMART: u8 = 0x02;
    /// Firmware Slot Information: [`super::FirmwareSlotLog`].
    pub const FIRMWARE_SLOT: u8 = 0x03;
    /// Changed Attached Namespace List: [`super::ChangedNamespaceList`].
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    /// Commands Supported and Effects: [`super::CommandEffects`].
    pub const COMMAND_EFFECTS: u8 = 0x05;
    /// Device Self-test.
    pub const DEVICE_SELF_TEST: u8 = 0x06;
    /// Telemetry Host-Initiated.
    pub const TELEMETRY_HOST: u8 = 0x07;
    /// Telemetry Controller-Initiated.
    pub const TELEMETRY_CONTROLLER: u8 = 0x08;
    /// Endurance Group Information.
    pub const ENDURANCE_GROUP: u8 = 0x09;
    /// Asymmetric Namespace Access: [`super::AnaHeader`], [`super::AnaGroups`].
    pub const ANA: u8 = 0x0c;
    /// Persistent Event Log.
    pub const PERSISTENT_EVENT: u8 = 0x0d;
    /// Feature Identifiers Supported and Effects: [`super::FeatureEffects`].
    pub const FEATURE_EFFECTS: u8 = 0x12;
    /// Discovery: [`super::DiscoveryHeader`], [`super::DiscoveryEntry`].
    pub const DISCOVERY: u8 = 0x70;
    /// Host Discovery.
    pub const HOST_DISCOVERY: u8 = 0x71;
    /// Reservation Notification: [`super::ReservationNotification`].
    pub const RESERVATION_NOTIFICATION: u8 = 0x80;
    /// Sanitize Status.
    pub const SANITIZE_STATUS: u8 = 0x81;
}

/// What a Log Page Identifier stands for.
pub const fn name(lid: u8) -> &'static str {
    match lid {
        lid::SUPPORTED => "Supported Log Pages",
        lid::ERROR => "Error Information",
        lid::SMART => "SMART / Health Information",
        lid::FIRMWARE_SLOT => "Firmware Slot Information",
        lid::CHANGED_NAMESPACES => "Changed Attached Namespace List",
        lid::COMMAND_EFFECTS => "Commands Supported and Effects",
        lid::DEVICE_SELF_TEST => "Device Self-test",
        lid::TELEMETRY_HOST => "Telemetry Host-Initiated",
        lid::TELEMETRY_CONTROLLER => "Telemetry Controller-Initiated",
        lid::ENDURANCE_GROUP => "Endurance Group Information",
        lid::ANA => "Asymmetric Namespace Access",
        lid::PERSISTENT_EVENT => "Persistent Event Log",
        lid::FEATURE_EFFECTS => "Feature Identifiers Supported and Effects",
        lid::DISCOVERY => "Discovery",
        lid::HOST_DISCOVERY => "Host Discovery",
        lid::RESERVATION_NOTIFICATION => "Reservation Notification",
        lid::SANITIZE_STATUS => "Sanitize Status",
        0xc0.. => "Vendor Specific",
        _ => "Unknown",
    }
}
