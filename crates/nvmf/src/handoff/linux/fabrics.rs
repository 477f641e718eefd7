//! `/dev/nvme-fabrics`: one line makes a controller.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use super::known::{KnownOptions, KnownOptionsError};
use super::options::{Options, OptionsError};
use crate::Deadline;

/// The kernel's host, where controllers are made.
#[derive(Clone, Debug)]
pub struct Fabrics {
    root: PathBuf,
}

/// A controller that the kernel has made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connected {
    /// Its number: 3 for `nvme3`.
    pub instance: u32,
    /// The controller's identifier at the target.
    pub cntlid: u16,
}

impl Connected {
    /// The controller's name, as it is in `/dev` and `/sys/class/nvme`.
    pub fn device(&self) -> String {
        format!("nvme{}", self.instance)
    }
}

/// Why the kernel has not connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FabricsError {
    /// The device is not there.
    #[error(
        "{} is not there: the kernel's NVMe over Fabrics is not loaded; as root, try `modprobe nvme-tcp` \
         (in a container, on the machine outside, and pass the device in)",
        .0.display()
    )]
    NoDevice(PathBuf),
    /// Only root may make controllers.
    #[error("{} may not be opened: making the kernel connect needs root; try sudo", .0.display())]
    Permission(PathBuf),
    /// The device cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Device {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The controller cannot be asked for.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// What the kernel says of its options makes no sense.
    #[error(transparent)]
    Known(#[from] KnownOptionsError),
    /// The kernel tried, or would not try.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel does not even say which options it knows: it connects for somebody else.
    #[error("the kernel has been busy with connecting something else for {0:?}; try again")]
    Busy(Duration),
    /// The kernel is not done. It may still connect.
    #[error("the kernel has not connected after {0:?}; it may still do so")]
    TimedOut(Duration),
    /// The kernel answered something that is no answer.
    #[error("the kernel connected and then said `{0}`, which names no controller")]
    Answer(String),
}

/// What the kernel's error means when it was told to connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// EALREADY
    #[error("this host is already connected to that subsystem at that address")]
    AlreadyConnected,
    /// EINVAL, and the transport's module is not there.
    #[error("the kernel has no transport `{0}`; as root, try `modprobe nvme-{0}`")]
    NoTransport(String),
    /// EINVAL
    #[error(
        "the kernel calls an option or what the target answered invalid; its log (dmesg) says which"
    )]
    Invalid,
    /// EADDRINUSE
    #[error("the kernel has another host of that NQN or identifier")]
    HostInUse,
    /// EADDRNOTAVAIL
    #[error("this machine does not have the address to connect from")]
    NoSuchAddress,
    /// ENODEV
    #[error("this machine does not have the network interface to connect by")]
    NoSuchInterface,
    /// ECONNREFUSED
    #[error("the target refused the connection")]
    ConnectionRefused,
    /// ECONNRESET, EPIPE, ENOTCONN
    #[error("the target closed the connection")]
    ConnectionClosed,
    /// EHOSTUNREACH, ENETUNREACH
    #[error("there is no way to the target's address")]
    Unreachable,
    /// ETIMEDOUT
    #[error("the target did not answer the kernel in time")]
    TimedOut,
    /// EIO
    #[error(
        "the target refused the kernel's Connect, or a command after it failed; the kernel's log (dmesg) says which"
    )]
    Target,
    /// ENOKEY, EKEYREJECTED, EKEYEXPIRED, EKEYREVOKED
    #[error("the kernel has no such key, or it may not be used: {0}")]
    Key(io::Error),
    /// EACCES
    #[error("host and controller did not authenticate each other")]
    Authentication,
    /// EPERM
    #[error("the kernel does not let this process make controllers; it needs root")]
    Permission,
    /// EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT
    #[error("the kernel or its transport cannot do what is asked for: {0}")]
    NotSupported(io::Error),
    /// ENOMEM
    #[error("the kernel has not the memory for the controller; fewer or smaller queues need less")]
    Memory,
    /// EBUSY, EAGAIN, EINTR
    #[error("the kernel could not do it now ({0}); try again")]
    Busy(io::Error),
    /// Anything else.
    #[error("the kernel says: {0}")]
    Other(io::Error),
}

impl Refusal {
    /// From what writing the options failed with.
    fn new(error: io::Error) -> Self {
        let Some(errno) = Errno::from_io_error(&error) else { return Self::Other(error) };
        match errno {
            Errno::ALREADY => Self::AlreadyConnected,
            Errno::INVAL => Self::Invalid,
            Errno::ADDRINUSE => Self::HostInUse,
            Errno::ADDRNOTAVAIL => Self::NoSuchAddress,
            Errno::NODEV => Self::NoSuchInterface,
            Errno::CONNREFUSED => Self::ConnectionRefused,
            Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN => Self::ConnectionClosed,
            Errno::HOSTUNREACH | Errno::NETUNREACH => Self::Unreachable,
            Errno::TIMEDOUT => Self::TimedOut,
            Errno::IO => Self::Target,
            Errno::NOKEY | Errno::KEYREJECTED | Errno::KEYEXPIRED | Errno::KEYREVOKED => {
                Self::Key(error)
            }
            Errno::ACCESS => Self::Authentication,
            Errno::PERM => Self::Permission,
            Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => {
                Self::NotSupported(error)
            }
            Errno::NOMEM => Self::Memory,
            Errno::BUSY | Errno::AGAIN | Errno::INTR => Self::Busy(error),
            _ => Self::Other(error),
        }
    }
}

/// The most that is read of what the kernel says.
const MOST: u64 = 4096;

impl Fabrics {
    /// This machine's.
    pub fn system() -> Self {
        Self::at("/")
    }

    /// That of the machine whose file system starts at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The device.
    fn path(&self) -> PathBuf {
        self.root.join("dev/nvme-fabrics")
    }

    /// Which options the running kernel knows. It does not say while it connects for somebody else.
    ///
    /// # Errors
    ///
    /// [`FabricsError`] if the device is not there, is not for this user, or says something else.
    pub fn known_options(&self, deadline: Deadline) -> Result<KnownOptions, FabricsError> {
        let mut device = self.open()?;
        let waited = deadline.remaining().unwrap_or_default();
        let read = self.left_behind(deadline, move || read_line(&mut device))?;
        match read.ok_or(FabricsError::Busy(waited))? {
            Ok(text) => Ok(KnownOptions::parse(&text)?),
            // Linux before 5.17 has nothing to say before a controller was made.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                Ok(KnownOptions::untold())
            }
            Err(source) => Err(FabricsError::Device { path: self.path(), source }),
        }
    }

    /// Has the kernel connect, and waits until it has or cannot.
    ///
    /// # Errors
    ///
    /// [`FabricsError::Options`] for options that it does not know or would misunderstand;
    /// [`FabricsError::Refused`] as it answers. After [`FabricsError::TimedOut`] the kernel goes on
    /// for as long as the process lives.
    pub fn connect(
        &self,
        options: &Options,
        deadline: Deadline,
    ) -> Result<Connected, FabricsError> {
        let line = options.to_line(&self.known_options(deadline)?)?;
        let mut device = self.open()?;
        let waited = deadline.remaining().unwrap_or_default();
        let done = self.left_behind(deadline, move || exchange(&mut device, &line))?;
        done.ok_or(FabricsError::TimedOut(waited))?.map_err(|error| match error {
            FabricsError::Refused(Refusal::Invalid) if !self.has_transport(&options.transport) => {
                Refusal::NoTransport(options.transport.clone()).into()
            }
            other => other,
        })
    }

    /// What the device's reads and writes give, which wait for as long as the kernel likes; none if
    /// that is longer than we do, and they are left behind.
    fn left_behind<T: Send + 'static>(
        &self,
        deadline: Deadline,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, FabricsError> {
        let failed = |source| FabricsError::Device { path: self.path(), source };
        let (answer, answered) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("nvmf-fabrics".to_owned())
            .spawn(move || {
                let _ = answer.send(call());
            })
            .map_err(failed)?;
        match answered.recv_timeout(deadline.remaining().unwrap_or_default()) {
            Ok(value) => Ok(Some(value)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(failed(io::Error::other("its thread died"))),
        }
    }

    fn open(&self) -> Result<File, FabricsError> {
        let path = self.path();
        OpenOptions::new().read(true).write(true).open(&path).map_err(|source| {
            match source.kind() {
                io::ErrorKind::NotFound => FabricsError::NoDevice(path),
                io::ErrorKind::PermissionDenied => FabricsError::Permission(path),
                _ if Errno::from_io_error(&source) == Some(Errno::NODEV) => {
                    FabricsError::NoDevice(path)
                }
                _ => FabricsError::Device { path, source },
            }
        })
    }

    /// Whether the transport's module is there, loaded or built in.
    fn has_transport(&self, transport: &str) -> bool {
        let name = format!("nvme_{transport}");
        self.root.join("sys/module").join(Path::new(&name)).exists()
    }
}

/// Writes the options, in one write, and reads which controller that made.
fn exchange(device: &mut (impl Read + Write), line: &str) -> Result<Connected, FabricsError> {
    let written = device.write(line.as_bytes()).map_err(Refusal::new)?;
    if written != line.len() {
        return Err(FabricsError::Answer(format!("{written} of {} bytes", line.len())));
    }
    let text = read_line(device).map_err(Refusal::new)?;
    connected(&text).ok_or_else(|| FabricsError::Answer(text.chars().take(80).collect()))
}

fn read_line(device: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    device.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// From `instance=3,cntlid=7`.
fn connected(text: &str) -> Option<Connected> {
    let (mut instance, mut cntlid) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("instance", number)) => instance = number.parse().ok(),
            Some(("cntlid", number)) => cntlid = number.parse().ok(),
            _ => {}
        }
    }
    Some(Connected { instance: instance?, cntlid: cntlid? })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use nvme_spec::Nqn;

    use super::super::testing::{LINUX_6_12, Machine, NQN};
    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    fn options() -> Options {
        Options::new("tcp", Nqn::lenient(NQN).unwrap())
    }

    /// A device that takes what is written, or fails so, and then says this.
    struct Double {
        written: Vec<u8>,
        fails: Option<Errno>,
        takes: usize,
        says: Cursor<&'static str>,
    }

    impl Double {
        fn new(fails: Option<Errno>, says: &'static str) -> Self {
            Self { written: Vec::new(), fails, takes: usize::MAX, says: Cursor::new(says) }
        }
    }

    impl Read for Double {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.says.read(into)
        }
    }

    impl Write for Double {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            if let Some(errno) = self.fails {
                return Err(errno.into());
            }
            let taken = from.len().min(self.takes);
            self.written.extend_from_slice(&from[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_options_go_out_and_the_controller_comes_back() {
        let mut device = Double::new(None, "instance=3,cntlid=7\n");
        let connected = exchange(&mut device, "transport=tcp").unwrap();
        assert_eq!((connected.device().as_str(), connected.cntlid), ("nvme3", 7));
        assert_eq!(device.written, b"transport=tcp");
    }

    #[test]
    fn an_answer_that_names_no_controller_is_an_error() {
        for says in
            ["", "instance=-1,cntlid=-1,transport=%s", "instance=3", "instance=3,cntlid=65536"]
        {
            let error = exchange(&mut Double::new(None, says), "transport=tcp").unwrap_err();
            assert!(matches!(error, FabricsError::Answer(_)), "{says}: {error}");
        }
        let mut short = Double { takes: 4, ..Double::new(None, "instance=3,cntlid=7") };
        assert!(matches!(exchange(&mut short, "transport=tcp"), Err(FabricsError::Answer(_))));
    }

    #[test]
    fn the_kernels_errors_are_said_in_words() {
        let said = |errno| {
            exchange(&mut Double::new(Some(errno), ""), "transport=tcp").unwrap_err().to_string()
        };
        for (errno, part) in [
            (Errno::ALREADY, "already connected"),
            (Errno::INVAL, "dmesg"),
            (Errno::CONNREFUSED, "refused the connection"),
            (Errno::HOSTUNREACH, "no way"),
            (Errno::TIMEDOUT, "in time"),
            (Errno::IO, "Connect"),
            (Errno::NODEV, "interface"),
            (Errno::ADDRNOTAVAIL, "address to connect from"),
            (Errno::NOKEY, "key"),
            (Errno::NOSPC, "the kernel says: "),
        ] {
            assert!(said(errno).contains(part), "{errno}: {}", said(errno));
        }
    }

    #[test]
    fn without_the_device_the_error_says_which_module_to_load() {
        let error = Fabrics::at(Machine::new().root()).connect(&options(), soon()).unwrap_err();
        assert!(matches!(error, FabricsError::NoDevice(_)), "{error}");
        assert!(error.to_string().contains("modprobe nvme-tcp"), "{error}");
    }

    #[test]
    fn what_the_kernel_knows_is_read_and_held_against_the_options() {
        let machine = Machine::new();
        machine.file("dev/nvme-fabrics", LINUX_6_12);
        let fabrics = Fabrics::at(machine.root());
        assert!(fabrics.known_options(soon()).unwrap().knows("tls"));
        let concat = Options { concat: true, ..options() };
        let error = fabrics.connect(&concat, soon()).unwrap_err();
        assert!(
            matches!(error, FabricsError::Options(OptionsError::NotKnown("concat"))),
            "{error}"
        );
        // Nothing was written.
        let text = fs::read_to_string(machine.root().join("dev/nvme-fabrics")).unwrap();
        assert_eq!(text, LINUX_6_12);
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_left_behind_at_the_deadline() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let machine = Machine::new();
        machine.file("dev/null", "");
        // Nobody writes into it, so that there is never anything to read.
        let path = machine.root().join("dev/nvme-fabrics");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let deadline = Deadline::after(Duration::from_millis(100));
        let error = Fabrics::at(machine.root()).connect(&options(), deadline).unwrap_err();
        assert!(matches!(error, FabricsError::Busy(_)), "{error}");
        assert!(deadline.has_passed());
    }

    #[test]
    fn a_transport_without_its_module_is_told_from_other_invalid_options() {
        let machine = Machine::new();
        let fabrics = Fabrics::at(machine.root());
        assert!(!fabrics.has_transport("tcp"));
        machine.file("sys/module/nvme_tcp/refcnt", "0");
        assert!(fabrics.has_transport("tcp"));
    }
}
