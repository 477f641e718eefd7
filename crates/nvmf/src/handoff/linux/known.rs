//! Which options the running kernel knows.

use std::collections::BTreeSet;

/// The options that the running kernel takes, as reading `/dev/nvme-fabrics` tells them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownOptions {
    /// None where the kernel does not tell: it does since Linux 5.17.
    names: Option<BTreeSet<String>>,
}

/// What the kernel says of its options is not what kernels say.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the kernel's list of options begins with `{0}` and not with `instance=`")]
pub struct KnownOptionsError(pub String);

impl KnownOptions {
    /// Of a kernel that does not tell, and has to be tried.
    pub fn untold() -> Self {
        Self { names: None }
    }

    /// From what was read: `instance=-1,cntlid=-1,transport=%s,traddr=%s,…,tls` and a line feed.
    ///
    /// # Errors
    ///
    /// [`KnownOptionsError`] if it begins in another way.
    pub fn parse(text: &str) -> Result<Self, KnownOptionsError> {
        let mut parts = text.trim().split(',').map(|part| part.split('=').next().unwrap_or(part));
        match parts.next() {
            Some("instance") => {}
            other => {
                let begins = other.unwrap_or_default().chars().take(40).collect();
                return Err(KnownOptionsError(begins));
            }
        }
        let names = parts.filter(|name| !matches!(*name, "" | "cntlid")).map(str::to_owned);
        Ok(Self { names: Some(names.collect()) })
    }

    /// Whether an option may be given. Where the kernel does not tell, any may.
    pub fn knows(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }

    /// Their names in alphabetical order; none where the kernel does not tell.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::LINUX_6_12;
    use super::*;

    #[test]
    fn options_with_and_without_values_are_known_by_name() {
        let known = KnownOptions::parse(LINUX_6_12).unwrap();
        for name in ["transport", "tos", "duplicate_connect", "tls"] {
            assert!(known.knows(name), "{name}");
        }
        for name in ["instance", "cntlid", "", "%s", "transport=%s", "concat"] {
            assert!(!known.knows(name), "{name}");
        }
        assert_eq!(known.names().count(), 27);
    }

    #[test]
    fn a_kernel_that_does_not_tell_is_tried() {
        assert!(KnownOptions::untold().knows("anything"));
        assert_eq!(KnownOptions::untold().names().count(), 0);
    }

    #[test]
    fn what_is_no_list_of_options_is_an_error() {
        for text in ["", "\n", "transport=%s,traddr=%s", "\0\0\0"] {
            assert!(KnownOptions::parse(text).is_err(), "{text:?}");
        }
        let long = KnownOptions::parse(&"x".repeat(5000)).unwrap_err();
        assert_eq!(long.0.len(), 40);
    }
}
