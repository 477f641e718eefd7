//! The files of nvmet's configfs: what they are called, what stands in them, when they change.
//!
//! They are those of Linux's `drivers/nvme/target/configfs.c`. Which of them there are depends on the
//! kernel's version and configuration.

use std::collections::BTreeMap;
use std::fmt;

/// A file of an item.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: &'static str,
    /// What stands in it where nobody wrote anything: what is new has it already.
    pub(super) usual: &'static [&'static str],
    pub(super) changes: Changes,
}

/// When a file can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changes {
    /// At any time.
    Always,
    /// While a port has no subsystem, or a namespace is not enabled.
    WhenOff,
    /// Until a host has seen the subsystem, which nobody is told.
    WhenNew,
}

use Changes::{Always, WhenNew, WhenOff};

const fn attribute(
    name: &'static str,
    usual: &'static [&'static str],
    changes: Changes,
) -> Attribute {
    Attribute { name, usual, changes }
}

pub(super) const DISCOVERY_NQN: &str = "discovery_nqn";
pub(super) const ALLOW_ANY_HOST: &str = "attr_allow_any_host";
pub(super) const SERIAL: &str = "attr_serial";
pub(super) const MODEL: &str = "attr_model";
pub(super) const FIRMWARE: &str = "attr_firmware";
pub(super) const CNTLID_MIN: &str = "attr_cntlid_min";
pub(super) const CNTLID_MAX: &str = "attr_cntlid_max";
pub(super) const QID_MAX: &str = "attr_qid_max";
pub(super) const VERSION: &str = "attr_version";
pub(super) const DEVICE_PATH: &str = "device_path";
pub(super) const DEVICE_UUID: &str = "device_uuid";
pub(super) const DEVICE_NGUID: &str = "device_nguid";
pub(super) const BUFFERED_IO: &str = "buffered_io";
pub(super) const ANA_GROUP: &str = "ana_grpid";
pub(super) const ENABLE: &str = "enable";
pub(super) const TRTYPE: &str = "addr_trtype";
pub(super) const ADRFAM: &str = "addr_adrfam";
pub(super) const TRADDR: &str = "addr_traddr";
pub(super) const TRSVCID: &str = "addr_trsvcid";
pub(super) const TREQ: &str = "addr_treq";
pub(super) const TSAS: &str = "addr_tsas";
pub(super) const PORTID: &str = "addr_portid";
pub(super) const INLINE_DATA_SIZE: &str = "param_inline_data_size";
pub(super) const ANA_STATE: &str = "ana_state";
pub(super) const DHCHAP_KEY: &str = "dhchap_key";
pub(super) const DHCHAP_CTRL_KEY: &str = "dhchap_ctrl_key";

/// Whatever is on or off.
pub(super) const ON: &str = "1";
pub(super) const OFF: &str = "0";
/// What TREQ and TSAS are where nothing is asked for.
pub(super) const NOT_SPECIFIED: &str = "not specified";
pub(super) const NO_SECURITY: &str = "none";
/// The one transport that is meant here.
pub(super) const TCP: &str = "tcp";

/// Those of the target as a whole.
pub(super) const ROOT: &[Attribute] =
    &[attribute(DISCOVERY_NQN, &["nqn.2014-08.org.nvmexpress.discovery"], Always)];

pub(super) const HOST: &[Attribute] = &[
    attribute(DHCHAP_KEY, &[""], Always),
    attribute(DHCHAP_CTRL_KEY, &[""], Always),
    attribute("dhchap_hash", &["hmac(sha256)"], Always),
    attribute("dhchap_dhgroup", &["null"], Always),
];

/// In the order in which they are written; so everywhere.
pub(super) const SUBSYSTEM: &[Attribute] = &[
    attribute(VERSION, &[], WhenNew),
    attribute(SERIAL, &[], WhenNew),
    attribute(MODEL, &["Linux"], WhenNew),
    attribute(FIRMWARE, &[], WhenNew),
    attribute("attr_ieee_oui", &["0x000000"], WhenNew),
    attribute("attr_vendor_id", &["0x0"], Always),
    attribute("attr_subsys_vendor_id", &["0x0"], Always),
    attribute(CNTLID_MIN, &["1"], Always),
    attribute(CNTLID_MAX, &["65519"], Always),
    attribute(QID_MAX, &["128"], Always),
    attribute("attr_pi_enable", &[OFF], Always),
    attribute(ALLOW_ANY_HOST, &[OFF], Always),
];

/// `enable` is last here and below: it is what all others are for.
pub(super) const PASSTHRU: &[Attribute] = &[
    attribute(DEVICE_PATH, &[UNSET], WhenOff),
    attribute("admin_timeout", &["0"], Always),
    attribute("io_timeout", &["0"], Always),
    attribute("clear_ids", &["0"], Always),
    attribute(ENABLE, &[OFF], Always),
];

pub(super) const NAMESPACE: &[Attribute] = &[
    attribute(DEVICE_PATH, &[UNSET], WhenOff),
    attribute(DEVICE_UUID, &[], WhenOff),
    attribute(DEVICE_NGUID, &["00000000-0000-0000-0000-000000000000"], WhenOff),
    attribute(BUFFERED_IO, &[OFF], WhenOff),
    attribute("resv_enable", &[OFF], WhenOff),
    attribute("p2pmem", &[OFF], WhenOff),
    attribute(ANA_GROUP, &["1"], Always),
    attribute(ENABLE, &[OFF], Always),
];

/// Once it listens, a port has numbers where it had `-1`.
pub(super) const PORT: &[Attribute] = &[
    attribute(TRTYPE, &[""], WhenOff),
    attribute(ADRFAM, &[""], WhenOff),
    attribute(TRADDR, &[""], WhenOff),
    attribute(TRSVCID, &[""], WhenOff),
    attribute(TSAS, &[NO_SECURITY, ""], WhenOff),
    attribute(TREQ, &[NOT_SPECIFIED], WhenOff),
    attribute(INLINE_DATA_SIZE, &["-1"], WhenOff),
    attribute("param_max_queue_size", &["-1", "1024"], WhenOff),
    attribute("param_mdts", &["-1", "0"], WhenOff),
    attribute("param_pi_enable", &[OFF], WhenOff),
];

/// A referral that differs is taken away and made anew.
pub(super) const REFERRAL: &[Attribute] = &[
    attribute(TRTYPE, &[""], WhenNew),
    attribute(ADRFAM, &[""], WhenNew),
    attribute(TRADDR, &[""], WhenNew),
    attribute(TRSVCID, &[""], WhenNew),
    attribute(TREQ, &[NOT_SPECIFIED], WhenNew),
    attribute(PORTID, &["0"], WhenNew),
    attribute(ENABLE, &[OFF], WhenNew),
];

pub(super) const ANA_GROUPS: &[Attribute] = &[attribute(ANA_STATE, &["inaccessible"], Always)];

/// The group that every port has, and that nobody can take from it.
pub(super) const FIRST_ANA_GROUP: &str = "1";

/// How the kernel prints a path that there is not.
pub(super) const UNSET: &str = "(null)";

impl Attribute {
    /// Whether an item has this value without anybody having written it.
    pub(super) fn is_usual(&self, value: &str) -> bool {
        self.usual.contains(&value)
    }
}

/// The path of what has this name in a directory; the target's own has the empty path.
pub(super) fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") }
}

/// Whether what stands in a file is a key, which is shown to nobody.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(name, DHCHAP_KEY | DHCHAP_CTRL_KEY)
}

/// What stands in the files of an item, by their names; or, of one that is wanted, what shall stand
/// in those that matter.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(BTreeMap<&'static str, String>);

impl Attributes {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.insert(name, value.into());
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some(ON)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            self.iter().map(|(name, value)| (name, if is_secret(name) { "…" } else { value }));
        f.debug_map().entries(shown).finish()
    }
}
