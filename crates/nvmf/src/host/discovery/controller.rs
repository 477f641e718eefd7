//! Which discovery controller: where it is, how it is called, and as who it is asked.

use std::fmt;
use std::net::IpAddr;

use nvme_spec::log::{DiscoveryEntry, subtype, trtype};
use nvme_spec::{DISCOVERY_PORT, Nqn};

use super::super::identity::Identity;

/// A discovery controller that is reached over TCP.
///
/// Two are the same if address, port, subsystem and the host's identity are; that is how a walk
/// knows that it has been somewhere. Addresses are kept in one form: IP addresses as Rust prints
/// them, names in lower case and without the dot at their end.
///
/// ```
/// use nvmf::host::discovery::DiscoveryController;
///
/// let one = DiscoveryController::new("Storage.example.", 8009);
/// assert_eq!(one, DiscoveryController::new("storage.example", 8009));
/// assert_eq!(one.to_string(), "nvme+tcp://storage.example:8009");
/// assert_eq!(DiscoveryController::new("0::1", 4420).to_string(), "nvme+tcp://[::1]:4420");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DiscoveryController {
    address: String,
    port: u16,
    subsystem: Nqn,
    identity: Option<Identity>,
}

impl DiscoveryController {
    /// The well-known discovery subsystem at this address, a name or an IP address with or without
    /// brackets.
    pub fn new(address: &str, port: u16) -> Self {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address = match address.parse::<IpAddr>() {
            Ok(ip) => ip.to_string(),
            Err(_) => address.trim_end_matches('.').to_lowercase(),
        };
        Self { address, port, subsystem: Nqn::DISCOVERY, identity: None }
    }

    /// The same with a discovery subsystem that has a name of its own.
    #[must_use]
    pub fn with_subsystem(self, subsystem: Nqn) -> Self {
        Self { subsystem, ..self }
    }

    /// The same, asked as this host and not as whom everybody else is asked.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// The one that an entry of this one's log refers to; it is asked as the same host.
    ///
    /// # Errors
    ///
    /// [`NoReferral`] says why there is none.
    pub fn referred(&self, entry: &DiscoveryEntry) -> Result<Self, NoReferral> {
        if entry.subtype != subtype::REFERRAL {
            return Err(NoReferral::Subtype);
        }
        if entry.trtype != trtype::TCP {
            return Err(NoReferral::Transport(entry.trtype));
        }
        let address = entry.address();
        let address = address.as_str().filter(|text| is_address(text));
        let address = address.ok_or(NoReferral::Address)?;
        let port = match entry.service().is_empty() {
            true => DISCOVERY_PORT,
            false => entry.port().filter(|port| *port != 0).ok_or(NoReferral::Address)?,
        };
        let subsystem = entry.subsystem_nqn().map_err(|_| NoReferral::Subsystem)?;
        let identity = self.identity.clone();
        Ok(Self { identity, ..Self::new(address, port).with_subsystem(subsystem) })
    }

    /// A name or an IP address, without brackets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The discovery subsystem.
    pub fn subsystem(&self) -> &Nqn {
        &self.subsystem
    }

    /// As whom it is asked, if not as whom everybody else is.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

/// Whether a text that a peer sent may be an address: a name or an IP address, with a zone perhaps.
fn is_address(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_' | '%');
    !text.is_empty() && text.chars().all(allowed)
}

/// Why an entry of a discovery log is no referral that can be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoReferral {
    /// It is an entry of another kind.
    #[error("it is no referral")]
    Subtype,
    /// It is reached by another transport than TCP: this one, of [`nvme_spec::log::trtype`].
    #[error("its transport is {} and not tcp", trtype::name(*.0))]
    Transport(u8),
    /// Address or port are none.
    #[error("it has no address and port")]
    Address,
    /// The subsystem's name is none.
    #[error("its subsystem has no name")]
    Subsystem,
}

/// As a URL: `nvme+tcp://HOST:PORT`, and the subsystem behind it if it has a name of its own.
impl fmt::Display for DiscoveryController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port, subsystem, .. } = self;
        match address.contains(':') {
            true => write!(f, "nvme+tcp://[{address}]:{port}")?,
            false => write!(f, "nvme+tcp://{address}:{port}")?,
        }
        if !subsystem.is_discovery() {
            write!(f, "/{subsystem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::log::adrfam;

    fn entry(address: &str, port: &str) -> DiscoveryEntry {
        let kind = subtype::REFERRAL;
        DiscoveryEntry::tcp(kind, &Nqn::DISCOVERY, adrfam::IPV4, address, port).unwrap()
    }

    #[test]
    fn a_referral_is_followed_as_the_same_host() {
        let host = Identity::named(Nqn::lenient("nqn.2026-01.example:host").unwrap());
        let here = DiscoveryController::new("192.0.2.1", 8009).with_identity(host.clone());
        let there = here.referred(&entry("192.0.2.9", "4420")).unwrap();
        assert_eq!((there.address(), there.port()), ("192.0.2.9", 4420));
        assert_eq!(there.identity(), Some(&host));
        assert_ne!(there, DiscoveryController::new("192.0.2.9", 4420));
        assert_eq!(here.referred(&entry("192.0.2.9", "")).unwrap().port(), 8009);
    }

    #[test]
    fn what_is_no_referral_over_tcp_says_so() {
        let here = DiscoveryController::new("192.0.2.1", 8009);
        for (address, port) in
            [("", "1"), ("a b", "1"), ("a/b", "1"), ("a\u{7}", "1"), ("a", "0"), ("a", "x")]
        {
            assert_eq!(here.referred(&entry(address, port)), Err(NoReferral::Address), "{address}");
        }
        let other = DiscoveryEntry { subtype: subtype::CURRENT, ..entry("a", "1") };
        assert_eq!(here.referred(&other), Err(NoReferral::Subtype));
        let rdma = DiscoveryEntry { trtype: trtype::RDMA, ..entry("a", "1") };
        let error = here.referred(&rdma).unwrap_err();
        assert_eq!(error.to_string(), "its transport is rdma and not tcp");
        let nameless = DiscoveryEntry { subnqn: [0; 256], ..entry("a", "1") };
        assert_eq!(here.referred(&nameless), Err(NoReferral::Subsystem));
    }

    #[test]
    fn a_subsystem_with_a_name_of_its_own_is_shown() {
        let nqn = Nqn::lenient("nqn.2026-01.example:discovery").unwrap();
        let own = DiscoveryController::new("[::1]", 8009).with_subsystem(nqn);
        assert_eq!(own.to_string(), "nvme+tcp://[::1]:8009/nqn.2026-01.example:discovery");
        assert_ne!(own, DiscoveryController::new("::1", 8009));
    }
}
