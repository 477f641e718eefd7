//! `nvmf read`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bytes::BytesMut;
use nvmf::spec::Cqe;
use nvmf_host::{Buffer, CommandError, Next, Request, Workload};

use crate::args;
use crate::connect::Connector;
use crate::failure::Usage;
use crate::progress::Progress;
use crate::transfer::{self, Board, Session, Step};

pub(crate) fn run(args: &args::Read) -> anyhow::Result<()> {
    let (connector, file) =
        Connector::with_argument(&args.connect, args.target.as_deref(), args.file.as_deref())?;
    let connector = connector.with_namespace(args.transfer.namespace_id)?;
    if file.is_none() && io::stdout().is_terminal() {
        return Err(Usage::new(
            "standard output is a terminal; name a file, or - if that is really meant",
        )
        .into());
    }
    let file = file.filter(|file| file != "-");
    let prepared = transfer::prepare(&connector)?;
    let args::Transfer { offset, length, .. } = args.transfer;
    let length = length.unwrap_or_else(|| prepared.namespace.bytes().saturating_sub(offset));
    let end = prepared.check_range(offset, length)?;
    // Whatever can be refused was: now the file may be made.
    let nsid = prepared.namespace.nsid;
    let session = prepared.open(&args.transfer)?;
    let name = file.as_deref().unwrap_or("standard output").to_owned();
    let output: Box<dyn Write + Send> = match &file {
        Some(path) => Box::new(create(path)?),
        None => Box::new(io::stdout()),
    };
    transfer(session, offset, end, name, output)
        .with_context(|| format!("cannot read namespace {nsid} of {}", connector.name()))
}

/// Opens what is written to, and empties it if it is a regular file that nobody else uses.
fn create(path: &str) -> anyhow::Result<File> {
    let file = nvmf_copy::open_unused(path)?;
    let cannot = || format!("cannot write {path}");
    if file.metadata().with_context(cannot)?.is_file() {
        file.set_len(0).with_context(cannot)?;
    }
    Ok(file)
}

fn transfer(
    mut session: Session,
    offset: u64,
    end: u64,
    name: String,
    output: Box<dyn Write + Send>,
) -> anyhow::Result<()> {
    let plan = Plan::new(&session, offset, end);
    let progress = Progress::new(Some(end - offset));
    // Twice what is outstanding: slow writers hold up the queues, and not the other way around.
    let window = 2 * u64::try_from(session.depth).unwrap_or(u64::MAX);
    let board = Board::new(Work { window, ..Work::default() });
    transfer::file_side(&board, move |board| deliver(board, plan, &name, output))?;
    let reader = Reader { board: Arc::clone(&board), plan };
    let done =
        session.run(&board, reader, |error, _| error.into(), |work| progress.set(work.written));
    let written = board.update(|work| work.written);
    match done {
        Ok(()) => {
            progress.finish("read", written);
            session.shutdown()
        }
        Err(error) => {
            progress.abandon();
            Err(error.context(format!("stopped after {written} of {} bytes", end - offset)))
        }
    }
}

/// Which blocks are read, in chunks of one command each.
#[derive(Clone, Copy)]
struct Plan {
    nsid: u32,
    block_size: u64,
    chunk_blocks: u64,
    /// The range in bytes.
    offset: u64,
    end: u64,
}

impl Plan {
    fn new(session: &Session, offset: u64, end: u64) -> Self {
        Self {
            nsid: session.namespace.nsid,
            block_size: u64::from(session.namespace.block_size),
            chunk_blocks: u64::from(session.chunk_blocks),
            offset,
            end,
        }
    }

    /// The blocks of chunk `index`, first and one past the last; `None` past the end.
    fn blocks(&self, index: u64) -> Option<(u64, u64)> {
        if self.offset == self.end {
            return None;
        }
        let last = self.end.div_ceil(self.block_size);
        let first = self.offset / self.block_size + index * self.chunk_blocks;
        (first < last).then(|| (first, last.min(first + self.chunk_blocks)))
    }

    /// Of a chunk's bytes, those that are in the range.
    fn cut<'a>(&self, index: u64, bytes: &'a [u8]) -> &'a [u8] {
        let Some((first, _)) = self.blocks(index) else { return &[] };
        let start = first * self.block_size;
        let place = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        let (from, to) = (place(self.offset).min(bytes.len()), place(self.end).min(bytes.len()));
        &bytes[from..to]
    }
}

/// How far reading is; chunks are numbered from 0.
#[derive(Default)]
struct Work {
    /// The next chunk to be asked for.
    next: u64,
    /// The next chunk to be written out.
    taken: u64,
    /// How many chunks may be between the two.
    window: u64,
    /// Chunks that came before it was their turn.
    ready: BTreeMap<u64, BytesMut>,
    /// Buffers of chunks that are written out.
    free: Vec<BytesMut>,
    /// Bytes written out.
    written: u64,
}

impl Work {
    /// The next chunk to be asked for, and a buffer for it.
    fn next(&mut self, plan: &Plan) -> Step<Request> {
        let Some((first, last)) = plan.blocks(self.next) else { return Step::Done };
        if self.next >= self.taken + self.window {
            return Step::Wait;
        }
        let index = self.next;
        self.next += 1;
        let blocks = u32::try_from(last - first).unwrap_or(u32::MAX);
        let bytes = usize::try_from((last - first) * plan.block_size).unwrap_or(usize::MAX);
        let mut buffer = self.free.pop().unwrap_or_default();
        buffer.resize(bytes, 0);
        Step::Take(Request::read(plan.nsid, first, blocks, buffer).with_token(index))
    }

    fn turn(&mut self, plan: &Plan) -> Step<(u64, BytesMut)> {
        if plan.blocks(self.taken).is_none() {
            return Step::Done;
        }
        match self.ready.remove(&self.taken) {
            Some(data) => {
                self.taken += 1;
                Step::Take((self.taken - 1, data))
            }
            None => Step::Wait,
        }
    }
}

/// Reads chunks, several at once.
struct Reader {
    board: Arc<Board<Work>>,
    plan: Plan,
}

impl Workload for Reader {
    fn next(&mut self, _: usize, _: Instant) -> Next {
        transfer::next(self.board.poll(|work| work.next(&self.plan)))
    }

    fn complete(
        &mut self,
        _: usize,
        index: u64,
        result: Result<&Cqe, CommandError>,
        buffer: Buffer,
        _: Instant,
    ) {
        match (result, buffer) {
            (Ok(_), Buffer::Read(bytes)) => {
                self.board.note(|work| work.ready.insert(index, bytes));
            }
            (Err(error), _) => self.board.refuse("Read", error),
            (Ok(_), _) => {}
        }
    }
}

/// Writes chunks out in their order.
fn deliver(
    board: &Board<Work>,
    plan: Plan,
    name: &str,
    mut output: Box<dyn Write + Send>,
) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {name}");
    while let Some((index, bytes)) = board.wait(|work| work.turn(&plan)) {
        let part = plan.cut(index, &bytes);
        output.write_all(part).with_context(cannot)?;
        let written = u64::try_from(part.len()).unwrap_or(0);
        board.update(|work| {
            work.written += written;
            work.free.push(bytes);
        });
    }
    output.flush().with_context(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(offset: u64, end: u64) -> Plan {
        Plan { nsid: 1, block_size: 512, chunk_blocks: 4, offset, end }
    }

    #[test]
    fn chunks_cover_the_range_and_whole_blocks() {
        let plan = plan(1000, 5000);
        let chunks: Vec<_> = (0..).map_while(|i| plan.blocks(i)).collect();
        assert_eq!(chunks, [(1, 5), (5, 9), (9, 10)]);
    }

    #[test]
    fn what_is_not_in_the_range_is_cut_off() {
        let plan = plan(1000, 5000);
        let disk: Vec<u8> = (0..8192u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut out = Vec::new();
        for (i, (first, last)) in (0..).map_while(|i| plan.blocks(i).map(|b| (i, b))) {
            let range = usize::try_from(first * 512).unwrap()..usize::try_from(last * 512).unwrap();
            out.extend_from_slice(plan.cut(i, &disk[range]));
        }
        assert_eq!(out, disk[1000..5000]);
    }

    #[test]
    fn an_empty_range_has_no_chunks() {
        assert_eq!(plan(1000, 1000).blocks(0), None);
    }
}
