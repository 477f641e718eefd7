//! `nvmf identify`

use anyhow::Context;
use nvmf::host::Association;
use nvmf::spec::identify::{
    ActiveNamespaceList, CommandSetList, ControllerList, IDENTIFY_LEN, IdentifyController,
    IdentifyControllerNvm, IdentifyNamespace, IdentifyNamespaceNvm, IndependentNamespace, cns,
};
use nvmf::spec::print::{DescriptorFields, FieldSink, Fields, List, Value};
use zerocopy::FromBytes;

use crate::args::{self, Format};
use crate::connect::Connector;
use crate::output::{self, Hex};

type Page = Box<[u8; IDENTIFY_LEN]>;

pub(crate) fn run(args: &args::Identify) -> anyhow::Result<()> {
    let connector =
        Connector::new(&args.connect, args.target.clone())?.with_namespace(args.namespace_id)?;
    let mut association = connector.connect()?;
    show(args, &connector, &mut association)
        .with_context(|| format!("cannot identify {}", connector.name()))?;
    association.shutdown(Vec::new())?;
    Ok(())
}

/// Shows what was asked for.
fn show(
    args: &args::Identify,
    connector: &Connector,
    association: &mut Association,
) -> anyhow::Result<()> {
    let format = args.output.format;
    let nsid = connector.target.nsid;
    match (args.cns, nsid) {
        (Some(cns), nsid) => structure(association, format, cns, nsid.unwrap_or(0))?,
        (None, _) if args.controller => output::show(format, association.controller())?,
        (None, Some(nsid)) => {
            let page = association
                .identify_namespace(nsid)
                .with_context(|| format!("namespace {nsid}"))?;
            let ids = association.identify(cns::NAMESPACE_DESCRIPTORS, nsid, 0).ok();
            output::show(format, &Namespace { nsid: None, identify: page, ids })?;
        }
        (None, None) => everything(association, format)?,
    }
    Ok(())
}

/// The controller, and each of its namespaces.
fn everything(association: &mut Association, format: Format) -> anyhow::Result<()> {
    let mut namespaces = Vec::new();
    // Discovery controllers have no namespaces, and need not know of lists of them.
    if !association.subsystem().is_discovery() {
        for nsid in association.active_namespaces().context("the list of namespaces")? {
            let what = || format!("namespace {nsid}");
            let identify = association.identify_namespace(nsid).with_context(what)?;
            let ids = association.identify(cns::NAMESPACE_DESCRIPTORS, nsid, 0).ok();
            namespaces.push(Namespace { nsid: Some(nsid), identify, ids });
        }
    }
    let all = Everything { controller: association.controller(), namespaces: &namespaces };
    Ok(output::show(format, &all)?)
}

/// Any Identify data structure.
fn structure(
    association: &mut Association,
    format: Format,
    cns: u8,
    nsid: u32,
) -> anyhow::Result<()> {
    // A list of command sets is of one controller, and all ones are the one that is asked. The
    // lists of controllers begin with the identifier given.
    let cntid = if cns == cns::COMMAND_SETS { u16::MAX } else { 0 };
    let page = association
        .identify(cns, nsid, cntid)
        .with_context(|| format!("CNS {cns:#04x} ({})", cns::name(cns)))?;
    let bytes = &page[..];
    macro_rules! as_type {
        ($type:ty) => {
            <$type>::ref_from_bytes(bytes).ok().map(|s| s as &dyn Fields)
        };
    }
    let descriptors = DescriptorFields(bytes);
    let known = match cns {
        cns::NAMESPACE | cns::ALLOCATED_NAMESPACE => as_type!(IdentifyNamespace),
        cns::CONTROLLER => as_type!(IdentifyController),
        cns::ACTIVE_NAMESPACES | cns::ALLOCATED_NAMESPACES | cns::CSI_ACTIVE_NAMESPACES => {
            as_type!(ActiveNamespaceList)
        }
        cns::NAMESPACE_DESCRIPTORS => Some(&descriptors as &dyn Fields),
        cns::CSI_NAMESPACE => as_type!(IdentifyNamespaceNvm),
        cns::CSI_CONTROLLER => as_type!(IdentifyControllerNvm),
        cns::INDEPENDENT_NAMESPACE => as_type!(IndependentNamespace),
        cns::CONTROLLERS | cns::NAMESPACE_CONTROLLERS => as_type!(ControllerList),
        cns::COMMAND_SETS => as_type!(CommandSetList),
        _ => None,
    };
    match (known, format) {
        (Some(fields), format) => output::show(format, fields)?,
        (None, Format::Json) => output::show(format, &Raw(bytes))?,
        (None, Format::Normal) => output::print(Hex(bytes))?,
    }
    Ok(())
}

/// Bytes that nothing is known of.
struct Raw<'a>(&'a [u8]);

impl Fields for Raw<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.bytes("data", self.0);
    }
}

struct Everything<'a> {
    controller: &'a IdentifyController,
    namespaces: &'a [Namespace],
}

impl Fields for Everything<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.object("controller", self.controller);
        out.list("namespaces", self);
    }
}

impl List for Everything<'_> {
    fn each(&self, item: &mut dyn FnMut(Value<'_>)) {
        for namespace in self.namespaces {
            item(Value::Object(namespace));
        }
    }
}

/// A namespace, and the identifiers it keeps for life if the controller tells them.
struct Namespace {
    nsid: Option<u32>,
    identify: Box<IdentifyNamespace>,
    ids: Option<Page>,
}

impl Fields for Namespace {
    fn fields(&self, out: &mut dyn FieldSink) {
        if let Some(nsid) = self.nsid {
            out.number("nsid", nsid);
        }
        self.identify.fields(out);
        if let Some(ids) = &self.ids {
            DescriptorFields(&ids[..]).fields(out);
        }
    }
}
