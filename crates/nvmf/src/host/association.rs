//! Associations: a controller, the admin queue to it, and its I/O queues (Base 2.1, section 3.3).

use std::fmt;
use std::time::{Duration, Instant};

use nvme_spec::fabrics::{PropertyGet, PropertySet};
use nvme_spec::identify::{IdentifyController, cns};
use nvme_spec::property::{self, Cap, Cc, Csts, offset};
use nvme_spec::{Cqe, Nqn, Sqe, opcode};
use nvmf_proto::connect::ControllerChoice;
use nvmf_proto::keep_alive::Reminder;
use nvmf_proto::queue::QueueSize;
use zerocopy::FromBytes;

use super::dial::{Dial, TcpDialer};
use super::options::HostOptions;
use super::{ConnectOptions, QueuePair, TcpQueue};
use crate::transport::TakeApartError;
use crate::{Deadline, Error, Transfer};

/// A host's association with one controller, which is enabled as long as it lasts.
///
/// Its methods send admin commands and wait for their answers, each for
/// [`HostOptions::timeout`] at most. I/O queues are handed out as [`QueuePair`]s, for any thread.
///
/// Dropping it closes the admin connection, and with that the controller ends the association;
/// [`shutdown`](Self::shutdown) tells the controller before.
pub struct Association {
    dialer: Box<dyn Dial>,
    options: HostOptions,
    subsystem: Nqn,
    admin: QueuePair,
    cap: Cap,
    cc: Cc,
    controller: Box<IdentifyController>,
    reminder: Reminder,
    /// I/O queues that were connected: identifiers 1 to this.
    io_queues: u16,
}

/// The most bytes of one command, whatever more the controller allows.
pub(super) const MOST_TRANSFER: u32 = 1 << 20;

/// Entries of an I/O queue where nothing else is asked for.
const IO_ENTRIES: QueueSize = match QueueSize::new(128) {
    Some(size) => size,
    None => QueueSize::MIN,
};

impl Association {
    /// Connects an admin queue to `subsystem`, enables the controller, and identifies it.
    ///
    /// # Errors
    ///
    /// Whatever the connection, the Connect command or one of the commands after it fails with;
    /// [`Error::NotReady`] and [`Error::Fatal`] if the controller does not become ready.
    pub fn connect(
        dialer: impl Dial + 'static,
        subsystem: &Nqn,
        options: HostOptions,
    ) -> Result<Self, Error> {
        let mut dialer: Box<dyn Dial> = Box::new(dialer);
        let deadline = options.wait();
        let config = options.handshake(nvme_spec::pdu::ADMIN_IN_CAPSULE);
        let transport = dialer.dial(&config, deadline)?;
        let passing = subsystem.is_discovery() && !options.persistent_discovery;
        let kato_ms = if passing { 0 } else { options.kato_ms() };
        let connect = ConnectOptions {
            size: options.admin_entries,
            kato_ms,
            disable_flow_control: options.disable_flow_control,
            ..ConnectOptions::new(options.host.clone(), options.host_id, subsystem.clone())
        };
        let admin = QueuePair::connect(transport, &connect, deadline)?;
        let mut association = Self {
            dialer,
            subsystem: subsystem.clone(),
            admin,
            cap: Cap(0),
            cc: Cc(0),
            controller: Box::default(),
            // Any thread may use the I/O queues, so traffic is not counted: Keep Alive is sent
            // whether or not it had to be.
            reminder: Reminder::new(kato_ms, false, Instant::now()),
            io_queues: 0,
            options,
        };
        association.cap = Cap(association.property_get(offset::CAP)?);
        association.enable()?;
        let page = association.identify(cns::CONTROLLER, 0, 0)?;
        association.controller = IdentifyController::read_from_bytes(&page[..])
            .map(Box::new)
            .map_err(|_| Error::invalid("Identify Controller", "its length is wrong"))?;
        let (is, connected) = (association.controller.cntlid.get(), association.cntlid());
        if is != connected {
            let reason = format!("it is controller {is}; Connect said {connected}");
            return Err(Error::invalid("Identify Controller", reason));
        }
        Ok(association)
    }

    /// The same over TCP, to `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`Error::Resolve`].
    pub fn connect_tcp(
        address: impl fmt::Display,
        subsystem: &Nqn,
        options: HostOptions,
    ) -> Result<Self, Error> {
        let deadline = options.wait();
        let dialer = TcpDialer::parse(&address.to_string(), deadline)?;
        Self::connect(dialer, subsystem, options)
    }

    /// The admin queue.
    pub fn admin(&mut self) -> &mut QueuePair {
        &mut self.admin
    }

    /// What the association was made with.
    pub fn options(&self) -> &HostOptions {
        &self.options
    }

    /// The subsystem's NQN.
    pub fn subsystem(&self) -> &Nqn {
        &self.subsystem
    }

    /// Who is at the other end, for messages.
    pub fn peer(&self) -> String {
        self.dialer.peer()
    }

    /// What Identify Controller said.
    pub fn controller(&self) -> &IdentifyController {
        &self.controller
    }

    /// The controller's identifier.
    pub fn cntlid(&self) -> u16 {
        self.admin.cntlid()
    }

    /// The controller's capabilities.
    pub fn capabilities(&self) -> Cap {
        self.cap
    }

    /// The most bytes that one command may move: what MDTS says, but never more than 1 MiB.
    pub fn max_transfer(&self) -> u32 {
        let page = 1u32 << (12 + u32::from(self.cap.mpsmin()));
        self.controller
            .max_transfer(page)
            .and_then(|most| u32::try_from(most).ok())
            .map_or(MOST_TRANSFER, |most| most.min(MOST_TRANSFER))
    }

    /// Reads a property: eight bytes of CAP, four of any other.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers.
    pub fn property_get(&mut self, offset: u32) -> Result<u64, Error> {
        let wide = property::is_wide(offset);
        let cqe = self.execute(PropertyGet::new(offset, wide).to_sqe(), Transfer::None)?;
        Ok(if wide { cqe.result() } else { u64::from(cqe.dw0.get()) })
    }

    /// Writes a property: eight bytes of CAP, four of any other.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers.
    pub fn property_set(&mut self, offset: u32, value: u64) -> Result<(), Error> {
        let set = PropertySet::new(offset, value, property::is_wide(offset));
        self.execute(set.to_sqe(), Transfer::None).map(|_| ())
    }

    /// Sends Keep Alive if half of the keep-alive time has passed since the last one. To be
    /// called at least that often; [`keep_alive_due`](Self::keep_alive_due) says when.
    ///
    /// # Errors
    ///
    /// Whatever the command fails with; the association is of no more use then.
    pub fn keep_alive_if_due(&mut self) -> Result<(), Error> {
        if self.reminder.is_due(Instant::now()) {
            self.execute(Sqe::new(opcode::admin::KEEP_ALIVE), Transfer::None)?;
            self.reminder.sent(Instant::now());
        }
        Ok(())
    }

    /// When the next Keep Alive is to be sent, if any.
    pub fn keep_alive_due(&self) -> Option<Instant> {
        self.reminder.due()
    }

    /// Asks for `wanted` I/O queues and connects as many as the controller grants of them; `size`
    /// entries each (128 if left out), or the controller's most where that is less.
    ///
    /// To be called once: the controller grants queues only while there are none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidData`] if the controller cannot have I/O queues, and whatever the request
    /// or one of the connections fails with.
    pub fn connect_io_queues(
        &mut self,
        wanted: u16,
        size: Option<QueueSize>,
    ) -> Result<Vec<QueuePair>, Error> {
        let (submission, completion) = self.request_io_queues(wanted)?;
        let granted = submission.min(completion).min(u32::from(wanted));
        (0..granted).map(|_| self.connect_io_queue(size)).collect()
    }

    /// Connects one more I/O queue, of those the controller granted.
    ///
    /// # Errors
    ///
    /// As [`connect_io_queues`](Self::connect_io_queues).
    pub fn connect_io_queue(&mut self, size: Option<QueueSize>) -> Result<QueuePair, Error> {
        let qid = self.io_queues.checked_add(1).ok_or_else(|| {
            Error::invalid("number of queues", "every queue identifier is in use")
        })?;
        let size = self.io_queue_size(size.unwrap_or(IO_ENTRIES))?;
        let deadline = self.options.wait();
        let config = self.options.handshake(self.in_capsule());
        let transport = self.dialer.dial(&config, deadline)?;
        let options = &self.options;
        let connect = ConnectOptions {
            qid,
            size,
            disable_flow_control: options.disable_flow_control,
            controller: ControllerChoice::Id(self.admin.cntlid()),
            ..ConnectOptions::new(options.host.clone(), options.host_id, self.subsystem.clone())
        };
        let queue = QueuePair::connect(transport, &connect, deadline)?;
        self.io_queues = qid;
        Ok(queue)
    }

    /// Ends the association in order: disconnects the I/O queues, tells the controller to shut
    /// down, waits until it has, and closes the connections.
    ///
    /// # Errors
    ///
    /// The first thing that fails; the connections are closed all the same.
    pub fn shutdown(mut self, io: Vec<QueuePair>) -> Result<(), Error> {
        let ofcs = self.controller.ofcs.get();
        for queue in io {
            // Those that do not know Disconnect are told by the connection's end.
            if ofcs & IdentifyController::OFCS_DISCONNECT != 0 {
                queue.disconnect(self.options.wait())?;
            }
        }
        let normal = self.cc.with_shn(1);
        self.property_set(offset::CC, u64::from(normal.0))?;
        self.wait_status("shut down", self.options.timeout, |csts| csts.shst() == 2)
    }

    /// The controller's configuration as this host wrote it: what a shutdown changes.
    pub fn configuration(&self) -> Cc {
        self.cc
    }

    /// Takes the admin queue apart, for an event loop to drive it: Keep Alive and everything else
    /// are its business from now on.
    ///
    /// # Errors
    ///
    /// As [`QueuePair::into_tcp`]; the association is ended then.
    pub fn into_tcp(self) -> Result<TcpQueue, TakeApartError> {
        self.admin.into_tcp()
    }

    /// Executes an admin command and waits for its answer.
    pub(super) fn execute(&mut self, sqe: Sqe, transfer: Transfer<'_>) -> Result<Cqe, Error> {
        self.admin.execute(sqe, transfer, self.options.wait())
    }

    /// Sets CC.EN and waits for CSTS.RDY (Base 2.1, section 3.5.3).
    fn enable(&mut self) -> Result<(), Error> {
        // The NVM Command Set alone where there is that, else whatever sets there are.
        let css = match self.cap.css() {
            css if css & Cap::CSS_NVM != 0 => 0,
            css if css & CAP_CSS_ALL != 0 => 0b110,
            css if css & CAP_CSS_NONE != 0 => 0b111,
            _ => 0,
        };
        self.cc = Cc::ENABLE.with_css(css).with_mps(self.cap.mpsmin());
        self.property_set(offset::CC, u64::from(self.cc.0))?;
        // Some report no time at all; none is to be waited for longer than the caller would.
        let promised = Duration::from_millis(500) * u32::from(self.cap.to().max(1));
        self.wait_status("ready", promised.min(self.options.timeout), |csts| csts.rdy() == 1)
    }

    /// Polls CSTS until it is as awaited.
    fn wait_status(
        &mut self,
        awaited: &'static str,
        limit: Duration,
        is_awaited: impl Fn(Csts) -> bool,
    ) -> Result<(), Error> {
        const LONGEST_PAUSE: Duration = Duration::from_millis(100);
        let deadline = Deadline::after(limit);
        let mut pause = Duration::from_millis(1);
        loop {
            let csts = self.property_get(offset::CSTS)?;
            let csts = Csts(u32::try_from(csts).unwrap_or(u32::MAX));
            if csts.cfs() != 0 {
                return Err(Error::Fatal);
            }
            if is_awaited(csts) {
                return Ok(());
            }
            match deadline.remaining() {
                Some(left) => std::thread::sleep(pause.min(left)),
                None => return Err(Error::NotReady { awaited, waited: limit }),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The most in-capsule data of an I/O queue, in bytes.
    fn in_capsule(&self) -> u32 {
        if self.controller.icdoff != 0 {
            // Data would have to begin somewhere else; with the transport it need not.
            return 0;
        }
        u32::try_from(self.controller.in_capsule_data()).unwrap_or(u32::MAX).min(MOST_TRANSFER)
    }

    /// The size of an I/O queue: as wanted, if the controller has queues that large.
    fn io_queue_size(&self, wanted: QueueSize) -> Result<QueueSize, Error> {
        let mqes = QueueSize::from_zero_based(self.cap.mqes())
            .ok_or_else(|| Error::invalid("CAP", "MQES 0: queues of one entry cannot be"))?;
        let maxcmd = u32::from(self.controller.maxcmd.get());
        // A queue of n entries has room for n - 1 commands.
        let maxcmd = QueueSize::new(maxcmd.saturating_add(1)).unwrap_or(QueueSize::MAX_IO);
        Ok(wanted.min(mqes).min(maxcmd))
    }
}

/// CAP.CSS bit 6: one or more I/O command sets, to be asked for.
const CAP_CSS_ALL: u8 = 1 << 6;
/// CAP.CSS bit 7: no I/O command set.
const CAP_CSS_NONE: u8 = 1 << 7;

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association")
            .field("peer", &self.peer())
            .field("subsystem", &self.subsystem)
            .field("cntlid", &self.cntlid())
            .finish_non_exhaustive()
    }
}
