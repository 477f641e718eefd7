//! Opcodes, by queue and command set.
//!
//! Bits 1:0 of every opcode give the direction of its data (Base 2.1, figure 91);
//! [`Sqe::data_direction`](crate::Sqe::data_direction) reads them.

/// The opcode that all Fabrics commands share; their type is in [`fabrics`] (Base 2.1, 6).
pub const FABRICS: u8 = 0x7f;

/// Admin command opcodes (Base 2.1, section 5).
pub mod admin {
    /// Delete I/O Submission Queue: PCIe only.
    pub const DELETE_IO_SQ: u8 = 0x00;
    /// Create I/O Submission Queue: PCIe only.
    pub const CREATE_IO_SQ: u8 = 0x01;
    /// Get Log Page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Delete I/O Completion Queue: PCIe only.
    pub const DELETE_IO_CQ: u8 = 0x04;
    /// Create I/O Completion Queue: PCIe only.
    pub const CREATE_IO_CQ: u8 = 0x05;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Abort.
    pub const ABORT: u8 = 0x08;
    /// Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous Event Request.
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    /// Namespace Management.
    pub const NAMESPACE_MANAGEMENT: u8 = 0x0d;
    /// Firmware Commit.
    pub const FIRMWARE_COMMIT: u8 = 0x10;
    /// Firmware Image Download.
    pub const FIRMWARE_DOWNLOAD: u8 = 0x11;
    /// Device Self-test.
    pub const DEVICE_SELF_TEST: u8 = 0x14;
    /// Namespace Attachment.
    pub const NAMESPACE_ATTACHMENT: u8 = 0x15;
    /// Keep Alive.
    pub const KEEP_ALIVE: u8 = 0x18;
    /// Directive Send.
    pub const DIRECTIVE_SEND: u8 = 0x19;
    /// Directive Receive.
    pub const DIRECTIVE_RECEIVE: u8 = 0x1a;
    /// Format NVM.
    pub const FORMAT_NVM: u8 = 0x80;
    /// Security Send.
    pub const SECURITY_SEND: u8 = 0x81;
    /// Security Receive.
    pub const SECURITY_RECEIVE: u8 = 0x82;
    /// Sanitize.
    pub const SANITIZE: u8 = 0x84;
}

/// I/O opcodes of the NVM Command Set (NVM Command Set 1.1, section 3).
pub mod nvm {
    /// Flush.
    pub const FLUSH: u8 = 0x00;
    /// Write.
    pub const WRITE: u8 = 0x01;
    /// Read.
    pub const READ: u8 = 0x02;
    /// Write Uncorrectable.
    pub const WRITE_UNCORRECTABLE: u8 = 0x04;
    /// Compare.
    pub const COMPARE: u8 = 0x05;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    /// Verify.
    pub const VERIFY: u8 = 0x0c;
    /// Reservation Register.
    pub const RESERVATION_REGISTER: u8 = 0x0d;
    /// Reservation Report.
    pub const RESERVATION_REPORT: u8 = 0x0e;
    /// Reservation Acquire.
    pub const RESERVATION_ACQUIRE: u8 = 0x11;
    /// Reservation Release.
    pub const RESERVATION_RELEASE: u8 = 0x15;
    /// Copy.
    pub const COPY: u8 = 0x19;
}

/// Fabrics command types, byte 4 of an SQE with opcode [`FABRICS`] (Base 2.1, section 6).
pub mod fabrics {
    /// Property Set.
    pub const PROPERTY_SET: u8 = 0x00;
    /// Connect.
    pub const CONNECT: u8 = 0x01;
    /// Property Get.
    pub const PROPERTY_GET: u8 = 0x04;
    /// Authentication Send.
    pub const AUTHENTICATION_SEND: u8 = 0x05;
    /// Authentication Receive.
    pub const AUTHENTICATION_RECEIVE: u8 = 0x06;
    /// Disconnect.
    pub const DISCONNECT: u8 = 0x08;
}

/// The printable name of an admin opcode, or `"Unknown"`.
pub const fn admin_name(opcode: u8) -> &'static str {
    match opcode {
        admin::DELETE_IO_SQ => "Delete I/O Submission Queue",
        admin::CREATE_IO_SQ => "Create I/O Submission Queue",
        admin::GET_LOG_PAGE => "Get Log Page",
        admin::DELETE_IO_CQ => "Delete I/O Completion Queue",
        admin::CREATE_IO_CQ => "Create I/O Completion Queue",
        admin::IDENTIFY => "Identify",
        admin::ABORT => "Abort",
        admin::SET_FEATURES => "Set Features",
        admin::GET_FEATURES => "Get Features",
        admin::ASYNC_EVENT_REQUEST => "Asynchronous Event Request",
        admin::NAMESPACE_MANAGEMENT => "Namespace Management",
        admin::FIRMWARE_COMMIT => "Firmware Commit",
        admin::FIRMWARE_DOWNLOAD => "Firmware Image Download",
        admin::DEVICE_SELF_TEST => "Device Self-test",
        admin::NAMESPACE_ATTACHMENT => "Namespace Attachment",
        admin::KEEP_ALIVE => "Keep Alive",
        admin::DIRECTIVE_SEND => "Directive Send",
        admin::DIRECTIVE_RECEIVE => "Directive Receive",
        admin::FORMAT_NVM => "Format NVM",
        admin::SECURITY_SEND => "Security Send",
        admin::SECURITY_RECEIVE => "Security Receive",
        admin::SANITIZE => "Sanitize",
        FABRICS => "Fabrics",
        0xc0.. => "Vendor Specific",
        _ => "Unknown",
    }
}

/// The printable name of an NVM Command Set opcode, or `"Unknown"`.
pub const fn nvm_name(opcode: u8) -> &'static str {
    match opcode {
        nvm::FLUSH => "Flush",
        nvm::WRITE => "Write",
        nvm::READ => "Read",
        nvm::WRITE_UNCORRECTABLE => "Write Uncorrectable",
        nvm::COMPARE => "Compare",
        nvm::WRITE_ZEROES => "Write Zeroes",
        nvm::DATASET_MANAGEMENT => "Dataset Management",
        nvm::VERIFY => "Verify",
        nvm::RESERVATION_REGISTER => "Reservation Register",
        nvm::RESERVATION_REPORT => "Reservation Report",
        nvm::RESERVATION_ACQUIRE => "Reservation Acquire",
        nvm::RESERVATION_RELEASE => "Reservation Release",
        nvm::COPY => "Copy",
        FABRICS => "Fabrics",
        0x80.. => "Vendor Specific",
        _ => "Unknown",
    }
}

/// The printable name of a Fabrics command type, or `"Unknown"`.
pub const fn fabrics_name(fctype: u8) -> &'static str {
    match fctype {
        fabrics::PROPERTY_SET => "Property Set",
        fabrics::CONNECT => "Connect",
        fabrics::PROPERTY_GET => "Property Get",
        fabrics::AUTHENTICATION_SEND => "Authentication Send",
        fabrics::AUTHENTICATION_RECEIVE => "Authentication Receive",
        fabrics::DISCONNECT => "Disconnect",
        0xc0.. => "Vendor Specific",
        _ => "Unknown",
    }
}
