//! The Identify data structures (Base 2.1, section 5.1.13; NVM Command Set 1.1, section 4.1.5).
//!
//! Fields are called what the specifications call them, in lower case, which is also what nvme-cli
//! calls them. [`cns`] says which structure an Identify command asks for.

pub mod cns;
mod controller;
mod descriptors;
mod lists;
mod namespace;
mod nvm;
mod request;
mod text;

pub use controller::{IdentifyController, PowerState, controller_type};
pub use descriptors::{
    DescriptorError, DescriptorList, DescriptorListFull, Descriptors, NamespaceId, nidt,
};
pub use lists::{ActiveNamespaceList, ControllerList};
pub use namespace::{IdentifyNamespace, IndependentNamespace, LbaFormat};
pub use nvm::{CommandSetList, ExtendedLbaFormat, IdentifyControllerNvm, IdentifyNamespaceNvm};
pub use request::IdentifyRequest;
pub use text::{Ascii, write_ascii};

/// The size of nearly every Identify data structure, in bytes.
pub const IDENTIFY_LEN: usize = 4096;

/// The namespace identifier that means all namespaces.
pub const NSID_ALL: u32 = 0xffff_ffff;
