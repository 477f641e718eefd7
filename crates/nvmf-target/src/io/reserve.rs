//! The reservation commands: what follows them, for hosts and for their commands.
//!
//! What they mean is in [`reservation`](crate::reservation).

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nvme_spec::reservation::{
    AcquireData, RegisterData, ReleaseData, ReservationAcquire, ReservationRegister,
    ReservationRelease,
};
use nvme_spec::{HostId, Status};
use zerocopy::FromBytes;

use super::Failed;
use super::operation::By;
use crate::reservation::Changes;
use crate::subsystem::{Namespace, Subsystem};

/// Bytes of data of each command.
pub(super) const REGISTER_LEN: u32 = 16;
pub(super) const ACQUIRE_LEN: u32 = 16;
pub(super) const RELEASE_LEN: u32 = 8;
const _: () = assert!(
    size_of::<RegisterData>() == REGISTER_LEN as usize
        && size_of::<AcquireData>() == ACQUIRE_LEN as usize
        && size_of::<ReleaseData>() == RELEASE_LEN as usize
);

/// An event loop that takes longer to abort what waits does nothing at all.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn register(
    ns: &Namespace,
    command: &ReservationRegister,
    data: &[u8],
    by: &By<'_>,
) -> Result<(), Failed> {
    let changes = ns.reservations().register(by.host(), command, &parse(data)?)?;
    follow(ns, &changes, by);
    Ok(())
}

pub(super) fn acquire(
    ns: &Namespace,
    command: &ReservationAcquire,
    data: &[u8],
    by: &By<'_>,
) -> Result<(), Failed> {
    let changes = ns.reservations().acquire(by.host(), command, &parse(data)?)?;
    follow(ns, &changes, by);
    Ok(())
}

pub(super) fn release(
    ns: &Namespace,
    command: &ReservationRelease,
    data: &[u8],
    by: &By<'_>,
) -> Result<(), Failed> {
    let changes = ns.reservations().release(by.host(), command, &parse(data)?)?;
    follow(ns, &changes, by);
    Ok(())
}

/// Fills `data` with the report, as much of it as there is room for, and zeroes behind it.
pub(super) fn report(ns: &Namespace, data: &mut [u8], by: &By<'_>) {
    let associations = by.association.subsystem().associations();
    let seeing = associations.iter().filter(|a| a.view().get(ns.nsid()).is_some());
    let controllers: Vec<_> = seeing.map(|a| (a.host_id(), a.cntlid())).collect();
    let report = ns.reservations().report(&controllers);
    let length = report.len().min(data.len());
    let (filled, rest) = data.split_at_mut(length);
    filled.copy_from_slice(&report[..length]);
    rest.fill(0);
}

fn parse<T: FromBytes>(data: &[u8]) -> Result<T, Status> {
    // Its length was checked when the command was planned.
    T::read_from_prefix(data).map(|(data, _)| data).map_err(|_| Status::INTERNAL_ERROR)
}

/// Tells hosts and aborts commands.
fn follow(ns: &Namespace, changes: &Changes, by: &By<'_>) {
    let subsystem = by.association.subsystem();
    if !changes.abort.is_empty() {
        abort(ns, &changes.abort, subsystem);
    }
    if changes.notify.is_empty() {
        return;
    }
    for association in subsystem.associations() {
        for (host, what) in &changes.notify {
            if *host == association.host_id() {
                association.notify(ns.nsid(), *what);
            }
        }
    }
}

/// Aborts the commands of these hosts on the namespace that wait for something, and waits until those
/// that are being executed and write are done. The specification leaves it to the controller to
/// abort a command or to finish it (Base 2.1, section 8.1.22.7: as for the Abort command, it is an
/// effort and no promise); what it asks for is that the Preempt and Abort is answered after that.
fn abort(ns: &Namespace, hosts: &[HostId], subsystem: &Subsystem) {
    let (done, wait) = mpsc::channel();
    for association in subsystem.associations() {
        if hosts.contains(&association.host_id()) {
            association.abort_on(ns.nsid(), &done);
        }
    }
    drop(done);
    if let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(ABORT_PATIENCE) {
        tracing::error!(nsid = ns.nsid(), "not all commands were aborted in time");
    }
    // Who writes from now on was found to be allowed to, by the new state.
    drop(ns.exclusion().close());
}
