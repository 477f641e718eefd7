//! `nvmf write`

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bytes::{Bytes, BytesMut};
use nvmf::spec::Cqe;
use nvmf_host::{Buffer, CommandError, Next, Request, Workload};

use crate::args;
use crate::connect::Connector;
use crate::failure;
use crate::progress::Progress;
use crate::transfer::{self, Board, Session, Step};

/// How long a Flush may take at least: a device may have much to write.
const FLUSH_TIME: Duration = Duration::from_secs(60);

pub(crate) fn run(args: &args::Write) -> anyhow::Result<()> {
    let (connector, file) =
        Connector::with_argument(&args.connect, args.target.as_deref(), args.file.as_deref())?;
    let connector = connector.with_namespace(args.transfer.namespace_id)?;
    let mut input = Input::open(file.as_deref())?;
    let args::Transfer { offset, length, .. } = args.transfer;
    if let (Some(wanted), Some(there)) = (length, input.length)
        && wanted > there
    {
        bail!("{} has only {there} bytes, not {wanted}; nothing was written", input.name);
    }
    input.length = length.or(input.length);

    let prepared = transfer::prepare(&connector)?;
    if prepared.namespace.write_protected {
        bail!("namespace {} is write protected; nothing was written", prepared.namespace.nsid);
    }
    let end = prepared.check_range(offset, input.length.unwrap_or(0))?;
    let end = if input.length.is_some() { end } else { prepared.namespace.bytes() };
    let nsid = prepared.namespace.nsid;
    let session = prepared.open(&args.transfer)?;
    transfer(session, input, offset, end)
        .with_context(|| format!("cannot write namespace {nsid} of {}", connector.name()))
}

/// Where the bytes come from.
struct Input {
    name: String,
    reader: Box<dyn Read + Send>,
    /// How many bytes it has or is to give, if that is known.
    length: Option<u64>,
}

impl Input {
    fn open(file: Option<&str>) -> anyhow::Result<Self> {
        let Some(path) = file.filter(|path| *path != "-") else {
            let name = "standard input".to_owned();
            return Ok(Self { name, reader: Box::new(io::stdin()), length: None });
        };
        let cannot = || format!("cannot read {path}");
        let mut file = File::open(path).with_context(cannot)?;
        let metadata = file.metadata().with_context(cannot)?;
        let kind = metadata.file_type();
        let length = if kind.is_file() {
            Some(metadata.len())
        } else if kind.is_block_device() {
            let end = file.seek(SeekFrom::End(0)).with_context(cannot)?;
            file.rewind().with_context(cannot)?;
            Some(end)
        } else if kind.is_dir() {
            bail!("cannot read {path}: it is a directory");
        } else {
            None
        };
        Ok(Self { name: path.to_owned(), reader: Box::new(file), length })
    }
}

fn transfer(mut session: Session, input: Input, offset: u64, end: u64) -> anyhow::Result<()> {
    let total = input.length;
    let progress = Progress::new(total);
    let layout = Layout {
        nsid: session.namespace.nsid,
        block_size: usize::try_from(session.namespace.block_size)?,
        chunk_bytes: session.chunk_bytes(),
    };
    let room = session.depth;
    let work = Work { pieces: VecDeque::new(), room, closed: false, trouble: None, written: 0 };
    let board = Board::new(work);
    transfer::file_side(&board, move |board| {
        let trouble = supply(board, layout, input, offset, end).err();
        // What was read before is still written: trouble with the input does not stop the queues.
        board.update(|work| (work.closed, work.trouble) = (true, trouble));
        Ok(())
    })?;
    let writer = Writer::new(&board, layout, session.timeout.max(FLUSH_TIME));
    let done = session.run(
        &board,
        writer,
        |error, writer| writer.explain(error),
        |work| {
            progress.set(work.written);
        },
    );
    let (written, trouble) = board.update(|work| (work.written, work.trouble.take()));
    let so_far = || match total {
        Some(total) => format!("stopped after {written} of {total} bytes"),
        None => format!("stopped after {written} bytes"),
    };
    match (done, trouble) {
        (Ok(()), None) => {
            progress.finish("wrote", written);
            session.shutdown()
        }
        (Ok(()), Some(trouble)) => {
            progress.abandon();
            session.shutdown()?;
            Err(trouble.context(so_far()))
        }
        (Err(error), _) => {
            progress.abandon();
            Err(error.context(so_far()))
        }
    }
}

#[derive(Clone, Copy)]
struct Layout {
    nsid: u32,
    block_size: usize,
    chunk_bytes: usize,
}

/// Bytes for whole blocks, or for a part of one block.
struct Piece {
    lba: u64,
    /// Where in the first block they begin; not 0 only for a part of one block.
    offset: usize,
    bytes: Vec<u8>,
}

impl Piece {
    fn is_whole(&self, block_size: usize) -> bool {
        self.offset == 0 && self.bytes.len().is_multiple_of(block_size)
    }
}

/// What is read and not yet written.
struct Work {
    pieces: VecDeque<Piece>,
    /// How many pieces may wait.
    room: usize,
    /// No more pieces come.
    closed: bool,
    /// What went wrong with the input.
    trouble: Option<anyhow::Error>,
    /// Bytes that the target has acknowledged.
    written: u64,
}

impl Work {
    fn next(&mut self) -> Step<Piece> {
        match self.pieces.pop_front() {
            Some(piece) => Step::Take(piece),
            None if self.closed => Step::Done,
            None => Step::Wait,
        }
    }

    fn put(&mut self, piece: &mut Option<Piece>) -> Step<()> {
        if self.pieces.len() >= self.room {
            return Step::Wait;
        }
        self.pieces.extend(piece.take());
        Step::Take(())
    }
}

/// Cuts the input into pieces: whole blocks, and parts of blocks at its ends. No two pieces have a
/// block in common.
fn supply(
    board: &Board<Work>,
    layout: Layout,
    mut input: Input,
    offset: u64,
    end: u64,
) -> anyhow::Result<()> {
    let Layout { block_size, chunk_bytes, .. } = layout;
    let block = u64::try_from(block_size)?;
    let cannot = format!("cannot read {}", input.name);
    let put = |at: u64, bytes: Vec<u8>| {
        let offset = usize::try_from(at % block).unwrap_or(0);
        let mut piece = Some(Piece { lba: at / block, offset, bytes });
        board.wait(|work| work.put(&mut piece)).is_some()
    };
    let mut at = offset;
    while at < end {
        let into_block = usize::try_from(at % block)?;
        let most = if into_block == 0 { chunk_bytes } else { block_size - into_block };
        let most = usize::try_from(end - at).map_or(most, |left| most.min(left));
        let mut bytes = fill(&mut input.reader, most).with_context(|| cannot.clone())?;
        let got = bytes.len();
        let whole = if into_block == 0 { got - got % block_size } else { 0 };
        let rest = bytes.split_off(whole);
        let places = [(at, bytes), (at + u64::try_from(whole)?, rest)];
        for (place, bytes) in places {
            if !bytes.is_empty() && !put(place, bytes) {
                return Ok(());
            }
        }
        at += u64::try_from(got)?;
        if got < most {
            return match input.length {
                Some(length) => {
                    Err(anyhow!("{} ended after {} of {length} bytes", input.name, at - offset))
                }
                None => Ok(()),
            };
        }
    }
    let more = input.length.is_none()
        && !fill(&mut input.reader, 1).with_context(|| cannot.clone())?.is_empty();
    if more {
        bail!("{} has more bytes, and the namespace ends there", input.name);
    }
    Ok(())
}

/// Reads `most` bytes, or fewer if the input ends.
fn fill(reader: &mut dyn Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    reader.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A command under way.
enum Op {
    /// Writes; so many bytes are the input's.
    Write(u64),
    /// Reads the block that a piece is a part of.
    Merge(Piece),
    /// Makes durable what was written.
    Flush,
}

/// Writes pieces, several at once, and flushes at the end.
struct Writer {
    board: Arc<Board<Work>>,
    layout: Layout,
    flush_limit: Duration,
    /// By token.
    under_way: HashMap<u64, Op>,
    begun: u64,
    /// Blocks that pieces were put into, still to be written: where, what, and how many bytes of
    /// it are the input's.
    merged: VecDeque<(u64, Bytes, u64)>,
    flushing: bool,
}

impl Writer {
    fn new(board: &Arc<Board<Work>>, layout: Layout, flush_limit: Duration) -> Self {
        Self {
            board: Arc::clone(board),
            layout,
            flush_limit,
            under_way: HashMap::new(),
            begun: 0,
            merged: VecDeque::new(),
            flushing: false,
        }
    }

    fn begin(&mut self, request: Request, op: Op) -> Next {
        self.begun += 1;
        self.under_way.insert(self.begun, op);
        Next::Io(request.with_token(self.begun))
    }

    fn write(&mut self, lba: u64, bytes: Bytes, of_input: u64) -> Next {
        let Layout { nsid, block_size, .. } = self.layout;
        let blocks = u32::try_from(bytes.len() / block_size).unwrap_or(u32::MAX);
        self.begin(Request::write(nsid, lba, blocks, bytes), Op::Write(of_input))
    }

    /// Writes a piece, or reads its block first if it is a part of one.
    fn piece(&mut self, piece: Piece) -> Next {
        let Layout { nsid, block_size, .. } = self.layout;
        if piece.is_whole(block_size) {
            let of_input = u64::try_from(piece.bytes.len()).unwrap_or(0);
            return self.write(piece.lba, piece.bytes.into(), of_input);
        }
        let request = Request::read(nsid, piece.lba, 1, BytesMut::zeroed(block_size));
        self.begin(request, Op::Merge(piece))
    }

    /// There are no more pieces.
    fn last(&mut self) -> Next {
        if self.flushing {
            return Next::Done;
        }
        if !self.under_way.is_empty() {
            return Next::Later;
        }
        self.flushing = true;
        let request = Request::flush(self.layout.nsid).with_limit(self.flush_limit);
        self.begin(request, Op::Flush)
    }

    /// A Flush has a limit of its own, which is the one to name.
    fn explain(&self, error: nvmf_host::Error) -> anyhow::Error {
        let error = anyhow!(error);
        if self.flushing && failure::timed_out(&error) {
            return anyhow!("{error:#}{}", failure::limit(self.flush_limit))
                .context("cannot flush");
        }
        error
    }
}

impl Workload for Writer {
    fn next(&mut self, _: usize, _: Instant) -> Next {
        if self.board.has_failed() {
            return Next::Done;
        }
        if let Some((lba, bytes, of_input)) = self.merged.pop_front() {
            return self.write(lba, bytes, of_input);
        }
        match self.board.poll(Work::next) {
            Step::Take(piece) => self.piece(piece),
            Step::Wait => Next::Later,
            Step::Done => self.last(),
        }
    }

    fn complete(
        &mut self,
        _: usize,
        token: u64,
        result: Result<&Cqe, CommandError>,
        buffer: Buffer,
        _: Instant,
    ) {
        let op = self.under_way.remove(&token);
        match (op, result, buffer) {
            (Some(Op::Write(of_input)), Ok(_), _) => {
                self.board.note(|work| work.written += of_input);
            }
            (Some(Op::Merge(piece)), Ok(_), Buffer::Read(mut block)) => {
                // The rest of the block stays as it was.
                let end = piece.offset + piece.bytes.len();
                block[piece.offset..end].copy_from_slice(&piece.bytes);
                let of_input = u64::try_from(piece.bytes.len()).unwrap_or(0);
                self.merged.push_back((piece.lba, block.freeze(), of_input));
            }
            (Some(Op::Write(_)), Err(error), _) => self.board.refuse("Write", error),
            (Some(Op::Merge(_)), Err(error), _) => self.board.refuse("Read", error),
            (Some(Op::Flush), Err(error), _) => self.board.refuse("Flush", error),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of an input of `length` bytes at `offset`, in a namespace of `end` bytes.
    fn pieces(length: usize, known: bool, offset: u64, end: u64) -> (Vec<Piece>, Option<String>) {
        let layout = Layout { nsid: 1, block_size: 512, chunk_bytes: 2048 };
        let bytes: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let board = Board::new(Work {
            pieces: VecDeque::new(),
            room: usize::MAX,
            closed: false,
            trouble: None,
            written: 0,
        });
        let input = Input {
            name: "input".to_owned(),
            length: known.then(|| u64::try_from(length).unwrap()),
            reader: Box::new(io::Cursor::new(bytes)),
        };
        let end = if known { offset + u64::try_from(length).unwrap() } else { end };
        let trouble = supply(&board, layout, input, offset, end).err().map(|e| e.to_string());
        (board.update(|work| work.pieces.drain(..).collect()), trouble)
    }

    #[test]
    fn pieces_are_whole_blocks_but_for_the_ends_and_share_no_block() {
        for (length, offset) in [(0, 0), (1, 0), (511, 1), (512, 0), (5000, 300), (9000, 1536)] {
            for known in [false, true] {
                let (pieces, trouble) = pieces(length, known, offset, 1 << 20);
                assert_eq!(trouble, None);
                let mut at = offset;
                let mut next_free = 0;
                for piece in &pieces {
                    assert_eq!(piece.lba * 512 + piece.offset as u64, at);
                    assert!(piece.lba >= next_free, "a block is in two pieces");
                    let end = piece.offset + piece.bytes.len();
                    assert!(piece.is_whole(512) || end <= 512, "a part is of one block");
                    at += piece.bytes.len() as u64;
                    next_free = at.div_ceil(512);
                }
                assert_eq!(at, offset + length as u64);
            }
        }
    }

    #[test]
    fn an_input_longer_than_the_namespace_fills_it_and_is_an_error() {
        let (pieces, trouble) = pieces(5000, false, 1000, 4096);
        let bytes: usize = pieces.iter().map(|p| p.bytes.len()).sum();
        assert_eq!(bytes, 3096);
        assert!(trouble.unwrap().contains("the namespace ends there"));
        assert_eq!(self::pieces(3096, false, 1000, 4096).1, None);
    }
}
