use std::format;
use std::string::ToString;
use std::vec::Vec;

use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::fabrics::{Connect, PropertySet};
use crate::feature::{self, SetFeatures};
use crate::identify::{
    ActiveNamespaceList, DescriptorList, IdentifyController, IdentifyNamespace, LbaFormat,
    NamespaceId,
};
use crate::log::{
    AnaGroupDescriptor, AnaHeader, AnaState, DiscoveryEntry, DiscoveryHeader, DiscoveryLog,
    ExtendedDiscoveryEntry, SmartLog, adrfam, lid, subtype,
};
use crate::{Cqe, Nqn, SglDescriptor, Sqe, Status, opcode, pdu, property};

fn namespace() -> IdentifyNamespace {
    let mut id = IdentifyNamespace { nlbaf: 1, nmic: 1, flbas: 1, ..Default::default() };
    id.nsze.set(2048);
    id.lbaf[0] = LbaFormat::new(9);
    id.lbaf[1] = LbaFormat::new(12);
    id.eui64 = [0, 1, 2, 3, 4, 5, 6, 0xff];
    id
}

/// The names of the top level fields.
fn names(value: &impl Fields) -> Vec<&'static str> {
    struct Names(Vec<&'static str>);
    impl FieldSink for Names {
        fn field(&mut self, field: Field<'_>) {
            self.0.push(field.name);
        }
    }
    let mut names = Names(Vec::new());
    value.fields(&mut names);
    names.0
}

#[test]
fn a_line_holds_everything_on_one_line() {
    let line = Line(&namespace()).to_string();
    assert!(line.starts_with("nsze=2048 (8 MiB) ncap=0 nuse=0 nsfeat=0x0 nlbaf=1 "), "{line}");
    assert!(line.contains(" nmic=0x1 (shared) "), "{line}");
    assert!(line.contains(" eui64=00010203040506ff "), "{line}");
    assert!(
        line.ends_with(
            "lbafs=[{ms=0 ds=9 (512 bytes) rp=0 (best)} {ms=0 ds=12 (4096 bytes) rp=0 (best)}]"
        ),
        "{line}"
    );
    assert!(!line.contains('\n'));
}

#[test]
fn a_table_has_a_field_on_each_line() {
    let table = Table(&namespace()).to_string();
    let rows: Vec<_> = table.lines().collect();
    assert_eq!(rows[0], "nsze     : 2048 (8 MiB)");
    assert_eq!(rows[9], "nmic     : 0x1 (shared)");
    assert_eq!(
        rows[rows.len() - 3..],
        [
            "lbafs    :",
            "  [0] ms=0 ds=9 (512 bytes) rp=0 (best)",
            "  [1] ms=0 ds=12 (4096 bytes) rp=0 (best)",
        ]
    );
}

#[test]
fn json_is_compact_or_indented() {
    let list = ActiveNamespaceList::after(0, [1, 5]);
    assert_eq!(Json(&list).to_string(), r#"{"nsid_list":[{"nsid":1},{"nsid":5}]}"#);
    assert_eq!(
        format!("{:#}", Json(&list)),
        "{\n  \"nsid_list\":[\n    {\n      \"nsid\":1\n    },\n    {\n      \"nsid\":5\n    }\n  ]\n}"
    );
    let empty = ActiveNamespaceList::default();
    assert_eq!(Json(&empty).to_string(), r#"{"nsid_list":[]}"#);
    assert_eq!(format!("{:#}", Json(&empty)), "{\n  \"nsid_list\":[]\n}");
}

#[test]
fn json_has_the_names_and_order_of_nvme_cli() {
    let id = names(&IdentifyController::default());
    let cli = "vid ssvid sn mn fr rab ieee cmic mdts cntlid ver rtd3r rtd3e oaes ctratt rrls bpcap \
               nssl plsi cntrltype fguid crdt1 crdt2 crdt3 crcap nvmsr vwci mec oacs acl aerl frmw \
               lpa elpe npss avscc apsta wctemp cctemp mtfa hmpre hmmin tnvmcap unvmcap rpmbs edstt \
               dsto fwug kas hctma mntmt mxtmt sanicap hmminds hmmaxd nsetidmax endgidmax anatt \
               anacap anagrpmax nanagrpid pels domainid kpioc mptfawr megcap tmpthha cqt sqes cqes \
               maxcmd nn oncs fuses fna vwc awun awupf icsvscc nwpc acwu ocfs sgls mnan maxdna \
               maxcna oaqd rhiri hirt cmmrtd nmmrtd minmrtg maxmrtg trattr mcudmq mnsudmq mcmr \
               nmcmr mcdqpc subnqn ioccsz iorcsz icdoff fcatt msdbd ofcs dctype psds";
    // This crate knows a few fields more; without them the order is the same.
    let known: Vec<_> = id
        .into_iter()
        .filter(|name| !["ciu", "cirn", "cdpa", "mup", "ipmsr", "msmt", "ccrl"].contains(name))
        .collect();
    assert_eq!(known, cli.split_whitespace().collect::<Vec<_>>());

    let ns = names(&namespace());
    assert_eq!(
        ns.join(" "),
        "nsze ncap nuse nsfeat nlbaf flbas mc dpc dps nmic rescap fpi dlfeat nawun nawupf nacwu \
         nabsn nabo nabspf noiob nvmcap mssrl mcl msrc kpios nulbaf kpiodaag anagrpid nsattr \
         nvmsetid endgid nguid eui64 lbafs"
    );
    let smart = names(&SmartLog::default());
    assert_eq!(
        smart.join(" "),
        "critical_warning temperature avail_spare spare_thresh percent_used \
         endurance_grp_critical_warning_summary data_units_read data_units_written \
         host_read_commands host_write_commands controller_busy_time power_cycles power_on_hours \
         unsafe_shutdowns media_errors num_err_log_entries warning_temp_time critical_comp_time \
         thm_temp1_trans_count thm_temp2_trans_count thm_temp1_total_time thm_temp2_total_time"
    );
}

#[test]
fn a_controller_is_printed_with_its_meanings() {
    let mut id = IdentifyController::default();
    id.set_names("S123", "a model", "1");
    id.ver.set(0x2_0100);
    id.cmic = 0b1011;
    id.mdts = 5;
    id.oncs.set(1 | 1 << 15);
    id.subnqn = Nqn::DISCOVERY.to_wire();
    id.sqes = 0x66;
    id.vwc = 7;
    let line = Line(&id).to_string();
    for part in [
        "sn=S123 mn=\"a model\" fr=1 ",
        "ver=0x20100 (2.1.0)",
        "cmic=0xb (multi-port, multi-controller, ANA)",
        "mdts=5 (128 KiB)",
        "oncs=0x8001 (compare, bit 15)",
        "subnqn=nqn.2014-08.org.nvmexpress.discovery ",
        "sqes=0x66 (64 to 64 bytes)",
        "vwc=0x7 (present, flush of all namespaces supported)",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(format!("{id:?}").starts_with("IdentifyController { vid=0x0"));
}

#[test]
fn a_discovery_log_is_json_as_nvme_cli_has_it() {
    let nqn = Nqn::lenient("nqn.2024-01.com.example:a").unwrap();
    let entry = DiscoveryEntry::tcp(subtype::NVM, &nqn, adrfam::IPV6, "::1", "4420").unwrap();
    let mut page = DiscoveryHeader::new(3, 1).as_bytes().to_vec();
    page.extend_from_slice(entry.as_bytes());
    let log = DiscoveryLog::parse(&page).unwrap();
    assert_eq!(
        Json(&log).to_string(),
        r#"{"genctr":3,"records":[{"trtype":"tcp","adrfam":"ipv6","subtype":"nvme subsystem","treq":"not specified","portid":0,"trsvcid":"4420","subnqn":"nqn.2024-01.com.example:a","traddr":"::1","eflags":"none","sectype":"none"}]}"#
    );
    let table = Table(&log).to_string();
    assert_eq!(table.lines().nth(1), Some("records :"));
    assert_eq!(table.lines().nth(3), Some("    trtype  : tcp"));
    assert_eq!(
        Json(&LogPageFields { lid: lid::DISCOVERY, page: &page }).to_string(),
        Json(&log).to_string()
    );
}

#[test]
fn extended_entries_of_a_discovery_log_are_printed_with_their_attributes() {
    let entry = DiscoveryEntry::tcp(subtype::NVM, &Nqn::DISCOVERY, adrfam::IPV4, "192.0.2.1", "1");
    let mut labelled = ExtendedDiscoveryEntry::new(entry.unwrap());
    labelled.tel.set(1032 + 12);
    labelled.numexat.set(1);
    let mut header = DiscoveryHeader::new(3, 2);
    header.dlpf = DiscoveryHeader::DLPF_EXTENDED;
    let label = b"\x03\0\x08\0a\x1b\xc3\xb6\0\0\0\0";
    let last = ExtendedDiscoveryEntry::new(labelled.entry);
    let page = [header.as_bytes(), labelled.as_bytes(), label, last.as_bytes()].concat();
    let shown = |page: &[u8]| Line(&DiscoveryLog::parse(page).unwrap()).to_string();
    let text = shown(&page);
    assert!(text.starts_with("genctr=3 dlpf=0x1 (extended) "), "{text}");
    assert!(text.contains("exattype=3 (admin label, UTF-8) exatval=a\u{fffd}\u{f6}"), "{text}");
    assert_eq!(text.matches("trtype=tcp").count(), 2, "{text}");
    let text = shown(&page[..page.len() - 1]);
    assert_eq!(text.matches("trtype=tcp").count(), 1, "{text}");
    assert!(text.ends_with("error=\"a discovery entry ends past its log page\""), "{text}");
}

#[test]
fn an_ana_log_is_json_as_nvme_cli_has_it() {
    let mut page = AnaHeader::new(2, 2).as_bytes().to_vec();
    AnaGroupDescriptor::write(&mut page, 1, 1, AnaState::Optimized, &[7]);
    AnaGroupDescriptor::write(&mut page, 2, 2, AnaState::Inaccessible, &[]);
    assert_eq!(
        Json(&AnaFields(&page)).to_string(),
        r#"{"chgcnt":2,"ngrps":2,"ANA DESC LIST ":[{"grpid":1,"nnsids":1,"chgcnt":1,"state":"optimized","NSIDS":[{"nsid":7}]},{"grpid":2,"nnsids":0,"chgcnt":2,"state":"inaccessible","NSIDS":[]}]}"#
    );
    page.pop();
    let json = Json(&AnaFields(&page)).to_string();
    assert!(json.contains(r#"[{"nsid":7}]}],"error":"#), "{json}");
}

#[test]
fn namespace_descriptors_are_json_as_nvme_cli_has_them() {
    let mut list = DescriptorList::new();
    list.push(NamespaceId::Uuid([0x11; 16])).unwrap();
    list.push(NamespaceId::Csi(0)).unwrap();
    assert_eq!(
        Json(&DescriptorFields(list.as_bytes())).to_string(),
        r#"{"ns-descs":[{"loc":0,"nidt":3,"nidl":16,"Type":"uuid","uuid":"11111111-1111-1111-1111-111111111111"},{"loc":20,"nidt":4,"nidl":1,"Type":"csi","csi":"0"}]}"#
    );
}

#[test]
fn commands_are_understood_by_queue_and_opcode() {
    let mut read = Sqe::new(opcode::nvm::READ);
    read.cid.set(7);
    read.nsid.set(1);
    read.set_slba(0x1_0000_0000);
    read.set_cdw(12, 7);
    read.sgl = SglDescriptor::transport(4096);
    assert_eq!(
        Line(&IoCommand(&read)).to_string(),
        "opcode=0x2 (Read) cid=7 nsid=0x1 slba=4294967296 blocks=8 fua=false lr=false \
         sgl={address=0x0 length=4096 (4 KiB) identifier=0x5a (by the transport)}"
    );
    // The same opcode on the other queue.
    let line = Line(&AdminCommand(&read)).to_string();
    assert!(line.contains("opcode=0x2 (Get Log Page)"), "{line}");

    let connect = Connect::new(1, 127, 0, 0).to_sqe();
    let line = Line(&connect).to_string();
    assert!(
        line.contains("fctype=0x1 (Connect) recfmt=0 qid=1 sqsize=127 (128 entries)"),
        "{line}"
    );

    let set = PropertySet::new(property::offset::CC, 0x46_0001, false).to_sqe();
    let line = Line(&AdminCommand(&set)).to_string();
    assert!(line.contains("ofst=0x14 (CC) value={cc=0x460001 en=1 css=0 (NVM) "), "{line}");
}

#[test]
fn reservation_commands_say_what_they_do() {
    let dwords = |opcode, cdw10, cdw11| {
        let mut sqe = Sqe::new(opcode);
        sqe.set_cdw(10, cdw10);
        sqe.set_cdw(11, cdw11);
        let line = Line(&IoCommand(&sqe)).to_string();
        let (_, rest) = line.split_once("nsid=0x0 ").unwrap();
        rest.split_once(" sgl=").unwrap().0.to_string()
    };
    let register = opcode::nvm::RESERVATION_REGISTER;
    assert_eq!(dwords(register, 0xc000_000a, 0), "rrega=replace iekey=true cptpl=set");
    let acquire = opcode::nvm::RESERVATION_ACQUIRE;
    assert_eq!(
        dwords(acquire, 0x202, 0),
        r#"racqa="preempt and abort" rtype=2 (exclusive access)"#
    );
    let release = opcode::nvm::RESERVATION_RELEASE;
    assert_eq!(dwords(release, 0x100, 0), "rrela=release rtype=1 (write exclusive)");
    assert_eq!(dwords(release, 0x001, 0), "rrela=clear");
    // What is reserved is given as it is.
    assert!(dwords(release, 0x007, 0).starts_with("cdw10=0x7 cdw11=0x0 "));
    let report = opcode::nvm::RESERVATION_REPORT;
    assert_eq!(dwords(report, 1023, 1), "numd=1023 (4 KiB) eds=true");

    let mut mask = SetFeatures { fid: feature::fid::RESERVATION_MASK, save: false };
    let mut sqe = Sqe::new(opcode::admin::SET_FEATURES);
    sqe.set_cdw(10, mask.to_cdw10());
    sqe.set_cdw(11, 0xa);
    let line = Line(&AdminCommand(&sqe)).to_string();
    assert!(line.contains(" regpre=1 resrel=0 respre=1 "), "{line}");
    mask.fid = feature::fid::RESERVATION_PERSISTENCE;
    sqe.set_cdw(10, mask.to_cdw10());
    sqe.set_cdw(11, 1);
    let line = Line(&AdminCommand(&sqe)).to_string();
    assert!(line.contains(" ptpl=1 "), "{line}");
}

#[test]
fn a_completion_names_its_status() {
    let cqe = Cqe::new(9, Status::INVALID_FIELD.with_dnr(true));
    assert_eq!(
        Line(&cqe).to_string(),
        "cid=9 status=0x4002 (Invalid Field in Command, dnr) dw0=0x0 dw1=0x0 sqhd=0 sqid=0"
    );
}

#[test]
fn any_pdu_header_is_printed_by_its_type() {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&[pdu::kind::R2T, 0, 24, 0, 24, 0, 0, 0]);
    bytes[16..20].copy_from_slice(&4096u32.to_le_bytes());
    bytes[8] = 3;
    assert_eq!(
        Line(&PduFields(&bytes)).to_string(),
        "type=0x9 (R2T) flags=0x0 hlen=24 pdo=0 plen=24 cccid=3 ttag=0 r2to=0 r2tl=4096"
    );
    assert_eq!(Line(&PduFields(&bytes[..3])).to_string(), "data=090018");
    assert_eq!(Line(&PduFields(&[])).to_string(), "data=");
}

#[test]
fn a_pdu_of_a_queue_has_its_command_understood_and_its_type_left_out() {
    let mut bytes = [0; 72];
    bytes[..10].copy_from_slice(&[pdu::kind::CAPSULE_CMD, 3, 72, 76, 80, 2, 0, 0, 2, 0x40]);
    let line = |qid| Line(&QueuePduFields { bytes: &bytes, qid }).to_string();
    let start = "flags=0x3 (header digest, data digest) hlen=72 pdo=76 plen=592 sqe={";
    assert!(line(Some(0)).starts_with(&format!("{start}opcode=0x2 (Get Log Page) cid=0")));
    assert!(line(Some(9)).starts_with(&format!("{start}opcode=0x2 (Read) cid=0 ")));
    assert!(line(None).starts_with(&format!("{start}opcode=0x2 cid=0 ")));
    let mut term = [0; 24 + 12];
    term[..10].copy_from_slice(&[pdu::kind::C2H_TERM_REQ, 0, 24, 0, 36, 0, 0, 0, 1, 0]);
    term[24..32].copy_from_slice(&[pdu::kind::R2T, 0x80, 24, 0, 24, 0, 0, 0]);
    assert_eq!(
        Line(&QueuePduFields { bytes: &term, qid: None }).to_string(),
        "flags=0x0 hlen=24 pdo=0 plen=36 fes=0x1 (Invalid PDU Header Field) fei=0x0 \
         pdu={data=098018001800000000000000}"
    );
    let short = Line(&QueuePduFields { bytes: &term[..24], qid: None }).to_string();
    assert!(!short.contains("pdu="), "{short}");
    assert_eq!(Line(&QueuePduFields { bytes: &[4], qid: Some(1) }).to_string(), "data=04");
}

#[test]
fn text_of_a_peer_is_escaped() {
    struct Evil;
    impl Fields for Evil {
        fn fields(&self, out: &mut dyn FieldSink) {
            out.text("t", "a\x1b[2J\n\"\\\u{202e}");
        }
    }
    assert_eq!(Line(&Evil).to_string(), "t=\"a\\u{1b}[2J\\n\"\\\\u{202e}\"");
    assert_eq!(Table(&Evil).to_string(), "t : a\\u{1b}[2J\\n\"\\\\u{202e}");
    assert_eq!(Json(&Evil).to_string(), r#"{"t":"a\u001b[2J\n\"\\\u202e"}"#);
}

#[test]
fn text_of_several_words_is_quoted_on_a_line() {
    struct Words;
    impl Fields for Words {
        fn fields(&self, out: &mut dyn FieldSink) {
            out.text("a", format_args!("{}{}", "x y", "z"));
            out.text("b", "");
            out.text("c", "x");
            out.flag("d", true);
        }
    }
    assert_eq!(Line(&Words).to_string(), "a=\"x yz\" b=\"\" c=x d=true");
}

/// Prints in all three forms, which must not panic nor break a line.
fn print_all(value: &impl Fields) {
    let line = Line(value).to_string();
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let table = Table(value).to_string();
    assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table:?}");
    let json = Json(value).to_string();
    assert!(json.starts_with('{') && json.ends_with('}'));
}

#[test]
fn whatever_bytes_come_are_printed() {
    let mut state = 7u64;
    for round in 0..12usize {
        let mut bytes = [0u8; 4096];
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = match round {
                0 => 0,
                1 => 0xff,
                _ => state.to_le_bytes()[7],
            };
        }
        print_all(&IdentifyController::ref_from_bytes(&bytes).unwrap());
        print_all(&IdentifyNamespace::ref_from_bytes(&bytes).unwrap());
        print_all(&crate::identify::IdentifyNamespaceNvm::ref_from_bytes(&bytes).unwrap());
        print_all(&crate::identify::IdentifyControllerNvm::ref_from_bytes(&bytes).unwrap());
        print_all(&crate::identify::IndependentNamespace::ref_from_bytes(&bytes).unwrap());
        print_all(&crate::identify::ControllerList::ref_from_bytes(&bytes).unwrap());
        print_all(&crate::identify::CommandSetList::ref_from_bytes(&bytes).unwrap());
        print_all(&DescriptorFields(&bytes));
        print_all(&crate::log::ReservationReport::parse(&bytes).unwrap());
        for lid in [0, 1, 2, 3, 4, 5, 0x0c, 0x12, 0x70, 0x80, 0x99] {
            print_all(&LogPageFields { lid, page: &bytes });
            print_all(&LogPageFields { lid, page: &bytes[..round * 3] });
        }
        for opcode in 0..=0xff {
            bytes[0] = opcode;
            let (sqe, _) = Sqe::ref_from_prefix(&bytes).unwrap();
            print_all(sqe);
            print_all(&AdminCommand(sqe));
            print_all(&IoCommand(sqe));
            print_all(&PduFields(&bytes[..round * 12]));
            print_all(&QueuePduFields { bytes: &bytes[..round * 12], qid: Some(1) });
        }
        for fctype in 0..=0x0f {
            (bytes[0], bytes[4]) = (0x7f, fctype);
            let (sqe, _) = Sqe::ref_from_prefix(&bytes).unwrap();
            print_all(&AdminCommand(sqe));
        }
        print_all(Cqe::ref_from_prefix(&bytes).unwrap().0);
        print_all(crate::fabrics::ConnectData::ref_from_prefix(&bytes).unwrap().0);
        for offset in [0, 4, 8, 0x14, 0x1c, 0x20, 0x68] {
            print_all(&PropertyValue { offset, value: state });
        }
    }
}
