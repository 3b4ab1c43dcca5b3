//! What `/proc/net/packet` shows.
//!
//! linux: net/packet/af_packet.c. Contexts: task. Locks: `class::PortHash`, then `class::Sock`, one at a time.

use crate::net::net_namespace::NetView;
use std::fmt::Write;

/// The text of `/proc/net/packet`: a line for each packet socket. The inode is the socket's cookie, the pointer is not
/// told.
///
/// linux: net/packet/af_packet.c:packet_seq_show
pub fn packet_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let mut text = format!("{:<17}RefCnt Type Proto  Iface R Rmem   User   Inode\n", "sk");
    for sk in of.net().packet.all_socks() {
        let mut state = sk.state();
        let rmem = state.rmem_alloc;
        let Some(po) = state.packet() else { continue };
        let _ = writeln!(
            text,
            "{:016x} {:<6} {:<4} {:04x}   {:<5} {} {rmem:<6} {:<6} {:<6}",
            0,
            3,
            sk.sk_type(),
            po.num,
            po.ifindex,
            i32::from(po.running),
            0,
            sk.cookie
        );
    }
    text
}
