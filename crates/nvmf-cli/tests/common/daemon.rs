//! A command that goes on until it is told to end.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One that runs; killed when the test is over.
pub(crate) struct Daemon {
    child: Child,
    /// What it says on standard error, as it comes.
    log: Arc<Mutex<String>>,
    logger: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it and waits until it is ready, which it says in its last line, with how to end it.
    /// Gives its lines; or what it said if it ends before.
    pub(crate) fn try_start(mut command: Command) -> Result<(Self, Vec<String>), String> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let log = Arc::new(Mutex::new(String::new()));
        let logger = Some(collect(child.stderr.take().unwrap(), Arc::clone(&log)));
        let mut daemon = Self { child, log, logger };
        let mut said: Vec<String> = Vec::new();
        while !said.last().is_some_and(|line| line.contains("Ctrl-C")) {
            let Ok(line) = receiver.recv_timeout(Duration::from_secs(20)) else {
                let _ = daemon.child.kill();
                let log = daemon.whole_log();
                return Err(format!("{said:?} {log}"));
            };
            said.push(line);
        }
        Ok((daemon, said))
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

    /// Sends a signal that it goes on after.
    pub(crate) fn send(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Ends it without a word.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
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
