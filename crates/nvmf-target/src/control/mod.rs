//! Talking to a running target over a Unix socket.
//!
//! A [`Server`] takes requests for a [`Manager`](crate::manage::Manager); a [`Client`] sends them.
//! Each request is one line of JSON, and so is each reply; docs/control.md describes them all. Who
//! may write to the socket may do everything: it is made for its owner alone.
//!
//! ```no_run
//! use nvmf_target::control::{Client, Reply, Request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::connect("/run/user/1000/nvmf.sock".as_ref())?;
//! if let Reply::Controllers(controllers) = client.call(&Request::Controllers {})? {
//!     for controller in controllers {
//!         println!("{} {}", controller.cntlid, controller.hostnqn);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod execute;
mod server;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{self, Config, HostList};

pub use client::{Client, ClientError};
pub use server::{Control, Listener, Server, ServerError};

/// The longest request, in bytes.
const MAX_LINE: usize = 4 << 20;

/// What is asked of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// What it is and how it does: [`Reply::Status`].
    Status {},
    /// Its running configuration: [`Reply::Config`].
    Config {},
    /// The controllers there are: [`Reply::Controllers`].
    Controllers {},
    /// What hosts did, for who looks again and again: [`Reply::Activity`].
    Activity {},
    /// Make it what this says, as a whole.
    Apply {
        /// All of it.
        config: Box<Config>,
    },
    /// Read its configuration file again and apply what is different.
    Reload {},
    /// Write the running configuration to this file, or to the one that it was started with:
    /// [`Reply::Saved`].
    Save {
        /// The file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
    },
    /// Add a subsystem.
    SubsystemAdd {
        /// As in a configuration.
        subsystem: Box<config::Subsystem>,
    },
    /// Take a subsystem away, with its controllers.
    SubsystemRemove {
        /// Its NQN.
        subsystem: String,
    },
    /// Add a namespace.
    NamespaceAdd {
        /// The subsystem's NQN.
        subsystem: String,
        /// As in a configuration.
        namespace: Box<config::Namespace>,
    },
    /// Take a namespace away.
    NamespaceRemove {
        /// The subsystem's NQN.
        subsystem: String,
        /// The namespace's identifier.
        id: u32,
    },
    /// Make a namespace larger.
    NamespaceResize {
        /// The subsystem's NQN.
        subsystem: String,
        /// The namespace's identifier.
        id: u32,
        /// To this size; where it is absent, to that of what is behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<config::Size>,
    },
    /// Change how a namespace may be used. What is absent stays.
    NamespaceSet {
        /// The subsystem's NQN.
        subsystem: String,
        /// The namespace's identifier.
        id: u32,
        /// Its limits, all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limits: Option<config::Limits>,
        /// Its ANA group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ana_group: Option<u32>,
        /// Whether it is write-protected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_only: Option<bool>,
        /// Whose it is: `"any"` is all of the subsystem's hosts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hosts: Option<HostList>,
    },
    /// Let a host connect to a subsystem, or any.
    HostAllow {
        /// The subsystem's NQN.
        subsystem: String,
        /// The host's NQN, or `any`.
        host: String,
    },
    /// Let a host, or all that were not named, connect no more; its controllers end.
    HostDeny {
        /// The subsystem's NQN.
        subsystem: String,
        /// The host's NQN, or `any`.
        host: String,
    },
    /// Listen on another port.
    PortAdd {
        /// As in a configuration.
        port: Box<config::Port>,
    },
    /// Listen on a port no more; controllers of hosts that came through it end.
    PortRemove {
        /// The port's identifier.
        id: u32,
    },
    /// Set how an ANA group can be reached through a port.
    AnaSet {
        /// The port's identifier.
        port: u32,
        /// The group, 1 to 32.
        group: u32,
        /// The state, as in a configuration.
        state: String,
    },
    /// End a controller. Its host may come again.
    Drop {
        /// The subsystem's NQN.
        subsystem: String,
        /// The controller's identifier.
        cntlid: u16,
    },
}

/// What a target answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Config`].
    Config(Box<Config>),
    /// To [`Request::Controllers`].
    Controllers(Vec<Controller>),
    /// To [`Request::Activity`].
    Activity(Activity),
    /// A change took place.
    Done(Done),
    /// To [`Request::Save`].
    Saved {
        /// The file.
        path: PathBuf,
    },
    /// It was not done, and nothing was changed unless the message says so.
    Error {
        /// Why, and what to try.
        message: String,
    },
}

/// What came of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Done {
    /// How many things were changed; 0 if all was so already.
    pub changes: usize,
    /// The identifier of what was added, where it was chosen here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// What else is to be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A target, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// How long it has been running, in seconds.
    pub uptime: u64,
    /// Its process.
    pub pid: u32,
    /// Where metrics are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Connections there are.
    pub connections: usize,
    /// Where it listens.
    pub ports: Vec<PortStatus>,
    /// What it offers.
    pub subsystems: Vec<SubsystemStatus>,
}

/// A port in a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct PortStatus {
    /// Its identifier.
    pub id: u16,
    /// Where it listens, with the port that port 0 became.
    pub address: String,
}

/// A subsystem in a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct SubsystemStatus {
    /// Its name.
    pub nqn: String,
    /// How many controllers it has.
    pub controllers: usize,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceStatus>,
    /// Commands that succeeded, Read, Compare and Verify.
    pub reads: u64,
    /// Write commands that succeeded.
    pub writes: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Commands that failed because storage did.
    pub media_errors: u64,
}

/// A namespace in a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct NamespaceStatus {
    /// Its identifier.
    pub id: u32,
    /// Where its blocks are.
    pub location: String,
    /// How many blocks it has.
    pub blocks: u64,
    /// The size of a block in bytes.
    pub block_size: u32,
    /// Its UUID.
    pub uuid: String,
    /// Its ANA group.
    pub ana_group: u32,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Controller {
    /// Its subsystem's NQN.
    pub subnqn: String,
    /// Its identifier.
    pub cntlid: u16,
    /// Its host's NQN.
    pub hostnqn: String,
    /// Its host's identifier.
    pub hostid: String,
    /// The port that the host came through; 0 for none.
    pub port: u16,
    /// The host's address.
    pub peer: String,
    /// The identifiers of its I/O queues.
    pub io_queues: Vec<u16>,
    /// Commands that came on I/O queues.
    pub io_commands: u64,
}

/// What hosts did since the target began, and what goes on now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Activity {
    /// Connections there are.
    pub connections: u64,
    /// PDUs whose digest was wrong.
    pub digest_errors: u64,
    /// Other ways in which peers broke the protocol.
    pub violations: u64,
    /// I/O commands that came and are not answered.
    pub under_way: u64,
    /// What was done, each kind by each host on each namespace.
    pub operations: Vec<OperationActivity>,
    /// Commands that failed, in all.
    pub failures: u64,
}

/// How often a host had something done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct OperationActivity {
    /// The subsystem's NQN.
    pub subsystem: String,
    /// The namespace's identifier; FFFFFFFFh for all, 0 for none there is.
    pub namespace: u32,
    /// The host's NQN; empty for hosts that are not remembered.
    pub host: String,
    /// What, as in the metrics.
    pub operation: String,
    /// Commands that succeeded.
    pub commands: u64,
    /// Bytes that they moved, or were for.
    pub bytes: u64,
    /// How long they took together, in seconds.
    pub seconds: f64,
}
