//! `nvmf feature`

pub(crate) mod args;
mod shown;

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context;
use nvmf::host::Association;
use nvmf::spec::Status;
use nvmf::spec::feature::{self, HOST_ID_EXTENDED, Select, fid};
use nvmf::spec::log::{FeatureEffects, GetLogPage, lid};
use nvmf::spec::print::{FieldSink, Fields};
use zerocopy::FromBytes;

use crate::args::{Format, parse_number};
use crate::connect::Connector;
use crate::failure::Usage;
use crate::output;

use args::Selected;
use shown::Shown;

/// The features that have a short name here.
const NAMES: [(&str, u8); 15] = [
    ("arbitration", fid::ARBITRATION),
    ("power", fid::POWER_MANAGEMENT),
    ("temperature", fid::TEMPERATURE_THRESHOLD),
    ("error-recovery", fid::ERROR_RECOVERY),
    ("write-cache", fid::VOLATILE_WRITE_CACHE),
    ("queues", fid::NUMBER_OF_QUEUES),
    ("write-atomicity", fid::WRITE_ATOMICITY),
    ("events", fid::ASYNC_EVENT_CONFIG),
    ("timestamp", fid::TIMESTAMP),
    ("keep-alive", fid::KEEP_ALIVE_TIMER),
    ("host-behavior", fid::HOST_BEHAVIOR_SUPPORT),
    ("host-id", fid::HOST_IDENTIFIER),
    ("reservation-mask", fid::RESERVATION_MASK),
    ("reservation-persistence", fid::RESERVATION_PERSISTENCE),
    ("write-protection", fid::WRITE_PROTECTION),
];

/// The most data that any feature has.
const MOST_DATA: u64 = 4096;

pub(crate) fn run(args: &args::Feature) -> anyhow::Result<()> {
    let (connector, wanted) =
        Connector::with_argument(&args.connect, args.target.as_deref(), args.feature.as_deref())?;
    let wanted = wanted.as_deref().map(parse).transpose()?;
    let sets = args.value.is_some() || args.data.is_some();
    if wanted.is_none() && (sets || args.raw || args.cdw11.is_some()) {
        return Err(Usage::new("no feature; name the one that is meant").into());
    }
    if let Some(fid) = wanted.filter(|fid| args.raw && data_length(*fid) == 0) {
        return Err(Usage::new(format!("feature {} has no data, but a value", named(fid))).into());
    }
    let data = args.data.as_deref().map(read_data).transpose()?;
    let connector = connector.with_namespace(args.namespace_id)?;
    let nsid = connector.target.nsid;
    let mut association = connector.connect()?;
    let ask = Ask { select: select(args.select), nsid, cdw11: args.cdw11 };
    match wanted {
        Some(fid) => {
            let what = |verb: &str| {
                format!("cannot {verb} feature {} of {}", named(fid), connector.name())
            };
            let ask = if sets {
                let value = args.value.unwrap_or_default();
                let data = data.as_deref().unwrap_or_default();
                association
                    .set_feature(fid, nsid.unwrap_or(0), value, data)
                    .with_context(|| what("set"))?;
                Ask { cdw11: selector(fid, value), ..ask }
            } else {
                ask
            };
            let one = get(&mut association, fid, ask).with_context(|| what("get"))?;
            show(&one, args)?;
        }
        None => {
            let all = all(&mut association, ask)
                .with_context(|| format!("cannot get the features of {}", connector.name()))?;
            match args.output.format {
                Format::Json => output::show(Format::Json, &All(&all))?,
                Format::Normal => output::print(shown::table(&all))?,
            }
        }
    }
    association.shutdown(Vec::new())?;
    Ok(())
}

fn show(one: &Shown, args: &args::Feature) -> io::Result<()> {
    if args.raw {
        let mut out = io::stdout().lock();
        out.write_all(&one.data)?;
        return out.flush();
    }
    match args.output.format {
        Format::Json => output::show(Format::Json, one),
        Format::Normal => output::show(Format::Normal, &one.for_people()),
    }
}

/// What is asked of a feature beside its number.
#[derive(Clone, Copy)]
struct Ask {
    select: Select,
    nsid: Option<u32>,
    cdw11: Option<u32>,
}

fn get(association: &mut Association, fid: u8, ask: Ask) -> Result<Shown, nvmf::Error> {
    let length = if ask.select == Select::Supported { 0 } else { data_length(fid) };
    let mut data = vec![0; length];
    let extended = if fid == fid::HOST_IDENTIFIER { HOST_ID_EXTENDED } else { 0 };
    let cdw11 = ask.cdw11.unwrap_or(0) | extended;
    let nsid = ask.nsid.unwrap_or(0);
    let value = association.get_feature_with(fid, ask.select, nsid, cdw11, &mut data)?;
    Ok(Shown { fid, select: ask.select, value, data })
}

/// All features that the controller has; those of namespaces only if one was named.
fn all(association: &mut Association, ask: Ask) -> Result<Vec<Shown>, nvmf::Error> {
    let mut found = Vec::new();
    for fid in there(association)? {
        let of_namespace = is_of_namespace(fid);
        if of_namespace && ask.nsid.is_none() {
            continue;
        }
        let nsid = ask.nsid.filter(|_| of_namespace);
        match get(association, fid, Ask { nsid, ..ask }) {
            Ok(one) => found.push(one),
            Err(error) if error.has_status(Status::INVALID_FIELD) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The features that the controller says it has; where it does not, all that have a name.
fn there(association: &mut Association) -> Result<Vec<u8>, nvmf::Error> {
    let named = |fid: &u8| !matches!(feature::name(*fid), "Unknown" | "Vendor Specific");
    let request = GetLogPage { lid: lid::FEATURE_EFFECTS, rae: true, ..GetLogPage::default() };
    let page = match association.log_page(request, 1024) {
        Ok(page) => page,
        Err(nvmf::Error::Status { .. }) => return Ok((0..=u8::MAX).filter(named).collect()),
        Err(error) => return Err(error),
    };
    let Ok(page) = FeatureEffects::read_from_bytes(&page) else {
        return Ok((0..=u8::MAX).filter(named).collect());
    };
    let supported = |fid: &u8| page.fids[usize::from(*fid)].get() & FeatureEffects::SUPPORTED != 0;
    Ok((0..=u8::MAX).filter(supported).collect())
}

/// Several features, by name.
struct All<'a>(&'a [Shown]);

impl Fields for All<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.objects("features", self.0.iter());
    }
}

fn select(selected: Selected) -> Select {
    match selected {
        Selected::Current => Select::Current,
        Selected::Default => Select::Default,
        Selected::Saved => Select::Saved,
        Selected::Supported => Select::Supported,
    }
}

/// The bytes of data that a feature has beside its value.
const fn data_length(fid: u8) -> usize {
    match fid {
        fid::TIMESTAMP => 8,
        fid::HOST_IDENTIFIER => 16,
        fid::AUTONOMOUS_POWER => 256,
        fid::HOST_BEHAVIOR_SUPPORT => 512,
        fid::LBA_RANGE_TYPE => 4096,
        _ => 0,
    }
}

/// Whether each namespace has a value of its own.
const fn is_of_namespace(fid: u8) -> bool {
    matches!(
        fid,
        fid::LBA_RANGE_TYPE
            | fid::RESERVATION_MASK
            | fid::RESERVATION_PERSISTENCE
            | fid::WRITE_PROTECTION
    )
}

/// What of a value that was set says which one it is, so that the same is read again.
fn selector(fid: u8, value: u32) -> Option<u32> {
    // TMPSEL and THSEL
    (fid == fid::TEMPERATURE_THRESHOLD).then_some(value & 0x003f_0000)
}

fn read_data(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut data = Vec::new();
    let from: io::Result<Box<dyn Read>> = if path == Path::new("-") {
        Ok(Box::new(io::stdin().lock()))
    } else {
        std::fs::File::open(path).map(|file| Box::new(file) as _)
    };
    from.and_then(|from| from.take(MOST_DATA + 1).read_to_end(&mut data))
        .with_context(|| format!("cannot read {}", path.display()))?;
    if data.is_empty() || data.len() as u64 > MOST_DATA {
        return Err(Usage::new(format!(
            "{} is no feature's data: that is 1 to {MOST_DATA} bytes",
            path.display()
        ))
        .into());
    }
    Ok(data)
}

/// A feature's identifier, from its name or its number.
fn parse(text: &str) -> anyhow::Result<u8> {
    let plain = |name: &str| name.to_ascii_lowercase().replace([' ', '_'], "-");
    let wanted = plain(text);
    let short = NAMES.iter().find(|(name, _)| *name == wanted).map(|(_, fid)| *fid);
    let long = || (0..0xc0).find(|fid| wanted != "unknown" && plain(feature::name(*fid)) == wanted);
    short
        .or_else(long)
        .or_else(|| parse_number(text).and_then(|n| u8::try_from(n).ok()))
        .ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            Usage::new(format!(
                "`{text}` is not a feature; name one of {}, or a number as in 0x06",
                names.join(", ")
            ))
            .into()
        })
}

fn named(fid: u8) -> String {
    format!("{fid:#04x} ({})", feature::name(fid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_named_or_numbered() {
        for text in ["write-cache", "Write_Cache", "volatile write cache", "0x06", "6"] {
            assert_eq!(parse(text).unwrap(), fid::VOLATILE_WRITE_CACHE, "{text}");
        }
        for text in ["", "unknown", "256", "0x100", "write", "-1", "vendor specific"] {
            assert!(parse(text).unwrap_err().is::<Usage>(), "{text}");
        }
    }
}
