//! What of the reservations outlasts a restart, in the shape in which it is written to a file.

use std::collections::BTreeMap;

use nvme_spec::HostId;
use nvme_spec::reservation::ReservationType;
use serde::{Deserialize, Serialize};

use super::state::{Held, State};
use crate::limits::REGISTRANTS;

/// Registrations and reservation of a namespace whose Persist Through Power Loss state is set (Base
/// 2.1, section 8.1.22): what outlasts a restart.
///
/// It is text in the formats of `serde`; what is in there is checked when it is
/// [restored](crate::NamespaceBuilder::reservations).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    generation: u32,
    registrants: Vec<Registrant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reservation: Option<Reservation>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registrant {
    #[serde(with = "host")]
    host: HostId,
    #[serde(with = "key")]
    key: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reservation {
    /// Reservation Type, 1 to 6.
    #[serde(rename = "type")]
    rtype: u8,
    /// Who holds it; absent if all registrants do.
    #[serde(default, with = "holder", skip_serializing_if = "Option::is_none")]
    holder: Option<HostId>,
}

/// Why what was saved cannot be restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There are only six types.
    #[error("{0} is not a reservation type; they are 1 to 6")]
    Type(u8),
    /// A host has one key.
    #[error("host {0} is registered twice")]
    RegisteredTwice(HostId),
    /// More than a namespace takes.
    #[error("{0} hosts are registered; {REGISTRANTS} can be")]
    TooMany(usize),
    /// The holder of a reservation is registered.
    #[error("host {0} holds the reservation and is not registered")]
    HolderNotRegistered(HostId),
    /// What all registrants hold has no one holder, and what one holds has.
    #[error("a reservation of type {0} does not go with the holder given, or with none")]
    Holder(u8),
    /// Where nobody is registered, nobody holds anything.
    #[error("a reservation is held and no host is registered")]
    NobodyRegistered,
}

impl State {
    pub(super) fn saved(&self) -> Option<Saved> {
        self.persistent.then(|| Saved {
            generation: self.generation,
            registrants: self
                .registrants
                .iter()
                .map(|(host, key)| Registrant { host: *host, key: *key })
                .collect(),
            reservation: self
                .held
                .map(|held| Reservation { rtype: held.rtype().to_wire(), holder: held.holder() }),
        })
    }

    pub(super) fn restore(saved: Saved) -> Result<Self, RestoreError> {
        if saved.registrants.len() > REGISTRANTS {
            return Err(RestoreError::TooMany(saved.registrants.len()));
        }
        let mut registrants = BTreeMap::new();
        for Registrant { host, key } in saved.registrants {
            if registrants.insert(host, key).is_some() {
                return Err(RestoreError::RegisteredTwice(host));
            }
        }
        let held = match saved.reservation {
            None => None,
            Some(reservation) => Some(reservation.restore(&registrants)?),
        };
        Ok(Self { registrants, held, generation: saved.generation, persistent: true })
    }
}

impl Reservation {
    fn restore(&self, registrants: &BTreeMap<HostId, u64>) -> Result<Held, RestoreError> {
        let rtype = ReservationType::from_wire(self.rtype).ok_or(RestoreError::Type(self.rtype))?;
        let (first, _) = registrants.first_key_value().ok_or(RestoreError::NobodyRegistered)?;
        match self.holder {
            None if rtype.held_by_all() => Ok(Held::new(rtype, *first)),
            Some(holder) if !rtype.held_by_all() => match registrants.contains_key(&holder) {
                true => Ok(Held::new(rtype, holder)),
                false => Err(RestoreError::HolderNotRegistered(holder)),
            },
            _ => Err(RestoreError::Holder(self.rtype)),
        }
    }
}

/// A Host Identifier as text: a UUID.
mod host {
    use nvme_spec::HostId;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(host: &HostId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(host)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HostId, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// A Host Identifier that may be absent.
mod holder {
    use nvme_spec::HostId;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        holder: &Option<HostId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match holder {
            Some(holder) => super::host::serialize(holder, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<HostId>, D::Error> {
        super::host::deserialize(from).map(Some)
    }
}

/// A key as text, `0x` and 16 hexadecimal digits: many readers of JSON keep only 53 bits of a
/// number.
mod key {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(key: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{key:#018x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        text.strip_prefix("0x")
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| de::Error::custom("a key is 0x and up to 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
        "generation": 9,
        "registrants": [
            {"host": "01010101-0101-0101-0101-010101010101", "key": "0xfedcba9876543210"},
            {"host": "02020202-0202-0202-0202-020202020202", "key": "0x0000000000000000"}
        ],
        "reservation": {"type": 3, "holder": "02020202-0202-0202-0202-020202020202"}
    }"#;

    fn restore(text: &str) -> Result<State, RestoreError> {
        State::restore(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_is_saved_is_text_that_keeps_every_bit_of_a_key() {
        let state = restore(TEXT).unwrap();
        assert_eq!(state.registrants[&HostId([1; 16])], 0xfedc_ba98_7654_3210);
        assert_eq!(
            state.held,
            Some(Held::new(ReservationType::WriteExclusiveRegistrants, HostId([2; 16])))
        );
        assert!(state.persistent);
        let written = serde_json::to_string(&state.saved()).unwrap();
        assert_eq!(written, TEXT.split_whitespace().collect::<String>());
    }

    #[test]
    fn what_all_hold_is_saved_without_a_holder() {
        let all = TEXT.replace(
            "\"type\": 3, \"holder\": \"02020202-0202-0202-0202-020202020202\"",
            "\"type\": 6",
        );
        let state = restore(&all).unwrap();
        assert_eq!(state.held.unwrap().rtype(), ReservationType::ExclusiveAccessAll);
        assert_eq!(state.held.unwrap().holder(), None);
        let written = serde_json::to_string(&state.saved()).unwrap();
        assert_eq!(written, all.split_whitespace().collect::<String>());
    }

    #[test]
    fn what_contradicts_itself_is_not_restored() {
        let with = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            restore(&TEXT.replace(from, to)).unwrap_err()
        };
        assert_eq!(with("\"type\": 3", "\"type\": 0"), RestoreError::Type(0));
        assert_eq!(with("\"type\": 3", "\"type\": 7"), RestoreError::Type(7));
        assert_eq!(with("\"type\": 3", "\"type\": 5"), RestoreError::Holder(5));
        let holder = ", \"holder\": \"02020202-0202-0202-0202-020202020202\"";
        assert_eq!(with(holder, ""), RestoreError::Holder(3));
        assert_eq!(
            with("\"holder\": \"02", "\"holder\": \"03"),
            RestoreError::HolderNotRegistered(
                "03020202-0202-0202-0202-020202020202".parse().unwrap()
            )
        );
        let second = "{\"host\": \"02020202-0202-0202-0202-020202020202\"";
        let first = "{\"host\": \"01010101-0101-0101-0101-010101010101\"";
        assert_eq!(with(second, first), RestoreError::RegisteredTwice(HostId([1; 16])));
        assert_eq!(
            restore(r#"{"generation":0,"registrants":[],"reservation":{"type":5}}"#),
            Err(RestoreError::NobodyRegistered)
        );
        let hosts: Vec<_> = (0..=REGISTRANTS)
            .map(|n| Registrant { host: HostId((n as u128).to_le_bytes()), key: 1 })
            .collect();
        let saved = Saved { generation: 0, registrants: hosts, reservation: None };
        assert_eq!(State::restore(saved), Err(RestoreError::TooMany(REGISTRANTS + 1)));
    }

    #[test]
    fn what_is_no_key_and_no_host_is_not_read() {
        let reads = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            serde_json::from_str::<Saved>(&TEXT.replace(from, to)).is_ok()
        };
        assert!(reads("0xfedcba9876543210", "0x1"));
        for key in ["fedcba9876543210", "0x", "0x+1", "0xfedcba98765432100", "0xg"] {
            assert!(!reads("0xfedcba9876543210", key), "{key}");
        }
        assert!(!reads("01010101-", "0101010-"));
        assert!(!reads("\"generation\": 9", "\"generation\": 9, \"more\": 1"));
        assert!(!reads("\"generation\": 9", "\"generation\": 4294967296"));
        assert!(!reads("\"type\": 3", "\"type\": 256"));
    }
}
