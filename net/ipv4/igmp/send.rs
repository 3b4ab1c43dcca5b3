//! Messages of IGMP on their way out: header with the router alert option, TTL 1. Context: BH.
//!
//! linux: net/ipv4/igmp.c; RFC 2113, RFC 2236 section 2, RFC 3376 section 4.

use super::device::Message;
use super::report::IP_HLEN;
use crate::kernel::context::BhCx;
use crate::net::core::dev::DevId;
use crate::net::core::skbuff::{Cb, Skb};
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::ip_output::{IpMakeSkb, ip_local_out, ip_make_skb};
use crate::net::ipv4::route::{Flow4, ip_route_output_ports};
use klib::checksum::{csum_fold, csum_partial, ip_fast_csum};
use uapi::errno::Errno;
use uapi::igmp::{IGMP_ALL_ROUTER, IGMP_HOST_LEAVE_MESSAGE, IGMPV3_ALL_MCR, IgmpHdr};
use uapi::ip::{IP_DF, IPOPT_RA, IPPROTO_IGMP, IPTOS_PREC_INTERNETCONTROL, IpHdr};
use uapi::pkt_sched::TC_PRIO_CONTROL;
use zerocopy::IntoBytes;

/// The router alert option: every router looks at the packet.
const ROUTER_ALERT: [u8; 4] = [IPOPT_RA, 4, 0, 0];

/// Sends a message, if there is a way: by a device that has no address only those of version 3, from nobody.
///
/// linux: net/ipv4/igmp.c:igmp_send_report, igmpv3_newpack
pub(super) fn send(cx: &mut BhCx<'_>, dev: DevId, message: &Message) {
    walk!(cx, igmp_send_report);
    let (daddr, bytes) = match message {
        Message::Plain { kind, group } => {
            let leave = *kind == IGMP_HOST_LEAVE_MESSAGE;
            let header = IgmpHdr { type_: *kind, group: (*group).into(), ..IgmpHdr::default() };
            (if leave { IGMP_ALL_ROUTER } else { *group }, header.as_bytes().to_vec())
        }
        Message::V3(bytes) => (IGMPV3_ALL_MCR, bytes.clone()),
    };
    let flow = Flow4 { daddr, oif: dev.0, ..Flow4::default() };
    let Ok(dst) = ip_route_output_ports(cx, &flow) else { return };
    let saddr = match message {
        Message::Plain { .. } if dst.saddr == 0 => return cx.cpu.routes.give_back(dst),
        Message::Plain { .. } => dst.saddr,
        Message::V3(_) => igmpv3_get_srcaddr(cx, dev, dst.saddr),
    };
    let made = make(cx, (saddr, daddr), dst.mtu, bytes);
    let Ok(mut skb) = made else { return cx.cpu.routes.give_back(dst) };
    skb.priority = TC_PRIO_CONTROL;
    skb.cb = Cb::Inet(InetSkbParm { mc_loop: true, ..InetSkbParm::default() });
    skb.dst = Some(dst);
    let mut list = cx.skb_list_of(skb);
    let _counted_where_it_was_dropped = ip_local_out(cx, &mut list);
    cx.free_skb_list(list);
}

/// The address of the device that the route chose; zero if it is another's.
///
/// linux: net/ipv4/igmp.c:igmpv3_get_srcaddr
fn igmpv3_get_srcaddr(cx: &BhCx<'_>, dev: DevId, saddr: u32) -> u32 {
    let own =
        cx.t.net
            .in_dev(dev)
            .is_some_and(|in_dev| in_dev.ifa_list.iter().any(|ifa| ifa.local == saddr));
    if own { saddr } else { 0 }
}

fn make(
    cx: &mut BhCx<'_>,
    (saddr, daddr): (u32, u32),
    mtu: u32,
    mut message: Vec<u8>,
) -> Result<Skb, Errno> {
    let sum = csum_fold(csum_partial(&message, 0));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut iph = IpHdr {
        tos: IPTOS_PREC_INTERNETCONTROL,
        ttl: 1,
        frag_off: IP_DF.into(),
        ..IpMakeSkb::<()>::header(saddr, daddr, IPPROTO_IGMP)
    };
    iph.set_ihl(IP_HLEN);
    let mut make = IpMakeSkb::default();
    make.set(iph, (), mtu);
    let mut skb = ip_make_skb(cx, &make, ROUTER_ALERT.len() + message.len(), |parts| {
        let (option, igmp) = parts.payload.split_at_mut(ROUTER_ALERT.len());
        option.copy_from_slice(&ROUTER_ALERT);
        igmp.copy_from_slice(&message);
        Ok(())
    })?;
    skb.set_transport_header(IP_HLEN);
    // The option is a part of the header, too.
    if let Some(header) = skb.data_mut().and_then(|data| data.get_mut(..IP_HLEN)) {
        header[10..12].fill(0);
        let check = ip_fast_csum(header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
    }
    Ok(skb)
}
