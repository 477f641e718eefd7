//! A target with one namespace of 1 MiB in memory, made of nothing but this library.
//! It knows just what a host needs; `nvmf-target` is the one that knows everything.
//!
//! ```text
//! cargo run -p nvmf --example target -- 127.0.0.1:4420
//! cargo run -p nvmf --example host -- 127.0.0.1:4420 nqn.2026-01.org.example:ram
//! ```

use std::error::Error;
use std::io::{IoSlice, IoSliceMut};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nvmf::Deadline;
use nvmf::controller::identify::*;
use nvmf::controller::{AcceptOptions, Command, QueuePair, SerialNumber, accept};
use nvmf::proto::{queue::QueueSize, registers::Registers, tcp::ControllerConfig};
use nvmf::spec::{Nqn, Status, identify::cns, opcode, property::Vs};
use nvmf::transport::tcp::ControllerTcp;
use zerocopy::IntoBytes;

const BYTES: usize = 1 << 20;
static MEMORY: Mutex<[u8; BYTES]> = Mutex::new([0; BYTES]);

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4420".into());
    let listener = TcpListener::bind(address)?;
    println!("serving at {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(|| serve(stream).unwrap_or_else(|error| eprintln!("{error}")));
    }
    Ok(())
}

/// A connection is a queue: handshake, Connect, then commands until the host closes it.
fn serve(stream: TcpStream) -> Result<(), Box<dyn Error>> {
    let transport = ControllerTcp::accept(stream, &ControllerConfig::default(), soon())?;
    let connect = accept(Box::new(transport), &AcceptOptions::default(), soon())?;
    let mut queue = connect.accept(1, soon())?;
    let cap = capabilities(QueueSize::MAX_ADMIN, Duration::from_secs(5));
    let mut registers = Registers::new(cap, Vs::V1_4);
    while let Some(command) = queue.receive(Deadline::after(Duration::MAX))? {
        registers.shutdown_complete(); // where one was asked for: nothing is cached
        match (queue.qid(), command.sqe().opcode) {
            (0, opcode::FABRICS) => match registers.execute(command.sqe()) {
                Some((cqe, _)) => queue.respond(command, cqe),
                None => queue.fail(command, Status::INVALID_OPCODE),
            },
            (0, opcode::admin::IDENTIFY) => identify(&mut queue, command)?,
            // Number of Queues: the answer, 0, means one of each.
            (0, opcode::admin::SET_FEATURES | opcode::admin::KEEP_ALIVE) => queue.succeed(command),
            (1.., opcode::nvm::READ | opcode::nvm::WRITE) => transfer(&mut queue, command)?,
            (1.., opcode::nvm::FLUSH | opcode::FABRICS) => queue.succeed(command),
            _ => queue.fail(command, Status::INVALID_OPCODE),
        }
    }
    Ok(())
}

fn identify(queue: &mut QueuePair, command: Command) -> Result<(), Box<dyn Error>> {
    let subsystem = Nqn::parse_strict("nqn.2026-01.org.example:ram")?;
    let serial = SerialNumber::derived(&subsystem);
    let namespace = NamespaceDescription::new(BYTES as u64 / 512, 9, [1; 16], [2; 16]);
    let identity = ControllerIdentity::new(1, &subsystem, &serial);
    let data = match command.sqe().cdw(10).as_bytes()[0] {
        cns::CONTROLLER => io_controller(&identity, &IoCapabilities::new(1)).as_bytes().to_vec(),
        cns::NAMESPACE => namespace.namespace().as_bytes().to_vec(),
        cns::ACTIVE_NAMESPACES => [&[1][..], &[0; 4095]].concat(),
        cns::NAMESPACE_DESCRIPTORS => namespace.descriptors().as_bytes().to_vec(),
        _ => vec![0; 4096],
    };
    Ok(queue.respond_with_data(command, &[IoSlice::new(&data)], soon())?)
}

fn transfer(queue: &mut QueuePair, mut command: Command) -> Result<(), Box<dyn Error>> {
    let (slba, length) = (command.sqe().slba(), command.sqe().block_count() as usize * 512);
    let start = usize::try_from(slba).ok().and_then(|slba| slba.checked_mul(512));
    let range = start.and_then(|start| Some(start..start.checked_add(length)?));
    let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(blocks) = range.and_then(|range| memory.get_mut(range)) else {
        queue.fail(command, Status::LBA_OUT_OF_RANGE);
        return Ok(());
    };
    if command.sqe().opcode == opcode::nvm::READ {
        return Ok(queue.respond_with_data(command, &[IoSlice::new(blocks)], soon())?);
    }
    queue.receive_data(&mut command, 0, &mut [IoSliceMut::new(blocks)], soon())?;
    queue.succeed(command);
    Ok(())
}
