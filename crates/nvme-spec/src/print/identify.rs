//! The Identify data structures, as `nvme id-ctrl`, `id-ns` and their kin print them.

use core::fmt;

use super::{FieldSink, Fields, List, Value, With, debug_as_line, give};
use crate::identify::{
    ActiveNamespaceList, CommandSetList, ControllerList, Descriptors, ExtendedLbaFormat,
    IdentifyController, IdentifyControllerNvm, IdentifyNamespace, IdentifyNamespaceNvm,
    IdentifyRequest, IndependentNamespace, LbaFormat, NamespaceId, PowerState, cns,
    controller_type,
};
use crate::nqn::UuidText;

debug_as_line! {
    ActiveNamespaceList, CommandSetList, ControllerList, ExtendedLbaFormat, IdentifyController,
    IdentifyControllerNvm, IdentifyNamespace, IdentifyNamespaceNvm, IndependentNamespace, LbaFormat,
    PowerState,
}

impl Fields for IdentifyRequest {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex_as("cns", self.cns, cns::name(self.cns));
        give!(out, self; hex: cntid, cnssid; number: csi, uuid_index);
    }
}

const CMIC: &[(u8, &str)] =
    &[(0, "multi-port"), (1, "multi-controller"), (2, "SR-IOV"), (3, "ANA")];
const OAES: &[(u8, &str)] = &[
    (8, "namespace attribute"),
    (9, "firmware activation"),
    (11, "ANA change"),
    (12, "predictable latency"),
    (13, "LBA status"),
    (14, "endurance group"),
    (15, "normal shutdown"),
    (16, "temperature hysteresis"),
    (17, "reachability group"),
    (19, "allocated namespace attribute"),
    (27, "zone descriptor"),
    (31, "discovery log page"),
];
const CTRATT: &[(u8, &str)] = &[
    (0, "128-bit host identifier"),
    (1, "non-operational power state permissive"),
    (2, "NVM sets"),
    (3, "read recovery levels"),
    (4, "endurance groups"),
    (5, "predictable latency"),
    (6, "traffic based keep alive"),
    (7, "namespace granularity"),
    (8, "SQ associations"),
    (9, "UUID list"),
    (10, "multi-domain"),
    (11, "fixed capacity"),
    (12, "variable capacity"),
    (13, "delete endurance group"),
    (14, "delete NVM set"),
    (15, "extended LBA formats"),
    (16, "MDTS excludes metadata"),
    (17, "HMB restrict"),
    (18, "reservations and host identifier interaction"),
    (19, "flexible data placement"),
];
const OACS: &[(u8, &str)] = &[
    (0, "security"),
    (1, "format"),
    (2, "firmware"),
    (3, "namespace management"),
    (4, "self-test"),
    (5, "directives"),
    (6, "NVMe-MI"),
    (7, "virtualization"),
    (8, "doorbell buffer"),
    (9, "LBA status"),
    (10, "lockdown"),
    (11, "host managed live migration"),
];
const LPA: &[(u8, &str)] = &[
    (0, "SMART per namespace"),
    (1, "command effects"),
    (2, "extended data"),
    (3, "telemetry"),
    (4, "persistent event"),
    (5, "supported pages and effects"),
    (6, "telemetry area 4"),
];
const ANACAP: &[(u8, &str)] = &[
    (0, "optimized"),
    (1, "non-optimized"),
    (2, "inaccessible"),
    (3, "persistent loss"),
    (4, "change"),
    (6, "ANAGRPID does not change"),
    (7, "nonzero ANAGRPID in namespace management"),
];
const ONCS: &[(u8, &str)] = &[
    (0, "compare"),
    (1, "write uncorrectable"),
    (2, "dataset management"),
    (3, "write zeroes"),
    (4, "save and select"),
    (5, "reservations"),
    (6, "timestamp"),
    (7, "verify"),
    (8, "copy"),
    (9, "copy single atomicity"),
    (10, "all fast copy"),
    (11, "write zeroes deallocate"),
    (12, "namespace zeroes"),
];
const SGLS: &[(u8, &str)] = &[
    (0, "supported"),
    (1, "dword aligned"),
    (2, "keyed"),
    (16, "bit bucket"),
    (17, "byte aligned metadata"),
    (18, "longer than data"),
    (19, "metadata SGL"),
    (20, "address as offset"),
    (21, "transport"),
];

impl Fields for IdentifyController {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; hex: vid, ssvid);
        out.text("sn", self.serial_number());
        out.text("mn", self.model_number());
        out.text("fr", self.firmware_revision());
        give!(out, self; number: rab);
        out.hex("ieee", self.oui());
        out.bits("cmic", self.cmic, CMIC);
        match self.max_transfer(4096) {
            Some(bytes) => out.number_as("mdts", self.mdts, Size(bytes)),
            None => out.number_as("mdts", self.mdts, "no limit"),
        }
        give!(out, self; hex: cntlid);
        out.hex_as("ver", self.ver, Version(self.ver.get()));
        out.number_as("rtd3r", self.rtd3r, "us");
        out.number_as("rtd3e", self.rtd3e, "us");
        out.bits("oaes", self.oaes, OAES);
        out.bits("ctratt", self.ctratt, CTRATT);
        give!(out, self; hex: rrls, bpcap; number: nssl; hex: plsi);
        out.number_as(
            "cntrltype",
            self.cntrltype,
            match self.cntrltype {
                0 => "not reported",
                controller_type::IO => "I/O",
                controller_type::DISCOVERY => "discovery",
                controller_type::ADMIN => "administrative",
                _ => "reserved",
            },
        );
        out.text("fguid", UuidText(self.fguid));
        give!(out, self;
            number: crdt1, crdt2, crdt3;
            hex: crcap;
            number: ciu;
            hex: cirn, nvmsr, vwci, mec
        );
        out.bits("oacs", self.oacs, OACS);
        give!(out, self; number: acl, aerl; hex: frmw);
        out.bits("lpa", self.lpa, LPA);
        give!(out, self; number: elpe, npss; hex: avscc, apsta);
        out.number_as("wctemp", self.wctemp, Celsius(self.wctemp.get()));
        out.number_as("cctemp", self.cctemp, Celsius(self.cctemp.get()));
        give!(out, self;
            number: mtfa, hmpre, hmmin, tnvmcap, unvmcap;
            hex: rpmbs;
            number: edstt, dsto, fwug
        );
        out.number_as("kas", self.kas, Tenths(self.kas.get()));
        give!(out, self;
            hex: hctma;
            number: mntmt, mxtmt;
            hex: sanicap;
            number: hmminds, hmmaxd, nsetidmax, endgidmax
        );
        out.number_as("anatt", self.anatt, "s");
        out.bits("anacap", self.anacap, ANACAP);
        give!(out, self;
            number: anagrpmax, nanagrpid, pels, domainid;
            hex: kpioc;
            number: mptfawr, megcap;
            hex: tmpthha
        );
        out.number_as("cqt", self.cqt, "ms");
        give!(out, self; hex: cdpa; number: mup, ipmsr, msmt);
        out.hex_as("sqes", self.sqes, EntrySizes(self.sqes));
        out.hex_as("cqes", self.cqes, EntrySizes(self.cqes));
        give!(out, self; number: maxcmd, nn);
        out.bits("oncs", self.oncs, ONCS);
        out.bits("fuses", self.fuses, &[(0, "compare and write")]);
        give!(out, self; hex: fna);
        out.hex_as(
            "vwc",
            self.vwc,
            match self.vwc & 0b111 {
                0b000 | 0b010 | 0b100 | 0b110 => "no volatile write cache",
                0b101 => "present, flush of all namespaces not supported",
                0b111 => "present, flush of all namespaces supported",
                _ => "present",
            },
        );
        give!(out, self;
            number: awun, awupf;
            hex: icsvscc, nwpc;
            number: acwu;
            hex: ocfs
        );
        out.bits("sgls", self.sgls, SGLS);
        give!(out, self;
            number: mnan, maxdna, maxcna, oaqd, rhiri, hirt, cmmrtd, nmmrtd, minmrtg, maxmrtg;
            hex: trattr;
            number: mcudmq, mnsudmq, mcmr, nmcmr, mcdqpc
        );
        out.text("subnqn", crate::identify::Ascii::new(&self.subnqn));
        out.number_as(
            "ioccsz",
            self.ioccsz,
            With(|f: &mut fmt::Formatter<'_>| {
                write!(f, "{} of in-capsule data", Size(self.in_capsule_data()))
            }),
        );
        give!(out, self; number: iorcsz, icdoff);
        out.hex_as(
            "fcatt",
            self.fcatt,
            match self.fcatt & 1 {
                0 => "dynamic controllers",
                _ => "static controllers",
            },
        );
        give!(out, self; number: msdbd);
        out.bits("ofcs", self.ofcs, &[(0, "disconnect")]);
        give!(out, self; number: dctype, ccrl);
        out.objects("psds", self.psd.iter().take(usize::from(self.npss) + 1));
    }
}

/// `major.minor.tertiary`.
pub(super) struct Version(pub(super) u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 >> 16, self.0 >> 8 & 0xff, self.0 & 0xff)
    }
}

/// Bytes, in the greatest unit that keeps them whole.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        let (mut size, mut unit) = (self.0, 0);
        while size != 0 && size.is_multiple_of(1024) && unit + 1 < units.len() {
            size /= 1024;
            unit += 1;
        }
        write!(f, "{size} {}", units[unit])
    }
}

/// Kelvins, as degrees Celsius.
pub(super) struct Celsius(pub(super) u16);

impl fmt::Display for Celsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("not reported"),
            kelvins => write!(f, "{} °C", i32::from(kelvins) - 273),
        }
    }
}

/// Units of 100 ms.
struct Tenths(u16);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", u32::from(self.0) * 100)
    }
}

/// Required and maximum size of a queue entry, as powers of two.
struct EntrySizes(u8);

impl fmt::Display for EntrySizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} bytes", 1u32 << (self.0 & 0xf), 1u32 << (self.0 >> 4))
    }
}

impl Fields for PowerState {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("max_power", self.mp);
        out.number("max_power_scale", self.flags & 1);
        out.number("non-operational_state", self.flags >> 1 & 1);
        out.number("entry_lat", self.enlat);
        out.number("exit_lat", self.exlat);
        out.number("read_tput", self.rrt);
        out.number("read_lat", self.rrl);
        out.number("write_tput", self.rwt);
        out.number("write_lat", self.rwl);
        out.number("idle_power", self.idlp);
        out.number("idle_scale", self.ips >> 6);
        out.number("active_power", self.actp);
        out.number("active_power_work", self.apws & 7);
        out.number("active_scale", self.apws >> 6);
        out.number("emerg_power_fail_recover_time", self.epfrt);
        out.number("emerg_power_fail_recover_scale", self.epfr_fqv_ts & 0xf);
        out.number("force_quiesce_vault_time", self.fqvt);
        out.number("force_quiesce_vault_scale", self.epfr_fqv_ts >> 4);
        out.number("emerg_power_fail_vault_time", self.epfvt);
        out.number("emerg_power_fail_vault_scale", self.epfvts & 0xf);
    }
}

const NMIC: &[(u8, &str)] = &[(0, "shared"), (1, "dispersed")];
const RESCAP: &[(u8, &str)] = &[
    (0, "persist through power loss"),
    (1, "write exclusive"),
    (2, "exclusive access"),
    (3, "write exclusive, registrants only"),
    (4, "exclusive access, registrants only"),
    (5, "write exclusive, all registrants"),
    (6, "exclusive access, all registrants"),
    (7, "IEKEY of 1.3"),
];

impl Fields for IdentifyNamespace {
    fn fields(&self, out: &mut dyn FieldSink) {
        match self.block_size() {
            Some(block) => {
                let size = With(|f: &mut fmt::Formatter<'_>| {
                    match self.nsze.get().checked_mul(u64::from(block)) {
                        Some(bytes) => write!(f, "{}", Size(bytes)),
                        None => f.write_str("more than 16 EiB"),
                    }
                });
                out.number_as("nsze", self.nsze, size);
            }
            None => out.number("nsze", self.nsze),
        }
        give!(out, self; number: ncap, nuse);
        out.bits(
            "nsfeat",
            self.nsfeat,
            &[
                (0, "thin provisioning"),
                (1, "atomic write units"),
                (2, "deallocated block error"),
                (3, "identifiers not reused"),
                (4, "optimal write sizes"),
                (5, "large deallocate sizes"),
            ],
        );
        give!(out, self; number: nlbaf);
        out.hex_as(
            "flbas",
            self.flbas,
            With(|f: &mut fmt::Formatter<'_>| {
                let metadata =
                    if self.flbas & 0x10 != 0 { ", metadata within the data" } else { "" };
                write!(f, "format {}{metadata}", self.format_index())
            }),
        );
        give!(out, self; hex: mc, dpc, dps);
        out.bits("nmic", self.nmic, NMIC);
        out.bits("rescap", self.rescap, RESCAP);
        give!(out, self; hex: fpi);
        out.hex_as(
            "dlfeat",
            self.dlfeat,
            match self.dlfeat & 0x7 {
                1 => "deallocated blocks read as zeroes",
                2 => "deallocated blocks read as ones",
                _ => "what deallocated blocks read as is not reported",
            },
        );
        give!(out, self;
            number: nawun, nawupf, nacwu, nabsn, nabo, nabspf, noiob, nvmcap
        );
        if self.nsfeat & 0x30 != 0 {
            give!(out, self; number: npwg, npwa);
            if self.nsfeat & 0x10 != 0 {
                give!(out, self; number: npdg);
            }
            give!(out, self; number: npda, nows);
        }
        give!(out, self;
            number: mssrl, mcl, msrc;
            hex: kpios;
            number: nulbaf, kpiodaag, anagrpid
        );
        out.bits("nsattr", self.nsattr, &[(0, "write protected")]);
        give!(out, self; number: nvmsetid, endgid);
        out.bytes("nguid", &self.nguid);
        out.bytes("eui64", &self.eui64);
        out.objects("lbafs", self.lbaf.iter().take(usize::from(self.nlbaf) + 1));
    }
}

impl Fields for LbaFormat {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("ms", self.ms);
        match self.block_size() {
            Some(size) => out.number_as("ds", self.ds, format_args!("{size} bytes")),
            None => out.number("ds", self.ds),
        }
        out.number_as(
            "rp",
            self.rp,
            match self.rp & 0x3 {
                0 => "best",
                1 => "better",
                2 => "good",
                _ => "degraded",
            },
        );
    }
}

impl Fields for IndependentNamespace {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; hex: nsfeat);
        out.bits("nmic", self.nmic, NMIC);
        out.bits("rescap", self.rescap, RESCAP);
        give!(out, self; hex: fpi; number: anagrpid);
        out.bits("nsattr", self.nsattr, &[(0, "write protected")]);
        give!(out, self; number: nvmsetid, endgid);
        out.bits("nstat", self.nstat, &[(0, "ready")]);
        give!(out, self; hex: kpios; number: maxkt, rgrpid);
    }
}

/// Extended formats are listed up to the last that says something; how many count is in the
/// namespace's own NLBAF.
impl Fields for IdentifyNamespaceNvm {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; hex: lbstm, pic, pifa);
        let formats = self.elbaf.iter().rposition(|f| f.elbaf.get() != 0).map_or(1, |i| i + 1);
        out.objects("elbafs", self.elbaf.iter().take(formats));
        give!(out, self; number: npdgl, nprg, npra, nors, npdal, lbapss, tlbaag);
    }
}

impl Fields for ExtendedLbaFormat {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("sts", self.sts());
        out.number_as(
            "pif",
            self.pif(),
            match self.pif() {
                0 => "16-bit guard",
                1 => "32-bit guard",
                2 => "64-bit guard",
                _ => "qualified",
            },
        );
        out.number("qpif", self.qpif());
    }
}

impl Fields for IdentifyControllerNvm {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self;
            number: vsl, wzsl, wusl, dmrl, dmrsl, dmsl;
            hex: kpiocap;
            number: wzdsl;
            hex: aocs
        );
        out.hex_as("ver", self.ver, Version(self.ver.get()));
        give!(out, self; hex: lbamqf);
    }
}

impl Fields for CommandSetList {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.list("iocsc", &|item: &mut dyn FnMut(Value<'_>)| {
            self.combinations().for_each(|combination| item(Value::Hex(combination.into())));
        });
    }
}

impl Fields for ActiveNamespaceList {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.list("nsid_list", &Named("nsid", || self.iter()));
    }
}

impl Fields for ControllerList {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("num_ctrl", self.numids);
        out.list("ctrl_list", &Named("ctrl_id", || self.iter().map(u32::from)));
    }
}

/// A list of structures that hold one number, by this name.
pub(super) struct Named<F>(pub(super) &'static str, pub(super) F);

impl<I: Iterator<Item = u32>, F: Fn() -> I> List for Named<F> {
    fn each(&self, item: &mut dyn FnMut(Value<'_>)) {
        for value in (self.1)() {
            item(Value::Object(&One(self.0, value)));
        }
    }
}

struct One(&'static str, u32);

impl Fields for One {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number(self.0, self.1);
    }
}

/// The fields of a Namespace Identification Descriptor list, given its bytes. A malformed list ends
/// with what could be read, and an `error`.
#[derive(Clone, Copy)]
pub struct DescriptorFields<'a>(pub &'a [u8]);

impl Fields for DescriptorFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.list("ns-descs", &|item: &mut dyn FnMut(Value<'_>)| {
            let mut descriptors = Descriptors::new(self.0);
            loop {
                let at = descriptors.position();
                let Some(Ok(id)) = descriptors.next() else { break };
                item(Value::Object(&Descriptor { at, id }));
            }
        });
        if let Some(Err(error)) = Descriptors::new(self.0).last() {
            out.text("error", error);
        }
    }
}

struct Descriptor<'a> {
    at: usize,
    id: NamespaceId<'a>,
}

impl Fields for Descriptor<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let value = self.id.value();
        let name = match self.id {
            NamespaceId::Eui64(_) => "eui64",
            NamespaceId::Nguid(_) => "nguid",
            NamespaceId::Uuid(_) => "uuid",
            NamespaceId::Csi(_) => "csi",
            NamespaceId::Other { .. } => "unknown",
        };
        // Lists are 4,096 bytes long, and lengths have eight bits.
        out.number("loc", u32::try_from(self.at).unwrap_or(u32::MAX));
        out.number("nidt", self.id.nidt());
        out.number("nidl", u32::try_from(value.len()).unwrap_or(u32::MAX));
        out.text("Type", name);
        match self.id {
            NamespaceId::Uuid(uuid) => out.text(name, UuidText(uuid)),
            NamespaceId::Csi(csi) => out.text(name, CommandSet(csi)),
            _ => out.bytes(name, value),
        }
    }
}

struct CommandSet(u8);

impl fmt::Display for CommandSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // As `%#x` writes it: zero has no prefix.
            cns::CSI_NVM => f.write_str("0"),
            csi => write!(f, "{csi:#x}"),
        }
    }
}
