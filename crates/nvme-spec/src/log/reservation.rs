//! Reservations: the Reservation Notification log page (LID 80h; Base 2.1, section 5.1.12), and
//! what the Reservation Report command returns.

use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::HostId;
use crate::wire::wire;

/// Reservation Types.
pub mod rtype {
    /// Write Exclusive.
    pub const WRITE_EXCLUSIVE: u8 = 1;
    /// Exclusive Access.
    pub const EXCLUSIVE_ACCESS: u8 = 2;
    /// Write Exclusive - Registrants Only.
    pub const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 3;
    /// Exclusive Access - Registrants Only.
    pub const EXCLUSIVE_ACCESS_REGISTRANTS: u8 = 4;
    /// Write Exclusive - All Registrants.
    pub const WRITE_EXCLUSIVE_ALL: u8 = 5;
    /// Exclusive Access - All Registrants.
    pub const EXCLUSIVE_ACCESS_ALL: u8 = 6;

    /// What a Reservation Type stands for.
    pub const fn name(rtype: u8) -> &'static str {
        match rtype {
            0 => "none",
            WRITE_EXCLUSIVE => "write exclusive",
            EXCLUSIVE_ACCESS => "exclusive access",
            WRITE_EXCLUSIVE_REGISTRANTS => "write exclusive, registrants only",
            EXCLUSIVE_ACCESS_REGISTRANTS => "exclusive access, registrants only",
            WRITE_EXCLUSIVE_ALL => "write exclusive, all registrants",
            EXCLUSIVE_ACCESS_ALL => "exclusive access, all registrants",
            _ => "reserved",
        }
    }
}

/// Reservation Notification log page types.
pub mod notification {
    /// The page is empty.
    pub const EMPTY: u8 = 0;
    /// A host's registration was taken away by another.
    pub const REGISTRATION_PREEMPTED: u8 = 1;
    /// A reservation was released.
    pub const RESERVATION_RELEASED: u8 = 2;
    /// A reservation was taken away.
    pub const RESERVATION_PREEMPTED: u8 = 3;
}

wire! {
    /// Reservation Notification log page: the oldest notification not yet read.
    pub struct ReservationNotification: 64 bytes {
        /// Log Page Count, from 1, never 0 again but for an empty page.
        0 => count: U64,
        /// Reservation Notification Log Page Type ([`notification`]).
        8 => rn_type: u8,
        /// Number of Available Log Pages besides this one.
        9 => num_logs: u8,
        /// Reserved.
        10 => reserved1: [u8; 2],
        /// Namespace.
        12 => nsid: U32,
        /// Reserved.
        16 => reserved2: [u8; 48],
    }
}

wire! {
    /// Reservation Status, extended (EDS = 1): the header of what Reservation Report returns. A
    /// [`RegisteredController`] follows for each that is registered.
    pub struct ReservationStatus: 64 bytes {
        /// Generation: changes with registrations and reservations.
        0 => generation: U32,
        /// Reservation Type ([`rtype`]); 0: none is held.
        4 => rtype: u8,
        /// Number of Registered Controllers.
        5 => regctl: U16,
        /// Reserved.
        7 => reserved1: [u8; 2],
        /// Persist Through Power Loss State.
        9 => ptpls: u8,
        /// Reserved.
        10 => reserved2: [u8; 54],
    }
}

wire! {
    /// Registered Controller, extended.
    pub struct RegisteredController: 64 bytes {
        /// Controller ID; FFFFh if dynamic and not associated now.
        0 => cntlid: U16,
        /// Reservation Status: bit 0 set if its host holds the reservation.
        2 => rcsts: u8,
        /// Reserved.
        3 => reserved1: [u8; 5],
        /// Reservation Key.
        8 => rkey: U64,
        /// Host Identifier.
        16 => hostid: HostId,
        /// Reserved.
        32 => reserved2: [u8; 32],
    }
}

impl RegisteredController {
    /// Bit 0 of RCSTS: the host of this controller holds the reservation.
    pub const RCSTS_HOLDS: u8 = 1 << 0;
}

/// What Reservation Report returned: the header, and the controllers that are there.
#[derive(Clone, Copy)]
pub struct ReservationReport<'a> {
    /// The header.
    pub status: &'a ReservationStatus,
    /// The controllers, as many as the header claims and the bytes hold.
    pub controllers: &'a [RegisteredController],
}

impl<'a> ReservationReport<'a> {
    /// Reads a report of the extended format; `None` if it does not even hold a header.
    pub fn parse(report: &'a [u8]) -> Option<Self> {
        let (status, rest) = ReservationStatus::ref_from_prefix(report).ok()?;
        let held = rest.len() / size_of::<RegisteredController>();
        let count = usize::from(status.regctl.get()).min(held);
        let (controllers, _) =
            <[RegisteredController]>::ref_from_prefix_with_elems(rest, count).ok()?;
        Some(Self { status, controllers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn a_report_has_its_bytes_where_the_specification_puts_them() {
        let mut status = ReservationStatus { rtype: 3, ptpls: 1, ..Default::default() };
        status.generation.set(0x0102);
        status.regctl.set(2);
        let mut controller = RegisteredController { rcsts: 1, ..Default::default() };
        controller.cntlid.set(0x0304);
        controller.rkey.set(0x05);
        controller.hostid = HostId([0xaa; 16]);
        let mut report = status.as_bytes().to_vec();
        assert_eq!(report[..10], [2, 1, 0, 0, 3, 2, 0, 0, 0, 1]);
        report.extend_from_slice(controller.as_bytes());
        assert_eq!(report[64..73], [4, 3, 1, 0, 0, 0, 0, 0, 5]);
        assert_eq!(report[80..96], [0xaa; 16]);

        // Two are claimed and one is there.
        let read = ReservationReport::parse(&report).unwrap();
        assert_eq!(read.status, &status);
        assert_eq!(read.controllers, [controller]);
        assert!(ReservationReport::parse(&report[..63]).is_none());
        assert_eq!(ReservationReport::parse(&report[..127]).unwrap().controllers, []);
    }

    #[test]
    fn a_notification_has_its_bytes_where_the_specification_puts_them() {
        let mut page = ReservationNotification {
            rn_type: notification::RESERVATION_RELEASED,
            num_logs: 3,
            ..Default::default()
        };
        page.count.set(1);
        page.nsid.set(9);
        assert_eq!(page.as_bytes()[..16], [1, 0, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 9, 0, 0, 0]);
    }
}
