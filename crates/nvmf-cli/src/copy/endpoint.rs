//! SRC and DST, from what was written to what is opened.

use nvmf_copy::{FileDestination, FileSource, NamespaceEnd};

use super::args::Copy;
use crate::connect::Connector;
use crate::failure::Usage;
use crate::paths::Paths;
use crate::target::{SCHEME, Target};

/// What is read.
pub(super) enum Source {
    File(FileSource),
    Namespace(NamespaceEnd),
}

/// What is written.
pub(super) enum Destination {
    File(FileDestination),
    Namespace(NamespaceEnd),
}

/// What an argument names.
enum Place<'a> {
    Path(&'a str),
    Namespace(Box<Target>),
}

impl Source {
    pub(super) fn open(args: &Copy) -> anyhow::Result<Self> {
        Ok(match Place::parse("SRC", &args.source)? {
            Place::Path(path) => Self::File(FileSource::open(path)?),
            Place::Namespace(target) => Self::Namespace(connect(*target, args)?),
        })
    }

    pub(super) fn as_ref(&self) -> &dyn nvmf_copy::Source {
        match self {
            Self::File(file) => file,
            Self::Namespace(namespace) => namespace,
        }
    }

    /// Ends the association, if there is one, in order.
    pub(super) fn close(self) {
        if let Self::Namespace(namespace) = self {
            namespace.close();
        }
    }
}

impl Destination {
    pub(super) fn open(args: &Copy) -> anyhow::Result<Self> {
        Ok(match Place::parse("DST", &args.destination)? {
            Place::Path(path) => Self::File(FileDestination::open(path)?),
            Place::Namespace(target) => Self::Namespace(connect(*target, args)?),
        })
    }

    pub(super) fn as_ref(&self) -> &dyn nvmf_copy::Destination {
        match self {
            Self::File(file) => file,
            Self::Namespace(namespace) => namespace,
        }
    }

    /// Ends the association, if there is one, in order.
    pub(super) fn close(self) {
        if let Self::Namespace(namespace) = self {
            namespace.close();
        }
    }
}

impl<'a> Place<'a> {
    fn parse(which: &str, text: &'a str) -> anyhow::Result<Self> {
        if text == "-" {
            let what = format!(
                "{which} cannot be a pipe, which has no offsets; `nvmf read` and `nvmf write` move \
                 those (./- is a file of that name)"
            );
            return Err(Usage::new(what).into());
        }
        if !text.starts_with(SCHEME) {
            return Ok(Self::Path(text));
        }
        let target: Target =
            text.parse().map_err(|e| Usage::new(format!("{which} `{text}`: {e}")))?;
        Ok(Self::Namespace(Box::new(target)))
    }
}

fn connect(target: Target, args: &Copy) -> anyhow::Result<NamespaceEnd> {
    let connector = Connector::to(target, &args.host)?;
    let (name, address) =
        (connector.url(), format!("namespace {} of {}", connector.nsid(), connector.subsystem()?));
    let paths = Paths::of(vec![connector], &args.paths)?.engine(args.engine.engine);
    Ok(NamespaceEnd::new(paths.connect()?, name, address))
}
