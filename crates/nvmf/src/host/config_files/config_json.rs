//! `config.json`: what libnvme keeps of hosts, subsystems and their ports.

use std::fmt;

use nvme_spec::{HostId, Nqn};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::connection::{Connection, Secret};

/// What `config.json` says, as libnvme reads it.
///
/// The file is a list of hosts, or an object that has it as `hosts`, as libnvme's schema says. Each
/// host has `subsystems`, and each of these `ports`: a [`Connection`] for each port. Keys that are
/// not known are left out, and so are subsystems without an NQN and ports without a transport.
/// Numbers may be written as text, and ports as numbers. What is of the wrong kind is an error that
/// says where; libnvme takes it for zero.
///
/// ```
/// use nvmf::host::config_files::ConfigJson;
///
/// let config = ConfigJson::parse(r#"[{
///     "hostnqn": "nqn.2026-01.example:host",
///     "subsystems": [{
///         "nqn": "nqn.2014-08.org.nvmexpress.discovery",
///         "ports": [{"transport": "tcp", "traddr": "192.0.2.7", "persistent": true}]
///     }]
/// }]"#)?;
/// let one = &config.connections[0];
/// assert_eq!(one.discovery_controller()?.to_string(), "nvme+tcp://192.0.2.7:8009");
/// assert_eq!(one.hostnqn.as_ref().unwrap().as_str(), "nqn.2026-01.example:host");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ConfigJson {
    /// The connections, in the order in which they stand there.
    pub connections: Vec<Connection>,
}

/// Why a text is no `config.json`.
#[derive(Debug, thiserror::Error)]
#[error("{}{message}", if path == "." { String::new() } else { format!("{path}: ") })]
#[non_exhaustive]
pub struct ConfigJsonError {
    /// Where in the structure: `hosts[0].subsystems[1].nqn`; `.` for all of it.
    pub path: String,
    /// What is wrong, with line and column.
    pub message: String,
}

impl ConfigJson {
    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, ConfigJsonError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let root: Root = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            ConfigJsonError { path, message: error.into_inner().to_string() }
        })?;
        json.end().map_err(|error| ConfigJsonError {
            path: ".".to_owned(),
            message: error.to_string(),
        })?;
        Ok(Self { connections: root.connections().collect() })
    }
}

/// The hosts, whichever way they are written.
struct Root {
    hosts: Vec<Host>,
    /// How the path to a host begins.
    at: &'static str,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    hosts: Vec<Host>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Host {
    #[serde(deserialize_with = "nqn")]
    hostnqn: Option<Nqn>,
    #[serde(deserialize_with = "host_id")]
    hostid: Option<HostId>,
    hostsymname: Option<String>,
    dhchap_key: Option<String>,
    subsystems: Vec<Subsystem>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subsystem {
    #[serde(deserialize_with = "nqn")]
    nqn: Option<Nqn>,
    dhchap_key: Option<String>,
    ports: Vec<Port>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Port {
    transport: Option<String>,
    traddr: Option<String>,
    #[serde(deserialize_with = "text")]
    trsvcid: Option<String>,
    host_traddr: Option<String>,
    host_iface: Option<String>,
    dhchap_key: Option<String>,
    dhchap_ctrl_key: Option<String>,
    #[serde(deserialize_with = "text")]
    keyring: Option<String>,
    #[serde(deserialize_with = "text")]
    tls_key: Option<String>,
    tls_key_identity: Option<String>,
    #[serde(deserialize_with = "number")]
    nr_io_queues: Option<u32>,
    #[serde(deserialize_with = "number")]
    nr_write_queues: Option<u32>,
    #[serde(deserialize_with = "number")]
    nr_poll_queues: Option<u32>,
    #[serde(deserialize_with = "number")]
    queue_size: Option<u32>,
    #[serde(deserialize_with = "number")]
    keep_alive_tmo: Option<u32>,
    #[serde(deserialize_with = "number")]
    reconnect_delay: Option<i32>,
    #[serde(deserialize_with = "number")]
    ctrl_loss_tmo: Option<i32>,
    #[serde(deserialize_with = "number")]
    fast_io_fail_tmo: Option<i32>,
    #[serde(deserialize_with = "number")]
    tos: Option<i32>,
    duplicate_connect: bool,
    disable_sqflow: bool,
    hdr_digest: bool,
    data_digest: bool,
    tls: bool,
    concat: bool,
    persistent: bool,
    discovery: bool,
}

impl Root {
    fn connections(self) -> impl Iterator<Item = Connection> {
        let at = self.at;
        self.hosts.into_iter().enumerate().flat_map(move |(n, mut host)| {
            let host_at = format!("{at}[{n}]");
            let subsystems = std::mem::take(&mut host.subsystems);
            let named = subsystems.into_iter().enumerate().filter(|(_, one)| one.nqn.is_some());
            named.flat_map(move |(n, mut subsystem)| {
                let at = format!("{host_at}.subsystems[{n}]");
                let ports = std::mem::take(&mut subsystem.ports).into_iter().enumerate();
                let usable = ports.filter(|(_, port)| port.transport.is_some());
                usable
                    .map(|(n, port)| port.connection(format!("{at}.ports[{n}]"), &subsystem, &host))
                    .collect::<Vec<_>>()
            })
        })
    }
}

impl Port {
    fn connection(self, place: String, subsystem: &Subsystem, host: &Host) -> Connection {
        let own = self.dhchap_key.or_else(|| subsystem.dhchap_key.clone());
        let secret = |text: Option<String>| text.map(Secret::new);
        Connection {
            place,
            transport: self.transport,
            traddr: self.traddr,
            trsvcid: self.trsvcid,
            host_traddr: self.host_traddr,
            host_iface: self.host_iface,
            nqn: subsystem.nqn.clone(),
            hostnqn: host.hostnqn.clone(),
            hostid: host.hostid,
            hostsymname: host.hostsymname.clone(),
            dhchap_secret: secret(own.or_else(|| host.dhchap_key.clone())),
            dhchap_ctrl_secret: secret(self.dhchap_ctrl_key),
            keyring: self.keyring,
            tls_key: secret(self.tls_key),
            tls_key_identity: self.tls_key_identity,
            nr_io_queues: self.nr_io_queues,
            nr_write_queues: self.nr_write_queues,
            nr_poll_queues: self.nr_poll_queues,
            queue_size: self.queue_size,
            keep_alive_tmo: self.keep_alive_tmo,
            reconnect_delay: self.reconnect_delay,
            ctrl_loss_tmo: self.ctrl_loss_tmo,
            fast_io_fail_tmo: self.fast_io_fail_tmo,
            tos: self.tos,
            duplicate_connect: self.duplicate_connect,
            disable_sqflow: self.disable_sqflow,
            hdr_digest: self.hdr_digest,
            data_digest: self.data_digest,
            tls: self.tls,
            concat: self.concat,
            persistent: self.persistent,
            discovery: self.discovery,
        }
    }
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Root;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of hosts")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Root, A::Error> {
                let list = de::value::SeqAccessDeserializer::new(list);
                Ok(Root { hosts: Vec::deserialize(list)?, at: "" })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Root, A::Error> {
                let map = de::value::MapAccessDeserializer::new(map);
                Ok(Root { hosts: Object::deserialize(map)?.hosts, at: "hosts" })
            }
        }
        from.deserialize_any(Either)
    }
}

fn nqn<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Nqn>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| Nqn::lenient(&text)).transpose().map_err(de::Error::custom)
}

fn host_id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HostId>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    match text.map(|text| text.parse::<HostId>()).transpose() {
        Ok(Some(id)) if id.is_zero() => Err(de::Error::custom("zeroes name no host")),
        other => other.map_err(de::Error::custom),
    }
}

/// Text, or a number that stands for it.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let found = from.deserialize_any(Scalar("text, or a number"))?;
    Ok(found.map(|found| match found {
        Found::Text(text) => text,
        Found::Number(number) => number.to_string(),
    }))
}

/// A number, or text that stands for it.
fn number<'de, D: Deserializer<'de>, T: TryFrom<i64>>(from: D) -> Result<Option<T>, D::Error> {
    let found = from.deserialize_any(Scalar("a number"))?;
    let Some(found) = found else { return Ok(None) };
    let number = match &found {
        Found::Text(text) => text.trim().parse().ok(),
        Found::Number(number) => Some(*number),
    };
    let number = number.and_then(|number: i64| T::try_from(number).ok());
    number.map(Some).ok_or_else(|| de::Error::custom("it is no number, or too large"))
}

enum Found {
    Text(String),
    Number(i64),
}

/// Takes text, a number, or nothing.
struct Scalar(&'static str);

impl Visitor<'_> for Scalar {
    type Value = Option<Found>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Found::Text(text.to_owned())))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Found::Number(number)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        let number = i64::try_from(number).map_err(|_| E::custom("it is too large"))?;
        Ok(Some(Found::Number(number)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
