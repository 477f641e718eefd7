//! `nvmf admin-passthru` and `nvmf io-passthru`

pub(crate) mod args;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nvmf::Deadline;
use nvmf::host::passthru::Passthru;
use nvmf::host::{Association, Completion};
use nvmf::spec::print::{AdminCommand, FieldSink, Fields, IoCommand, Json, Table};
use nvmf::spec::{DataDirection, Sqe, opcode};

use crate::args::Format;
use crate::connect::Connector;
use crate::failure::Usage;
use crate::output::{self, Hex};

/// The queue that a command goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Admin,
    Io,
}

pub(crate) fn run(args: &args::Passthru, queue: Queue) -> anyhow::Result<()> {
    let nsid = args.namespace_id.or(args.target.as_ref().and_then(|target| target.nsid));
    let sqe = command(args, nsid.unwrap_or(0));
    let wanted = match (args.read, args.write) {
        (true, _) => Some(DataDirection::ToHost),
        (_, true) => Some(DataDirection::ToController),
        _ => None,
    };
    let command = Passthru::new(sqe, wanted, args.data_len).map_err(usage)?;
    let shown = Shown { queue, sqe: command.sqe() };
    if args.dry_run {
        return Ok(output::show(args.output.format, &shown)?);
    }
    let connector = Connector::new(&args.connect, args.target.clone())?;
    connector.subsystem()?;
    if args.show_command {
        // Standard output is for what comes of it. Where this one cannot be written, that is all.
        let _ = writeln!(io::stderr(), "{}", Table(&shown));
    }
    let data = data(args, &command)?;
    let mut association = connector.connect()?;
    command.check_length(association.max_transfer()).map_err(usage)?;
    let what = || format!("cannot send {} to {}", called(queue, &sqe), connector.name());
    let sent = send(&mut association, queue, &command, data, args.connect.host.timeout);
    let (completion, took) = sent.with_context(what)?;
    association.shutdown(Vec::new())?;
    let answer = Answer { queue, sqe: &sqe, completion, took: args.latency.then_some(took) };
    answer.show(args, command.direction())
}

/// The command as the options have it.
fn command(args: &args::Passthru, nsid: u32) -> Sqe {
    let mut sqe = Sqe { flags: args.flags, ..Sqe::new(args.opcode) };
    sqe.nsid.set(nsid);
    for (dword, value) in sqe.cdw2.iter_mut().zip([args.cdw2, args.cdw3]) {
        dword.set(value);
    }
    let values = [args.cdw10, args.cdw11, args.cdw12, args.cdw13, args.cdw14, args.cdw15];
    for (dword, value) in sqe.cdw10.iter_mut().zip(values) {
        dword.set(value);
    }
    sqe
}

fn usage(error: nvmf::host::passthru::PassthruError) -> anyhow::Error {
    Usage::new(error.to_string()).into()
}

/// The data for the controller, or the room for that of the controller.
fn data(args: &args::Passthru, command: &Passthru) -> anyhow::Result<Vec<u8>> {
    let length = command.length();
    // More than any command carries need not be had first.
    command.check_length(MOST).map_err(usage)?;
    let mut data = vec![args.prefill; usize::try_from(length)?];
    if command.direction() != DataDirection::ToController || length == 0 {
        return Ok(data);
    }
    let file = args.input_file.as_deref().filter(|path| *path != Path::new("-"));
    let name = file.map_or("standard input".into(), |path| path.display().to_string());
    let source: io::Result<Box<dyn Read>> = match file {
        Some(path) => File::open(path).map(|file| Box::new(file) as _),
        None => Ok(Box::new(io::stdin())),
    };
    let mut found = Vec::with_capacity(data.len());
    source
        .and_then(|source| source.take(length.into()).read_to_end(&mut found))
        .with_context(|| format!("cannot read {name}"))?;
    data[..found.len()].copy_from_slice(&found);
    Ok(data)
}

/// The most data of one command, whatever a controller allows.
const MOST: u32 = 1 << 20;

/// Sends the command; gives its completion and the time from one to the other.
fn send(
    association: &mut Association,
    queue: Queue,
    command: &Passthru,
    data: Vec<u8>,
    timeout: Duration,
) -> Result<(Completion, Duration), nvmf::Error> {
    let mut io;
    let queue = match queue {
        Queue::Admin => association.admin(),
        Queue::Io => {
            association.request_io_queues(1)?;
            io = association.connect_io_queue(None)?;
            &mut io
        }
    };
    let begun = Instant::now();
    let completion = command.execute(queue, data, Deadline::after(timeout))?;
    Ok((completion, begun.elapsed()))
}

/// A command by name and number.
fn called(queue: Queue, sqe: &Sqe) -> String {
    let name = match (sqe.is_fabrics(), queue) {
        (true, _) => opcode::fabrics_name(sqe.fctype()),
        (_, Queue::Admin) => opcode::admin_name(sqe.opcode),
        (_, Queue::Io) => opcode::nvm_name(sqe.opcode),
    };
    format!("{name} (opcode {:#04x})", sqe.opcode)
}

/// A command with what its dwords mean on its queue.
struct Shown<'a> {
    queue: Queue,
    sqe: &'a Sqe,
}

impl Fields for Shown<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        match self.queue {
            Queue::Admin => AdminCommand(self.sqe).fields(out),
            Queue::Io => IoCommand(self.sqe).fields(out),
        }
    }
}

/// What came of a command.
struct Answer<'a> {
    queue: Queue,
    sqe: &'a Sqe,
    completion: Completion,
    took: Option<Duration>,
}

impl Answer<'_> {
    fn show(self, args: &args::Passthru, direction: DataDirection) -> anyhow::Result<()> {
        let status = self.completion.status();
        let called = called(self.queue, self.sqe);
        if !status.is_success() {
            if args.output.format == Format::Json {
                output::print(format_args!("{:#}", Json(&self)))?;
            }
            let result = match self.completion.cqe.result() {
                0 => String::new(),
                result => format!(", result {result:#x}"),
            };
            return Err(anyhow!("{called} failed: {status}{result}"));
        }
        let file = args.input_file.as_deref().filter(|path| *path != Path::new("-"));
        let file = file.filter(|_| direction == DataDirection::ToHost);
        if args.output.format == Format::Json {
            output::print(format_args!("{:#}", Json(&self)))?;
        } else if !args.raw_binary {
            let took = self.took.map(|took| format!(", after {} us", took.as_micros()));
            let result = self.completion.cqe.result();
            let took = took.unwrap_or_default();
            output::print(format_args!("{called}: {status}, result {result:#x}{took}"))?;
        }
        let bytes = match direction {
            DataDirection::ToHost => self.completion.data.into_bytes(),
            _ => return Ok(()),
        };
        if let Some(path) = file {
            return std::fs::write(path, &bytes)
                .with_context(|| format!("cannot write {}", path.display()));
        }
        if args.raw_binary {
            let mut out = io::stdout().lock();
            out.write_all(&bytes)?;
            out.flush()?;
        } else if args.output.format == Format::Normal && !bytes.is_empty() {
            output::print(Hex(&bytes))?;
        }
        Ok(())
    }
}

impl Fields for Answer<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let (status, cqe) = (self.completion.status(), &self.completion.cqe);
        out.hex("opcode", self.sqe.opcode);
        out.text("command", called(self.queue, self.sqe));
        out.hex("status", status.raw());
        out.text("status_name", status);
        out.hex("result", cqe.dw0);
        out.hex("result_upper", cqe.dw1);
        if let Some(took) = self.took {
            out.number("latency_us", took.as_micros());
        }
        if let (true, nvmf::Data::Read(pieces)) = (status.is_success(), &self.completion.data) {
            pieces.iter().for_each(|piece| out.bytes("data", piece));
        }
    }
}
