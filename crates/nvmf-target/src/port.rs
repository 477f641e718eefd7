//! Where a target listens, and how each group of namespaces can be reached from there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use nvme_spec::Nqn;
use nvme_spec::log::AnaState;

use crate::limits;

/// An NVM subsystem port: an address to listen on, and the state of each ANA group there.
///
/// A group whose state was never set is optimized.
#[derive(Debug)]
pub struct Port {
    id: u16,
    address: SocketAddr,
    /// What is reached through it; `None` is everything.
    subsystems: RwLock<Option<BTreeSet<Nqn>>>,
    groups: Mutex<Groups>,
}

#[derive(Debug, Default)]
struct Groups {
    changes: u64,
    by_id: BTreeMap<u32, Group>,
}

/// An ANA group as it is seen from a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    pub(crate) state: AnaState,
    /// How often it changed.
    pub(crate) changes: u64,
}

impl Default for Group {
    fn default() -> Self {
        Self { state: AnaState::Optimized, changes: 0 }
    }
}

/// All groups of a port at one time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GroupStates {
    /// How often any of them changed.
    pub(crate) changes: u64,
    by_id: BTreeMap<u32, Group>,
}

impl GroupStates {
    pub(crate) fn of(&self, group: u32) -> Group {
        self.by_id.get(&group).copied().unwrap_or_default()
    }
}

impl Port {
    /// A port of this identifier, from 1, through which all subsystems are reached.
    pub fn new(id: u16, address: SocketAddr) -> Self {
        Self { id, address, subsystems: RwLock::default(), groups: Mutex::default() }
    }

    /// The same, through which only these subsystems are reached.
    #[must_use]
    pub fn with_subsystems(self, subsystems: impl IntoIterator<Item = Nqn>) -> Self {
        self.set_subsystems(Some(subsystems.into_iter().collect()));
        self
    }

    /// The same, where a group of namespaces is in this state from the beginning.
    #[must_use]
    pub fn with_ana(self, group: u32, state: AnaState) -> Self {
        self.set_ana(group, state);
        self
    }

    /// The port of connections that came over no network.
    pub(crate) fn none() -> Self {
        Self::new(0, SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// A port like this one, that is elsewhere.
    pub(crate) fn moved(&self, address: SocketAddr) -> Self {
        let subsystems = self.subsystems.read().unwrap_or_else(PoisonError::into_inner).clone();
        let groups = self.groups();
        let groups = Groups { changes: groups.changes, by_id: groups.by_id.clone() };
        Self {
            id: self.id,
            address,
            subsystems: RwLock::new(subsystems),
            groups: Mutex::new(groups),
        }
    }

    /// The same at the address that a socket got which was bound to port 0.
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// The port identifier: PORTID of its discovery log entries.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a subsystem is reached through it.
    pub fn serves(&self, subsystem: &Nqn) -> bool {
        let only = self.subsystems.read().unwrap_or_else(PoisonError::into_inner);
        only.as_ref().is_none_or(|only| only.contains(subsystem))
    }

    /// Says what is reached through it: `None` is everything. Who loses by it has to be told.
    pub(crate) fn set_subsystems(&self, subsystems: Option<BTreeSet<Nqn>>) {
        *self.subsystems.write().unwrap_or_else(PoisonError::into_inner) = subsystems;
    }

    /// The state of a group.
    pub fn ana(&self, group: u32) -> AnaState {
        self.groups().by_id.get(&group).copied().unwrap_or_default().state
    }

    /// Whether a group of this identifier can be.
    pub fn is_group(group: u32) -> bool {
        (1..=limits::ANA_GROUPS).contains(&group)
    }

    /// Sets the state of a group; whether that changed anything. Who sees it has to be told.
    pub(crate) fn set_ana(&self, group: u32, state: AnaState) -> bool {
        let mut groups = self.groups();
        let entry = groups.by_id.entry(group).or_default();
        if entry.state == state {
            return false;
        }
        entry.state = state;
        entry.changes += 1;
        groups.changes += 1;
        true
    }

    pub(crate) fn group_states(&self) -> GroupStates {
        let groups = self.groups();
        GroupStates { changes: groups.changes, by_id: groups.by_id.clone() }
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_optimized_until_it_is_said_to_be_something_else() {
        let port = Port::new(1, "192.0.2.1:4420".parse().unwrap());
        assert_eq!(port.ana(1), AnaState::Optimized);
        assert!(!port.set_ana(1, AnaState::Optimized));
        assert_eq!(port.group_states().changes, 0);
        assert!(port.set_ana(2, AnaState::Inaccessible));
        assert!(!port.set_ana(2, AnaState::Inaccessible), "it is already");
        assert!(port.set_ana(2, AnaState::Change));
        let states = port.group_states();
        assert_eq!((states.changes, states.of(2).changes, states.of(1).changes), (2, 2, 0));
        assert_eq!(states.of(2).state, AnaState::Change);
    }

    #[test]
    fn a_port_may_be_of_some_subsystems_only() {
        let (a, b) = (crate::testing::nqn("nqn.a"), crate::testing::nqn("nqn.b"));
        let port = Port::none();
        assert!(port.serves(&a) && port.serves(&b));
        let port = port.with_subsystems([a.clone()]);
        assert!(port.serves(&a) && !port.serves(&b));
    }
}
