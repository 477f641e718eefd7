//! The options that a controller is made with.

use std::fmt;

use nvme_spec::{HostId, Nqn};

use super::known::KnownOptions;

/// Everything that a kernel can be told of a controller that it is to make. What is left out is as
/// the kernel has it by default.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The transport: `tcp`, `rdma`, `fc` or `loop`.
    pub transport: String,
    /// The subsystem.
    pub nqn: Nqn,
    /// The target's address; of TCP and RDMA an IP address, which has to be one and no name.
    pub traddr: Option<String>,
    /// The target's port.
    pub trsvcid: Option<String>,
    /// Who the host says it is. Left out, the kernel makes up a name each time it is loaded.
    pub hostnqn: Option<Nqn>,
    /// The host's identifier.
    pub hostid: Option<HostId>,
    /// The address of this machine to connect from.
    pub host_traddr: Option<String>,
    /// The network interface to connect by.
    pub host_iface: Option<String>,
    /// Entries of an I/O queue, 16 to 1024.
    pub queue_size: Option<u32>,
    /// I/O queues, at least 1; the kernel takes no more than it has processors.
    pub nr_io_queues: Option<u32>,
    /// I/O queues on top that only writes use, at least 1.
    pub nr_write_queues: Option<u32>,
    /// I/O queues on top that are polled, at least 1.
    pub nr_poll_queues: Option<u32>,
    /// Keep Alive Timeout in seconds.
    pub keep_alive_tmo: Option<u32>,
    /// Seconds between two attempts to connect again, at least 1.
    pub reconnect_delay: Option<u32>,
    /// Seconds after which a controller that is lost is given up; negative for never.
    pub ctrl_loss_tmo: Option<i32>,
    /// Seconds after which commands fail while the controller is lost; negative for not before it
    /// is given up.
    pub fast_io_fail_tmo: Option<i32>,
    /// The type of service of the connection's packets.
    pub tos: Option<u8>,
    /// Connect although there is a controller of the same subsystem, address and host.
    pub duplicate_connect: bool,
    /// Do without submission queue flow control.
    pub disable_sqflow: bool,
    /// Digests of PDU headers.
    pub hdr_digest: bool,
    /// Digests of data.
    pub data_digest: bool,
    /// The subsystem is a discovery subsystem, though its name does not say so.
    pub discovery: bool,
    /// The secret by which the host authenticates itself.
    pub dhchap_secret: Option<Secret>,
    /// The secret by which the controller has to authenticate itself.
    pub dhchap_ctrl_secret: Option<Secret>,
    /// TLS.
    pub tls: bool,
    /// TLS with a key from the authentication (secure channel concatenation).
    pub concat: bool,
    /// The serial number of the keyring that TLS keys are looked for in.
    pub keyring: Option<i32>,
    /// The serial number of the TLS key.
    pub tls_key: Option<i32>,
}

/// Why a controller cannot be asked for with these options.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The running kernel does not know the option.
    #[error("this kernel does not know the option {0}")]
    NotKnown(&'static str),
    /// A value would be taken for more than one option.
    #[error(
        "{name} cannot have {found:?} in it: the kernel would take what follows for another option"
    )]
    Character {
        /// The option.
        name: &'static str,
        /// What is in its value.
        found: char,
    },
    /// A value is empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A number that the kernel would refuse.
    #[error("{name} is {value}, and the kernel takes {allowed}")]
    OutOfRange {
        /// The option.
        name: &'static str,
        /// Its value.
        value: i64,
        /// What it may be.
        allowed: &'static str,
    },
    /// All options together are too long.
    #[error("the options have {0} bytes together, and the kernel takes 4096")]
    TooLong(usize),
}

/// The most that the kernel takes: a page, which is no smaller anywhere.
const MOST: usize = 4096;

impl Options {
    /// A controller of this subsystem, all else as the kernel has it by default.
    pub fn new(transport: &str, nqn: Nqn) -> Self {
        Self {
            transport: transport.to_owned(),
            nqn,
            traddr: None,
            trsvcid: None,
            hostnqn: None,
            hostid: None,
            host_traddr: None,
            host_iface: None,
            queue_size: None,
            nr_io_queues: None,
            nr_write_queues: None,
            nr_poll_queues: None,
            keep_alive_tmo: None,
            reconnect_delay: None,
            ctrl_loss_tmo: None,
            fast_io_fail_tmo: None,
            tos: None,
            duplicate_connect: false,
            disable_sqflow: false,
            hdr_digest: false,
            data_digest: false,
            discovery: false,
            dhchap_secret: None,
            dhchap_ctrl_secret: None,
            tls: false,
            concat: false,
            keyring: None,
            tls_key: None,
        }
    }

    /// The line that is written to `/dev/nvme-fabrics`: `transport=tcp,nqn=…,hdr_digest`.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for an option that the kernel does not know, or a value that it would take for
    /// something else or refuse without saying why.
    pub fn to_line(&self, known: &KnownOptions) -> Result<String, OptionsError> {
        self.check_numbers()?;
        let mut line = String::new();
        for (name, value) in self.settings() {
            if !known.knows(name) {
                return Err(OptionsError::NotKnown(name));
            }
            if !line.is_empty() {
                line.push(',');
            }
            line.push_str(name);
            if let Some(value) = value {
                check_text(name, &value)?;
                line.push('=');
                line.push_str(&value);
            }
        }
        if line.len() > MOST { Err(OptionsError::TooLong(line.len())) } else { Ok(line) }
    }

    /// What was asked for, by the kernel's names; options without a value have `None`.
    fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        let values = [
            ("transport", Some(self.transport.clone())),
            ("traddr", self.traddr.clone()),
            ("trsvcid", self.trsvcid.clone()),
            ("nqn", Some(self.nqn.to_string())),
            ("hostnqn", text(self.hostnqn.as_ref())),
            ("hostid", text(self.hostid)),
            ("host_traddr", self.host_traddr.clone()),
            ("host_iface", self.host_iface.clone()),
            ("queue_size", text(self.queue_size)),
            ("nr_io_queues", text(self.nr_io_queues)),
            ("nr_write_queues", text(self.nr_write_queues)),
            ("nr_poll_queues", text(self.nr_poll_queues)),
            ("keep_alive_tmo", text(self.keep_alive_tmo)),
            ("reconnect_delay", text(self.reconnect_delay)),
            ("ctrl_loss_tmo", text(self.ctrl_loss_tmo)),
            ("fast_io_fail_tmo", text(self.fast_io_fail_tmo)),
            ("tos", text(self.tos)),
            ("dhchap_secret", self.dhchap_secret.as_ref().map(|secret| secret.0.clone())),
            ("dhchap_ctrl_secret", self.dhchap_ctrl_secret.as_ref().map(|secret| secret.0.clone())),
            ("keyring", text(self.keyring)),
            ("tls_key", text(self.tls_key)),
        ];
        let flags = [
            ("duplicate_connect", self.duplicate_connect),
            ("disable_sqflow", self.disable_sqflow),
            ("hdr_digest", self.hdr_digest),
            ("data_digest", self.data_digest),
            ("discovery", self.discovery),
            ("tls", self.tls),
            ("concat", self.concat),
        ];
        let values = values.into_iter().filter(|(_, value)| value.is_some());
        let flags = flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, None));
        values.chain(flags).collect()
    }

    /// The numbers that are not of any value that their types can have.
    fn check_numbers(&self) -> Result<(), OptionsError> {
        const POSITIVE: &str = "1 to 2147483647";
        let positive = 1..=i64::from(i32::MAX);
        let numbers = [
            ("queue_size", self.queue_size.map(i64::from), 16..=1024, "16 to 1024"),
            ("nr_io_queues", self.nr_io_queues.map(i64::from), positive.clone(), POSITIVE),
            ("nr_write_queues", self.nr_write_queues.map(i64::from), positive.clone(), POSITIVE),
            ("nr_poll_queues", self.nr_poll_queues.map(i64::from), positive.clone(), POSITIVE),
            ("reconnect_delay", self.reconnect_delay.map(i64::from), positive.clone(), POSITIVE),
            (
                "keep_alive_tmo",
                self.keep_alive_tmo.map(i64::from),
                0..=i64::from(i32::MAX),
                "0 to 2147483647",
            ),
            ("keyring", self.keyring.map(i64::from), positive.clone(), POSITIVE),
            ("tls_key", self.tls_key.map(i64::from), positive, POSITIVE),
        ];
        for (name, value, range, allowed) in numbers {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                return Err(OptionsError::OutOfRange { name, value, allowed });
            }
        }
        Ok(())
    }
}

fn text(value: Option<impl fmt::Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Options are separated by commas, and there is no way to write one that is meant.
fn check_text(name: &'static str, value: &str) -> Result<(), OptionsError> {
    if value.is_empty() {
        return Err(OptionsError::Empty(name));
    }
    match value.chars().find(|c| *c == ',' || c.is_control()) {
        Some(found) => Err(OptionsError::Character { name, found }),
        None => Ok(()),
    }
}

/// A secret of in-band authentication in its text form, `DHHC-1:00:…:`. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A text is no secret. It is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a secret has the form DHHC-1:00:BASE64: (`nvme gen-dhchap-key` makes one)")]
pub struct SecretError;

impl Secret {
    /// From its text form. What is in it is left for the kernel to judge.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if it has not the form at all.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":+/=-".contains(&byte);
        let rest = text.strip_prefix("DHHC-1:").ok_or(SecretError)?;
        // The kernel wants at least 11 characters.
        if rest.len() < 4 || !rest.ends_with(':') || !rest.bytes().all(allowed) {
            return Err(SecretError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{LINUX_6_12, NQN};
    use super::*;

    fn known() -> KnownOptions {
        KnownOptions::parse(LINUX_6_12).unwrap()
    }

    fn options() -> Options {
        Options::new("tcp", Nqn::lenient(NQN).unwrap())
    }

    fn everything() -> Options {
        let secret = Secret::new("DHHC-1:00:c2VjcmV0:").unwrap();
        Options {
            traddr: Some("192.0.2.7".to_owned()),
            trsvcid: Some("4420".to_owned()),
            hostnqn: Some(Nqn::lenient("nqn.2026-01.org.example:host").unwrap()),
            hostid: Some(HostId([1; 16])),
            host_traddr: Some("192.0.2.1".to_owned()),
            host_iface: Some("eth0".to_owned()),
            queue_size: Some(64),
            nr_io_queues: Some(1),
            nr_write_queues: Some(2),
            nr_poll_queues: Some(3),
            keep_alive_tmo: Some(0),
            reconnect_delay: Some(1),
            ctrl_loss_tmo: Some(-1),
            fast_io_fail_tmo: Some(-1),
            tos: Some(255),
            duplicate_connect: true,
            disable_sqflow: true,
            hdr_digest: true,
            data_digest: true,
            discovery: true,
            dhchap_secret: Some(secret.clone()),
            dhchap_ctrl_secret: Some(secret),
            tls: true,
            concat: true,
            keyring: Some(5),
            tls_key: Some(6),
            ..options()
        }
    }

    #[test]
    fn what_is_left_out_is_not_written() {
        assert_eq!(options().to_line(&known()).unwrap(), format!("transport=tcp,nqn={NQN}"));
        let digests = Options { hdr_digest: true, ctrl_loss_tmo: Some(-1), ..options() };
        let line = digests.to_line(&known()).unwrap();
        assert_eq!(line, format!("transport=tcp,nqn={NQN},ctrl_loss_tmo=-1,hdr_digest"));
    }

    #[test]
    fn every_option_of_the_kernel_can_be_given_and_no_other_is() {
        let with_concat = KnownOptions::parse(&format!("{},concat", LINUX_6_12.trim())).unwrap();
        let line = everything().to_line(&with_concat).unwrap();
        let mut written: Vec<_> =
            line.split(',').map(|part| part.split('=').next().unwrap()).collect();
        written.sort_unstable();
        assert_eq!(written, with_concat.names().collect::<Vec<_>>());
        assert!(line.contains("hostid=01010101-0101-0101-0101-010101010101"), "{line}");
        assert!(line.contains("dhchap_secret=DHHC-1:00:c2VjcmV0:"), "{line}");
    }

    #[test]
    fn an_option_that_the_kernel_does_not_know_is_refused_by_name() {
        let error = everything().to_line(&known()).unwrap_err();
        assert_eq!(error, OptionsError::NotKnown("concat"));
        assert!(everything().to_line(&KnownOptions::untold()).is_ok());
    }

    #[test]
    fn a_value_cannot_bring_other_options_with_it() {
        for (value, found) in
            [("eth0,tls", ','), ("eth0\ntls", '\n'), ("a\0b", '\0'), ("\u{1b}[0m", '\u{1b}')]
        {
            let error = Options { host_iface: Some(value.to_owned()), ..options() }
                .to_line(&known())
                .unwrap_err();
            assert_eq!(error, OptionsError::Character { name: "host_iface", found });
        }
        let nqn = Nqn::lenient("nqn.2026-01.org.example:a,discovery").unwrap();
        let error = Options { nqn, ..options() }.to_line(&known()).unwrap_err();
        assert_eq!(error, OptionsError::Character { name: "nqn", found: ',' });
        let error = Options { traddr: Some(String::new()), ..options() }.to_line(&known());
        assert_eq!(error, Err(OptionsError::Empty("traddr")));
    }

    #[test]
    fn numbers_that_the_kernel_refuses_are_said_with_what_it_takes() {
        let refused = |options: Options| options.to_line(&known()).unwrap_err().to_string();
        for size in [0, 15, 1025] {
            let said = refused(Options { queue_size: Some(size), ..options() });
            assert_eq!(said, format!("queue_size is {size}, and the kernel takes 16 to 1024"));
        }
        for many in [0, u32::MAX] {
            assert!(refused(Options { nr_io_queues: Some(many), ..options() }).contains("nr_io"));
            assert!(
                refused(Options { reconnect_delay: Some(many), ..options() }).contains("delay")
            );
        }
        assert!(refused(Options { tls_key: Some(-1), ..options() }).contains("tls_key is -1"));
    }

    #[test]
    fn more_than_a_page_is_refused() {
        let long = Options { host_iface: Some("x".repeat(4096)), ..options() };
        assert!(matches!(long.to_line(&known()), Err(OptionsError::TooLong(_))));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", everything()).contains("c2VjcmV0"));
        let malformed =
            ["", "DHHC-1:", "DHHC-1:00:", "DHHC-1:00:a,tls:", "dhhc-1:00:abcd:", "DHHC-1:00:ab\n:"];
        for text in malformed {
            assert!(Secret::new(text).is_err(), "{text:?}");
        }
    }
}
