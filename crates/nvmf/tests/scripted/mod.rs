//! A controller that answers by a script.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nvmf::controller::{self, AcceptOptions, Command, QueuePair};
use nvmf::host::{Association, HostOptions};
use nvmf::proto::connect::{ConnectRequest, Refusal};
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::spec::fabrics::{PropertyGet, PropertySet};
use nvmf::spec::identify::IdentifyController;
use nvmf::spec::opcode::admin;
use nvmf::spec::property::{Cap, Cc, Csts, offset};
use nvmf::spec::{Cqe, DataDirection, HostId, Nqn, Sqe, Status};
use nvmf::transport::tcp::ControllerTcp;
use nvmf::transport::{ControllerTransport, HostTransport, in_process};
use nvmf::{Deadline, Error};
use zerocopy::IntoBytes;

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// How a scripted controller answers a command.
pub(crate) enum Answer {
    Data(Vec<u8>),
    Result(u64),
    Fail(Status),
    Silence,
}

/// A controller: its registers, what it says of itself, and a script for everything else.
pub(crate) struct Script {
    pub(crate) cap: Cap,
    /// CSTS, whatever CC is.
    pub(crate) csts: Option<Csts>,
    pub(crate) cc: Cc,
    pub(crate) identify: IdentifyController,
    pub(crate) answer: Box<Answerer>,
    pub(crate) refuse: Option<Refusal>,
    /// What came, in order: Connects by queue, commands by opcode.
    pub(crate) connects: Vec<ConnectRequest>,
    pub(crate) commands: Vec<Sqe>,
}

pub(crate) type Answerer = dyn FnMut(u16, &Sqe) -> Answer + Send;
pub(crate) type Shared = Arc<Mutex<Script>>;

pub(crate) const CNTLID: u16 = 7;

pub(crate) fn script(answer: impl FnMut(u16, &Sqe) -> Answer + Send + 'static) -> Script {
    let mut identify = IdentifyController::default();
    identify.cntlid.set(CNTLID);
    identify.mdts = 5;
    identify.ioccsz.set(4 + 8192 / 16);
    identify.ofcs.set(IdentifyController::OFCS_DISCONNECT);
    Script {
        cap: Cap(0).with_mqes(127).with_cqr(1).with_to(10).with_css(Cap::CSS_NVM),
        csts: None,
        cc: Cc(0),
        identify,
        answer: Box::new(answer),
        refuse: None,
        connects: Vec::new(),
        commands: Vec::new(),
    }
}

/// A script that knows no other commands.
pub(crate) fn plain() -> Script {
    script(|_, _| Answer::Fail(Status::INVALID_OPCODE))
}

pub(crate) fn answer(script: &Shared, qid: u16, sqe: &Sqe) -> Answer {
    let mut script = script.lock().unwrap();
    script.commands.push(*sqe);
    if let Some(get) = PropertyGet::from_sqe(sqe) {
        let ready = Csts(0).with_rdy(script.cc.en());
        let ready = ready.with_shst(if script.cc.shn() != 0 { 2 } else { 0 });
        return Answer::Result(match get.ofst.get() {
            offset::CAP => script.cap.0,
            offset::CSTS => u64::from(script.csts.unwrap_or(ready).0),
            offset::CC => u64::from(script.cc.0),
            _ => return Answer::Fail(Status::INVALID_FIELD),
        });
    }
    if let Some(set) = PropertySet::from_sqe(sqe) {
        script.cc = Cc(u32::try_from(set.value.get()).unwrap());
        return Answer::Result(0);
    }
    match (sqe.is_fabrics(), sqe.opcode, sqe.cdw(10) & 0xff) {
        (true, ..) | (_, admin::KEEP_ALIVE, _) => Answer::Result(0),
        (_, admin::IDENTIFY, 1) if qid == 0 => Answer::Data(script.identify.as_bytes().to_vec()),
        _ => (script.answer)(qid, sqe),
    }
}

/// Serves one queue until the host leaves.
pub(crate) fn serve(transport: Box<dyn ControllerTransport>, script: &Shared) {
    let Ok(pending) = controller::accept(transport, &AcceptOptions::default(), soon()) else {
        return;
    };
    script.lock().unwrap().connects.push(pending.request().clone());
    let refusal = script.lock().unwrap().refuse.clone();
    if let Some(refusal) = refusal {
        let _ = pending.refuse(&refusal, soon());
        return;
    }
    let mut queue = pending.accept(CNTLID, soon()).unwrap();
    let mut unanswered: Vec<Command> = Vec::new();
    while let Ok(Some(mut command)) = queue.receive(soon()) {
        if command.sqe().data_direction() == DataDirection::ToController {
            let mut data = vec![0; usize::try_from(command.data_len()).unwrap()];
            queue.receive_data(&mut command, 0, &mut [IoSliceMut::new(&mut data)], soon()).unwrap();
        }
        match answer(script, queue.qid(), &command.sqe().clone()) {
            Answer::Data(mut data) => {
                data.resize(usize::try_from(command.data_len()).unwrap(), 0);
                reply(&mut queue, command, &data);
            }
            Answer::Result(result) => queue.respond(command, Cqe::with_result(0, result)),
            Answer::Fail(status) => queue.fail(command, status),
            Answer::Silence => unanswered.push(command),
        }
    }
}

pub(crate) fn reply(queue: &mut QueuePair, command: Command, data: &[u8]) {
    let _ = queue.respond_with_data(command, &[IoSlice::new(data)], soon());
}

/// A dialer whose connections lead to this script, without sockets.
pub(crate) fn dialer(
    script: &Shared,
) -> impl FnMut(&HostConfig, Deadline) -> Result<Box<dyn HostTransport>, Error> + Send + 'static {
    let script = Arc::clone(script);
    move |_, _| {
        let (host, controller) = in_process::pair();
        let script = Arc::clone(&script);
        thread::spawn(move || serve(Box::new(controller), &script));
        Ok(Box::new(host))
    }
}

pub(crate) fn nqn(text: &str) -> Nqn {
    Nqn::lenient(text).unwrap()
}

pub(crate) fn options() -> HostOptions {
    let mut options = HostOptions::new(nqn("nqn.2026-01.example:host"), HostId([9; 16]));
    options.timeout = Duration::from_secs(5);
    options
}

pub(crate) fn connect(script: Script) -> (Result<Association, Error>, Shared) {
    connect_with(script, options())
}

pub(crate) fn connect_with(
    script: Script,
    options: HostOptions,
) -> (Result<Association, Error>, Shared) {
    let script = Arc::new(Mutex::new(script));
    let subsystem = nqn("nqn.2026-01.example:disk");
    (Association::connect(dialer(&script), &subsystem, options), script)
}

pub(crate) fn connected(script: Script) -> (Association, Shared) {
    let (association, script) = connect(script);
    (association.unwrap(), script)
}

/// Serves this script over TCP until the test is over.
pub(crate) fn listen(script: &Shared) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Arc::clone(script);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serving = Arc::clone(&serving);
            thread::spawn(move || {
                let config = ControllerConfig::default();
                let transport = ControllerTcp::accept(stream.unwrap(), &config, soon()).unwrap();
                serve(Box::new(transport), &serving);
            });
        }
    });
    address
}
