//! Connecting a path: the association, its queues, and all that has to be known of the namespace.

use nvmf::host::{Association, NamespaceInfo, TcpDialer};
use nvmf::proto::queue::QueueSize;
use nvmf::spec::feature::{AsyncEventConfig, fid};
use nvmf::spec::identify::IdentifyController;
use nvmf::spec::log::{AnaState, GetLogPage, lid};
use nvmf::transport::{TakeApartError, TransportError};
use nvmf::{Deadline, Error};

use super::admin::{Facts, ana_log_length, ana_state};
use super::{Breaker, Session};
use crate::multipath::retry::RetryDelays;
use crate::multipath::{Found, Head};
use crate::namespace::geometry::Geometry;

/// Connects to `address`. A target that takes just less than its time for each step is given up
/// once all of them together take too long.
pub(crate) fn connect(head: &Head, address: &str) -> Result<Session, Error> {
    let waited = head.settings.connect_limit();
    let all = Deadline::after(waited);
    connect_by(head, address, all).map_err(|error| match error {
        error if error.is_timeout() && all.has_passed() => {
            Error::NotReady { awaited: "connected", waited }
        }
        error => error,
    })
}

fn connect_by(head: &Head, address: &str, all: Deadline) -> Result<Session, Error> {
    let settings = &head.settings;
    let mut options = settings.host.clone();
    options.deadline = Some(all);
    let mut dialer = TcpDialer::parse(address, all.min(Deadline::after(options.timeout)))?;
    if let Some(trace) = &settings.trace {
        dialer = dialer.trace_pdus(trace.clone());
    }
    let mut association = Association::connect(dialer, &settings.subsystem, options)?;
    ask_for_events(&mut association)?;
    let size = QueueSize::new(settings.queue_depth.saturating_add(1));
    let io = association.connect_io_queues(settings.queues.get(), size)?;
    if io.is_empty() {
        return Err(invalid("number of queues", "it grants no I/O queue"));
    }
    let (facts, found) = look(head.nsid, &mut association)?;
    let mut queues = Vec::with_capacity(io.len() + 1);
    let taken_apart = |error: TakeApartError| invalid("queue", &error.to_string());
    queues.push(association.into_tcp().map_err(taken_apart)?);
    for queue in io {
        queues.push(queue.into_tcp().map_err(taken_apart)?);
    }
    let breaker = Breaker::new(&queues).map_err(TransportError::from)?;
    Ok(Session { queues, breaker, found, facts })
}

/// Asks to be told when namespaces or the ways to them change, if the controller can.
fn ask_for_events(association: &mut Association) -> Result<(), Error> {
    let wanted = AsyncEventConfig::NAMESPACE_ATTRIBUTE | AsyncEventConfig::ANA_CHANGE;
    let events = association.controller().oaes.get() & wanted;
    if events == 0 {
        return Ok(());
    }
    match association.set_feature(fid::ASYNC_EVENT_CONFIG, 0, events, &[]) {
        Ok(_) => Ok(()),
        // Then nothing is told, which is no reason to do without the path.
        Err(error) if error.status().is_some() => {
            tracing::info!(%error, "the controller will not tell of changes");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Looks at the namespace and the way to it.
fn look(nsid: u32, association: &mut Association) -> Result<(Facts, Found), Error> {
    let namespace = association.identify_namespace(nsid).map_err(|error| {
        let gone = error.has_status(nvmf::spec::Status::INVALID_NAMESPACE);
        if gone { Error::NoNamespace { nsid } } else { error }
    })?;
    let info = NamespaceInfo::new(nsid, &namespace)?;
    if info.metadata_size != 0 {
        return Err(invalid(
            "Identify Namespace",
            "its blocks have metadata, which NVMe/TCP cannot move",
        ));
    }
    let max_transfer = association.max_transfer();
    let controller = *association.controller();
    let mut ids = association.namespace_ids(nsid).or_else(|error| {
        // Controllers before version 1.3 have no descriptors.
        if error.status().is_some() { Ok(Default::default()) } else { Err(error) }
    })?;
    ids.nguid = ids.nguid.or_else(|| (namespace.nguid != [0; 16]).then_some(namespace.nguid));
    ids.eui64 = ids.eui64.or_else(|| (namespace.eui64 != [0; 8]).then_some(namespace.eui64));
    let group = namespace.anagrpid.get();
    let ana = ana(association, &controller, group)?;
    let facts = Facts {
        nsid,
        configuration: association.configuration(),
        events: u16::from(controller.aerl) + 1,
        abort_limit: u16::from(controller.acl) + 1,
        ana_log: ana_log_length(&controller),
        group,
        max_transfer,
        retry_delays: RetryDelays([
            controller.crdt1.get(),
            controller.crdt2.get(),
            controller.crdt3.get(),
        ]),
        ids,
        controller: Box::new(controller),
    };
    let geometry = Geometry::new(&info, &namespace, &facts.controller, max_transfer);
    Ok((facts, Found { cntlid: association.cntlid(), ids, geometry, ana }))
}

/// How the namespaces of a group are reached.
fn ana(
    association: &mut Association,
    controller: &IdentifyController,
    group: u32,
) -> Result<AnaState, Error> {
    let Some(length) = ana_log_length(controller) else { return Ok(AnaState::Optimized) };
    let page = association.log_page(ana_request(length), length.into())?;
    ana_state(&page, group)
        .and_then(|state| state.ok_or_else(|| format!("it has no group {group}")))
        .map_err(|reason| invalid("ANA log page", &reason))
}

/// The groups of the ANA log without their namespaces.
pub(super) fn ana_request(length: u32) -> GetLogPage {
    let request = GetLogPage::new(lid::ANA, 0, length.into()).unwrap_or_default();
    GetLogPage { lsp: nvmf::spec::log::AnaHeader::RGO, ..request }
}

pub(super) fn invalid(what: &'static str, reason: &str) -> Error {
    Error::InvalidData { what, reason: reason.to_owned() }
}
