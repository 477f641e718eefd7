//! What can be said to the kernel, and the names by which it is said.

use std::fmt;
use std::io;

use super::controller::Which;

/// FreeBSD's kernel, as far as queue pairs are handed to it: one method for each of its calls.
///
/// `packed` is an encoded [`NvList`](super::nvlist::NvList). An error is what the system call gave.
pub trait Kernel {
    /// `NVMF_HANDOFF_HOST`: makes a controller of an association.
    fn handoff_host(&mut self, packed: &[u8]) -> io::Result<()>;

    /// `NVMF_RECONNECT_HOST`: gives a controller that lost its association another.
    fn reconnect_host(&mut self, controller: &ControllerName, packed: &[u8]) -> io::Result<()>;

    /// `NVMF_RECONNECT_PARAMS`: what the controller's association was made with.
    fn reconnect_params(&mut self, controller: &ControllerName) -> io::Result<Vec<u8>>;

    /// `NVMF_CONNECTION_STATUS`: whether it has an association.
    fn connection_status(&mut self, controller: &ControllerName) -> io::Result<Vec<u8>>;

    /// `NVMF_DISCONNECT_HOST`: ends the controllers of this device name or subsystem NQN.
    fn disconnect_host(&mut self, name: &str) -> io::Result<()>;

    /// `NVMF_DISCONNECT_ALL`: ends all of them.
    fn disconnect_all(&mut self) -> io::Result<()>;

    /// `CTL_NVMF` with `CTL_NVMF_HANDOFF`: gives a Connect with its queue pair to a port.
    fn ctl_handoff(&mut self, packed: &[u8]) -> io::Result<CtlReply>;

    /// `CTL_NVMF` with `CTL_NVMF_LIST`: writes what associations there are to `room`, and says how
    /// many bytes.
    fn ctl_list(&mut self, room: &mut [u8]) -> io::Result<(CtlReply, usize)>;

    /// `CTL_NVMF` with `CTL_NVMF_TERMINATE`: ends associations.
    fn ctl_terminate(&mut self, which: &Which) -> io::Result<CtlReply>;

    /// `CTL_PORT_REQ` of the frontend "nvmf": writes the result to `room`, and says how many bytes.
    fn ctl_port(
        &mut self,
        action: PortAction,
        packed: &[u8],
        room: &mut [u8],
    ) -> io::Result<(CtlReply, usize)>;

    /// `CTL_ENABLE_PORT`, `CTL_DISABLE_PORT`.
    fn ctl_enable_port(&mut self, port: i32, enable: bool) -> io::Result<()>;
}

/// What is done with a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortAction {
    /// It is made.
    Create,
    /// It is taken away.
    Remove,
}

/// How the target layer answers: a status, whose meaning depends on the call, and words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CtlReply {
    /// The status.
    pub status: i32,
    /// What is wrong, if something is.
    pub message: String,
}

impl CtlReply {
    /// From the fields of the kernel's structures.
    pub fn new(status: i32, error_str: &[u8]) -> Self {
        let text = error_str.split(|byte| *byte == 0).next().unwrap_or_default();
        Self { status, message: String::from_utf8_lossy(text).into_owned() }
    }
}

/// A controller of nvmf(4) by its device: `nvme0` and its like.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct ControllerName(String);

/// A name is none of a controller.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no controller: they are called nvme0, nvme1 …")]
pub struct NotAName(pub String);

impl ControllerName {
    /// From `nvme0` or `/dev/nvme0`.
    ///
    /// # Errors
    ///
    /// It is another name, perhaps that of a namespace.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        let is_number =
            |n: &str| (1..=9).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
        match name.strip_prefix("nvme") {
            Some(number) if is_number(number) => Ok(Self(name.to_owned())),
            _ => Err(NotAName(text.to_owned())),
        }
    }

    /// The name without a directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ControllerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A call of the kernel failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed: {source}{}", hint(source))]
pub struct KernelError {
    /// Which call.
    pub call: &'static str,
    /// Why.
    pub source: io::Error,
}

impl KernelError {
    pub(super) fn of(call: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self { call, source }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (is it a device of FreeBSD, and is nvmf or nvmft loaded?)",
        io::ErrorKind::PermissionDenied => " (only root may)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_have_a_number_and_namespaces_are_none() {
        for (text, name) in [("nvme0", "nvme0"), ("/dev/nvme12", "nvme12")] {
            assert_eq!(ControllerName::parse(text).unwrap().as_str(), name);
        }
        for text in ["", "nvme", "nvme0ns1", "nda0", "/dev/../nvme0", "nvme-1", "nvme1234567890"] {
            let error = ControllerName::parse(text).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn the_words_of_a_reply_end_at_their_nul() {
        let reply = CtlReply::new(1, b"Unknown SubNQN\0 and what was there before");
        assert_eq!((reply.status, reply.message.as_str()), (1, "Unknown SubNQN"));
        assert_eq!(CtlReply::new(0, b"").message, "");
        assert_eq!(CtlReply::new(0, b"\xff").message, "\u{fffd}");
    }

    #[test]
    fn a_missing_device_comes_with_what_to_look_for() {
        let error = KernelError::of("NVMF_HANDOFF_HOST")(io::ErrorKind::NotFound.into());
        let text = error.to_string();
        assert!(text.contains("NVMF_HANDOFF_HOST") && text.contains("loaded"), "{text}");
    }
}
