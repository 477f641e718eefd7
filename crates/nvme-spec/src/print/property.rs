//! Properties of a controller.

use super::identify::{Size, Version};
use super::{FieldSink, Fields};
use crate::property::{Cap, Cc, Crto, Csts, Vs, offset};

/// The value of a property, understood by its offset: what Property Get returned or Property Set
/// carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyValue {
    /// Where the property is ([`offset`]).
    pub offset: u32,
    /// Its value; the upper half is 0 for one of four bytes.
    pub value: u64,
}

impl Fields for PropertyValue {
    #[allow(clippy::cast_possible_truncation, reason = "these properties have four bytes")]
    fn fields(&self, out: &mut dyn FieldSink) {
        let low = self.value as u32;
        match self.offset {
            offset::CAP => Cap(self.value).fields(out),
            offset::VS => Vs(low).fields(out),
            offset::CC => Cc(low).fields(out),
            offset::CSTS => Csts(low).fields(out),
            offset::CRTO => Crto(low).fields(out),
            offset::NSSR => out.hex("nssr", low),
            _ => out.hex("value", self.value),
        }
    }
}

impl Fields for Cap {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex("cap", self.0);
        let entries = u32::from(self.mqes()) + 1;
        out.number_as("mqes", self.mqes(), format_args!("{entries} entries"));
        out.number("cqr", self.cqr());
        out.number("ams", self.ams());
        out.number_as("to", self.to(), format_args!("{} ms", u32::from(self.to()) * 500));
        out.number("dstrd", self.dstrd());
        out.number("nssrs", self.nssrs());
        out.bits(
            "css",
            self.css(),
            &[(0, "NVM"), (6, "I/O command sets"), (7, "no I/O command set")],
        );
        out.number_as("mpsmin", self.mpsmin(), Size(4096 << self.mpsmin()));
        out.number_as("mpsmax", self.mpsmax(), Size(4096 << self.mpsmax()));
        out.bits("crms", self.crms(), &[(0, "with media"), (1, "independent of media")]);
    }
}

impl Fields for Vs {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex_as("vs", self.0, Version(self.0));
    }
}

impl Fields for Cc {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex("cc", self.0);
        out.number("en", self.en());
        out.number_as(
            "css",
            self.css(),
            match self.css() {
                0 => "NVM",
                6 => "all supported",
                7 => "admin only",
                _ => "reserved",
            },
        );
        out.number_as("mps", self.mps(), Size(4096 << self.mps()));
        out.number("ams", self.ams());
        out.number_as(
            "shn",
            self.shn(),
            match self.shn() {
                0 => "none",
                1 => "normal",
                2 => "abrupt",
                _ => "reserved",
            },
        );
        let entry = |power: u8| Size(1 << power);
        out.number_as("iosqes", self.iosqes(), entry(self.iosqes()));
        out.number_as("iocqes", self.iocqes(), entry(self.iocqes()));
        out.number("crime", self.crime());
    }
}

impl Fields for Csts {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex("csts", self.0);
        out.number("rdy", self.rdy());
        out.number("cfs", self.cfs());
        out.number_as(
            "shst",
            self.shst(),
            match self.shst() {
                0 => "normal operation",
                1 => "shutting down",
                2 => "shut down",
                _ => "reserved",
            },
        );
        out.number("nssro", self.nssro());
        out.number("pp", self.pp());
        out.number("st", self.st());
    }
}

impl Fields for Crto {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex("crto", self.0);
        let ms = |timeout: u16| u32::from(timeout) * 500;
        out.number_as("crwmt", self.crwmt(), format_args!("{} ms", ms(self.crwmt())));
        out.number_as("crimt", self.crimt(), format_args!("{} ms", ms(self.crimt())));
    }
}
