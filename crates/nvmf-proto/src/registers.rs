//! A controller's properties and what they make it do (Base 2.1, sections 3.1.4, 3.5, 3.6).

use nvme_spec::fabrics::{PropertyGet, PropertySet};
use nvme_spec::property::{Cap, Cc, Crto, Csts, Vs, is_wide, offset};
use nvme_spec::{Cqe, Sqe, Status, property};

/// The properties of one controller.
#[derive(Clone, Debug)]
pub struct Registers {
    cap: Cap,
    vs: Vs,
    cc: Cc,
    csts: Csts,
}

/// What a write to CC asks of the controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the controller has to act on it"]
pub enum Change {
    /// Nothing.
    None,
    /// EN went to 1: CSTS.RDY is set, commands may come.
    Enabled,
    /// EN went to 0, a controller reset: I/O queues are to be dropped, Asynchronous Event
    /// Requests forgotten, the admin queue kept.
    Reset,
    /// A shutdown was asked for: caches are to be written, then
    /// [`shutdown_complete`](Registers::shutdown_complete) called.
    Shutdown {
        /// The host cannot wait.
        abrupt: bool,
    },
}

impl Registers {
    /// The properties of a controller that is not enabled.
    pub fn new(cap: Cap, vs: Vs) -> Self {
        Self { cap, vs, cc: Cc(0), csts: Csts(0) }
    }

    /// CSTS.RDY: commands other than Fabrics commands are taken.
    pub fn is_ready(&self) -> bool {
        self.csts.rdy() == 1
    }

    /// CC.EN: I/O queues may connect.
    pub fn is_enabled(&self) -> bool {
        self.cc.en() == 1
    }

    /// Controller Configuration.
    pub fn cc(&self) -> Cc {
        self.cc
    }

    /// Controller Status.
    pub fn csts(&self) -> Csts {
        self.csts
    }

    /// Does a Property Get or Property Set command; `None` for any other command.
    ///
    /// The answer's command identifier is left 0.
    pub fn execute(&mut self, sqe: &Sqe) -> Option<(Cqe, Change)> {
        let done = if let Some(get) = PropertyGet::from_sqe(sqe) {
            width(get.attrib)
                .and_then(|wide| self.read(get.ofst.get(), wide))
                .map(|value| (Cqe::with_result(0, value), Change::None))
        } else {
            let set = PropertySet::from_sqe(sqe)?;
            width(set.attrib)
                .and_then(|wide| self.write(set.ofst.get(), set.value.get(), wide))
                .map(|change| (Cqe::new(0, Status::SUCCESS), change))
        };
        Some(done.unwrap_or_else(|status| (Cqe::new(0, status), Change::None)))
    }

    /// Reads the property at `offset`, eight bytes if `wide`.
    pub fn read(&self, offset: u32, wide: bool) -> Result<u64, Status> {
        self.check_size(offset, wide)?;
        Ok(match offset {
            offset::CAP => self.cap.0,
            offset::VS => self.vs.0.into(),
            offset::CC => self.cc.0.into(),
            offset::CSTS => self.csts.0.into(),
            offset::CRTO => Crto(0).with_crwmt(self.cap.to().into()).0.into(),
            // NSSR reads as 0.
            _ => 0,
        })
    }

    /// Writes the property at `offset`, eight bytes if `wide`.
    pub fn write(&mut self, offset: u32, value: u64, wide: bool) -> Result<Change, Status> {
        self.check_size(offset, wide)?;
        if offset != offset::CC {
            return Err(INVALID);
        }
        let cc = Cc(u32::try_from(value).map_err(|_| INVALID)?);
        self.check_configuration(cc)?;
        let old = std::mem::replace(&mut self.cc, cc);
        if old.en() == 1 && cc.en() == 0 {
            self.csts = Csts(0);
            return Ok(Change::Reset);
        }
        if cc.shn() != 0 && self.csts.shst() == 0 {
            self.csts = self.csts.with_shst(1);
            return Ok(Change::Shutdown { abrupt: cc.shn() == 2 });
        }
        if old.en() == 0 && cc.en() == 1 {
            self.csts = Csts(0).with_rdy(1);
            return Ok(Change::Enabled);
        }
        Ok(Change::None)
    }

    /// The shutdown is done: nothing that was acknowledged can be lost any more.
    pub fn shutdown_complete(&mut self) {
        if self.csts.shst() == 1 {
            self.csts = self.csts.with_shst(2);
        }
    }

    /// The controller cannot go on: CSTS.CFS.
    pub fn fail(&mut self) {
        self.csts = self.csts.with_cfs(1);
    }

    fn check_size(&self, offset: u32, wide: bool) -> Result<(), Status> {
        let known = property::name(offset).is_some() && (offset != offset::CRTO || self.has_crto());
        if known && is_wide(offset) == wide { Ok(()) } else { Err(INVALID) }
    }

    /// CRTO came with NVMe 2.0.
    fn has_crto(&self) -> bool {
        self.vs >= Vs::V2_0
    }

    fn check_configuration(&self, cc: Cc) -> Result<(), Status> {
        let css_known = match cc.css() {
            0 => self.cap.css() & 1 != 0,
            css @ (6 | 7) => self.cap.css() >> css & 1 != 0,
            _ => false,
        };
        let frozen = self.cc.en() == 1
            && cc.en() == 1
            && (cc.css(), cc.mps(), cc.ams()) != (self.cc.css(), self.cc.mps(), self.cc.ams());
        // Linux gives discovery controllers entry sizes too; 0 stands for "no I/O queues".
        let right = matches!(cc.iosqes(), 0 | 6)
            && matches!(cc.iocqes(), 0 | 4)
            && cc.shn() != 3
            && cc.ams() == 0
            && css_known
            && (self.cap.mpsmin()..=self.cap.mpsmax()).contains(&cc.mps())
            && cc.0 & Cc::RESERVED == 0
            && !frozen;
        if right { Ok(()) } else { Err(INVALID) }
    }
}

/// Whether a property command's ATTRIB asks for eight bytes.
fn width(attrib: u8) -> Result<bool, Status> {
    match attrib & 7 {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(INVALID),
    }
}

const INVALID: Status = Status::INVALID_FIELD.with_dnr(true);

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Registers {
        Registers::new(Cap(0).with_mqes(127).with_cqr(1).with_to(30).with_css(1), Vs::V1_4)
    }

    fn write(registers: &mut Registers, cc: Cc) -> Result<Change, Status> {
        registers.write(offset::CC, cc.0.into(), false)
    }

    #[test]
    fn enabling_makes_ready_and_disabling_resets() {
        let mut r = registers();
        assert!(!r.is_ready());
        assert_eq!(write(&mut r, Cc::ENABLE), Ok(Change::Enabled));
        assert!(r.is_ready());
        assert_eq!(write(&mut r, Cc::ENABLE), Ok(Change::None));
        assert_eq!(write(&mut r, Cc::ENABLE.with_en(0)), Ok(Change::Reset));
        assert!(!r.is_ready() && !r.is_enabled());
    }

    #[test]
    fn a_shutdown_is_in_progress_until_it_is_complete() {
        let mut r = registers();
        let _ = write(&mut r, Cc::ENABLE).unwrap();
        let shn = Cc::ENABLE.with_shn(1);
        assert_eq!(write(&mut r, shn), Ok(Change::Shutdown { abrupt: false }));
        assert_eq!(r.csts().shst(), 1);
        assert_eq!(write(&mut r, shn), Ok(Change::None), "asked for once more");
        r.shutdown_complete();
        assert_eq!(r.read(offset::CSTS, false), Ok(0b1001));
        assert_eq!(write(&mut r, Cc::ENABLE.with_en(0)), Ok(Change::Reset));
        assert_eq!(r.csts(), Csts(0));
    }

    #[test]
    fn an_abrupt_shutdown_says_so() {
        let mut r = registers();
        let _ = write(&mut r, Cc::ENABLE).unwrap();
        let shn = Cc::ENABLE.with_shn(2);
        assert_eq!(write(&mut r, shn), Ok(Change::Shutdown { abrupt: true }));
    }

    #[test]
    fn a_configuration_that_cannot_be_is_refused_and_changes_nothing() {
        let bad = [
            Cc::ENABLE.with_iosqes(5),
            Cc::ENABLE.with_iocqes(6),
            Cc::ENABLE.with_shn(3),
            Cc::ENABLE.with_ams(1),
            Cc::ENABLE.with_css(1),
            Cc::ENABLE.with_css(6),
            Cc::ENABLE.with_mps(1),
            Cc(Cc::ENABLE.0 | 2),
        ];
        for cc in bad {
            let mut r = registers();
            assert_eq!(write(&mut r, cc), Err(INVALID), "{cc:?}");
            assert_eq!((r.cc(), r.csts()), (Cc(0), Csts(0)));
        }
    }

    #[test]
    fn page_size_and_command_set_are_frozen_while_enabled() {
        let mut r = Registers::new(Cap(0).with_css(0x41).with_mpsmax(4), Vs::V1_4);
        let _ = write(&mut r, Cc::ENABLE).unwrap();
        assert_eq!(write(&mut r, Cc::ENABLE.with_mps(1)), Err(INVALID));
        assert_eq!(write(&mut r, Cc::ENABLE.with_css(6)), Err(INVALID));
    }

    #[test]
    fn properties_have_their_size_and_their_place() {
        let mut r = registers();
        assert_eq!(r.read(offset::CAP, true), Ok(0x20_1e01_007f));
        assert_eq!(r.read(offset::VS, false), Ok(0x1_0400));
        assert_eq!(r.read(offset::NSSR, false), Ok(0));
        let wrong =
            [(offset::CAP, false), (offset::VS, true), (4, false), (0x18, false), (9, true)];
        for (at, wide) in wrong {
            assert_eq!(r.read(at, wide), Err(INVALID), "{at:#x}");
        }
        assert_eq!(r.read(offset::CRTO, false), Err(INVALID), "not before 2.0");
        for at in [offset::VS, offset::CSTS, offset::NSSR] {
            assert_eq!(r.write(at, 0, false), Err(INVALID), "{at:#x}");
        }
        assert_eq!(r.write(offset::CC, 0, true), Err(INVALID));
        assert_eq!(r.write(offset::CC, 1 << 32, false), Err(INVALID));
        let new = Registers::new(Cap(0).with_to(30), Vs::V2_0);
        assert_eq!(new.read(offset::CRTO, false), Ok(30));
    }

    #[test]
    fn property_commands_read_and_write() {
        let mut r = registers();
        let enable = PropertySet::new(offset::CC, Cc::ENABLE.0.into(), false).to_sqe();
        let (cqe, change) = r.execute(&enable).unwrap();
        assert_eq!((cqe.status(), change), (Status::SUCCESS, Change::Enabled));
        let (cqe, _) = r.execute(&PropertyGet::new(offset::CAP, true).to_sqe()).unwrap();
        assert_eq!(cqe.result(), 0x20_1e01_007f);
        let mut odd = PropertyGet::new(offset::CSTS, false);
        odd.attrib = 2;
        assert_eq!(r.execute(&odd.to_sqe()).unwrap().0.status(), INVALID);
        assert_eq!(r.execute(&Sqe::new(nvme_spec::opcode::admin::IDENTIFY)), None);
    }
}
