//! The checks, by subject.

mod attach_filter;
mod bind;
mod busy_poll;
mod connect;
mod control;
mod devices;
mod epoll;
mod errors;
mod fds;
mod filter;
mod fragments;
mod igmp;
mod ip_options;
mod many;
mod multicast;
mod multicast_sources;
mod options;
mod packet;
mod packet_fanout;
mod packet_rings;
mod path_mtu;
mod ping;
mod poll;
mod raw;
mod recv;
mod routes;
mod send;
mod shutdown;
mod sockets;
mod stream_accept;
mod stream_attach_filter;
mod stream_bind;
mod stream_close;
mod stream_connect;
mod stream_lib;
mod stream_md5;
mod stream_options;
mod stream_poll;
mod stream_recv;
mod stream_send;
mod stream_splice;
mod stream_states;
mod stream_timestamping;
mod stream_zerocopy;
mod timestamping;
mod udp_gso;
mod zerocopy;

use crate::Check;

/// Every check but those of streams.
pub fn all() -> Vec<Check> {
    [
        sockets::ALL,
        bind::ALL,
        connect::ALL,
        filter::ALL,
        send::ALL,
        recv::ALL,
        control::ALL,
        udp_gso::ALL,
        errors::ALL,
        options::ALL,
        shutdown::ALL,
        poll::ALL,
        epoll::ALL,
        fds::ALL,
        devices::ALL,
        many::ALL,
        routes::ALL,
        zerocopy::ALL,
        timestamping::ALL,
        busy_poll::ALL,
        attach_filter::ALL,
        packet::ALL,
        packet_fanout::ALL,
        packet_rings::ALL,
        raw::ALL,
        ping::ALL,
        multicast::ALL,
        multicast_sources::ALL,
    ]
    .concat()
}

/// Every check of streams.
pub fn streams() -> Vec<Check> {
    [
        stream_states::ALL,
        stream_connect::ALL,
        stream_accept::ALL,
        stream_bind::ALL,
        stream_recv::ALL,
        stream_send::ALL,
        stream_close::ALL,
        stream_poll::ALL,
        stream_options::ALL,
        stream_zerocopy::ALL,
        stream_timestamping::ALL,
        stream_attach_filter::ALL,
        stream_md5::ALL,
    ]
    .concat()
}

/// Every check of what leaves by `eth0`, and comes in there.
pub fn wire() -> Vec<Check> {
    [fragments::ALL, path_mtu::ALL].concat()
}

/// Every check of options of IP.
pub fn options() -> Vec<Check> {
    ip_options::all()
}

/// Every check of groups on the wire, and of what routers are told of them.
pub fn groups() -> Vec<Check> {
    igmp::ALL.to_vec()
}

/// Every check of pipes, files in memory, and what goes from one to the other.
pub fn pipes() -> Vec<Check> {
    stream_splice::ALL.to_vec()
}

/// A list of checks by the names of their functions.
macro_rules! checks {
    ($($name:ident)*) => {
        pub(super) const ALL: &[crate::Check] =
            &[$(crate::Check { name: stringify!($name), code: $name }),*];
    };
}
use checks;
