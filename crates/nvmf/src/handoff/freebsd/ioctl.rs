//! The numbers of FreeBSD's calls, and the structures that they move (`sys/dev/nvmf/nvmf.h`,
//! `sys/cam/ctl/ctl_ioctl.h`, `sys/cam/ctl/ctl.h`).
//!
//! Compiled, and its numbers tested, on every Unix: they depend on the size of pointers alone.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;

use super::controller::Which;
use super::kernel::PortAction;

/// Length of the words in which the target layer says what is wrong.
pub(super) const ERROR_STR: usize = 160;

/// Which way a call's argument goes.
const VOID: u32 = 0x2000_0000;
const OUT: u32 = 0x4000_0000;
const IN: u32 = 0x8000_0000;

/// A call's number (`_IOC`).
const fn number(direction: u32, group: u8, number: u8, argument: usize) -> u32 {
    assert!(argument < 1 << 13, "an argument has at most 8191 bytes");
    #[allow(clippy::cast_possible_truncation, reason = "asserted above")]
    let argument = argument as u32;
    direction | argument << 16 | (group as u32) << 8 | number as u32
}

const NVMF: u8 = b'n';
const CTL: u8 = 225;

pub(super) const NVMF_HANDOFF_HOST: u32 = number(IN, NVMF, 200, size_of::<IocNv>());
pub(super) const NVMF_DISCONNECT_HOST: u32 = number(IN, NVMF, 201, size_of::<*const c_char>());
pub(super) const NVMF_DISCONNECT_ALL: u32 = number(VOID, NVMF, 202, 0);
pub(super) const NVMF_RECONNECT_PARAMS: u32 = number(IN | OUT, NVMF, 203, size_of::<IocNv>());
pub(super) const NVMF_RECONNECT_HOST: u32 = number(IN, NVMF, 204, size_of::<IocNv>());
pub(super) const NVMF_CONNECTION_STATUS: u32 = number(IN | OUT, NVMF, 205, size_of::<IocNv>());
pub(super) const CTL_ENABLE_PORT: u32 = number(IN, CTL, 0x04, size_of::<CtlPortEntry>());
pub(super) const CTL_DISABLE_PORT: u32 = number(IN, CTL, 0x05, size_of::<CtlPortEntry>());
pub(super) const CTL_PORT_REQ: u32 = number(IN | OUT, CTL, 0x26, size_of::<CtlReq>());
pub(super) const CTL_NVMF: u32 = number(IN | OUT, CTL, 0x2b, size_of::<CtlNvmf>());

/// A packed list (`struct nvmf_ioc_nv`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct IocNv {
    pub(super) data: *mut c_void,
    /// Set by the kernel: how much it has, or has written.
    pub(super) len: usize,
    /// How much is at `data`: of a list that the kernel takes, its length. Where the kernel gives
    /// one, 0 asks how long it is.
    pub(super) size: usize,
}

impl IocNv {
    /// A list for the kernel.
    pub(super) fn of(packed: &[u8]) -> Self {
        Self { data: packed.as_ptr().cast_mut().cast(), len: packed.len(), size: packed.len() }
    }

    /// Room for a list of the kernel's.
    pub(super) fn room(room: &mut [u8]) -> Self {
        Self { data: room.as_mut_ptr().cast(), len: 0, size: room.len() }
    }
}

/// `struct ctl_nvmf`.
#[repr(C)]
pub(super) struct CtlNvmf {
    pub(super) kind: c_int,
    pub(super) data: CtlNvmfData,
    pub(super) status: c_int,
    pub(super) error_str: [u8; ERROR_STR],
}

/// `union ctl_nvmf_data`.
#[repr(C)]
pub(super) union CtlNvmfData {
    pub(super) handoff: IocNv,
    pub(super) list: ListParams,
    pub(super) terminate: TerminateParams,
}

/// `struct ctl_nvmf_list_params`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ListParams {
    alloc_len: u32,
    conn_xml: *mut c_char,
    pub(super) fill_len: u32,
    spare: [c_int; 4],
}

/// `struct ctl_nvmf_terminate_params`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TerminateParams {
    cntlid: c_int,
    hostnqn: [u8; 256],
    all: c_int,
    spare: [c_int; 4],
}

impl CtlNvmf {
    /// `CTL_NVMF_HANDOFF`.
    pub(super) fn handoff(packed: &[u8]) -> Self {
        Self::new(0, CtlNvmfData { handoff: IocNv::of(packed) })
    }

    /// `CTL_NVMF_LIST`.
    pub(super) fn list(room: &mut [u8]) -> Self {
        let list = ListParams {
            alloc_len: u32::try_from(room.len()).unwrap_or(u32::MAX),
            conn_xml: room.as_mut_ptr().cast(),
            fill_len: 0,
            spare: [0; 4],
        };
        Self::new(1, CtlNvmfData { list })
    }

    /// `CTL_NVMF_TERMINATE`.
    pub(super) fn terminate(which: &Which) -> Self {
        Self::new(2, CtlNvmfData { terminate: TerminateParams::of(which) })
    }

    fn new(kind: c_int, data: CtlNvmfData) -> Self {
        // Until the kernel has said something it has failed.
        Self { kind, data, status: super::controller::status::ERROR, error_str: [0; ERROR_STR] }
    }
}

impl TerminateParams {
    fn of(which: &Which) -> Self {
        let none = Self { cntlid: -1, hostnqn: [0; 256], all: 0, spare: [0; 4] };
        match which {
            Which::All => Self { all: 1, ..none },
            Which::Controller(cntlid) => Self { cntlid: (*cntlid).into(), ..none },
            Which::Host(host) => Self { hostnqn: host.to_wire(), ..none },
        }
    }
}

/// `struct ctl_req`.
#[repr(C)]
pub(super) struct CtlReq {
    driver: [u8; 32],
    reqtype: c_int,
    args: *mut c_void,
    args_nvl: *mut c_void,
    args_len: usize,
    result: *mut c_void,
    result_nvl: *mut c_void,
    /// In: room for the result. Out: its length, if there is one.
    pub(super) result_len: usize,
    pub(super) status: c_int,
    pub(super) error_str: [u8; ERROR_STR],
}

impl CtlReq {
    pub(super) fn new(action: PortAction, packed: &[u8], room: &mut [u8]) -> Self {
        let mut driver = [0; 32];
        driver[..4].copy_from_slice(b"nvmf");
        Self {
            driver,
            reqtype: match action {
                PortAction::Create => 0,
                PortAction::Remove => 1,
            },
            args: packed.as_ptr().cast_mut().cast(),
            args_nvl: null_mut(),
            args_len: packed.len(),
            result: room.as_mut_ptr().cast(),
            result_nvl: null_mut(),
            result_len: room.len(),
            status: super::controller::port_status::ERROR,
            error_str: [0; ERROR_STR],
        }
    }
}

/// `struct ctl_port_entry`.
#[repr(C)]
pub(super) struct CtlPortEntry {
    /// 0: the one port of this number.
    port_type: c_int,
    port_name: [u8; 64],
    targ_port: i32,
    physical_port: c_int,
    virtual_port: c_int,
    flags: c_uint,
    wwnn: u64,
    wwpn: u64,
    online: c_int,
}

impl CtlPortEntry {
    pub(super) fn of(port: i32) -> Self {
        Self {
            port_type: 0,
            port_name: [0; 64],
            targ_port: port,
            physical_port: 0,
            virtual_port: 0,
            flags: 0,
            wwnn: 0,
            wwpn: 0,
            online: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::Nqn;

    /// What FreeBSD's headers give on amd64 and arm64.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_numbers_are_those_of_the_headers() {
        assert_eq!(NVMF_HANDOFF_HOST, 0x8018_6ec8);
        assert_eq!(NVMF_DISCONNECT_HOST, 0x8008_6ec9);
        assert_eq!(NVMF_DISCONNECT_ALL, 0x2000_6eca);
        assert_eq!(NVMF_RECONNECT_PARAMS, 0xc018_6ecb);
        assert_eq!(NVMF_RECONNECT_HOST, 0x8018_6ecc);
        assert_eq!(NVMF_CONNECTION_STATUS, 0xc018_6ecd);
        assert_eq!(CTL_ENABLE_PORT, 0x8070_e104);
        assert_eq!(CTL_DISABLE_PORT, 0x8070_e105);
        assert_eq!(CTL_PORT_REQ, 0xc100_e126);
        assert_eq!(CTL_NVMF, 0xc1c8_e12b);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn fields_are_where_the_headers_have_them() {
        use std::mem::offset_of;
        assert_eq!(offset_of!(CtlNvmf, data), 8);
        assert_eq!(offset_of!(CtlNvmf, status), 288);
        assert_eq!(offset_of!(ListParams, conn_xml), 8);
        assert_eq!(offset_of!(ListParams, fill_len), 16);
        assert_eq!(offset_of!(TerminateParams, all), 260);
        assert_eq!(offset_of!(CtlReq, args), 40);
        assert_eq!(offset_of!(CtlReq, result_len), 80);
        assert_eq!(offset_of!(CtlReq, error_str), 92);
        assert_eq!(offset_of!(CtlPortEntry, targ_port), 68);
        assert_eq!(offset_of!(CtlPortEntry, wwnn), 88);
    }

    #[test]
    fn a_request_points_at_what_it_moves_and_has_failed_until_the_kernel_answers() {
        let mut room = [0; 80];
        let request = CtlReq::new(PortAction::Remove, &[1, 2, 3], &mut room);
        assert_eq!((request.args_len, request.result_len, request.reqtype), (3, 80, 1));
        assert_eq!((&request.driver[..5], request.status), (&b"nvmf\0"[..], 2));
        assert!(request.args_nvl.is_null() && request.result_nvl.is_null());
        let list = IocNv::of(&[1, 2]);
        assert_eq!((list.len, list.size), (2, 2));
        assert_eq!(IocNv::room(&mut room).size, 80);
        assert_eq!(CtlNvmf::handoff(&[1]).kind, 0);
        assert_eq!(CtlNvmf::list(&mut room).kind, 1);
        let request = CtlNvmf::terminate(&Which::All);
        assert_eq!((request.kind, request.status), (2, 1));
        assert_eq!(CtlPortEntry::of(7).targ_port, 7);
    }

    #[test]
    fn who_is_to_go_is_told_in_one_field_alone() {
        let host = Nqn::lenient("nqn.2026-01.test:host").unwrap();
        let fields = |which| {
            let TerminateParams { cntlid, hostnqn, all, .. } = TerminateParams::of(&which);
            (cntlid, hostnqn, all)
        };
        assert_eq!(fields(Which::All), (-1, [0; 256], 1));
        assert_eq!(fields(Which::Controller(0xffef)), (0xffef, [0; 256], 0));
        assert_eq!(fields(Which::Host(Box::new(host.clone()))), (-1, host.to_wire(), 0));
    }
}
