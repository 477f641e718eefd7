//! `nvmf log`

use std::io::{self, Write};

use anyhow::Context;
use nvmf::host::Association;
use nvmf::spec::identify::NSID_ALL;
use nvmf::spec::log::{self, DiscoveryLog, GetLogPage, lid};
use nvmf::spec::print::LogPageFields;

use crate::args::{self, Format, parse_number};
use crate::connect::Connector;
use crate::failure::Usage;
use crate::output::{self, Hex};

/// The pages that have a short name here.
const NAMES: [(&str, u8); 9] = [
    ("supported", lid::SUPPORTED),
    ("error", lid::ERROR),
    ("smart", lid::SMART),
    ("firmware", lid::FIRMWARE_SLOT),
    ("changed-namespaces", lid::CHANGED_NAMESPACES),
    ("effects", lid::COMMAND_EFFECTS),
    ("ana", lid::ANA),
    ("feature-effects", lid::FEATURE_EFFECTS),
    ("discovery", lid::DISCOVERY),
];

pub(crate) fn run(args: &args::Log) -> anyhow::Result<()> {
    let (connector, page) =
        Connector::with_argument(&args.connect, args.target.as_deref(), args.page.as_deref())?;
    let page = page.ok_or_else(|| Usage::new(format!("no page; name one of {}", names())))?;
    let lid = parse(&page)?;
    if args.length.is_some_and(|length| length == 0 || !length.is_multiple_of(4))
        || !args.offset.is_multiple_of(4)
    {
        return Err(Usage::new("log pages are read in units of four bytes").into());
    }
    let mut association = connector.connect()?;
    let what = || format!("log page {lid:#04x} ({}) of {}", log::name(lid), connector.name());
    let bytes = read(&mut association, args, lid).with_context(what)?;
    if args.raw {
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()?;
    } else if is_known(lid) && args.offset == 0 || args.output.format == Format::Json {
        output::show(args.output.format, &LogPageFields { lid, page: &bytes })?;
    } else {
        output::print(Hex(&bytes))?;
    }
    association.shutdown(Vec::new())?;
    Ok(())
}

/// Reads the page, as much of it as was asked for or as there is.
fn read(association: &mut Association, args: &args::Log, lid: u8) -> Result<Vec<u8>, nvmf::Error> {
    // Looking at a page is not to change what an event reports: RAE.
    let request = GetLogPage {
        lid,
        nsid: args.namespace_id.unwrap_or(NSID_ALL),
        lsp: args.lsp,
        rae: true,
        offset: args.offset,
        ..GetLogPage::default()
    };
    let length = match args.length {
        Some(length) => length,
        None => length_of(association, request)?,
    };
    association.log_page(request, length)
}

/// How long a page is, its beginning read where only that says it.
fn length_of(association: &mut Association, request: GetLogPage) -> Result<u64, nvmf::Error> {
    let entries = u64::from(association.controller().elpe) + 1;
    Ok(match request.lid {
        lid::SUPPORTED | lid::FEATURE_EFFECTS => 1024,
        lid::ERROR => entries * 64,
        lid::SMART | lid::FIRMWARE_SLOT | lid::ENDURANCE_GROUP | lid::SANITIZE_STATUS => 512,
        lid::CHANGED_NAMESPACES | lid::COMMAND_EFFECTS => 4096,
        lid::DISCOVERY => {
            let header = association.log_page(GetLogPage { offset: 0, ..request }, 1024)?;
            match DiscoveryLog::parse(&header).map(|log| log.header) {
                // As long as it says: its entries may be of different lengths.
                Some(header) if header.is_extended() => u64::from(header.tdlpl.get() / 4 * 4),
                Some(header) => header.numrec.get().saturating_add(1).saturating_mul(1024),
                None => 1024,
            }
        }
        lid::ANA => {
            let controller = association.controller();
            let groups = u64::from(controller.nanagrpid.get());
            // Every namespace is in one group.
            let namespaces = u64::from(match controller.mnan.get() {
                0 => controller.nn.get(),
                mnan => mnan,
            });
            let most = 16 + groups * 32 + namespaces.saturating_mul(4);
            most.min(1 << 20)
        }
        _ => 512,
    }
    .saturating_sub(request.offset)
    .max(4))
}

/// A page's identifier, from its name or its number.
fn parse(text: &str) -> anyhow::Result<u8> {
    NAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, lid)| *lid)
        .or_else(|| parse_number(text).and_then(|n| u8::try_from(n).ok()))
        .ok_or_else(|| {
            Usage::new(format!("`{text}` is not a log page; name one of {}", names())).into()
        })
}

fn names() -> String {
    let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
    format!("{}, or a number as in 0x02", names.join(", "))
}

fn is_known(lid: u8) -> bool {
    NAMES.iter().any(|(_, known)| *known == lid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_named_or_numbered() {
        assert_eq!(parse("smart").unwrap(), lid::SMART);
        assert_eq!(parse("0x70").unwrap(), lid::DISCOVERY);
        assert_eq!(parse("12").unwrap(), lid::ANA);
        for text in ["", "256", "0x100", "smarts", "-1"] {
            assert!(parse(text).unwrap_err().to_string().contains("supported"), "{text}");
        }
    }
}
