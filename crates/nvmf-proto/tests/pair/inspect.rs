//! Watches the wire: reads the bytes of both directions with a parser of its own, and holds every
//! PDU against the rules. It shares no code with the crate.

use std::collections::HashMap;

/// What may be sent, besides what the handshake says.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub in_capsule: u32,
    pub admin_in_capsule: u32,
    pub r2t_length: u32,
    pub c2h_data_length: u32,
}

/// A PDU as it was on the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    pub kind: u8,
    pub flags: u8,
    pub pdo: u8,
    pub plen: u32,
    /// The header without digest.
    pub header: Vec<u8>,
    pub data: Vec<u8>,
}

impl Seen {
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.header[at], self.header[at + 1]])
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.header[at..at + 4].try_into().unwrap())
    }
}

/// A command that is outstanding on the wire.
#[derive(Debug)]
struct Command {
    /// Length of data that the transport moves.
    transport: u32,
    /// Up to where R2Ts asked, H2CData or C2HData moved.
    asked: u32,
    moved: u32,
    /// Tag, next offset and end of R2Ts outstanding.
    r2ts: Vec<(u16, u32, u32)>,
    connect: bool,
    entries: u32,
    flow_control_off_asked: bool,
}

/// The watcher.
#[derive(Debug)]
pub struct Inspector {
    limits: Limits,
    /// The handshake does not arrive as it was sent: the ends do not mean the same by it.
    pub blind: bool,
    from_host: Vec<u8>,
    from_controller: Vec<u8>,
    /// Every PDU, in the order of its last byte, for tests to look at.
    pub host_pdus: Vec<Seen>,
    pub controller_pdus: Vec<Seen>,
    digests: u8,
    hpda: u8,
    cpda: u8,
    maxr2t: u32,
    maxh2cdata: u32,
    commands: HashMap<u16, Command>,
    entries: u32,
    flow_control: bool,
    sqhd: u16,
}

impl Inspector {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            blind: false,
            from_host: Vec::new(),
            from_controller: Vec::new(),
            host_pdus: Vec::new(),
            controller_pdus: Vec::new(),
            digests: 0,
            hpda: 0,
            cpda: 0,
            maxr2t: 0,
            maxh2cdata: 0,
            commands: HashMap::new(),
            entries: 2,
            flow_control: true,
            sqhd: 0,
        }
    }

    /// The host sent these bytes.
    pub fn hear_host(&mut self, bytes: &[u8]) {
        if self.blind {
            return;
        }
        self.from_host.extend_from_slice(bytes);
        while let Some(seen) = take(&mut self.from_host, self.digests, self.cpda) {
            assert!(self.host_pdus.last().is_none_or(|p| p.kind != 2), "sent after a TermReq");
            match seen.kind {
                0 => self.ic_req(&seen),
                2 => term_req(&seen),
                4 => self.capsule(&seen),
                6 => self.h2c_data(&seen),
                kind => panic!("a host sent a PDU of type {kind}"),
            }
            self.host_pdus.push(seen);
        }
    }

    /// The controller sent these bytes.
    pub fn hear_controller(&mut self, bytes: &[u8]) {
        if self.blind {
            return;
        }
        self.from_controller.extend_from_slice(bytes);
        while let Some(seen) = take(&mut self.from_controller, self.digests, self.hpda) {
            let last = self.controller_pdus.last();
            assert!(last.is_none_or(|p| p.kind != 3), "sent after a TermReq");
            match seen.kind {
                1 => self.ic_resp(&seen),
                3 => term_req(&seen),
                5 => self.response(&seen),
                7 => self.c2h_data(&seen),
                9 => self.r2t(&seen),
                kind => panic!("a controller sent a PDU of type {kind}"),
            }
            self.controller_pdus.push(seen);
        }
    }

    pub fn assert_idle(&self) {
        assert!(self.from_host.is_empty() && self.from_controller.is_empty(), "half a PDU");
        assert!(self.commands.is_empty(), "not answered: {:?}", self.commands);
    }

    /// The PDUs of a kind that the controller sent.
    pub fn controller_sent(&self, kind: u8) -> Vec<&Seen> {
        self.controller_pdus.iter().filter(|seen| seen.kind == kind).collect()
    }

    /// The PDUs of a kind that the host sent.
    pub fn host_sent(&self, kind: u8) -> Vec<&Seen> {
        self.host_pdus.iter().filter(|seen| seen.kind == kind).collect()
    }

    fn ic_req(&mut self, seen: &Seen) {
        assert!(self.host_pdus.is_empty(), "ICReq is the first");
        assert_eq!((seen.flags, seen.pdo, seen.plen), (0, 0, 128));
        assert_eq!(seen.u16(8), 0);
        assert!(seen.header[10] <= 31 && seen.header[11] <= 3);
        assert!(seen.header[16..].iter().all(|b| *b == 0), "reserved");
        self.hpda = seen.header[10];
        self.maxr2t = seen.u32(12);
    }

    fn ic_resp(&mut self, seen: &Seen) {
        assert!(self.controller_pdus.is_empty(), "ICResp is the first");
        assert_eq!((seen.flags, seen.pdo, seen.plen), (0, 0, 128));
        assert_eq!(seen.u16(8), 0);
        let asked = self.host_pdus[0].header[11];
        assert_eq!(seen.header[11] & !asked, 0, "a digest that was not asked for");
        assert!(seen.header[10] <= 31);
        assert!(seen.header[16..].iter().all(|b| *b == 0), "reserved");
        self.cpda = seen.header[10];
        self.digests = seen.header[11];
        self.maxh2cdata = seen.u32(12);
        assert!(self.maxh2cdata >= 4096 && self.maxh2cdata.is_multiple_of(4));
    }

    fn capsule(&mut self, seen: &Seen) {
        assert!(!self.controller_pdus.is_empty(), "before the handshake was done");
        let sqe = &seen.header[8..];
        assert_eq!(sqe[1], 0x40, "PSDT must say SGL");
        let cid = seen.u16(8 + 2);
        let length = u32::from_le_bytes(sqe[32..36].try_into().unwrap());
        assert_eq!(sqe[24..32], [0; 8], "SGL address");
        let in_capsule = seen.data.len() as u32;
        let connect = sqe[0] == 0x7f && sqe[4] == 1;
        let transport = match sqe[39] {
            0x01 => {
                assert_eq!(length, in_capsule);
                let limit = self.limits.in_capsule;
                let limit = if connect { self.limits.admin_in_capsule.min(limit) } else { limit };
                assert!(in_capsule <= limit, "too much in a capsule");
                0
            }
            0x5a => {
                assert_eq!(in_capsule, 0);
                length
            }
            other => panic!("SGL descriptor {other:#x}"),
        };
        let command = Command {
            transport,
            asked: 0,
            moved: 0,
            r2ts: Vec::new(),
            connect,
            entries: u32::from(seen.u16(8 + 44)) + 1,
            flow_control_off_asked: sqe[46] & 4 != 0,
        };
        assert!(self.commands.insert(cid, command).is_none(), "identifier {cid} is in use");
        assert!((self.commands.len() as u32) < self.entries, "the queue overflows");
    }

    fn r2t(&mut self, seen: &Seen) {
        let (cid, ttag) = (seen.u16(8), seen.u16(10));
        let (offset, length) = (seen.u32(12), seen.u32(16));
        let taken = |c: &Command| c.r2ts.iter().any(|(tag, ..)| *tag == ttag);
        assert!(!self.commands.values().any(taken), "transfer tag {ttag} is in use");
        let command = self.commands.get_mut(&cid).expect("a command outstanding");
        assert_eq!(offset, command.asked, "asked for out of order");
        assert!(length > 0 && length <= self.limits.r2t_length);
        assert!(offset + length <= command.transport);
        command.asked += length;
        command.r2ts.push((ttag, offset, offset + length));
        assert!(command.r2ts.len() as u64 <= u64::from(self.maxr2t) + 1, "more R2Ts than MAXR2T");
    }

    fn h2c_data(&mut self, seen: &Seen) {
        let (cid, ttag) = (seen.u16(8), seen.u16(10));
        let (offset, length) = (seen.u32(12), seen.u32(16));
        assert_eq!(length as usize, seen.data.len());
        assert!(length <= self.maxh2cdata, "more than MAXH2CDATA");
        let command = self.commands.get_mut(&cid).expect("a command outstanding");
        let index = command.r2ts.iter().position(|(tag, ..)| *tag == ttag).expect("an R2T's tag");
        let (_, next, end) = &mut command.r2ts[index];
        assert_eq!(offset, *next, "out of order");
        *next += length;
        assert!(*next <= *end, "more than the R2T asked for");
        let last = *next == *end;
        assert_eq!(seen.flags & 4 != 0, last, "LAST");
        command.moved += length;
        if last {
            command.r2ts.remove(index);
        }
    }

    fn c2h_data(&mut self, seen: &Seen) {
        let cid = seen.u16(8);
        let (offset, length) = (seen.u32(12), seen.u32(16));
        assert_eq!(length as usize, seen.data.len());
        assert!(length <= self.limits.c2h_data_length);
        let command = self.commands.get_mut(&cid).expect("a command outstanding");
        assert_eq!(offset, command.moved, "out of order");
        command.moved += length;
        assert!(command.moved <= command.transport);
        let last = seen.flags & 4 != 0;
        assert_eq!(last, command.moved == command.transport, "LAST");
        if seen.flags & 8 != 0 {
            assert!(last && !self.flow_control, "SUCCESS");
            self.commands.remove(&cid);
        }
    }

    fn response(&mut self, seen: &Seen) {
        let (sqhd, cid, status) = (seen.u16(16), seen.u16(20), seen.u16(22));
        assert_eq!(status & 1, 0, "the phase tag");
        let command = self.commands.remove(&cid).expect("a command outstanding");
        assert!(command.r2ts.is_empty(), "answered while R2Ts are outstanding");
        if status == 0 {
            assert_eq!(command.moved, command.transport, "success without all data");
        }
        if command.connect && status == 0 {
            self.entries = command.entries;
            self.flow_control = sqhd != 0xffff;
            assert_eq!(self.flow_control, !command.flow_control_off_asked);
            self.sqhd = sqhd;
        } else if self.flow_control {
            let next = ((u32::from(self.sqhd) + 1) % self.entries) as u16;
            assert_eq!(sqhd, next, "SQHD");
            self.sqhd = sqhd;
        }
    }
}

fn term_req(seen: &Seen) {
    assert_eq!((seen.flags, seen.pdo), (0, 0));
    assert!((24..=152).contains(&seen.plen));
    assert!((1..=6).contains(&seen.u16(8)), "FES");
    assert!(seen.header[14..].iter().all(|b| *b == 0), "reserved");
}

/// Takes a whole PDU off the front, its layout checked.
fn take(stream: &mut Vec<u8>, digests: u8, pda: u8) -> Option<Seen> {
    let [kind, flags, hlen, pdo, l0, l1, l2, l3, ..] = stream[..] else { return None };
    let plen = u32::from_le_bytes([l0, l1, l2, l3]);
    if stream.len() < plen as usize {
        return None;
    }
    let pdu: Vec<u8> = stream.drain(..plen as usize).collect();
    let (right_hlen, own_flags) = match kind {
        0 | 1 => (128, 0),
        4 => (72, 0),
        6 => (24, 4),
        7 => (24, 4 | 8),
        _ => (24, 0),
    };
    assert_eq!(hlen, right_hlen, "HLEN of type {kind}");
    let hlen = usize::from(hlen);
    let header = pdu[..hlen].to_vec();
    let seen = |data| Seen { kind, flags, pdo, plen, header: header.clone(), data };
    if kind <= 3 {
        return Some(seen(pdu[hlen..].to_vec()));
    }
    let hdgst = if digests & 1 != 0 { 4 } else { 0 };
    let with_data = plen as usize > hlen + hdgst;
    let ddgst = if digests & 2 != 0 && with_data { 4 } else { 0 };
    let expected = u8::from(hdgst > 0) | u8::from(ddgst > 0) << 1;
    assert_eq!(flags & !own_flags, expected, "flags of type {kind}");
    if hdgst > 0 {
        assert_eq!(pdu[hlen..hlen + 4], crc32c(&header).to_le_bytes(), "header digest");
    }
    if !with_data {
        assert_eq!((pdo, plen as usize), (0, hlen + hdgst));
        assert!(kind != 6 && kind != 7, "a data PDU without data");
        return Some(seen(Vec::new()));
    }
    let alignment = (usize::from(pda) + 1) * 4;
    let offset = usize::from(pdo);
    assert!(offset >= hlen + hdgst && offset.is_multiple_of(alignment), "PDO {pdo}");
    assert!(offset < hlen + hdgst + alignment, "more padding than needed");
    assert!(pdu[hlen + hdgst..offset].iter().all(|b| *b == 0), "padding");
    let data = pdu[offset..plen as usize - ddgst].to_vec();
    assert!(!data.is_empty());
    if ddgst > 0 {
        assert_eq!(pdu[plen as usize - 4..], crc32c(&data).to_le_bytes(), "data digest");
    }
    Some(seen(data))
}

/// CRC32C, a byte at a time by a table of its own.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut crc = n as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[n] = crc;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, b| crc >> 8 ^ TABLE[((crc ^ u32::from(*b)) & 0xff) as usize])
}
