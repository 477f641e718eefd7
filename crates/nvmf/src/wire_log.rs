//! Commands and responses in the log, at trace level, printed by the one mechanism there is.
//!
//! The library calls it for everything that goes over its queue pairs; who drives `nvmf_proto` by
//! himself may do the same.

use nvme_spec::print::{AdminCommand, IoCommand, Line};
use nvme_spec::{Cqe, Sqe};

/// A command that goes out or has come.
pub fn command(qid: u16, sqe: &Sqe) {
    if qid == 0 {
        tracing::trace!(qid, command = %Line(&AdminCommand(sqe)));
    } else {
        tracing::trace!(qid, command = %Line(&IoCommand(sqe)));
    }
}

/// A response that goes out or has come; of a controller's, the identifier is still to be filled
/// in and stands beside it.
pub fn response(qid: u16, cid: u16, cqe: &Cqe) {
    tracing::trace!(qid, cid, response = %Line(cqe));
}
