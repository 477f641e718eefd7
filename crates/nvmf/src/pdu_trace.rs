//! Every PDU of a connection as a line of text, for people who look for what went wrong.
//!
//! A [`PduTrace`] is where the lines go, for any number of connections on any threads. Each
//! connection has a [`ConnectionTrace`], which is shown the bytes of both directions. A line has the
//! seconds since the trace began, the peer, queue and host once they are known, the direction, the
//! PDU's type and its fields. Data is never shown.
//!
//! ```text
//! 0.000734 127.0.0.1:51446 qid=0 H→C CapsuleCmd flags=0x0 hlen=72 pdo=72 plen=1096 sqe={…}
//! 0.000802 127.0.0.1:51446 qid=0 C→H CapsuleResp flags=0x0 hlen=24 pdo=0 plen=24 cqe={…}
//! ```

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use nvme_spec::Nqn;
use nvme_spec::fabrics::Connect;
use nvme_spec::pdu::{CapsuleCmd, kind, name};
use nvme_spec::print::{FieldSink, Fields, Line, QueuePduFields};
use nvmf_proto::trace::{PduTracer, Seen};
use zerocopy::FromBytes;

pub use nvmf_proto::trace::Direction;

/// Lines are handed on when there is so much of them, in bytes, or when there are no more.
const GATHER: usize = 64 << 10;

/// Where the lines of a trace go.
///
/// Whole lines of one connection are written at once, so those of several do not mix. Writing blocks
/// whoever sends or receives. If it fails, that is logged once, and nothing more is written.
#[derive(Clone)]
pub struct PduTrace(Arc<Shared>);

struct Shared {
    start: Instant,
    /// `None` once writing has failed.
    out: Mutex<Option<Box<dyn Write + Send>>>,
}

impl PduTrace {
    /// A trace into this; it begins now.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Shared { start: Instant::now(), out: Mutex::new(Some(Box::new(out))) }))
    }

    /// The trace of a connection on which nothing was sent yet; `peer` is who is at the other end.
    pub fn connection(&self, peer: impl fmt::Display) -> ConnectionTrace {
        ConnectionTrace {
            trace: self.clone(),
            who: Who { qid: None, host: None },
            peer: peer.to_string(),
            to_controller: PduTracer::new(),
            to_host: PduTracer::new(),
            lines: String::new(),
        }
    }

    fn write(&self, lines: &str) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = &mut *out
            && let Err(error) = write_all(writer, lines)
        {
            *out = None;
            tracing::warn!(%error, "the trace of PDUs ends: it cannot be written");
        }
    }
}

fn write_all(out: &mut dyn Write, lines: &str) -> io::Result<()> {
    out.write_all(lines.as_bytes())?;
    out.flush()
}

impl fmt::Debug for PduTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PduTrace").finish_non_exhaustive()
    }
}

/// The trace of one connection.
#[derive(Debug)]
pub struct ConnectionTrace {
    trace: PduTrace,
    peer: String,
    who: Who,
    to_controller: PduTracer,
    to_host: PduTracer,
    lines: String,
}

/// What is known of a connection.
#[derive(Debug)]
struct Who {
    qid: Option<u16>,
    host: Option<Nqn>,
}

impl Fields for Who {
    fn fields(&self, out: &mut dyn FieldSink) {
        if let Some(qid) = self.qid {
            out.number("qid", qid);
        }
        if let Some(host) = &self.host {
            out.text("host", host);
        }
    }
}

impl ConnectionTrace {
    /// The host's name is known now: lines have it from here on.
    pub fn identify(&mut self, host: &Nqn) {
        self.who.host = Some(host.clone());
    }

    /// Takes bytes that came or were sent, all that there are in their order: in any pieces.
    pub fn saw<'a>(&mut self, direction: Direction, pieces: impl IntoIterator<Item = &'a [u8]>) {
        let Self { trace, peer, who, to_controller, to_host, lines } = self;
        let tracer = match direction {
            Direction::ToController => to_controller,
            Direction::ToHost => to_host,
        };
        let mut time = None;
        for piece in pieces {
            tracer.feed(piece, |seen| {
                if let Seen::Header(header) = seen {
                    who.qid = who.qid.or_else(|| connect_qid(header));
                }
                let time = *time.get_or_insert_with(|| trace.0.start.elapsed());
                // Writing to a string does not fail.
                let _ = write!(lines, "{}.{:06} {peer} ", time.as_secs(), time.subsec_micros());
                if who.qid.is_some() || who.host.is_some() {
                    let _ = write!(lines, "{} ", Line(who));
                }
                let _ = match seen {
                    Seen::Header(bytes) => {
                        let name = bytes.first().map_or("", |kind| name(*kind));
                        let fields = QueuePduFields { bytes, qid: who.qid };
                        writeln!(lines, "{direction} {name} {}", Line(&fields))
                    }
                    Seen::Lost(lost) => writeln!(lines, "{direction} followed no more: {lost}"),
                };
                if lines.len() >= GATHER {
                    trace.write(lines);
                    lines.clear();
                }
            });
        }
        if !lines.is_empty() {
            trace.write(lines);
            lines.clear();
        }
    }
}

/// The queue that a Connect command asks for.
fn connect_qid(header: &[u8]) -> Option<u16> {
    if header.first() != Some(&kind::CAPSULE_CMD) {
        return None;
    }
    let (capsule, _) = CapsuleCmd::ref_from_prefix(header).ok()?;
    Connect::from_sqe(&capsule.sqe).map(|connect| connect.qid.get())
}

#[cfg(test)]
mod tests {
    use nvme_spec::Sqe;
    use nvme_spec::opcode;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    /// Lines that were written; fails after so many writes.
    #[derive(Clone)]
    struct Written(Arc<Mutex<(String, usize)>>);

    impl Written {
        fn new(writes: usize) -> Self {
            Self(Arc::new(Mutex::new((String::new(), writes))))
        }

        /// The lines without their times, which must be there.
        fn lines(&self) -> Vec<String> {
            let written = self.0.lock().unwrap();
            assert!(written.0.is_empty() || written.0.ends_with('\n'));
            let without_time = |line: &str| {
                let (time, rest) = line.split_once(' ').unwrap();
                let (seconds, micros) = time.split_once('.').unwrap();
                assert!(seconds.parse::<u32>().is_ok() && micros.len() == 6, "{line}");
                rest.to_owned()
            };
            written.0.lines().map(without_time).collect()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().unwrap();
            written.1 = written.1.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            written.0.push_str(str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn capsule(sqe: Sqe, data: usize) -> Vec<u8> {
        let mut capsule = CapsuleCmd::new_zeroed();
        (capsule.ch.kind, capsule.ch.hlen, capsule.ch.pdo) = (kind::CAPSULE_CMD, 72, 72);
        capsule.ch.plen.set(u32::try_from(72 + data).unwrap());
        capsule.sqe = sqe;
        [capsule.as_bytes(), &vec![0xda; data]].concat()
    }

    #[test]
    fn lines_say_of_queue_and_host_what_is_known() {
        let written = Written::new(100);
        let trace = PduTrace::new(written.clone());
        let mut one = trace.connection("peer");
        let mut other = trace.connection("other");
        let connect = capsule(Connect::new(3, 127, 0, 0).to_sqe(), 1024);
        let read = capsule(Sqe::new(opcode::nvm::READ), 0);
        one.saw(Direction::ToController, [&read[..]]);
        one.saw(Direction::ToController, connect.chunks(100));
        one.identify(&Nqn::lenient("nqn.host a").unwrap());
        one.saw(Direction::ToController, [&read[..], &read[..]]);
        other.saw(Direction::ToHost, [&[9, 0, 24, 0, 24, 0, 0, 0][..], &[0; 16]]);
        let starts = [
            "peer H→C CapsuleCmd flags=0x0 hlen=72 pdo=72 plen=72 sqe={opcode=0x2 cid=0 ",
            "peer qid=3 H→C CapsuleCmd flags=0x0 hlen=72 pdo=72 plen=1096 sqe={opcode=0x7f (Fab",
            "peer qid=3 host=\"nqn.host a\" H→C CapsuleCmd flags=0x0 hlen=72 pdo=72 plen=72 sqe={opcode=0x2 (Read) cid=0 ",
            "peer qid=3 host=\"nqn.host a\" H→C CapsuleCmd ",
            "other C→H R2T flags=0x0 hlen=24 pdo=0 plen=24 cccid=0 ttag=0 r2to=0 r2tl=0",
        ];
        let lines = written.lines();
        assert_eq!(lines.len(), starts.len(), "{lines:#?}");
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        assert!(!lines.concat().contains("dada"));
    }

    #[test]
    fn each_direction_is_lost_by_itself_and_once() {
        let written = Written::new(100);
        let mut connection = PduTrace::new(written.clone()).connection("p");
        let response = [5, 0, 24, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for _ in 0..2 {
            connection.saw(Direction::ToController, [&b"GET / HTTP/1.1\r\n"[..]]);
            connection.saw(Direction::ToHost, [&response[..]]);
        }
        let lines = written.lines();
        assert_eq!(lines[0], "p H→C followed no more: 0x47 is no PDU type");
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("p C→H CapsuleResp ") && lines[1] == lines[2], "{lines:?}");
    }

    #[test]
    fn much_at_once_is_written_in_parts() {
        let written = Written::new(usize::MAX);
        let mut connection = PduTrace::new(written.clone()).connection("p");
        let read = capsule(Sqe::new(opcode::nvm::READ), 0);
        connection.saw(Direction::ToController, [&read.repeat(2000)[..]]);
        assert_eq!(written.lines().len(), 2000);
        assert!(written.0.lock().unwrap().1 < usize::MAX - 2);
        assert!(connection.lines.capacity() < 3 * GATHER);
    }

    #[test]
    fn a_writer_that_fails_ends_the_trace_and_nothing_else() {
        let written = Written::new(1);
        let trace = PduTrace::new(written.clone());
        let mut connection = trace.connection("p");
        let read = capsule(Sqe::new(opcode::nvm::READ), 0);
        for _ in 0..3 {
            connection.saw(Direction::ToController, [&read[..]]);
        }
        assert_eq!(written.lines().len(), 1);
        assert!(trace.0.out.lock().unwrap().is_none());
    }
}
