//! A small target over the library: one namespace of RAM, a discovery controller beside it, and
//! an answer to every admin command whose structures are to be dissected.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nvme_spec::feature::{GetFeatures, NumberOfQueues, SetFeatures, Timestamp, fid};
use nvme_spec::identify::{
    ActiveNamespaceList, CommandSetList, ControllerList, IdentifyController, IdentifyRequest, cns,
};
use nvme_spec::log::{
    ChangedNamespaceList, DiscoveryEntry, ErrorLogEntry, FeatureEffects, FirmwareSlotLog,
    GetLogPage, SmartLog, SupportedLogPages, adrfam, lid, subtype,
};
use nvme_spec::opcode::{admin, fabrics, nvm};
use nvme_spec::property::Vs;
use nvme_spec::{Cqe, Nqn, Sqe, Status};
use nvmf::Deadline;
use nvmf::controller::{self, AcceptOptions, Command, QueuePair, discovery, identify, serial};
use nvmf::transport::tcp::ControllerTcp;
use nvmf_proto::queue::QueueSize;
use nvmf_proto::registers::{Change, Registers};
use nvmf_proto::tcp::ControllerConfig;
use zerocopy::IntoBytes;

/// The subsystem's name.
pub const SUBSYSTEM: &str = "nqn.2026-01.org.example:wire";
/// The controller identifier that every association gets.
pub const CNTLID: u16 = 7;
/// Bytes of a block.
pub const BLOCK: u32 = 512;
/// Blocks of the namespace, whose identifier is 1.
pub const BLOCKS: u64 = 2048;

/// How the target talks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The handshake and the sizes of transfers.
    pub config: ControllerConfig,
    /// Connect.
    pub accept: AcceptOptions,
}

/// The target; it ends with [`finish`](Self::finish).
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepting: JoinHandle<Vec<JoinHandle<()>>>,
}

/// No test waits longer for anything.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

impl Target {
    /// Serves on a free port of the loopback interface.
    pub fn start(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let disk = Arc::new(Mutex::new(vec![0; BLOCKS as usize * BLOCK as usize]));
        let accepting = thread::spawn(move || {
            let mut queues = Vec::new();
            loop {
                let (stream, _) = listener.accept().unwrap();
                if stopped.load(Ordering::SeqCst) {
                    return queues;
                }
                let disk = Arc::clone(&disk);
                queues.push(thread::spawn(move || serve(stream, &settings, &disk)));
            }
        });
        Self { address, stop, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until all connections have ended.
    pub fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        let _wakes_the_listener = TcpStream::connect(self.address).unwrap();
        for queue in self.accepting.join().unwrap() {
            queue.join().unwrap();
        }
    }
}

/// Serves one connection until it ends, whichever way.
fn serve(stream: TcpStream, settings: &Settings, disk: &Mutex<Vec<u8>>) {
    // Some conversations break the protocol on purpose.
    let Ok(transport) = ControllerTcp::accept(stream, &settings.config, soon()) else { return };
    let accept = settings.accept;
    let Ok(pending) = controller::accept(Box::new(transport), &accept, soon()) else { return };
    let discovery = pending.request().subsystem.is_discovery();
    let queue = pending.accept(CNTLID, soon()).unwrap();
    if queue.qid() == 0 {
        Admin::new(queue, &accept, discovery).serve();
    } else {
        serve_io(queue, disk);
    }
}

fn serve_io(mut queue: QueuePair, disk: &Mutex<Vec<u8>>) {
    while let Ok(Some(mut command)) = queue.receive(soon()) {
        let sqe = *command.sqe();
        let blocks = u64::from(sqe.block_count());
        let range = sqe.slba().checked_add(blocks).filter(|end| *end <= BLOCKS).map(|end| {
            let byte = |block: u64| usize::try_from(block * u64::from(BLOCK)).unwrap();
            byte(sqe.slba())..byte(end)
        });
        match (sqe.opcode, range) {
            (nvm::READ, Some(range)) => {
                let bytes = disk.lock().unwrap()[range].to_vec();
                let _ = queue.respond_with_data(command, &[IoSlice::new(&bytes)], soon());
            }
            (nvm::WRITE, Some(range)) => {
                let mut disk = disk.lock().unwrap();
                let into = &mut [IoSliceMut::new(&mut disk[range])];
                if queue.receive_data(&mut command, 0, into, soon()).is_ok() {
                    queue.succeed(command);
                }
            }
            (nvm::READ | nvm::WRITE, None) => {
                queue.fail(command, Status::LBA_OUT_OF_RANGE.with_dnr(true));
            }
            (nvm::FLUSH | nvm::WRITE_ZEROES, _) => queue.succeed(command),
            (nvm::DATASET_MANAGEMENT | nvm::COMPARE, _) => {
                let mut data = vec![0; command.data_len() as usize];
                let into = &mut [IoSliceMut::new(&mut data)];
                if queue.receive_data(&mut command, 0, into, soon()).is_ok() {
                    queue.succeed(command);
                }
            }
            _ if sqe.is_fabrics_type(fabrics::DISCONNECT) => queue.succeed(command),
            _ => queue.fail(command, Status::INVALID_OPCODE.with_dnr(true)),
        }
    }
}

/// An admin queue and what it has to know.
struct Admin {
    queue: QueuePair,
    registers: Registers,
    identify: IdentifyController,
    discovery: bool,
}

/// An answer to an admin command.
enum Answer {
    /// Data, and dword 0.
    Data(Vec<u8>, u32),
    /// The whole answer.
    Cqe(Cqe),
}

impl Answer {
    fn page(page: &(impl IntoBytes + zerocopy::Immutable)) -> Self {
        Self::Data(page.as_bytes().to_vec(), 0)
    }

    fn dw0(dw0: u32) -> Self {
        Self::Cqe(Cqe::with_dw0(0, dw0))
    }

    fn status(status: Status) -> Self {
        Self::Cqe(Cqe::new(0, status))
    }
}

const OPTIONAL: u16 = IdentifyController::ONCS_DSM
    | IdentifyController::ONCS_WRITE_ZEROES
    | IdentifyController::ONCS_COMPARE;

impl Admin {
    fn new(queue: QueuePair, accept: &AcceptOptions, discovery: bool) -> Self {
        let subsystem = if discovery { Nqn::DISCOVERY } else { Nqn::lenient(SUBSYSTEM).unwrap() };
        let entries = QueueSize::new(128).unwrap();
        let identity = identify::ControllerIdentity {
            cntlid: CNTLID,
            version: Vs::V1_4,
            subsystem: &subsystem,
            serial: &serial::SerialNumber::derived(&subsystem),
            model: "nvmf wire test",
            firmware: "1",
            max_commands: entries,
            keep_alive_granularity: Duration::from_secs(1),
            async_events: 4,
        };
        let capabilities = identify::IoCapabilities {
            mdts: 8,
            in_capsule: accept.in_capsule,
            namespaces: 1,
            optional_commands: OPTIONAL,
            volatile_write_cache: true,
        };
        let data = if discovery {
            identify::discovery_controller(&identity, 8)
        } else {
            identify::io_controller(&identity, &capabilities)
        };
        let cap = identify::capabilities(entries, Duration::from_secs(1));
        let registers = Registers::new(cap, Vs::V1_4);
        Self { queue, registers, identify: data, discovery }
    }

    fn serve(mut self) {
        while let Ok(Some(mut command)) = self.queue.receive(soon()) {
            if command.sqe().opcode == admin::SET_FEATURES {
                let mut data = vec![0; command.data_len() as usize];
                let into = &mut [IoSliceMut::new(&mut data)];
                self.queue.receive_data(&mut command, 0, into, soon()).unwrap();
            }
            let answer = self.answer(command.sqe(), command.data_len() as usize);
            self.respond(command, answer);
        }
    }

    fn respond(&mut self, mut command: Command, answer: Answer) {
        let (mut data, dw0) = match answer {
            Answer::Cqe(cqe) => return self.queue.respond(command, cqe),
            Answer::Data(data, dw0) => (data, dw0),
        };
        data.resize(command.data_len() as usize, 0);
        let data = [IoSlice::new(&data)];
        if dw0 == 0 {
            self.queue.respond_with_data(command, &data, soon()).unwrap();
        } else {
            self.queue.send_data(&mut command, &data, soon()).unwrap();
            self.queue.respond(command, Cqe::with_dw0(0, dw0));
        }
    }

    fn answer(&mut self, sqe: &Sqe, length: usize) -> Answer {
        if let Some((cqe, change)) = self.registers.execute(sqe) {
            if matches!(change, Change::Shutdown { .. }) {
                self.registers.shutdown_complete();
            }
            return Answer::Cqe(cqe);
        }
        match sqe.opcode {
            admin::IDENTIFY => self.identify(&IdentifyRequest::from_sqe(sqe)),
            admin::GET_LOG_PAGE => self.log_page(&GetLogPage::from_sqe(sqe), length),
            admin::GET_FEATURES => get_feature(sqe),
            admin::SET_FEATURES => set_feature(sqe),
            admin::KEEP_ALIVE => Answer::status(Status::SUCCESS),
            _ => Answer::status(Status::INVALID_OPCODE.with_dnr(true)),
        }
    }

    fn identify(&self, request: &IdentifyRequest) -> Answer {
        let namespace = identify::NamespaceDescription {
            blocks: BLOCKS,
            block_shift: 9,
            read_only: false,
            uuid: *b"a uuid to look f",
            nguid: *b"a nguid to look ",
        };
        match request.cns {
            cns::CONTROLLER => Answer::page(&self.identify),
            _ if self.discovery => Answer::status(Status::INVALID_FIELD.with_dnr(true)),
            cns::NAMESPACE if request.nsid == 1 => Answer::page(&namespace.namespace()),
            cns::ACTIVE_NAMESPACES | cns::CSI_ACTIVE_NAMESPACES => {
                Answer::page(&ActiveNamespaceList::after(request.nsid, [1]))
            }
            cns::NAMESPACE_DESCRIPTORS => {
                Answer::Data(namespace.descriptors().as_bytes().to_vec(), 0)
            }
            cns::CSI_CONTROLLER => Answer::page(&identify::nvm_controller(0, 8)),
            cns::INDEPENDENT_NAMESPACE => Answer::page(&namespace.independent()),
            cns::CONTROLLERS => Answer::page(&ControllerList::from(request.cntid, [CNTLID])),
            cns::COMMAND_SETS => Answer::page(&CommandSetList::nvm_only()),
            _ => Answer::status(Status::INVALID_NAMESPACE.with_dnr(true)),
        }
    }

    fn log_page(&self, request: &GetLogPage, length: usize) -> Answer {
        let page = match request.lid {
            lid::DISCOVERY if self.discovery => {
                let entry = |port| {
                    let (kind, family) = (subtype::NVM, adrfam::IPV4);
                    let name = Nqn::lenient(SUBSYSTEM).unwrap();
                    DiscoveryEntry::tcp(kind, &name, family, "192.0.2.2", port).unwrap()
                };
                discovery::DiscoveryLogPage::new(vec![entry("4420"), entry("4421")]).to_bytes()
            }
            lid::SUPPORTED => SupportedLogPages::of([lid::ERROR]).as_bytes().to_vec(),
            lid::ERROR => {
                let mut entry = ErrorLogEntry::default();
                entry.error_count.set(1);
                entry.cmdid.set(0x1234);
                entry.status_field.set(Status::INVALID_FIELD.to_wire());
                entry.as_bytes().to_vec()
            }
            lid::SMART => {
                let mut smart = SmartLog::default();
                smart.temperature.set(300);
                smart.host_read_commands.set(5);
                smart.as_bytes().to_vec()
            }
            lid::FIRMWARE_SLOT => FirmwareSlotLog::single("1").as_bytes().to_vec(),
            lid::CHANGED_NAMESPACES => ChangedNamespaceList::new([1]).as_bytes().to_vec(),
            lid::COMMAND_EFFECTS => identify::command_effects(OPTIONAL).as_bytes().to_vec(),
            lid::FEATURE_EFFECTS => FeatureEffects::default().as_bytes().to_vec(),
            _ => return Answer::status(Status::INVALID_LOG_PAGE.with_dnr(true)),
        };
        // A page of zeroes follows: nobody asks for more than there can be.
        let page = [page, vec![0; 1 << 16]].concat();
        match discovery::log_page_part(&page, request.offset, length) {
            Some(part) => Answer::Data(part, 0),
            None => Answer::status(Status::INVALID_FIELD.with_dnr(true)),
        }
    }
}

fn get_feature(sqe: &Sqe) -> Answer {
    let Some(get) = GetFeatures::from_cdw10(sqe.cdw(10)) else {
        return Answer::status(Status::INVALID_FIELD.with_dnr(true));
    };
    match get.fid {
        fid::TIMESTAMP => Answer::page(&Timestamp::new(1_767_225_600_000)),
        fid::HOST_IDENTIFIER => Answer::Data(b"a host id to see".to_vec(), 0),
        fid::HOST_BEHAVIOR_SUPPORT => Answer::Data(vec![0; 512], 0),
        fid::TEMPERATURE_THRESHOLD => Answer::dw0(0xffff),
        fid::VOLATILE_WRITE_CACHE => Answer::dw0(1),
        fid::NUMBER_OF_QUEUES => Answer::dw0(NumberOfQueues::pairs(4).to_dword()),
        fid::KEEP_ALIVE_TIMER => Answer::dw0(30_000),
        fid::ARBITRATION
        | fid::POWER_MANAGEMENT
        | fid::ERROR_RECOVERY
        | fid::WRITE_ATOMICITY
        | fid::ASYNC_EVENT_CONFIG => Answer::dw0(0),
        _ => Answer::status(Status::INVALID_FIELD.with_dnr(true)),
    }
}

fn set_feature(sqe: &Sqe) -> Answer {
    match SetFeatures::from_cdw10(sqe.cdw(10)).fid {
        fid::NUMBER_OF_QUEUES => Answer::dw0(NumberOfQueues::pairs(4).to_dword()),
        fid::VOLATILE_WRITE_CACHE
        | fid::ASYNC_EVENT_CONFIG
        | fid::KEEP_ALIVE_TIMER
        | fid::TIMESTAMP
        | fid::HOST_BEHAVIOR_SUPPORT => Answer::status(Status::SUCCESS),
        _ => Answer::status(Status::FEATURE_NOT_CHANGEABLE.with_dnr(true)),
    }
}
