//! The reservation commands (Base 2.1, sections 7.5 to 7.8) and the data that come with them.
//!
//! What they do is section 8.1.22. Their answers, the report and the notifications, are in
//! [`log`](crate::log).

use zerocopy::little_endian::U64;

use crate::log::{notification, rtype};
use crate::opcode;
use crate::sqe::Sqe;
use crate::wire::wire;

/// A type of reservation (Base 2.1, section 8.1.22 and figure 645).
///
/// | type | holder | other registrants | other hosts |
/// |---|---|---|---|
/// | Write Exclusive | read, write | read | read |
/// | Exclusive Access | read, write | | |
/// | Write Exclusive - Registrants Only | read, write | read, write | read |
/// | Exclusive Access - Registrants Only | read, write | read, write | |
/// | Write Exclusive - All Registrants | read, write | all of them are holders | read |
/// | Exclusive Access - All Registrants | read, write | all of them are holders | |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReservationType {
    /// Write Exclusive.
    WriteExclusive = rtype::WRITE_EXCLUSIVE,
    /// Exclusive Access.
    ExclusiveAccess = rtype::EXCLUSIVE_ACCESS,
    /// Write Exclusive - Registrants Only.
    WriteExclusiveRegistrants = rtype::WRITE_EXCLUSIVE_REGISTRANTS,
    /// Exclusive Access - Registrants Only.
    ExclusiveAccessRegistrants = rtype::EXCLUSIVE_ACCESS_REGISTRANTS,
    /// Write Exclusive - All Registrants.
    WriteExclusiveAll = rtype::WRITE_EXCLUSIVE_ALL,
    /// Exclusive Access - All Registrants.
    ExclusiveAccessAll = rtype::EXCLUSIVE_ACCESS_ALL,
}

impl ReservationType {
    /// All there are, by number.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrants,
        Self::ExclusiveAccessRegistrants,
        Self::WriteExclusiveAll,
        Self::ExclusiveAccessAll,
    ];

    /// From its number; `None` if that is reserved (0 and 7 to 255).
    pub const fn from_wire(raw: u8) -> Option<Self> {
        match raw {
            1..=6 => Some(Self::ALL[raw as usize - 1]),
            _ => None,
        }
    }

    /// Its number.
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        rtype::name(self.to_wire())
    }

    /// Whether hosts without access may not even read.
    pub const fn excludes_reads(self) -> bool {
        match self {
            Self::WriteExclusive | Self::WriteExclusiveRegistrants | Self::WriteExclusiveAll => {
                false
            }
            Self::ExclusiveAccess | Self::ExclusiveAccessRegistrants | Self::ExclusiveAccessAll => {
                true
            }
        }
    }

    /// Whether registrants have the same access as the holder.
    pub const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Whether every registrant is a holder.
    pub const fn held_by_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAll | Self::ExclusiveAccessAll)
    }
}

/// What hosts are told by the Reservation Notification log page (Base 2.1, section 8.1.22.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Notification {
    /// Another host took the registration away.
    RegistrationPreempted = notification::REGISTRATION_PREEMPTED,
    /// A reservation was released, or changed its type.
    ReservationReleased = notification::RESERVATION_RELEASED,
    /// Another host cleared registrations and reservation.
    ReservationPreempted = notification::RESERVATION_PREEMPTED,
}

impl Notification {
    /// Its Reservation Notification Log Page Type.
    pub const fn to_wire(self) -> u8 {
        self as u8
    }
}

/// Dword 10 of Reservation Acquire and Release: the type is in bits 15:8.
fn typed(cdw10: u32) -> Option<ReservationType> {
    let [_, rtype, ..] = cdw10.to_le_bytes();
    ReservationType::from_wire(rtype)
}

/// IEKEY: bit 3 of dword 10.
const IGNORE_KEY: u32 = 1 << 3;

fn command(opcode: u8, cdw10: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.set_cdw(10, cdw10);
    sqe
}

/// RREGA: what Reservation Register does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterAction {
    /// Register a key.
    Register,
    /// Give the registration up.
    Unregister,
    /// Put another key in place of the one registered.
    Replace,
}

/// CPTPL: what Reservation Register does to the namespace's Persist Through Power Loss state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PersistenceChange {
    /// Nothing.
    #[default]
    Keep,
    /// Clear it: registrations and reservation end with the power.
    Clear,
    /// Set it: registrations and reservation outlast a loss of power.
    Set,
}

/// What a Reservation Register command asks for; its data are [`RegisterData`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationRegister {
    /// RREGA.
    pub action: RegisterAction,
    /// IEKEY: unregister or replace whatever the key is, even if there is none.
    pub ignore_key: bool,
    /// CPTPL.
    pub persistence: PersistenceChange,
}

impl ReservationRegister {
    /// From a command, whatever its opcode; `None` if RREGA or CPTPL is reserved, which is an
    /// Invalid Field. Reserved bits are not looked at.
    pub fn from_sqe(sqe: &Sqe) -> Option<Self> {
        let cdw10 = sqe.cdw(10);
        Some(Self {
            action: match cdw10 & 0x7 {
                0 => RegisterAction::Register,
                1 => RegisterAction::Unregister,
                2 => RegisterAction::Replace,
                _ => return None,
            },
            ignore_key: cdw10 & IGNORE_KEY != 0,
            persistence: match cdw10 >> 30 {
                0 => PersistenceChange::Keep,
                2 => PersistenceChange::Clear,
                3 => PersistenceChange::Set,
                _ => return None,
            },
        })
    }

    /// A command that asks for this, without NSID and SGL.
    pub fn to_sqe(&self) -> Sqe {
        let action = match self.action {
            RegisterAction::Register => 0,
            RegisterAction::Unregister => 1,
            RegisterAction::Replace => 2,
        };
        let persistence = match self.persistence {
            PersistenceChange::Keep => 0,
            PersistenceChange::Clear => 2,
            PersistenceChange::Set => 3,
        };
        let ignore_key = if self.ignore_key { IGNORE_KEY } else { 0 };
        command(opcode::nvm::RESERVATION_REGISTER, action | ignore_key | persistence << 30)
    }
}

/// RACQA: what Reservation Acquire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireAction {
    /// Take the reservation if there is none.
    Acquire,
    /// Take registrations away, and the reservation if their host holds it.
    Preempt,
    /// The same, and abort the commands of those hosts.
    PreemptAndAbort,
}

/// What a Reservation Acquire command asks for; its data are [`AcquireData`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationAcquire {
    /// RACQA.
    pub action: AcquireAction,
    /// RTYPE: the reservation that is to be.
    pub rtype: ReservationType,
}

impl ReservationAcquire {
    /// From a command, whatever its opcode; `None` if RACQA or RTYPE is reserved or IEKEY set,
    /// which is an Invalid Field. Reserved bits are not looked at.
    pub fn from_sqe(sqe: &Sqe) -> Option<Self> {
        let cdw10 = sqe.cdw(10);
        if cdw10 & IGNORE_KEY != 0 {
            return None;
        }
        let action = match cdw10 & 0x7 {
            0 => AcquireAction::Acquire,
            1 => AcquireAction::Preempt,
            2 => AcquireAction::PreemptAndAbort,
            _ => return None,
        };
        Some(Self { action, rtype: typed(cdw10)? })
    }

    /// A command that asks for this, without NSID and SGL.
    pub fn to_sqe(&self) -> Sqe {
        let action = match self.action {
            AcquireAction::Acquire => 0,
            AcquireAction::Preempt => 1,
            AcquireAction::PreemptAndAbort => 2,
        };
        let rtype = u32::from(self.rtype.to_wire());
        command(opcode::nvm::RESERVATION_ACQUIRE, action | rtype << 8)
    }
}

/// What a Reservation Release command asks for (RRELA); its data are [`ReleaseData`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationRelease {
    /// Release the reservation, which has this type (RTYPE).
    Release(ReservationType),
    /// Release the reservation and unregister all hosts.
    Clear,
}

impl ReservationRelease {
    /// From a command, whatever its opcode; `None` if RRELA is reserved, or RTYPE where it counts,
    /// or IEKEY set, which is an Invalid Field. Reserved bits are not looked at.
    pub fn from_sqe(sqe: &Sqe) -> Option<Self> {
        let cdw10 = sqe.cdw(10);
        // With IEKEY set, bit 3, no number is an action.
        match cdw10 & 0xf {
            0 => typed(cdw10).map(Self::Release),
            1 => Some(Self::Clear),
            _ => None,
        }
    }

    /// A command that asks for this, without NSID and SGL.
    pub fn to_sqe(&self) -> Sqe {
        let cdw10 = match self {
            Self::Release(rtype) => u32::from(rtype.to_wire()) << 8,
            Self::Clear => 1,
        };
        command(opcode::nvm::RESERVATION_RELEASE, cdw10)
    }
}

/// What a Reservation Report command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportRequest {
    /// NUMD: dwords of the report, 0's based; [`ReportRequest::len`] is in bytes.
    pub numd: u32,
    /// EDS: the extended structure, with 128-bit Host Identifiers. A controller whose host has such
    /// an identifier, as all have over fabrics, answers a request without it with Host Identifier
    /// Inconsistent Format.
    pub extended: bool,
}

impl ReportRequest {
    /// The bytes asked for, 4 to 16 GiB; a report may be shorter.
    #[allow(clippy::len_without_is_empty, reason = "no request is empty")]
    pub const fn len(&self) -> u64 {
        (self.numd as u64 + 1) * 4
    }

    /// From a command, whatever its opcode. Reserved bits are not looked at.
    pub fn from_sqe(sqe: &Sqe) -> Self {
        Self { numd: sqe.cdw(10), extended: sqe.cdw(11) & 1 != 0 }
    }

    /// A command that asks for this, without NSID and SGL.
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = command(opcode::nvm::RESERVATION_REPORT, self.numd);
        sqe.set_cdw(11, u32::from(self.extended));
        sqe
    }
}

wire! {
    /// The data of Reservation Register.
    #[derive(Debug)]
    pub struct RegisterData: 16 bytes {
        /// Current Reservation Key, to unregister or replace it.
        0 => crkey: U64,
        /// New Reservation Key, to register it or put it in place of the other.
        8 => nrkey: U64,
    }
}

wire! {
    /// The data of Reservation Acquire.
    #[derive(Debug)]
    pub struct AcquireData: 16 bytes {
        /// Current Reservation Key: the host's own.
        0 => crkey: U64,
        /// Preempt Reservation Key: of the registrations that are taken away.
        8 => prkey: U64,
    }
}

wire! {
    /// The data of Reservation Release.
    #[derive(Debug)]
    pub struct ReleaseData: 8 bytes {
        /// Current Reservation Key: the host's own.
        0 => crkey: U64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    /// A command with this dword 10.
    fn dword(cdw10: u32) -> Sqe {
        command(0, cdw10)
    }

    #[test]
    fn types_are_numbered_from_one_to_six() {
        for raw in 0..=u8::MAX {
            assert_eq!(
                ReservationType::from_wire(raw).map(ReservationType::to_wire),
                (1..=6).contains(&raw).then_some(raw)
            );
        }
        assert_eq!(ReservationType::from_wire(4).unwrap().name(), rtype::name(4));
    }

    #[test]
    fn register_has_action_key_bit_and_persistence_in_dword_10() {
        let register = ReservationRegister {
            action: RegisterAction::Replace,
            ignore_key: true,
            persistence: PersistenceChange::Set,
        };
        assert_eq!(register.to_sqe().as_bytes()[40..44], [0x0a, 0, 0, 0xc0]);
        assert_eq!(register.to_sqe().opcode, 0x0d);
        assert_eq!(ReservationRegister::from_sqe(&register.to_sqe()), Some(register));
        let plain = ReservationRegister::from_sqe(&dword(0)).unwrap();
        assert_eq!(plain.action, RegisterAction::Register);
        assert_eq!(plain.persistence, PersistenceChange::Keep);
        assert!(!plain.ignore_key);
        let clear = ReservationRegister::from_sqe(&dword(0x8000_0001)).unwrap();
        assert_eq!(clear.action, RegisterAction::Unregister);
        assert_eq!(clear.persistence, PersistenceChange::Clear);
        assert_eq!(clear.to_sqe().cdw(10), 0x8000_0001);
    }

    #[test]
    fn acquire_has_action_and_type_in_dword_10() {
        let acquire = ReservationAcquire {
            action: AcquireAction::PreemptAndAbort,
            rtype: ReservationType::ExclusiveAccessAll,
        };
        assert_eq!(acquire.to_sqe().as_bytes()[40..44], [2, 6, 0, 0]);
        assert_eq!(acquire.to_sqe().opcode, 0x11);
        assert_eq!(ReservationAcquire::from_sqe(&acquire.to_sqe()), Some(acquire));
        let preempt = ReservationAcquire::from_sqe(&dword(0x0301)).unwrap();
        assert_eq!(preempt.action, AcquireAction::Preempt);
        assert_eq!(preempt.rtype, ReservationType::WriteExclusiveRegistrants);
    }

    #[test]
    fn release_has_action_and_type_in_dword_10() {
        let release = ReservationRelease::Release(ReservationType::ExclusiveAccess);
        assert_eq!(release.to_sqe().as_bytes()[40..44], [0, 2, 0, 0]);
        assert_eq!(release.to_sqe().opcode, 0x15);
        assert_eq!(ReservationRelease::from_sqe(&release.to_sqe()), Some(release));
        // The type does not matter to Clear.
        for cdw10 in [1, 0xff01] {
            let clear = ReservationRelease::from_sqe(&dword(cdw10));
            assert_eq!(clear, Some(ReservationRelease::Clear));
        }
        assert_eq!(ReservationRelease::Clear.to_sqe().cdw(10), 1);
    }

    #[test]
    fn reserved_values_are_no_command() {
        for action in 3..8 {
            assert_eq!(ReservationRegister::from_sqe(&dword(action)), None, "{action}");
            assert_eq!(ReservationAcquire::from_sqe(&dword(0x100 | action)), None, "{action}");
            assert_eq!(ReservationRelease::from_sqe(&dword(0x100 | action)), None, "{action}");
        }
        assert_eq!(ReservationRelease::from_sqe(&dword(0x102)), None);
        assert_eq!(ReservationRegister::from_sqe(&dword(0x4000_0000)), None);
        for rtype in [0, 7, 0xff] {
            assert_eq!(ReservationAcquire::from_sqe(&dword(rtype << 8)), None, "{rtype}");
            assert_eq!(ReservationRelease::from_sqe(&dword(rtype << 8)), None, "{rtype}");
        }
    }

    #[test]
    fn only_register_may_ignore_the_key() {
        assert!(ReservationRegister::from_sqe(&dword(0x009)).unwrap().ignore_key);
        assert_eq!(ReservationAcquire::from_sqe(&dword(0x108)), None);
        assert_eq!(ReservationRelease::from_sqe(&dword(0x108)), None);
        assert_eq!(ReservationRelease::from_sqe(&dword(0x109)), None);
    }

    #[test]
    fn a_report_is_asked_for_in_dwords() {
        let report = ReportRequest { numd: 15, extended: true };
        assert_eq!(report.to_sqe().as_bytes()[40..48], [15, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(report.to_sqe().opcode, 0x0e);
        assert_eq!((report.len(), ReportRequest::from_sqe(&report.to_sqe())), (64, report));
        let largest = ReportRequest::from_sqe(&dword(u32::MAX));
        assert_eq!((largest.len(), largest.extended), (1 << 34, false));
    }

    #[test]
    fn keys_lie_where_the_specification_puts_them() {
        let bytes: [u8; 16] = [8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0x80];
        let register = RegisterData::read_from_bytes(&bytes).unwrap();
        assert_eq!(register.crkey, 0x0102_0304_0506_0708);
        assert_eq!(register.nrkey, 0x8000_0000_0000_0009);
        let acquire = AcquireData::read_from_bytes(&bytes).unwrap();
        assert_eq!((acquire.crkey, acquire.prkey), (register.crkey, register.nrkey));
        let release = ReleaseData::read_from_bytes(&bytes[..8]).unwrap();
        assert_eq!(release.crkey, register.crkey);
        assert_eq!(register.as_bytes(), bytes);
    }
}
