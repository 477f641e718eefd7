//! From the files that nvmetcli saves of Linux's kernel target (`/etc/nvmet/config.json`).
//!
//! They are taken as they are. What has no counterpart is left out, and a [`Warning`] says so.
//!
//! - Ports of other transports than TCP, ports that offer nothing, and namespaces that are not
//!   enabled are left out; so are names that are no NQNs, which the kernel takes and this target
//!   does not.
//! - A namespace keeps its UUID and NGUID, a subsystem its serial number, model and firmware, so
//!   that hosts find the disks that they know. Blocks are another matter: the kernel uses a device's
//!   logical block size, and for a file (and a device through the page cache) its file system's block
//!   size up to 4096. What was saved does not say which that is: 512 is taken for what is under `/dev`
//!   and not `buffered_io`, 4096 for the rest, and a warning says how to look.
//! - The data that a command capsule may bring is a port's there, and the target's here: it is the most
//!   that any port has, as far as there is so much.
//! - Files and devices are opened past the page cache (`direct`), as the kernel does, unless
//!   `buffered_io` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nvme_spec::Nqn;
use nvme_spec::log::AnaState;
use nvmf::controller::SerialNumber;
use nvmf_storage::{BlockSize, NamespaceSpec, Source};
use serde_json::{Map, Value};

use super::layout::{self, AnaGroup};
use super::{Config, HostList, Namespace, Port, Referral, Size, Subsystem};
use crate::limits::{self, InCapsule};

/// What was not taken over, or has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// What it is about, as in `subsystem nqn.2026-01.org.example:a, namespace 2`.
    pub about: String,
    /// What was done, in one line.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.message)
    }
}

/// Why nothing was imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The text is not JSON.
    #[error("line {line}: this is not JSON: {message}")]
    Json {
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// It is JSON of another kind.
    #[error("this is not what nvmetcli saves, which has lists of `ports` and `subsystems`")]
    Other,
    /// No port is left.
    #[error("there is no port to listen on over TCP{}", first(.warnings))]
    NoPort {
        /// What was left out.
        warnings: Vec<Warning>,
    },
}

fn first(warnings: &[Warning]) -> String {
    warnings
        .iter()
        .find(|w| w.about.starts_with("port "))
        .map_or_else(String::new, |w| format!(": {w}"))
}

/// Makes a configuration of what nvmetcli saved.
///
/// Where the result does not [resolve](Config::resolve), warnings say what is left to do by hand.
///
/// ```
/// let saved = r#"{
///   "ports": [{ "portid": 1, "subsystems": ["nqn.2026-01.org.example:a"], "addr": {
///     "trtype": "tcp", "adrfam": "ipv4", "traddr": "192.0.2.7", "trsvcid": "4420" } }],
///   "subsystems": [{ "nqn": "nqn.2026-01.org.example:a", "namespaces": [],
///     "attr": { "allow_any_host": "1", "serial": "0123456789" } }]
/// }"#;
/// let (config, warnings) = nvmf_target::config::nvmetcli::import(saved)?;
/// assert_eq!(config.ports[0].listen, "192.0.2.7:4420");
/// assert!(config.resolve().is_ok() && warnings.is_empty());
/// # Ok::<(), nvmf_target::config::nvmetcli::ImportError>(())
/// ```
///
/// # Errors
///
/// [`ImportError`] if the text is not such a file, or no port in it is one of TCP.
pub fn import(json: &str) -> Result<(Config, Vec<Warning>), ImportError> {
    let root: Value = serde_json::from_str(json)
        .map_err(|error| ImportError::Json { line: error.line(), message: error.to_string() })?;
    convert(root.as_object().ok_or(ImportError::Other)?, None)
}

/// Says how large the blocks are, in bytes, that the kernel has of this path: past the page cache, or
/// through it (`buffered_io`). `None` where nobody knows.
pub(crate) type Blocks<'a> = &'a dyn Fn(&str, bool) -> Option<u32>;

/// The same of what is JSON already, of a machine whose files may be there to look at.
pub(crate) fn convert(
    root: &Map<String, Value>,
    blocks: Option<Blocks<'_>>,
) -> Result<(Config, Vec<Warning>), ImportError> {
    if !(root.get("ports").is_some_and(Value::is_array)
        && root.get("subsystems").is_some_and(Value::is_array))
    {
        return Err(ImportError::Other);
    }
    let mut import = Import {
        config: Config::default(),
        warnings: Vec::new(),
        in_capsule: Vec::new(),
        referrals: Vec::new(),
        blocks,
    };
    import.left_out("the file", root, &["hosts", "ports", "subsystems"]);
    for host in objects(root, "hosts") {
        let about = format!("host {}", text(host, "nqn").unwrap_or_default());
        // These are keys, which nobody wants to see on a screen.
        if host.iter().any(|(key, value)| key != "nqn" && is_set(value)) {
            import.warn(&about, "its keys are left out: hosts are not authenticated here");
        }
    }
    for subsystem in objects(root, "subsystems") {
        import.subsystem(subsystem);
    }
    for port in objects(root, "ports") {
        import.port(port);
    }
    import.in_capsule();
    import.referrals();
    let Import { config, mut warnings, .. } = import;
    if config.ports.is_empty() {
        return Err(ImportError::NoPort { warnings });
    }
    if let Err(error) = config.resolve() {
        let message =
            |problem: &super::Problem| format!("to be settled by hand: {}", problem.message);
        warnings.extend(
            error
                .problems()
                .iter()
                .map(|problem| Warning { about: problem.key.clone(), message: message(problem) }),
        );
    }
    Ok((config, warnings))
}

struct Import<'a> {
    config: Config,
    warnings: Vec<Warning>,
    /// What each port that is taken over has for data in capsules, in bytes, and what it is called.
    in_capsule: Vec<(String, u32)>,
    /// The referrals of each port that is taken over, with what they are called and which port that
    /// is, of those of the configuration.
    referrals: Vec<(String, usize, Referral)>,
    /// What the kernel's blocks are, where one can look.
    blocks: Option<Blocks<'a>>,
}

impl Import<'_> {
    fn warn(&mut self, about: &str, message: impl Into<String>) {
        let about = about.escape_debug().to_string();
        self.warnings.push(Warning { about, message: message.into() });
    }

    /// Warns of everything in an object that is set and that nobody reads.
    fn left_out(&mut self, about: &str, object: &Map<String, Value>, known: &[&str]) {
        for (key, value) in object.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            if is_set(value) {
                let value = shown(value);
                self.warn(about, format!("{} = {value} is left out", key.escape_debug()));
            }
        }
    }

    fn subsystem(&mut self, saved: &Map<String, Value>) {
        let name = text(saved, "nqn").unwrap_or_default();
        let about = format!("subsystem {name}");
        if let Err(error) = Nqn::parse_strict(&name) {
            self.warn(
                &about,
                format!(
                    "it is left out, because hosts could not rely on its name: {error}; give \
                     it another, here and at its hosts"
                ),
            );
            return;
        }
        self.left_out(&about, saved, &["nqn", "attr", "allowed_hosts", "namespaces"]);
        let none = Map::new();
        let attr = saved.get("attr").and_then(Value::as_object).unwrap_or(&none);
        self.left_out(
            &about,
            attr,
            &[
                "allow_any_host",
                "serial",
                "model",
                "firmware",
                "cntlid_min",
                "cntlid_max",
                "qid_max",
            ],
        );
        let serial = text(attr, "serial").filter(|serial| match SerialNumber::new(serial) {
            Ok(_) => true,
            Err(error) => {
                self.warn(&about, format!("its serial number is left out: {error}"));
                false
            }
        });
        if serial.is_none() {
            self.warn(
                &about,
                "it has no serial number here, so that it gets another than hosts know",
            );
        }
        let attr_number = |key: &str, usual: u32| number(attr, key).filter(|n| *n != usual);
        let subsystem = Subsystem {
            serial,
            // What the kernel says where nothing else was set.
            model: Some(text(attr, "model").unwrap_or_else(|| "Linux".to_owned())),
            firmware: text(attr, "firmware"),
            hosts: Some(self.hosts(&about, saved, attr)),
            max_io_queues: attr_number("qid_max", limits::IO_QUEUES.into()),
            max_transfer: None,
            max_queue_entries: None,
            static_controllers: None,
            cntlid_min: attr_number("cntlid_min", 1),
            cntlid_max: attr_number("cntlid_max", (*layout::Subsystem::CNTLID.end()).into()),
            namespaces: objects(saved, "namespaces")
                .filter_map(|namespace| self.namespace(&about, namespace))
                .collect(),
            nqn: name,
        };
        self.config.subsystems.push(subsystem);
    }

    fn hosts(
        &mut self,
        about: &str,
        saved: &Map<String, Value>,
        attr: &Map<String, Value>,
    ) -> HostList {
        let allowed = texts(saved, "allowed_hosts");
        if number(attr, "allow_any_host").is_some_and(|any| any != 0) {
            if !allowed.is_empty() {
                self.warn(about, "its allowed_hosts are left out, since any host may connect");
            }
            return HostList::Any;
        }
        let right = |host: &String| match Nqn::parse_strict(host) {
            Ok(_) => true,
            Err(error) => {
                self.warn(
                    about,
                    format!(
                        "host `{}` is left out and cannot connect: {error}",
                        host.escape_debug()
                    ),
                );
                false
            }
        };
        HostList::Only(allowed.into_iter().filter(right).collect())
    }

    fn namespace(&mut self, subsystem: &str, saved: &Map<String, Value>) -> Option<Namespace> {
        let id = number(saved, "nsid");
        let about = format!("{subsystem}, namespace {}", id.unwrap_or_default());
        if number(saved, "enable") == Some(0) {
            self.warn(&about, "it is left out, because it is not enabled");
            return None;
        }
        self.left_out(&about, saved, &["nsid", "enable", "device", "ana_grpid", "buffered_io"]);
        let none = Map::new();
        let device = saved.get("device").and_then(Value::as_object).unwrap_or(&none);
        self.left_out(&about, device, &["path", "uuid", "nguid"]);
        let path = text(device, "path").unwrap_or_default();
        let buffered = number(saved, "buffered_io").is_some_and(|buffered| buffered != 0);
        let mut spec = NamespaceSpec::new(Source::File {
            path: path.as_str().into(),
            read_only: false,
            direct: !buffered,
        });
        // A path that ends like an option is none to the parser.
        if spec.to_string().parse().as_ref() != Ok(&spec) {
            self.warn(
                &about,
                format!(
                    "it is left out, because there is no source for the path `{}`; make a \
                     link to it",
                    path.escape_debug()
                ),
            );
            return None;
        }
        spec.block_size = self.block_size(&about, &path, buffered)?;
        let group = number(saved, "ana_grpid").filter(|group| *group > 1);
        let ana_group = group.filter(|group| {
            let known = AnaGroup::new(*group).is_some();
            if !known {
                self.warn(
                    &about,
                    format!("its ANA group {group} is left out; there are 1 to {}", AnaGroup::MAX),
                );
            }
            known
        });
        let digits = |key| {
            let digits = text(device, key)?.replace('-', "").to_lowercase();
            (digits.bytes().any(|c| c != b'0')).then_some(digits)
        };
        Some(Namespace {
            id,
            source: spec.to_string(),
            uuid: digits("uuid").and_then(|_| text(device, "uuid")),
            nguid: digits("nguid"),
            ana_group,
            ..Namespace::default()
        })
    }

    /// How large the kernel's blocks are, if it is known; if not, what they are likely to be. `None`:
    /// there are none of this size here.
    fn block_size(&mut self, about: &str, path: &str, buffered: bool) -> Option<BlockSize> {
        if let Some(bytes) = self.blocks.and_then(|blocks| blocks(path, buffered)) {
            let size = BlockSize::new(bytes);
            if let Err(error) = &size {
                self.warn(about, format!("it is left out, because of its blocks: {error}"));
            }
            return size.ok();
        }
        let shown = path.escape_debug();
        // Through the page cache the kernel takes a device for a file of the file system at /dev.
        if path.starts_with("/dev/") && !buffered {
            self.warn(
                about,
                format!(
                    "blocks of 512 bytes are taken for what its hosts know; if `blockdev \
                     --getss {shown}` says 4096, take bs=512 out of its source"
                ),
            );
            return Some(BlockSize::B512);
        }
        self.warn(
            about,
            format!(
                "blocks of 4096 bytes are taken for what its hosts know; if `stat -f -c \
                 %S {shown}` says 512, add bs=512 to its source"
            ),
        );
        Some(BlockSize::B4096)
    }

    fn port(&mut self, saved: &Map<String, Value>) {
        let id = number(saved, "portid");
        let about = format!("port {}", id.unwrap_or_default());
        let none = Map::new();
        let addr = saved.get("addr").and_then(Value::as_object).unwrap_or(&none);
        let Some(listen) = self.address(&about, addr) else { return };
        let offered = texts(saved, "subsystems");
        if offered.is_empty() {
            self.warn(&about, "it is left out, because it offers no subsystem");
            return;
        }
        self.left_out(
            &about,
            saved,
            &["portid", "addr", "param", "ana_groups", "referrals", "subsystems"],
        );
        let param = saved.get("param").and_then(Value::as_object).unwrap_or(&none);
        let mut known = Vec::new();
        // What the kernel has where nothing was set is -1 to it, and 16 KiB over TCP.
        const UNSET: &str = "-1";
        let in_capsule = number(param, "inline_data_size");
        if in_capsule.is_some() || text(param, "inline_data_size").is_some_and(|t| t == UNSET) {
            known.push("inline_data_size");
        }
        self.in_capsule.push((about.clone(), in_capsule.unwrap_or(limits::IN_CAPSULE)));
        self.left_out(&about, param, &known);
        let subsystems: Vec<String> = offered
            .into_iter()
            .filter(|name| self.config.subsystems.iter().any(|subsystem| subsystem.nqn == *name))
            .collect();
        let ana = self.ana(&about, saved, &subsystems);
        for referral in objects(saved, "referrals") {
            self.referral(&about, referral);
        }
        self.config.ports.push(Port { id, listen, subsystems: Some(subsystems), ana });
    }

    /// The ANA groups that are not optimized on a port that offers these subsystems.
    fn ana(
        &mut self,
        about: &str,
        saved: &Map<String, Value>,
        offered: &[String],
    ) -> BTreeMap<String, String> {
        // A group that a port does not have is inaccessible there, but for the first.
        let here = self.config.subsystems.iter().filter(|s| offered.contains(&s.nqn));
        let used = here.flat_map(|subsystem| &subsystem.namespaces).filter_map(|ns| ns.ana_group);
        let mut states: BTreeMap<u32, String> =
            used.map(|group| (group, AnaState::Inaccessible.name().to_owned())).collect();
        for group in objects(saved, "ana_groups") {
            let number = number(group, "grpid").unwrap_or_default();
            let state = group.get("ana").and_then(Value::as_object);
            let state = state.and_then(|ana| text(ana, "state"));
            let state = state.unwrap_or_else(|| AnaState::Optimized.name().to_owned());
            if AnaGroup::new(number).is_none() && state != AnaState::Optimized.name() {
                self.warn(
                    about,
                    format!(
                        "ANA group {number}, which is {state}, is left out; there are 1 to {}",
                        AnaGroup::MAX
                    ),
                );
            }
            states.insert(number, state);
        }
        states.retain(|group, state| {
            AnaGroup::new(*group).is_some() && state != AnaState::Optimized.name()
        });
        states.into_iter().map(|(group, state)| (group.to_string(), state)).collect()
    }

    /// Makes one size of those of the ports.
    fn in_capsule(&mut self) {
        let ports = std::mem::take(&mut self.in_capsule);
        let Some(most) = ports.iter().map(|(_, bytes)| *bytes).max() else { return };
        // No more than there is, and what a capsule's size can say.
        let size = InCapsule::new(most.min(limits::IN_CAPSULE) / 16 * 16).unwrap_or_default();
        for (about, bytes) in ports.iter().filter(|(_, bytes)| *bytes != size.bytes()) {
            self.warn(
                about,
                format!("inline_data_size = {bytes} becomes {}, as for all ports", size.bytes()),
            );
        }
        if size != InCapsule::default() {
            self.config.transport.in_capsule = Some(Size::from(u64::from(size.bytes())));
        }
    }

    fn referral(&mut self, port: &str, saved: &Map<String, Value>) {
        let about = format!("{port}, referral {}", text(saved, "name").unwrap_or_default());
        if number(saved, "enable") == Some(0) {
            self.warn(&about, "it is left out, because it is not enabled");
            return;
        }
        self.left_out(&about, saved, &["name", "enable", "addr"]);
        let none = Map::new();
        let addr = saved.get("addr").and_then(Value::as_object).unwrap_or(&none);
        let Some(address) = self.address(&about, addr) else { return };
        let port_id = number(addr, "portid").filter(|id| *id != 0);
        let port = self.config.ports.len();
        self.referrals.push((about, port, Referral { address, nqn: None, port_id }));
    }

    /// Makes referrals of all ports of those that each port has.
    fn referrals(&mut self) {
        let all = std::mem::take(&mut self.referrals);
        for (about, _, referral) in &all {
            let known = &mut self.config.discovery.referrals;
            if known.iter().any(|other| other.address == referral.address) {
                continue;
            }
            known.push(referral.clone());
            let same = all.iter().filter(|(_, _, other)| other.address == referral.address);
            let ports: BTreeSet<usize> = same.map(|(_, port, _)| *port).collect();
            if ports.len() < self.config.ports.len() {
                self.warn(about, "hosts are told of it on every port, not on this one only");
            }
        }
    }

    /// Where a port or referral is, if it is one of TCP.
    fn address(&mut self, about: &str, addr: &Map<String, Value>) -> Option<String> {
        let transport = text(addr, "trtype").unwrap_or_default();
        if transport != "tcp" {
            self.warn(
                about,
                format!(
                    "it is left out, because its transport is `{}` and not tcp",
                    transport.escape_debug()
                ),
            );
            return None;
        }
        let known = ["trtype", "adrfam", "traddr", "trsvcid", "portid"];
        self.left_out(about, addr, &known);
        let (ip, port) = (text(addr, "traddr").unwrap_or_default(), number(addr, "trsvcid"));
        let parsed = ip.parse::<IpAddr>().ok().zip(port.and_then(|port| u16::try_from(port).ok()));
        if parsed.is_none() {
            self.warn(
                about,
                format!(
                    "it is left out, because `{}` with the service `{}` is no address of TCP",
                    ip.escape_debug(),
                    text(addr, "trsvcid").unwrap_or_default().escape_debug()
                ),
            );
        }
        parsed.map(|(ip, port)| SocketAddr::new(ip, port).to_string())
    }
}

/// What the kernel has where nothing was set: zero, nothing, `not specified`.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => {
            !matches!(text.trim(), "" | "0" | "not specified" | "none" | "(null)")
        }
        Value::Array(values) => values.iter().any(is_set),
        Value::Object(object) => object.values().any(is_set),
    }
}

/// A value in short, without what could steer a terminal.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let all = value.to_string().escape_debug().to_string().replace("\\\"", "\"");
    match all.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", all.get(..at).unwrap_or_default()),
        None => all,
    }
}

fn objects<'a>(
    object: &'a Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a Map<String, Value>> {
    object.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn texts(object: &Map<String, Value>, key: &str) -> Vec<String> {
    let all = object.get(key).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A text that is not empty; numbers count, since people write files by hand, too.
fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    let text = match object.get(key)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn number(object: &Map<String, Value>, key: &str) -> Option<u32> {
    text(object, key)?.parse().ok()
}

#[cfg(test)]
mod tests;
