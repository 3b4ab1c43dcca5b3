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
pub mod errqueue;
pub mod ethtool;
pub mod fcntl;
pub mod filter;
pub mod icmp;
pub mod if_;
pub mod if_arp;
pub mod if_ether;
pub mod if_packet;
pub mod if_tun;
pub mod igmp;
pub mod in_;
pub mod inet_diag;
pub mod ip;
pub mod neighbour;
pub mod net_tstamp;
pub mod netfilter;
pub mod pkt_sched;
pub mod poll;
pub mod rtnetlink;
pub mod snmp;
pub mod socket;
pub mod sockios;
pub mod tcp;
pub mod udp;
pub mod uio;
pub mod virtio_net;
