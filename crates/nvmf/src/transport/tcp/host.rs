//! A host's end of a TCP connection.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nvme_spec::Sqe;
use nvmf_proto::pdu::{Batch, PayloadSource};
use nvmf_proto::queue::{HostQueue, QueueSize};
use nvmf_proto::tcp::{Completion, Host, HostConfig, HostEvent, Negotiated, Payload};

use super::socket::{Received, Socket, Wait};
use crate::data::{for_each_part, room_at};
use crate::pdu_trace::{ConnectionTrace, PduTrace};
use crate::transport::{HostTransport, TakeApartError, TransportError, wire_len};
use crate::{Data, Deadline, Transfer};

/// As much is encoded at once before the socket is asked to take it.
const BATCH: usize = 256 << 10;
/// How long a TermReq may take to be sent before the connection is closed anyway.
const GOODBYE: Duration = Duration::from_secs(1);

/// A host's end of a TCP connection.
#[derive(Debug)]
pub struct HostTcp {
    socket: Socket,
    host: Host,
    batch: Batch,
    /// Data of outstanding commands by identifier.
    data: Store,
    /// Completions held back until no more of their data is on its way out.
    done: VecDeque<Completion>,
    broken: bool,
}

/// What a host's end of an idle TCP connection consists of, for an event loop to go on with.
#[derive(Debug)]
pub struct HostParts {
    /// The socket, in non-blocking mode.
    pub stream: TcpStream,
    /// The protocol's state, its handshake done.
    pub host: Host,
    /// Bytes that were received and that [`host`](Self::host) has not seen.
    pub received: Vec<u8>,
    /// The trace of PDUs, if there is one. It has seen what was received.
    pub trace: Option<Box<ConnectionTrace>>,
}

impl HostTcp {
    /// Connects to `addr` and does the handshake.
    pub fn connect(
        addr: SocketAddr,
        config: &HostConfig,
        deadline: Deadline,
    ) -> Result<Self, TransportError> {
        Self::handshake(Socket::connect(addr, deadline)?, config, deadline)
    }

    /// The same, every PDU told to `trace`.
    pub fn connect_traced(
        addr: SocketAddr,
        config: &HostConfig,
        trace: &PduTrace,
        deadline: Deadline,
    ) -> Result<Self, TransportError> {
        let mut socket = Socket::connect(addr, deadline)?;
        // Told apart by the address of this end: that of the other is the same for all queues.
        let local = socket.stream().local_addr()?;
        socket.trace = Some(trace.connection(format_args!("{local}→{addr}")).into());
        Self::handshake(socket, config, deadline)
    }

    /// Does the handshake on a connected socket, which this takes over.
    pub fn from_stream(
        stream: TcpStream,
        config: &HostConfig,
        deadline: Deadline,
    ) -> Result<Self, TransportError> {
        Self::handshake(Socket::new(stream)?, config, deadline)
    }

    /// What the handshake agreed on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.host.negotiated()
    }

    /// The socket, to look at its addresses.
    pub fn stream(&self) -> &TcpStream {
        self.socket.stream()
    }

    fn handshake(
        socket: Socket,
        config: &HostConfig,
        deadline: Deadline,
    ) -> Result<Self, TransportError> {
        super::self_test()?;
        let mut tcp = Self {
            socket,
            host: Host::new(*config),
            batch: Batch::new(),
            data: Store::default(),
            done: VecDeque::new(),
            broken: false,
        };
        while tcp.host.negotiated().is_none() {
            tcp.turn(&mut Lent::None, deadline).map_err(|error| match error {
                TransportError::TimedOut => TransportError::NoIcResp,
                error => error,
            })?;
        }
        Ok(tcp)
    }

    /// Waits for one completion, of whichever command.
    fn complete(
        &mut self,
        lent: &mut Lent<'_>,
        deadline: Deadline,
    ) -> Result<Completion, TransportError> {
        loop {
            let sendable = self.done.front().is_some_and(|c| !self.batch.refers_to(c.cid));
            if sendable && let Some(completion) = self.done.pop_front() {
                // Not before: a new command of this identifier would find the old one's data.
                self.host.release(completion.cid);
                return Ok(completion);
            }
            if self.broken {
                return Err(TransportError::Broken);
            }
            self.turn(lent, deadline)?;
            // A peer that always has something to say must not hold the caller beyond it.
            if self.done.is_empty() && deadline.has_passed() {
                return Err(TransportError::TimedOut);
            }
        }
    }

    /// Does what can be done now: parse, send, receive; waits only if that was nothing.
    fn turn(&mut self, lent: &mut Lent<'_>, deadline: Deadline) -> Result<(), TransportError> {
        let result = self.try_turn(lent, deadline);
        match &result {
            Ok(()) | Err(TransportError::TimedOut) => {}
            Err(TransportError::Violation(_)) => {
                self.broken = true;
                // The TermReq is a courtesy; the violation is what counts.
                let deadline = Deadline::after(GOODBYE);
                if self.send_all(&Lent::None, deadline).is_ok() {
                    self.socket.linger(deadline);
                }
            }
            Err(_) => self.broken = true,
        }
        result
    }

    fn try_turn(&mut self, lent: &mut Lent<'_>, deadline: Deadline) -> Result<(), TransportError> {
        let mut wait = Wait::Readable;
        if !self.transmit(lent)? {
            wait = Wait::Either;
        }
        match self.receive(lent)? {
            Received::Bytes(_) => Ok(()),
            Received::Nothing => self.socket.wait(wait, deadline),
            Received::End => Err(TransportError::Closed),
        }
    }

    /// Sends what is ready; `false` if the socket takes no more now.
    fn transmit(&mut self, lent: &Lent<'_>) -> Result<bool, TransportError> {
        let source = Source { data: &self.data, lent };
        while self.host.wants_transmit() || !self.batch.is_empty() {
            self.host.poll_transmit(&source, &mut self.batch, BATCH);
            if !self.socket.send(&mut Vec::new(), &mut self.batch, &source)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn send_all(&mut self, lent: &Lent<'_>, deadline: Deadline) -> Result<(), TransportError> {
        while !self.transmit(lent)? {
            self.socket.wait(Wait::Writable, deadline)?;
        }
        Ok(())
    }

    /// Receives once and handles all that came.
    fn receive(&mut self, lent: &mut Lent<'_>) -> Result<Received, TransportError> {
        let mut progress = Received::Nothing;
        loop {
            let (n, event) = self.host.handle_bytes(self.socket.buffered())?;
            self.socket.consume(n);
            let received = match event {
                None if progress != Received::Nothing => return Ok(progress),
                None => self.socket.fill()?,
                Some(HostEvent::Payload(payload)) => self.place(payload, lent)?,
                Some(HostEvent::Completion(completion)) => {
                    self.done.push_back(completion);
                    continue;
                }
                Some(HostEvent::Terminated(terminated)) => return Err(terminated.into()),
                Some(_) => continue,
            };
            match received {
                Received::Bytes(_) => progress = received,
                Received::Nothing | Received::End if progress != Received::Nothing => {
                    return Ok(progress);
                }
                Received::Nothing | Received::End => return Ok(received),
            }
        }
    }

    /// Puts payload where it belongs.
    fn place(&mut self, payload: Payload, lent: &mut Lent<'_>) -> Result<Received, TransportError> {
        let mut dropped = [0; 4096];
        let (offset, length) = (payload.offset as usize, payload.length as usize);
        let room = payload.tag.and_then(|cid| match lent.room(cid, offset) {
            Some(room) => Some(room),
            None => self.data.room(cid, offset),
        });
        let room = room.filter(|room| !room.is_empty()).unwrap_or(&mut dropped);
        let room_len = room.len().min(length);
        let room = &mut room[..room_len];
        let received = self.socket.take_into(room)?;
        if let Received::Bytes(n) = received {
            self.host.handle_payload(&room[..n]);
        }
        Ok(received)
    }
}

impl HostTransport for HostTcp {
    fn establish(&mut self, size: QueueSize, sqhd: u16, flow_control_off_asked: bool) {
        self.host.establish(size, sqhd, flow_control_off_asked);
    }

    fn queue(&self) -> &HostQueue {
        self.host.queue()
    }

    fn submit(&mut self, sqe: Sqe, data: Data) -> Result<u16, TransportError> {
        if self.broken {
            return Err(TransportError::Broken);
        }
        let length = wire_len(data.len())?;
        let transfer = match &data {
            _ if length == 0 => nvmf_proto::tcp::Transfer::None,
            Data::None => nvmf_proto::tcp::Transfer::None,
            Data::Write(_) => nvmf_proto::tcp::Transfer::ToController { length },
            Data::Read(_) => nvmf_proto::tcp::Transfer::ToHost { length },
        };
        let cid = self.host.submit(sqe, transfer)?;
        self.data.put(cid, data);
        Ok(cid)
    }

    fn next_completion(
        &mut self,
        deadline: Deadline,
    ) -> Result<(Completion, Data), TransportError> {
        let completion = self.complete(&mut Lent::None, deadline)?;
        let data = self.data.take(completion.cid);
        Ok((completion, data))
    }

    fn execute(
        &mut self,
        sqe: Sqe,
        transfer: Transfer<'_>,
        others: &mut dyn FnMut(Completion, Data),
        deadline: Deadline,
    ) -> Result<Completion, TransportError> {
        if self.broken {
            return Err(TransportError::Broken);
        }
        let length = wire_len(transfer.len())?;
        let wire = match &transfer {
            _ if length == 0 => nvmf_proto::tcp::Transfer::None,
            Transfer::None => nvmf_proto::tcp::Transfer::None,
            Transfer::Write(_) => nvmf_proto::tcp::Transfer::ToController { length },
            Transfer::Read(_) => nvmf_proto::tcp::Transfer::ToHost { length },
        };
        let cid = self.host.submit(sqe, wire)?;
        let writes = matches!(transfer, Transfer::Write(_));
        let mut lent = match transfer {
            Transfer::None => Lent::None,
            Transfer::Write(pieces) => Lent::Write { cid, pieces },
            Transfer::Read(pieces) => Lent::Read { cid, pieces },
        };
        loop {
            match self.complete(&mut lent, deadline) {
                Ok(completion) if completion.cid == cid => return Ok(completion),
                Ok(completion) => {
                    let data = self.data.take(completion.cid);
                    others(completion, data);
                }
                Err(error) => {
                    // What the controller sends for the command from now on is dropped, but bytes
                    // promised to it can no longer be had.
                    self.broken |= writes;
                    return Err(error);
                }
            }
        }
    }

    fn flush(&mut self, deadline: Deadline) -> Result<(), TransportError> {
        while !self.transmit(&Lent::None)? {
            self.turn(&mut Lent::None, deadline)?;
        }
        Ok(())
    }

    fn into_tcp(self: Box<Self>) -> Result<HostParts, TakeApartError> {
        if self.broken {
            return Err(TakeApartError::Broken);
        }
        if !self.done.is_empty() {
            return Err(TakeApartError::Unfetched { completions: self.done.len() });
        }
        let outstanding = self.host.queue().outstanding();
        if outstanding > 0 {
            return Err(TakeApartError::Outstanding { outstanding });
        }
        if !self.batch.is_empty() || self.host.wants_transmit() {
            return Err(TakeApartError::Unsent);
        }
        let (stream, received, trace) = self.socket.into_parts();
        Ok(HostParts { stream, host: self.host, received, trace })
    }
}

/// Data lent for the command that is being waited for.
#[derive(Debug)]
enum Lent<'a> {
    None,
    Write { cid: u16, pieces: &'a [IoSlice<'a>] },
    Read { cid: u16, pieces: &'a mut [IoSliceMut<'a>] },
}

impl Lent<'_> {
    fn room(&mut self, of: u16, offset: usize) -> Option<&mut [u8]> {
        match self {
            Self::Read { cid, pieces } if *cid == of => {
                Some(room_at(pieces.iter_mut().map(|p| &mut **p), offset))
            }
            _ => None,
        }
    }
}

/// Data of outstanding commands by identifier.
#[derive(Debug, Default)]
struct Store(Vec<Data>);

impl Store {
    fn put(&mut self, cid: u16, data: Data) {
        let index = usize::from(cid);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, Data::default);
        }
        self.0[index] = data;
    }

    fn take(&mut self, cid: u16) -> Data {
        self.0.get_mut(usize::from(cid)).map(std::mem::take).unwrap_or_default()
    }

    fn room(&mut self, cid: u16, offset: usize) -> Option<&mut [u8]> {
        match self.0.get_mut(usize::from(cid))? {
            Data::Read(pieces) => Some(room_at(pieces.iter_mut(), offset)),
            _ => None,
        }
    }
}

/// Where payload to be sent is found.
struct Source<'a, 'l> {
    data: &'a Store,
    lent: &'a Lent<'l>,
}

impl PayloadSource for Source<'_, '_> {
    fn for_each<'a>(&'a self, cid: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        let (offset, length) = (offset as usize, length as usize);
        match (self.lent, self.data.0.get(usize::from(cid))) {
            (Lent::Write { cid: c, pieces }, _) if *c == cid => {
                for_each_part(pieces.iter().map(|p| &**p), offset, length, each);
            }
            (_, Some(Data::Write(pieces))) => for_each_part(pieces.iter(), offset, length, each),
            _ => {}
        }
    }
}
