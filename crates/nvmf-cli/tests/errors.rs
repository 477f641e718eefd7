//! What goes wrong is said in one line, soon, and with the right status.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{NQN, Server, fails, nvmf, text};
use socket2::{Domain, Socket, Type};

/// A port at which each connection is given to `serve`.
fn listener(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        thread::scope(|scope| {
            for stream in listener.incoming() {
                let serve = &serve;
                scope.spawn(move || serve(stream.unwrap()));
            }
        });
    });
    port
}

fn target(port: u16) -> String {
    format!("nvme+tcp://127.0.0.1:{port}/{NQN}")
}

#[test]
fn a_target_that_accepts_and_stays_silent_is_given_up_within_the_timeout() {
    let port = listener(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let start = Instant::now();
    let error =
        fails(1, &["discover", &format!("nvme+tcp://127.0.0.1:{port}"), "--timeout", "0.4"]);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(error.contains("no answer") && error.contains(&port.to_string()), "{error}");
    assert!(error.contains("--timeout"), "{error}");
}

#[test]
fn a_target_that_does_not_even_accept_is_given_up_within_the_timeout() {
    // Nobody accepts, and the queue of those who wait is full: further SYNs are dropped.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue does not fill up");
    }
    let start = Instant::now();
    let error = fails(1, &["identify", &target(address.port()), "--timeout", "0.4"]);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(error.contains(&address.to_string()) && error.contains("--timeout"), "{error}");
}

#[test]
fn a_peer_that_is_no_target_is_said_to_be_none() {
    let closing = listener(drop);
    let error = fails(1, &["identify", &target(closing)]);
    assert!(error.contains(&closing.to_string()), "{error}");
    let web = listener(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = fails(1, &["identify", &target(web), "--timeout", "2"]);
    assert!(error.contains("broke the protocol"), "{error}");
}

#[test]
fn nobody_listening_says_what_to_try() {
    // Bound, so that it is nobody else's, and not listening.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let unused = held.local_addr().unwrap().as_socket().unwrap().port();
    for command in ["discover", "identify", "property", "read"] {
        let url = match command {
            "discover" => format!("nvme+tcp://127.0.0.1:{unused}"),
            _ => target(unused),
        };
        let error = fails(1, &[command, &url]);
        assert!(error.contains("refused") && error.contains("nvmf serve"), "{error}");
        assert!(error.contains(&format!("127.0.0.1:{unused}")), "{error}");
    }
}

#[test]
fn an_unknown_subsystem_is_named_with_its_status_and_what_to_try() {
    let server = Server::start(&["mem:1M"]);
    let unknown = "nqn.2026-01.org.example:unknown";
    let error = fails(1, &["read", &format!("{}/{unknown}", server.portal())]);
    for part in [unknown, "Connect Invalid Parameters", "subnqn", "nvmf discover nvme+tcp://"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn a_namespace_that_is_no_number_is_said_to_be_none() {
    let server = Server::start(&["mem:1M"]);
    let error = fails(1, &["read", &format!("{}/abc", server.target())]);
    assert!(error.contains("an NSID is a number, and `abc` is none"), "{error}");
}

#[test]
fn discover_asks_no_other_subsystem_than_the_discovery_subsystem() {
    let server = Server::start(&["mem:1M"]);
    let port = server.port.to_string();
    let by_option = ["discover", "-a", "127.0.0.1", "-s", &port, "-n", NQN];
    for args in
        [&["discover", &server.target()][..], &["discover", &server.namespace(1)], &by_option]
    {
        let error = fails(2, args);
        let advice = format!("leave the NQN out: `nvmf discover {}`", server.portal());
        assert!(error.contains(&advice), "{error}");
    }
    let url = format!("{}/nqn.2014-08.org.nvmexpress.discovery", server.portal());
    assert!(text(&common::ok(&["discover", &url])).contains(NQN));
}

#[test]
fn a_target_that_falls_silent_in_the_middle_is_given_up_and_the_limit_is_said() {
    let server = Server::start(&["null:64G"]);
    let target = server.target();
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(600));
            server.pause();
        });
        fails(1, &["read", &target, "/dev/null", "--timeout", "0.5"])
    });
    assert!(error.contains("stopped after") && error.contains("no answer"), "{error}");
    assert!(error.contains("(500ms; --timeout gives more)"), "{error}");
}

#[test]
fn an_unknown_namespace_says_which_there_are() {
    let server = Server::start(&["mem:1M", "mem:1M"]);
    let error = fails(1, &["read", &server.namespace(3)]);
    assert!(error.contains("no namespace 3") && error.contains("1, 2"), "{error}");
}

#[test]
fn a_name_without_address_is_an_error() {
    let error = fails(1, &["discover", "nvme+tcp://no.such.host.invalid", "--timeout", "3"]);
    assert!(error.contains("no.such.host.invalid"), "{error}");
}

#[test]
fn wrong_usage_has_status_2() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["read"],
        &["discover", "http://127.0.0.1"],
        &["discover", "nvme+tcp://127.0.0.1:99999"],
        &["read", "nvme+tcp://127.0.0.1/nqn.2026-01.a:b", "--length", "12Q"],
        &["read", "nvme+tcp://127.0.0.1/nqn.2026-01.a:b", "--timeout", "0"],
        &["read", "nvme+tcp://127.0.0.1/nqn.2026-01.a:b", "--qd", "0"],
        &["identify", "nvme+tcp://127.0.0.1"],
        &["identify", "-n", "nqn.2026-01.a:b"],
        &["identify", "-t", "rdma", "-a", "127.0.0.1", "-n", "nqn.2026-01.a:b"],
        &["discover", "-a", "127.0.0.1", "-q", "not an nqn"],
        &["discover", "-a", "127.0.0.1", "-I", "00000000-0000-0000-0000-000000000000"],
        &["serve", "--listen"],
    ] {
        let output = nvmf().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn wrong_usage_is_one_line_that_says_where_to_look() {
    let url = "nvme+tcp://127.0.0.1/nqn.2026-01.a:b";
    for (args, wrong, help) in [
        (&["serve", "--namespace", "mem:5000"][..], "mem:5000", "see nvmf serve --help"),
        (&["read", url, "--offset", "abc"], "abc", "see nvmf read --help"),
        (&["-v", "write", url, "a", "b"], "'b'", "see nvmf write --help"),
        (&["identify", "-t", "tcp"], "--traddr <HOST>", "see nvmf identify --help"),
        (&["identify", "-t", "rdma"], "[possible values: tcp]", "see nvmf identify --help"),
        (&["serve", "--listen"], "--listen", "see nvmf serve --help"),
        (&["serve", "--hdgst", "--no-hdgst"], "--no-hdgst", "see nvmf serve --help"),
        (&["serve", "--no-ddgst", "--ddgst"], "--no-ddgst", "see nvmf serve --help"),
        (&["discover", "--nsid", "1"], "--nsid", "see nvmf discover --help"),
        (&["property", "--namespace-id", "1"], "--namespace-id", "see nvmf property --help"),
        (&["completions"], "<SHELL>", "see nvmf completions --help"),
        (&["discover", "--frobnicate"], "--frobnicate", "see nvmf discover --help"),
        (&["frobnicate"], "frobnicate", "see nvmf --help"),
        (&["raed"], "'read'", "see nvmf --help"),
        (&["disc\u{7}\n"], "disc", "see nvmf --help"),
    ] {
        let output = nvmf().args(args).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        common::one_line(&error);
        assert!(error.contains(wrong) && error.trim_end().ends_with(help), "{args:?}: {error}");
        assert!(!error.trim_end().contains(char::is_control), "{args:?}: {error:?}");
        assert!(!error.contains("error:") && output.stdout.is_empty(), "{args:?}: {error}");
    }
}

#[test]
fn an_argument_that_is_no_text_is_wrong_usage_too() {
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
    let output = nvmf().arg(bytes).arg("read").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    common::one_line(&text(&output.stderr));
}

#[test]
fn the_status_is_the_same_where_standard_error_cannot_be_written() {
    let server = Server::start(&["mem:1M"]);
    let target = server.target();
    for (status, args) in [
        (0, &["read", &target, "/dev/null"][..]),
        (0, &["-vv", "discover", &server.portal()]),
        (1, &["read", &target, "/nonexistent/file"]),
        (2, &["read", &target, "--offset", "abc"]),
        (2, &["property", &target, "foo"]),
        (2, &[]),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = nvmf().args(args).stderr(full).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}");
    }
}

#[test]
fn help_and_version_succeed() {
    for args in [&["--help"][..], &["--version"], &["help", "read"], &["write", "-h"]] {
        let output = nvmf().args(args).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_connection_that_dies_in_the_middle_says_how_far_it_got() {
    let server = Server::start_apart(&["null:64G"]);
    let target = server.target();
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(600));
        server.kill();
    });
    let error = fails(1, &["read", &target, "/dev/null"]);
    killer.join().unwrap();
    assert!(error.contains("stopped after") && error.contains(NQN), "{error}");
}

#[test]
fn what_happens_is_logged_where_that_is_wanted() {
    let server = Server::start(&["mem:1M"]);
    let logged = |args: &[&str], level: Option<&str>| {
        let mut command = nvmf();
        if let Some(level) = level {
            command.env("NVMF_LOG", level);
        }
        let url = server.portal();
        text(
            &command
                .args(args)
                .args(["discover", &url])
                .args(common::HOST)
                .output()
                .unwrap()
                .stderr,
        )
    };
    assert_eq!(logged(&[], None), "");
    assert!(logged(&["-v"], None).contains("connected"));
    assert!(logged(&[], Some("nvmf=debug")).contains("connected"));
}
