//! From what the kernel has to a configuration: by what nvmetcli would save of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::attribute::{self as a, Attribute, Attributes};
use super::blocks;
use super::state::{Links, Port, State, Subsystem};
use crate::config::Config;
use crate::config::nvmetcli::{self, ImportError, Warning};

/// A configuration of what the kernel has, and what it does not say.
pub(super) fn save(state: &State) -> Result<(Config, Vec<Warning>), ImportError> {
    let blocks = |path: &str, buffered| blocks::size(Path::new(path), buffered).ok();
    let (mut config, warnings) = nvmetcli::convert(&saved(state), Some(&blocks))?;
    let nqn = state.attributes.get(a::DISCOVERY_NQN);
    let usual = |nqn: &&str| a::ROOT.iter().any(|attribute| attribute.is_usual(nqn));
    config.discovery.nqn = nqn.filter(|nqn| !usual(nqn)).map(str::to_owned);
    Ok((config, warnings))
}

/// The file that nvmetcli would save, but for what is as it always is.
fn saved(state: &State) -> Map<String, Value> {
    object([
        ("hosts", items(&state.hosts, |nqn, host| with(sections(a::HOST, host), "nqn", nqn))),
        ("ports", items(&state.ports, port)),
        ("subsystems", items(&state.subsystems, subsystem)),
    ])
}

fn subsystem(nqn: &str, subsystem: &Subsystem) -> Map<String, Value> {
    let mut object = with(sections(a::SUBSYSTEM, &subsystem.attributes), "nqn", nqn);
    if let Some(Value::Object(attr)) = object.get_mut("attr") {
        // Which version of NVMe it claims is the kernel's own affair.
        attr.remove("version");
    }
    object.insert("allowed_hosts".into(), names(&subsystem.allowed_hosts));
    object.insert("namespaces".into(), items(&subsystem.namespaces, namespace));
    if subsystem.passthru.is_on(a::ENABLE) {
        object.insert("passthru".into(), sections(a::PASSTHRU, &subsystem.passthru).into());
    }
    object
}

fn namespace(nsid: &str, namespace: &Attributes) -> Map<String, Value> {
    let mut object = with(sections(a::NAMESPACE, namespace), "nsid", number(nsid));
    // Where it is not said, it is.
    object.insert(a::ENABLE.into(), namespace.get(a::ENABLE).unwrap_or(a::OFF).into());
    object
}

fn port(id: &str, port: &Port) -> Map<String, Value> {
    let mut saved = with(sections(a::PORT, &port.attributes), "portid", number(id));
    let group = |grpid: &str, group: &Attributes| {
        let state = json!({ "state": group.get(a::ANA_STATE) });
        object([("grpid", number(grpid)), ("ana", state)])
    };
    saved.insert("ana_groups".into(), items(&port.ana_groups, group));
    saved.insert("referrals".into(), items(&port.referrals, referral));
    saved.insert("subsystems".into(), names(&port.subsystems));
    saved
}

fn referral(name: &str, referral: &Attributes) -> Map<String, Value> {
    let mut object = with(sections(a::REFERRAL, referral), "name", name);
    object.insert(a::ENABLE.into(), referral.get(a::ENABLE).unwrap_or(a::OFF).into());
    object
}

/// The files of an item in which there is something of its own: those of `attr_…` in an object
/// `attr`, and so on, as nvmetcli has them.
fn sections(known: &[Attribute], item: &Attributes) -> Map<String, Value> {
    let mut object = Map::new();
    for attribute in known {
        let Some(value) = item.get(attribute.name).filter(|value| !attribute.is_usual(value))
        else {
            continue;
        };
        let name = attribute.name;
        let (section, key) = match name.split_once('_') {
            Some((section @ ("attr" | "addr" | "param" | "device"), key)) => (Some(section), key),
            _ => (None, name),
        };
        match section {
            None => {
                object.insert(key.into(), value.into());
            }
            Some(section) => {
                let section = object.entry(section).or_insert_with(|| json!({}));
                if let Value::Object(section) = section {
                    section.insert(key.into(), value.into());
                }
            }
        }
    }
    object
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn with(mut object: Map<String, Value>, key: &str, value: impl Into<Value>) -> Map<String, Value> {
    object.insert(key.into(), value.into());
    object
}

fn items<T>(all: &BTreeMap<String, T>, item: impl Fn(&str, &T) -> Map<String, Value>) -> Value {
    all.iter().map(|(name, of)| Value::Object(item(name, of))).collect()
}

fn names(links: &Links) -> Value {
    links.keys().map(String::as_str).collect()
}

/// A number that is the name of a directory, which the kernel takes in any of C's notations.
fn number(name: &str) -> Value {
    let (digits, radix) = match name.strip_prefix("0x").or_else(|| name.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if name.len() > 1 && name.starts_with('0') => (name, 8),
        None => (name, 10),
    };
    u32::from_str_radix(digits, radix).map_or_else(|_| name.into(), Value::from)
}
