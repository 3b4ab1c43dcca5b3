//! Questions about octets, for what the words say.

use super::FilterError;
use super::ast::*;
use uapi::filter::*;
use uapi::if_ether::{
    ETH_HLEN, ETH_P_8021AD, ETH_P_8021Q, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ETH_P_RARP,
};
use uapi::if_packet::PACKET_OUTGOING;
use uapi::ip::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};

/// An old type of VLAN tags.
const ETH_P_QINQ1: u16 = 0x9100;
/// What is no type of a frame but its length.
const ETH_MTU: u32 = 1500;
/// Behind IPv6's header: that of a fragment.
const IPPROTO_FRAGMENT: u8 = 44;
/// The length of IPv6's header.
pub(super) const IP6_HLEN: u32 = 40;

pub(super) fn lower(expr: &Expr) -> Result<Cond, FilterError> {
    Ok(match expr {
        Expr::And(a, b) => lower(a)?.and(lower(b)?),
        Expr::Or(a, b) => lower(a)?.or(lower(b)?),
        Expr::Not(a) => lower(a)?.negated(),
        Expr::Is(primitive) => primitive.lower()?,
        Expr::Relation(relation) => super::lower_arith::relation(relation)?,
    })
}

fn test(load: Vec<SockFilter>, compare: u16, k: u32) -> Cond {
    Cond::Test(Test { load, compare: BPF_JMP | compare | BPF_K, k })
}

pub(super) fn ld(size: u16, at: u32) -> SockFilter {
    SockFilter::stmt(BPF_LD | size | BPF_ABS, at)
}

fn octet(at: u32, value: u8) -> Cond {
    test(vec![ld(BPF_B, at)], BPF_JEQ, value.into())
}

fn half(at: u32, value: u16) -> Cond {
    test(vec![ld(BPF_H, at)], BPF_JEQ, value.into())
}

fn word(at: u32, value: u32, mask: u32) -> Cond {
    match mask {
        0 => Cond::Const(true),
        u32::MAX => test(vec![ld(BPF_W, at)], BPF_JEQ, value),
        _ => {
            let and = SockFilter::stmt(BPF_ALU | BPF_AND | BPF_K, mask);
            test(vec![ld(BPF_W, at), and], BPF_JEQ, value)
        }
    }
}

/// All of them, in this order.
fn all(conds: impl IntoIterator<Item = Cond>) -> Cond {
    conds.into_iter().reduce(Cond::and).unwrap_or(Cond::Const(true))
}

/// One side of a packet or both.
fn sides(dir: Dir, src: Cond, dst: Cond) -> Cond {
    match dir {
        Dir::Src => src,
        Dir::Dst => dst,
        Dir::Either => src.or(dst),
        Dir::Both => src.and(dst),
    }
}

impl Place {
    /// Where the frame's type is.
    fn link_type(self) -> u32 {
        ETH_HLEN as u32 - 2 + self.tags
    }

    /// Where the network header begins.
    pub(super) fn net(self) -> u32 {
        ETH_HLEN as u32 + self.tags
    }

    fn is(self, link_type: u16) -> Cond {
        half(self.link_type(), link_type)
    }

    /// The header's length of IP goes to X.
    pub(super) fn header_len(self) -> SockFilter {
        SockFilter::stmt(BPF_LDX | BPF_B | BPF_MSH, self.net())
    }

    /// It is no later fragment, so a transport header is there.
    fn first_fragment(self) -> Cond {
        test(vec![ld(BPF_H, self.net() + 6)], BPF_JSET, 0x1fff).negated()
    }

    fn ip_proto(self, number: u8) -> Cond {
        self.is(ETH_P_IP).and(octet(self.net() + 9, number))
    }

    /// Behind IPv6's header, or behind that of a fragment.
    fn ip6_proto(self, number: u8) -> Cond {
        let next = self.net() + 6;
        let behind = octet(next, IPPROTO_FRAGMENT).and(octet(self.net() + IP6_HLEN, number));
        self.is(ETH_P_IPV6).and(octet(next, number).or(behind))
    }

    fn transport(self, number: u8, carriers: Carriers) -> Cond {
        match carriers {
            Carriers::Only4 => self.ip_proto(number),
            Carriers::Only6 => self.ip6_proto(number),
            Carriers::Both => self.ip6_proto(number).or(self.ip_proto(number)),
        }
    }

    pub(super) fn proto(self, proto: Proto) -> Cond {
        match proto {
            Proto::Ether => Cond::Const(true),
            Proto::Link(link_type) => self.is(link_type),
            Proto::Ip => self.is(ETH_P_IP),
            Proto::Ip6 => self.is(ETH_P_IPV6),
            Proto::Transport(number, carriers) => self.transport(number, carriers),
        }
    }

    /// What must hold before a header's octets are asked for.
    pub(super) fn guard(self, proto: Proto) -> Cond {
        match proto {
            Proto::Transport(number, Carriers::Only6) => {
                self.is(ETH_P_IPV6).and(octet(self.net() + 6, number))
            }
            Proto::Transport(number, _) => self.ip_proto(number).and(self.first_fragment()),
            other => self.proto(other),
        }
    }
}

impl Primitive {
    fn error(&self, what: &str) -> FilterError {
        FilterError { column: self.at.column, what: what.to_owned() }
    }

    fn lower(&self) -> Result<Cond, FilterError> {
        let at = self.at;
        match self.what {
            What::Proto => {
                self.undirected().map(|()| at.proto(self.quals.proto.unwrap_or(Proto::Ether)))
            }
            What::Host(addr) => self.network(addr, u32::MAX),
            What::Net(addr, mask) => self.network(addr, mask),
            What::Host6(addr) => self.network6(addr.to_bits(), 128),
            What::Net6(addr, len) => self.network6(addr.to_bits(), len),
            What::Mac(mac) => self.mac(mac),
            What::Ports(first, last) => self.ports(first, last),
            What::Number(number) => self.number(number),
            What::Broadcast => self.undirected().and_then(|()| self.broadcast()),
            What::Multicast => self.undirected().and_then(|()| self.multicast()),
            What::Vlan(tag) => self.vlan(tag),
            What::Inbound => Ok(outgoing().negated()),
            What::Outbound => Ok(outgoing()),
        }
    }

    /// It says nothing of a side.
    fn undirected(&self) -> Result<(), FilterError> {
        match self.quals.dir {
            Dir::Either => Ok(()),
            _ => Err(self.error("`src` and `dst` are said of addresses and ports")),
        }
    }

    /// Addresses of IPv4, and those that ARP asks about.
    fn network(&self, addr: u32, mask: u32) -> Result<Cond, FilterError> {
        let (at, dir) = (self.at, self.quals.dir);
        let ends = |src, dst| sides(dir, word(src, addr, mask), word(dst, addr, mask));
        let ip = || at.is(ETH_P_IP).and(ends(at.net() + 12, at.net() + 16));
        let arp = |link_type| at.is(link_type).and(ends(at.net() + 14, at.net() + 24));
        match self.quals.proto {
            None => Ok(ip().or(arp(ETH_P_ARP)).or(arp(ETH_P_RARP))),
            Some(Proto::Ip) => Ok(ip()),
            Some(Proto::Link(link_type)) => Ok(arp(link_type)),
            Some(_) => {
                Err(self
                    .error("an IPv4 address is said of `ip`, `arp` or `rarp`: write `and` between"))
            }
        }
    }

    fn network6(&self, addr: u128, len: u32) -> Result<Cond, FilterError> {
        if !matches!(self.quals.proto, None | Some(Proto::Ip6)) {
            return Err(self.error("an IPv6 address is said of `ip6`: write `and` between"));
        }
        let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
        let part = |n: u128, nth: u32| (n >> (96 - 32 * nth)) as u32;
        let whole = |at: u32| {
            // Those that tell most apart come last in an address.
            all((0..4).rev().map(|nth| word(at + 4 * nth, part(addr, nth), part(mask, nth))))
        };
        let net = self.at.net();
        Ok(self.at.is(ETH_P_IPV6).and(sides(self.quals.dir, whole(net + 8), whole(net + 24))))
    }

    fn mac(&self, mac: [u8; 6]) -> Result<Cond, FilterError> {
        if self.quals.proto != Some(Proto::Ether) {
            return Err(self.error("a link address is said of `ether`: write `ether host`"));
        }
        Ok(sides(self.quals.dir, mac_at(6, mac), mac_at(0, mac)))
    }

    fn ports(&self, first: u16, last: u16) -> Result<Cond, FilterError> {
        let numbers: &[u8] = match self.quals.proto {
            None => &[IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP],
            Some(Proto::Transport(number @ (IPPROTO_SCTP | IPPROTO_TCP | IPPROTO_UDP), _)) => {
                &[number]
            }
            Some(_) => return Err(self.error("ports are said of `tcp`, `udp` or `sctp`")),
        };
        let (at, dir) = (self.at, self.quals.dir);
        let carried = |offset: u32| {
            let is = |&number: &u8| octet(offset, number);
            numbers.iter().map(is).reduce(Cond::or).unwrap_or(Cond::Const(false))
        };
        let between = |load: Vec<SockFilter>| match first == last {
            true => test(load, BPF_JEQ, first.into()),
            false => test(load.clone(), BPF_JGE, first.into())
                .and(test(load, BPF_JGT, last.into()).negated()),
        };
        let fixed = |offset| between(vec![ld(BPF_H, offset)]);
        let net = at.net();
        let of6 = sides(dir, fixed(net + IP6_HLEN), fixed(net + IP6_HLEN + 2));
        let ip6 = at.is(ETH_P_IPV6).and(carried(net + 6)).and(of6);
        let behind = |more| {
            let ind = SockFilter::stmt(BPF_LD | BPF_H | BPF_IND, net + more);
            between(vec![at.header_len(), ind])
        };
        let of4 = sides(dir, behind(0), behind(2));
        let ip = all([at.is(ETH_P_IP), carried(net + 9), at.first_fragment(), of4]);
        Ok(ip6.or(ip))
    }

    fn number(&self, number: u32) -> Result<Cond, FilterError> {
        self.undirected()?;
        let at = self.at;
        if self.quals.proto == Some(Proto::Ether) {
            let number =
                u16::try_from(number).map_err(|_| self.error("a frame's type has 16 bits"))?;
            return Ok(match u32::from(number) {
                // Without a type a frame has its length there, and says what it carries behind it.
                0..=ETH_MTU => test(vec![ld(BPF_H, at.link_type())], BPF_JGT, ETH_MTU)
                    .negated()
                    .and(octet(at.net(), number as u8)),
                _ => at.is(number),
            });
        }
        let number = u8::try_from(number).map_err(|_| self.error("IP's protocols go to 255"))?;
        match self.quals.proto {
            None => Ok(at.transport(number, Carriers::Both)),
            Some(Proto::Ip) => Ok(at.ip_proto(number)),
            Some(Proto::Ip6) => Ok(at.ip6_proto(number)),
            Some(_) => Err(self.error("`proto` is said of `ether`, `ip` or `ip6`")),
        }
    }

    fn broadcast(&self) -> Result<Cond, FilterError> {
        match self.quals.proto {
            None | Some(Proto::Ether) => Ok(mac_at(0, [0xff; 6])),
            _ => Err(self.error(
                "the network's mask is not known here: write `dst host` with its broadcast address",
            )),
        }
    }

    fn multicast(&self) -> Result<Cond, FilterError> {
        let at = self.at;
        match self.quals.proto {
            None | Some(Proto::Ether) => Ok(test(vec![ld(BPF_B, 0)], BPF_JSET, 1)),
            Some(Proto::Ip) => {
                Ok(at.is(ETH_P_IP).and(test(vec![ld(BPF_B, at.net() + 16)], BPF_JGE, 224)))
            }
            Some(Proto::Ip6) => Ok(at.is(ETH_P_IPV6).and(octet(at.net() + 24, 255))),
            Some(_) => Err(self.error("`multicast` is said of `ether`, `ip` or `ip6`")),
        }
    }

    fn vlan(&self, tag: Option<u32>) -> Result<Cond, FilterError> {
        let at = self.at;
        if self.quals.proto.is_some() {
            return Err(self.error("`vlan` stands alone"));
        }
        let any = at.is(ETH_P_8021Q).or(at.is(ETH_P_8021AD)).or(at.is(ETH_P_QINQ1));
        match tag {
            None => Ok(any),
            Some(tag @ 0..=0x0fff) => {
                let and = SockFilter::stmt(BPF_ALU | BPF_AND | BPF_K, 0x0fff);
                Ok(any.and(test(vec![ld(BPF_H, at.net()), and], BPF_JEQ, tag)))
            }
            Some(_) => Err(self.error("VLANs go to 4095")),
        }
    }
}

/// The packet is one that we send.
fn outgoing() -> Cond {
    test(vec![ld(BPF_B, (SKF_AD_OFF + SKF_AD_PKTTYPE) as u32)], BPF_JEQ, PACKET_OUTGOING.into())
}

fn mac_at(at: u32, mac: [u8; 6]) -> Cond {
    let [a, b, c, d, e, f] = mac;
    word(at + 2, u32::from_be_bytes([c, d, e, f]), u32::MAX)
        .and(half(at, u16::from_be_bytes([a, b])))
}
