//! The whole of it: ask the target, have the kernel connect, wait for the disks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{Checked, check};
use super::fabrics::{Connected, Fabrics, FabricsError};
use super::options::{Options, OptionsError};
use super::sysfs::{Sysfs, SysfsError};
use super::topology::Namespace;
use crate::host::{HostOptions, TcpDialer};
use crate::{Deadline, Error};

/// The kernel's host, whole.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Where controllers are made.
    pub fabrics: Fabrics,
    /// Where it says which there are.
    pub sysfs: Sysfs,
}

/// How [`Kernel::connect`] goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The target is asked first, by this way and as this host; see [`Plan::can_check`].
    pub check: Option<(&'a TcpDialer, &'a HostOptions)>,
    /// How long the kernel may take to connect.
    pub connect: Duration,
    /// How long its disks may take after that.
    pub disks: Duration,
}

impl<'a> Plan<'a> {
    /// With a check, a minute to connect and ten seconds for the disks.
    pub fn checked(dialer: &'a TcpDialer, host: &'a HostOptions) -> Self {
        Self { check: Some((dialer, host)), ..Self::unchecked() }
    }

    /// The same without a check.
    pub fn unchecked() -> Self {
        Self { check: None, connect: Duration::from_secs(60), disks: Duration::from_secs(10) }
    }

    /// Whether a check means something: with TLS, authentication, or a way that the kernel is told to
    /// take and a program is not, a target may well answer one and not the other.
    pub fn can_check(options: &Options) -> bool {
        !(options.tls
            || options.concat
            || options.dhchap_secret.is_some()
            || options.host_traddr.is_some()
            || options.host_iface.is_some())
    }
}

/// A controller that was made, and what came with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// The controller.
    pub connected: Connected,
    /// What it was made with.
    pub options: Options,
    /// Its namespaces.
    pub namespaces: Vec<Namespace>,
    /// Namespaces that the target has and the kernel has made no disks of in time.
    pub missing: Vec<u32>,
}

/// Why a subsystem is not connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoffError {
    /// There is a controller for it.
    #[error("this host is already connected to it as {0}; --duplicate-connect connects once more")]
    AlreadyConnected(String),
    /// The target, asked first, does not let this host use it.
    #[error(transparent)]
    Check(#[from] Error),
    /// The kernel cannot connect.
    #[error(transparent)]
    Fabrics(#[from] FabricsError),
    /// It is connected, and what the kernel says of it cannot be read.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
}

impl From<OptionsError> for HandoffError {
    fn from(error: OptionsError) -> Self {
        Self::Fabrics(error.into())
    }
}

impl Kernel {
    /// This machine's.
    pub fn system() -> Self {
        Self::at("/")
    }

    /// That of the machine whose file system starts at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { fabrics: Fabrics::at(root.clone()), sysfs: Sysfs::at(root) }
    }

    /// Asks the target, has the kernel connect, and waits for the disks.
    ///
    /// Where the target was asked, the address that answered is the one that the kernel gets, and a
    /// discovery subsystem with a name of its own is told to be one.
    ///
    /// # Errors
    ///
    /// [`HandoffError`], by who does not play along. What is wrong with the options, or missing on this
    /// machine, is said before the target is asked.
    pub fn connect(&self, options: &Options, plan: &Plan<'_>) -> Result<Made, HandoffError> {
        options.to_line(&self.fabrics.known_options(Deadline::after(plan.connect))?)?;
        self.require_new(options)?;
        let mut options = options.clone();
        let checked = match plan.check {
            Some((dialer, host)) => Some(check(dialer, &options.nqn, host)?),
            None => None,
        };
        if let Some(checked) = &checked {
            options.traddr = Some(traddr(checked.address));
            options.discovery |= checked.is_discovery && !options.nqn.is_discovery();
            self.require_new(&options)?;
        }
        let connected = self.fabrics.connect(&options, Deadline::after(plan.connect))?;
        let (namespaces, missing) = self.disks(&connected, checked, plan.disks)?;
        Ok(Made { connected, options, namespaces, missing })
    }

    fn require_new(&self, options: &Options) -> Result<(), HandoffError> {
        if options.duplicate_connect {
            return Ok(());
        }
        match self.sysfs.controllers()?.into_iter().find(|controller| controller.matches(options)) {
            Some(controller) => Err(HandoffError::AlreadyConnected(controller.name)),
            None => Ok(()),
        }
    }

    /// The controller's namespaces, and those that did not become disks.
    fn disks(
        &self,
        connected: &Connected,
        checked: Option<Checked>,
        patience: Duration,
    ) -> Result<(Vec<Namespace>, Vec<u32>), SysfsError> {
        let wanted = checked.map(|checked| checked.namespaces);
        let deadline = Deadline::after(patience);
        let found =
            self.sysfs.wait_for_namespaces(&connected.device(), wanted.as_deref(), deadline)?;
        let is_there = |nsid: &u32| found.iter().any(|namespace| namespace.nsid == Some(*nsid));
        let missing =
            wanted.unwrap_or_default().into_iter().filter(|nsid| !is_there(nsid)).collect();
        Ok((found, missing))
    }
}

/// An address as the kernel takes it, without its port; that of a link says by which interface.
pub fn traddr(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        other => other.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use nvme_spec::Nqn;

    use super::super::testing::{LINUX_6_12, Machine, NQN};
    use super::*;

    fn options() -> Options {
        Options {
            traddr: Some("192.0.2.7".to_owned()),
            trsvcid: Some("4420".to_owned()),
            ..Options::new("tcp", Nqn::lenient(NQN).unwrap())
        }
    }

    #[test]
    fn a_subsystem_that_is_connected_is_not_connected_again() {
        let machine = Machine::new();
        machine.file("dev/nvme-fabrics", LINUX_6_12);
        machine.subsystem(0, NQN);
        machine.controller(5, 0, "192.0.2.7");
        let error = Kernel::at(machine.root()).connect(&options(), &Plan::unchecked()).unwrap_err();
        assert!(
            matches!(&error, HandoffError::AlreadyConnected(device) if device == "nvme5"),
            "{error}"
        );
    }

    #[test]
    fn what_this_machine_lacks_is_said_before_the_target_is_asked() {
        // Nobody listens there; it would be said if somebody had looked.
        let dialer = TcpDialer::new(([127, 0, 0, 1], 1).into());
        let host = HostOptions::new(Nqn::lenient(NQN).unwrap(), nvme_spec::HostId([1; 16]));
        let machine = Machine::new();
        let connect =
            || Kernel::at(machine.root()).connect(&options(), &Plan::checked(&dialer, &host));
        let error = connect().unwrap_err();
        assert!(matches!(error, HandoffError::Fabrics(FabricsError::NoDevice(_))), "{error}");
        machine.file("dev/nvme-fabrics", LINUX_6_12);
        let error = connect().unwrap_err();
        assert!(matches!(error, HandoffError::Check(_)), "{error}");
    }

    #[test]
    fn there_is_no_check_of_what_only_the_kernel_can_do() {
        assert!(Plan::can_check(&options()));
        assert!(!Plan::can_check(&Options { tls: true, ..options() }));
        assert!(!Plan::can_check(&Options { host_iface: Some("eth1".to_owned()), ..options() }));
    }

    #[test]
    fn an_address_of_a_link_says_by_which_interface() {
        let link = SocketAddrV6::new("fe80::1".parse::<Ipv6Addr>().unwrap(), 4420, 0, 3);
        assert_eq!(traddr(link.into()), "fe80::1%3");
        assert_eq!(traddr("[2001:db8::7]:4420".parse().unwrap()), "2001:db8::7");
        assert_eq!(traddr("192.0.2.7:4420".parse().unwrap()), "192.0.2.7");
    }
}
