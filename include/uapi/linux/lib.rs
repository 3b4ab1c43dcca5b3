//! Wire formats and ABI numbers of Linux: views without state.

/// Defines public constants of one type, each with its doc line.
macro_rules! consts {
    ($ty:ty: $($(#[$meta:meta])* $name:ident = $val:expr;)*) => {
        $($(#[$meta])* pub const $name: $ty = $val;)*
    };
}

/// Defines a fixed-layout wire view and asserts its size.
macro_rules! view {
    ($(#[$meta:meta])* pub struct $name:ident[$size:literal] { $($(#[$fm:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
            zerocopy::KnownLayout, zerocopy::Unaligned, Clone, Copy, Debug, PartialEq, Eq, Default,
        )]
        pub struct $name { $($(#[$fm])* pub $field: $ty,)* }
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
    };
}

pub mod errno;
pub mod if_ether;
pub mod ip;
pub mod udp;
pub mod icmp;
pub mod if_arp;
pub mod igmp;
pub mod tcp;
pub mod in_;
pub mod snmp;
pub mod socket;
pub mod errqueue;
pub mod fcntl;
pub mod if_;
pub mod poll;
pub mod sockios;
pub mod uio;
