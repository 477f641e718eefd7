//! Walking from discovery controllers to those that they refer to (Base 2.1, section 3.1.3.3).

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use nvme_spec::log::subtype;

use super::DiscoveryLog;
use super::controller::{DiscoveryController, NoReferral};

/// How far a walk goes. Where it begins is not limited; what the logs make of it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WalkLimits {
    /// Referrals from a beginning to a controller, at most; with 0 none is followed.
    pub depth: u32,
    /// Controllers that are asked because of referrals, at most.
    pub referred: usize,
    /// Once the logs have as many entries, no referral is followed any more. One log has 16,384 at
    /// most, so that is how much more there can be.
    pub entries: usize,
    /// No referral is followed later than this after the walk began.
    pub time: Duration,
}

/// 8 referrals deep, 64 controllers, 65,536 entries, one minute.
impl Default for WalkLimits {
    fn default() -> Self {
        Self { depth: 8, referred: 64, entries: 64 << 10, time: Duration::from_secs(60) }
    }
}

impl WalkLimits {
    /// No referral is followed.
    pub fn no_referrals() -> Self {
        Self { depth: 0, ..Self::default() }
    }
}

/// A controller that was asked, and what came of it.
#[derive(Clone, Debug)]
pub struct Visit<L, E> {
    /// The controller.
    pub controller: DiscoveryController,
    /// Which visit referred to it first, by its place in [`Walked::visits`]; none for a beginning.
    pub referred_by: Option<usize>,
    /// Its log, or why there is none.
    pub log: Result<L, E>,
}

/// Referrals of one controller that were not followed, for one reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassedOver {
    /// Which visit has them in its log.
    pub referred_by: usize,
    /// How many.
    pub count: usize,
    /// Why.
    pub reason: Reason,
}

/// Why referrals were not followed. That their controller was asked already is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The entry says of no controller that could be asked.
    #[error(transparent)]
    NoReferral(NoReferral),
    /// [`WalkLimits::depth`].
    #[error("no more than {0} referrals are followed after each other")]
    Depth(u32),
    /// [`WalkLimits::referred`].
    #[error("no more than {0} controllers are asked because of referrals")]
    Referred(usize),
    /// [`WalkLimits::entries`].
    #[error("the logs have {0} entries and more")]
    Entries(usize),
    /// [`WalkLimits::time`].
    #[error("the walk took longer than {0:?}")]
    Time(Duration),
}

impl Reason {
    /// Whether a limit was the reason, and not the referral.
    pub fn is_limit(&self) -> bool {
        !matches!(self, Self::NoReferral(_))
    }
}

/// What a walk found.
#[derive(Clone, Debug)]
pub struct Walked<L, E> {
    /// The controllers that were asked, in that order: those it began with first.
    pub visits: Vec<Visit<L, E>>,
    /// Referrals that were not followed.
    pub passed_over: Vec<PassedOver>,
}

/// Asks these controllers, then those that their logs refer to, and so on. None is asked twice, so
/// those that refer to each other end the walk; one that fails is passed over.
///
/// This does no I/O of its own: `ask` does, and may take a log from wherever it likes.
/// [`Discoverer::walk`](super::Discoverer::walk) asks over TCP.
///
/// ```
/// use nvmf::host::discovery::{DiscoveryController, DiscoveryLog, WalkLimits, walk};
///
/// let begin = DiscoveryController::new("192.0.2.7", 8009);
/// let walked = walk([begin], &WalkLimits::default(), |controller| {
///     Err::<DiscoveryLog, _>(format!("nobody answers at {controller}"))
/// });
/// let error = walked.visits[0].log.as_ref().unwrap_err();
/// assert_eq!(error, "nobody answers at nvme+tcp://192.0.2.7:8009");
/// ```
pub fn walk<L: Borrow<DiscoveryLog>, E>(
    beginnings: impl IntoIterator<Item = DiscoveryController>,
    limits: &WalkLimits,
    mut ask: impl FnMut(&DiscoveryController) -> Result<L, E>,
) -> Walked<L, E> {
    let mut walker = Walker::new(*limits);
    for controller in beginnings {
        walker.begin(controller);
    }
    let mut walked = Walked { visits: Vec::new(), passed_over: Vec::new() };
    while let Some(next) = walker.next(&mut walked.passed_over) {
        let log = ask(&next.controller);
        let at = walked.visits.len();
        if let Ok(log) = &log {
            walker.follow(&next, at, log.borrow(), &mut walked.passed_over);
        }
        let Stop { controller, referred_by, .. } = next;
        walked.visits.push(Visit { controller, referred_by, log });
    }
    walked
}

/// A controller to be asked.
struct Stop {
    controller: DiscoveryController,
    referred_by: Option<usize>,
    depth: u32,
}

/// Where a walk is.
struct Walker {
    limits: WalkLimits,
    began: Instant,
    known: HashSet<DiscoveryController>,
    waiting: VecDeque<Stop>,
    /// Of those that are known, how many are because of referrals.
    referred: usize,
    entries: usize,
}

impl Walker {
    fn new(limits: WalkLimits) -> Self {
        Self {
            limits,
            began: Instant::now(),
            known: HashSet::new(),
            waiting: VecDeque::new(),
            referred: 0,
            entries: 0,
        }
    }

    fn begin(&mut self, controller: DiscoveryController) {
        if self.known.insert(controller.clone()) {
            self.waiting.push_back(Stop { controller, referred_by: None, depth: 0 });
        }
    }

    /// Whom to ask next, if it may be asked now.
    fn next(&mut self, passed_over: &mut Vec<PassedOver>) -> Option<Stop> {
        loop {
            let stop = self.waiting.pop_front()?;
            let Some(referred_by) = stop.referred_by else { return Some(stop) };
            let reason = if self.entries >= self.limits.entries {
                Reason::Entries(self.limits.entries)
            } else if self.began.elapsed() > self.limits.time {
                Reason::Time(self.limits.time)
            } else {
                return Some(stop);
            };
            count(passed_over, referred_by, reason);
        }
    }

    /// Has the referrals of a log followed, whose visit is number `at`.
    fn follow(
        &mut self,
        from: &Stop,
        at: usize,
        log: &DiscoveryLog,
        passed_over: &mut Vec<PassedOver>,
    ) {
        self.entries = self.entries.saturating_add(log.entries.len());
        if self.limits.depth == 0 {
            // That is what was asked for, and no reason to complain.
            return;
        }
        for entry in log.entries.iter().filter(|entry| entry.subtype == subtype::REFERRAL) {
            let reason = match from.controller.referred(entry) {
                Ok(controller) if self.known.contains(&controller) => continue,
                Ok(_) if from.depth >= self.limits.depth => Reason::Depth(self.limits.depth),
                Ok(_) if self.referred >= self.limits.referred => {
                    Reason::Referred(self.limits.referred)
                }
                Ok(controller) => {
                    self.referred += 1;
                    self.known.insert(controller.clone());
                    let depth = from.depth + 1;
                    self.waiting.push_back(Stop { controller, referred_by: Some(at), depth });
                    continue;
                }
                Err(reason) => Reason::NoReferral(reason),
            };
            count(passed_over, at, reason);
        }
    }
}

/// One more; what a log has thousands of is told once.
fn count(passed_over: &mut Vec<PassedOver>, referred_by: usize, reason: Reason) {
    let same = |one: &&mut PassedOver| (one.referred_by, one.reason) == (referred_by, reason);
    match passed_over.iter_mut().rev().find(same) {
        Some(one) => one.count = one.count.saturating_add(1),
        None => passed_over.push(PassedOver { referred_by, count: 1, reason }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use nvme_spec::Nqn;
    use nvme_spec::log::{DiscoveryEntry, adrfam, trtype};

    fn at(port: u16) -> DiscoveryController {
        DiscoveryController::new("192.0.2.1", port)
    }

    fn entry(kind: u8, port: u16) -> DiscoveryEntry {
        let port = port.to_string();
        DiscoveryEntry::tcp(kind, &Nqn::DISCOVERY, adrfam::IPV4, "192.0.2.1", &port).unwrap()
    }

    fn log(referrals: &[u16]) -> DiscoveryLog {
        let entries = referrals.iter().map(|port| entry(subtype::REFERRAL, *port));
        DiscoveryLog {
            generation: 1,
            flags: 0,
            entries: entries.collect(),
            attributes: BTreeMap::new(),
        }
    }

    /// The port that was asked, by which visit it was referred to, and whether it answered.
    type Step = (u16, Option<usize>, bool);

    /// The ports that are asked, of controllers that refer as the table says; others do not answer.
    fn asked(
        begin: &[u16],
        limits: &WalkLimits,
        table: &[(u16, &[u16])],
    ) -> (Vec<Step>, Vec<PassedOver>) {
        let walked = walk(begin.iter().map(|port| at(*port)), limits, |controller| {
            let known = table.iter().find(|(port, _)| *port == controller.port());
            known.map(|(_, referrals)| log(referrals)).ok_or(())
        });
        let visits = walked.visits.iter();
        let visits = visits.map(|v| (v.controller.port(), v.referred_by, v.log.is_ok()));
        (visits.collect(), walked.passed_over)
    }

    #[test]
    fn each_is_asked_once_though_they_refer_to_each_other_and_to_themselves() {
        let table: &[(u16, &[u16])] = &[(1, &[2, 3, 1]), (2, &[1, 3]), (3, &[2, 4]), (4, &[1])];
        let (visits, passed_over) = asked(&[1, 1, 2], &WalkLimits::default(), table);
        let expected = [(1, None, true), (2, None, true), (3, Some(0), true), (4, Some(2), true)];
        assert_eq!(visits, expected);
        assert_eq!(passed_over, []);
    }

    #[test]
    fn one_that_does_not_answer_does_not_end_the_walk() {
        let table: &[(u16, &[u16])] = &[(1, &[8, 2, 9]), (2, &[3]), (3, &[])];
        let (visits, _) = asked(&[7, 1], &WalkLimits::default(), table);
        let answered: Vec<_> = visits.iter().map(|(port, _, ok)| (*port, *ok)).collect();
        assert_eq!(answered, [(7, false), (1, true), (8, false), (2, true), (9, false), (3, true)]);
    }

    #[test]
    fn no_referral_is_followed_where_none_is_wanted() {
        let (visits, passed_over) = asked(&[1], &WalkLimits::no_referrals(), &[(1, &[2])]);
        assert_eq!((visits.len(), passed_over), (1, vec![]));
    }

    #[test]
    fn a_chain_ends_at_the_depth_and_says_so() {
        let chain: Vec<[u16; 1]> = (1..40).map(|port| [port + 1]).collect();
        let table: Vec<(u16, &[u16])> =
            (1..).zip(&chain).map(|(port, next)| (port, &next[..])).collect();
        let limits = WalkLimits { depth: 5, ..WalkLimits::default() };
        let (visits, passed_over) = asked(&[1], &limits, &table);
        assert_eq!(visits.len(), 6);
        let reason = Reason::Depth(5);
        assert_eq!(passed_over, [PassedOver { referred_by: 5, count: 1, reason }]);
        assert!(reason.is_limit());
    }

    #[test]
    fn a_log_full_of_referrals_costs_as_much_as_the_limit() {
        let many: Vec<u16> = (2..10_000).collect();
        let limits = WalkLimits { referred: 20, ..WalkLimits::default() };
        let (visits, passed_over) = asked(&[1], &limits, &[(1, &many)]);
        assert_eq!(visits.len(), 21);
        let reason = Reason::Referred(20);
        assert_eq!(passed_over, [PassedOver { referred_by: 0, count: 9998 - 20, reason }]);
    }

    #[test]
    fn logs_that_are_large_end_the_walk() {
        let limits = WalkLimits { entries: 7, ..WalkLimits::default() };
        let table: &[(u16, &[u16])] = &[(1, &[2, 3, 4]), (2, &[1, 1, 1, 1, 1]), (3, &[1])];
        let (visits, passed_over) = asked(&[1], &limits, table);
        assert_eq!(visits.len(), 2);
        let reason = Reason::Entries(7);
        assert_eq!(passed_over, [PassedOver { referred_by: 0, count: 2, reason }]);
    }

    #[test]
    fn a_walk_that_takes_long_ends_but_not_before_its_beginnings_were_asked() {
        let limits = WalkLimits { time: Duration::ZERO, ..WalkLimits::default() };
        let walked = walk([at(1), at(2)], &limits, |_| {
            std::thread::sleep(Duration::from_millis(2));
            Ok::<_, ()>(log(&[3]))
        });
        assert_eq!(walked.visits.len(), 2);
        let reason = Reason::Time(Duration::ZERO);
        assert_eq!(walked.passed_over, [PassedOver { referred_by: 0, count: 1, reason }]);
    }

    #[test]
    fn a_referral_by_another_transport_is_told_once_with_their_number() {
        let rdma = DiscoveryEntry { trtype: trtype::RDMA, ..entry(subtype::REFERRAL, 2) };
        let mut entries = vec![rdma; 3];
        entries.push(entry(subtype::CURRENT, 5));
        let walked = walk([at(1)], &WalkLimits::default(), |_| {
            Ok::<_, ()>(DiscoveryLog { entries: entries.clone(), ..log(&[]) })
        });
        let reason = Reason::NoReferral(NoReferral::Transport(trtype::RDMA));
        assert_eq!(walked.passed_over, [PassedOver { referred_by: 0, count: 3, reason }]);
        assert!(!reason.is_limit());
    }
}
