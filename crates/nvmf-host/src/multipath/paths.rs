//! Paths: what is known of each, and the choice between them.

use std::sync::Arc;
use std::time::Instant;

use nvmf::Error;
use nvmf::spec::log::AnaState;

use super::inbox::Inbox;
use crate::namespace::options::Settings;

/// Which of several paths that are equally good a command takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest commands under way.
    QueueDepth,
    /// The first of those that were named, as long as it works.
    Failover,
}

/// What is known of a path.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) name: String,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) phase: Phase,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// It is being connected since this time, after `cause` if it was there before.
    Connecting {
        since: Instant,
        cause: Option<String>,
        /// Why the last try failed.
        failure: Option<Error>,
    },
    /// It is there.
    Live {
        state: AnaState,
        /// The namespace is there.
        here: bool,
        cntlid: u16,
    },
    /// It was gone for too long.
    GivenUp { cause: String },
}

/// How a path is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PathState {
    /// It is being connected.
    Connecting,
    /// It is there.
    Live {
        /// How the namespace is reached by it.
        ana: AnaState,
        /// The controller at its end.
        cntlid: u16,
    },
    /// It is there, and the namespace is not.
    Gone,
    /// It was gone for `ctrl_loss_tmo`, or the namespace was closed: it is not tried any more.
    GivenUp,
}

/// A path and how it is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PathStatus {
    /// Its address.
    pub path: String,
    /// How it is.
    pub state: PathState,
    /// Commands under way on it.
    pub outstanding: usize,
}

impl Path {
    pub(crate) fn new(name: String) -> Self {
        let phase = Phase::Connecting { since: Instant::now(), cause: None, failure: None };
        Self { name, inbox: Arc::default(), phase }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    /// Whether it was tried, in vain.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(&self.phase, Phase::Connecting { failure: Some(_), .. } | Phase::GivenUp { .. })
    }

    pub(crate) fn status(&self) -> PathStatus {
        let state = match self.phase {
            Phase::Connecting { .. } => PathState::Connecting,
            Phase::Live { here: false, .. } => PathState::Gone,
            Phase::Live { state, cntlid, .. } => PathState::Live { ana: state, cntlid },
            Phase::GivenUp { .. } => PathState::GivenUp,
        };
        PathStatus { path: self.name.clone(), state, outstanding: self.inbox.load() }
    }

    /// When commands do not wait for it any more.
    pub(crate) fn fails_fast_at(&self, settings: &Settings) -> Option<Instant> {
        match &self.phase {
            Phase::Connecting { since, .. } => {
                settings.fast_io_fail.and_then(|limit| since.checked_add(limit))
            }
            _ => None,
        }
    }
}

impl Phase {
    /// The phase of a path that was there.
    pub(crate) fn connecting(cause: String) -> Self {
        Self::Connecting { since: Instant::now(), cause: Some(cause), failure: None }
    }

    /// A try has failed; since when the path is gone.
    pub(crate) fn fail(&mut self, error: Error) -> Instant {
        match self {
            Self::Connecting { since, failure, .. } => {
                *failure = Some(error);
                *since
            }
            Self::Live { .. } | Self::GivenUp { .. } => Instant::now(),
        }
    }

    pub(crate) fn give_up(&mut self) {
        *self = Self::GivenUp { cause: self.cause() };
    }

    /// Takes out of it why it failed.
    pub(crate) fn take_failure(&mut self) -> Self {
        let fresh = Self::Connecting { since: Instant::now(), cause: None, failure: None };
        std::mem::replace(self, fresh)
    }

    /// Why it is not there.
    fn cause(&self) -> String {
        match self {
            Self::Connecting { cause: _, failure: Some(error), .. } => error.to_string(),
            Self::Connecting { cause: Some(cause), .. } | Self::GivenUp { cause } => cause.clone(),
            Self::Connecting { .. } => "it is not connected yet".to_owned(),
            Self::Live { state, .. } => format!("it is {state}"),
        }
    }
}

/// What becomes of a command.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// It takes this path.
    Take(usize),
    /// There may be a path soon.
    Wait,
    /// The namespace is not there any more.
    Gone,
    /// There is no path: why not, each of them.
    None(String),
}

/// Chooses among the paths by which the namespace is reached best; `turn` is the one taken last,
/// `avoid` one that is taken only if there is no other.
pub(crate) fn choose(
    paths: &[Path],
    turn: usize,
    avoid: Option<usize>,
    now: Instant,
    settings: &Settings,
) -> Choice {
    let others = avoid.and_then(|_| best(paths, turn, avoid, settings));
    if let Some(at) = others.or_else(|| best(paths, turn, None, settings)) {
        return Choice::Take(at);
    }
    // None can take it now. Is there one that may soon?
    let may = |path: &Path| match path.phase {
        Phase::Connecting { .. } => path.fails_fast_at(settings).is_none_or(|at| at > now),
        Phase::Live { state, here, .. } => here && state != AnaState::PersistentLoss,
        Phase::GivenUp { .. } => false,
    };
    if paths.iter().any(may) {
        return Choice::Wait;
    }
    let gone = |path: &Path| matches!(path.phase, Phase::Live { here: false, .. });
    if paths.iter().any(gone) {
        return Choice::Gone;
    }
    Choice::None(complaints(paths).unwrap_or_default())
}

/// The best of those paths by which commands can go now, but for one.
fn best(paths: &[Path], turn: usize, but: Option<usize>, settings: &Settings) -> Option<usize> {
    [AnaState::Optimized, AnaState::NonOptimized].into_iter().find_map(|wanted| {
        let fits = |path: &Path| matches!(path.phase, Phase::Live { state, here: true, .. } if state == wanted);
        let mut fitting = paths
            .iter()
            .enumerate()
            .filter(|(at, path)| Some(*at) != but && fits(path));
        let choice = match settings.policy {
            Policy::Failover => fitting.next(),
            Policy::QueueDepth => fitting.min_by_key(|(_, path)| path.inbox.load()),
            Policy::RoundRobin => {
                // The first behind the one taken last, else the first.
                let mut first = None;
                fitting
                    .find(|(at, path)| {
                        first.get_or_insert((*at, *path));
                        *at > turn
                    })
                    .or(first)
            }
        };
        choice.map(|(at, _)| at)
    })
}

/// Why commands cannot go by any of these paths now; nothing if one can be taken.
pub(crate) fn complaints(paths: &[Path]) -> Option<String> {
    let usable = |path: &Path| match path.phase {
        Phase::Live { state, here, .. } => here && state.status().is_none(),
        Phase::Connecting { .. } | Phase::GivenUp { .. } => false,
    };
    if paths.iter().any(usable) {
        return None;
    }
    let one = |path: &Path| format!("{}: {}", path.name, path.phase.cause());
    Some(paths.iter().map(one).collect::<Vec<_>>().join("; "))
}
