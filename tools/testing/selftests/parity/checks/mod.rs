//! The checks, by subject.

mod bind;
mod connect;
mod control;
mod devices;
mod epoll;
mod errors;
mod fds;
mod filter;
mod many;
mod options;
mod poll;
mod recv;
mod routes;
mod send;
mod shutdown;
mod sockets;

use crate::Check;

/// Every check.
pub fn all() -> Vec<Check> {
    [
        sockets::ALL,
        bind::ALL,
        connect::ALL,
        filter::ALL,
        send::ALL,
        recv::ALL,
        control::ALL,
        errors::ALL,
        options::ALL,
        shutdown::ALL,
        poll::ALL,
        epoll::ALL,
        fds::ALL,
        devices::ALL,
        many::ALL,
        routes::ALL,
    ]
    .concat()
}

/// A list of checks by the names of their functions.
macro_rules! checks {
    ($($name:ident)*) => {
        pub(super) const ALL: &[crate::Check] =
            &[$(crate::Check { name: stringify!($name), code: $name }),*];
    };
}
use checks;
