//! What a scraper gets, and what others cannot do to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const SOON: Duration = Duration::from_secs(3);

fn server() -> MetricsServer {
    serving(|| "# a page\n".to_owned())
}

fn serving(source: impl Fn() -> String + Send + Sync + 'static) -> MetricsServer {
    MetricsServer::start("127.0.0.1:0".parse().unwrap(), Arc::new(source)).unwrap()
}

fn connect(server: &MetricsServer) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(server: &MetricsServer, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(server: &MetricsServer, path: &str) -> String {
    ask(server, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// Status line and body.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    (head.lines().next().unwrap(), body)
}

#[test]
fn the_page_and_the_health_are_there() {
    let server = server();
    let answer = get(&server, "/metrics");
    assert_eq!(parts(&answer), ("HTTP/1.1 200 OK", "# a page\n"));
    let kind = "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(answer.contains(kind), "{answer}");
    assert_eq!(parts(&get(&server, "/healthz")), ("HTTP/1.1 200 OK", "ok\n"));
}

#[test]
fn all_else_is_refused() {
    let server = server();
    let refused = |request: &str, status: &str| {
        let answer = ask(&server, request);
        let (line, body) = parts(&answer);
        assert_eq!((line, body), (&*format!("HTTP/1.1 {status}"), &*format!("{status}\n")));
        answer
    };
    refused("GET / HTTP/1.1\r\n\r\n", "404 Not Found");
    let answer = refused("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed");
    assert!(answer.contains("\r\nAllow: GET\r\n"));
    refused("EHLO\r\n\r\n", "400 Bad Request");
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(http::MAX_HEAD));
    refused(&long, "431 Request Header Fields Too Large");
}

#[test]
fn the_answer_comes_through_whatever_is_sent_behind_the_request() {
    let server = server();
    let mut stream = connect(&server);
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    for _ in 0..10 {
        stream.write_all(&[b'x'; 1000]).expect("the connection is not reset");
        thread::sleep(Duration::from_millis(10));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(parts(&answer).0, "HTTP/1.1 200 OK");
}

#[test]
fn a_request_may_come_in_pieces() {
    let server = server();
    let mut stream = connect(&server);
    for piece in ["GET /he", "althz HTTP/1.1\r", "\n\r", "\n"] {
        stream.write_all(piece.as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(parts(&answer).0, "HTTP/1.1 200 OK");
}

#[test]
fn many_scrapes_at_once_are_all_answered() {
    let at_once = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&at_once);
    let server = serving(move || {
        let now = counted.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(now <= CONNECTIONS, "{now} at once");
        thread::sleep(Duration::from_millis(2));
        counted.fetch_sub(1, Ordering::SeqCst);
        "x".repeat(100_000)
    });
    thread::scope(|scope| {
        for _ in 0..4 * CONNECTIONS {
            scope.spawn(|| {
                let answer = get(&server, "/metrics");
                assert_eq!(parts(&answer).1.len(), 100_000);
            });
        }
    });
    assert_eq!(at_once.load(Ordering::SeqCst), 0);
}

#[test]
fn those_who_say_nothing_do_not_keep_out_those_who_do() {
    let server = server();
    let silent: Vec<TcpStream> = (0..2 * CONNECTIONS).map(|_| connect(&server)).collect();
    for mut stream in &silent {
        // Some have begun.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
    }
    let begin = Instant::now();
    assert_eq!(parts(&get(&server, "/metrics")).0, "HTTP/1.1 200 OK");
    assert!(begin.elapsed() < READ, "it was their time that ran out");
}

#[test]
fn a_request_that_does_not_end_is_given_up() {
    let server = server();
    let mut stream = connect(&server);
    let begin = Instant::now();
    // A byte now and then does not make it longer.
    let ended = loop {
        if stream.write_all(b"G").is_err() {
            break true;
        }
        if begin.elapsed() > READ + SOON {
            break false;
        }
        thread::sleep(Duration::from_millis(200));
    };
    assert!(ended && begin.elapsed() >= READ, "after {:?}", begin.elapsed());
}

#[test]
fn dropping_it_ends_it_at_once_and_frees_the_port() {
    let server = server();
    let address = server.local_addr();
    let mut silent = connect(&server);
    let begin = Instant::now();
    drop(server);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let server = server();
    let error = MetricsServer::start(server.local_addr(), Arc::new(String::new)).unwrap_err();
    assert!(matches!(error, MetricsError::Bind { address, .. } if address == server.local_addr()));
}
