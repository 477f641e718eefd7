//! The kernel of the machine that the program runs on.

#![allow(unsafe_code, reason = "system calls that move structures with pointers in them")]

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;

use rustix::ioctl::{NoArg, Opcode, Updater, ioctl};

use super::controller::Which;
use super::ioctl::{
    CTL_DISABLE_PORT, CTL_ENABLE_PORT, CTL_NVMF, CTL_PORT_REQ, CtlNvmf, CtlPortEntry, CtlReq,
    IocNv, NVMF_CONNECTION_STATUS, NVMF_DISCONNECT_ALL, NVMF_DISCONNECT_HOST, NVMF_HANDOFF_HOST,
    NVMF_RECONNECT_HOST, NVMF_RECONNECT_PARAMS,
};
use super::kernel::{ControllerName, CtlReply, Kernel, PortAction};

const NVMF: &str = "/dev/nvmf";
const CTL: &str = "/dev/cam/ctl";

/// As long a list is taken from the kernel.
const MOST: usize = 1 << 20;
/// A list that grew while it was asked for is asked for as often.
const ATTEMPTS: u32 = 4;

/// FreeBSD's kernel, by the devices of its modules nvmf and nvmft, which only root may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct System;

impl Kernel for System {
    fn handoff_host(&mut self, packed: &[u8]) -> io::Result<()> {
        let file = open(NVMF)?;
        // SAFETY: the argument of this call is a `nvmf_ioc_nv`, whose list the kernel only reads,
        // and which outlives the call.
        unsafe { call::<{ NVMF_HANDOFF_HOST as Opcode }, _>(&file, &mut IocNv::of(packed)) }
    }

    fn reconnect_host(&mut self, controller: &ControllerName, packed: &[u8]) -> io::Result<()> {
        let file = open(&device(controller))?;
        // SAFETY: as in `handoff_host`.
        unsafe { call::<{ NVMF_RECONNECT_HOST as Opcode }, _>(&file, &mut IocNv::of(packed)) }
    }

    fn reconnect_params(&mut self, controller: &ControllerName) -> io::Result<Vec<u8>> {
        fetch(&device(controller), |file, list| {
            // SAFETY: the argument of this call is a `nvmf_ioc_nv`, which `fetch` gives the room
            // that it names.
            unsafe { call::<{ NVMF_RECONNECT_PARAMS as Opcode }, _>(file, list) }
        })
    }

    fn connection_status(&mut self, controller: &ControllerName) -> io::Result<Vec<u8>> {
        fetch(&device(controller), |file, list| {
            // SAFETY: as in `reconnect_params`.
            unsafe { call::<{ NVMF_CONNECTION_STATUS as Opcode }, _>(file, list) }
        })
    }

    fn disconnect_host(&mut self, name: &str) -> io::Result<()> {
        let file = open(NVMF)?;
        let name = CString::new(name).map_err(io::Error::from)?;
        let mut pointer: *const c_char = name.as_ptr();
        // SAFETY: the argument of this call is a pointer to a text closed by NUL, which outlives
        // the call.
        unsafe { call::<{ NVMF_DISCONNECT_HOST as Opcode }, _>(&file, &mut pointer) }
    }

    fn disconnect_all(&mut self) -> io::Result<()> {
        let file = open(NVMF)?;
        // SAFETY: this call has no argument.
        unsafe { ioctl(&file, NoArg::<{ NVMF_DISCONNECT_ALL as Opcode }>::new()) }?;
        Ok(())
    }

    fn ctl_handoff(&mut self, packed: &[u8]) -> io::Result<CtlReply> {
        let mut request = CtlNvmf::handoff(packed);
        // SAFETY: of this kind the kernel reads the list, which outlives the call.
        unsafe { ctl_nvmf(&mut request) }
    }

    fn ctl_list(&mut self, room: &mut [u8]) -> io::Result<(CtlReply, usize)> {
        let mut request = CtlNvmf::list(room);
        // SAFETY: of this kind the kernel writes to the room and no further than it is long.
        let reply = unsafe { ctl_nvmf(&mut request) }?;
        // SAFETY: the request was made as one of this kind, and the kernel leaves it one.
        let filled = unsafe { request.data.list.fill_len };
        Ok((reply, filled as usize))
    }

    fn ctl_terminate(&mut self, which: &Which) -> io::Result<CtlReply> {
        let mut request = CtlNvmf::terminate(which);
        // SAFETY: of this kind there are no pointers.
        unsafe { ctl_nvmf(&mut request) }
    }

    fn ctl_port(
        &mut self,
        action: PortAction,
        packed: &[u8],
        room: &mut [u8],
    ) -> io::Result<(CtlReply, usize)> {
        let file = open(CTL)?;
        let mut request = CtlReq::new(action, packed, room);
        // SAFETY: the argument of this call is a `ctl_req`. The kernel reads the arguments and
        // writes to the room, no further than it is long; both outlive the call.
        unsafe { call::<{ CTL_PORT_REQ as Opcode }, _>(&file, &mut request) }?;
        Ok((CtlReply::new(request.status, &request.error_str), request.result_len))
    }

    fn ctl_enable_port(&mut self, port: i32, enable: bool) -> io::Result<()> {
        let file = open(CTL)?;
        let mut entry = CtlPortEntry::of(port);
        // SAFETY: the argument of both calls is a `ctl_port_entry`, which has no pointers.
        unsafe {
            if enable {
                call::<{ CTL_ENABLE_PORT as Opcode }, _>(&file, &mut entry)
            } else {
                call::<{ CTL_DISABLE_PORT as Opcode }, _>(&file, &mut entry)
            }
        }
    }
}

fn device(controller: &ControllerName) -> String {
    format!("/dev/{controller}")
}

fn open(device: &str) -> io::Result<File> {
    File::options().read(true).write(true).open(device)
}

/// One call.
///
/// # Safety
///
/// `T` is what the kernel expects as this call's argument, and what pointers in it point to is
/// there for as long as the call lasts, to be used as the kernel uses it.
unsafe fn call<const REQUEST: Opcode, T>(file: &File, argument: &mut T) -> io::Result<()> {
    // SAFETY: what `Updater` asks for is what this function asks for.
    unsafe { ioctl(file, Updater::<REQUEST, T>::new(argument)) }?;
    Ok(())
}

/// `CTL_NVMF`.
///
/// # Safety
///
/// What pointers in the request point to is there for as long as the call lasts.
unsafe fn ctl_nvmf(request: &mut CtlNvmf) -> io::Result<CtlReply> {
    let file = open(CTL)?;
    // SAFETY: the argument of this call is a `ctl_nvmf`; the rest is the caller's promise.
    unsafe { call::<{ CTL_NVMF as Opcode }, _>(&file, request) }?;
    Ok(CtlReply::new(request.status, &request.error_str))
}

/// Asks how long a list is, then for the list.
fn fetch(device: &str, call: impl Fn(&File, &mut IocNv) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let file = open(device)?;
    for _ in 0..ATTEMPTS {
        let mut list = IocNv::room(&mut []);
        call(&file, &mut list)?;
        if list.len > MOST {
            return Err(io::Error::other(format!("the list has {} bytes", list.len)));
        }
        let mut room = vec![0; list.len];
        let mut list = IocNv::room(&mut room);
        match call(&file, &mut list) {
            Ok(()) => {
                room.truncate(list.len);
                return Ok(room);
            }
            // It is longer by now.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("the list grew each of the {ATTEMPTS} times it was asked for")))
}
