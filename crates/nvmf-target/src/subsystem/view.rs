//! A subsystem as one of its controllers shows it to its host.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use nvme_spec::Nqn;
use nvme_spec::log::AnaState;
use nvmf::controller::identify::NamespaceDescription;

use super::Namespace;
use crate::port::{Group, GroupStates, Port};

/// The namespaces that a host sees through a port, and how it can reach each.
///
/// It never changes. When something does, the controller gets another, and what is different
/// between the two is what its host is told.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// In ascending order of their identifiers.
    namespaces: Vec<Visible>,
    groups: GroupStates,
}

/// A namespace in a [`View`].
#[derive(Debug)]
pub(crate) struct Visible {
    nsid: u32,
    pub(crate) ana: AnaState,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) description: NamespaceDescription,
}

/// What a host has to be told of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Namespaces that came, went, or are not what they were.
    pub(crate) namespaces: Vec<u32>,
    /// The ANA log is another.
    pub(crate) ana: bool,
}

/// Where the queues of a controller find its view.
pub(crate) type SharedView = Arc<ArcSwap<View>>;

/// A queue's own hold on the view of its controller, which costs next to nothing to look at.
pub(crate) type CachedView = Cache<SharedView, Arc<View>>;

impl View {
    /// What `host` sees through `port`; `namespaces` ascend.
    pub(crate) fn new<'a>(
        namespaces: impl IntoIterator<Item = &'a Arc<Namespace>>,
        host: &Nqn,
        port: &Port,
    ) -> Self {
        let groups = port.group_states();
        let visible = namespaces.into_iter().filter(|ns| ns.is_visible_to(host)).map(|ns| {
            let description = ns.description();
            Visible {
                nsid: ns.nsid(),
                ana: groups.of(description.ana_group).state,
                namespace: Arc::clone(ns),
                description,
            }
        });
        Self { namespaces: visible.collect(), groups }
    }

    /// The namespace of this identifier.
    #[inline]
    pub(crate) fn get(&self, nsid: u32) -> Option<&Visible> {
        let at = self.namespaces.binary_search_by_key(&nsid, |ns| ns.nsid).ok()?;
        self.namespaces.get(at)
    }

    /// All of them, in ascending order of their identifiers.
    pub(crate) fn namespaces(&self) -> &[Visible] {
        &self.namespaces
    }

    /// How often the ANA log changed.
    pub(crate) fn ana_changes(&self) -> u64 {
        self.groups.changes
    }

    /// The ANA groups that have namespaces, ascending, with them.
    pub(crate) fn groups(&self) -> Vec<(u32, Group, Vec<u32>)> {
        let mut ids: Vec<u32> = self.namespaces.iter().map(|ns| ns.description.ana_group).collect();
        ids.sort_unstable();
        ids.dedup();
        let members = |group| {
            let of = self.namespaces.iter().filter(move |ns| ns.description.ana_group == group);
            of.map(|ns| ns.nsid).collect()
        };
        ids.into_iter().map(|group| (group, self.groups.of(group), members(group))).collect()
    }

    /// What is different in `new`.
    pub(crate) fn difference(&self, new: &Self) -> Difference {
        let same = |a: &Visible, b: &Visible| {
            Arc::ptr_eq(&a.namespace, &b.namespace) && a.description == b.description
        };
        let unlike = |of: &Self, than: &Self| -> Vec<u32> {
            let changed = of
                .namespaces
                .iter()
                .filter(|ns| than.get(ns.nsid).is_none_or(|other| !same(ns, other)));
            changed.map(|ns| ns.nsid).collect()
        };
        let mut namespaces = unlike(self, new);
        namespaces.extend(unlike(new, self));
        namespaces.sort_unstable();
        namespaces.dedup();
        Difference { namespaces, ana: self.groups() != new.groups() }
    }
}

impl Visible {
    pub(crate) fn nsid(&self) -> u32 {
        self.nsid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NQN, nqn};

    fn ns(nsid: u32) -> Arc<Namespace> {
        let spec = "null:1M".parse().unwrap();
        Namespace::open(nsid, &spec).unwrap().build(&nqn(NQN)).unwrap()
    }

    fn view(namespaces: &[&Arc<Namespace>], port: &Port) -> View {
        View::new(namespaces.iter().copied(), &nqn("nqn.host"), port)
    }

    #[test]
    fn a_view_has_what_the_host_may_see() {
        let (shared, own, other) = (ns(1), ns(2), ns(5));
        own.set_hosts(Some([nqn("nqn.host")].into()));
        other.set_hosts(Some([nqn("nqn.other")].into()));
        let view = view(&[&shared, &own, &other], &Port::none());
        assert_eq!(view.namespaces().iter().map(Visible::nsid).collect::<Vec<_>>(), [1, 2]);
        assert!(view.get(2).is_some() && view.get(5).is_none() && view.get(0).is_none());
    }

    #[test]
    fn the_difference_names_what_came_went_and_changed() {
        let (a, b, c, again) = (ns(1), ns(2), ns(3), ns(3));
        let port = Port::none();
        let before = view(&[&a, &b, &c], &port);
        assert_eq!(before.difference(&view(&[&a, &b, &c], &port)), Difference::default());
        b.set_write_protected(true);
        let after = view(&[&b, &again], &port);
        let changed = Difference { namespaces: vec![1, 2, 3], ana: true };
        assert_eq!(before.difference(&after), changed);
        assert_eq!(after.difference(&before), changed);
    }

    #[test]
    fn a_state_is_told_only_to_those_who_have_namespaces_in_the_group() {
        let (a, b) = (ns(1), ns(2));
        b.set_ana_group(2);
        let port = Port::none();
        let (one, both) = (view(&[&a], &port), view(&[&a, &b], &port));
        assert_eq!(both.groups()[1].2, [2]);
        port.set_ana(2, AnaState::Inaccessible);
        assert_eq!(one.difference(&view(&[&a], &port)), Difference::default());
        let changed = view(&[&a, &b], &port);
        assert_eq!(both.difference(&changed), Difference { namespaces: vec![], ana: true });
        assert_eq!(changed.get(2).unwrap().ana, AnaState::Inaccessible);
        assert_eq!(changed.get(1).unwrap().ana, AnaState::Optimized);
    }
}
