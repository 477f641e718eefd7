//! How structures are declared.

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
