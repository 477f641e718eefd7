//! From the command line to an association, and from its errors to messages.

use anyhow::{Context, anyhow};
use nvmf::host::identity::Identity;
use nvmf::host::{Association, HostOptions, NamespaceInfo, TcpDialer};
use nvmf::pdu_trace::PduTrace;
use nvmf::proto::connect::ConnectError;
use nvmf::spec::status::CommandKind;
use nvmf::spec::{Nqn, Status};
use nvmf::transport::TransportError;
use nvmf::{Deadline, Error};

use crate::args;
use crate::failure::{self, Usage};
use crate::target::Target;

/// Whom to connect to, and how.
pub(crate) struct Connector {
    pub target: Target,
    options: HostOptions,
    trace: Option<PduTrace>,
}

/// How to connect, and as who, as the options say.
pub(crate) fn host_options(host: &args::AsHost) -> anyhow::Result<HostOptions> {
    let mut options = HostOptions::from(identity(host)?);
    options.header_digest = host.hdgst;
    options.data_digest = host.ddgst;
    options.timeout = host.timeout;
    Ok(options)
}

impl Connector {
    /// From the options, and the target where it is given as a URL.
    pub(crate) fn new(connect: &args::Connect, url: Option<Target>) -> anyhow::Result<Self> {
        let target = match (url, &connect.traddr) {
            (Some(target), None) => target,
            (None, Some(host)) => Target {
                host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
                port: connect.trsvcid.unwrap_or(nvmf::spec::IO_PORT),
                subsystem: connect.nqn.clone(),
                nsid: None,
            },
            (Some(_), Some(_)) => {
                return Err(
                    Usage::new("TARGET and -a both say whom to connect to; give one").into()
                );
            }
            (None, None) => {
                let what = "no target; give nvme+tcp://HOST[:PORT]/SUBNQN or -a HOST -n SUBNQN";
                return Err(Usage::new(what).into());
            }
        };
        Self::to(target, &connect.host)
    }

    /// To this target.
    pub(crate) fn to(target: Target, host: &args::AsHost) -> anyhow::Result<Self> {
        Ok(Self { target, options: host_options(host)?, trace: host.trace.clone() })
    }

    /// As [`new`](Self::new), for commands that have another argument after the target: with
    /// `-a`, what stands in the target's place is that argument.
    pub(crate) fn with_argument(
        connect: &args::Connect,
        first: Option<&str>,
        second: Option<&str>,
    ) -> anyhow::Result<(Self, Option<String>)> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        if connect.traddr.is_none() {
            let url = first
                .map(|text| {
                    text.parse::<Target>().map_err(|e| Usage::new(format!("target `{text}`: {e}")))
                })
                .transpose()?;
            return Ok((Self::new(connect, url)?, owned(second)));
        }
        match second {
            None => Ok((Self::new(connect, None)?, owned(first))),
            Some(second) => Err(Usage::new(format!(
                "TARGET and -a both say whom to connect to, or `{second}` is one argument too many"
            ))
            .into()),
        }
    }

    /// With the namespace that an option names, if one does.
    pub(crate) fn with_namespace(mut self, nsid: Option<u32>) -> anyhow::Result<Self> {
        match (self.target.nsid, nsid) {
            (Some(one), Some(other)) if one != other => Err(Usage::new(format!(
                "TARGET names namespace {one}, and --namespace-id {other}; give one"
            ))
            .into()),
            (one, other) => {
                self.target.nsid = one.or(other);
                Ok(self)
            }
        }
    }

    /// The subsystem that was named.
    pub(crate) fn subsystem(&self) -> anyhow::Result<&Nqn> {
        self.target.subsystem.as_ref().ok_or_else(|| {
            Usage::new(format!(
                "no subsystem; give nvme+tcp://{}/SUBNQN or -n SUBNQN (`nvmf discover \
                 nvme+tcp://{}` lists them)",
                self.target.authority(),
                self.target.authority()
            ))
            .into()
        })
    }

    /// The subsystem and where it is, for messages.
    pub(crate) fn name(&self) -> String {
        let at = self.target.authority();
        match &self.target.subsystem {
            Some(nqn) => format!("{nqn} at {at}"),
            None => at,
        }
    }

    /// The namespace that is meant, as a URL.
    pub(crate) fn url(&self) -> String {
        Target { nsid: Some(self.nsid()), ..self.target.clone() }.to_string()
    }

    /// The namespace that was named, or the first.
    pub(crate) fn nsid(&self) -> u32 {
        self.target.nsid.unwrap_or(1)
    }

    /// Connects to the subsystem that was named.
    pub(crate) fn connect(&self) -> anyhow::Result<Association> {
        self.connect_to(self.subsystem()?)
    }

    /// Connects to this subsystem.
    pub(crate) fn connect_to(&self, subsystem: &Nqn) -> anyhow::Result<Association> {
        self.dialer()
            .and_then(|dialer| Association::connect(dialer, subsystem, self.options.clone()))
            .map_err(|error| self.explain(&error, subsystem))
    }

    /// Why it cannot connect, and what to try.
    pub(crate) fn explain(&self, error: &Error, subsystem: &Nqn) -> anyhow::Error {
        cannot_connect(error, subsystem, &self.target.authority(), &self.options)
    }

    /// The way to the target.
    pub(crate) fn dialer(&self) -> Result<TcpDialer, Error> {
        let Target { host, port, .. } = &self.target;
        let dialer = TcpDialer::resolve(host, *port, Deadline::after(self.options.timeout))?;
        Ok(match &self.trace {
            Some(trace) => dialer.trace_pdus(trace.clone()),
            None => dialer,
        })
    }

    /// Who this host is, and how it connects.
    pub(crate) fn options(&self) -> &HostOptions {
        &self.options
    }

    /// What `--trace-pdus` means.
    pub(crate) fn trace(&self) -> Option<&PduTrace> {
        self.trace.as_ref()
    }

    /// What is needed to read and write the namespace that was named.
    pub(crate) fn namespace(&self, association: &mut Association) -> anyhow::Result<NamespaceInfo> {
        let nsid = self.nsid();
        let what = || format!("cannot use namespace {nsid} of {}", self.name());
        let info = match association.namespace(nsid) {
            Ok(info) => info,
            Err(error @ Error::NoNamespace { .. }) => {
                let others = match association.active_namespaces() {
                    Ok(list) if list.is_empty() => "; it has none at all".to_owned(),
                    Ok(list) => format!("; it has {}", some(&list)),
                    Err(_) => String::new(),
                };
                return Err(anyhow!("{error}{others}").context(what()));
            }
            Err(error) => return Err(anyhow!(error).context(what())),
        };
        if info.metadata_size != 0 {
            let reason = anyhow!(
                "its blocks have {} bytes of metadata, which NVMe/TCP cannot move",
                info.metadata_size
            );
            return Err(reason.context(what()));
        }
        Ok(info)
    }
}

/// Why there is no connection to this subsystem at this address, and what to try.
pub(crate) fn cannot_connect(
    error: &Error,
    subsystem: &Nqn,
    at: &str,
    options: &HostOptions,
) -> anyhow::Error {
    let said = said_with_hint(error, subsystem, at, options);
    anyhow!(said).context(format!("cannot connect to {subsystem} at {at}"))
}

/// The error and what to try.
pub(crate) fn said_with_hint(
    error: &Error,
    subsystem: &Nqn,
    at: &str,
    options: &HostOptions,
) -> String {
    format!("{}{}", said(error), hint(error, subsystem, at, options))
}

/// What to try after an error, where that is known.
fn hint(error: &Error, subsystem: &Nqn, at: &str, options: &HostOptions) -> String {
    match error {
        Error::Transport(TransportError::Io(e))
            if e.kind() == std::io::ErrorKind::ConnectionRefused =>
        {
            "; is a target listening there? (`nvmf serve` starts one)".to_owned()
        }
        error if error.is_timeout() => failure::limit(options.timeout),
        Error::NoDigest { .. } => {
            "; connect without -g and -G, or have the target offer them".to_owned()
        }
        Error::Transport(TransportError::Closed) => "; is it an NVMe/TCP target?".to_owned(),
        Error::Connect(ConnectError::Invalid(parameter))
            if parameter.name() == "subnqn" && !subsystem.is_discovery() =>
        {
            let nsid = match subsystem.as_str().rsplit_once('/') {
                Some((_, last)) => format!("; an NSID is a number, and `{last}` is none"),
                None => String::new(),
            };
            format!("; it has no such subsystem{nsid}: try `nvmf discover nvme+tcp://{at}`")
        }
        error if error.has_status(Status::CONNECT_INVALID_HOST) => {
            format!("; the target does not let {} in: try -q", options.host)
        }
        _ => String::new(),
    }
}

/// The error, a status in it by its name.
fn said(error: &Error) -> String {
    match error {
        Error::Connect(ConnectError::Invalid(parameter)) => {
            let status = Status::CONNECT_INVALID_PARAMETERS.name_for(CommandKind::Fabrics);
            format!("{status} ({})", parameter.name())
        }
        error => error.to_string(),
    }
}

/// The first few of a list, in words.
fn some(list: &[u32]) -> String {
    const FEW: usize = 8;
    let few: Vec<_> = list.iter().take(FEW).map(u32::to_string).collect();
    let more = if list.len() > FEW { ", …" } else { "" };
    format!("{}{more}", few.join(", "))
}

/// Who this host says it is.
fn identity(host: &args::AsHost) -> anyhow::Result<Identity> {
    Identity::of(host.hostnqn.clone(), host.hostid, Identity::from_system)
        .context("cannot tell which host this is; give -q and perhaps -I")
}
