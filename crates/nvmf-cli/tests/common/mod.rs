//! A target to test against: `nvmf serve` on a port that nobody else has.

#![allow(dead_code, reason = "not every test file uses all of it")]

pub(crate) mod controlled;

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{self, Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) const NQN: &str = "nqn.2026-01.org.example:tests";

/// The command under test, as a host that needs no files of this machine.
pub(crate) fn nvmf() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nvmf"));
    command.env_remove("NVMF_LOG").env_remove("NVMF_CONTROL").env_remove("NVMF_ROOT");
    command
}

/// Who the tests connect as.
pub(crate) const HOST: [&str; 2] =
    ["-q", "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff"];

/// Runs a subcommand that connects.
pub(crate) fn run(args: &[&str]) -> Output {
    run_with(args, b"")
}

/// The same with this standard input.
pub(crate) fn run_with(args: &[&str], stdin: &[u8]) -> Output {
    let mut command = nvmf();
    command.args(args).args(HOST);
    assert_cmd::Command::from_std(command)
        .write_stdin(stdin)
        .timeout(Duration::from_secs(60))
        .output()
        .unwrap()
}

/// Standard output of a command that has to succeed.
pub(crate) fn ok(args: &[&str]) -> Vec<u8> {
    ok_with(args, b"")
}

/// The same with this standard input.
pub(crate) fn ok_with(args: &[&str], stdin: &[u8]) -> Vec<u8> {
    let output = run_with(args, stdin);
    assert!(output.status.success(), "nvmf {args:?}: {}", text(&output.stderr));
    output.stdout
}

/// The one line of a command that has to fail with this status, having said nothing else.
pub(crate) fn fails(status: i32, args: &[&str]) -> String {
    fails_with(status, args, b"")
}

/// The same with this standard input.
pub(crate) fn fails_with(status: i32, args: &[&str], stdin: &[u8]) -> String {
    let output = run_with(args, stdin);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "nvmf {args:?}: {error}");
    one_line(&error);
    error
}

/// Errors are one line that says who speaks.
pub(crate) fn one_line(error: &str) {
    assert_eq!(error.lines().count(), 1, "not one line: {error}");
    assert!(error.starts_with("nvmf: "), "{error}");
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {}", text(bytes)))
}

/// A running `nvmf serve`; killed when the test is over.
pub(crate) struct Server {
    child: Child,
    /// What it says on standard error, as it comes.
    log: Arc<Mutex<String>>,
    logger: Option<JoinHandle<()>>,
    /// What it said up to when it was ready.
    pub(crate) said: Vec<String>,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Server {
    /// Serves these namespaces on any free port, and waits until it is ready.
    pub(crate) fn start(namespaces: &[&str]) -> Self {
        Self::start_with(&Self::args(namespaces))
    }

    /// The same at an address that no other test has, for what is killed.
    pub(crate) fn start_apart(namespaces: &[&str]) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = process::id().to_be_bytes();
        let host = format!("127.{}.{low}.{}", 1 + high % 254, NEXT.fetch_add(1, Ordering::Relaxed));
        Self::start_at(&format!("{host}:0"), &Self::args(namespaces))
    }

    fn args<'a>(namespaces: &[&'a str]) -> Vec<&'a str> {
        let specs = namespaces.iter().flat_map(|spec| ["--namespace", spec]);
        ["--nqn", NQN].into_iter().chain(specs).collect()
    }

    pub(crate) fn start_with(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args)
    }

    pub(crate) fn start_at(listen: &str, args: &[&str]) -> Self {
        let (host, _) = listen.rsplit_once(':').unwrap();
        Self::serve(host, &[&["--listen", listen], args].concat())
    }

    /// Runs `nvmf serve` with these options, which have it listen on this address.
    pub(crate) fn serve(host: &str, args: &[&str]) -> Self {
        Self::try_serve(host, args).unwrap_or_else(|error| panic!("not ready: {error}"))
    }

    /// The same; gives what it said if it ends before it is ready.
    pub(crate) fn try_serve(host: &str, args: &[&str]) -> Result<Self, String> {
        let mut child = nvmf()
            .arg("serve")
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let log = Arc::new(Mutex::new(String::new()));
        let logger = Some(collect(child.stderr.take().unwrap(), Arc::clone(&log)));
        let host = host.to_owned();
        let mut server = Self { child, log, logger, said: Vec::new(), host, port: 0 };
        let url = format!("nvme+tcp://{}:", server.host);
        while !server.said.last().is_some_and(|line| line.contains("Ctrl-C")) {
            let Ok(line) = receiver.recv_timeout(Duration::from_secs(20)) else {
                let _ = server.child.kill();
                let log = server.whole_log();
                return Err(format!("{:?} {log}", server.said));
            };
            if let (0, Some((_, rest))) = (server.port, line.split_once(&url)) {
                server.port = rest.split('/').next().unwrap().parse().unwrap();
            }
            server.said.push(line);
        }
        Ok(server)
    }

    /// What it has said on standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What it said on standard error till its end.
    fn whole_log(&mut self) -> String {
        if let Some(logger) = self.logger.take() {
            logger.join().unwrap();
        }
        self.log()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory of its own, in bytes: what is not of a file.
    pub(crate) fn anonymous_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// Where it is, without subsystem.
    pub(crate) fn portal(&self) -> String {
        format!("nvme+tcp://{}:{}", self.host, self.port)
    }

    /// Namespace 1 of its subsystem.
    pub(crate) fn target(&self) -> String {
        format!("{}/{NQN}", self.portal())
    }

    pub(crate) fn namespace(&self, nsid: u32) -> String {
        format!("{}/{nsid}", self.target())
    }

    /// Ends it as a person would, and waits.
    pub(crate) fn terminate(self) -> (ExitStatus, String) {
        self.signal("-TERM")
    }

    /// Sends a signal, and waits for the end.
    pub(crate) fn signal(mut self, signal: &str) -> (ExitStatus, String) {
        self.send(signal);
        let end = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end");
            thread::sleep(Duration::from_millis(10));
        };
        let error = self.whole_log();
        (status, error)
    }

    /// Makes it stand still; it keeps its connections.
    pub(crate) fn pause(&self) {
        self.send("-STOP");
    }

    /// Sends a signal that it goes on after.
    pub(crate) fn send(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Ends it as a power failure would, and waits until nobody listens there: what an io_uring had
    /// open the kernel closes only a moment after the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((self.host.as_str(), self.port)).is_ok() {
            assert!(Instant::now() < end, "somebody still listens at {}", self.portal());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects what a program says.
fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let lines = BufReader::new(from).lines().map_while(Result::ok);
        lines.for_each(|line| writeln!(into.lock().unwrap(), "{line}").unwrap());
    })
}

/// Waits until this holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A sequence of numbers that looks random and is the same every time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// A sparse file of this many bytes.
pub(crate) fn image(path: &Path, length: u64) -> String {
    std::fs::File::create(path).unwrap().set_len(length).unwrap();
    format!("file:{}", path.display())
}
