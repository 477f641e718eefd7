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

/// A structure as it travels. Each field names the offset the specification gives it, and the
/// build fails if size or offsets come out different.
macro_rules! wire {
    (
        $(#[$outer:meta])*
        pub struct $name:ident: $size:literal bytes {
            $( $(#[$inner:meta])* $offset:literal => $field:ident: $ty:ty, )*
        }
    ) => {
        $(#[$outer])*
        #[derive(
            Clone, Copy, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout,
            zerocopy::Immutable, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            $( $(#[$inner])* pub $field: $ty, )*
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $( assert!(core::mem::offset_of!($name, $field) == $offset); )*
        };

        impl Default for $name {
            /// All bytes zero.
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    };
}
pub(crate) use wire;
