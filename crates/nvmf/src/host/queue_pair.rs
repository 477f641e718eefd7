//! A host's queue pair.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::net::TcpStream;

use nvme_spec::fabrics::{Connect, ConnectData, Disconnect};
use nvme_spec::{Cqe, HostId, Nqn, Sqe, Status, opcode};
use nvmf_proto::connect::{ControllerChoice, judge_response};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::Host;
use nvmf_proto::violation::Violation;
use zerocopy::IntoBytes;

use crate::pdu_trace::ConnectionTrace;
use crate::transport::tcp::HostParts;
use crate::transport::{self, HostTransport, TakeApartError, TransportError};
use crate::{Data, Deadline, Error, Transfer, wire_log};

/// What a host's Connect command asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectOptions {
    /// The queue's identifier; 0 is the admin queue.
    pub qid: u16,
    /// The submission queue's size.
    pub size: QueueSize,
    /// Keep Alive Timeout in milliseconds, 0 for none; on the admin queue only.
    pub kato_ms: u32,
    /// Ask to switch submission queue flow control off: fewer responses, more throughput.
    pub disable_flow_control: bool,
    /// The controller: a new one for an admin queue, the association's own for an I/O queue.
    pub controller: ControllerChoice,
    /// Who asks.
    pub host: Nqn,
    /// Who asks, as an identifier that all of the host's associations share.
    pub host_id: HostId,
    /// The subsystem.
    pub subsystem: Nqn,
}

impl ConnectOptions {
    /// An admin queue of 32 entries, to a new controller of `subsystem`.
    pub fn new(host: Nqn, host_id: HostId, subsystem: Nqn) -> Self {
        Self {
            qid: 0,
            size: QueueSize::new(32).unwrap_or(QueueSize::MIN),
            kato_ms: 0,
            disable_flow_control: true,
            controller: ControllerChoice::Dynamic,
            host,
            host_id,
            subsystem,
        }
    }

    /// The same host's I/O queue `qid` to controller `cntlid`.
    #[must_use]
    pub fn io_queue(&self, qid: u16, size: QueueSize, cntlid: u16) -> Self {
        let controller = ControllerChoice::Id(cntlid);
        Self { qid, size, kato_ms: 0, controller, ..self.clone() }
    }
}

/// A command that was submitted. No two commands of a queue pair have the same one, though their
/// identifiers on the wire are used over and over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct CommandId {
    number: u64,
    cid: u16,
}

impl CommandId {
    /// The identifier on the wire, which is the command's own until its completion is reported.
    pub fn cid(self) -> u16 {
        self.cid
    }
}

/// A command's completion, with its data.
#[derive(Clone, PartialEq, Debug)]
pub struct Completion {
    /// The command.
    pub id: CommandId,
    /// The response.
    pub cqe: Cqe,
    /// The data that was submitted; of a read that succeeded, filled.
    pub data: Data,
    /// Why the response is a failure that the controller did not send.
    pub violation: Option<Violation>,
}

impl Completion {
    /// The status.
    pub fn status(&self) -> Status {
        self.cqe.status()
    }

    /// The completion if it is a success, else an error that names the command.
    pub fn into_result(self, command: &'static str) -> Result<Self, Error> {
        let status = self.status();
        if status.is_success() { Ok(self) } else { Err(Error::Status { command, status }) }
    }
}

/// A host's queue pair: a connection on which Connect has succeeded.
///
/// Dropping it closes the connection.
#[derive(Debug)]
pub struct QueuePair {
    transport: Box<dyn HostTransport>,
    qid: u16,
    cntlid: u16,
    /// Completions that came while another one was waited for.
    done: VecDeque<Completion>,
    /// Commands whose completions are to be reported, by identifier; those given up are not here.
    awaited: HashMap<u16, CommandId>,
    /// How many commands were submitted.
    submitted: u64,
}

impl QueuePair {
    /// Sends Connect over a transport that is ready, and waits for the answer.
    pub fn connect(
        mut transport: Box<dyn HostTransport>,
        options: &ConnectOptions,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let ConnectOptions { qid, size, kato_ms, disable_flow_control, .. } = *options;
        let cattr = if disable_flow_control { Connect::CATTR_DISABLE_SQ_FLOW } else { 0 };
        let sqe = Connect::new(qid, size.zero_based(), cattr, kato_ms).to_sqe();
        let cntlid = options.controller.to_wire();
        let data = ConnectData::new(options.host_id, cntlid, &options.subsystem, &options.host);
        let data = [IoSlice::new(data.as_bytes())];
        let completion = transport
            .execute(sqe, Transfer::Write(&data), &mut |_, _| {}, deadline)
            .map_err(Error::of("Connect"))?;
        let accepted = judge_response(&completion.cqe, disable_flow_control)?;
        let cntlid = judge_cntlid(options.controller, accepted.cntlid)?;
        transport.establish(size, accepted.sqhd, disable_flow_control);
        tracing::debug!(qid, cntlid, subsystem = %options.subsystem, "connected");
        Ok(Self {
            transport,
            qid,
            cntlid,
            done: VecDeque::new(),
            awaited: HashMap::new(),
            submitted: 0,
        })
    }

    /// The queue's identifier.
    pub fn qid(&self) -> u16 {
        self.qid
    }

    /// The controller's identifier.
    pub fn cntlid(&self) -> u16 {
        self.cntlid
    }

    /// How many commands can be outstanding at once.
    pub fn capacity(&self) -> u32 {
        self.transport.queue().capacity()
    }

    /// Commands that the controller has not yet answered.
    pub fn outstanding(&self) -> u32 {
        self.transport.queue().outstanding()
    }

    /// Whether another command can be submitted now.
    pub fn has_room(&self) -> bool {
        self.transport.queue().has_room()
    }

    /// Whether submission queue flow control is on.
    pub fn flow_control(&self) -> bool {
        self.transport.queue().flow_control()
    }

    /// Takes a command with its data; it goes out with the next flush or wait.
    ///
    /// Identifier and data pointer of `sqe` are filled in.
    pub fn submit(&mut self, sqe: Sqe, data: Data) -> Result<CommandId, Error> {
        let cid = self.transport.submit(sqe, data)?;
        wire_log::command(self.qid, &Sqe { cid: cid.into(), ..sqe });
        self.submitted += 1;
        let id = CommandId { number: self.submitted, cid };
        self.awaited.insert(cid, id);
        Ok(id)
    }

    /// Sends all that was submitted.
    pub fn flush(&mut self, deadline: Deadline) -> Result<(), Error> {
        Ok(self.transport.flush(deadline)?)
    }

    /// Waits for the next completion, of whichever command.
    pub fn wait_any(&mut self, deadline: Deadline) -> Result<Completion, Error> {
        if let Some(completion) = self.done.pop_front() {
            return Ok(completion);
        }
        loop {
            if let Some(completion) = self.take_any(deadline)? {
                return Ok(completion);
            }
        }
    }

    /// Waits for the completion of this command; others are kept for their own waits.
    pub fn wait(&mut self, id: CommandId, deadline: Deadline) -> Result<Completion, Error> {
        if let Some(at) = self.done.iter().position(|c| c.id == id)
            && let Some(completion) = self.done.remove(at)
        {
            return Ok(completion);
        }
        if !self.is_awaited(id) {
            return Err(Error::NotOutstanding(id.cid));
        }
        loop {
            match self.take_any(deadline)? {
                Some(completion) if completion.id == id => return Ok(completion),
                other => self.done.extend(other),
            }
        }
    }

    /// Gives a command up: its completion will not be reported. It keeps its place in the queue
    /// until the controller answers it.
    pub fn forget(&mut self, id: CommandId) {
        if self.is_awaited(id) {
            self.awaited.remove(&id.cid);
        }
        self.done.retain(|c| c.id != id);
    }

    /// Sends a command with borrowed data and waits for its answer.
    ///
    /// A status other than success is an error. So is a deadline that passes: the command is
    /// given up then, and if it was a write the queue pair is of no more use.
    pub fn execute(
        &mut self,
        sqe: Sqe,
        transfer: Transfer<'_>,
        deadline: Deadline,
    ) -> Result<Cqe, Error> {
        let command = name(&sqe, self.qid);
        while !self.has_room() {
            let completion = self.take_any(deadline)?;
            self.done.extend(completion);
        }
        let (done, awaited) = (&mut self.done, &mut self.awaited);
        let mut others = |completion: transport::Completion, data| {
            let id = awaited.remove(&completion.cid);
            done.extend(id.map(|id| with_data(id, completion, data)));
        };
        let completion = self
            .transport
            .execute(sqe, transfer, &mut others, deadline)
            .map_err(Error::of(command))?;
        let cid = completion.cid;
        wire_log::command(self.qid, &Sqe { cid: cid.into(), ..sqe });
        wire_log::response(self.qid, cid, &completion.cqe);
        let status = completion.cqe.status();
        if status.is_success() {
            Ok(completion.cqe)
        } else {
            Err(Error::Status { command, status })
        }
    }

    /// Takes an idle queue pair over TCP apart, for an event loop to drive it.
    ///
    /// # Errors
    ///
    /// Why it cannot be: a command is outstanding, a completion was not fetched, the connection
    /// failed before or is none over TCP. It is closed then.
    pub fn into_tcp(self) -> Result<TcpQueue, TakeApartError> {
        if !self.done.is_empty() {
            return Err(TakeApartError::Unfetched { completions: self.done.len() });
        }
        let HostParts { stream, host, received, trace } = self.transport.into_tcp()?;
        Ok(TcpQueue { qid: self.qid, stream, host, received, trace })
    }

    /// Ends the queue pair: an I/O queue by a Disconnect command, an admin queue, which has none,
    /// by closing the connection.
    pub fn disconnect(mut self, deadline: Deadline) -> Result<(), Error> {
        if self.qid == 0 {
            return Ok(());
        }
        self.execute(Disconnect::new().to_sqe(), Transfer::None, deadline).map(|_| ())
    }

    /// Waits for a completion, and says which unless it was given up.
    fn take_any(&mut self, deadline: Deadline) -> Result<Option<Completion>, TransportError> {
        let (completion, data) = self.transport.next_completion(deadline)?;
        wire_log::response(self.qid, completion.cid, &completion.cqe);
        let id = self.awaited.remove(&completion.cid);
        Ok(id.map(|id| with_data(id, completion, data)))
    }

    fn is_awaited(&self, id: CommandId) -> bool {
        self.awaited.get(&id.cid) == Some(&id)
    }
}

/// A queue pair over TCP that was taken apart: Connect has succeeded and nothing is outstanding.
#[derive(Debug)]
pub struct TcpQueue {
    /// The queue's identifier.
    pub qid: u16,
    /// The socket, in non-blocking mode.
    pub stream: TcpStream,
    /// The protocol's state.
    pub host: Host,
    /// Bytes that were received and that [`host`](Self::host) has not seen: to be handed to it
    /// before those that come next.
    pub received: Vec<u8>,
    /// The trace of PDUs, if there is one: to be shown what is sent and received from now on.
    pub trace: Option<Box<ConnectionTrace>>,
}

/// The controller at the other end, which has to be the one that was asked for.
fn judge_cntlid(asked: ControllerChoice, answers: u16) -> Result<u16, Error> {
    match asked {
        ControllerChoice::Id(asked) if answers != asked => {
            let reason = format!("controller {answers} answers; {asked} was asked for");
            Err(Error::invalid("answer to Connect", reason))
        }
        _ => Ok(answers),
    }
}

fn with_data(id: CommandId, completion: transport::Completion, data: Data) -> Completion {
    let transport::Completion { cqe, violation, .. } = completion;
    Completion { id, cqe, data, violation }
}

/// The printable name of a command on this queue.
pub(crate) fn name(sqe: &Sqe, qid: u16) -> &'static str {
    match (sqe.is_fabrics(), qid) {
        (true, _) => opcode::fabrics_name(sqe.fctype()),
        (_, 0) => opcode::admin_name(sqe.opcode),
        _ => opcode::nvm_name(sqe.opcode),
    }
}
