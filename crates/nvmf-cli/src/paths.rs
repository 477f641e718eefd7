//! A namespace by one or several paths: targets on the command line, and how to deal with them.

use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use nvmf::spec::Nqn;
use nvmf_engine::EngineChoice;
use nvmf_host::{ConnectError, Namespace, NamespaceBuilder, Policy};

use crate::args::{Connect, parse_seconds};
use crate::connect::{Connector, said_with_hint};
use crate::failure::Usage;
use crate::target::Target;

/// How paths are chosen, and how long there is hope for one.
#[derive(Args, Clone, Debug)]
pub(crate) struct PathOptions {
    /// Which of several paths that are equally good a command takes.
    #[arg(long, value_name = "POLICY", default_value = "round-robin", help_heading = "Paths")]
    pub policy: PolicyName,
    /// KATO: a path whose target is silent for three quarters of this is connected again.
    #[arg(short = 'k', long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds, help_heading = "Paths")]
    pub keep_alive_tmo: Duration,
    /// The longest pause between two tries to connect a path again.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds, help_heading = "Paths")]
    pub reconnect_delay: Duration,
    /// A path that is gone for so long is given up.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = parse_seconds, help_heading = "Paths")]
    pub ctrl_loss_tmo: Duration,
    /// Commands do not wait for a path that is gone for so long.
    #[arg(long, alias = "fast_io_fail_tmo", value_name = "SECONDS", value_parser = parse_seconds, help_heading = "Paths")]
    pub fast_io_fail_tmo: Option<Duration>,
    /// A command that is not answered for so long ends its path, and takes another one.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds, help_heading = "Paths")]
    pub io_timeout: Duration,
}

/// See [`Policy`].
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PolicyName {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest commands under way.
    QueueDepth,
    /// The first that was named, as long as it works.
    Failover,
}

impl From<PolicyName> for Policy {
    fn from(name: PolicyName) -> Self {
        match name {
            PolicyName::RoundRobin => Self::RoundRobin,
            PolicyName::QueueDepth => Self::QueueDepth,
            PolicyName::Failover => Self::Failover,
        }
    }
}

/// The paths to one namespace.
pub(crate) struct Paths {
    /// Each path; at least one.
    connectors: Vec<Connector>,
    subsystem: Nqn,
    nsid: u32,
    builder: NamespaceBuilder,
}

impl Paths {
    /// From targets, which have to name one namespace.
    pub(crate) fn new(
        connect: &Connect,
        targets: &[Target],
        nsid: Option<u32>,
        options: &PathOptions,
    ) -> anyhow::Result<Self> {
        let connectors = match targets {
            [] => vec![Connector::new(connect, None)?.with_namespace(nsid)?],
            targets => targets
                .iter()
                .map(|target| Connector::new(connect, Some(target.clone()))?.with_namespace(nsid))
                .collect::<anyhow::Result<_>>()?,
        };
        Self::of(connectors, options)
    }

    /// From the paths themselves.
    pub(crate) fn of(connectors: Vec<Connector>, options: &PathOptions) -> anyhow::Result<Self> {
        let Some(first) = connectors.first() else {
            return Err(Usage::new("no target").into());
        };
        let (subsystem, nsid) = (first.subsystem()?.clone(), first.nsid());
        let mut builder = Namespace::builder(subsystem.clone(), nsid, first.options().clone())
            .policy(options.policy.into())
            .keep_alive(options.keep_alive_tmo)
            .reconnect_delay(options.reconnect_delay)
            .ctrl_loss_tmo(options.ctrl_loss_tmo)
            .fast_io_fail_tmo(options.fast_io_fail_tmo)
            .io_timeout(options.io_timeout);
        for connector in &connectors {
            if (connector.subsystem()?, connector.nsid()) != (&subsystem, nsid) {
                let what = format!(
                    "{} and {} are not two paths to one namespace",
                    first.url(),
                    connector.url()
                );
                return Err(Usage::new(what).into());
            }
            builder = builder.path(connector.target.authority());
        }
        if let Some(trace) = first.trace() {
            builder = builder.trace_pdus(trace.clone());
        }
        Ok(Self { subsystem, nsid, builder, connectors })
    }

    /// With this many I/O queues on each path.
    pub(crate) fn queues(mut self, queues: NonZeroU16) -> Self {
        self.builder = self.builder.queues(queues);
        self
    }

    /// With this event loop.
    pub(crate) fn engine(mut self, engine: EngineChoice) -> Self {
        self.builder = self.builder.engine(engine);
        self
    }

    /// The namespace and where it is, for messages.
    pub(crate) fn name(&self) -> String {
        let places: Vec<_> = self.connectors.iter().map(|c| c.target.authority()).collect();
        format!("namespace {} of {} at {}", self.nsid, self.subsystem, places.join(", "))
    }

    /// Connects.
    pub(crate) fn connect(&self) -> anyhow::Result<Namespace> {
        self.builder
            .clone()
            .connect()
            .map_err(|error| self.explained(error))
            .with_context(|| format!("cannot connect to {}", self.name()))
    }

    fn explained(&self, error: ConnectError) -> anyhow::Error {
        let ConnectError::Failed { failures, .. } = error else { return error.into() };
        let said = failures.iter().zip(&self.connectors).map(|((path, error), by)| {
            let said = match error {
                Some(error) => said_with_hint(error, &self.subsystem, path, by.options()),
                None => "no answer in time".to_owned(),
            };
            if failures.len() > 1 { format!("{path}: {said}") } else { said }
        });
        anyhow!(said.collect::<Vec<_>>().join("; "))
    }
}
