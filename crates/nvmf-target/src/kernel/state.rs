//! What the kernel's target has, or shall have.

use std::collections::BTreeMap;
use std::io;

use super::attribute::{self as a, Attribute, Attributes, join};
use super::configfs::Configfs;
use super::error::KernelError;

/// All of it. Items are by the names of their directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) attributes: Attributes,
    pub(super) hosts: BTreeMap<String, Attributes>,
    pub(super) subsystems: BTreeMap<String, Subsystem>,
    pub(super) ports: BTreeMap<String, Port>,
}

/// By what they are to: the names of links.
pub(super) type Links = BTreeMap<String, String>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subsystem {
    pub(super) attributes: Attributes,
    /// The controller that is passed through, where the kernel can do that.
    pub(super) passthru: Attributes,
    pub(super) allowed_hosts: Links,
    pub(super) namespaces: BTreeMap<String, Attributes>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) attributes: Attributes,
    pub(super) subsystems: Links,
    pub(super) referrals: BTreeMap<String, Attributes>,
    pub(super) ana_groups: BTreeMap<String, Attributes>,
}

impl State {
    /// A target without anything.
    pub(super) fn empty() -> Self {
        let mut state = Self::default();
        for attribute in a::ROOT {
            if let Some(usual) = attribute.usual.first() {
                state.attributes.set(attribute.name, *usual);
            }
        }
        state
    }

    /// What the kernel has now.
    pub(super) fn read(fs: &dyn Configfs) -> Result<Self, KernelError> {
        let read = Reader(fs);
        Ok(Self {
            attributes: read.attributes("", a::ROOT)?,
            hosts: read.items("hosts", |at| read.attributes(at, a::HOST))?,
            subsystems: read.items("subsystems", |at| read.subsystem(at))?,
            ports: read.items("ports", |at| read.port(at))?,
        })
    }
}

struct Reader<'a>(&'a dyn Configfs);

impl Reader<'_> {
    fn subsystem(&self, at: &str) -> Result<Subsystem, KernelError> {
        let namespaces = format!("{at}/namespaces");
        Ok(Subsystem {
            attributes: self.attributes(at, a::SUBSYSTEM)?,
            passthru: self.attributes(&format!("{at}/passthru"), a::PASSTHRU)?,
            allowed_hosts: self.links(&format!("{at}/allowed_hosts"))?,
            namespaces: self.items(&namespaces, |at| self.attributes(at, a::NAMESPACE))?,
        })
    }

    fn port(&self, at: &str) -> Result<Port, KernelError> {
        let referrals = format!("{at}/referrals");
        let groups = format!("{at}/ana_groups");
        Ok(Port {
            attributes: self.attributes(at, a::PORT)?,
            subsystems: self.links(&format!("{at}/subsystems"))?,
            referrals: self.items(&referrals, |at| self.attributes(at, a::REFERRAL))?,
            ana_groups: self.items(&groups, |at| self.attributes(at, a::ANA_GROUPS))?,
        })
    }

    /// What is in a directory, by name.
    fn items<T>(
        &self,
        at: &str,
        item: impl Fn(&str) -> Result<T, KernelError>,
    ) -> Result<BTreeMap<String, T>, KernelError> {
        let names = self.0.directories(at).map_err(|source| failed(at, source))?;
        names.into_iter().map(|name| Ok((name.clone(), item(&format!("{at}/{name}"))?))).collect()
    }

    fn links(&self, at: &str) -> Result<Links, KernelError> {
        let links = self.0.links(at).map_err(|source| failed(at, source))?;
        Ok(links.into_iter().map(|(name, to)| (to, name)).collect())
    }

    /// The files that this kernel has, of those that are known.
    fn attributes(&self, at: &str, known: &[Attribute]) -> Result<Attributes, KernelError> {
        let mut attributes = Attributes::default();
        for attribute in known {
            let path = join(at, attribute.name);
            match self.0.read(&path) {
                // The kernel pads it.
                Ok(value) if attribute.name == a::SERIAL => {
                    attributes.set(attribute.name, value.trim_end_matches(' '));
                }
                Ok(value) => attributes.set(attribute.name, value),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed(&path, source)),
            }
        }
        Ok(attributes)
    }
}

fn failed(path: &str, source: io::Error) -> KernelError {
    KernelError::Read { path: path.into(), source }
}
