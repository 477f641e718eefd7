//! Targets as people write them: `nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use nvmf::spec::Nqn;
use nvmf::spec::nqn::NqnError;

/// Where a target is, and what of it is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The subsystem; none where the discovery subsystem is meant.
    pub subsystem: Option<Nqn>,
    /// The namespace, if one was named.
    pub nsid: Option<u32>,
}

/// What a target begins with.
pub(crate) const SCHEME: &str = "nvme+tcp://";
const FORM: &str = "nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]";

/// Why a text is not a target.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("it does not start with {SCHEME}; write {FORM}")]
    Scheme,
    #[error("there is no host after {SCHEME}")]
    NoHost,
    #[error("an IPv6 address is written in brackets: [{0}]")]
    Brackets(String),
    #[error("`{0}` is not an IPv6 address")]
    Address(String),
    #[error("`{0}` is not a port; ports are 1 to 65535")]
    Port(String),
    #[error("`{0}` is not a namespace; they are 1 to 4294967294")]
    Nsid(String),
    #[error("{0}")]
    Nqn(#[from] NqnError),
}

/// A port number, 1 to 65535.
pub(crate) fn parse_port(text: &str) -> Result<u16, TargetError> {
    match text.parse() {
        Ok(0) | Err(_) => Err(TargetError::Port(text.to_owned())),
        Ok(port) => Ok(port),
    }
}

/// A namespace identifier, 1 to FFFFFFFEh.
pub(crate) fn parse_nsid(text: &str) -> Result<u32, TargetError> {
    match text.parse() {
        Ok(0 | u32::MAX) | Err(_) => Err(TargetError::Nsid(text.to_owned())),
        Ok(nsid) => Ok(nsid),
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let rest = text.strip_prefix(SCHEME).ok_or(TargetError::Scheme)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_authority(authority)?;
        let port = port.map_or(Ok(nvmf::spec::IO_PORT), parse_port)?;
        // NQNs may have slashes in them, so only digits at the end are a namespace.
        let (nqn, nsid) = match path.rsplit_once('/') {
            Some((nqn, "")) => (nqn, None),
            Some((nqn, nsid)) if nsid.bytes().all(|b| b.is_ascii_digit()) => {
                (nqn, Some(parse_nsid(nsid)?))
            }
            _ => (path, None),
        };
        let subsystem = if nqn.is_empty() { None } else { Some(Nqn::lenient(nqn)?) };
        Ok(Self { host: host.to_owned(), port, subsystem, nsid })
    }
}

/// Host and port, the host without brackets.
pub(crate) fn split_authority(authority: &str) -> Result<(&str, Option<&str>), TargetError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) =
            rest.split_once(']').ok_or_else(|| TargetError::Address(rest.to_owned()))?;
        // A zone (fe80::1%eth0) is the resolver's business.
        let plain = address.split('%').next().unwrap_or_default();
        if plain.parse::<Ipv6Addr>().is_err() {
            return Err(TargetError::Address(address.to_owned()));
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, Some(port))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(TargetError::Port(rest.to_owned())),
        };
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Err(TargetError::Brackets(authority.to_owned()));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    match host {
        "" => Err(TargetError::NoHost),
        // No name has one.
        _ if host.contains(':') => Err(TargetError::Address(host.to_owned())),
        _ => Ok((host, port)),
    }
}

impl Target {
    /// The host and port as they stand in a URL and in messages.
    pub(crate) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// A host and a port, with the brackets that an IPv6 address needs.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.authority())?;
        if let Some(nqn) = &self.subsystem {
            write!(f, "/{nqn}")?;
        }
        if let Some(nsid) = self.nsid {
            write!(f, "/{nsid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Target, TargetError> {
        text.parse()
    }

    fn parts(text: &str) -> (String, u16, Option<String>, Option<u32>) {
        let t = parse(text).unwrap();
        (t.host, t.port, t.subsystem.map(|n| n.to_string()), t.nsid)
    }

    #[test]
    fn port_subsystem_and_namespace_may_be_left_out() {
        let nqn = Some("nqn.2026-01.example:disk".to_owned());
        let all = "nvme+tcp://storage.example:4421/nqn.2026-01.example:disk/7";
        assert_eq!(parts(all), ("storage.example".into(), 4421, nqn.clone(), Some(7)));
        let no_port = "nvme+tcp://10.0.0.1/nqn.2026-01.example:disk";
        assert_eq!(parts(no_port), ("10.0.0.1".into(), 4420, nqn, None));
        for text in ["nvme+tcp://h", "nvme+tcp://h/", "nvme+tcp://h:4420"] {
            assert_eq!(parts(text), ("h".into(), 4420, None, None));
        }
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        assert_eq!(parts("nvme+tcp://[::1]:8009/"), ("::1".into(), 8009, None, None));
        assert_eq!(parts("nvme+tcp://[fe80::1%eth0]"), ("fe80::1%eth0".into(), 4420, None, None));
        assert_eq!(parse("nvme+tcp://fe80::1"), Err(TargetError::Brackets("fe80::1".into())));
        assert_eq!(parse("nvme+tcp://[x]"), Err(TargetError::Address("x".into())));
        assert_eq!(parse("nvme+tcp://:a:1"), Err(TargetError::Address(":a".into())));
        assert_eq!(parse("nvme+tcp://[::1"), Err(TargetError::Address("::1".into())));
        assert_eq!(parse("nvme+tcp://[::1]4420"), Err(TargetError::Port("4420".into())));
    }

    #[test]
    fn only_digits_at_the_end_are_a_namespace() {
        let nqn = |text| parse(text).unwrap().subsystem.unwrap().to_string();
        assert_eq!(nqn("nvme+tcp://h/nqn.2026-01.a:b/c/12"), "nqn.2026-01.a:b/c");
        assert_eq!(nqn("nvme+tcp://h/nqn.2026-01.a:b/c/"), "nqn.2026-01.a:b/c");
        assert_eq!(nqn("nvme+tcp://h/nqn.2026-01.a:b/1c"), "nqn.2026-01.a:b/1c");
        for nsid in ["0", "4294967295", "99999999999"] {
            let text = format!("nvme+tcp://h/nqn.2026-01.a:b/{nsid}");
            assert_eq!(parse(&text), Err(TargetError::Nsid(nsid.into())));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse("tcp://h"), Err(TargetError::Scheme));
        assert_eq!(parse("nvme+tcp://"), Err(TargetError::NoHost));
        assert_eq!(parse("nvme+tcp://:4420/x"), Err(TargetError::NoHost));
        for port in ["0", "65536", "x", ""] {
            let text = format!("nvme+tcp://h:{port}/");
            assert_eq!(parse(&text), Err(TargetError::Port(port.into())));
        }
        let long = format!("nvme+tcp://h/{}", "n".repeat(224));
        assert_eq!(parse(&long), Err(TargetError::Nqn(NqnError::TooLong(224))));
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_that_prints_as_itself_or_an_error(text in "(nvme\\+tcp://)?\\PC{0,40}") {
            if let Ok(target) = parse(&text) {
                prop_assert_eq!(parse(&target.to_string()), Ok(target));
            }
        }
    }
}
