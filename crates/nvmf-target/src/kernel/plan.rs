//! From what the kernel has to what it shall have, in the order in which it lets itself be changed.
//!
//! Nobody comes in any more before anything else goes; what goes leaves before anything comes, so
//! that files and addresses are free; hosts come in last.
//!
//! - What something is linked to cannot be taken away, nor what has something in it.
//! - A port's address cannot change while a subsystem is linked to it; nor the file of a namespace
//!   while that is enabled.
//! - What a host was told of a subsystem cannot change: the subsystem is taken away and made anew.
//! - Hosts can be let in by name only while not all are, and all only while none is by name.

use std::collections::BTreeMap;

use super::attribute::{self as a, Attribute, Attributes, Changes, join};
use super::state::{Links, Port, State, Subsystem};
use super::step::Step;

/// A file that is not there and would have to have this value.
#[derive(Debug)]
pub(super) struct Lacking {
    pub(super) path: String,
    pub(super) value: String,
}

/// The steps from one state to the other; none where all that is wanted is so already.
///
/// Files of which the wanted state says nothing stay as they are. Everything else that it does not
/// have is taken away.
pub(super) fn plan(now: &State, wanted: &State) -> Result<Vec<Step>, Lacking> {
    let mut planner = Planner { now, wanted, steps: Vec::new() };
    planner.close_ports();
    planner.take_away();
    planner.change("", a::ROOT, &now.attributes, &wanted.attributes)?;
    planner.hosts()?;
    planner.ana_groups()?;
    planner.subsystems()?;
    planner.ports()?;
    planner.tidy();
    Ok(planner.steps)
}

struct Planner<'a> {
    now: &'a State,
    wanted: &'a State,
    steps: Vec<Step>,
}

impl<'a> Planner<'a> {
    /// The subsystem of this name, if it is there and stays.
    fn subsystem(&self, nqn: &str) -> Option<&'a Subsystem> {
        let wanted = self.wanted.subsystems.get(nqn)?;
        self.now.subsystems.get(nqn).filter(|now| !is_replaced(now, wanted))
    }

    /// The port of this identifier, if it is there and stays.
    fn port(&self, id: &str) -> Option<&'a Port> {
        let wanted = self.wanted.ports.get(id)?;
        let becomes = |now: &&Port| can_become(a::PORT, &now.attributes, &wanted.attributes);
        self.now.ports.get(id).filter(becomes)
    }

    fn mkdir(&mut self, path: &str) {
        self.steps.push(Step::Mkdir { path: path.into() });
    }

    fn rmdir(&mut self, path: &str) {
        self.steps.push(Step::Rmdir { path: path.into() });
    }

    fn unlink(&mut self, folder: &str, name: &str) {
        self.steps.push(Step::Unlink { path: join(folder, name) });
    }

    /// A link is called as what it is to.
    fn link(&mut self, folder: &str, to: &str, name: &str) {
        self.steps.push(Step::Link { path: join(folder, name), to: to.into() });
    }

    fn write(&mut self, at: &str, name: &str, value: &str) {
        self.steps.push(Step::write(at, name, value));
    }

    /// Writes those files of an item that do not have what is wanted.
    fn change(
        &mut self,
        at: &str,
        known: &[Attribute],
        now: &Attributes,
        wanted: &Attributes,
    ) -> Result<(), Lacking> {
        for attribute in differing(known, now, wanted) {
            let value = wanted.get(attribute.name).unwrap_or_default();
            if now.get(attribute.name).is_none() {
                return Err(lacking(at, attribute, value));
            }
            self.write(at, attribute.name, value);
        }
        Ok(())
    }

    /// Writes those files of a new item in which there is not yet what is wanted. `others` are the
    /// items of its kind that are there: a file that they lack it lacks, too.
    fn fill<'o>(
        &mut self,
        at: &str,
        known: &[Attribute],
        wanted: &Attributes,
        others: impl Iterator<Item = &'o Attributes> + Clone,
    ) -> Result<(), Lacking> {
        for attribute in known {
            let Some(value) = wanted.get(attribute.name) else { continue };
            if attribute.is_usual(value) {
                continue;
            }
            if others.clone().any(|other| other.get(attribute.name).is_none()) {
                return Err(lacking(at, attribute, value));
            }
            self.write(at, attribute.name, value);
        }
        Ok(())
    }

    /// Takes away the ports that go, and of the others the links to what goes; to all, where the port
    /// is to change.
    fn close_ports(&mut self) {
        for (id, port) in &self.now.ports {
            let at = format!("ports/{id}");
            let wanted = self.port(id).and(self.wanted.ports.get(id));
            for (nqn, name) in &port.subsystems {
                let stays = wanted.is_some_and(|wanted| {
                    wanted.subsystems.contains_key(nqn) && !is_reopened(port, wanted)
                });
                if !stays || self.subsystem(nqn).is_none() {
                    self.unlink(&format!("{at}/subsystems"), name);
                }
            }
            for name in port.referrals.keys() {
                if !wanted.is_some_and(|wanted| keeps_referral(port, wanted, name)) {
                    self.rmdir(&format!("{at}/referrals/{name}"));
                }
            }
            if wanted.is_none() {
                self.drop_groups(&at, port, &Port::default());
                self.rmdir(&at);
            }
        }
    }

    /// Takes away the ANA groups of a port that are not wanted.
    fn drop_groups(&mut self, at: &str, now: &Port, wanted: &Port) {
        for group in now.ana_groups.keys().filter(|group| *group != a::FIRST_ANA_GROUP) {
            if !wanted.ana_groups.contains_key(group) {
                self.rmdir(&format!("{at}/ana_groups/{group}"));
            }
        }
    }

    /// Takes away subsystems and namespaces that go, and disables those that are to change.
    fn take_away(&mut self) {
        for (nqn, subsystem) in &self.now.subsystems {
            let at = format!("subsystems/{nqn}");
            let wanted = self.subsystem(nqn).and(self.wanted.subsystems.get(nqn));
            for (nsid, namespace) in &subsystem.namespaces {
                let at = format!("{at}/namespaces/{nsid}");
                match wanted.and_then(|wanted| wanted.namespaces.get(nsid)) {
                    Some(wanted) if can_become(a::NAMESPACE, namespace, wanted) => {
                        self.turn_off(&at, a::NAMESPACE, namespace, wanted);
                    }
                    _ => self.rmdir(&at),
                }
            }
            let Some(wanted) = wanted else {
                for name in subsystem.allowed_hosts.values() {
                    self.unlink(&format!("{at}/allowed_hosts"), name);
                }
                self.rmdir(&at);
                continue;
            };
            self.turn_off(
                &format!("{at}/passthru"),
                a::PASSTHRU,
                &subsystem.passthru,
                &wanted.passthru,
            );
        }
    }

    /// Turns off what is on, for what is to change; [`Self::change_off`] is the rest.
    fn turn_off(&mut self, at: &str, known: &[Attribute], now: &Attributes, wanted: &Attributes) {
        if now.is_on(a::ENABLE) && is_off_for(known, now, wanted) {
            self.write(at, a::ENABLE, a::OFF);
        }
    }

    /// Makes the hosts that are wanted. Those that are not go at the end, when nothing is linked to
    /// them any more.
    fn hosts(&mut self) -> Result<(), Lacking> {
        let now = self.now;
        for (nqn, wanted) in &self.wanted.hosts {
            let at = format!("hosts/{nqn}");
            match now.hosts.get(nqn) {
                Some(now) => self.change(&at, a::HOST, now, wanted)?,
                None => {
                    self.mkdir(&at);
                    self.fill(&at, a::HOST, wanted, now.hosts.values())?;
                }
            }
        }
        Ok(())
    }

    /// Makes the ANA groups of ports that stay, before namespaces are moved to them.
    fn ana_groups(&mut self) -> Result<(), Lacking> {
        for (id, wanted) in &self.wanted.ports {
            if let Some(port) = self.port(id) {
                self.groups_of(&format!("ports/{id}"), &port.ana_groups, &wanted.ana_groups)?;
            }
        }
        Ok(())
    }

    fn groups_of(
        &mut self,
        port: &str,
        now: &BTreeMap<String, Attributes>,
        wanted: &BTreeMap<String, Attributes>,
    ) -> Result<(), Lacking> {
        for (group, wanted) in wanted {
            let at = format!("{port}/ana_groups/{group}");
            if let Some(now) = now.get(group) {
                self.change(&at, a::ANA_GROUPS, now, wanted)?;
            } else {
                self.mkdir(&at);
                self.fill(&at, a::ANA_GROUPS, wanted, [].iter())?;
            }
        }
        Ok(())
    }

    fn subsystems(&mut self) -> Result<(), Lacking> {
        for (nqn, wanted) in &self.wanted.subsystems {
            let at = format!("subsystems/{nqn}");
            match self.subsystem(nqn) {
                Some(there) => self.change_subsystem(&at, there, wanted)?,
                None => self.make_subsystem(&at, wanted)?,
            }
        }
        Ok(())
    }

    fn change_subsystem(
        &mut self,
        at: &str,
        now: &Subsystem,
        wanted: &Subsystem,
    ) -> Result<(), Lacking> {
        self.allow(at, now, wanted);
        let mut attributes = now.attributes.clone();
        if let Some(any) = wanted.attributes.get(a::ALLOW_ANY_HOST) {
            attributes.set(a::ALLOW_ANY_HOST, any);
        }
        // The least identifier is never above the greatest.
        let number = |of: &Attributes, name| of.get(name).and_then(|n| n.parse::<u32>().ok());
        let least = number(&wanted.attributes, a::CNTLID_MIN);
        let most = number(&now.attributes, a::CNTLID_MAX);
        if least.zip(most).is_some_and(|(least, most)| least > most)
            && let Some(value) = wanted.attributes.get(a::CNTLID_MAX)
        {
            self.write(at, a::CNTLID_MAX, value);
            attributes.set(a::CNTLID_MAX, value);
        }
        self.change(at, a::SUBSYSTEM, &attributes, &wanted.attributes)?;
        self.namespaces(at, &now.namespaces, &wanted.namespaces)?;
        self.change_off(&format!("{at}/passthru"), a::PASSTHRU, &now.passthru, &wanted.passthru)
    }

    fn make_subsystem(&mut self, at: &str, wanted: &Subsystem) -> Result<(), Lacking> {
        let others = self.now.subsystems.values();
        self.mkdir(at);
        self.fill(at, a::SUBSYSTEM, &wanted.attributes, others.clone().map(|o| &o.attributes))?;
        for (host, name) in &wanted.allowed_hosts {
            self.link(&format!("{at}/allowed_hosts"), &format!("hosts/{host}"), name);
        }
        self.namespaces(at, &BTreeMap::new(), &wanted.namespaces)?;
        let passthru = format!("{at}/passthru");
        self.fill(&passthru, a::PASSTHRU, &wanted.passthru, others.map(|other| &other.passthru))
    }

    /// Lets the hosts in that are wanted, and no others.
    fn allow(&mut self, at: &str, now: &Subsystem, wanted: &Subsystem) {
        let folder = format!("{at}/allowed_hosts");
        let any = |of: &Subsystem| of.attributes.is_on(a::ALLOW_ANY_HOST);
        for (_, name) in gone(&now.allowed_hosts, &wanted.allowed_hosts) {
            self.unlink(&folder, name);
        }
        if any(now) != any(wanted) && wanted.attributes.get(a::ALLOW_ANY_HOST).is_some() {
            let value = if any(wanted) { a::ON } else { a::OFF };
            self.write(at, a::ALLOW_ANY_HOST, value);
        }
        for (host, name) in gone(&wanted.allowed_hosts, &now.allowed_hosts) {
            self.link(&folder, &format!("hosts/{host}"), name);
        }
    }

    fn namespaces(
        &mut self,
        subsystem: &str,
        now: &BTreeMap<String, Attributes>,
        wanted: &BTreeMap<String, Attributes>,
    ) -> Result<(), Lacking> {
        for (nsid, wanted) in wanted {
            let at = format!("{subsystem}/namespaces/{nsid}");
            let there = now.get(nsid).filter(|now| can_become(a::NAMESPACE, now, wanted));
            if let Some(now) = there {
                self.change_off(&at, a::NAMESPACE, now, wanted)?;
            } else {
                self.mkdir(&at);
                let others = self.now.subsystems.values().flat_map(|s| s.namespaces.values());
                self.fill(&at, a::NAMESPACE, wanted, others)?;
            }
        }
        Ok(())
    }

    /// Changes what was disabled for it, if that was needed.
    fn change_off(
        &mut self,
        at: &str,
        known: &[Attribute],
        now: &Attributes,
        wanted: &Attributes,
    ) -> Result<(), Lacking> {
        let mut now = now.clone();
        if now.is_on(a::ENABLE) && is_off_for(known, &now, wanted) {
            now.set(a::ENABLE, a::OFF);
        }
        self.change(at, known, &now, wanted)
    }

    fn ports(&mut self) -> Result<(), Lacking> {
        let now = self.now;
        for (id, wanted) in &self.wanted.ports {
            let at = format!("ports/{id}");
            let none = Port::default();
            let there = self.port(id);
            if let Some(there) = there {
                self.change(&at, a::PORT, &there.attributes, &wanted.attributes)?;
            } else {
                self.mkdir(&at);
                self.fill(
                    &at,
                    a::PORT,
                    &wanted.attributes,
                    now.ports.values().map(|p| &p.attributes),
                )?;
                let first = (a::FIRST_ANA_GROUP.to_owned(), first_group());
                self.groups_of(&at, &[first].into(), &wanted.ana_groups)?;
            }
            let there = there.unwrap_or(&none);
            for (name, referral) in &wanted.referrals {
                if !(there.referrals.contains_key(name) && keeps_referral(there, wanted, name)) {
                    let at = format!("{at}/referrals/{name}");
                    self.mkdir(&at);
                    self.fill(&at, a::REFERRAL, referral, [].iter())?;
                }
            }
        }
        // All ports are what they shall be before the first one listens anew.
        for (id, wanted) in &self.wanted.ports {
            let there = self.port(id).filter(|there| !is_reopened(there, wanted));
            for (nqn, name) in &wanted.subsystems {
                let stays = there.is_some_and(|there| there.subsystems.contains_key(nqn));
                if !stays || self.subsystem(nqn).is_none() {
                    let folder = format!("ports/{id}/subsystems");
                    self.link(&folder, &format!("subsystems/{nqn}"), name);
                }
            }
        }
        Ok(())
    }

    /// Takes away what nothing uses any more.
    fn tidy(&mut self) {
        for (id, wanted) in &self.wanted.ports {
            if let Some(port) = self.port(id) {
                self.drop_groups(&format!("ports/{id}"), port, wanted);
            }
        }
        for host in self.now.hosts.keys().filter(|host| !self.wanted.hosts.contains_key(*host)) {
            self.rmdir(&format!("hosts/{host}"));
        }
    }
}

/// What the first ANA group of a new port has.
fn first_group() -> Attributes {
    Attributes::default().with(a::ANA_STATE, "optimized")
}

fn lacking(at: &str, attribute: &Attribute, value: &str) -> Lacking {
    let value = if a::is_secret(attribute.name) { "a key" } else { value };
    Lacking { path: join(at, attribute.name), value: value.into() }
}

/// The files that do not have what is wanted, in the order in which they are written. What the
/// kernel lacks has what it would have.
fn differing<'k>(
    known: &'k [Attribute],
    now: &Attributes,
    wanted: &Attributes,
) -> impl Iterator<Item = &'k Attribute> {
    known.iter().filter(|attribute| match (now.get(attribute.name), wanted.get(attribute.name)) {
        (_, None) => false,
        (Some(now), Some(wanted)) => {
            now != wanted && !(attribute.is_usual(now) && attribute.is_usual(wanted))
        }
        (None, Some(wanted)) => !attribute.is_usual(wanted),
    })
}

/// Whether what is on has to be off for a moment, or for good.
fn is_off_for(known: &[Attribute], now: &Attributes, wanted: &Attributes) -> bool {
    differing(known, now, wanted)
        .any(|attribute| attribute.changes == Changes::WhenOff || attribute.name == a::ENABLE)
}

/// Whether an item can get there. A value that there is not cannot be written.
fn can_become(known: &[Attribute], now: &Attributes, wanted: &Attributes) -> bool {
    !differing(known, now, wanted)
        .any(|attribute| matches!(wanted.get(attribute.name), Some("" | a::UNSET)))
}

/// Whether a port has to be closed and opened.
fn is_reopened(now: &Port, wanted: &Port) -> bool {
    differing(a::PORT, &now.attributes, &wanted.attributes).next().is_some()
}

/// Whether a subsystem has to be taken away and made anew.
fn is_replaced(now: &Subsystem, wanted: &Subsystem) -> bool {
    differing(a::SUBSYSTEM, &now.attributes, &wanted.attributes)
        .any(|attribute| attribute.changes == Changes::WhenNew)
}

/// Whether a referral of a port is one that is wanted.
fn keeps_referral(now: &Port, wanted: &Port, name: &str) -> bool {
    let (Some(now), Some(wanted)) = (now.referrals.get(name), wanted.referrals.get(name)) else {
        return false;
    };
    differing(a::REFERRAL, now, wanted).next().is_none()
}

/// The links to what the other has none to.
fn gone<'l>(these: &'l Links, others: &'l Links) -> impl Iterator<Item = (&'l String, &'l String)> {
    these.iter().filter(|(to, _)| !others.contains_key(*to))
}
