//! Connecting datagram sockets. Context: task.
//!
//! linux: net/ipv4/datagram.c.

use crate::kernel::context::TaskCx;
use crate::net::core::sock::{Sock, SockState};
use crate::net::ipv4::route::{Flow4, ip_route_output_flow};
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::ip::INET_DSCP_MASK;
use uapi::socket::SOL_UDP;

/// Fixes the peer, and the address to send from that the route suggests.
///
/// # Errors
/// EACCES for a broadcast without `SO_BROADCAST`; those of routing.
///
/// linux: net/ipv4/datagram.c:ip4_datagram_connect
pub(crate) fn ip4_datagram_connect(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    to: SockaddrIn,
) -> Result<(), Errno> {
    let flow = {
        let mut state = sk.state();
        state.inet.has_dst = false;
        let inet = &state.inet;
        let (mc_index, mc_addr) = state.way_to_groups(to.addr);
        Flow4 {
            daddr: to.addr,
            saddr: if inet.saddr == 0 { mc_addr } else { inet.saddr },
            oif: match state.opts.bound_dev_if {
                0 => mc_index,
                bound => bound,
            },
            tos: state.inet.tos & INET_DSCP_MASK,
            mark: state.opts.mark,
            ..Flow4::default()
        }
    };
    let (saddr, to_many) = cx.local_bh_disable(|bh| {
        let dst = ip_route_output_flow(bh, &flow)?;
        let result = (dst.saddr, dst.is_broadcast());
        bh.cpu.routes.give_back(dst);
        Ok(result)
    })?;
    if to_many && !sk.state().opts.broadcast {
        return Err(Errno::EACCES);
    }
    change_addrs(sk, |state| {
        let inet = &mut state.inet;
        if inet.saddr == 0 {
            inet.saddr = saddr;
        }
        if inet.rcv_saddr == 0 {
            inet.rcv_saddr = saddr;
        }
        // To nobody in particular means to this machine.
        inet.daddr = if to.addr == 0 { saddr } else { to.addr };
        inet.dport = to.port;
        inet.has_dst = true;
    });
    sk.sk_tx_queue_clear(true);
    Ok(())
}

/// Changes addresses, where lookups compare them, too.
fn change_addrs(sk: &Arc<Sock>, change: impl FnOnce(&mut SockState)) {
    if sk.sk_prot.level == SOL_UDP {
        sk.net.udp_table.rehash(sk, change);
    } else {
        change(&mut sk.state());
    }
}

/// Frees the peer, and what was not bound by hand: `connect` with `AF_UNSPEC`.
///
/// linux: net/ipv4/udp.c:udp_disconnect
pub(crate) fn udp_disconnect(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<(), Errno> {
    change_addrs(sk, |state| {
        let inet = &mut state.inet;
        inet.daddr = 0;
        inet.dport = 0;
        inet.has_dst = false;
        if !inet.addr_bound {
            inet.saddr = 0;
            inet.rcv_saddr = 0;
        }
    });
    sk.sk_tx_queue_clear(false);
    let keeps_port = sk.state().inet.port_bound;
    if !keeps_port {
        (sk.sk_prot.unhash)(cx, sk);
    }
    Ok(())
}
