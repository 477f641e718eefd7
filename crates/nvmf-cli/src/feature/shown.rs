//! A feature as it is shown.

use nvmf::spec::feature::{
    self, Arbitration, AsyncEventConfig, ErrorRecovery, HostBehaviorSupport, KeepAliveTimer,
    NumberOfQueues, PowerManagement, ReservationNotificationMask, ReservationPersistence, Select,
    SupportedCapabilities, TemperatureThreshold, Timestamp, VolatileWriteCache, WriteAtomicity,
    fid,
};
use nvmf::spec::print::{FieldSink, Fields, Line};
use zerocopy::FromBytes;

use crate::output;

/// What a controller says of a feature.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) fid: u8,
    pub(super) select: Select,
    /// Dword 0 of the answer.
    pub(super) value: u32,
    /// Empty for features that have none.
    pub(super) data: Vec<u8>,
}

impl Fields for Shown {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex_as("feature", self.fid, feature::name(self.fid));
        out.text("name", feature::name(self.fid));
        out.text("select", word(self.select));
        out.hex("value", self.value);
        if self.is_known() {
            out.object("fields", &Known(self));
        }
        if !self.data.is_empty() {
            out.bytes("data", &self.data);
        }
    }
}

impl Shown {
    /// The same for people, who need not be told everything twice.
    pub(super) fn for_people(&self) -> impl Fields + '_ {
        ForPeople(self)
    }

    /// Whether the value or the data is understood.
    fn is_known(&self) -> bool {
        let mut any = Any(false);
        Known(self).fields(&mut any);
        any.0
    }
}

/// Several features, a line each.
pub(super) fn table(all: &[Shown]) -> impl std::fmt::Display {
    let mut table = output::table(&["feature", "name", "value", "meaning"]);
    for shown in all {
        let Shown { fid, value, data, .. } = shown;
        let meaning = if shown.is_known() {
            Line(&Known(shown)).to_string()
        } else {
            data.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        table.add_row([
            format!("{fid:#04x}"),
            feature::name(*fid).to_owned(),
            format!("{value:#x}"),
            meaning,
        ]);
    }
    table
}

struct ForPeople<'a>(&'a Shown);

impl Fields for ForPeople<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let Self(shown) = self;
        out.hex_as("feature", shown.fid, feature::name(shown.fid));
        out.text("select", word(shown.select));
        out.hex("value", shown.value);
        Known(shown).fields(out);
        if !(shown.data.is_empty() || shown.is_known()) {
            out.bytes("data", &shown.data);
        }
    }
}

/// Whether there is any field.
struct Any(bool);

impl FieldSink for Any {
    fn field(&mut self, _: nvmf::spec::print::Field<'_>) {
        self.0 = true;
    }
}

/// What the value and the data mean.
struct Known<'a>(&'a Shown);

impl Fields for Known<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let Shown { fid, select, value, ref data } = *self.0;
        if select == Select::Supported {
            return SupportedCapabilities(value).fields(out);
        }
        match fid {
            fid::ARBITRATION => Arbitration(value).fields(out),
            fid::POWER_MANAGEMENT => PowerManagement(value).fields(out),
            fid::TEMPERATURE_THRESHOLD => TemperatureThreshold(value).fields(out),
            fid::ERROR_RECOVERY => ErrorRecovery(value).fields(out),
            fid::VOLATILE_WRITE_CACHE => VolatileWriteCache(value).fields(out),
            fid::NUMBER_OF_QUEUES => NumberOfQueues::from_dw0(value).fields(out),
            fid::WRITE_ATOMICITY => WriteAtomicity(value).fields(out),
            fid::ASYNC_EVENT_CONFIG => AsyncEventConfig(value).fields(out),
            fid::KEEP_ALIVE_TIMER => KeepAliveTimer(value).fields(out),
            fid::RESERVATION_MASK => ReservationNotificationMask(value).fields(out),
            fid::RESERVATION_PERSISTENCE => ReservationPersistence(value).fields(out),
            fid::TIMESTAMP => data_as::<Timestamp>(data, out),
            fid::HOST_BEHAVIOR_SUPPORT => data_as::<HostBehaviorSupport>(data, out),
            fid::WRITE_PROTECTION => {
                let state = value & 0x7;
                out.number_as("wps", state, write_protection(state));
            }
            _ => {}
        }
    }
}

/// What a Write Protection State means.
const fn write_protection(state: u32) -> &'static str {
    match state {
        0 => "none",
        1 => "until taken off",
        2 => "until the next power cycle",
        3 => "for good",
        _ => "reserved",
    }
}

fn data_as<T: Fields + FromBytes>(data: &[u8], out: &mut dyn FieldSink) {
    if let Ok(structure) = T::read_from_bytes(data) {
        structure.fields(out);
    }
}

fn word(select: Select) -> &'static str {
    match select {
        Select::Current => "current",
        Select::Default => "default",
        Select::Saved => "saved",
        Select::Supported => "supported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvmf::spec::print::{Json, Table};

    fn shown(fid: u8, select: Select, value: u32, data: &[u8]) -> Shown {
        Shown { fid, select, value, data: data.to_vec() }
    }

    #[test]
    fn json_has_number_name_value_fields_and_data() {
        let cache = shown(fid::VOLATILE_WRITE_CACHE, Select::Current, 1, &[]);
        assert_eq!(
            Json(&cache).to_string(),
            r#"{"feature":6,"name":"Volatile Write Cache","select":"current","value":1,"fields":{"wce":1}}"#
        );
        let id = shown(fid::HOST_IDENTIFIER, Select::Current, 0, &[0xab; 16]);
        let json = Json(&id).to_string();
        assert!(json.ends_with(&format!(r#""value":0,"data":"{}"}}"#, "ab".repeat(16))), "{json}");
        let can = shown(fid::TIMESTAMP, Select::Supported, 4, &[]);
        assert!(Json(&can).to_string().contains(r#""changeable":1"#));
    }

    #[test]
    fn every_feature_is_shown_whatever_its_bits() {
        for fid in 0..=u8::MAX {
            for (value, byte) in [(0, 0), (u32::MAX, 0xff)] {
                for length in [0, 7, 8, 512] {
                    let shown = shown(fid, Select::Current, value, &vec![byte; length]);
                    assert!(Table(&shown.for_people()).to_string().contains("value"));
                    assert!(Json(&shown).to_string().contains("value"));
                }
            }
        }
    }
}
