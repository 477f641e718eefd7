//! `nvmf connect`, `connect-all`, `disconnect`, `disconnect-all` and `list`: the kernel's host.

pub(crate) mod args;
mod connect;
mod connect_all;
mod disconnect;
mod list;

use std::fmt::Write;

use nvmf::Deadline;
use nvmf::handoff::linux::{HandoffError, Kernel, Made, Options, Plan};
use nvmf::host::TcpDialer;
use nvmf::spec::Nqn;
use nvmf_storage::display_size;

pub(crate) use connect::run as connect;
pub(crate) use connect_all::run as connect_all;
pub(crate) use disconnect::{all as disconnect_all, run as disconnect};
pub(crate) use list::run as list;

use crate::connect::{Connector, cannot_connect};
use crate::failure;
use args::KernelOptions;

/// How the kernel is to connect, all but the subsystem and its address.
fn options(kernel: &KernelOptions, connector: &Connector) -> Options {
    let host = connector.options();
    let mut options = Options::new("tcp", Nqn::DISCOVERY);
    options.hostnqn = Some(host.host.clone());
    options.hostid = Some(host.host_id);
    options.hdr_digest = host.header_digest;
    options.data_digest = host.data_digest;
    options.host_traddr = kernel.host_traddr.map(|address| address.to_string());
    options.host_iface.clone_from(&kernel.host_iface);
    options.queue_size = kernel.queue_size;
    options.nr_io_queues = kernel.nr_io_queues;
    options.nr_write_queues = kernel.nr_write_queues;
    options.nr_poll_queues = kernel.nr_poll_queues;
    options.keep_alive_tmo = kernel.keep_alive_tmo;
    options.reconnect_delay = kernel.reconnect_delay;
    options.ctrl_loss_tmo = kernel.ctrl_loss_tmo;
    options.fast_io_fail_tmo = kernel.fast_io_fail_tmo;
    options.tos = kernel.tos;
    options.duplicate_connect = kernel.duplicate_connect;
    options.disable_sqflow = kernel.disable_sqflow;
    options.dhchap_secret.clone_from(&kernel.dhchap_secret);
    options.dhchap_ctrl_secret.clone_from(&kernel.dhchap_ctrl_secret);
    options.tls = kernel.tls;
    options.concat = kernel.concat;
    options.keyring = kernel.keyring;
    options.tls_key = kernel.tls_key;
    options
}

/// Fails where the kernel cannot connect to anything at all.
fn require_kernel(kernel: &Kernel) -> anyhow::Result<()> {
    kernel.fabrics.known_options(Deadline::after(Plan::unchecked().connect))?;
    Ok(())
}

/// How to go about it: with a check, unless that is not wanted or would mean nothing.
fn plan<'a>(
    kernel: &KernelOptions,
    options: &Options,
    dialer: &'a TcpDialer,
    connector: &'a Connector,
) -> Plan<'a> {
    let mut plan = if !kernel.no_check && Plan::can_check(options) {
        Plan::checked(dialer, connector.options())
    } else {
        tracing::debug!("the target is not asked before the kernel connects");
        Plan::unchecked()
    };
    plan.disks = kernel.wait;
    plan
}

/// Why the subsystem at `HOST:PORT` is not connected; the target's reasons with what to try.
fn explain(error: HandoffError, subsystem: &Nqn, at: &str, connector: &Connector) -> anyhow::Error {
    match error {
        HandoffError::Check(error) => cannot_connect(&error, subsystem, at, connector.options()),
        error => {
            anyhow::Error::new(error).context(format!("cannot connect to {subsystem} at {at}"))
        }
    }
}

/// The controller and its disks, a line each.
fn made_text(made: &Made) -> String {
    let options = &made.options;
    let (address, port) = (options.traddr.as_deref(), options.trsvcid.as_deref());
    let mut text = format!(
        "/dev/{}: {} at {} port {}",
        made.connected.device(),
        options.nqn,
        address.unwrap_or("?"),
        port.unwrap_or("?")
    );
    for namespace in &made.namespaces {
        let nsid = namespace.nsid.map_or_else(|| "?".to_owned(), |nsid| nsid.to_string());
        // Writing to a string does not fail.
        let _ = if namespace.has_device {
            write!(
                text,
                "\n/dev/{}: namespace {nsid}, {} in blocks of {}{}",
                namespace.name,
                display_size(namespace.bytes),
                namespace.block_size,
                if namespace.read_only { ", read-only" } else { "" }
            )
        } else {
            let state = namespace.paths.iter().find_map(|path| path.ana_state.as_deref());
            write!(text, "\nnamespace {nsid}: no disk yet (its path is {})", state.unwrap_or("new"))
        };
    }
    text
}

/// Says which namespaces have not become disks, which is no failure: the kernel may still make them, or
/// have no use for them.
fn say_missing(made: &Made) {
    const FEW: usize = 8;
    if !made.missing.is_empty() {
        let few: Vec<_> = made.missing.iter().take(FEW).map(u32::to_string).collect();
        let more = if made.missing.len() > FEW { ", …" } else { "" };
        failure::say(&format!(
            "{}: the kernel has made no disks of namespaces {}{more}; --wait waits longer",
            made.connected.device(),
            few.join(", ")
        ));
    }
}
