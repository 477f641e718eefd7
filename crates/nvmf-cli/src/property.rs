//! `nvmf property`

use anyhow::Context;
use nvmf::host::Association;
use nvmf::spec::Status;
use nvmf::spec::print::{FieldSink, Fields, PropertyValue};
use nvmf::spec::property::{self, Cap, Cc, Crto, Csts, Vs, offset};

use crate::args::{self, parse_number};
use crate::connect::Connector;
use crate::failure::Usage;
use crate::output;

/// The properties of fabrics, in the order of their offsets.
const ALL: [(u32, &str); 6] = [
    (offset::CAP, "cap"),
    (offset::VS, "vs"),
    (offset::CC, "cc"),
    (offset::CSTS, "csts"),
    (offset::NSSR, "nssr"),
    (offset::CRTO, "crto"),
];

pub(crate) fn run(args: &args::Property) -> anyhow::Result<()> {
    let (connector, wanted) =
        Connector::with_argument(&args.connect, args.target.as_deref(), args.property.as_deref())?;
    let wanted = wanted.as_deref().map(parse).transpose()?;
    let mut association = connector.connect()?;
    let found = match wanted {
        Some(offset) => read(&mut association, offset).map(|one| vec![one]),
        None => all(&mut association),
    };
    let found = found.with_context(|| format!("cannot ask {}", connector.name()))?;
    match (wanted, &found[..]) {
        (Some(_), [one]) => output::show(args.output.format, one)?,
        _ => output::show(args.output.format, &Properties(&found))?,
    }
    association.shutdown(Vec::new())?;
    Ok(())
}

/// A property's offset, from its name or its number.
fn parse(text: &str) -> anyhow::Result<u32> {
    ALL.iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(text))
        .map(|(offset, _)| *offset)
        .or_else(|| parse_number(text))
        .ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|(_, name)| *name).collect();
            Usage::new(format!(
                "`{text}` is not a property; they are {}, or an offset as in 0x1c",
                names.join(", ")
            ))
            .into()
        })
}

fn read(association: &mut Association, offset: u32) -> anyhow::Result<PropertyValue> {
    let value = association.property_get(offset).with_context(|| match property::name(offset) {
        Some(name) => format!("property {name} ({offset:#x})"),
        None => format!("property {offset:#x}"),
    })?;
    Ok(PropertyValue { offset, value })
}

/// All properties but those that the controller does not have: NSSR and CRTO are optional.
fn all(association: &mut Association) -> anyhow::Result<Vec<PropertyValue>> {
    let mut found = Vec::new();
    for (offset, _) in ALL {
        match association.property_get(offset) {
            Ok(value) => found.push(PropertyValue { offset, value }),
            Err(error) if error.has_status(Status::INVALID_FIELD) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// One line for each.
struct Properties<'a>(&'a [PropertyValue]);

impl Fields for Properties<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        for PropertyValue { offset, value } in self.0 {
            if let Some((_, name)) = ALL.iter().find(|(at, _)| at == offset) {
                match meaning(*offset, *value) {
                    Some(meaning) => out.hex_as(name, *value, meaning),
                    None => out.hex(name, *value),
                }
            }
        }
    }
}

/// What a property says, in words, where it says more than its number.
fn meaning(offset: u32, value: u64) -> Option<String> {
    let low = u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default();
    Some(match offset {
        offset::CAP => {
            let cap = Cap(value);
            format!(
                "queues of up to {} entries, ready within {:.1} s, pages of {} bytes or more",
                u32::from(cap.mqes()) + 1,
                f64::from(cap.to()) / 2.0,
                1u64 << (12 + cap.mpsmin())
            )
        }
        offset::VS => {
            let vs = Vs(low);
            format!("NVMe {}.{}.{}", vs.major(), vs.minor(), vs.tertiary())
        }
        offset::CC => {
            let cc = Cc(low);
            let enabled = if cc.en() == 1 { "enabled" } else { "disabled" };
            match cc.shn() {
                0 => enabled.to_owned(),
                _ => format!("{enabled}, shutdown asked for"),
            }
        }
        offset::CSTS => {
            let csts = Csts(low);
            let mut words = vec![if csts.rdy() == 1 { "ready" } else { "not ready" }];
            if csts.cfs() == 1 {
                words.push("fatal error");
            }
            match csts.shst() {
                0 => {}
                1 => words.push("shutting down"),
                2 => words.push("shut down"),
                _ => words.push("shutdown status reserved"),
            }
            words.join(", ")
        }
        offset::CRTO => {
            let crto = Crto(low);
            format!("ready with media within {:.1} s", f64::from(crto.crwmt()) / 2.0)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_named_or_numbered() {
        assert_eq!(parse("CSTS").unwrap(), offset::CSTS);
        assert_eq!(parse("csts").unwrap(), offset::CSTS);
        assert_eq!(parse("0x1c").unwrap(), offset::CSTS);
        assert_eq!(parse("104").unwrap(), offset::CRTO);
        assert!(parse("cst").unwrap_err().to_string().contains("cap, vs"));
    }

    #[test]
    fn properties_have_a_meaning_whatever_their_bits() {
        for offset in [offset::CAP, offset::VS, offset::CC, offset::CSTS, offset::CRTO] {
            for value in [0, u64::MAX] {
                assert!(meaning(offset, value).is_some_and(|text| !text.is_empty()));
            }
        }
        assert_eq!(meaning(offset::CSTS, 0b1011).unwrap(), "ready, fatal error, shut down");
        assert_eq!(meaning(offset::VS, 0x1_0400).unwrap(), "NVMe 1.4.0");
    }
}
