//! Aborting commands of an I/O queue, at the word of its controller's admin queue.

use nvme_spec::Status;
use nvmf_engine::{ConnId, Sender};

use super::{Connection, Stage};
use crate::abort::AbortReply;
use crate::association::Stop;
use crate::serve::connections::Stopper;
use crate::serve::core::Post;

/// How others reach the connection of an I/O queue.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) stopper: Stopper,
    pub(super) post: Sender<Post>,
    pub(super) conn: ConnId,
}

impl Stop for Remote {
    fn stop(&self) {
        self.stopper.stop();
    }

    fn abort(&self, cid: u16, reply: AbortReply) {
        // Without the core, the reply is dropped, and says that nothing was aborted.
        drop(self.post.post(Post::Abort { conn: self.conn, cid, reply }));
    }
}

impl Connection {
    /// Aborts the command of this identifier; false if there is none, or none that can be aborted:
    /// one that a job or the ring is busy with goes on.
    pub(in crate::serve) fn abort_command(&mut self, cid: u16) -> bool {
        if !matches!(self.stage, Stage::Io(_)) {
            return false;
        }
        let Some(slot) = self.tcp.slot_of(cid) else { return false };
        if !self.entries.get(slot).pending {
            return false;
        }
        self.abort(slot, Status::ABORT_REQUESTED);
        true
    }
}
