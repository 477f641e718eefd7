//! Discovery log page (LID 70h; Base 2.1, section 5.1.12): a header of 1,024 bytes, then
//! entries of 1,024 bytes, one for each way to reach a subsystem. Extended entries go on with what
//! [`ExtendedDiscoveryEntry`](super::ExtendedDiscoveryEntry) has.

use core::fmt;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::discovery_records::DiscoveryRecords;
use crate::identify::{Ascii, write_ascii};
use crate::nqn::{Nqn, NqnError};
use crate::wire::wire;

wire! {
    /// The header of the page.
    pub struct DiscoveryHeader: 1024 bytes {
        /// Generation Counter: changes whenever the page does.
        0 => genctr: U64,
        /// Number of Records that follow.
        8 => numrec: U64,
        /// Record Format: 0.
        16 => recfmt: U16,
        /// Discovery Log Page Flags: what the page was asked to be (`DLPF_*`).
        18 => dlpf: u8,
        /// Reserved.
        19 => reserved1: u8,
        /// Total Discovery Log Page Length, in bytes.
        20 => tdlpl: U32,
        /// Reserved.
        24 => reserved2: [u8; 1000],
    }
}

impl DiscoveryHeader {
    /// Bit 0 of DLPF, and of the Log Specific Parameter: entries are of the extended format.
    pub const DLPF_EXTENDED: u8 = 1 << 0;
    /// Bit 1 of DLPF, and of the Log Specific Parameter: only entries of the port asked.
    pub const DLPF_PORT_LOCAL: u8 = 1 << 1;
    /// Bit 2 of DLPF, and of the Log Specific Parameter: entries of all subsystems.
    pub const DLPF_ALL_SUBSYSTEMS: u8 = 1 << 2;

    /// Whether the entries are of the extended format.
    pub const fn is_extended(&self) -> bool {
        self.dlpf & Self::DLPF_EXTENDED != 0
    }

    /// A header for this many entries of the plain format.
    pub fn new(genctr: u64, numrec: u64) -> Self {
        let len = numrec.saturating_add(1).saturating_mul(1024);
        Self {
            genctr: genctr.into(),
            numrec: numrec.into(),
            tdlpl: u32::try_from(len).unwrap_or(u32::MAX).into(),
            ..Self::default()
        }
    }
}

wire! {
    /// An entry of the page: a subsystem and one way to reach it.
    pub struct DiscoveryEntry: 1024 bytes {
        /// Transport Type ([`trtype`]).
        0 => trtype: u8,
        /// Address Family ([`adrfam`]).
        1 => adrfam: u8,
        /// Subsystem Type ([`subtype`]).
        2 => subtype: u8,
        /// Transport Requirements ([`treq`]).
        3 => treq: u8,
        /// Port ID.
        4 => portid: U16,
        /// Controller ID: FFFFh dynamic, FFFEh static, else this one.
        6 => cntlid: U16,
        /// Admin Max SQ Size, at least 32.
        8 => asqsz: U16,
        /// Entry Flags ([`eflags`]).
        10 => eflags: U16,
        /// Reserved.
        12 => reserved1: [u8; 20],
        /// Transport Service Identifier, ASCII: the port number, in decimal, for TCP.
        32 => trsvcid: [u8; 32],
        /// Reserved.
        64 => reserved2: [u8; 192],
        /// NVM Subsystem Qualified Name, closed by a NUL.
        256 => subnqn: [u8; 256],
        /// Transport Address, ASCII.
        512 => traddr: [u8; 256],
        /// Transport Specific Address Subtype; for TCP its first byte is [`sectype`].
        768 => tsas: [u8; 256],
    }
}

/// Transport Types.
pub mod trtype {
    /// RDMA.
    pub const RDMA: u8 = 1;
    /// Fibre Channel.
    pub const FC: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 3;
    /// Intra-host transport.
    pub const LOOP: u8 = 254;

    /// As nvme-cli writes it.
    pub const fn name(trtype: u8) -> &'static str {
        match trtype {
            RDMA => "rdma",
            FC => "fc",
            TCP => "tcp",
            LOOP => "loop",
            _ => "unrecognized",
        }
    }
}

/// Address Families.
pub mod adrfam {
    /// IPv4.
    pub const IPV4: u8 = 1;
    /// IPv6.
    pub const IPV6: u8 = 2;
    /// InfiniBand.
    pub const IB: u8 = 3;
    /// Fibre Channel.
    pub const FC: u8 = 4;
    /// Intra-host transport.
    pub const LOOP: u8 = 254;

    /// As nvme-cli writes it.
    pub const fn name(adrfam: u8) -> &'static str {
        match adrfam {
            0 => "pci",
            IPV4 => "ipv4",
            IPV6 => "ipv6",
            IB => "infiniband",
            FC => "fibre-channel",
            LOOP => "loop",
            _ => "unrecognized",
        }
    }
}

/// Subsystem Types.
pub mod subtype {
    /// Another discovery subsystem, to be asked too.
    pub const REFERRAL: u8 = 1;
    /// An NVM subsystem.
    pub const NVM: u8 = 2;
    /// The discovery subsystem that was asked.
    pub const CURRENT: u8 = 3;

    /// As nvme-cli writes it.
    pub const fn name(subtype: u8) -> &'static str {
        match subtype {
            REFERRAL => "discovery subsystem referral",
            NVM => "nvme subsystem",
            CURRENT => "current discovery subsystem",
            _ => "unrecognized",
        }
    }
}

/// Transport Requirements.
pub mod treq {
    /// Bits 1:0: nothing is said of a secure channel.
    pub const NOT_SPECIFIED: u8 = 0;
    /// Bits 1:0: a secure channel is required.
    pub const REQUIRED: u8 = 1;
    /// Bits 1:0: a secure channel is not required.
    pub const NOT_REQUIRED: u8 = 2;
    /// Bits 1:0.
    pub const SECURE_CHANNEL_MASK: u8 = 3;
    /// Bit 2: submission queue flow control may be disabled.
    pub const SQ_FLOW_DISABLE: u8 = 1 << 2;

    /// As nvme-cli writes it.
    pub const fn name(treq: u8) -> &'static str {
        match treq {
            0 => "not specified",
            1 => "required",
            2 => "not required",
            4 => "not specified, sq flow control disable supported",
            5 => "required, sq flow control disable supported",
            6 => "not required, sq flow control disable supported",
            _ => "unrecognized",
        }
    }
}

/// Entry Flags.
pub mod eflags {
    /// DUPRETINFO: the entry is also given by other ports of the discovery subsystem.
    pub const DUPLICATE: u16 = 1 << 0;
    /// EPCSD: explicit persistent connections to this discovery controller are supported.
    pub const EXPLICIT_PERSISTENT: u16 = 1 << 1;
    /// NCC: no connectivity to a central discovery controller.
    pub const NO_CDC: u16 = 1 << 2;
}

/// Security Types of TCP.
pub mod sectype {
    /// No security.
    pub const NONE: u8 = 0;
    /// TLS 1.2 and earlier.
    pub const TLS12: u8 = 1;
    /// TLS 1.3.
    pub const TLS13: u8 = 2;

    /// As nvme-cli writes it.
    pub const fn name(sectype: u8) -> &'static str {
        match sectype {
            NONE => "none",
            TLS12 => "tls",
            TLS13 => "tls13",
            _ => "unrecognized",
        }
    }
}

impl DiscoveryEntry {
    /// A controller ID that means dynamic allocation.
    pub const CNTLID_DYNAMIC: u16 = 0xffff;

    /// A controller ID that means any of those that there are.
    pub const CNTLID_STATIC: u16 = 0xfffe;

    /// The least ASQSZ there may be.
    pub const ASQSZ_MIN: u16 = 32;

    /// An entry for TCP, with dynamic controllers, an admin queue of the least size, and no TLS.
    pub fn tcp(
        subtype: u8,
        subnqn: &Nqn,
        adrfam: u8,
        traddr: &str,
        trsvcid: &str,
    ) -> Result<Self, TextTooLong> {
        let mut entry = Self {
            trtype: trtype::TCP,
            adrfam,
            subtype,
            treq: treq::NOT_SPECIFIED,
            cntlid: Self::CNTLID_DYNAMIC.into(),
            asqsz: Self::ASQSZ_MIN.into(),
            subnqn: subnqn.to_wire(),
            ..Self::default()
        };
        set_text(&mut entry.traddr, traddr)?;
        set_text(&mut entry.trsvcid, trsvcid)?;
        Ok(entry)
    }

    /// The transport address, without padding.
    pub fn address(&self) -> Ascii<'_> {
        Ascii::new(&self.traddr)
    }

    /// The transport service identifier, without padding.
    pub fn service(&self) -> Ascii<'_> {
        Ascii::new(&self.trsvcid)
    }

    /// The TCP port, if the service identifier is one.
    pub fn port(&self) -> Option<u16> {
        self.service().as_str()?.parse().ok()
    }

    /// The subsystem's name.
    pub fn subsystem_nqn(&self) -> Result<Nqn, NqnError> {
        Nqn::from_wire(&self.subnqn)
    }

    /// The security type, of a TCP entry.
    pub const fn sectype(&self) -> Option<u8> {
        match self.trtype {
            trtype::TCP => Some(self.tsas[0]),
            _ => None,
        }
    }
}

fn set_text(field: &mut [u8], text: &str) -> Result<(), TextTooLong> {
    if text.len() > field.len() {
        return Err(TextTooLong { len: text.len(), limit: field.len() });
    }
    write_ascii(field, text);
    Ok(())
}

/// A text does not fit its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextTooLong {
    /// Bytes of the text.
    pub len: usize,
    /// Bytes of the field.
    pub limit: usize,
}

impl fmt::Display for TextTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the text has {} bytes and its field {}", self.len, self.limit)
    }
}

impl core::error::Error for TextTooLong {}

/// A page as it was read: the header, and the entries that are there.
#[derive(Clone, Copy)]
pub struct DiscoveryLog<'a> {
    /// The header.
    pub header: &'a DiscoveryHeader,
    entries: &'a [u8],
}

impl<'a> DiscoveryLog<'a> {
    /// Reads a page of either format; `None` if it does not even hold a header.
    pub fn parse(page: &'a [u8]) -> Option<Self> {
        let (header, entries) = DiscoveryHeader::ref_from_prefix(page).ok()?;
        Some(Self { header, entries })
    }

    /// The entries, as many as the header claims. If they are not all there, they end with an
    /// error.
    pub fn records(&self) -> DiscoveryRecords<'a> {
        DiscoveryRecords::new(self.header, self.entries)
    }

    /// What all entries have that could be read.
    pub fn entries(&self) -> impl Iterator<Item = &'a DiscoveryEntry> + Clone {
        self.records().map_while(Result::ok).map(|record| record.entry)
    }

    /// Whether all entries that the header claims are here.
    pub fn is_complete(&self) -> bool {
        self.records().all(|record| record.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;
    use zerocopy::IntoBytes;

    fn entry() -> DiscoveryEntry {
        let nqn = Nqn::lenient("nqn.2024-01.com.example:disk").unwrap();
        DiscoveryEntry::tcp(subtype::NVM, &nqn, adrfam::IPV4, "192.0.2.1", "4420").unwrap()
    }

    #[test]
    fn an_entry_has_its_bytes_where_the_specification_puts_them() {
        let mut entry = entry();
        entry.portid.set(0x0102);
        entry.eflags.set(eflags::EXPLICIT_PERSISTENT);
        entry.tsas[0] = sectype::TLS13;
        let bytes = entry.as_bytes();
        assert_eq!(bytes[..12], [3, 1, 2, 0, 2, 1, 0xff, 0xff, 32, 0, 2, 0]);
        assert_eq!(&bytes[32..38], b"4420  ");
        assert_eq!(bytes[64..256], [0; 192]);
        assert_eq!(&bytes[256..260], b"nqn.");
        assert_eq!(bytes[511], 0);
        assert_eq!(&bytes[512..523], b"192.0.2.1  ");
        assert_eq!(bytes[768..770], [2, 0]);
    }

    #[test]
    fn fields_of_an_entry_read_back() {
        let mut entry = entry();
        assert_eq!(entry.address().as_str(), Some("192.0.2.1"));
        assert_eq!(entry.port(), Some(4420));
        assert_eq!(entry.subsystem_nqn().unwrap().as_str(), "nqn.2024-01.com.example:disk");
        assert_eq!(entry.sectype(), Some(sectype::NONE));
        // As other targets pad.
        entry.trsvcid = [0; 32];
        entry.trsvcid[..4].copy_from_slice(b"8009");
        assert_eq!(entry.port(), Some(8009));
        entry.trsvcid[4] = b'9';
        assert_eq!(entry.port(), None);
        entry.trtype = trtype::RDMA;
        assert_eq!(entry.sectype(), None);
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused() {
        let long = "1".repeat(257);
        let entry = |traddr, trsvcid| {
            DiscoveryEntry::tcp(subtype::NVM, &Nqn::DISCOVERY, adrfam::IPV4, traddr, trsvcid)
        };
        assert!(entry(&long[..256], &long[..32]).is_ok());
        assert_eq!(entry(&long, "1").unwrap_err(), TextTooLong { len: 257, limit: 256 });
        assert_eq!(entry("1", &long[..33]).unwrap_err(), TextTooLong { len: 33, limit: 32 });
    }

    #[test]
    fn a_page_gives_the_entries_it_holds() {
        let mut page = DiscoveryHeader::new(7, 2).as_bytes().to_vec();
        assert_eq!(
            page[..24],
            [7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]
        );
        page.extend_from_slice(entry().as_bytes());
        let log = DiscoveryLog::parse(&page).unwrap();
        assert_eq!((log.entries().count(), log.is_complete()), (1, false));
        page.extend_from_slice(entry().as_bytes());
        page.extend_from_slice(entry().as_bytes());
        let log = DiscoveryLog::parse(&page).unwrap();
        assert_eq!((log.entries().count(), log.is_complete()), (2, true));
        assert!(DiscoveryLog::parse(&page[..1023]).is_none());
        for end in 1024..page.len() {
            assert_eq!(
                DiscoveryLog::parse(&page[..end]).unwrap().entries().count(),
                (end / 1024 - 1).min(2)
            );
        }
    }

    #[test]
    fn a_page_that_claims_too_much_gives_what_it_holds() {
        let mut page: Vec<u8> = std::vec![0xff; 5000];
        page[18] = 0;
        let log = DiscoveryLog::parse(&page).unwrap();
        assert_eq!((log.entries().count(), log.is_complete()), (3, false));
    }
}
