//! tshark's reading of a recording.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::Command;

use roxmltree::{Document, Node, ParsingOptions};

use crate::pcap::{FIRST_HOST_PORT, PORT, pcap};
use crate::recording::{End, Recording};

/// What tshark made of a recording.
#[derive(Clone, Debug)]
pub struct Dissection {
    /// Whether it verified data digests.
    pub data_digests: DataDigests,
    /// The PDUs it saw, in the order in which they were complete.
    pub pdus: Vec<Dissected>,
    /// What it said of packets before any PDU in them: malformed, or expert information.
    pub complaints: Vec<String>,
}

/// Whether tshark is to verify data digests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataDigests {
    /// It is.
    Verified,
    /// It is not: tshark takes padding for data, and would find them wrong.
    Unverified,
}

/// A PDU as tshark sees it.
#[derive(Clone, Debug)]
pub struct Dissected {
    /// The packet that ended it, from 1.
    pub packet: u32,
    /// Its connection.
    pub connection: usize,
    /// Who sent it.
    pub from: End,
    /// Its fields' values by the fields' names; several where a field occurs several times.
    pub fields: BTreeMap<String, Vec<String>>,
    /// Every field in words, as Wireshark shows it.
    pub text: Vec<String>,
    /// What tshark says of it: malformed, or expert information of severity warning or error.
    pub complaints: Vec<String>,
}

impl Dissected {
    /// The number in a field, if there is just one.
    pub fn number(&self, field: &str) -> Option<u64> {
        match self.fields.get(field)?.as_slice() {
            [value] => parse(value),
            _ => None,
        }
    }
}

fn parse(value: &str) -> Option<u64> {
    match (value, value.strip_prefix("0x")) {
        ("True", _) => Some(1),
        ("False", _) => Some(0),
        (_, Some(digits)) => u64::from_str_radix(digits, 16).ok(),
        (_, None) => value.parse().ok(),
    }
}

const MISSING: &str = "tshark is needed to dissect recorded conversations, and it is not there; \
    as root: tests/install-packages, or apt-get install --no-install-recommends tshark";

fn tshark() -> Command {
    let mut command = Command::new("tshark");
    // Nobody's preferences or plugins.
    command.env("WIRESHARK_CONFIG_DIR", "/nonexistent").env("LC_ALL", "C.UTF-8");
    command
}

fn output(mut command: Command) -> String {
    match command.output() {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        Ok(output) => panic!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => panic!("{MISSING}"),
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// The version, major and minor.
pub fn version() -> (u32, u32) {
    let mut command = tshark();
    command.arg("--version");
    let text = output(command);
    let number =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number.unwrap_or_default().split('.').map_while(|part| part.parse().ok());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => panic!("what version of tshark is this? {text}"),
    }
}

/// Dissects a recording, with all checksums and header digests verified.
pub fn dissect(recording: &Recording, data_digests: DataDigests) -> Dissection {
    let file = tempfile::Builder::new().suffix(".pcap").tempfile().unwrap();
    std::fs::write(file.path(), pcap(recording)).unwrap();
    let mut command = tshark();
    command.arg("-n").arg("-r").arg(file.path()).args(["-T", "pdml"]);
    let preferences = [
        "nvme-tcp.check_hdgst:TRUE",
        match data_digests {
            DataDigests::Verified => "nvme-tcp.check_ddgst:TRUE",
            DataDigests::Unverified => "nvme-tcp.check_ddgst:FALSE",
        },
        "tcp.check_checksum:TRUE",
        "ip.check_checksum:TRUE",
    ];
    for preference in preferences {
        command.args(["-o", preference]);
    }
    let ports = format!("tcp.port=={PORT},nvme-tcp");
    command.args(["-d", &ports]);
    let pdml = output(command);
    read(&pdml, data_digests)
}

fn read(pdml: &str, data_digests: DataDigests) -> Dissection {
    let options = ParsingOptions { nodes_limit: u32::MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(pdml, options).unwrap();
    let mut dissection = Dissection { data_digests, pdus: Vec::new(), complaints: Vec::new() };
    for packet in document.root_element().children().filter(|node| node.has_tag_name("packet")) {
        read_packet(packet, &mut dissection);
    }
    dissection
}

fn read_packet(packet: Node<'_, '_>, dissection: &mut Dissection) {
    let field = |name: &str| {
        let named = |node: &Node<'_, '_>| node.attribute("name") == Some(name);
        let field = packet.descendants().find(named).and_then(|field| field.attribute("show"));
        field.and_then(parse).unwrap_or_else(|| panic!("a packet without {name}"))
    };
    let number = u32::try_from(field("frame.number")).unwrap();
    let (source, target) = (field("tcp.srcport"), field("tcp.dstport"));
    let (from, port) = match source == u64::from(PORT) {
        true => (End::Controller, target),
        false => (End::Host, source),
    };
    let connection = usize::try_from(port - u64::from(FIRST_HOST_PORT)).unwrap();
    let mut pdu: Option<Dissected> = None;
    for proto in packet.children().filter(Node::is_element) {
        if proto.attribute("name") == Some("nvme-tcp") {
            dissection.pdus.extend(pdu.take());
            pdu = Some(Dissected {
                packet: number,
                connection,
                from,
                fields: BTreeMap::new(),
                text: Vec::new(),
                complaints: Vec::new(),
            });
        }
        for node in proto.descendants().filter(Node::is_element) {
            let name = node.attribute("name").unwrap_or_default();
            let show = node.attribute("show").unwrap_or_default();
            let words = node.attribute("showname").unwrap_or(show);
            if let Some(complaint) = complaint(node, name) {
                let complaint = format!("packet {number}, {from:?}: {complaint}");
                match &mut pdu {
                    Some(pdu) => pdu.complaints.push(complaint),
                    None => dissection.complaints.push(complaint),
                }
            }
            if let Some(pdu) = &mut pdu {
                pdu.fields.entry(name.to_owned()).or_default().push(show.to_owned());
                pdu.text.push(words.to_owned());
            }
        }
    }
    dissection.pdus.extend(pdu);
}

/// Wireshark's severities: comment, chat, note, warning, error.
const WARNING: u64 = 0x0060_0000;

/// What is wrong, if this node says that something is.
fn complaint(node: Node<'_, '_>, name: &str) -> Option<String> {
    let child = |name: &str| {
        let named = |node: &Node<'_, '_>| node.attribute("name") == Some(name);
        node.children().find(named).and_then(|field| field.attribute("show"))
    };
    match name {
        "_ws.malformed" => Some("malformed packet".to_owned()),
        "_ws.expert" if child("_ws.expert.severity").and_then(parse)? >= WARNING => {
            Some(format!("expert: {}", child("_ws.expert.message").unwrap_or("?")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with an ICReq, and `more` in it.
    fn pdml(more: &str) -> String {
        format!(
            r#"<pdml><packet>
            <proto name="frame"><field name="frame.number" show="4"/></proto>
            <proto name="tcp">
              <field name="tcp.srcport" show="50001"/><field name="tcp.dstport" show="4420"/>
            </proto>
            <proto name="nvme-tcp">
              <field name="nvme-tcp.type" showname="Pdu Type: ICReq (0)" show="0"/>
            </proto>
            {more}
            </packet></pdml>"#
        )
    }

    fn expert(severity: u64) -> String {
        format!(
            r#"<proto name="nvme"><field name="_ws.expert">
            <field name="_ws.expert.message" show="something"/>
            <field name="_ws.expert.severity" show="{severity}"/>
            </field></proto>"#
        )
    }

    fn complaints(more: &str) -> Vec<String> {
        let dissection = read(&pdml(more), DataDigests::Verified);
        let [pdu] = dissection.pdus.as_slice() else { panic!("{dissection:?}") };
        assert_eq!((pdu.packet, pdu.connection, pdu.from), (4, 1, End::Host));
        assert_eq!(pdu.number("nvme-tcp.type"), Some(0));
        pdu.complaints.clone()
    }

    #[test]
    fn a_malformed_packet_is_a_complaint() {
        assert_eq!(complaints(""), [""; 0]);
        let malformed = r#"<proto name="_ws.malformed" showname="[Malformed Packet]"/>"#;
        assert_eq!(complaints(malformed), ["packet 4, Host: malformed packet"]);
    }

    #[test]
    fn expert_information_of_a_warning_or_an_error_is_a_complaint() {
        for (severity, count) in [(0x20_0000, 0), (0x40_0000, 0), (0x60_0000, 1), (0x80_0000, 1)] {
            let complaints = complaints(&expert(severity));
            assert_eq!(complaints.len(), count, "{severity:#x}: {complaints:?}");
        }
    }
}
