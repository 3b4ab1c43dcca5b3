//! What `/proc/net/udp` shows.
//!
//! linux: net/ipv4/udp.c. Contexts: task. Locks: `class::PortHash`, then `class::Sock`, one at a time.

use crate::net::core::sock::Sock;
use crate::net::net_namespace::NetView;
use std::fmt::Write;
use uapi::tcp::{TCP_CLOSE, TCP_ESTABLISHED};

/// The text of `/proc/net/udp`: a line for each socket that has a port. The inode is the socket's
/// cookie, the pointer is not told.
///
/// linux: net/ipv4/udp.c:udp4_seq_show
pub fn udp4_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let mut text = padded(
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
         timeout inode ref pointer drops"
            .to_owned(),
    );
    for sk in of.net().udp_table.dump() {
        text += &padded(udp4_format_sock(&sk));
    }
    text
}

/// linux: net/ipv4/udp.c:udp4_format_sock
fn udp4_format_sock(sk: &Sock) -> String {
    let wmem = sk.wmem_alloc();
    let state = sk.state();
    let inet = &state.inet;
    // As Linux prints them: the bytes of the network as a number of the host.
    let addr = |addr: u32| u32::from_ne_bytes(addr.to_be_bytes());
    let st = if inet.dport != 0 { TCP_ESTABLISHED } else { TCP_CLOSE };
    let mut line = String::new();
    let _ = write!(
        line,
        "{:5}: {:08X}:{:04X} {:08X}:{:04X} {st:02X} {wmem:08X}:{:08X} 00:00000000 00000000 \
         {:5} {:8} {} 2 {:016x} {}",
        inet.num % 256,
        addr(inet.rcv_saddr),
        inet.num,
        addr(inet.daddr),
        inet.dport,
        state.rmem_alloc,
        0,
        0,
        sk.cookie,
        0,
        state.drops
    );
    line
}

/// A line as long as Linux makes all of this file.
fn padded(line: String) -> String {
    format!("{line:<127}\n")
}
