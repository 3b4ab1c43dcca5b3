//! The capture's hosts: what they told of their link addresses, and how they answer ARP.

use super::frame::{Frame, Kind};
use stack::net::ipv4::devinet::IfAddr;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use uapi::if_arp::{ARPHRD_ETHER, ARPOP_REPLY, ArpIpv4};
use uapi::if_ether::{ETH_P_ARP, ETH_P_IP, EthHdr};
use zerocopy::{FromZeros, IntoBytes};

/// Hosts that are remembered at most.
const MOST: usize = 4096;

/// Link addresses, as far as the capture was played.
pub(super) struct Hosts {
    known: BTreeMap<Ipv4Addr, [u8; 6]>,
    /// The machine's own address and network.
    addr: IfAddr,
    gw: Option<Ipv4Addr>,
}

impl Hosts {
    pub(super) fn new(addr: IfAddr, gw: Option<Ipv4Addr>) -> Self {
        Self { known: BTreeMap::new(), addr, gw }
    }

    /// A host is known by what it sends.
    pub(super) fn remember(&mut self, frame: &Frame) {
        let Some((from, _)) = frame.addrs.filter(|(from, _)| !from.is_unspecified()) else {
            return;
        };
        if self.known.len() < MOST || self.known.contains_key(&from) {
            self.known.insert(from, frame.from);
        }
        // What comes from elsewhere comes by the gateway, and has its link address.
        if let Some(gw) = self.gw
            && !self.addr.on_link(from.into())
        {
            self.known.entry(gw).or_insert(frame.from);
        }
    }

    /// What the host that a frame asks for by ARP says, if it is one of the capture's.
    pub(super) fn answer(&self, frame: &Frame) -> Option<Vec<u8>> {
        let (asks, whom) = frame.addrs.filter(|_| frame.kind == Kind::ArpRequest)?;
        let mac = *self.known.get(&whom)?;
        let eth = EthHdr { h_dest: frame.from, h_source: mac, h_proto: ETH_P_ARP.into() };
        let mut arp = ArpIpv4::new_zeroed();
        arp.ar_hrd.set(ARPHRD_ETHER);
        arp.ar_pro.set(ETH_P_IP);
        (arp.ar_hln, arp.ar_pln) = (6, 4);
        arp.ar_op.set(ARPOP_REPLY);
        arp.ar_sha = mac;
        arp.ar_sip.set(whom.into());
        arp.ar_tha = frame.from;
        arp.ar_tip.set(asks.into());
        Some([eth.as_bytes(), arp.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn frame(from: [u8; 4], mac: u8, kind: Kind, to: Ipv4Addr) -> Frame {
        let addrs = Some((from.into(), to));
        Frame { to: [0xff; 6], from: [2, 0, 0, 0, 0, mac], kind, addrs, ports: None }
    }

    /// The link address that is told for an address.
    fn told(hosts: &Hosts, whom: [u8; 4]) -> Option<u8> {
        let asks = frame(OURS.octets(), 0x99, Kind::ArpRequest, whom.into());
        let reply = Frame::of(&hosts.answer(&asks)?);
        assert_eq!((reply.kind, reply.addrs), (Kind::ArpReply, Some((whom.into(), OURS))));
        assert_eq!(reply.to, asks.from);
        Some(reply.from[5])
    }

    #[test]
    fn the_gateway_has_the_link_address_of_what_comes_from_elsewhere() {
        let gw = [192, 0, 2, 250];
        let mut hosts = Hosts::new(IfAddr::new(OURS, 24).expect("a host's"), Some(gw.into()));
        hosts.remember(&frame([192, 0, 2, 5], 5, Kind::Udp, OURS));
        assert_eq!((told(&hosts, [192, 0, 2, 5]), told(&hosts, gw)), (Some(5), None));
        hosts.remember(&frame([203, 0, 113, 9], 7, Kind::Udp, OURS));
        assert_eq!(
            told(&hosts, gw),
            Some(7),
            "and a neighbour that came first is not taken for it"
        );
        hosts.remember(&frame(gw, 8, Kind::ArpReply, OURS));
        hosts.remember(&frame([203, 0, 113, 9], 7, Kind::Udp, OURS));
        assert_eq!(told(&hosts, gw), Some(8), "what it says itself is better");
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for() {
        let mut hosts = Hosts::new(IfAddr::new(OURS, 24).expect("a host's"), None);
        for n in 0..2 * MOST as u32 {
            hosts.remember(&frame(n.to_be_bytes(), 1, Kind::Udp, OURS));
        }
        assert_eq!(hosts.known.len(), MOST);
        assert_eq!(told(&hosts, [0; 4]), None, "nobody is at no address");
        hosts.remember(&frame([0, 0, 0, 1], 6, Kind::Udp, OURS));
        assert_eq!(told(&hosts, [0, 0, 0, 1]), Some(6), "who is known may move");
    }
}
