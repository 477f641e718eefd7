//! What `/proc` says about a process: its CPU time and its memory.

use std::fs;
use std::io;
use std::time::Duration;

/// CPU time that a process has used, with all its threads, those that have ended too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTime {
    /// In user space.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

impl CpuTime {
    /// Of this process.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn of_self() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Of a process, to a hundredth of a second.
    ///
    /// # Errors
    ///
    /// If there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        parse_stat(&fs::read_to_string(&path)?).ok_or_else(|| unreadable(&path))
    }

    /// Both together.
    pub fn total(&self) -> Duration {
        self.user + self.system
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// The time for which the threads that a process has now were on a CPU, to the nanosecond.
///
/// Where the kernel keeps no such statistics it is that of [`CpuTime`].
///
/// # Errors
///
/// If there is no such process, or no `/proc`.
pub fn run_time(pid: u32) -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        match fs::read_to_string(task?.path().join("schedstat")).map(|text| parse_schedstat(&text))
        {
            Ok(Some(time)) => sum += time,
            Ok(None) => return Ok(CpuTime::of(pid)?.total()),
            Err(_) => {}
        }
    }
    if sum.is_zero() { Ok(CpuTime::of(pid)?.total()) } else { Ok(sum) }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// `VmRSS`: all that is resident.
    pub resident: u64,
    /// `RssAnon`: what of it is no file's, the process's own.
    pub anonymous: u64,
}

impl Memory {
    /// Of a process.
    ///
    /// # Errors
    ///
    /// If there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let path = format!("/proc/{pid}/status");
        parse_status(&fs::read_to_string(&path)?).ok_or_else(|| unreadable(&path))
    }
}

/// How many TCP connections over IPv4 are established on a local port.
///
/// # Errors
///
/// If there is no `/proc/net/tcp`.
pub fn established(port: u16) -> io::Result<usize> {
    Ok(count_established(&fs::read_to_string("/proc/net/tcp")?, port))
}

fn unreadable(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot make sense of {path}"))
}

/// A tick of `/proc` is a hundredth of a second on every architecture that Rust's Linux runs on.
const TICK: Duration = Duration::from_millis(10);

/// Fields 14 and 15; the name before them may have blanks and parentheses in it.
fn parse_stat(text: &str) -> Option<CpuTime> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    let user = fields.next()?.ok()?;
    let system = fields.next()?.ok()?;
    Some(CpuTime { user: TICK * user, system: TICK * system })
}

fn parse_schedstat(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn parse_status(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    Some(Memory { resident: field("VmRSS")?, anonymous: field("RssAnon")? })
}

fn count_established(text: &str, port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let local = format!(":{port:04X}");
    text.lines()
        .filter(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            fields.next().is_some_and(|address| address.ends_with(&local))
                && fields.nth(1) == Some(ESTABLISHED)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "4242 (a) b (c)) S 1 4242 4242 0 -1 4194560 500 0 0 0 123 45 0 0 20 0 3 0 1 2";
        let time = parse_stat(stat).unwrap();
        assert_eq!(time.user, Duration::from_millis(1230));
        assert_eq!(time.system, Duration::from_millis(450));
        assert_eq!(parse_stat("4242 (a) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn run_time_is_the_first_field_of_schedstat() {
        assert_eq!(parse_schedstat("1234567 89 10\n"), Some(Duration::from_nanos(1_234_567)));
        assert_eq!(parse_schedstat("\n"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmRSS:\t  270336 kB\nRssAnon:\t    264 kB\nRssFile:\t 10 kB\n";
        let memory = parse_status(status).unwrap();
        assert_eq!(memory, Memory { resident: 270_336 << 10, anonymous: 264 << 10 });
        assert_eq!(parse_status("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn connections_are_counted_by_local_port_and_state() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1144 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 0100007F:1144 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0
   2: 0100007F:9C40 0100007F:1144 01 00000000:00000000 00:00000000 00000000     0
   3: 0100007F:1144 0100007F:9C41 06 00000000:00000000 00:00000000 00000000     0
";
        assert_eq!(count_established(table, 0x1144), 1);
        assert_eq!(count_established(table, 0x9c40), 1);
        assert_eq!(count_established(table, 1), 0);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).unwrap();
        assert!(Memory::of(pid).unwrap().resident > 0);
        assert!(run_time(pid).unwrap() > Duration::ZERO);
        assert!(CpuTime::of(pid).unwrap().since(&before).total() < Duration::from_secs(60));
    }
}
