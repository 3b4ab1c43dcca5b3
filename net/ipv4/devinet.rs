//! IPv4 addresses and settings of a device.
//!
//! linux: net/ipv4/devinet.c, include/linux/inetdevice.h. Key types: [`InDevice`], [`IfAddr`].
//! Contexts: changed by tasks; read in BH as part of the read-mostly tables.
//! Invariant: every address has its local route, and its broadcast and link routes while its device is up; those
//! of a secondary address are its primary one's.

use crate::kernel::context::TaskCx;
use crate::kernel::rcupdate::{Tables, update_tables};
use crate::net::core::dev::{DevId, NetDevice};
use crate::net::core::dev_ioctl::{IFREQ_LEN, Ifreq};
use crate::net::core::sysctl::Sysctls;
use crate::net::ipv4::fib::{FibInfo, FibTable};
use crate::net::ipv4::igmp::{ip_mc_down, ip_mc_up};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::if_::IFNAMSIZ;
use uapi::in_::SockaddrIn;
use uapi::in_::{ipv4_is_lbcast, ipv4_is_loopback, ipv4_is_multicast, ipv4_is_zeronet};
use uapi::rtnetlink::{
    RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST,
    RTN_UNICAST,
};
use uapi::sockios::{SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFPFLAGS};

/// `net.ipv4.conf.DEV.*`, or those of `all` or `default`.
///
/// linux: include/linux/inetdevice.h:ipv4_devconf
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4DevConf {
    /// `forwarding`.
    pub forwarding: bool,
    /// `rp_filter`: 0 off, 1 strict (the way back is this device), 2 loose (there is a way back).
    pub rp_filter: u8,
    /// `accept_local`: packets from our own addresses may come in.
    pub accept_local: bool,
    /// `accept_source_route`: packets may be routed through this machine by their senders.
    pub accept_source_route: bool,
    /// `route_localnet`: 127/8 may be on the wire.
    pub route_localnet: bool,
    /// `arp_accept`: unsolicited ARP makes entries.
    pub arp_accept: bool,
    /// `arp_ignore`: 0 answers for any local address, 1 only for those of the device, 2 also only
    /// to askers in the same subnet, 8 never.
    pub arp_ignore: u8,
    /// `arp_notify`: a new address is announced.
    pub arp_notify: bool,
    /// `promote_secondaries`: when a primary address goes, the first of its secondaries takes its place.
    pub promote_secondaries: bool,
    /// `force_igmp_version`: 1 or 2: that one is spoken, whatever queriers speak; else as they do.
    pub force_igmp_version: u8,
    /// `igmpv2_unsolicited_report_interval` in milliseconds: how long until a new group is reported again.
    pub igmpv2_unsolicited_report_interval: u32,
    /// The same in version 3: until a change is told of again.
    pub igmpv3_unsolicited_report_interval: u32,
}

impl Default for Ipv4DevConf {
    fn default() -> Self {
        Self {
            forwarding: false,
            rp_filter: 0,
            accept_local: false,
            accept_source_route: true,
            route_localnet: false,
            arp_accept: false,
            arp_ignore: 0,
            arp_notify: false,
            promote_secondaries: false,
            force_igmp_version: 0,
            igmpv2_unsolicited_report_interval: 10_000,
            igmpv3_unsolicited_report_interval: 1_000,
        }
    }
}

impl Ipv4DevConf {
    /// What holds for a device whose own settings these are: together with those of `all`.
    ///
    /// linux: include/linux/inetdevice.h (`IN_DEV_ANDCONF`, `IN_DEV_ORCONF`, `IN_DEV_MAXCONF`, `IN_DEV_CONF_GET`)
    fn with_all(self, all: Self) -> Self {
        Self {
            rp_filter: self.rp_filter.max(all.rp_filter),
            accept_local: self.accept_local | all.accept_local,
            accept_source_route: self.accept_source_route & all.accept_source_route,
            route_localnet: self.route_localnet | all.route_localnet,
            arp_accept: self.arp_accept | all.arp_accept,
            arp_ignore: self.arp_ignore.max(all.arp_ignore),
            arp_notify: self.arp_notify | all.arp_notify,
            promote_secondaries: self.promote_secondaries | all.promote_secondaries,
            force_igmp_version: match all.force_igmp_version {
                0 => self.force_igmp_version,
                forced => forced,
            },
            ..self
        }
    }
}

/// An address of a device.
///
/// linux: include/linux/inetdevice.h:in_ifaddr
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfAddr {
    /// The address.
    pub local: u32,
    /// Bits of the network.
    pub prefixlen: u8,
    /// The broadcast address; zero: none.
    pub broadcast: u32,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// The device has another of the same network, the primary one (`IFA_F_SECONDARY`). Its device says so.
    pub secondary: bool,
}

impl IfAddr {
    /// An address with the broadcast address of its network, as `ip addr add A/P brd +` makes it.
    ///
    /// # Errors
    /// EINVAL for a prefix over 32 or an address that can't be a host's.
    pub fn new(addr: Ipv4Addr, prefixlen: u8) -> Result<Self, Errno> {
        let local = u32::from(addr);
        if prefixlen > 32
            || ipv4_is_multicast(local)
            || ipv4_is_lbcast(local)
            || ipv4_is_zeronet(local)
        {
            return Err(Errno::EINVAL);
        }
        let host = ipv4_is_loopback(local);
        let broadcast = if prefixlen < 31 { local | !mask(prefixlen) } else { 0 };
        Ok(Self {
            local,
            prefixlen,
            broadcast,
            scope: if host { RT_SCOPE_HOST } else { RT_SCOPE_UNIVERSE },
            secondary: false,
        })
    }

    /// `addr` is in the address's network.
    pub fn on_link(&self, addr: u32) -> bool {
        (addr ^ self.local) & mask(self.prefixlen) == 0
    }

    /// It has the same network, mask and all.
    fn same_net(&self, other: &Self) -> bool {
        self.prefixlen == other.prefixlen && self.on_link(other.local)
    }
}

/// The network mask of a prefix length.
pub fn mask(prefixlen: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefixlen.min(32))).unwrap_or(0)
}

/// The IPv4 side of a device.
///
/// linux: include/linux/inetdevice.h:in_device
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InDevice {
    /// Addresses: the primary ones, the nearer scope before the wider, then the secondary ones.
    pub ifa_list: Vec<IfAddr>,
    /// The settings that hold: its own together with those of `all`.
    pub cnf: Ipv4DevConf,
    /// Its own.
    own: Ipv4DevConf,
    /// Those of its own that were set, by name: what `default` is no longer for.
    set: Vec<&'static str>,
}

impl InDevice {
    /// Its own settings, without those of `all`.
    pub(crate) fn own(&self) -> Ipv4DevConf {
        self.own
    }

    /// Its own settings are others now, or those of `all` are.
    pub(crate) fn reckon(&mut self, own: Ipv4DevConf, all: Ipv4DevConf) {
        (self.own, self.cnf) = (own, own.with_all(all));
    }

    /// One of its own was set by name.
    fn note_set(&mut self, name: &'static str) {
        if !self.set.contains(&name) {
            self.set.push(name);
        }
    }

    /// It was, so that `default` is not for it.
    pub(crate) fn was_set(&self, name: &str) -> bool {
        self.set.contains(&name)
    }

    /// `arp_ignore` forbids to answer.
    ///
    /// linux: net/ipv4/arp.c:arp_ignore
    pub(crate) fn arp_ignore(&self, sip: u32, tip: u32) -> bool {
        match self.cnf.arp_ignore {
            0 => false,
            1 => !self.ifa_list.iter().any(|ifa| ifa.local == tip),
            2 => !self.ifa_list.iter().any(|ifa| ifa.local == tip && ifa.on_link(sip)),
            8 => true,
            _ => false,
        }
    }

    /// Enters an address: as a secondary one, if there is one of its network.
    ///
    /// # Errors
    /// EEXIST if it is there; EINVAL if those of its network have another scope.
    ///
    /// linux: net/ipv4/devinet.c:__inet_insert_ifa
    fn insert(&mut self, mut ifa: IfAddr) -> Result<(), Errno> {
        let mut last_primary = 0;
        ifa.secondary = false;
        for (at, there) in self.ifa_list.iter().enumerate() {
            if !there.secondary && ifa.scope <= there.scope {
                last_primary = at + 1;
            }
            if there.same_net(&ifa) {
                if there.local == ifa.local {
                    return Err(Errno::EEXIST);
                }
                if there.scope != ifa.scope {
                    return Err(Errno::EINVAL);
                }
                ifa.secondary = true;
            }
        }
        let at = if ifa.secondary { self.ifa_list.len() } else { last_primary };
        self.ifa_list.insert(at, ifa);
        Ok(())
    }

    /// Takes an address out. With a primary one its secondaries go, or one of them becomes primary.
    ///
    /// linux: net/ipv4/devinet.c:__inet_del_ifa
    fn remove(&mut self, at: usize) {
        let list = &mut self.ifa_list;
        let gone = list.remove(at);
        if gone.secondary {
            return;
        }
        let of_it = |ifa: &IfAddr| ifa.secondary && ifa.same_net(&gone);
        if !self.cnf.promote_secondaries {
            return list.retain(|ifa| !of_it(ifa));
        }
        let Some(from) = list.iter().position(of_it) else { return };
        let next = IfAddr { secondary: false, ..list.remove(from) };
        // Behind the last primary one on the way to it; without one, behind the list's first.
        let primary = |ifa: &IfAddr| !ifa.secondary && gone.scope <= ifa.scope;
        let to = match list[at.min(from)..from].iter().rposition(primary) {
            Some(last) => at + last + 1,
            None if from == at => from,
            None => at.min(1),
        };
        list.insert(to, next);
    }

    /// Which address speaks for an address's network: itself, or its primary one.
    ///
    /// linux: net/ipv4/devinet.c:inet_ifa_byprefix
    fn speaker(&self, ifa: &IfAddr) -> u32 {
        let speaker = self.ifa_list.iter().find(|there| ifa.secondary && there.same_net(ifa));
        speaker.map_or(ifa.local, |primary| primary.local)
    }
}

/// What kind of address this is to this machine: `RTN_*`.
///
/// linux: net/ipv4/fib_frontend.c:inet_addr_type
pub fn inet_addr_type(t: &Tables, addr: u32) -> u8 {
    if ipv4_is_lbcast(addr) || ipv4_is_zeronet(addr) {
        return RTN_BROADCAST;
    }
    if ipv4_is_multicast(addr) {
        return RTN_MULTICAST;
    }
    t.net.fib.local_type(addr).unwrap_or(RTN_UNICAST)
}

/// An address to send from, by `dev`, to `dst`: of the device, in the same subnet if there is one,
/// else of any device with a wide enough scope.
///
/// linux: net/ipv4/devinet.c:inet_select_addr
pub fn inet_select_addr(t: &Tables, dev: DevId, dst: u32, scope: u8) -> Option<u32> {
    let fits = |ifa: &&IfAddr| !ifa.secondary && ifa.scope <= scope;
    if let Some(in_dev) = t.net.in_dev(dev) {
        let mut fitting = in_dev.ifa_list.iter().filter(fits);
        let first = fitting.clone().next();
        if let Some(ifa) = fitting.find(|ifa| dst == 0 || ifa.on_link(dst)).or(first) {
            return Some(ifa.local);
        }
    }
    t.net
        .in_devs
        .iter()
        .flatten()
        .flat_map(|in_dev| &in_dev.ifa_list)
        .find(|ifa| fits(ifa) && ifa.scope != RT_SCOPE_LINK)
        .map(|ifa| ifa.local)
}

/// The device that has an address.
///
/// linux: net/ipv4/devinet.c:__ip_dev_find
pub fn ip_dev_find(t: &Tables, addr: u32) -> Option<DevId> {
    let has = |in_dev: &Arc<InDevice>| in_dev.ifa_list.iter().any(|ifa| ifa.local == addr);
    let index = t.net.in_devs.iter().position(|slot| slot.as_ref().is_some_and(has));
    match index {
        Some(index) => Some(DevId(index as u16)),
        // 127/8 and routes of type local have no address of their own.
        None => t.net.fib.local_dev(addr),
    }
}

/// Adds an address. That it is this machine's stands at once, its other routes while the device is up.
///
/// # Errors
/// EEXIST if the device has it, EINVAL if it has others of the network with another scope, ENODEV if the device
/// is not in the task's namespace.
///
/// linux: net/ipv4/devinet.c:inet_insert_ifa
pub fn inet_insert_ifa(cx: &mut TaskCx, dev: &Arc<NetDevice>, ifa: IfAddr) -> Result<(), Errno> {
    let id = dev.ifindex;
    let notify = update_tables(cx, |t| {
        if !t.net.dev(id).is_some_and(|own| Arc::ptr_eq(own, dev)) {
            return Err(Errno::ENODEV);
        }
        let slot = t.net.in_devs.get_mut(usize::from(id.0)).ok_or(Errno::ENODEV)?;
        let in_dev = Arc::make_mut(slot.get_or_insert_with(|| inetdev_init(&t.net.sysctl)));
        in_dev.insert(ifa)?;
        let notify = in_dev.cnf.arp_notify;
        fib_add_ifaddrs(t, dev);
        Ok(notify)
    })?;
    if notify && dev.up() {
        cx.local_bh_disable(|bh| crate::net::ipv4::arp::arp_announce(bh, dev, ifa.local));
    }
    Ok(())
}

/// Takes an address away, with its routes; with a primary one its secondaries, unless `promote_secondaries` says
/// that they are to stay; with the last one all routes by the device.
///
/// # Errors
/// EADDRNOTAVAIL if the device does not have it with this prefix; ENODEV if the device has no IPv4 side.
///
/// linux: net/ipv4/devinet.c:inet_del_ifa
pub fn inet_del_ifa(
    cx: &mut TaskCx,
    dev: &Arc<NetDevice>,
    (addr, prefixlen): (Ipv4Addr, u8),
) -> Result<(), Errno> {
    let id = dev.ifindex;
    update_tables(cx, |t| {
        let before = t.net.in_dev(id).cloned().ok_or(Errno::ENODEV)?;
        let wanted = |ifa: &IfAddr| ifa.local == u32::from(addr) && ifa.prefixlen == prefixlen;
        let at = before.ifa_list.iter().position(wanted).ok_or(Errno::EADDRNOTAVAIL)?;
        let slot = t.net.in_devs.get_mut(usize::from(id.0)).and_then(Option::as_mut);
        Arc::make_mut(slot.ok_or(Errno::ENODEV)?).remove(at);
        fib_del_ifaddr(t, id, &before, at);
        fib_add_ifaddrs(t, dev);
        Ok(())
    })
}

/// The addresses of a device as `SIOCGIFCONF` lists them: a `struct ifreq` each.
///
/// linux: net/ipv4/devinet.c:inet_gifconf
pub(crate) fn inet_gifconf(t: &Tables, dev: &NetDevice) -> Vec<[u8; IFREQ_LEN]> {
    let name = &dev.name.as_bytes()[..dev.name.len().min(IFNAMSIZ - 1)];
    let addrs = t.net.in_dev(dev.ifindex).map_or(&[][..], |in_dev| &in_dev.ifa_list);
    let ifreq = |ifa: &IfAddr| {
        let mut ifr = [0; IFREQ_LEN];
        ifr[..name.len()].copy_from_slice(name);
        ifr[IFNAMSIZ..IFNAMSIZ + 16].copy_from_slice(&SockaddrIn::new(ifa.local, 0).to_bytes());
        ifr
    };
    addrs.iter().map(ifreq).collect()
}

/// Reads an address of a device into a `struct ifreq`: the one that stands there already, if the
/// device has it, else its first.
///
/// # Errors
/// EFAULT; ENODEV; EADDRNOTAVAIL for a device without addresses.
///
/// linux: net/ipv4/devinet.c:devinet_ioctl
pub(crate) fn devinet_ioctl(cx: &TaskCx, request: u32, arg: &mut [u8]) -> Result<i32, Errno> {
    let ifr = Ifreq::get(arg)?;
    if request == SIOCGIFPFLAGS {
        return Err(Errno::EINVAL);
    }
    let t = cx.tables();
    let dev = ifr.dev(&t)?;
    let asked = SockaddrIn::from_bytes(&ifr.data[..16]).ok().map(|asked| asked.addr);
    // An address's label is its device's name: an alias has none.
    let named = ifr.label() == dev.name.as_bytes();
    let addrs = t.net.in_dev(dev.ifindex).filter(|_| named).map(|in_dev| &in_dev.ifa_list);
    let addrs = addrs.map_or(&[][..], |addrs| addrs);
    let same = addrs.iter().find(|ifa| Some(ifa.local) == asked);
    let ifa = same.or(addrs.first()).ok_or(Errno::EADDRNOTAVAIL)?;
    let told = match request {
        SIOCGIFBRDADDR => ifa.broadcast,
        SIOCGIFNETMASK => mask(ifa.prefixlen),
        // The peer's address of what is no point-to-point link is its own.
        _ => ifa.local,
    };
    ifr.data[..16].copy_from_slice(&SockaddrIn::new(told, 0).to_bytes());
    Ok(0)
}

/// The IPv4 side of a device, as it begins.
///
/// linux: net/ipv4/devinet.c:inetdev_init
fn inetdev_init(sysctl: &Sysctls) -> Arc<InDevice> {
    let mut in_dev = InDevice::default();
    in_dev.reckon(sysctl.conf_default, sysctl.conf_all);
    Arc::new(in_dev)
}

/// Changes a device's own settings.
///
/// # Errors
/// ENODEV if the device is gone.
pub fn update_devconf(
    cx: &mut TaskCx,
    dev: DevId,
    change: impl FnOnce(&mut Ipv4DevConf),
) -> Result<(), Errno> {
    set_of_dev(cx, dev, |cnf| {
        change(cnf);
        None
    })
}

/// The same by name: `change` says which one was set, if it was.
pub(crate) fn set_of_dev(
    cx: &mut TaskCx,
    dev: DevId,
    change: impl FnOnce(&mut Ipv4DevConf) -> Option<&'static str>,
) -> Result<(), Errno> {
    update_tables(cx, |t| {
        let slot = t.net.in_devs.get_mut(usize::from(dev.0)).ok_or(Errno::ENODEV)?;
        let in_dev = Arc::make_mut(slot.get_or_insert_with(|| inetdev_init(&t.net.sysctl)));
        let mut own = in_dev.own;
        if let Some(name) = change(&mut own) {
            in_dev.note_set(name);
        }
        in_dev.reckon(own, t.net.sysctl.conf_all);
        Ok(())
    })
}

/// The routes of a device's addresses stand: those that do not yet. While it is down only the local ones, which come
/// first.
fn fib_add_ifaddrs(t: &mut Tables, dev: &NetDevice) {
    let Some(in_dev) = t.net.in_dev(dev.ifindex).cloned() else { return };
    let most = if dev.up() { usize::MAX } else { 1 };
    for ifa in &in_dev.ifa_list {
        let routes = ifaddr_routes(t, dev.ifindex, (&in_dev, ifa));
        for (table, key, plen, info) in routes.into_iter().take(most) {
            t.net.fib.insert(table, key, plen, info);
        }
    }
}

/// The routes of an address go, and of a primary one those of its secondaries, which it spoke for; `before`: the
/// device's addresses when it was there. What others still need is to be added again.
///
/// linux: net/ipv4/fib_frontend.c:fib_del_ifaddr
fn fib_del_ifaddr(t: &mut Tables, dev: DevId, before: &InDevice, at: usize) {
    let Some(gone) = before.ifa_list.get(at) else { return };
    let with_it = |ifa: &&IfAddr| *ifa == gone || !gone.secondary && ifa.same_net(gone);
    for ifa in before.ifa_list.iter().filter(with_it) {
        for (table, key, plen, info) in ifaddr_routes(t, dev, (before, ifa)) {
            t.net.fib.remove(table, key, plen, &info);
        }
    }
    let now = t.net.in_dev(dev).map_or(&[][..], |in_dev| &in_dev.ifa_list);
    if now.is_empty() {
        return t.net.fib.flush(|info| info.dev == dev);
    }
    // No route may suggest an address that is nobody's here.
    let left = |addr| {
        let mut all = t.net.in_devs.iter().flatten().flat_map(|in_dev| &in_dev.ifa_list);
        all.any(|ifa| ifa.local == addr)
    };
    let lost: Vec<u32> =
        before.ifa_list.iter().map(|ifa| ifa.local).filter(|addr| !left(*addr)).collect();
    t.net.fib.flush(|info| lost.contains(&info.prefsrc));
}

/// The routes of an address. On a loopback device its whole net is this machine.
///
/// linux: net/ipv4/fib_frontend.c:fib_add_ifaddr
fn ifaddr_routes(
    t: &Tables,
    dev: DevId,
    (in_dev, ifa): (&InDevice, &IfAddr),
) -> Vec<(FibTable, u32, u8, FibInfo)> {
    let prefsrc = in_dev.speaker(ifa);
    let route = |kind, scope| FibInfo { kind, scope, dev, prefsrc, ..FibInfo::default() };
    let mut routes = vec![(FibTable::Local, ifa.local, 32, route(RTN_LOCAL, RT_SCOPE_HOST))];
    let network = ifa.local & mask(ifa.prefixlen);
    // The network's own broadcast address is one whether or not the address says so.
    let last = network | !mask(ifa.prefixlen);
    let whole = !ifa.secondary && !ipv4_is_zeronet(network);
    let of_network = (whole && ifa.prefixlen < 31).then_some(last);
    let told = Some(ifa.broadcast).filter(|told| ![0, u32::MAX].contains(told));
    for addr in of_network.into_iter().chain(told.filter(|told| Some(*told) != of_network)) {
        routes.push((FibTable::Local, addr, 32, route(RTN_BROADCAST, RT_SCOPE_LINK)));
    }
    if whole && ifa.prefixlen < 32 {
        let (table, kind, scope) = if t.net.dev(dev).is_some_and(|dev| dev.is_loopback()) {
            (FibTable::Local, RTN_LOCAL, RT_SCOPE_HOST)
        } else {
            (FibTable::Main, RTN_UNICAST, RT_SCOPE_LINK)
        };
        routes.push((table, network, ifa.prefixlen, route(kind, scope)));
    }
    routes
}

/// A device came up: its addresses' routes stand, and it has an IPv4 side from now on.
///
/// linux: net/ipv4/devinet.c:inetdev_event
pub(crate) fn inetdev_up(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    let id = dev.ifindex;
    if dev.is_loopback() && cx.tables().net.in_dev(id).is_none_or(|own| own.ifa_list.is_empty()) {
        // Without a broadcast address of its own. It can't be there already.
        let local = IfAddr::new(Ipv4Addr::LOCALHOST, 8).map(|ifa| IfAddr { broadcast: 0, ..ifa });
        let _there = local.and_then(|ifa| inet_insert_ifa(cx, dev, ifa));
    }
    let announce: Result<Vec<u32>, Infallible> = update_tables(cx, |t| {
        let Some(slot) = t.net.in_devs.get_mut(usize::from(id.0)) else { return Ok(Vec::new()) };
        let in_dev = Arc::clone(slot.get_or_insert_with(|| inetdev_init(&t.net.sysctl)));
        fib_add_ifaddrs(t, dev);
        let notify = in_dev.ifa_list.iter().filter(|_| in_dev.cnf.arp_notify);
        Ok(notify.map(|ifa| ifa.local).collect())
    });
    let Ok(announce) = announce;
    ip_mc_up(cx, dev);
    for addr in announce {
        cx.local_bh_disable(|bh| crate::net::ipv4::arp::arp_announce(bh, dev, addr));
    }
}

/// A device went down: every route by it goes. Its addresses stay this machine's.
pub(crate) fn inetdev_down(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    let id = dev.ifindex;
    ip_mc_down(cx, dev);
    let done: Result<(), Infallible> = update_tables(cx, |t| {
        t.net.fib.flush(|info| info.dev == id && info.kind != RTN_LOCAL);
        Ok(())
    });
    let Ok(()) = done;
}

#[cfg(test)]
mod tests;
