//! SRC and DST, from what was written to what is opened.

use nvmf_copy::{Destination, FileDestination, FileError, FileSource, NamespaceEnd, Source};

use super::args::Copy;
use crate::connect::Connector;
use crate::failure::Usage;
use crate::paths::Paths;
use crate::target::{SCHEME, Target};

/// SRC or DST; what it is if it is a file depends on which.
pub(super) enum End<F> {
    File(F),
    Namespace(NamespaceEnd),
}

/// Opens SRC.
pub(super) fn source(args: &Copy) -> anyhow::Result<End<FileSource>> {
    End::open("SRC", &args.source, args, FileSource::open)
}

/// Opens DST.
pub(super) fn destination(args: &Copy) -> anyhow::Result<End<FileDestination>> {
    End::open("DST", &args.destination, args, FileDestination::open)
}

impl<F> End<F> {
    fn open<'a>(
        which: &str,
        text: &'a str,
        args: &Copy,
        file: impl FnOnce(&'a str) -> Result<F, FileError>,
    ) -> anyhow::Result<Self> {
        Ok(match Place::parse(which, text)? {
            Place::Path(path) => Self::File(file(path)?),
            Place::Namespace(target) => Self::Namespace(connect(*target, args)?),
        })
    }

    /// Ends the association, if there is one, in order.
    pub(super) fn close(self) {
        if let Self::Namespace(namespace) = self {
            namespace.close();
        }
    }
}

impl End<FileSource> {
    pub(super) fn as_source(&self) -> &dyn Source {
        match self {
            Self::File(file) => file,
            Self::Namespace(namespace) => namespace,
        }
    }
}

impl End<FileDestination> {
    pub(super) fn as_destination(&self) -> &dyn Destination {
        match self {
            Self::File(file) => file,
            Self::Namespace(namespace) => namespace,
        }
    }
}

/// What an argument names.
enum Place<'a> {
    Path(&'a str),
    Namespace(Box<Target>),
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
