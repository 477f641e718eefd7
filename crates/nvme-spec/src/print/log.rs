//! Log pages, as `nvme smart-log`, `error-log`, `ana-log`, `discover` and their kin print them.

use core::fmt;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::identify::{Celsius, Named};
use super::{FieldSink, Fields, Value, debug_as_line, give};
use crate::identify::Ascii;
use crate::log::{
    AnaGroup, AnaGroupDescriptor, AnaGroups, AnaHeader, ChangedNamespaceList, CommandEffects,
    DiscoveryEntry, DiscoveryHeader, DiscoveryLog, DiscoveryRecord, ErrorLogEntry,
    ExtendedAttribute, ExtendedAttributeHeader, ExtendedAttributes, ExtendedDiscoveryEntry,
    FeatureEffects, FirmwareSlotLog, GetLogPage, RegisteredController, ReservationNotification,
    ReservationReport, ReservationStatus, SmartLog, SupportedLogPages, adrfam, eflags, exattype,
    lid, notification, rtype, sectype, subtype, treq, trtype,
};
use crate::{feature, log, opcode};

debug_as_line! {
    AnaGroupDescriptor, AnaHeader, ChangedNamespaceList, CommandEffects, DiscoveryEntry,
    DiscoveryHeader, ErrorLogEntry, ExtendedAttributeHeader, ExtendedDiscoveryEntry,
    FeatureEffects, FirmwareSlotLog, RegisteredController, ReservationNotification,
    ReservationStatus, SmartLog, SupportedLogPages,
}

impl Fields for GetLogPage {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex_as("lid", self.lid, log::name(self.lid));
        give!(out, self; hex: lsp; flag: rae; hex: lsi);
        out.number_as("numd", self.numd, format_args!("{} bytes", self.len()));
        give!(out, self; number: offset, uuid_index; flag: ot; number: csi);
    }
}

/// The fields of an Error Information log page, given its entries. Those never used are left out.
#[derive(Clone, Copy)]
pub struct ErrorLogFields<'a>(pub &'a [ErrorLogEntry]);

impl Fields for ErrorLogFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.objects("errors", self.0.iter().filter(|entry| entry.error_count != 0));
    }
}

impl Fields for ErrorLogEntry {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; number: error_count, sqid, cmdid);
        out.hex_as("status_field", self.status().raw(), self.status().name());
        out.number("phase_tag", self.status_field.get() & 1);
        out.number_as("parm_error_location", self.parm_error_location, Location(self));
        give!(out, self; number: lba; hex: nsid; number: vs);
        out.number("trtype", self.trtype);
        give!(out, self; number: csi; hex: opcode, cs, trtype_spec_info);
    }
}

struct Location<'a>(&'a ErrorLogEntry);

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parm_error_location.get() {
            u16::MAX => f.write_str("not of one parameter"),
            at => write!(f, "byte {} bit {}", at & 0xff, at >> 8 & 0x7),
        }
    }
}

impl Fields for SmartLog {
    fn fields(&self, out: &mut dyn FieldSink) {
        const SENSORS: [&str; 8] = [
            "temperature_sensor_1",
            "temperature_sensor_2",
            "temperature_sensor_3",
            "temperature_sensor_4",
            "temperature_sensor_5",
            "temperature_sensor_6",
            "temperature_sensor_7",
            "temperature_sensor_8",
        ];
        out.bits(
            "critical_warning",
            self.critical_warning,
            &[
                (0, "available spare low"),
                (1, "temperature beyond threshold"),
                (2, "reliability degraded"),
                (3, "read-only"),
                (4, "volatile memory backup failed"),
                (5, "persistent memory region read-only"),
            ],
        );
        out.number_as("temperature", self.temperature, Celsius(self.temperature.get()));
        out.number_as("avail_spare", self.avail_spare, "%");
        out.number_as("spare_thresh", self.spare_thresh, "%");
        out.number_as("percent_used", self.percent_used, "%");
        give!(out, self;
            hex: endurance_grp_critical_warning_summary;
            number: data_units_read, data_units_written, host_read_commands, host_write_commands,
                controller_busy_time, power_cycles, power_on_hours, unsafe_shutdowns, media_errors,
                num_err_log_entries, warning_temp_time, critical_comp_time
        );
        for (name, kelvins) in SENSORS.into_iter().zip(self.temperature_sensors) {
            if kelvins != 0 {
                out.number_as(name, kelvins, Celsius(kelvins.get()));
            }
        }
        give!(out, self;
            number: thm_temp1_trans_count, thm_temp2_trans_count, thm_temp1_total_time,
                thm_temp2_total_time
        );
    }
}

impl Fields for FirmwareSlotLog {
    fn fields(&self, out: &mut dyn FieldSink) {
        const SLOTS: [&str; 7] = [
            "Firmware Rev Slot 1",
            "Firmware Rev Slot 2",
            "Firmware Rev Slot 3",
            "Firmware Rev Slot 4",
            "Firmware Rev Slot 5",
            "Firmware Rev Slot 6",
            "Firmware Rev Slot 7",
        ];
        out.hex("Active Firmware Slot (afi)", self.afi);
        for (slot, revision) in self.slots() {
            let index = usize::from(slot) - 1;
            let number = u64::from_le_bytes(self.frs[index]);
            out.text(SLOTS[index], format_args!("{number} ({revision})"));
        }
    }
}

/// nvme-cli names each entry by its index; here it is a list as that of Identify.
impl Fields for ChangedNamespaceList {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.flag("overflow", self.changed().is_none());
        out.list("nsid_list", &Named("nsid", || self.changed().into_iter().flatten()));
    }
}

/// nvme-cli puts opcode and name of a command into the name of a field; here they are fields.
impl Fields for CommandEffects {
    fn fields(&self, out: &mut dyn FieldSink) {
        let supported = |effects: &zerocopy::little_endian::U32| effects.get() & 1 != 0;
        let admin = (0..=u8::MAX).zip(&self.acs).filter(|(_, effects)| supported(effects));
        out.objects(
            "admin_cmd_set",
            admin.map(|(code, effects)| Effects {
                code_name: "opcode",
                code,
                name: opcode::admin_name(code),
                effects: effects.get(),
            }),
        );
        let io = (0..=u8::MAX).zip(&self.iocs).filter(|(_, effects)| supported(effects));
        out.objects(
            "io_cmd_set",
            io.map(|(code, effects)| Effects {
                code_name: "opcode",
                code,
                name: opcode::nvm_name(code),
                effects: effects.get(),
            }),
        );
    }
}

impl Fields for FeatureEffects {
    fn fields(&self, out: &mut dyn FieldSink) {
        let features = (0..=u8::MAX)
            .zip(&self.fids)
            .filter(|(_, effects)| effects.get() & Self::SUPPORTED != 0);
        out.objects(
            "fid_support",
            features.map(|(code, effects)| Effects {
                code_name: "fid",
                code,
                name: feature::name(code),
                effects: effects.get(),
            }),
        );
    }
}

/// What something supported does.
struct Effects {
    code_name: &'static str,
    code: u8,
    name: &'static str,
    effects: u32,
}

impl Fields for Effects {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex(self.code_name, self.code);
        out.text("name", self.name);
        out.bits(
            "effects",
            self.effects,
            &[
                (0, "supported"),
                (1, "changes data"),
                (2, "changes namespace capabilities"),
                (3, "changes namespace inventory"),
                (4, "changes controller capabilities"),
                (19, "UUID selection"),
            ],
        );
    }
}

impl Fields for SupportedLogPages {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.list("supported_logs", &|item: &mut dyn FnMut(Value<'_>)| {
            for lid in self.supported() {
                item(Value::Object(&SupportedPage(lid)));
            }
        });
    }
}

struct SupportedPage(u8);

impl Fields for SupportedPage {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex_as("lid", self.0, log::name(self.0));
    }
}

impl Fields for AnaHeader {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; number: chgcnt, ngrps);
    }
}

impl Fields for AnaGroupDescriptor {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; number: grpid, nnsids, chgcnt);
        match log::AnaState::from_wire(self.state) {
            Some(state) => out.text("state", state),
            None => out.text("state", "invalid state"),
        }
    }
}

impl Fields for AnaGroup<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.descriptor.fields(out);
        out.list("NSIDS", &Named("nsid", || self.nsids.iter().map(|nsid| nsid.get())));
    }
}

impl fmt::Debug for AnaGroup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnaGroup {{ {} }}", super::Line(self))
    }
}

/// The fields of an Asymmetric Namespace Access log page, given its bytes. A page cut short ends
/// with what could be read, and an `error`.
#[derive(Clone, Copy)]
pub struct AnaFields<'a>(pub &'a [u8]);

impl Fields for AnaFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let Some((header, groups)) = AnaGroups::parse(self.0) else {
            out.text("error", log::AnaError::Truncated);
            return;
        };
        header.fields(out);
        // The space at the end of the name is nvme-cli's.
        out.objects("ANA DESC LIST ", groups.clone().map_while(Result::ok));
        if let Some(Err(error)) = groups.last() {
            out.text("error", error);
        }
    }
}

/// Discovery Log Page Flags.
const DLPF: &[(u8, &str)] = &[(0, "extended"), (1, "port local"), (2, "all subsystems")];

impl Fields for DiscoveryHeader {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; number: genctr, numrec, recfmt);
        out.bits("dlpf", self.dlpf, DLPF);
        give!(out, self; number: tdlpl);
    }
}

impl Fields for DiscoveryLog<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("genctr", self.header.genctr);
        if self.header.dlpf != 0 {
            out.bits("dlpf", self.header.dlpf, DLPF);
        }
        out.objects("records", self.records().map_while(Result::ok));
        if let Some(Err(error)) = self.records().find(Result::is_err) {
            out.text("error", error);
        }
    }
}

impl fmt::Debug for DiscoveryLog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiscoveryLog {{ {} }}", super::Line(self))
    }
}

impl Fields for DiscoveryEntry {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("trtype", trtype::name(self.trtype));
        out.text("adrfam", adrfam::name(self.adrfam));
        out.text("subtype", subtype::name(self.subtype));
        out.text("treq", treq::name(self.treq));
        give!(out, self; number: portid);
        out.text("trsvcid", self.service());
        out.text("subnqn", Ascii::new(&self.subnqn));
        out.text("traddr", self.address());
        out.text("eflags", EntryFlags(self.eflags.get()));
        if let Some(sectype) = self.sectype() {
            out.text("sectype", sectype::name(sectype));
        }
    }
}

/// A plain entry, and the attributes of an extended one that has some.
impl Fields for DiscoveryRecord<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.entry.fields(out);
        if self.attributes.clone().next().is_some() {
            out.objects("attributes", self.attributes.clone());
        }
    }
}

impl fmt::Debug for DiscoveryRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiscoveryRecord {{ {} }}", super::Line(self))
    }
}

impl Fields for ExtendedDiscoveryEntry {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.entry.fields(out);
        give!(out, self; number: tel, numexat);
    }
}

impl Fields for ExtendedAttributeHeader {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number_as("exattype", self.exattype, exattype::name(self.exattype.get()));
        give!(out, self; number: exatlen);
    }
}

impl Fields for ExtendedAttribute<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number_as("exattype", self.exattype, exattype::name(self.exattype));
        match self.exattype {
            exattype::LABEL_ASCII | exattype::LABEL_UTF8 => {
                out.text("exatval", Ascii::new(self.value));
            }
            _ => out.bytes("exatval", self.value),
        }
    }
}

impl fmt::Debug for ExtendedAttribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtendedAttribute {{ {} }}", super::Line(self))
    }
}

impl fmt::Debug for ExtendedAttributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Entry flags as nvme-cli writes them, in its order.
struct EntryFlags(u16);

impl fmt::Display for EntryFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(u16, &str); 3] = [
            (eflags::EXPLICIT_PERSISTENT, "explicit discovery connections"),
            (eflags::DUPLICATE, "duplicate discovery information"),
            (eflags::NO_CDC, "no cdc connectivity"),
        ];
        let mut separator = "";
        for (_, name) in NAMES.iter().filter(|(flag, _)| self.0 & flag != 0) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl Fields for ReservationNotification {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; number: count);
        out.number_as(
            "rn_type",
            self.rn_type,
            match self.rn_type {
                notification::EMPTY => "empty",
                notification::REGISTRATION_PREEMPTED => "registration preempted",
                notification::RESERVATION_RELEASED => "reservation released",
                notification::RESERVATION_PREEMPTED => "reservation preempted",
                _ => "reserved",
            },
        );
        give!(out, self; number: num_logs);
        out.hex("NSID", self.nsid);
    }
}

impl Fields for ReservationStatus {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("gen", self.generation);
        out.number_as("rtype", self.rtype, rtype::name(self.rtype));
        give!(out, self; number: regctl, ptpls);
    }
}

impl Fields for ReservationReport<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.status.fields(out);
        out.objects("regctlext", self.controllers.iter());
    }
}

impl fmt::Debug for ReservationReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReservationReport {{ {} }}", super::Line(self))
    }
}

impl Fields for RegisteredController {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; hex: cntlid);
        out.bits("rcsts", self.rcsts, &[(0, "holds the reservation")]);
        give!(out, self; hex: rkey);
        out.bytes("hostid", self.hostid.as_bytes());
    }
}

/// The fields of any log page, given its identifier and its bytes. A page that is not known, or is
/// shorter than its structure, is one field of bytes.
#[derive(Clone, Copy)]
pub struct LogPageFields<'a> {
    /// Log Page Identifier.
    pub lid: u8,
    /// The page.
    pub page: &'a [u8],
}

impl Fields for LogPageFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        match self.lid {
            lid::SUPPORTED => self.whole::<SupportedLogPages>(out),
            lid::SMART => self.whole::<SmartLog>(out),
            lid::FIRMWARE_SLOT => self.whole::<FirmwareSlotLog>(out),
            lid::CHANGED_NAMESPACES => self.whole::<ChangedNamespaceList>(out),
            lid::COMMAND_EFFECTS => self.whole::<CommandEffects>(out),
            lid::FEATURE_EFFECTS => self.whole::<FeatureEffects>(out),
            lid::RESERVATION_NOTIFICATION => self.whole::<ReservationNotification>(out),
            lid::ANA => AnaFields(self.page).fields(out),
            lid::DISCOVERY => match DiscoveryLog::parse(self.page) {
                Some(log) => log.fields(out),
                None => self.raw(out),
            },
            lid::ERROR => {
                let count = self.page.len() / size_of::<ErrorLogEntry>();
                match <[ErrorLogEntry]>::ref_from_prefix_with_elems(self.page, count) {
                    Ok((entries, _)) => ErrorLogFields(entries).fields(out),
                    Err(_) => self.raw(out),
                }
            }
            _ => self.raw(out),
        }
    }
}

impl LogPageFields<'_> {
    fn whole<T: Fields + FromBytes + KnownLayout + Immutable + Unaligned>(
        &self,
        out: &mut dyn FieldSink,
    ) {
        match T::ref_from_prefix(self.page) {
            Ok((page, _)) => page.fields(out),
            Err(_) => self.raw(out),
        }
    }

    fn raw(&self, out: &mut dyn FieldSink) {
        out.bytes("data", self.page);
    }
}
