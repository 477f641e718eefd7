//! What a controller sends, from its queue into batches of bytes.

use nvme_spec::Cqe;
use nvme_spec::pdu::kind;

use super::Controller;
use crate::pdu::{Batch, DataHeader, PayloadSource, R2tHeader};
use crate::tcp::link::{Phase, ic_resp};

#[derive(Clone, Copy, Debug)]
pub(super) enum Outgoing {
    IcResp(u8),
    R2t(R2tHeader),
    /// Data for the host; with `finish`, the last of it and the command's success.
    Data {
        slot: u16,
        offset: u32,
        end: u32,
        finish: bool,
    },
    Response {
        slot: u16,
        cqe: Cqe,
    },
    /// The answer to Connect.
    Connected {
        slot: u16,
        cqe: Cqe,
    },
    /// An answer to a command that never had a slot.
    Rejection(Rejection),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rejection {
    pub cqe: Cqe,
    /// The identifier is the command's own, not that of another one still outstanding.
    pub owns_cid: bool,
}

impl Controller {
    /// Whether there is anything to send.
    pub fn wants_transmit(&self) -> bool {
        self.link.has_goodbye() || (self.link.phase != Phase::Ended && !self.outgoing.is_empty())
    }

    /// Encodes PDUs that are ready into `batch`, until it has `max` bytes or more.
    ///
    /// `source` has the data given to [`send_data`](Self::send_data), by slot; it is read here
    /// only for data digests.
    pub fn poll_transmit(&mut self, source: &dyn PayloadSource, batch: &mut Batch, max: usize) {
        if self.link.phase == Phase::Ended {
            return self.link.transmit_goodbye(batch);
        }
        while batch.len() < max {
            let Some(outgoing) = self.outgoing.pop_front() else { return };
            self.encode(outgoing, source, batch);
        }
    }

    fn encode(&mut self, outgoing: Outgoing, source: &dyn PayloadSource, batch: &mut Batch) {
        let format = self.link.send_format;
        match outgoing {
            Outgoing::IcResp(dgst) => {
                batch.ic_resp(ic_resp(self.config.cpda, dgst, self.config.maxh2cdata));
            }
            Outgoing::R2t(r2t) => batch.r2t(format, r2t),
            Outgoing::Data { slot, offset, end, finish } => {
                let Some(s) = self.slots.get(slot) else { return };
                let length = (end - offset).min(self.config.c2h_data_length);
                let next = offset + length;
                let last = next == s.data.length();
                let success = finish && next == end;
                let data = DataHeader { cid: s.cid, ttag: 0, offset, length, last, success };
                batch.data(format, kind::C2H_DATA, data, slot, source);
                if next < end {
                    self.outgoing.push_front(Outgoing::Data { slot, offset: next, end, finish });
                } else if finish {
                    self.queue.complete(data.cid);
                    batch.finish(slot);
                }
            }
            Outgoing::Response { slot, mut cqe } => {
                cqe.sqhd.set(self.queue.complete(cqe.cid.get()));
                batch.response(format, cqe);
                batch.finish(slot);
            }
            Outgoing::Connected { slot, mut cqe } => {
                cqe.sqhd.set(self.queue.complete_connect(cqe.cid.get()));
                batch.response(format, cqe);
                batch.finish(slot);
            }
            Outgoing::Rejection(Rejection { mut cqe, owns_cid }) => {
                let cid = cqe.cid.get();
                let sqhd = if owns_cid {
                    self.queue.complete(cid)
                } else {
                    self.queue.complete_conflict()
                };
                cqe.sqhd.set(sqhd);
                batch.response(format, cqe);
            }
        }
    }
}
