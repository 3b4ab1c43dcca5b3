//! Counters under Linux's names, one set a CPU, added up when read.
//!
//! linux: include/net/snmp.h, net/ipv4/proc.c. Key types: [`NetMib`], [`Mib`].
//! Contexts: adding in BH, on the CPU's own set; no lock, no atomic.

use crate::kernel::trace::drop_reason::DropReason;
use uapi::snmp::{IcmpMib, IpMib, LinuxMib, TcpMib, UdpMib};

/// A counter of any of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mib {
    /// `Ip:` and `IpExt:` of `/proc/net/{snmp,netstat}`.
    Ip(IpMib),
    /// `Icmp:`.
    Icmp(IcmpMib),
    /// `IcmpMsg:` received, by type.
    IcmpMsgIn(u8),
    /// `IcmpMsg:` sent, by type.
    IcmpMsgOut(u8),
    /// `Tcp:`.
    Tcp(TcpMib),
    /// `Udp:`.
    Udp(UdpMib),
    /// `TcpExt:` of `/proc/net/netstat`.
    Linux(LinuxMib),
    /// Ours: socket options asked for that there are not.
    UnknownOptions,
}

macro_rules! from_group {
    ($($group:ident $variant:ident)*) => { $(
        impl From<$group> for Mib {
            #[inline]
            fn from(item: $group) -> Self {
                Self::$variant(item)
            }
        }
    )* };
}

from_group! { IpMib Ip IcmpMib Icmp TcpMib Tcp UdpMib Udp LinuxMib Linux }

/// One set of all counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetMib {
    ip: [u64; IpMib::COUNT],
    icmp: [u64; IcmpMib::COUNT],
    icmp_in: Vec<u64>,
    icmp_out: Vec<u64>,
    tcp: [u64; TcpMib::COUNT],
    udp: [u64; UdpMib::COUNT],
    linux: [u64; LinuxMib::COUNT],
    unknown_options: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Default for NetMib {
    fn default() -> Self {
        Self {
            ip: [0; IpMib::COUNT],
            icmp: [0; IcmpMib::COUNT],
            icmp_in: vec![0; 256],
            icmp_out: vec![0; 256],
            tcp: [0; TcpMib::COUNT],
            udp: [0; UdpMib::COUNT],
            linux: [0; LinuxMib::COUNT],
            unknown_options: 0,
            drops: [0; DropReason::ALL.len()],
        }
    }
}

impl NetMib {
    /// Adds to a counter.
    #[inline]
    pub fn add(&mut self, mib: Mib, count: u64) {
        let slot = self.slot(mib);
        *slot = slot.wrapping_add(count);
    }

    /// Takes one from a gauge. What one CPU added another may take away: only the sum over all CPUs
    /// is a number of something.
    ///
    /// linux: include/net/snmp.h:SNMP_DEC_STATS
    #[inline]
    pub fn dec(&mut self, mib: Mib) {
        self.add(mib, 1_u64.wrapping_neg());
    }

    #[inline]
    fn slot(&mut self, mib: Mib) -> &mut u64 {
        match mib {
            Mib::Ip(item) => &mut self.ip[item as usize],
            Mib::Icmp(item) => &mut self.icmp[item as usize],
            Mib::IcmpMsgIn(kind) => &mut self.icmp_in[usize::from(kind)],
            Mib::IcmpMsgOut(kind) => &mut self.icmp_out[usize::from(kind)],
            Mib::Tcp(item) => &mut self.tcp[item as usize],
            Mib::Udp(item) => &mut self.udp[item as usize],
            Mib::Linux(item) => &mut self.linux[item as usize],
            Mib::UnknownOptions => &mut self.unknown_options,
        }
    }

    /// Counts a drop.
    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// Reads a counter.
    pub fn get(&self, mib: impl Into<Mib>) -> u64 {
        match mib.into() {
            Mib::Ip(item) => self.ip[item as usize],
            Mib::Icmp(item) => self.icmp[item as usize],
            Mib::IcmpMsgIn(kind) => self.icmp_in[usize::from(kind)],
            Mib::IcmpMsgOut(kind) => self.icmp_out[usize::from(kind)],
            Mib::Tcp(item) => self.tcp[item as usize],
            Mib::Udp(item) => self.udp[item as usize],
            Mib::Linux(item) => self.linux[item as usize],
            Mib::UnknownOptions => self.unknown_options,
        }
    }

    /// Drops under a reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Reasons under which something was dropped, with their counts.
    pub fn all_drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|r| (*r, self.drops[*r as usize])).filter(|(_, n)| *n != 0)
    }

    /// Adds another set.
    pub fn add_all(&mut self, other: &Self) {
        fn add(to: &mut [u64], from: &[u64]) {
            for (to, from) in to.iter_mut().zip(from) {
                *to = to.wrapping_add(*from);
            }
        }
        add(&mut self.ip, &other.ip);
        add(&mut self.icmp, &other.icmp);
        add(&mut self.icmp_in, &other.icmp_in);
        add(&mut self.icmp_out, &other.icmp_out);
        add(&mut self.tcp, &other.tcp);
        add(&mut self.udp, &other.udp);
        add(&mut self.linux, &other.linux);
        self.unknown_options += other.unknown_options;
        add(&mut self.drops, &other.drops);
    }

    /// Every counter that is not zero, as `(group, name, value)` in Linux's order.
    pub fn nonzero(&self) -> Vec<(&'static str, String, u64)> {
        let mut all = Vec::new();
        let mut group = |group, names: Vec<String>, values: &[u64]| {
            all.extend(names.into_iter().zip(values).map(|(name, value)| (group, name, *value)));
        };
        let ip = |items: &[IpMib]| items.iter().map(|i| i.name().to_owned()).collect::<Vec<_>>();
        group("Ip", ip(IpMib::ip()), &self.ip);
        group("IpExt", ip(IpMib::ip_ext()), &self.ip[IpMib::IP_COUNT..]);
        group("Icmp", IcmpMib::ALL.iter().map(|i| i.name().to_owned()).collect(), &self.icmp);
        group("IcmpMsg", (0..256).map(|n| format!("InType{n}")).collect(), &self.icmp_in);
        group("IcmpMsg", (0..256).map(|n| format!("OutType{n}")).collect(), &self.icmp_out);
        group("Tcp", TcpMib::ALL.iter().map(|i| i.name().to_owned()).collect(), &self.tcp);
        group("Udp", UdpMib::ALL.iter().map(|i| i.name().to_owned()).collect(), &self.udp);
        group("TcpExt", LinuxMib::ALL.iter().map(|i| i.name().to_owned()).collect(), &self.linux);
        group("Netkeel", vec!["UnknownOptions".to_owned()], &[self.unknown_options]);
        all.retain(|(_, _, value)| *value != 0);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_may_go_up_on_one_cpu_and_down_on_another() {
        let (mut one, mut other) = (NetMib::default(), NetMib::default());
        one.add(TcpMib::CurrEstab.into(), 3);
        other.dec(TcpMib::CurrEstab.into());
        other.dec(TcpMib::CurrEstab.into());
        other.add(TcpMib::InSegs.into(), 7);
        let mut sum = NetMib::default();
        sum.add_all(&other);
        sum.add_all(&one);
        assert_eq!(sum.get(TcpMib::CurrEstab), 1);
        let seen = sum.nonzero();
        assert_eq!(seen[0], ("Tcp", "CurrEstab".to_owned(), 1));
        assert_eq!(seen[1], ("Tcp", "InSegs".to_owned(), 7));
    }
}
