//! Programs that are run: started, waited for, and ended, each by its process identifier.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Why a run has no result, with all there is to know about it.
pub(crate) type Failure = String;

/// Set when the user wants everything to end.
pub(crate) type Stop = Arc<AtomicBool>;

/// How often it is looked whether something has happened.
const PAUSE: Duration = Duration::from_millis(10);
/// The same while something is measured: who looks takes a core from those who are watched.
const WATCH: Duration = Duration::from_millis(100);

/// How long a program has to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Lines of a program's output that a failure shows.
const LAST_LINES: usize = 8;

/// A program that is running. Dropped, it is ended.
pub(crate) struct Running {
    name: String,
    process: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    stop: Stop,
}

impl Running {
    /// Starts `command`; what it prints goes to `logs` + `.out` and `.err`.
    pub(crate) fn start(
        name: &str,
        command: &[String],
        logs: &Path,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let [program, args @ ..] = command else { return Err(format!("{name} has no command")) };
        let file = |extension: &str| {
            let path = PathBuf::from(format!("{}.{extension}", logs.display()));
            let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, Failure>((path, file))
        };
        let (stdout, out) = file("out")?;
        let (stderr, err) = file("err")?;
        let process = Command::new(program)
            .args(args)
            // A failure shows the last lines: they are for what went wrong, not for where.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|e| format!("cannot start {name}, {program}: {e}"))?;
        Ok(Self { name: name.to_owned(), process, stdout, stderr, stop: Arc::clone(stop) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        self.process.try_wait().map_err(|e| self.failure(&format!("cannot be waited for: {e}")))
    }

    /// An error if it has ended.
    pub(crate) fn must_run(&mut self) -> Result<(), Failure> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(self.failure(&format!("ended too early, {status}"))),
        }
    }

    /// Waits until `is_so`, as long as it runs.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<(), Failure> {
        let give_up = Instant::now() + limit;
        while !is_so() {
            self.must_run()?;
            if Instant::now() > give_up {
                return Err(self.failure(&format!("{what}: not within {limit:?}")));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Waits until it has ended, calling `meanwhile` all the time; its standard output, if it ended
    /// well.
    pub(crate) fn finish(
        mut self,
        limit: Duration,
        mut meanwhile: impl FnMut() -> Result<(), Failure>,
    ) -> Result<String, Failure> {
        let give_up = Instant::now() + limit;
        loop {
            match self.ended()? {
                Some(status) if status.success() => break,
                Some(status) => return Err(self.failure(&format!("failed, {status}"))),
                None => {}
            }
            if Instant::now() > give_up {
                return Err(self.failure(&format!("did not end within {limit:?}")));
            }
            meanwhile()?;
            std::thread::sleep(WATCH);
        }
        std::fs::read_to_string(&self.stdout)
            .map_err(|e| self.failure(&format!("its output cannot be read: {e}")))
    }

    /// What happened, and the last lines it printed.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let mut text = format!("{}: {what}", self.name);
        for path in [&self.stdout, &self.stderr] {
            let printed = std::fs::read(path).unwrap_or_default();
            for line in last_lines(&String::from_utf8_lossy(&printed)) {
                text.push_str("\n    ");
                text.push_str(line);
            }
        }
        text
    }
}

fn last_lines(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.process);
        if matches!(self.process.try_wait(), Ok(None)) {
            // It may end just now: then there is nobody to be told.
            let _ = kill_process(pid, Signal::TERM);
        }
        let give_up = Instant::now() + GRACE;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > give_up {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// A port of the loopback interface that nobody listens on.
pub(crate) fn free_port() -> Result<u16, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| format!("no free port: {e}"))
}

/// Whether somebody accepts connections on a port.
pub(crate) fn accepts(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Running) {
        let dir = tempfile::tempdir().unwrap();
        let command = ["sh", "-c", script].map(str::to_owned);
        let running =
            Running::start("the shell", &command, &dir.path().join("x"), &Stop::default()).unwrap();
        (dir, running)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_output_of_a_program_that_ends_well_is_returned() {
        let (_dir, running) = shell("echo result; echo noise >&2");
        assert_eq!(running.finish(LONG, || Ok(())).unwrap(), "result\n");
    }

    #[test]
    fn a_failure_has_the_last_lines() {
        let (_dir, running) = shell("seq 100; echo reason >&2; exit 3");
        let failure = running.finish(LONG, || Ok(())).unwrap_err();
        assert!(failure.contains("the shell: failed, exit status: 3"), "{failure}");
        assert!(failure.contains("\n    reason") && failure.contains("\n    93\n"), "{failure}");
        assert!(!failure.contains("    92\n"), "{failure}");
    }

    #[test]
    fn one_that_does_not_end_is_given_up_and_killed() {
        let (_dir, running) = shell("exec sleep 1000");
        let pid = running.pid();
        let failure = running.finish(Duration::from_millis(50), || Ok(())).unwrap_err();
        assert!(failure.contains("did not end"), "{failure}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn one_that_ends_while_it_is_needed_is_a_failure() {
        let (_dir, mut running) = shell("exit 0");
        let failure = running.wait_until("ready", LONG, || false).unwrap_err();
        assert!(failure.contains("ended too early"), "{failure}");
    }

    #[test]
    fn the_user_can_interrupt() {
        let (_dir, running) = shell("exec sleep 1000");
        running.stop.store(true, Ordering::Relaxed);
        assert_eq!(running.finish(LONG, || Ok(())).unwrap_err(), "interrupted");
    }
}
