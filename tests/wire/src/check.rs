//! Where tshark's reading of a recording differs from what was sent, or finds fault with it.

use std::collections::BTreeMap;
use std::fmt;

use nvme_spec::fabrics::Connect;
use nvme_spec::pdu::{self, fes, kind};
use nvme_spec::{Sqe, opcode};

use crate::recording::{End, Recording};
use crate::sent::{self, Pdu};
use crate::tshark::{DataDigests, Dissected, Dissection};

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// With which PDU, as it was sent; `None` if with the conversation as a whole.
    pub pdu: Option<Pdu>,
    /// The command it belongs to, where there is one.
    pub command: Option<Sqe>,
    /// Its queue: 0 is the admin queue.
    pub qid: u16,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pdu) = &self.pdu {
            let (connection, from, at) = (pdu.connection, pdu.from, pdu.at);
            let name = pdu::name(pdu.kind());
            write!(f, "connection {connection}, byte {at} of the {from:?}, {name}")?;
        }
        if let Some(command) = &self.command {
            write!(f, " of {}", name_of(command, self.qid))?;
            write!(f, " (cdw10 {:#x}, cdw11 {:#x})", command.cdw(10), command.cdw(11))?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Compares all PDUs of a recording with tshark's reading of them.
pub fn findings(recording: &Recording, dissection: &Dissection) -> Vec<Finding> {
    let mut findings: Vec<_> = dissection.complaints.iter().map(|what| whole(what)).collect();
    let sent = sent::pdus(recording);
    let commands = Commands::of(&sent);
    for connection in 0..recording.connections() {
        for from in [End::Host, End::Controller] {
            let here = |c, f| c == connection && f == from;
            let mut seen = dissection.pdus.iter().filter(|pdu| here(pdu.connection, pdu.from));
            for pdu in sent.iter().filter(|pdu| here(pdu.connection, pdu.from)) {
                let (command, qid) = (commands.of_pdu(pdu), commands.qid(connection));
                let mut find = |what| {
                    findings.push(Finding { what, pdu: Some(pdu.clone()), command, qid });
                };
                match seen.next() {
                    Some(seen) => {
                        seen.complaints.iter().cloned().for_each(&mut find);
                        compare(pdu, seen, qid, dissection.data_digests, &mut find);
                    }
                    None => find("tshark does not see it".to_owned()),
                }
            }
            for unsent in seen {
                let what = format!("packet {}: a PDU that was not sent", unsent.packet);
                findings.push(whole(&what));
            }
        }
    }
    findings
}

fn whole(what: &str) -> Finding {
    Finding { what: what.to_owned(), pdu: None, command: None, qid: 0 }
}

/// Which command a PDU belongs to, and which queue a connection is.
struct Commands<'a> {
    pdus: &'a [Pdu],
    queues: BTreeMap<usize, u16>,
}

impl<'a> Commands<'a> {
    fn of(pdus: &'a [Pdu]) -> Self {
        let mut queues = BTreeMap::new();
        for pdu in pdus {
            if let Some(sqe) = pdu.sqe()
                && let Some(connect) = Connect::from_sqe(&sqe)
            {
                queues.insert(pdu.connection, connect.qid.get());
            }
        }
        Self { pdus, queues }
    }

    fn qid(&self, connection: usize) -> u16 {
        self.queues.get(&connection).copied().unwrap_or(0)
    }

    /// The command. Every command of these conversations has an identifier of its own or comes
    /// after the end of the one before, so it is found by counting answers.
    fn of_pdu(&self, pdu: &Pdu) -> Option<Sqe> {
        let cid = cid(pdu)?;
        if let Some(sqe) = pdu.sqe() {
            return Some(sqe);
        }
        let same =
            |other: &&Pdu| other.connection == pdu.connection && self::cid(other) == Some(cid);
        let ends_before = |other: &&Pdu| match pdu.from {
            End::Controller => other.at < pdu.at && ends_command(other),
            End::Host => false,
        };
        let mut commands = self.pdus.iter().filter(same).filter_map(|p| Some((p.at, p.sqe()?)));
        match pdu.from {
            End::Controller => {
                let answered = self.pdus.iter().filter(same).filter(ends_before).count();
                commands.nth(answered).map(|(_, sqe)| sqe)
            }
            End::Host => commands.rfind(|(at, _)| *at < pdu.at).map(|(_, sqe)| sqe),
        }
    }
}

fn ends_command(pdu: &Pdu) -> bool {
    match pdu.kind() {
        kind::CAPSULE_RESP => true,
        kind::C2H_DATA => pdu.header().flags & pdu::flags::SUCCESS != 0,
        _ => false,
    }
}

fn cid(pdu: &Pdu) -> Option<u16> {
    match pdu.kind() {
        kind::CAPSULE_CMD => Some(pdu.sqe()?.cid.get()),
        kind::CAPSULE_RESP => Some(pdu.cqe()?.cid.get()),
        kind::H2C_DATA | kind::C2H_DATA => Some(pdu.read::<pdu::Data>().cccid.get()),
        kind::R2T => Some(pdu.read::<pdu::R2t>().cccid.get()),
        _ => None,
    }
}

/// Compares one PDU with tshark's reading of it.
fn compare(
    sent: &Pdu,
    seen: &Dissected,
    qid: u16,
    data_digests: DataDigests,
    find: &mut dyn FnMut(String),
) {
    for (field, value) in expected(sent) {
        match seen.number(field) {
            Some(number) if number == value => {}
            _ => find(format!(
                "{field} is {value:#x}, tshark has {:?} (packet {})",
                seen.fields.get(field),
                seen.packet
            )),
        }
    }
    for (digest, status, sent) in [
        ("nvme-tcp.hdgst", "nvme-tcp.hdgst.status", sent.header_digest()),
        ("nvme-tcp.ddgst", "nvme-tcp.ddgst.status", sent.data_digest()),
    ] {
        // tshark prints a digest with its first byte first.
        let sent = sent.map(|digest| u64::from(digest.swap_bytes()));
        let value = seen.number(digest);
        if value != sent {
            find(format!("{digest} is {sent:x?}, tshark has {value:x?}"));
        }
        // 1 is good, 2 is not verified.
        let verified = digest != "nvme-tcp.ddgst" || data_digests == DataDigests::Verified;
        let good = if verified { 1 } else { 2 };
        if sent.is_some() && seen.number(status) != Some(good) {
            find(format!("{digest} is wrong, says tshark: {:?}", seen.fields.get(status)));
        }
    }
    // Of padded data, tshark verifies no digest: this does, by another implementation than the
    // one that made it.
    if sent.data_digest().is_some_and(|digest| digest != sent::crc32c(sent.data())) {
        find("the data digest is wrong".to_owned());
    }
    if let Some(sqe) = sent.sqe() {
        let name = match name_of(&sqe, qid) {
            "Write Zeroes" => "Write Zero",
            "Asynchronous Event Request" => "Async Event Request",
            "Delete I/O Submission Queue" => "Delete SQ",
            name => name,
        };
        let words = if sqe.is_fabrics() {
            format!("Fabric Command Type: {name} ({:#04x})", sqe.fctype())
        } else {
            format!("Opcode: {:#04x} {name}", sqe.opcode)
        };
        if !seen.text.contains(&words) {
            find(format!("tshark does not say {words:?}"));
        }
    }
}

/// The name of a command on queue `qid`.
pub fn name_of(sqe: &Sqe, qid: u16) -> &'static str {
    match (sqe.is_fabrics(), qid) {
        (true, _) => opcode::fabrics_name(sqe.fctype()),
        (false, 0) => opcode::admin_name(sqe.opcode),
        (false, _) => opcode::nvm_name(sqe.opcode),
    }
}

type Fields = Vec<(&'static str, u64)>;

/// The fields that tshark is to read, as they were sent.
fn expected(sent: &Pdu) -> Fields {
    let header = sent.header();
    let mut fields: Fields = vec![
        ("nvme-tcp.type", header.kind.into()),
        ("nvme-tcp.flags", header.flags.into()),
        ("nvme-tcp.hlen", header.hlen.into()),
        ("nvme-tcp.pdo", header.pdo.into()),
        ("nvme-tcp.plen", header.plen.get().into()),
    ];
    match header.kind {
        kind::IC_REQ => {
            let req: pdu::IcReq = sent.read();
            fields.push(("nvme-tcp.icreq.pfv", req.pfv.get().into()));
            fields.push(("nvme-tcp.icreq.hpda", req.hpda.into()));
            fields.push(("nvme-tcp.icreq.digest", req.dgst.into()));
            fields.push(("nvme-tcp.icreq.maxr2t", req.maxr2t.get().into()));
        }
        kind::IC_RESP => {
            let resp: pdu::IcResp = sent.read();
            fields.push(("nvme-tcp.icresp.pfv", resp.pfv.get().into()));
            fields.push(("nvme-tcp.icresp.cpda", resp.cpda.into()));
            fields.push(("nvme-tcp.icresp.digest", resp.dgst.into()));
            fields.push(("nvme-tcp.icresp.maxdata", resp.maxh2cdata.get().into()));
        }
        kind::H2C_TERM_REQ | kind::C2H_TERM_REQ => fields.extend(term_req(sent)),
        kind::CAPSULE_CMD => fields.extend(command(&sent.read::<pdu::CapsuleCmd>().sqe)),
        kind::CAPSULE_RESP => {
            let cqe = sent.read::<pdu::CapsuleResp>().cqe;
            fields.push(("nvme.cqe.cid", cqe.cid.get().into()));
            fields.push(("nvme.cqe.sqhd", cqe.sqhd.get().into()));
            fields.push(("nvme.cqe.status", cqe.status().to_wire().into()));
            fields.push(("nvme.cqe.status.sct", cqe.status().sct().into()));
            fields.push(("nvme.cqe.status.sc", cqe.status().sc().into()));
            fields.push(("nvme.cqe.status.dnr", cqe.status().dnr().into()));
        }
        kind::H2C_DATA | kind::C2H_DATA => {
            let data: pdu::Data = sent.read();
            fields.push(("nvme-tcp.cmd.cid", data.cccid.get().into()));
            fields.push(("nvme-tcp.data.offset", data.datao.get().into()));
            fields.push(("nvme-tcp.data.length", data.datal.get().into()));
            if header.kind == kind::H2C_DATA {
                fields.push(("nvme-tcp.ttag", data.ttag.get().into()));
            }
        }
        kind::R2T => {
            let r2t: pdu::R2t = sent.read();
            fields.push(("nvme-tcp.cmd.cid", r2t.cccid.get().into()));
            fields.push(("nvme-tcp.ttag", r2t.ttag.get().into()));
            fields.push(("nvme-tcp.r2t.offset", r2t.r2to.get().into()));
            fields.push(("nvme-tcp.r2t.length", r2t.r2tl.get().into()));
        }
        _ => {}
    }
    fields
}

fn term_req(sent: &Pdu) -> Fields {
    let term: pdu::TermReq = sent.read();
    let (status, field, digest, parameter) = match sent.kind() {
        kind::C2H_TERM_REQ => (
            "nvme-tcp.c2htermreq.fes",
            "nvme-tcp.c2htermreq.phfo",
            "nvme-tcp.c2htermreq.phd",
            "nvme-tcp.c2htermreq.upfo",
        ),
        _ => (
            "nvme-tcp.h2ctermreq.fes",
            "nvme-tcp.h2ctermreq.phfo",
            "nvme-tcp.h2ctermreq.phd",
            "nvme-tcp.h2ctermreq.upfo",
        ),
    };
    let mut fields = vec![(status, u64::from(term.fes.get()))];
    let fei = u64::from(term.fei.get());
    match term.fes.get() {
        fes::INVALID_HEADER_FIELD => fields.push((field, fei)),
        fes::HEADER_DIGEST_ERROR => fields.push((digest, fei)),
        fes::UNSUPPORTED_PARAMETER => fields.push((parameter, fei)),
        _ => {}
    }
    fields
}

fn command(sqe: &Sqe) -> Fields {
    let Some(connect) = Connect::from_sqe(sqe) else {
        return if sqe.is_fabrics() {
            vec![
                ("nvme.fabrics.cmd.cid", sqe.cid.get().into()),
                ("nvme.fabrics.cmd.fctype", sqe.fctype().into()),
            ]
        } else {
            vec![
                ("nvme.cmd.cid", sqe.cid.get().into()),
                ("nvme.cmd.opc", sqe.opcode.into()),
                ("nvme.cmd.nsid", sqe.nsid.get().into()),
            ]
        };
    };
    vec![
        ("nvme.fabrics.cmd.cid", sqe.cid.get().into()),
        ("nvme.fabrics.cmd.fctype", sqe.fctype().into()),
        ("nvme.fabrics.cmd.connect.recfmt", connect.recfmt.get().into()),
        ("nvme.fabrics.cmd.connect.qid", connect.qid.get().into()),
        ("nvme.fabrics.cmd.connect.sqsize", connect.sqsize.get().into()),
        ("nvme.fabrics.cmd.connect.kato", connect.kato.get().into()),
    ]
}
