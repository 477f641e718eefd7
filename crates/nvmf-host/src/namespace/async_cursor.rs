//! A namespace as a stream of tokio's.

use std::fmt;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::AsyncNamespace;
use super::cursor::{room, seek};
use super::error::IoError;

/// Reads, writes and seeks in a namespace as in a file of its size: tokio's traits for an
/// [`AsyncNamespace`], with the feature `tokio`.
///
/// A write that is ready is done, and durable after [`flush`](AsyncWrite::poll_flush), which is a
/// Flush command, as [`shutdown`](AsyncWrite::poll_shutdown) is. At the end of the namespace nothing
/// is read, and `write_all` ends with [`WriteZero`](io::ErrorKind::WriteZero).
///
/// Every call is an operation of its own, of up to 4 MiB: give it large pieces, by a
/// [`BufReader`](https://docs.rs/tokio/1/tokio/io/struct.BufReader.html) and
/// [`copy_buf`](https://docs.rs/tokio/1/tokio/io/fn.copy_buf.html) for example. Several operations at
/// once are several cursors' work, or that of the [`AsyncNamespace`].
///
/// It is for one task at a time. When a call's future is dropped, the position stays where it was, and
/// the next call gives up what is under way; of a write, any part may have been done then. A seek
/// meanwhile is refused as [`tokio::fs::File`](https://docs.rs/tokio/1/tokio/fs/struct.File.html)
/// refuses it, unless `poll_complete` comes before, as it does in `AsyncSeekExt::seek`.
///
/// ```no_run
/// use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
///
/// # async fn example(disk: nvmf_host::Namespace) -> std::io::Result<()> {
/// let mut cursor = disk.asynchronous().cursor();
/// cursor.write_all(b"hello").await?;
/// cursor.flush().await?;
/// cursor.rewind().await?;
/// let mut five = [0; 5];
/// cursor.read_exact(&mut five).await?;
/// # Ok(())
/// # }
/// ```
pub struct AsyncCursor {
    namespace: AsyncNamespace,
    position: u64,
    busy: Option<Busy>,
}

/// What is under way.
enum Busy {
    Read(Work<BytesMut>),
    /// With the bytes that are written, by which the call that waits for it is known again.
    Write(Write, Bytes),
    Flush(Work<()>),
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T, IoError>> + Send + Sync>>;

/// A write goes on without being polled: it may have blocks that others wait for, and a call that was
/// dropped polls nothing any more.
enum Write {
    Task(Spawned),
    /// There is no runtime here.
    Alone(Work<()>),
}

/// A task that ends with this.
struct Spawned(JoinHandle<Result<(), IoError>>);

impl AsyncCursor {
    pub(super) fn new(namespace: AsyncNamespace) -> Self {
        Self { namespace, position: 0, busy: None }
    }

    /// The namespace.
    pub fn namespace(&self) -> &AsyncNamespace {
        &self.namespace
    }

    /// How many of `wanted` bytes there are from the position on, up to what one call moves.
    fn room(&self, wanted: usize) -> usize {
        room(self.namespace.namespace().size(), self.position, wanted)
    }

    fn read(&self, length: usize) -> Work<BytesMut> {
        let (namespace, position) = (self.namespace.clone(), self.position);
        Box::pin(async move { namespace.read_bytes_at(position, length).await })
    }

    fn write(&self, data: Bytes) -> Work<()> {
        let (namespace, position) = (self.namespace.clone(), self.position);
        Box::pin(async move { namespace.write_bytes_at(data, position).await })
    }

    fn flush(&self) -> Work<()> {
        let namespace = self.namespace.clone();
        Box::pin(async move { namespace.flush().await })
    }
}

impl Write {
    /// Has a write go on that was polled, and so has its place among the others.
    fn go_on(work: Work<()>) -> Self {
        match Handle::try_current() {
            Ok(runtime) => Self::Task(Spawned(runtime.spawn(work))),
            Err(_) => Self::Alone(work),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Task(Spawned(task)) => match ready!(Pin::new(task).poll(context)) {
                Ok(result) => Poll::Ready(Ok(result?)),
                // It has panicked, or the runtime ends.
                Err(error) => Poll::Ready(Err(io::Error::other(error))),
            },
            Self::Alone(work) => work.as_mut().poll(context).map(|result| Ok(result?)),
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AsyncRead for AsyncCursor {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut work = match this.busy.take() {
            Some(Busy::Read(work)) => work,
            _ => match this.room(into.remaining()) {
                0 => return Poll::Ready(Ok(())),
                length => this.read(length),
            },
        };
        let Poll::Ready(result) = work.as_mut().poll(context) else {
            this.busy = Some(Busy::Read(work));
            return Poll::Pending;
        };
        let data = result?;
        // It may have been begun for another call, which had more room.
        let data = &data[..data.len().min(into.remaining())];
        into.put_slice(data);
        this.position += data.len() as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AsyncCursor {
    /// Nothing at the end of the namespace, which `write_all` makes an error of.
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let (mut write, bytes) = match this.busy.take() {
            Some(Busy::Write(write, bytes)) if data.starts_with(&bytes) => (write, bytes),
            given_up => {
                drop(given_up);
                let bytes = Bytes::copy_from_slice(&data[..this.room(data.len())]);
                if bytes.is_empty() {
                    return Poll::Ready(Ok(0));
                }
                let mut work = this.write(bytes.clone());
                if let Poll::Ready(result) = work.as_mut().poll(context) {
                    result?;
                    this.position += bytes.len() as u64;
                    return Poll::Ready(Ok(bytes.len()));
                }
                (Write::go_on(work), bytes)
            }
        };
        let Poll::Ready(result) = write.poll(context) else {
            this.busy = Some(Busy::Write(write, bytes));
            return Poll::Pending;
        };
        result?;
        this.position += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut work = match this.busy.take() {
            Some(Busy::Flush(work)) => work,
            _ => this.flush(),
        };
        let Poll::Ready(result) = work.as_mut().poll(context) else {
            this.busy = Some(Busy::Flush(work));
            return Poll::Pending;
        };
        Poll::Ready(Ok(result?))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

impl AsyncSeek for AsyncCursor {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        if this.busy.is_some() {
            return Err(io::Error::other(
                "another operation of the cursor is pending: call poll_complete before start_seek",
            ));
        }
        this.position = seek(this.namespace.namespace().size(), this.position, to)?;
        Ok(())
    }

    /// Gives up what is under way: nobody waits for it.
    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        this.busy = None;
        Poll::Ready(Ok(this.position))
    }
}

/// The same place, and nothing under way.
impl Clone for AsyncCursor {
    fn clone(&self) -> Self {
        Self { position: self.position, ..Self::new(self.namespace.clone()) }
    }
}

impl fmt::Debug for AsyncCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, position, busy } = self;
        let busy = busy.as_ref().map(|busy| match busy {
            Busy::Read(_) => "reads",
            Busy::Write(..) => "writes",
            Busy::Flush(_) => "flushes",
        });
        f.debug_struct("AsyncCursor")
            .field("namespace", namespace)
            .field("position", position)
            .field("busy", &busy)
            .finish()
    }
}
