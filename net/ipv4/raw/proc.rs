//! What `/proc/net/raw` shows.
//!
//! linux: net/ipv4/raw.c. Contexts: task. Locks: `class::PortHash`, then `class::Sock`, one at a time.

use crate::net::net_namespace::NetView;
use std::fmt::Write;
use uapi::tcp::{TCP_CLOSE, TCP_ESTABLISHED};

/// The text of `/proc/net/raw`: a line for each raw socket. The inode is the socket's cookie, the pointer is not told.
///
/// linux: net/ipv4/raw.c:raw_seq_show
pub fn raw_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let mut text =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                    timeout inode ref pointer drops\n"
            .to_owned();
    // As Linux prints them: the bytes of the network as a number of the host.
    let addr = |addr: u32| u32::from_ne_bytes(addr.to_be_bytes());
    for sk in of.net().raw.all_socks() {
        let wmem = sk.wmem_alloc();
        let state = sk.state();
        let inet = &state.inet;
        let st = if inet.daddr != 0 { TCP_ESTABLISHED } else { TCP_CLOSE };
        let _ = writeln!(
            text,
            "{:4}: {:08X}:{:04X} {:08X}:{:04X} {st:02X} {wmem:08X}:{:08X} 00:00000000 00000000 \
             {:5} {:8} {} 2 {:016x} {}",
            usize::from(sk.sk_protocol()) % super::RAW_HTABLE_SIZE,
            addr(inet.rcv_saddr),
            inet.num,
            addr(inet.daddr),
            0,
            state.rmem_alloc,
            0,
            0,
            sk.cookie,
            0,
            state.drops
        );
    }
    text
}
