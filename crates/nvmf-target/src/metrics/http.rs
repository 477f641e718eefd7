//! As much of HTTP/1.1 as a scrape needs (RFC 9110 and 9112): one request on a connection, read to
//! the end of its head, and one answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// The longest head of a request, in bytes.
pub(super) const MAX_HEAD: usize = 8 << 10;

/// The most header fields of a request.
const MAX_FIELDS: usize = 64;

/// How much is read of what comes behind a request, so that closing does not take back the answer.
const MAX_REST: usize = 64 << 10;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Metrics,
    Health,
}

/// What is answered instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not HTTP/1.
    Malformed,
    NoSuchPage,
    /// There is such a page, but nothing to do with it except to get it.
    Method,
    TooLarge,
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::NoSuchPage => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
            Self::TooLarge => "431 Request Header Fields Too Large",
        }
    }
}

/// Understands what came so far; `None` if that is not all yet.
pub(super) fn parse(head: &[u8]) -> Option<Result<Request, Refusal>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some(Err(Refusal::TooLarge));
        }
        Err(_) => return Some(Err(Refusal::Malformed)),
    }
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    Some(match (path, request.method) {
        ("/metrics", Some("GET")) => Ok(Request::Metrics),
        ("/healthz", Some("GET")) => Ok(Request::Health),
        ("/metrics" | "/healthz", _) => Err(Refusal::Method),
        _ => Err(Refusal::NoSuchPage),
    })
}

/// Reads a request; `Ok(None)` if the peer closed before it was whole.
pub(super) fn read(
    mut stream: &TcpStream,
    deadline: Instant,
) -> io::Result<Option<Result<Request, Refusal>>> {
    let mut head = [0; MAX_HEAD];
    let mut length = 0;
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut head[length..]) {
            Ok(0) => return Ok(None),
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let Some(request) = parse(&head[..length]) {
            return Ok(Some(request));
        }
    }
}

/// Answers a request, and says that this is all.
pub(super) fn answer(
    stream: &TcpStream,
    request: Result<Request, Refusal>,
    metrics: impl FnOnce() -> String,
    deadline: Instant,
) -> io::Result<()> {
    let (status, body) = match request {
        Ok(Request::Metrics) => ("200 OK", metrics()),
        Ok(Request::Health) => ("200 OK", "ok\n".to_owned()),
        Err(refusal) => (refusal.status(), format!("{}\n", refusal.status())),
    };
    let kind = match request {
        Ok(Request::Metrics) => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    let allow = if request == Err(Refusal::Method) { "Allow: GET\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        body.len(),
    );
    write(stream, head.as_bytes(), deadline)?;
    write(stream, body.as_bytes(), deadline)?;
    stream.shutdown(Shutdown::Write)?;
    drain(stream, deadline)
}

fn write(mut stream: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until the peer closes: a connection closed with bytes unread is reset, which may take the
/// answer with it.
fn drain(mut stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let mut rest = [0; 4096];
    let mut length = 0;
    while length < MAX_REST {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut rest)? {
            0 => break,
            n => length += n,
        }
    }
    Ok(())
}

/// The time there is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pages_can_be_got_and_nothing_else() {
        let parse = |line: &str| parse(format!("{line}\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(parse("GET /metrics HTTP/1.1"), Ok(Request::Metrics));
        assert_eq!(parse("GET /metrics?name[]=nvmf_bytes HTTP/1.0"), Ok(Request::Metrics));
        assert_eq!(parse("GET /healthz HTTP/1.1"), Ok(Request::Health));
        for path in ["/", "/metrics/", "/Metrics", "/../metrics", "http://x/metrics", "*"] {
            let line = format!("GET {path} HTTP/1.1");
            assert_eq!(parse(&line), Err(Refusal::NoSuchPage), "{path}");
        }
        for method in ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get"] {
            let line = format!("{method} /metrics HTTP/1.1");
            assert_eq!(parse(&line), Err(Refusal::Method), "{method}");
        }
    }

    #[test]
    fn what_is_not_http_is_malformed() {
        for bytes in [
            &b"\0\x02\0\0"[..],
            b"PRI * HTTP/2.0\r\n\r\n",
            b"GET /metrics\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        ] {
            assert_eq!(parse(bytes), Some(Err(Refusal::Malformed)), "{bytes:?}");
        }
    }

    #[test]
    fn a_request_is_understood_once_it_is_whole() {
        let whole = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse(whole), Some(Ok(Request::Metrics)));
    }

    #[test]
    fn a_request_that_is_too_large_is_refused() {
        let mut long = b"GET /metrics HTTP/1.1\r\nX: ".to_vec();
        long.resize(MAX_HEAD - 1, b'x');
        assert_eq!(parse(&long), None);
        long.push(b'x');
        assert_eq!(parse(&long), Some(Err(Refusal::TooLarge)));
        let fields = "A: b\r\n".repeat(MAX_FIELDS + 1);
        let many = format!("GET /metrics HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(parse(many.as_bytes()), Some(Err(Refusal::TooLarge)));
    }
}
