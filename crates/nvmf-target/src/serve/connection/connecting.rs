//! A connection before its Connect is accepted.

use nvme_spec::Cqe;
use nvme_spec::pdu::ADMIN_IN_CAPSULE;
use nvmf_proto::connect::{ConnectCommand, ConnectRequest, Refusal, judge_command, judge_data};
use nvmf_proto::tcp::Established;

use super::abort::Remote;
use super::{Admin, Connection, IoStage, Stage};
use crate::serve::core::{Context, Post};
use crate::who::say;

/// How far the Connect is.
#[derive(Debug, Default)]
pub(super) struct Connecting {
    /// Its fields are right; its data is on the way.
    command: Option<ConnectCommand>,
}

impl Connection {
    /// The first command: a Connect whose data is with the transport, or something else.
    pub(super) fn connect_command(&mut self, cx: &mut Context, slot: u16) {
        if let Some(command) = self.judge_connect(cx, slot) {
            self.stage = Stage::Connecting(Connecting { command: Some(command) });
            self.request_data(cx, slot, 0);
        }
    }

    /// The first command's data is there.
    pub(super) fn connect_data(&mut self, cx: &mut Context, slot: u16, whole: Option<&[u8]>) {
        let Stage::Connecting(Connecting { command }) = &self.stage else { return };
        let command = match command {
            Some(command) => *command,
            None => match self.judge_connect(cx, slot) {
                Some(command) => command,
                None => return,
            },
        };
        let staged;
        let data = match whole {
            Some(whole) => whole,
            None => {
                staged = self.entries.get(slot).staging.take_parts().concat();
                &staged
            }
        };
        match judge_data(command, data, &cx.shared.accept_options().limits) {
            Ok(request) => self.connect(cx, slot, &request),
            Err(refusal) => {
                say!(warn, self.who, %refusal, "no Connect");
                self.refuse(slot, &refusal);
            }
        }
    }

    fn judge_connect(&mut self, cx: &Context, slot: u16) -> Option<ConnectCommand> {
        let entry = self.entries.get(slot);
        let limits = cx.shared.accept_options().limits;
        match judge_command(&entry.sqe, entry.data, &limits) {
            Ok(command) => Some(command),
            Err(refusal) => {
                say!(warn, self.who, %refusal, "no Connect");
                self.refuse(slot, &refusal);
                None
            }
        }
    }

    fn refuse(&mut self, slot: u16, refusal: &Refusal) {
        self.respond(slot, refusal.cqe());
        self.leave();
    }

    /// A well-formed Connect: whether there is what it asks for is the target's to say.
    fn connect(&mut self, cx: &mut Context, slot: u16, request: &ConnectRequest) {
        self.guard.established();
        let command = request.command;
        let opened = if command.qid == 0 {
            cx.shared.open_controller(request, &self.origin, cx.now).map(|controller| {
                let admin = Admin::new(controller);
                let stopper = self.guard.stopper();
                let (post, id) = (cx.post.clone(), self.id);
                admin.can_be_told(
                    self.origin.peer.clone(),
                    move || stopper.stop(),
                    // Without the core there is nobody to tell.
                    move || drop(post.post(Post::Event(id))),
                );
                (admin.cntlid(), ADMIN_IN_CAPSULE, Stage::Admin(Box::new(admin)))
            })
        } else {
            let stopper = self.guard.stopper();
            let remote = Remote { stopper: stopper.clone(), post: cx.post.clone(), conn: self.id };
            cx.shared.join(request, &self.origin, remote).map(|membership| {
                let (post, id) = (cx.post.clone(), self.id);
                // Without the core nothing waits.
                membership
                    .abort_by(move |nsid, done| drop(post.post(Post::Preempted(id, nsid, done))));
                let stage = IoStage::new(membership, stopper);
                (stage.cntlid(), cx.shared.accept_options().in_capsule, Stage::Io(stage))
            })
        };
        let (cntlid, in_capsule, stage) = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                say!(warn, self.who.connected(request, None), %refusal, "Connect refused");
                return self.refuse(slot, &refusal);
            }
        };
        let established = Established {
            size: command.size,
            flow_control: cx.shared.flow_control || !command.disable_flow_control,
            in_capsule,
        };
        self.tcp.accept(slot, Cqe::with_dw0(0, cntlid.into()), established);
        self.stage = stage;
        if let Some(trace) = &mut self.trace {
            trace.identify(&request.host);
        }
        self.who = self.who.connected(request, Some(cntlid));
        match &self.stage {
            Stage::Connecting(_) => {}
            Stage::Admin(admin) => {
                say!(info, self.who, "host connected");
                let deadline = admin.deadline();
                self.arm(cx, deadline);
            }
            Stage::Io(stage) => {
                stage.belong_to(&self.who);
                say!(debug, self.who, "I/O queue connected");
                self.arm(cx, None);
            }
        }
    }
}
