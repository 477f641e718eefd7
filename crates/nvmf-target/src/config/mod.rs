//! A target as one writes it down: ports, subsystems, namespaces, who may use them.
//!
//! [`Config`] is what a file says, key by key, and nothing is judged yet. [`Config::resolve`]
//! judges all of it and gives a [`Layout`]: names and addresses have types, identifiers that were
//! left out are assigned, and what clashes was refused. A target applies a layout; [`diff()`] says
//! what has to be done to one that runs.
//!
//! ```
//! use nvmf_target::config::{Config, Change, Layout, diff};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = r#"
//! [[port]]
//! listen = "127.0.0.1:4420"
//!
//! [[subsystem]]
//! nqn = "nqn.2026-01.org.example:disks"
//! [[subsystem.namespace]]
//! source = "mem:256M"
//! "#;
//! let layout = Layout::from_toml(text)?;
//!
//! let mut config: Config = layout.config(); // every identifier is written out now
//! assert_eq!(config.subsystems[0].namespaces[0].id, Some(1));
//! config.subsystems[0].namespaces[0].source = "mem:512M".into();
//! let changes = diff(&layout, &config.resolve()?);
//! assert!(matches!(&changes[..], [Change::NamespaceResized { nsid: 1, .. }]));
//! # Ok(())
//! # }
//! ```
//!
//! Files are TOML ([`Layout::from_toml`], [`Config::to_toml`]). The same [`Config`] is JSON, with
//! the same keys, by its serde implementations. The files that nvmetcli saves can be
//! [imported](nvmetcli::import).
//!
//! Nothing here opens a namespace's file or a socket: what the machine says about them shows when a
//! layout is applied.

mod check;
mod diff;
mod error;
pub mod layout;
pub mod nvmetcli;
mod parse;
mod save;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

#[cfg(target_os = "linux")]
pub(crate) use check::assigned;
pub use diff::{Change, diff};
pub use error::{ConfigError, Problem, ReadError};
pub use layout::{AnaGroup, Layout};
#[cfg(target_os = "linux")]
pub(crate) use parse::{judge, judge_file};

/// A target, as it is written down.
///
/// All texts and numbers are as they were written; [`Config::resolve`] judges them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// `[discovery]`: the discovery subsystem.
    #[serde(skip_serializing_if = "is_default")]
    pub discovery: Discovery,
    /// `[metrics]`: where metrics are served; nowhere where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// `[transport]`: what holds on all ports alike.
    #[serde(skip_serializing_if = "is_default")]
    pub transport: Transport,
    /// `[[port]]`: where the target listens, at least one.
    #[serde(rename = "port", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// `[[subsystem]]`: what it offers.
    #[serde(rename = "subsystem", skip_serializing_if = "Vec::is_empty")]
    pub subsystems: Vec<Subsystem>,
}

/// The discovery subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Discovery {
    /// Its unique NQN, besides the well-known one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nqn: Option<String>,
    /// Whether it is announced by DNS-SD; `false` where it is absent.
    #[serde(skip_serializing_if = "is_default")]
    pub mdns: bool,
    /// `[[discovery.referral]]`: other discovery controllers that the log tells of.
    #[serde(rename = "referral", skip_serializing_if = "Vec::is_empty")]
    pub referrals: Vec<Referral>,
}

/// Another discovery controller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Referral {
    /// Where it listens: `IP:PORT` or `[IP6]:PORT`.
    pub address: String,
    /// Its NQN; the well-known one where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nqn: Option<String>,
    /// The port's identifier in the log entry, 0 to 65535; 0 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_id: Option<u32>,
}

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Metrics {
    /// `IP:PORT` or `[IP6]:PORT`.
    pub listen: String,
}

/// What holds for the connections of all ports. It is settled when the target starts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Transport {
    /// Bytes of data in a command capsule of an I/O queue, a multiple of 16 up to 16 KiB, which it
    /// is where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_capsule: Option<Size>,
    /// Whether hosts may have header digests; `true` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_digest: Option<bool>,
    /// Whether hosts may have data digests; `true` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_digest: Option<bool>,
    /// Connections at once, 1 to 1000000; 8192 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Port {
    /// Its identifier, 1 to 65535; the lowest that no port has where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// `IP:PORT` or `[IP6]:PORT`; port 0 is any free one.
    pub listen: String,
    /// The NQNs of the subsystems that can be reached here; all where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystems: Option<Vec<String>>,
    /// States of ANA groups by their number, 1 to 32; a group that is absent is optimized.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ana: BTreeMap<String, String>,
}

/// An NVM subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Subsystem {
    /// Its name.
    pub nqn: String,
    /// Its serial number, at most 20 printable ASCII characters; else it follows from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its model number, at most 40 printable ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its firmware revision, at most 8 printable ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Who may connect. It may be absent only where all ports listen on loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostList>,
    /// I/O queues that a controller grants, 1 to 1024; 128 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_io_queues: Option<u32>,
    /// The most data of one command in bytes, a power of two from 8 KiB to 1 MiB, which it is where
    /// it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_transfer: Option<Size>,
    /// Entries of the largest I/O queue, 2 to 1024, which it is where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queue_entries: Option<u32>,
    /// Controllers that are always there, 1 to 1000; where it is absent, each host that connects
    /// gets a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_controllers: Option<u32>,
    /// The lowest controller identifier, from 1; 1 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cntlid_min: Option<u32>,
    /// The highest controller identifier, up to 65519 (FFEFh), which it is where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cntlid_max: Option<u32>,
    /// `[[subsystem.namespace]]`: its namespaces.
    #[serde(default, rename = "namespace", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
}

/// A namespace of a subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Namespace {
    /// NSID, from 1; the lowest that no namespace of the subsystem has where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Where its blocks are: a [`NamespaceSpec`](nvmf_storage::NamespaceSpec).
    pub source: String,
    /// Its UUID, if the source has none; else it follows from the subsystem and the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its NGUID, 32 hexadecimal digits; else it follows from the UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nguid: Option<String>,
    /// Its EUI-64, 16 hexadecimal digits; none where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eui64: Option<String>,
    /// Its ANA group, 1 to 32; 1 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ana_group: Option<u32>,
    /// Whether it is write-protected, over what the source says; `false` where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// The hosts that have it; all of the subsystem's where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// `[subsystem.namespace.limits]`: how much hosts may ask of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
}

/// The most that a namespace does in a second, for all hosts together. What is absent has no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops: Option<u32>,
    /// Commands that read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<u32>,
    /// Commands that write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<u32>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Size>,
    /// Bytes read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bandwidth: Option<Size>,
    /// Bytes written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bandwidth: Option<Size>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Who may connect: `"any"`, or a list of host NQNs. An empty list is nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostList {
    /// Everybody, asked for by name.
    Any,
    /// These.
    Only(Vec<String>),
}

impl HostList {
    /// What stands for everybody.
    pub const ANY: &str = "any";
}

impl Serialize for HostList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str(Self::ANY),
            Self::Only(hosts) => hosts.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for HostList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = HostList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of host NQNs, or \"any\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HostList, E> {
                match text {
                    HostList::ANY => Ok(HostList::Any),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HostList, A::Error> {
                let mut hosts = Vec::new();
                while let Some(host) = seq.next_element()? {
                    hosts.push(host);
                }
                Ok(HostList::Only(hosts))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A number of bytes as it is written: `4096`, or with a unit `"100M"`, as
/// [`parse_size`](nvmf_storage::parse_size) reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size(String);

impl Size {
    /// What was written; bytes are their decimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes, if they are written as a number and not with a unit, and as a number would be.
    fn plain(&self) -> Option<i64> {
        self.0.parse().ok().filter(|n: &i64| *n >= 0 && n.to_string() == self.0)
    }
}

impl From<u64> for Size {
    fn from(bytes: u64) -> Self {
        Self(bytes.to_string())
    }
}

impl From<&str> for Size {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.plain() {
            Some(bytes) => serializer.serialize_i64(bytes),
            None => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes, as in 4096 or \"100M\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Ok(text.into())
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(bytes.into())
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size::from)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
