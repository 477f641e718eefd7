//! What every engine does, and what it tells.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use bytes::BytesMut;

use crate::file::{FileId, FileOp};
use crate::message::Message;
use crate::slots::Key;
use crate::waker::Waker;

/// A connection of an engine. The number of one that was closed is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub(crate) Key);

impl ConnId {
    /// A small number that no other open connection of the engine has: for tables beside it.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// A listening socket of an engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListenerId(pub(crate) Key);

/// How a connection stopped receiving.
#[derive(Debug)]
pub enum End {
    /// The peer sends nothing more.
    Closed,
    /// The system says that the connection is broken.
    Failed(io::Error),
}

/// How long [`Engine::turn`] may wait for something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something happens, but no longer than this; without a time, for as long as it takes.
    Until(Option<Instant>),
}

/// One thread's sockets and files.
///
/// Everything is done, or at least begun, by [`turn`](Self::turn); the other methods only say what
/// to do. An engine stays on the thread that made it. One that is dropped closes its sockets and
/// gives up what is in flight: whether a file was written then, only [`Handler::done`] would say.
pub trait Engine: Sized {
    /// Accepts connections from now on: [`Handler::accepted`].
    ///
    /// # Errors
    ///
    /// Whatever the system has against it.
    fn listen(&mut self, listener: TcpListener) -> io::Result<ListenerId>;

    /// Closes a listening socket; what waits to be accepted is refused.
    fn unlisten(&mut self, listener: ListenerId);

    /// Takes a connected socket and receives from it from now on: [`Handler::received`].
    ///
    /// # Errors
    ///
    /// Whatever the system has against it; the socket is closed then.
    fn attach(&mut self, socket: TcpStream) -> io::Result<ConnId>;

    /// Sends a message; [`Handler::sent`] gives it back once all of it is with the kernel.
    ///
    /// # Errors
    ///
    /// The message comes back if the connection is gone, or has one in flight.
    fn send(&mut self, conn: ConnId, message: Message) -> Result<(), Message>;

    /// Whether a message is in flight.
    fn is_sending(&self, conn: ConnId) -> bool;

    /// Asks that about so many bytes of a connection be handed over at once, and not more, until
    /// another number is asked for: who wants to send something before it has taken in all that has
    /// come can do so between two turns. Does not concern [`fill`](Self::fill).
    ///
    /// A hint: an engine may hand over more, and many do not listen.
    fn receive_at_most(&mut self, conn: ConnId, bytes: usize) {
        let _ = (conn, bytes);
    }

    /// Receives the next bytes of the stream into these buffers, which they fill from the first to
    /// the last, whole: [`Handler::filled`] gives them back. What comes behind them is received as
    /// usual.
    ///
    /// May be called within [`Handler::received`] of the same connection once all of the slice is
    /// used, and at any other time; what came before the call was handed over before. Bytes that
    /// the engine had received already, but not handed over, are copied.
    ///
    /// Buffers that do not fill because the connection ended are dropped. Does nothing but drop the
    /// buffers if the connection is gone; a second call before the first is done fills its buffers
    /// after those.
    fn fill(&mut self, conn: ConnId, parts: Vec<BytesMut>);

    /// Closes a connection: nothing more is told of it. What is in flight is given up.
    fn close(&mut self, conn: ConnId);

    /// Takes a file for [`submit`](Self::submit).
    ///
    /// # Errors
    ///
    /// Whatever the system has against it.
    fn open(&mut self, file: OwnedFd) -> io::Result<FileId>;

    /// Gives a file up; what is under way on it is finished and told all the same.
    fn forget(&mut self, file: FileId);

    /// Reads or writes a file without waiting: [`Handler::done`] has the result under `token`.
    ///
    /// All of the buffers is read or written unless there is an error; the end of the file in the
    /// middle of a read is [`io::ErrorKind::UnexpectedEof`].
    fn submit(&mut self, file: FileId, op: FileOp, token: u64);

    /// A buffer of `length` bytes, with any contents, that the system knows already: reading and
    /// writing files by direct I/O costs less with it, if it is all there is in an operation.
    ///
    /// There are few, and none at all in many engines; any other buffer serves as well. One that is
    /// dropped, whole or in parts, is there for the next who asks.
    fn direct_buffer(&mut self, length: usize) -> Option<BytesMut> {
        let _ = length;
        None
    }

    /// Wakes this engine from any thread: [`Handler::woken`].
    fn waker(&self) -> Waker;

    /// Does what can be done now, telling the handler; waits as `wait` says if that is nothing.
    ///
    /// Returns whether anything happened.
    ///
    /// # Errors
    ///
    /// Only if the engine itself is of no more use.
    fn turn<H: Handler<Self>>(&mut self, handler: &mut H, wait: Wait) -> io::Result<bool>;
}

/// Who is told what happened.
///
/// A handler may call every method of the engine but `turn` from here.
pub trait Handler<E: Engine> {
    /// A connection was accepted; [`Engine::attach`] it, here or on another engine, or drop it.
    fn accepted(
        &mut self,
        engine: &mut E,
        listener: ListenerId,
        socket: TcpStream,
        peer: SocketAddr,
    );

    /// Bytes came. The slice is all there is of them: who needs it later copies it.
    fn received(&mut self, engine: &mut E, conn: ConnId, bytes: &[u8]);

    /// The buffers of [`Engine::fill`] are full.
    fn filled(&mut self, engine: &mut E, conn: ConnId, parts: Vec<BytesMut>);

    /// A message is sent: it may be [cleared](Message::clear) and used again.
    fn sent(&mut self, engine: &mut E, conn: ConnId, message: Message);

    /// Nothing more is received, and a message in flight may be lost. The connection stays until
    /// [`Engine::close`]; told once.
    fn ended(&mut self, engine: &mut E, conn: ConnId, end: End);

    /// A file operation is done, well or not; its buffers come back in either case.
    fn done(&mut self, engine: &mut E, token: u64, op: FileOp, result: io::Result<()>);

    /// A [`Waker`] was used, once or more often. An engine that has threads of its own uses it too.
    fn woken(&mut self, engine: &mut E);
}
