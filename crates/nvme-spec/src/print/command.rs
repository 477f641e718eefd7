//! Commands and completions. What the dwords of a command mean depends on its opcode, and what that
//! means on the queue, so there are [`AdminCommand`] and [`IoCommand`] beside the bare entry.

use core::fmt;

use super::identify::Size;
use super::{FieldSink, Fields, With, give};
use crate::copy::CopyRequest;
use crate::fabrics::{
    AuthenticationReceive, AuthenticationSend, Connect, ConnectData, Disconnect, PropertyGet,
    PropertySet,
};
use crate::feature::{
    self, AsyncEventConfig, GetFeatures, NumberOfQueues, ReservationNotificationMask,
    ReservationPersistence, Select, SetFeatures, fid,
};
use crate::identify::{Ascii, IdentifyRequest};
use crate::log::GetLogPage;
use crate::opcode::{self, admin, nvm};
use crate::print::property::PropertyValue;
use crate::reservation::{
    AcquireAction, PersistenceChange, RegisterAction, ReportRequest, ReservationAcquire,
    ReservationRegister, ReservationRelease,
};
use crate::{Cqe, HostId, SglDescriptor, Sqe};

/// A command on an admin queue.
#[derive(Clone, Copy)]
pub struct AdminCommand<'a>(pub &'a Sqe);

/// A command on an I/O queue, of the NVM command set.
#[derive(Clone, Copy)]
pub struct IoCommand<'a>(pub &'a Sqe);

/// The entry as it is: Fabrics commands are understood, of others the dwords are given.
impl Fields for Sqe {
    fn fields(&self, out: &mut dyn FieldSink) {
        if self.is_fabrics() {
            return fabrics(self, out);
        }
        start(self, out, None);
        out.hex("nsid", self.nsid);
        raw_dwords(self, out);
        out.object("sgl", &self.sgl);
    }
}

impl Fields for AdminCommand<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let sqe = self.0;
        if sqe.is_fabrics() {
            return fabrics(sqe, out);
        }
        start(sqe, out, Some(opcode::admin_name(sqe.opcode)));
        out.hex("nsid", sqe.nsid);
        match sqe.opcode {
            admin::IDENTIFY => IdentifyRequest::from_sqe(sqe).fields(out),
            admin::GET_LOG_PAGE => GetLogPage::from_sqe(sqe).fields(out),
            admin::GET_FEATURES => match GetFeatures::from_cdw10(sqe.cdw(10)) {
                Some(get) => {
                    out.hex_as("fid", get.fid, feature::name(get.fid));
                    out.text(
                        "sel",
                        match get.select {
                            Select::Current => "current",
                            Select::Default => "default",
                            Select::Saved => "saved",
                            Select::Supported => "supported",
                        },
                    );
                    out.hex("cdw11", sqe.cdw(11));
                }
                None => raw_dwords(sqe, out),
            },
            admin::SET_FEATURES => set_features(sqe, out),
            admin::ABORT => {
                let [sqid0, sqid1, cid0, cid1] = sqe.cdw(10).to_le_bytes();
                out.number("sqid", u16::from_le_bytes([sqid0, sqid1]));
                out.number("abort_cid", u16::from_le_bytes([cid0, cid1]));
            }
            admin::KEEP_ALIVE | admin::ASYNC_EVENT_REQUEST => return,
            _ => raw_dwords(sqe, out),
        }
        out.object("sgl", &sqe.sgl);
    }
}

fn set_features(sqe: &Sqe, out: &mut dyn FieldSink) {
    let set = SetFeatures::from_cdw10(sqe.cdw(10));
    let value = sqe.cdw(11);
    out.hex_as("fid", set.fid, feature::name(set.fid));
    out.flag("sv", set.save);
    match set.fid {
        fid::NUMBER_OF_QUEUES => match NumberOfQueues::from_request(value) {
            Some(queues) => queues.fields(out),
            None => out.hex_as("cdw11", value, "invalid"),
        },
        fid::ASYNC_EVENT_CONFIG => AsyncEventConfig(value).fields(out),
        fid::KEEP_ALIVE_TIMER => out.number_as("kato", value, "ms"),
        fid::RESERVATION_MASK => ReservationNotificationMask(value).fields(out),
        fid::RESERVATION_PERSISTENCE => ReservationPersistence(value).fields(out),
        _ => out.hex("cdw11", value),
    }
}

impl Fields for IoCommand<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let sqe = self.0;
        if sqe.is_fabrics() {
            return fabrics(sqe, out);
        }
        start(sqe, out, Some(opcode::nvm_name(sqe.opcode)));
        out.hex("nsid", sqe.nsid);
        match sqe.opcode {
            nvm::FLUSH => return,
            nvm::READ | nvm::WRITE | nvm::COMPARE | nvm::VERIFY => blocks(sqe, out),
            nvm::WRITE_ZEROES | nvm::WRITE_UNCORRECTABLE => {
                blocks(sqe, out);
                out.flag("deac", sqe.cdw(12) >> 25 & 1 != 0);
                return;
            }
            nvm::DATASET_MANAGEMENT => {
                out.number("nr", (sqe.cdw(10) & 0xff) + 1);
                out.bits(
                    "attributes",
                    sqe.cdw(11) & 0x7,
                    &[(0, "integral read"), (1, "integral write"), (2, "deallocate")],
                );
            }
            nvm::COPY => {
                let copy = CopyRequest::from_sqe(sqe);
                give!(out, copy; number: sdlba);
                out.number("nr", copy.ranges());
                out.number("desfmt", copy.format);
                out.flag("fua", copy.fua);
                out.flag("lr", copy.lr);
            }
            nvm::RESERVATION_REGISTER => match ReservationRegister::from_sqe(sqe) {
                Some(register) => register.fields(out),
                None => raw_dwords(sqe, out),
            },
            nvm::RESERVATION_ACQUIRE => match ReservationAcquire::from_sqe(sqe) {
                Some(acquire) => acquire.fields(out),
                None => raw_dwords(sqe, out),
            },
            nvm::RESERVATION_RELEASE => match ReservationRelease::from_sqe(sqe) {
                Some(release) => release.fields(out),
                None => raw_dwords(sqe, out),
            },
            nvm::RESERVATION_REPORT => {
                let report = ReportRequest::from_sqe(sqe);
                out.number_as("numd", report.numd, Size(report.len()));
                out.flag("eds", report.extended);
            }
            _ => raw_dwords(sqe, out),
        }
        out.object("sgl", &sqe.sgl);
    }
}

impl Fields for ReservationRegister {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text(
            "rrega",
            match self.action {
                RegisterAction::Register => "register",
                RegisterAction::Unregister => "unregister",
                RegisterAction::Replace => "replace",
            },
        );
        out.flag("iekey", self.ignore_key);
        out.text(
            "cptpl",
            match self.persistence {
                PersistenceChange::Keep => "no change",
                PersistenceChange::Clear => "clear",
                PersistenceChange::Set => "set",
            },
        );
    }
}

impl Fields for ReservationAcquire {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text(
            "racqa",
            match self.action {
                AcquireAction::Acquire => "acquire",
                AcquireAction::Preempt => "preempt",
                AcquireAction::PreemptAndAbort => "preempt and abort",
            },
        );
        out.number_as("rtype", self.rtype.to_wire(), self.rtype.name());
    }
}

impl Fields for ReservationRelease {
    fn fields(&self, out: &mut dyn FieldSink) {
        match self {
            Self::Release(rtype) => {
                out.text("rrela", "release");
                out.number_as("rtype", rtype.to_wire(), rtype.name());
            }
            Self::Clear => out.text("rrela", "clear"),
        }
    }
}

fn blocks(sqe: &Sqe, out: &mut dyn FieldSink) {
    out.number("slba", sqe.slba());
    out.number("blocks", sqe.block_count());
    out.flag("fua", sqe.cdw(12) >> 30 & 1 != 0);
    out.flag("lr", sqe.cdw(12) >> 31 != 0);
}

/// What all commands have: opcode, identifier, flags.
fn start(sqe: &Sqe, out: &mut dyn FieldSink, name: Option<&'static str>) {
    match name {
        Some(name) => out.hex_as("opcode", sqe.opcode, name),
        None => out.hex("opcode", sqe.opcode),
    }
    out.number("cid", sqe.cid);
    match sqe.fuse() {
        0 => {}
        fuse => out.number_as(
            "fuse",
            fuse,
            match fuse {
                1 => "first",
                2 => "second",
                _ => "reserved",
            },
        ),
    }
    if sqe.flags & Sqe::PSDT_MASK != Sqe::PSDT_SGL {
        out.number_as("psdt", sqe.psdt(), "not allowed over fabrics");
    }
}

fn raw_dwords(sqe: &Sqe, out: &mut dyn FieldSink) {
    const NAMES: [&str; 6] = ["cdw10", "cdw11", "cdw12", "cdw13", "cdw14", "cdw15"];
    for (name, dword) in NAMES.into_iter().zip(sqe.cdw10) {
        out.hex(name, dword);
    }
}

fn fabrics(sqe: &Sqe, out: &mut dyn FieldSink) {
    start(sqe, out, Some("Fabrics"));
    out.hex_as("fctype", sqe.fctype(), opcode::fabrics_name(sqe.fctype()));
    if let Some(connect) = Connect::from_sqe(sqe) {
        give!(out, connect; number: recfmt, qid);
        let entries = u32::from(connect.sqsize.get()) + 1;
        out.number_as("sqsize", connect.sqsize, format_args!("{entries} entries"));
        out.bits(
            "cattr",
            connect.cattr,
            &[(2, "disable SQ flow control"), (3, "individual I/O queue deletion")],
        );
        out.number_as("kato", connect.kato, "ms");
    } else if let Some(get) = PropertyGet::from_sqe(sqe) {
        give!(out, get; number: attrib);
        out.hex_as("ofst", get.ofst, property_name(get.ofst.get()));
        return;
    } else if let Some(set) = PropertySet::from_sqe(sqe) {
        give!(out, set; number: attrib);
        out.hex_as("ofst", set.ofst, property_name(set.ofst.get()));
        out.object("value", &PropertyValue { offset: set.ofst.get(), value: set.value.get() });
        return;
    } else if let Some(send) = AuthenticationSend::from_sqe(sqe) {
        give!(out, send; hex: spsp0, spsp1, secp; number: tl);
    } else if let Some(receive) = AuthenticationReceive::from_sqe(sqe) {
        give!(out, receive; hex: spsp0, spsp1, secp; number: al);
    } else if let Some(disconnect) = Disconnect::from_sqe(sqe) {
        give!(out, disconnect; number: recfmt);
        return;
    } else {
        raw_dwords(sqe, out);
    }
    out.object("sgl", &sqe.sgl);
}

fn property_name(offset: u32) -> &'static str {
    crate::property::name(offset).unwrap_or("unknown")
}

impl Fields for SglDescriptor {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; hex: address);
        let length = self.length.get();
        out.number_as("length", length, Size(length.into()));
        out.hex_as(
            "identifier",
            self.identifier,
            match self.identifier {
                Self::IN_CAPSULE => "in the capsule",
                Self::TRANSPORT => "by the transport",
                _ => "not of NVMe/TCP",
            },
        );
    }
}

impl Fields for Cqe {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("cid", self.cid);
        let status = self.status();
        let meaning = With(|f: &mut fmt::Formatter<'_>| {
            f.write_str(status.name())?;
            f.write_str(if status.more() { ", more" } else { "" })?;
            f.write_str(if status.dnr() { ", dnr" } else { "" })
        });
        out.hex_as("status", status.raw(), meaning);
        give!(out, self; hex: dw0, dw1; number: sqhd, sqid);
    }
}

impl Fields for ConnectData {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("hostid", HostId(self.hostid));
        match self.cntlid.get() {
            Self::CNTLID_DYNAMIC => out.hex_as("cntlid", self.cntlid, "dynamic"),
            Self::CNTLID_STATIC_ANY => out.hex_as("cntlid", self.cntlid, "any static"),
            _ => out.hex("cntlid", self.cntlid),
        }
        out.text("subnqn", Ascii::new(&self.subnqn));
        out.text("hostnqn", Ascii::new(&self.hostnqn));
    }
}
