//! The protocol core's two ends, connected without a socket, for what is measured of it alone.

use std::io::IoSlice;

use anyhow::{Context, anyhow};
use nvmf::proto::pdu::{Batch, NoPayload, PayloadSource};
use nvmf::proto::queue::{QueueSize, SQHD_FLOW_CONTROL_OFF};
use nvmf::proto::tcp::{
    Controller, ControllerConfig, ControllerEvent, Established, Host, HostConfig, HostEvent,
    ReceivedCommand, Transfer,
};
use nvmf::spec::{Cqe, Sqe, Status, opcode};

/// Entries of the queue.
const ENTRIES: u32 = 128;

/// Both ends of an I/O queue without flow control, as fast hosts use it.
#[derive(Debug)]
pub struct Pair {
    /// The host's.
    pub host: Host,
    /// The controller's.
    pub controller: Controller,
}

impl Pair {
    /// After the handshake and an accepted Connect; with both digests or none.
    ///
    /// # Errors
    ///
    /// If the two ends do not understand each other: a bug.
    pub fn connected(digests: bool) -> anyhow::Result<Self> {
        let config =
            HostConfig { header_digest: digests, data_digest: digests, ..HostConfig::default() };
        let mut host = Host::new(config);
        let mut controller = Controller::new(ControllerConfig::default());
        let bytes = sent_by_host(&mut host, &NoPayload)?;
        take_commands(&mut controller, &bytes, &mut |_| {})?;
        let bytes = sent(&mut controller, &NoPayload)?;
        take_completions(&mut host, &bytes)?;

        let size = QueueSize::new(ENTRIES).context("a queue cannot be that large")?;
        host.submit(Sqe::fabrics(opcode::fabrics::CONNECT), Transfer::None)?;
        let bytes = sent_by_host(&mut host, &NoPayload)?;
        let established = Established { size, flow_control: false, in_capsule: 4096 };
        let mut connect = None;
        take_commands(&mut controller, &bytes, &mut |command| connect = Some(command))?;
        let connect = connect.context("Connect did not arrive")?;
        controller.accept(connect.slot, Cqe::new(0, Status::SUCCESS), established);
        let bytes = sent(&mut controller, &NoPayload)?;
        host.establish(size, SQHD_FLOW_CONTROL_OFF, true);
        take_completions(&mut host, &bytes)?;
        Ok(Self { host, controller })
    }

    /// The bytes of `n` Reads of `length` bytes, as the host sends them.
    ///
    /// # Errors
    ///
    /// If the queue has not that many entries.
    pub fn reads(&mut self, n: u32, length: u32) -> anyhow::Result<Vec<u8>> {
        for _ in 0..n {
            self.host.submit(Sqe::new(opcode::nvm::READ), Transfer::ToHost { length })?;
        }
        sent_by_host(&mut self.host, &NoPayload)
    }

    /// The bytes of `n` Flushes, as the host sends them.
    ///
    /// # Errors
    ///
    /// If the queue has not that many entries.
    pub fn flushes(&mut self, n: u32) -> anyhow::Result<Vec<u8>> {
        for _ in 0..n {
            self.host.submit(Sqe::new(opcode::nvm::FLUSH), Transfer::None)?;
        }
        sent_by_host(&mut self.host, &NoPayload)
    }
}

/// The same bytes for every command.
#[derive(Debug)]
pub struct Same(pub Vec<u8>);

impl PayloadSource for Same {
    fn for_each<'a>(&'a self, _: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        let (start, end) = (offset as usize, offset as usize + length as usize);
        // Too short a piece is an error of the batch's.
        each(self.0.get(start..end).unwrap_or_default());
    }
}

/// Gives the commands in `bytes` to `each`.
///
/// # Errors
///
/// What the controller has against the bytes.
pub fn take_commands(
    controller: &mut Controller,
    bytes: &[u8],
    each: &mut impl FnMut(ReceivedCommand),
) -> anyhow::Result<()> {
    let mut at = 0;
    loop {
        let (used, event) =
            controller.handle_bytes(&bytes[at..]).map_err(|violation| anyhow!("{violation}"))?;
        at += used;
        match event {
            Some(ControllerEvent::Command(command)) => each(command),
            Some(ControllerEvent::Payload(_)) => at += controller.handle_payload(&bytes[at..]),
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// Takes in data and completions; returns how many completions there were.
///
/// # Errors
///
/// What the host has against the bytes.
pub fn take_completions(host: &mut Host, bytes: &[u8]) -> anyhow::Result<u32> {
    let (mut at, mut completions) = (0, 0);
    loop {
        let (used, event) =
            host.handle_bytes(&bytes[at..]).map_err(|violation| anyhow!("{violation}"))?;
        at += used;
        match event {
            Some(HostEvent::Payload(_)) => at += host.handle_payload(&bytes[at..]),
            Some(HostEvent::Completion(completion)) => {
                host.release(completion.cid);
                completions += 1;
            }
            Some(_) => {}
            None => return Ok(completions),
        }
    }
}

/// Encodes what the controller has to send, makes the list for one gathered send of it, and takes
/// it for sent; returns how many bytes that were.
///
/// # Errors
///
/// If the source has not all of the data.
pub fn send(
    controller: &mut Controller,
    source: &dyn PayloadSource,
    batch: &mut Batch,
) -> anyhow::Result<usize> {
    controller.poll_transmit(source, batch, usize::MAX);
    let mut slices = Vec::with_capacity(1024);
    batch.io_slices(source, &mut slices, 1024)?;
    let length = slices.iter().map(|slice: &IoSlice<'_>| slice.len()).sum();
    batch.advance(length);
    for slot in batch.take_finished() {
        controller.release(slot);
    }
    Ok(length)
}

/// The bytes that the controller has to send.
///
/// # Errors
///
/// If the source has not all of the data.
pub fn sent(controller: &mut Controller, source: &dyn PayloadSource) -> anyhow::Result<Vec<u8>> {
    let mut batch = Batch::new();
    controller.poll_transmit(source, &mut batch, usize::MAX);
    let bytes = batch.to_vec(source)?;
    batch.advance(bytes.len());
    for slot in batch.take_finished() {
        controller.release(slot);
    }
    Ok(bytes)
}

fn sent_by_host(host: &mut Host, source: &dyn PayloadSource) -> anyhow::Result<Vec<u8>> {
    let mut batch = Batch::new();
    host.poll_transmit(source, &mut batch, usize::MAX);
    Ok(batch.to_vec(source)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_there_and_come_back() {
        for digests in [false, true] {
            let mut pair = Pair::connected(digests).unwrap();
            let source = Same(vec![7; 4096]);
            for _ in 0..3 {
                let bytes = pair.reads(32, 4096).unwrap();
                assert_eq!(bytes.len(), 32 * if digests { 76 } else { 72 });
                let mut slots = Vec::new();
                take_commands(&mut pair.controller, &bytes, &mut |c| slots.push(c.slot)).unwrap();
                for slot in slots {
                    pair.controller.send_data(slot, 4096, true).unwrap();
                }
                let bytes = sent(&mut pair.controller, &source).unwrap();
                assert_eq!(bytes.len(), 32 * (4120 + if digests { 8 } else { 0 }));
                assert_eq!(take_completions(&mut pair.host, &bytes).unwrap(), 32);
            }
        }
    }
}
