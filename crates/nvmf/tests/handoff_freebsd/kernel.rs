//! A kernel that is none: it decodes what it is given, keeps it, and answers as it is told.

use std::collections::VecDeque;
use std::io;

use nvmf::handoff::freebsd::controller::{Which, port_status, status};
use nvmf::handoff::freebsd::nvlist::NvList;
use nvmf::handoff::freebsd::{ControllerName, CtlReply, Kernel, PortAction};

/// What was said to the kernel.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Call {
    HandoffHost(NvList),
    ReconnectHost(String, NvList),
    ReconnectParams(String),
    ConnectionStatus(String),
    DisconnectHost(String),
    DisconnectAll,
    CtlHandoff(NvList),
    CtlList(usize),
    CtlTerminate(Which),
    CtlPort(PortAction, NvList),
    CtlEnablePort(i32, bool),
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) calls: Vec<Call>,
    /// The error that the next calls give, each once.
    pub(crate) errors: VecDeque<io::ErrorKind>,
    /// What the target layer answers next, each once; after that it is well.
    pub(crate) replies: VecDeque<CtlReply>,
    /// What is given where something is asked for.
    pub(crate) answer: Vec<u8>,
    /// What is done while a call lasts.
    pub(crate) meanwhile: Option<Box<dyn FnMut()>>,
}

impl Fake {
    pub(crate) fn refusing(kind: io::ErrorKind) -> Self {
        Self { errors: [kind].into(), ..Self::default() }
    }

    pub(crate) fn saying(status: i32, message: &str) -> Self {
        let reply = CtlReply { status, message: message.to_owned() };
        Self { replies: [reply].into(), ..Self::default() }
    }

    /// The only list it was given.
    pub(crate) fn handed_over(&self) -> &NvList {
        match &self.calls[..] {
            [Call::HandoffHost(list) | Call::ReconnectHost(_, list) | Call::CtlHandoff(list)] => {
                list
            }
            calls => panic!("{calls:?}"),
        }
    }

    fn called(&mut self, call: Call) -> io::Result<()> {
        self.calls.push(call);
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile();
        }
        self.errors.pop_front().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn asked(&mut self, call: Call) -> io::Result<Vec<u8>> {
        self.called(call)?;
        Ok(self.answer.clone())
    }

    fn reply(&mut self, well: i32) -> CtlReply {
        self.replies.pop_front().unwrap_or_else(|| CtlReply::new(well, b""))
    }
}

fn list(packed: &[u8]) -> NvList {
    NvList::decode(packed).unwrap()
}

impl Kernel for Fake {
    fn handoff_host(&mut self, packed: &[u8]) -> io::Result<()> {
        self.called(Call::HandoffHost(list(packed)))
    }

    fn reconnect_host(&mut self, name: &ControllerName, packed: &[u8]) -> io::Result<()> {
        self.called(Call::ReconnectHost(name.to_string(), list(packed)))
    }

    fn reconnect_params(&mut self, name: &ControllerName) -> io::Result<Vec<u8>> {
        self.asked(Call::ReconnectParams(name.to_string()))
    }

    fn connection_status(&mut self, name: &ControllerName) -> io::Result<Vec<u8>> {
        self.asked(Call::ConnectionStatus(name.to_string()))
    }

    fn disconnect_host(&mut self, name: &str) -> io::Result<()> {
        self.called(Call::DisconnectHost(name.to_owned()))
    }

    fn disconnect_all(&mut self) -> io::Result<()> {
        self.called(Call::DisconnectAll)
    }

    fn ctl_handoff(&mut self, packed: &[u8]) -> io::Result<CtlReply> {
        self.called(Call::CtlHandoff(list(packed)))?;
        Ok(self.reply(status::OK))
    }

    fn ctl_list(&mut self, room: &mut [u8]) -> io::Result<(CtlReply, usize)> {
        let answer = self.asked(Call::CtlList(room.len()))?;
        if answer.len() > room.len() {
            let message = format!("Out of space, {} bytes is too small", room.len());
            let status = status::LIST_NEED_MORE_SPACE;
            return Ok((CtlReply { status, message }, 0));
        }
        room[..answer.len()].copy_from_slice(&answer);
        Ok((self.reply(status::OK), answer.len()))
    }

    fn ctl_terminate(&mut self, which: &Which) -> io::Result<CtlReply> {
        self.called(Call::CtlTerminate(which.clone()))?;
        Ok(self.reply(status::OK))
    }

    fn ctl_port(
        &mut self,
        action: PortAction,
        packed: &[u8],
        room: &mut [u8],
    ) -> io::Result<(CtlReply, usize)> {
        let answer = self.asked(Call::CtlPort(action, list(packed)))?;
        room[..answer.len()].copy_from_slice(&answer);
        Ok((self.reply(port_status::OK), answer.len()))
    }

    fn ctl_enable_port(&mut self, port: i32, enable: bool) -> io::Result<()> {
        self.called(Call::CtlEnablePort(port, enable))
    }
}
