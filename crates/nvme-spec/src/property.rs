//! Controller properties, the registers of NVMe over Fabrics (Base 2.1, section 3.1.4).

/// Offsets of the properties that exist on fabrics.
pub mod offset {
    /// Controller Capabilities: eight bytes, read-only.
    pub const CAP: u32 = 0x00;
    /// Version: four bytes, read-only.
    pub const VS: u32 = 0x08;
    /// Controller Configuration: four bytes.
    pub const CC: u32 = 0x14;
    /// Controller Status: four bytes, read-only.
    pub const CSTS: u32 = 0x1c;
    /// NVM Subsystem Reset: four bytes.
    pub const NSSR: u32 = 0x20;
    /// Controller Ready Timeouts: four bytes, read-only.
    pub const CRTO: u32 = 0x68;
}

/// The printable name of the property at `offset`.
pub const fn name(offset: u32) -> Option<&'static str> {
    Some(match offset {
        offset::CAP => "CAP",
        offset::VS => "VS",
        offset::CC => "CC",
        offset::CSTS => "CSTS",
        offset::NSSR => "NSSR",
        offset::CRTO => "CRTO",
        _ => return None,
    })
}

/// The property at `offset` is eight bytes wide.
pub const fn is_wide(offset: u32) -> bool {
    offset == offset::CAP
}

/// Bit fields `hi:lo` of a number, as a getter and a setter by value.
macro_rules! bits {
    ($raw:ty; $($(#[$doc:meta])* $get:ident, $with:ident: $ty:ty = $hi:literal : $lo:literal;)*) => {$(
        $(#[$doc])*
        #[allow(clippy::cast_possible_truncation, reason = "masked to the field's width")]
        pub const fn $get(self) -> $ty {
            (self.0 >> $lo & ((1 << ($hi - $lo + 1)) - 1)) as $ty
        }

        #[doc = concat!("The same with `", stringify!($get), "` set; higher bits are cut off.")]
        #[must_use]
        pub const fn $with(self, value: $ty) -> Self {
            let mask: $raw = (1 << ($hi - $lo + 1)) - 1;
            Self(self.0 & !(mask << $lo) | (value as $raw & mask) << $lo)
        }
    )*};
}

/// CAP, Controller Capabilities (Base 2.1, section 3.1.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cap(pub u64);

impl Cap {
    bits! {
        u64;
        /// Maximum Queue Entries Supported, 0's based.
        mqes, with_mqes: u16 = 15:0;
        /// Contiguous Queues Required: 1 on fabrics.
        cqr, with_cqr: u8 = 16:16;
        /// Arbitration Mechanism Supported.
        ams, with_ams: u8 = 18:17;
        /// Timeout for CSTS.RDY to follow CC.EN, in units of 500 ms.
        to, with_to: u8 = 31:24;
        /// Doorbell Stride: 0 on fabrics.
        dstrd, with_dstrd: u8 = 35:32;
        /// NVM Subsystem Reset Supported.
        nssrs, with_nssrs: u8 = 36:36;
        /// Command Sets Supported: bit 0 NVM, bit 6 I/O command sets, bit 7 none.
        css, with_css: u8 = 44:37;
        /// Memory Page Size Minimum: 2^(12 + MPSMIN) bytes.
        mpsmin, with_mpsmin: u8 = 51:48;
        /// Memory Page Size Maximum: 2^(12 + MPSMAX) bytes.
        mpsmax, with_mpsmax: u8 = 55:52;
        /// Controller Ready Modes Supported.
        crms, with_crms: u8 = 60:59;
    }

    /// CSS bit 0: the NVM Command Set.
    pub const CSS_NVM: u8 = 1;
}

/// VS, Version (Base 2.1, section 3.1.4.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Vs(pub u32);

impl Vs {
    /// NVMe 1.4.
    pub const V1_4: Self = Self(0x1_0400);
    /// NVMe 2.0.
    pub const V2_0: Self = Self(0x2_0000);

    bits! {
        u32;
        /// Tertiary version.
        tertiary, with_tertiary: u8 = 7:0;
        /// Minor version.
        minor, with_minor: u8 = 15:8;
        /// Major version.
        major, with_major: u16 = 31:16;
    }
}

/// CC, Controller Configuration (Base 2.1, section 3.1.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cc(pub u32);

impl Cc {
    bits! {
        u32;
        /// Enable.
        en, with_en: u8 = 0:0;
        /// I/O Command Set Selected.
        css, with_css: u8 = 6:4;
        /// Memory Page Size: 2^(12 + MPS) bytes.
        mps, with_mps: u8 = 10:7;
        /// Arbitration Mechanism Selected.
        ams, with_ams: u8 = 13:11;
        /// Shutdown Notification: 1 normal, 2 abrupt.
        shn, with_shn: u8 = 15:14;
        /// I/O Submission Queue Entry Size, as a power of two: 6.
        iosqes, with_iosqes: u8 = 19:16;
        /// I/O Completion Queue Entry Size, as a power of two: 4.
        iocqes, with_iocqes: u8 = 23:20;
        /// Controller Ready Independent of Media Enable.
        crime, with_crime: u8 = 24:24;
    }

    /// What a host writes to enable an NVM controller: EN, IOSQES 6, IOCQES 4.
    pub const ENABLE: Self = Self(0x0046_0001);
    /// Bits that the specification reserves.
    pub const RESERVED: u32 = 0xfe00_000e;
}

/// CSTS, Controller Status (Base 2.1, section 3.1.4.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Csts(pub u32);

impl Csts {
    bits! {
        u32;
        /// Ready.
        rdy, with_rdy: u8 = 0:0;
        /// Controller Fatal Status.
        cfs, with_cfs: u8 = 1:1;
        /// Shutdown Status: 0 normal operation, 1 in progress, 2 complete.
        shst, with_shst: u8 = 3:2;
        /// NVM Subsystem Reset Occurred.
        nssro, with_nssro: u8 = 4:4;
        /// Processing Paused.
        pp, with_pp: u8 = 5:5;
        /// Shutdown Type: 0 controller, 1 NVM subsystem.
        st, with_st: u8 = 6:6;
    }
}

/// CRTO, Controller Ready Timeouts (Base 2.1, section 3.1.4.23).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Crto(pub u32);

impl Crto {
    bits! {
        u32;
        /// Controller Ready With Media Timeout, in units of 500 ms.
        crwmt, with_crwmt: u16 = 15:0;
        /// Controller Ready Independent of Media Timeout, in units of 500 ms.
        crimt, with_crimt: u16 = 31:16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_seen_on_the_wire_are_read_right() {
        let nvmet = Cap(0x0000_0820_0f00_03ff);
        assert_eq!((nvmet.mqes(), nvmet.cqr(), nvmet.to()), (1023, 0, 15));
        assert_eq!(nvmet.css() & Cap::CSS_NVM, 1);
        let spdk = Cap(0x0800_0020_1e01_007f);
        assert_eq!((spdk.mqes(), spdk.cqr(), spdk.to(), spdk.css()), (127, 1, 30, 1));
        assert_eq!(spdk.crms(), 1);
    }

    #[test]
    fn a_field_set_is_the_field_read_and_no_other_changes() {
        let cap = Cap(0).with_mqes(1023).with_cqr(1).with_to(30).with_css(1);
        assert_eq!(cap.0, 0x0000_0020_1e01_03ff);
        assert_eq!(cap.with_to(0).with_to(30), cap);
        assert_eq!(Cc::ENABLE, Cc(0).with_en(1).with_iosqes(6).with_iocqes(4));
        assert_eq!(Csts(0).with_rdy(1).with_shst(2).0, 0b1001);
        assert_eq!(Cc(0).with_en(3).en(), 1);
    }

    #[test]
    fn versions_are_ordered() {
        assert!(Vs::V2_0 > Vs::V1_4);
        assert_eq!((Vs::V1_4.major(), Vs::V1_4.minor(), Vs::V1_4.tertiary()), (1, 4, 0));
    }
}
