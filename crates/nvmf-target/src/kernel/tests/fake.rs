//! Nvmet's configfs in memory, with the kernel's rules: which files a new item has, what may be
//! written when, what may be taken away.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::super::configfs::Configfs;
use rules::{listen, may_write_namespace, may_write_port, may_write_referral, number, overlap};

type Done<T = ()> = Result<T, Errno>;
type Files = BTreeMap<&'static str, String>;

/// A handle to a fake; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Nvmet>>);

#[derive(Debug, Default)]
pub(super) struct Nvmet {
    /// Files that this kernel does not have.
    pub(super) lacks: BTreeSet<&'static str>,
    /// The change that fails, counted from 0, and then no other.
    pub(super) fails_at: Option<usize>,
    /// Changes that were tried.
    pub(super) changes: usize,
    /// What is random in the kernel.
    next: u32,
    discovery_nqn: String,
    hosts: BTreeMap<String, Files>,
    subsystems: BTreeMap<String, Subsystem>,
    ports: BTreeMap<String, Port>,
}

#[derive(Debug)]
struct Subsystem {
    files: Files,
    /// A host has seen it.
    discovered: bool,
    passthru: Files,
    namespaces: BTreeMap<String, Files>,
    allowed_hosts: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Port {
    files: Files,
    subsystems: BTreeMap<String, String>,
    referrals: BTreeMap<String, Files>,
    ana_groups: BTreeMap<String, Files>,
}

const WELL_KNOWN: &str = "nqn.2014-08.org.nvmexpress.discovery";
const STATES: [&str; 5] =
    ["optimized", "non-optimized", "inaccessible", "persistent-loss", "change"];

impl Fake {
    pub(super) fn new() -> Self {
        let fake = Self::default();
        fake.nvmet().discovery_nqn = WELL_KNOWN.into();
        fake
    }

    pub(super) fn nvmet(&self) -> MutexGuard<'_, Nvmet> {
        self.0.lock().unwrap()
    }

    /// Changes something as another program would.
    #[track_caller]
    pub(super) fn sh(&self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let done = match words[..] {
                ["mkdir", path] => self.make_directory(path),
                ["rmdir", path] => self.remove_directory(path),
                ["ln", to, path] => self.make_link(path, to),
                ["rm", path] => self.remove_link(path),
                ["echo", path, value] => self.write(path, value),
                _ => panic!("{line}"),
            };
            done.unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    /// A change, unless it is the one that fails.
    fn change(&self, change: impl FnOnce(&mut Nvmet) -> Done) -> io::Result<()> {
        let mut nvmet = self.nvmet();
        let number = nvmet.changes;
        nvmet.changes += 1;
        if nvmet.fails_at == Some(number) {
            return Err(Errno::IO.into());
        }
        Ok(change(&mut nvmet)?)
    }
}

impl Configfs for Fake {
    fn directories(&self, path: &str) -> io::Result<Vec<String>> {
        Ok(self.nvmet().directories(&split(path))?)
    }

    fn links(&self, path: &str) -> io::Result<Vec<(String, String)>> {
        let mut nvmet = self.nvmet();
        let links = nvmet.links(&split(path))?;
        Ok(links.iter().map(|(name, to)| (name.clone(), to.clone())).collect())
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let parts = split(path);
        let mut nvmet = self.nvmet();
        if parts == ["discovery_nqn"] {
            let lacks = nvmet.lacks.contains("discovery_nqn");
            return if lacks { Err(Errno::NOENT.into()) } else { Ok(nvmet.discovery_nqn.clone()) };
        }
        let (name, at) = parts.split_last().unwrap();
        let value = nvmet.files(at)?.get(name).cloned().ok_or(Errno::NOENT)?;
        // As the kernel prints it.
        Ok(if *name == "attr_serial" { format!("{value:20}") } else { value })
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        // Of a write of nothing the kernel's target never hears.
        if value.is_empty() {
            return Ok(());
        }
        self.change(|nvmet| nvmet.write(&split(path), value))
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        self.change(|nvmet| nvmet.make_directory(&split(path)))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.change(|nvmet| nvmet.remove_directory(&split(path)))
    }

    fn make_link(&self, path: &str, to: &str) -> io::Result<()> {
        self.change(|nvmet| nvmet.make_link(&split(path), &split(to)))
    }

    fn remove_link(&self, path: &str) -> io::Result<()> {
        self.change(|nvmet| {
            let parts = split(path);
            let (name, folder) = parts.split_last().unwrap();
            nvmet.links(folder)?.remove(*name).map(drop).ok_or(Errno::NOENT)
        })
    }
}

fn split(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

fn files<const N: usize>(lacks: &BTreeSet<&'static str>, all: [(&'static str, &str); N]) -> Files {
    let there = all.into_iter().filter(|(name, _)| !lacks.contains(name));
    there.map(|(name, value)| (name, value.to_owned())).collect()
}

fn is_on(files: &Files) -> bool {
    files.get("enable").is_some_and(|value| value == "1")
}

impl Nvmet {
    /// A host has looked at all subsystems.
    pub(super) fn discover(&mut self) {
        self.subsystems.values_mut().for_each(|subsystem| subsystem.discovered = true);
    }

    /// The ports that listen.
    pub(super) fn listening(&self) -> usize {
        self.ports.values().filter(|port| !port.subsystems.is_empty()).count()
    }

    fn random(&mut self) -> String {
        self.next += 1;
        format!("{:08x}", self.next)
    }

    fn directories(&self, parts: &[&str]) -> Done<Vec<String>> {
        let names = |keys: Vec<&String>| Ok(keys.into_iter().cloned().collect());
        match *parts {
            ["hosts"] => names(self.hosts.keys().collect()),
            ["subsystems"] => names(self.subsystems.keys().collect()),
            ["ports"] => names(self.ports.keys().collect()),
            ["subsystems", s, "namespaces"] => {
                names(self.subsystems.get(s).ok_or(Errno::NOENT)?.namespaces.keys().collect())
            }
            ["ports", p, "referrals"] => {
                names(self.ports.get(p).ok_or(Errno::NOENT)?.referrals.keys().collect())
            }
            ["ports", p, "ana_groups"] => {
                names(self.ports.get(p).ok_or(Errno::NOENT)?.ana_groups.keys().collect())
            }
            _ => Err(Errno::NOENT),
        }
    }

    fn links(&mut self, parts: &[&str]) -> Done<&mut BTreeMap<String, String>> {
        match *parts {
            ["subsystems", s, "allowed_hosts"] => {
                Ok(&mut self.subsystems.get_mut(s).ok_or(Errno::NOENT)?.allowed_hosts)
            }
            ["ports", p, "subsystems"] => {
                Ok(&mut self.ports.get_mut(p).ok_or(Errno::NOENT)?.subsystems)
            }
            _ => Err(Errno::NOENT),
        }
    }

    fn files(&mut self, at: &[&str]) -> Done<&mut Files> {
        let found = match *at {
            ["hosts", h] => self.hosts.get_mut(h),
            ["subsystems", s] => self.subsystems.get_mut(s).map(|s| &mut s.files),
            ["subsystems", s, "passthru"] => self.subsystems.get_mut(s).map(|s| &mut s.passthru),
            ["subsystems", s, "namespaces", n] => {
                self.subsystems.get_mut(s).and_then(|s| s.namespaces.get_mut(n))
            }
            ["ports", p] => self.ports.get_mut(p).map(|p| &mut p.files),
            ["ports", p, "referrals", r] => {
                self.ports.get_mut(p).and_then(|p| p.referrals.get_mut(r))
            }
            ["ports", p, "ana_groups", g] => {
                self.ports.get_mut(p).and_then(|p| p.ana_groups.get_mut(g))
            }
            _ => None,
        };
        found.ok_or(Errno::NOENT)
    }

    fn make_directory(&mut self, parts: &[&str]) -> Done {
        let (name, folder) = parts.split_last().ok_or(Errno::PERM)?;
        if self.directories(folder)?.iter().any(|other| other == name) {
            return Err(Errno::EXIST);
        }
        let name = (*name).to_owned();
        match *folder {
            ["hosts"] => {
                let host = files(
                    &self.lacks,
                    [
                        ("dhchap_key", ""),
                        ("dhchap_ctrl_key", ""),
                        ("dhchap_hash", "hmac(sha256)"),
                        ("dhchap_dhgroup", "null"),
                    ],
                );
                self.hosts.insert(name, host);
            }
            ["subsystems"] if name == self.discovery_nqn || name == WELL_KNOWN => {
                return Err(Errno::INVAL);
            }
            ["subsystems"] => {
                let subsystem = self.new_subsystem();
                self.subsystems.insert(name, subsystem);
            }
            ["subsystems", s, "namespaces"] => {
                number(&name, 1, u32::MAX - 1)?;
                let namespace = self.new_namespace();
                let subsystem = self.subsystems.get_mut(s).ok_or(Errno::NOENT)?;
                subsystem.namespaces.insert(name, namespace);
            }
            ["ports"] => {
                number(&name, 0, 65535)?;
                self.ports.insert(name, new_port(&self.lacks));
            }
            ["ports", p, "referrals"] => {
                let referral = files(
                    &self.lacks,
                    [
                        ("addr_trtype", ""),
                        ("addr_adrfam", ""),
                        ("addr_traddr", ""),
                        ("addr_trsvcid", ""),
                        ("addr_treq", "not specified"),
                        ("addr_portid", "0"),
                        ("enable", "0"),
                    ],
                );
                self.ports.get_mut(p).ok_or(Errno::NOENT)?.referrals.insert(name, referral);
            }
            ["ports", p, "ana_groups"] => {
                number(&name, 2, 128)?;
                let group = files(&self.lacks, [("ana_state", "inaccessible")]);
                self.ports.get_mut(p).ok_or(Errno::NOENT)?.ana_groups.insert(name, group);
            }
            _ => return Err(Errno::PERM),
        }
        Ok(())
    }

    fn new_subsystem(&mut self) -> Subsystem {
        let serial = self.random();
        let files = files(
            &self.lacks,
            [
                ("attr_allow_any_host", "0"),
                ("attr_version", "2.1"),
                ("attr_serial", &serial),
                ("attr_model", "Linux"),
                ("attr_firmware", "6.12.48"),
                ("attr_ieee_oui", "0x000000"),
                ("attr_vendor_id", "0x0"),
                ("attr_subsys_vendor_id", "0x0"),
                ("attr_cntlid_min", "1"),
                ("attr_cntlid_max", "65519"),
                ("attr_qid_max", "128"),
                ("attr_pi_enable", "0"),
            ],
        );
        let passthru = match self.lacks.contains("passthru") {
            true => Files::new(),
            false => [("device_path", "(null)"), ("enable", "0"), ("clear_ids", "0")]
                .map(|(name, value)| (name, value.to_owned()))
                .into(),
        };
        Subsystem {
            files,
            discovered: false,
            passthru,
            namespaces: BTreeMap::new(),
            allowed_hosts: BTreeMap::new(),
        }
    }

    fn new_namespace(&mut self) -> Files {
        let uuid = format!("{}-0000-4000-8000-000000000000", self.random());
        files(
            &self.lacks,
            [
                ("device_path", "(null)"),
                ("device_uuid", &uuid),
                ("device_nguid", "00000000-0000-0000-0000-000000000000"),
                ("buffered_io", "0"),
                ("resv_enable", "0"),
                ("ana_grpid", "1"),
                ("enable", "0"),
            ],
        )
    }

    fn remove_directory(&mut self, parts: &[&str]) -> Done {
        match *parts {
            ["hosts", h] => {
                let mut links = self.subsystems.values().flat_map(|s| s.allowed_hosts.values());
                if links.any(|to| to == h) {
                    return Err(Errno::BUSY);
                }
                self.hosts.remove(h).map(drop).ok_or(Errno::NOENT)
            }
            ["subsystems", s] => {
                let subsystem = self.subsystems.get(s).ok_or(Errno::NOENT)?;
                if !subsystem.namespaces.is_empty() || !subsystem.allowed_hosts.is_empty() {
                    return Err(Errno::NOTEMPTY);
                }
                if self.ports.values().flat_map(|p| p.subsystems.values()).any(|to| to == s) {
                    return Err(Errno::BUSY);
                }
                self.subsystems.remove(s);
                Ok(())
            }
            ["subsystems", s, "namespaces", n] => {
                let subsystem = self.subsystems.get_mut(s).ok_or(Errno::NOENT)?;
                subsystem.namespaces.remove(n).map(drop).ok_or(Errno::NOENT)
            }
            ["ports", p] => {
                let port = self.ports.get(p).ok_or(Errno::NOENT)?;
                if !port.subsystems.is_empty()
                    || !port.referrals.is_empty()
                    || port.ana_groups.len() > 1
                {
                    return Err(Errno::NOTEMPTY);
                }
                self.ports.remove(p);
                Ok(())
            }
            ["ports", p, "referrals", r] => {
                let port = self.ports.get_mut(p).ok_or(Errno::NOENT)?;
                port.referrals.remove(r).map(drop).ok_or(Errno::NOENT)
            }
            ["ports", _, "ana_groups", "1"] => Err(Errno::PERM),
            ["ports", p, "ana_groups", g] => {
                let port = self.ports.get_mut(p).ok_or(Errno::NOENT)?;
                port.ana_groups.remove(g).map(drop).ok_or(Errno::NOENT)
            }
            _ => Err(Errno::PERM),
        }
    }

    fn make_link(&mut self, parts: &[&str], to: &[&str]) -> Done {
        let (name, folder) = parts.split_last().ok_or(Errno::PERM)?;
        let (target, there) = match (folder, to) {
            (["subsystems", s, "allowed_hosts"], ["hosts", host]) => {
                let subsystem = self.subsystems.get(*s).ok_or(Errno::NOENT)?;
                if subsystem.files["attr_allow_any_host"] == "1" {
                    return Err(Errno::INVAL);
                }
                (*host, self.hosts.contains_key(*host))
            }
            (["ports", id, "subsystems"], ["subsystems", nqn]) => {
                if !self.subsystems.contains_key(*nqn) {
                    return Err(Errno::NOENT);
                }
                self.open_port(id)?;
                (*nqn, true)
            }
            _ => return Err(Errno::INVAL),
        };
        if !there {
            return Err(Errno::NOENT);
        }
        let target = target.to_owned();
        let links = self.links(folder)?;
        if links.contains_key(*name) || links.values().any(|other| *other == target) {
            return Err(Errno::EXIST);
        }
        links.insert((*name).to_owned(), target);
        Ok(())
    }

    /// What the first link to a subsystem does.
    fn open_port(&mut self, id: &str) -> Done {
        let port = self.ports.get(id).ok_or(Errno::NOENT)?;
        if !port.subsystems.is_empty() {
            return Ok(());
        }
        let address = listen(port);
        match port.files["addr_trtype"].as_str() {
            "tcp" => {
                let address = address.ok_or(Errno::INVAL)?;
                let mut open = self.ports.values().filter(|other| !other.subsystems.is_empty());
                if open.any(|other| listen(other).is_some_and(|other| overlap(other, address))) {
                    return Err(Errno::ADDRINUSE);
                }
            }
            "loop" => {}
            _ => return Err(Errno::INVAL),
        }
        // What the transport chooses can be read from now on.
        let files = self.files(&["ports", id])?;
        for (name, chosen) in [
            ("param_inline_data_size", "16384"),
            ("param_max_queue_size", "1024"),
            ("param_mdts", "0"),
        ] {
            if let Some(value) = files.get_mut(name).filter(|value| *value == "-1") {
                *value = chosen.into();
            }
        }
        Ok(())
    }

    fn write(&mut self, parts: &[&str], value: &str) -> Done {
        let (name, at) = parts.split_last().ok_or(Errno::ISDIR)?;
        if at.is_empty() && *name == "discovery_nqn" {
            if self.lacks.contains(name) {
                return Err(Errno::NOENT);
            }
            if self.subsystems.keys().any(|nqn| nqn.starts_with(value)) {
                return Err(Errno::INVAL);
            }
            self.discovery_nqn = value.into();
            return Ok(());
        }
        if !self.files(at)?.contains_key(*name) {
            return Err(Errno::NOENT);
        }
        match at {
            ["subsystems", nqn] => self.may_write_subsystem(nqn, name, value)?,
            ["subsystems", nqn, "passthru"] => {
                let subsystem = &self.subsystems[*nqn];
                if *name == "device_path" && is_on(&subsystem.passthru) {
                    return Err(Errno::BUSY);
                }
                let enabled = subsystem.namespaces.values().any(is_on);
                if *name == "enable" && value == "1" && enabled {
                    return Err(Errno::INVAL);
                }
            }
            ["subsystems", nqn, "namespaces", nsid] => {
                let subsystem = &self.subsystems[*nqn];
                may_write_namespace(&subsystem.namespaces[*nsid], name, value)?;
                if *name == "enable" && value == "1" && is_on(&subsystem.passthru) {
                    return Err(Errno::INVAL);
                }
            }
            ["ports", id] => may_write_port(&self.ports[*id], name, value)?,
            ["ports", _, "referrals", _] => may_write_referral(self.files(at)?, name, value)?,
            ["ports", _, "ana_groups", _] if !STATES.contains(&value) => return Err(Errno::INVAL),
            _ => {}
        }
        let files = self.files(at)?;
        if let Some(old) = files.get_mut(*name) {
            *old = value.to_owned();
        }
        if *name == "addr_trtype"
            && let Some(tsas) = files.get_mut("addr_tsas")
        {
            *tsas = if value == "tcp" { "none" } else { "" }.into();
        }
        Ok(())
    }

    fn may_write_subsystem(&self, nqn: &str, name: &str, value: &str) -> Done {
        let subsystem = &self.subsystems[nqn];
        let other = |name: &str| subsystem.files[name].parse::<u32>().unwrap();
        let right = match name {
            "attr_allow_any_host" => value == "0" || subsystem.allowed_hosts.is_empty(),
            "attr_serial" => !subsystem.discovered && value.len() <= 20,
            "attr_model" => !subsystem.discovered && value.len() <= 40,
            "attr_firmware" => !subsystem.discovered && value.len() <= 8,
            "attr_version" | "attr_ieee_oui" => !subsystem.discovered,
            "attr_cntlid_min" => number(value, 1, other("attr_cntlid_max")).is_ok(),
            "attr_cntlid_max" => number(value, other("attr_cntlid_min"), 65535).is_ok(),
            "attr_qid_max" => number(value, 1, 128).is_ok(),
            _ => true,
        };
        if right { Ok(()) } else { Err(Errno::INVAL) }
    }
}

fn new_port(lacks: &BTreeSet<&'static str>) -> Port {
    let files_of_port = files(
        lacks,
        [
            ("addr_trtype", ""),
            ("addr_adrfam", ""),
            ("addr_traddr", ""),
            ("addr_trsvcid", ""),
            ("addr_treq", "not specified"),
            ("addr_tsas", ""),
            ("param_inline_data_size", "-1"),
            ("param_max_queue_size", "-1"),
            ("param_mdts", "-1"),
            ("param_pi_enable", "0"),
        ],
    );
    let first = files(lacks, [("ana_state", "optimized")]);
    Port {
        files: files_of_port,
        subsystems: BTreeMap::new(),
        referrals: BTreeMap::new(),
        ana_groups: [("1".to_owned(), first)].into(),
    }
}
