//! `raw serve`

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;
use memmap2::{Advice, MmapMut};
use rustix::event::{Timespec, epoll};

use crate::STORE;
use crate::connection::{Connection, End, Outgoing};
use crate::wire::{Header, kind, operation};

/// The epoll data of the listening socket; connections have their index.
const LISTENER: u64 = u64::MAX;

pub(crate) fn run(port: u16) -> anyhow::Result<()> {
    let mut store = store()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot listen on port {port}"))?;
    listener.set_nonblocking(true)?;
    writeln!(std::io::stdout(), "Ready on {}", listener.local_addr()?)
        .context("cannot say where it listens")?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = [NO_EVENT; 64];
    loop {
        let n = epoll::wait(&poll, &mut events, Some(&Timespec::default()))?;
        if n == 0 {
            // The other end may be on the same core's other thread.
            std::hint::spin_loop();
        }
        for event in &events[..n] {
            let data = event.data.u64();
            if data == LISTENER {
                accept(&listener, &poll, &mut connections)?;
            } else if let Some(place) =
                usize::try_from(data).ok().and_then(|index| connections.get_mut(index))
                && let Some(connection) = place
                && connection.receive(&mut store, &mut Server).is_err()
            {
                *place = None;
            }
        }
        // Those too that could not send all the last time.
        for place in &mut connections {
            if let Some(connection) = place
                && !connection.outgoing.is_empty()
                && connection.flush(&store).is_err()
            {
                *place = None;
            }
        }
    }
}

/// In huge pages, where the system has them for those who ask, so that no ceiling is lowered by
/// looking up small ones. It is written, so that every page is there.
fn store() -> anyhow::Result<MmapMut> {
    let mut store = MmapMut::map_anon(STORE as usize).context("no memory for the store")?;
    // A system without huge pages says so; it works without.
    let _ = store.advise(Advice::HugePage);
    store.fill(0x5a);
    Ok(store)
}

pub(crate) const NO_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

fn accept(
    listener: &TcpListener,
    poll: impl std::os::fd::AsFd,
    connections: &mut Vec<Option<Connection>>,
) -> anyhow::Result<()> {
    // One that is gone before it was accepted is no reason to stop.
    let Ok((socket, _)) = listener.accept() else { return Ok(()) };
    let connection = Connection::new(socket)?;
    let index = connections.iter().position(Option::is_none).unwrap_or(connections.len());
    let data = epoll::EventData::new_u64(index as u64);
    epoll::add(poll, connection.socket(), data, epoll::EventFlags::IN)?;
    if index == connections.len() {
        connections.push(None);
    }
    connections[index] = Some(connection);
    Ok(())
}

struct Server;

impl End for Server {
    fn place(&self, header: &Header) -> usize {
        place(header)
    }

    fn take(&mut self, header: &Header, outgoing: &mut Outgoing) {
        let cid = header.cid.get();
        match (header.kind, header.operation) {
            (kind::COMMAND, operation::READ) => {
                let answer = Header::new(kind::DATA_TO_HOST, cid);
                outgoing.push_with(answer, place(header), header.length.get());
            }
            (kind::COMMAND, operation::WRITE_LATER) => {
                outgoing.push(Header { kind: kind::READY_TO_TRANSFER, ..*header });
            }
            _ => outgoing.push(Header::new(kind::RESPONSE, cid)),
        }
    }
}

/// Where in the store a command's data is.
fn place(header: &Header) -> usize {
    usize::try_from(header.offset.get()).unwrap_or(usize::MAX)
}
