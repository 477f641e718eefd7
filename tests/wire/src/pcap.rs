//! Recordings as pcap files: Ethernet, IPv4 and TCP headers around the bytes as they came.

use std::time::Duration;

use crate::recording::{End, Event, Recording};

/// The controller's port: IANA's for NVMe/TCP, by which tshark knows the protocol.
pub const PORT: u16 = nvme_spec::IO_PORT;
/// The host's port on connection 0; those of other connections follow.
pub const FIRST_HOST_PORT: u16 = 50_000;

const HOST: [u8; 4] = [192, 0, 2, 1];
const CONTROLLER: [u8; 4] = [192, 0, 2, 2];

mod flag {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const SYN: u8 = 0x02;
    pub(super) const PSH: u8 = 0x08;
    pub(super) const ACK: u8 = 0x10;
}

/// A pcap file with every connection of the recording, each with its handshake.
pub fn pcap(recording: &Recording) -> Vec<u8> {
    let mut file = Vec::new();
    // Magic number of microsecond timestamps, version 2.4, zone, accuracy, longest packet,
    // Ethernet.
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 1 << 18, 1] {
        file.extend_from_slice(&u32::to_le_bytes(word));
    }
    let mut connections = vec![Connection::default(); recording.connections()];
    for entry in &recording.entries {
        let connection = &mut connections[entry.connection];
        connection.port = FIRST_HOST_PORT + u16::try_from(entry.connection).unwrap();
        let mut write = |packet: Vec<u8>| write_packet(&mut file, entry.at, &packet);
        match &entry.event {
            Event::Opened => {
                write(connection.packet(End::Host, flag::SYN, &[]));
                write(connection.packet(End::Controller, flag::SYN | flag::ACK, &[]));
                write(connection.packet(End::Host, flag::ACK, &[]));
            }
            Event::Bytes(from, bytes) => {
                write(connection.packet(*from, flag::PSH | flag::ACK, bytes));
            }
            Event::Closed(from) => {
                write(connection.packet(*from, flag::FIN | flag::ACK, &[]));
            }
        }
    }
    file
}

fn write_packet(file: &mut Vec<u8>, at: Duration, packet: &[u8]) {
    let length = u32::try_from(packet.len()).unwrap();
    for word in [u32::try_from(at.as_secs()).unwrap(), at.subsec_micros(), length, length] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(packet);
}

/// Sequence numbers of a connection.
#[derive(Clone, Debug, Default)]
struct Connection {
    port: u16,
    /// The next byte of the host.
    host: u32,
    /// The next byte of the controller.
    controller: u32,
}

impl Connection {
    /// An Ethernet frame with one segment; it acknowledges all that the other end sent.
    fn packet(&mut self, from: End, flags: u8, bytes: &[u8]) -> Vec<u8> {
        let mac = |end| [2, 0, 0, 0, 0, if end == End::Host { 1 } else { 2 }];
        let (to, source, target) = match from {
            End::Host => (End::Controller, HOST, CONTROLLER),
            End::Controller => (End::Host, CONTROLLER, HOST),
        };
        let segment = self.segment(from, flags, source, target, bytes);
        let mut packet = [mac(to), mac(from)].concat();
        packet.extend_from_slice(&[8, 0]);
        packet.extend_from_slice(&ip_header(source, target, segment.len()));
        packet.extend_from_slice(&segment);
        packet
    }

    fn segment(
        &mut self,
        from: End,
        flags: u8,
        source: [u8; 4],
        target: [u8; 4],
        bytes: &[u8],
    ) -> Vec<u8> {
        let (own, peer) = match from {
            End::Host => (&mut self.host, self.controller),
            End::Controller => (&mut self.controller, self.host),
        };
        let (from_port, to_port) = match from {
            End::Host => (self.port, PORT),
            End::Controller => (PORT, self.port),
        };
        let mut segment = [from_port.to_be_bytes(), to_port.to_be_bytes()].concat();
        segment.extend_from_slice(&own.to_be_bytes());
        let acknowledged = if flags & flag::ACK == 0 { 0 } else { peer };
        segment.extend_from_slice(&acknowledged.to_be_bytes());
        // Five words of header; the window is never what matters here.
        segment.extend_from_slice(&[5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend_from_slice(bytes);
        let length = u16::try_from(segment.len()).unwrap();
        let pseudo = [&source[..], &target, &[0, 6], &length.to_be_bytes()].concat();
        let checksum = checksum(&[&pseudo, &segment]);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        let begin_or_end = u32::from(flags & (flag::SYN | flag::FIN) != 0);
        *own = own.wrapping_add(u32::try_from(bytes.len()).unwrap() + begin_or_end);
        segment
    }
}

fn ip_header(source: [u8; 4], target: [u8; 4], payload: usize) -> [u8; 20] {
    let [high, low] = u16::try_from(20 + payload).unwrap().to_be_bytes();
    let mut header = [0; 20];
    // Version 4, five words, don't fragment, 64 hops, TCP.
    header[..10].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, 6]);
    header[12..16].copy_from_slice(&source);
    header[16..].copy_from_slice(&target);
    let checksum = checksum(&[&header]);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// The Internet checksum of parts of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_added_to_what_it_is_of_gives_all_ones() {
        let header = ip_header(HOST, CONTROLLER, 1000);
        assert_eq!(checksum(&[&header]), 0);
        assert_eq!(checksum(&[&[0xff, 0xff], &[0, 1, 0xf2]]), !0xf201);
    }
}
