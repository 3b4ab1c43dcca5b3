//! Options of answers: those of the packet that is answered, with its source route turned round.
//!
//! linux: net/ipv4/ip_options.c (`ip_options_echo`, `ip_options_undo`); RFC 1122 section 3.2.1.8.

use super::compile::word;
use super::{IpOptions, IpOptionsRcu, OptFlags};
use crate::kernel::context::BhCx;
use crate::kernel::rcupdate::Tables;
use crate::net::core::skbuff::SkBuff;
use crate::net::ipv4::devinet::inet_addr_type;
use uapi::ip::{
    IP_HDR_LEN, IPOPT_CIPSO, IPOPT_END, IPOPT_LSRR, IPOPT_MINOFF, IPOPT_NOOP, IPOPT_RR, IPOPT_SSRR,
    IPOPT_TIMESTAMP, IPOPT_TS_PRESPEC, IPOPT_TS_TSANDADDR, IPOPT_TS_TSONLY, IpHdr, MAX_IPOPTLEN,
};
use uapi::rtnetlink::RTN_UNICAST;

/// The options can't be echoed: an entry is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoEcho;

/// Where the options of a header stand that has been read before. What is to be done about them shows there, too:
/// an option that points behind its end is full.
pub(crate) fn ip_options_of(header: &[u8]) -> IpOptions {
    let optlen = header.len().saturating_sub(IP_HDR_LEN) as u8;
    let mut opt = IpOptions { optlen, ..IpOptions::default() };
    let mut at = IP_HDR_LEN;
    while let Some(kind) = header.get(at) {
        let len = match *kind {
            IPOPT_END => break,
            IPOPT_NOOP => 1,
            _ => header.get(at + 1).map_or(0, |len| usize::from(*len)),
        };
        if len == 0 || at + len > header.len() {
            break;
        }
        let place = at as u8;
        match *kind {
            IPOPT_RR if opt.rr == 0 => opt.rr = place,
            IPOPT_TIMESTAMP if opt.ts == 0 => opt.ts = place,
            IPOPT_LSRR | IPOPT_SSRR if opt.srr == 0 => opt.srr = place,
            IPOPT_CIPSO if opt.cipso == 0 => opt.cipso = place,
            _ => (),
        }
        at += len;
    }
    opt
}

/// The options that an answer to a packet has, whose own were read before: all of them, or those that `opt` tells of.
/// `None` without any.
///
/// # Errors
/// An entry is cut off: there is to be no answer.
#[inline]
pub(crate) fn ip_options_reply(
    cx: &BhCx<'_>,
    skb: &SkBuff,
    opt: Option<IpOptions>,
) -> Result<Option<IpOptionsRcu>, NoEcho> {
    match skb.network::<IpHdr>() {
        Some(iph) if iph.ihl() > IP_HDR_LEN => ip_options_echo(cx, skb, opt),
        _ => Ok(None),
    }
}

/// The same of a packet that has options.
///
/// linux: net/ipv4/ip_options.c:ip_options_echo
#[cold]
fn ip_options_echo(
    cx: &BhCx<'_>,
    skb: &SkBuff,
    opt: Option<IpOptions>,
) -> Result<Option<IpOptionsRcu>, NoEcho> {
    walk!(cx, skb, ip_options_echo);
    let len = skb.network::<IpHdr>().map_or(0, IpHdr::ihl);
    let header = skb.network_bytes().get(..len).ok_or(NoEcho)?;
    __ip_options_echo(cx.t, header, &opt.unwrap_or_else(|| ip_options_of(header)))
}

/// The same of those that `sopt` tells of.
///
/// linux: net/ipv4/ip_options.c:__ip_options_echo
pub(crate) fn __ip_options_echo(
    t: &Tables,
    header: &[u8],
    sopt: &IpOptions,
) -> Result<Option<IpOptionsRcu>, NoEcho> {
    let is_foreign = |addr| inet_addr_type(t, addr) == RTN_UNICAST;
    let mut echo = Echo { header, made: IpOptionsRcu::default() };
    echo.record_route(sopt.rr);
    echo.timestamp(sopt.ts, is_foreign)?;
    echo.source_route(sopt.srr);
    if let Some(label) = option(header, sopt.cipso) {
        echo.made.opt.cipso = echo.put(label);
    }
    let mut made = echo.made;
    made.opt.optlen = made.opt.optlen.next_multiple_of(4);
    Ok((!made.is_empty()).then_some(made))
}

/// The option at a place of a header; none at zero.
fn option(header: &[u8], place: u8) -> Option<&[u8]> {
    let from = usize::from(place);
    let len = usize::from(*header.get(from + 1).filter(|_| place != 0)?);
    header.get(from..from + len)
}

struct Echo<'a> {
    header: &'a [u8],
    made: IpOptionsRcu,
}

impl Echo<'_> {
    /// Appends an option; its place.
    fn put(&mut self, option: &[u8]) -> u8 {
        let at = self.made.len();
        // Each stood in the header, once: all of them have room.
        if let Some(room) = self.made.data.get_mut(at..at + option.len()) {
            room.copy_from_slice(option);
            self.made.opt.optlen += option.len() as u8;
        }
        (IP_HDR_LEN + at) as u8
    }

    /// The way back is recorded behind the way here.
    fn record_route(&mut self, place: u8) {
        let Some(option) = option(self.header, place) else { return };
        self.made.opt.rr = self.put(option);
        if option.get(2).is_some_and(|at| usize::from(*at) <= option.len()) {
            self.advance(self.made.opt.rr, 4);
            self.made.opt.flags |= OptFlags::RR_NEEDADDR;
        }
    }

    fn timestamp(&mut self, place: u8, is_foreign: impl Fn(u32) -> bool) -> Result<(), NoEcho> {
        let Some(option) = option(self.header, place) else { return Ok(()) };
        self.made.opt.ts = self.put(option);
        let &[_, _, at, kind, ..] = option else { return Ok(()) };
        let at = usize::from(at);
        if at > option.len() {
            return Ok(());
        }
        let entry = |len: usize| option.get(at - 1..at - 1 + len);
        let (flags, len) = match kind & 15 {
            IPOPT_TS_TSONLY => {
                entry(4).ok_or(NoEcho)?;
                (OptFlags::TS_NEEDTIME, 4)
            }
            IPOPT_TS_TSANDADDR => {
                entry(8).ok_or(NoEcho)?;
                (OptFlags::TS_NEEDADDR | OptFlags::TS_NEEDTIME, 8)
            }
            IPOPT_TS_PRESPEC => {
                entry(4).ok_or(NoEcho)?;
                match entry(8) {
                    Some(entry) if !is_foreign(word(entry)) => (OptFlags::TS_NEEDTIME, 8),
                    _ => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        self.made.opt.flags |= flags;
        self.advance(self.made.opt.ts, len);
        Ok(())
    }

    /// The hops that it took, the last one first: that is where the answer goes first. Its list begins with the one
    /// before, and ends with room for the packet's sender.
    fn source_route(&mut self, place: u8) {
        let Some(option) = option(self.header, place) else { return };
        let &[kind, _, at, ..] = option else { return };
        // RFC 791: what lies before the pointer was recorded on the way.
        let Some(taken) = usize::from(at).min(option.len() + 1).checked_sub(4) else { return };
        let hop = |at: usize| option.get(at - 1..).map_or(0, word);
        let mut hops = (4..=taken).rev().step_by(4).map(hop);
        let Some(first) = hops.next() else { return };
        let mut slots = taken / 4;
        // RFC 1812 section 5.2.4.1: a list that begins with the sender is a wrong one; he is to be in it once.
        let sender = self.header.get(12..16).map_or(0, word);
        if hop(taken % 4 + 4) == sender {
            slots -= 1;
        }
        if slots == 0 {
            return;
        }
        let mut back = [0; MAX_IPOPTLEN];
        let len = 3 + 4 * slots;
        back[..3].copy_from_slice(&[kind, len as u8, IPOPT_MINOFF]);
        for (room, hop) in back[3..].chunks_exact_mut(4).zip(hops) {
            room.copy_from_slice(&hop.to_be_bytes());
        }
        back[len - 4..len].copy_from_slice(&first.to_be_bytes());
        self.made.opt.srr = self.put(&back[..len]);
        self.made.opt.flags.set(OptFlags::STRICTROUTE, kind == IPOPT_SSRR);
    }

    fn advance(&mut self, place: u8, by: u8) {
        if let Some(option) = self.made.option_mut(place) {
            option[2] += by;
        }
    }
}

impl IpOptionsRcu {
    /// As a program writes them: the first hop is the first of the list, and nothing is recorded yet.
    ///
    /// linux: net/ipv4/ip_options.c:ip_options_undo
    pub(super) fn ip_options_undo(&mut self) {
        let IpOptions { srr, rr, ts, flags, .. } = self.opt;
        if let Some([_, _, _, list @ ..]) = self.option_mut(srr)
            && list.len() >= 4
        {
            list.rotate_right(4);
        }
        if flags.contains(OptFlags::RR_NEEDADDR) {
            self.take_back(rr);
        }
        if flags.contains(OptFlags::TS_NEEDTIME) {
            self.take_back(ts);
            if let Some(option) = self.option_mut(ts)
                && option[3] & 15 == IPOPT_TS_PRESPEC
            {
                // The address was the program's own.
                option[2] -= 4;
            }
        }
        if flags.contains(OptFlags::TS_NEEDADDR) {
            self.take_back(ts);
        }
    }

    /// The last four octets before the pointer are free again.
    fn take_back(&mut self, place: u8) {
        if let Some(option) = self.option_mut(place)
            && let Some(at) = option[2].checked_sub(4)
        {
            option[2] = at;
            let from = usize::from(at).saturating_sub(1);
            if let Some(entry) = option.get_mut(from..from + 4) {
                entry.fill(0);
            }
        }
    }
}
