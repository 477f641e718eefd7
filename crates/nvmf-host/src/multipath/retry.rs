//! What to do with a command that did not succeed.
//!
//! Everything here may be executed twice: reading, writing the same bytes to the same place,
//! comparing, discarding. So a command whose answer was lost is tried again, and so is one that the
//! controller refused without saying Do Not Retry, as often as is useful. What a status says of the
//! path and not of the command (status code type 3h) is another path's business.

use std::time::Duration;

use nvmf::spec::Status;
use nvmf::spec::log::AnaState;

/// What follows from a status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is the command's: it failed.
    Failed,
    /// It may succeed the next time, after this long.
    Again(Duration),
    /// It is the path's: another one may do it. The state is what the status says of this one.
    Elsewhere(Option<AnaState>),
}

/// So often a command is tried again where its status says that this makes sense.
pub(crate) const MOST_RETRIES: u8 = 5;

/// The pauses that a controller asks for, by the status field's Command Retry Delay (Base 2.1, section
/// 4.2.3.1 and Identify Controller's CRDT1 to CRDT3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RetryDelays(pub(crate) [u16; 3]);

impl RetryDelays {
    const UNIT: Duration = Duration::from_millis(100);
    /// A controller that asks for more (they go up to almost two hours) is asked again before.
    const LONGEST: Duration = Duration::from_secs(30);

    fn of(self, crd: u8) -> Duration {
        let units = match crd {
            0 => 0,
            crd => self.0.get(usize::from(crd) - 1).copied().unwrap_or(0),
        };
        (Self::UNIT * u32::from(units)).min(Self::LONGEST)
    }
}

/// Judges the status of a command that was tried again `retries` times before.
pub(crate) fn judge(status: Status, retries: u8, delays: RetryDelays) -> Verdict {
    /// Path Related Status.
    const PATH: u8 = 3;
    if status.sct() == PATH {
        let state = [AnaState::PersistentLoss, AnaState::Inaccessible, AnaState::Change]
            .into_iter()
            .find(|state| state.status().is_some_and(|of| of.same_code(status)));
        return Verdict::Elsewhere(state);
    }
    let final_word = FINAL.iter().any(|of| of.same_code(status));
    if status.dnr() || final_word || retries >= MOST_RETRIES {
        return Verdict::Failed;
    }
    // Those that ask for no pause get one that grows.
    let asked = delays.of(status.crd());
    Verdict::Again(asked.max(Duration::from_millis(5) * (1 << retries.min(MOST_RETRIES))))
}

/// What is so and stays so, whether or not Do Not Retry is said with it.
const FINAL: &[Status] = &[
    Status::INVALID_OPCODE,
    Status::INVALID_FIELD,
    Status::INVALID_NAMESPACE,
    Status::DATA_SGL_LENGTH_INVALID,
    Status::NAMESPACE_WRITE_PROTECTED,
    Status::LBA_OUT_OF_RANGE,
    Status::CAPACITY_EXCEEDED,
    Status::RESERVATION_CONFLICT,
    Status::COMPARE_FAILURE,
    Status::ACCESS_DENIED,
    Status::WRITE_TO_READ_ONLY_RANGE,
];

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: RetryDelays = RetryDelays([1, 20, 60_000]);

    #[test]
    fn do_not_retry_is_obeyed_and_so_is_what_cannot_change() {
        let internal = Status::INTERNAL_ERROR;
        assert_eq!(judge(internal.with_dnr(true), 0, DELAYS), Verdict::Failed);
        assert_eq!(judge(Status::COMPARE_FAILURE, 0, DELAYS), Verdict::Failed);
        assert!(matches!(judge(internal, 0, DELAYS), Verdict::Again(_)));
        assert_eq!(judge(internal, MOST_RETRIES, DELAYS), Verdict::Failed);
    }

    #[test]
    fn a_retry_waits_as_long_as_the_controller_asks() {
        let after = |crd| judge(Status::NAMESPACE_NOT_READY.with_crd(crd), 0, DELAYS);
        assert_eq!(after(1), Verdict::Again(Duration::from_millis(100)));
        assert_eq!(after(2), Verdict::Again(Duration::from_secs(2)));
        assert_eq!(after(3), Verdict::Again(RetryDelays::LONGEST));
        assert_eq!(after(0), Verdict::Again(Duration::from_millis(5)));
        assert_eq!(
            judge(Status::INTERNAL_ERROR, 3, RetryDelays::default()),
            Verdict::Again(Duration::from_millis(40))
        );
    }

    #[test]
    fn what_a_status_says_of_the_path_is_for_another_path() {
        let of = |status: Status| judge(status.with_dnr(true), MOST_RETRIES, DELAYS);
        assert_eq!(of(Status::ANA_TRANSITION), Verdict::Elsewhere(Some(AnaState::Change)));
        assert_eq!(of(Status::ANA_INACCESSIBLE), Verdict::Elsewhere(Some(AnaState::Inaccessible)));
        assert_eq!(
            of(Status::ANA_PERSISTENT_LOSS),
            Verdict::Elsewhere(Some(AnaState::PersistentLoss))
        );
        assert_eq!(of(Status::new(3, 0x71)), Verdict::Elsewhere(None));
    }
}
