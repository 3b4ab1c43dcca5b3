//! TCP: the socket, and what its calls do.
//!
//! linux: net/ipv4/tcp.c, include/linux/tcp.h, include/net/tcp.h; RFC 9293. Key types: [`TcpSock`],
//! [`TcpSk`]. Parts: `sendmsg`, `recvmsg`, `close`, `options` (`SOL_TCP`), `info` (`TCP_INFO`), `poll`,
//! `proc`.
//! The other half stands where Linux has it: `tcp_input`, `tcp_output`, `tcp_timer`, `tcp_ipv4`,
//! `tcp_minisocks`, `inet_connection_sock`.
//! Contexts: calls by tasks, which own the socket; segments and timers in BH, under its lock.
//! Invariants: `snd_una <= snd_nxt <= write_seq`; what lies between the first two is in `rtx_queue`, the
//! rest in `write_queue`; `copied_seq <= rcv_nxt`, and the receive queue holds just what lies between.

#[cfg(debug_assertions)]
mod check;
mod close;
mod info;
mod options;
mod poll;
mod proc;
mod recvmsg;
mod sendmsg;
mod seq;
mod sk;
mod sock;
mod types;
mod zerocopy;

#[cfg(debug_assertions)]
pub use check::{tcp_check_all, tcp_check_fd};
pub(crate) use close::{
    inet_children_forget, tcp_close, tcp_disconnect, tcp_disconnect_owned, tcp_done, tcp_set_state,
    tcp_shutdown, tcp_sk_exit,
};
pub use info::tcp_get_info;
pub(crate) use options::{tcp_getsockopt, tcp_setsockopt};
pub(crate) use poll::{tcp_ioctl, tcp_poll, tcp_stream_is_readable};
pub use proc::tcp4_seq_show;
pub(crate) use recvmsg::tcp_recvmsg;
pub(crate) use sendmsg::{MAX_SKB_FRAGS, copy_from_iov, tcp_sendmsg};
pub use seq::SeqNr;
pub use sk::*;
pub use sock::*;
pub use types::*;

use crate::net::core::sock::Proto;
use crate::net::ipv4::inet_connection_sock::inet_csk_get_port;
use crate::net::ipv4::tcp_ipv4::{tcp_v4_connect, tcp_v4_do_rcv};
use crate::net::ipv4::tcp_output::tcp_release_cb;
use uapi::ip::IPPROTO_TCP;
use uapi::socket::{AF_INET, SOCK_STREAM, SOL_TCP};

/// What an idle connection keeps beside its file, its entries in the tables and its algorithm: a machine may
/// have a hundred thousand of them.
const _: () = assert!(
    size_of::<crate::net::core::sock::Sock>() + size_of::<TcpSock>() + size_of::<TcpStats>()
        <= 1488
);

/// TCP's functions.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_prot
pub static TCP_PROT: Proto = Proto {
    name: "TCP",
    family: AF_INET,
    kind: (SOCK_STREAM, IPPROTO_TCP),
    level: SOL_TCP,
    sendmsg: tcp_sendmsg,
    recvmsg: tcp_recvmsg,
    connect: tcp_v4_connect,
    disconnect: tcp_disconnect,
    get_port: inet_csk_get_port,
    unhash: close::tcp_unhash,
    close: tcp_close,
    backlog_rcv: tcp_v4_do_rcv,
    release_cb: Some(tcp_release_cb),
    setsockopt: tcp_setsockopt,
    getsockopt: tcp_getsockopt,
};
