//! Namespaces of a target.

use std::fmt::Write;
use std::io;

use nvmf_host::Namespace;

use crate::endpoint::{Destination, Identity, Source};

/// A namespace of a target, to copy from or to.
///
/// It is whatever the [`Namespace`] makes of its paths: a copy goes on when a connection is cut and
/// made again, or by another path, as long as the namespace's deadlines let it.
#[derive(Clone, Debug)]
pub struct NamespaceEnd {
    namespace: Namespace,
    name: String,
    /// What names it where it has no identifier of its own.
    address: String,
}

impl NamespaceEnd {
    /// `name` is what people call it, a URL perhaps; `address`, the subsystem's NQN and the NSID,
    /// is what it is known by if it has no identifier that is the world's.
    pub fn new(namespace: Namespace, name: impl Into<String>, address: impl Into<String>) -> Self {
        Self { namespace, name: name.into(), address: address.into() }
    }

    /// The identifier that is the world's, or else where it is.
    fn unique(&self) -> String {
        let ids = self.namespace.ids();
        match (ids.uuid, ids.nguid, ids.eui64) {
            (Some(uuid), _, _) => hexadecimal("uuid", &uuid),
            (None, Some(nguid), _) => hexadecimal("nguid", &nguid),
            (None, None, Some(eui64)) => hexadecimal("eui64", &eui64),
            (None, None, None) => self.address.clone(),
        }
    }
}

fn hexadecimal(kind: &str, bytes: &[u8]) -> String {
    let mut text = format!("{kind} ");
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Source for NamespaceEnd {
    fn name(&self) -> &str {
        &self.name
    }

    /// A namespace has no time of change.
    fn identity(&self) -> io::Result<Identity> {
        let unique = self.unique();
        let size = self.namespace.size();
        Ok(Identity { place: unique.clone(), lasting: unique, size, version: None })
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        Ok(self.namespace.read_at(into, offset)?)
    }
}

impl Destination for NamespaceEnd {
    fn block_size(&self) -> u32 {
        self.namespace.block_size()
    }

    fn is_read_only(&self) -> bool {
        self.namespace.is_read_only()
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        Ok(self.namespace.write_at(from, offset)?)
    }

    /// Write Zeroes, with leave to deallocate.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(self.namespace.write_zeroes(offset, length, true)?)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(self.namespace.flush()?)
    }
}
