//! The forwarding information base: routes in the local, main and default tables.
//!
//! linux: net/ipv4/fib_trie.c, fib_frontend.c, fib_semantics.c. Key types: [`FibTables`],
//! [`FibInfo`], [`FibResult`]. Contexts: changed by tasks on a copy of the tables (a copy costs
//! O(1)); looked up in BH without a lock.
//! DIVERGES: no policy rules; the three tables are asked in Linux's order.

use crate::kernel::context::TaskCx;
use crate::kernel::rcupdate::update_tables;
use crate::net::core::dev::{DevId, NetTables};
use crate::net::ipv4::devinet::mask;
use crate::net::net_namespace::NetView;
use klib::lc_trie::LcTrie;
use std::fmt;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::rtnetlink::{
    RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, RTN_BLACKHOLE, RTN_BROADCAST, RTN_LOCAL,
    RTN_PROHIBIT, RTN_THROW, RTN_UNICAST, RTN_UNREACHABLE,
};

/// A routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FibTable {
    /// Addresses of this machine, asked first.
    Local,
    /// Routes of links and administrators.
    Main,
    /// Last resort.
    Default,
}

/// A route.
///
/// linux: include/net/ip_fib.h:fib_info
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibInfo {
    /// `RTN_*`.
    pub kind: u8,
    /// `RT_SCOPE_*`: how far the destination is.
    pub scope: u8,
    /// Type of service; zero: any.
    pub tos: u8,
    /// Lower is preferred.
    pub metric: u32,
    /// The next hop; zero: the destination is on the link.
    pub gateway: u32,
    /// The device; 0: none (an unreachable route).
    pub dev: DevId,
    /// The source address it suggests; zero: none.
    pub prefsrc: u32,
    /// The MTU; zero: the device's.
    pub mtu: u32,
}

impl Default for FibInfo {
    fn default() -> Self {
        Self {
            kind: RTN_UNICAST,
            scope: RT_SCOPE_UNIVERSE,
            tos: 0,
            metric: 0,
            gateway: 0,
            dev: DevId(0),
            prefsrc: 0,
            mtu: 0,
        }
    }
}

/// What a lookup found.
///
/// linux: include/net/ip_fib.h:fib_result
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibResult {
    /// Bits of the prefix that matched.
    pub prefixlen: u8,
    /// The table.
    pub table: FibTable,
    /// The route.
    pub info: FibInfo,
}

/// What a route is looked up by.
#[derive(Clone, Copy, Debug, Default)]
pub struct FibLookup {
    /// The destination.
    pub daddr: u32,
    /// It must leave by this device; 0: any.
    pub oif: u16,
    /// Type of service.
    pub tos: u8,
    /// The route must be at least this near: `RT_SCOPE_*`.
    pub scope: u8,
}

type Trie = LcTrie<Arc<FibInfo>>;

/// The tables.
#[derive(Clone, Default)]
pub struct FibTables {
    local: Trie,
    main: Trie,
    default: Trie,
}

impl fmt::Debug for FibTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FibTables({}, {}, {})", self.local.len(), self.main.len(), self.default.len())
    }
}

/// A line of `ip route show table all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibEntry {
    /// The table.
    pub table: FibTable,
    /// The prefix.
    pub prefix: u32,
    /// Its bits.
    pub prefixlen: u8,
    /// The route.
    pub info: FibInfo,
}

impl FibTables {
    fn table(&self, table: FibTable) -> &Trie {
        match table {
            FibTable::Local => &self.local,
            FibTable::Main => &self.main,
            FibTable::Default => &self.default,
        }
    }

    fn table_mut(&mut self, table: FibTable) -> &mut Trie {
        match table {
            FibTable::Local => &mut self.local,
            FibTable::Main => &mut self.main,
            FibTable::Default => &mut self.default,
        }
    }

    /// Adds a route unless the same stands there; routes of a prefix are kept by TOS, then metric.
    ///
    /// linux: net/ipv4/fib_trie.c:fib_table_insert
    pub(crate) fn insert(&mut self, table: FibTable, key: u32, plen: u8, info: FibInfo) -> bool {
        let aliases = self.table_mut(table).entry(key & mask(plen), plen);
        if aliases.iter().any(|there| **there == info) {
            return false;
        }
        let rank = |info: &FibInfo| (std::cmp::Reverse(info.tos), info.metric);
        let at = aliases.partition_point(|there| rank(there) <= rank(&info));
        aliases.insert(at, Arc::new(info));
        true
    }

    /// Takes a route away.
    ///
    /// linux: net/ipv4/fib_trie.c:fib_table_delete
    pub(crate) fn remove(&mut self, table: FibTable, key: u32, plen: u8, info: &FibInfo) -> bool {
        let (table, key) = (self.table_mut(table), key & mask(plen));
        if !table.aliases(key, plen).iter().any(|there| **there == *info) {
            return false;
        }
        table.entry(key, plen).retain(|there| **there != *info);
        table.prune(key, plen);
        true
    }

    /// Takes every route away that is dead.
    ///
    /// linux: net/ipv4/fib_semantics.c:fib_sync_down_dev
    /// linux: net/ipv4/fib_semantics.c:fib_sync_down_addr
    pub(crate) fn flush(&mut self, dead: impl Fn(&FibInfo) -> bool) {
        for table in [FibTable::Local, FibTable::Main, FibTable::Default] {
            let hit: Vec<(u32, u8)> = self
                .table(table)
                .iter()
                .filter(|(_, _, infos)| infos.iter().any(|info| dead(info)))
                .map(|(key, plen, _)| (key, plen))
                .collect();
            for (key, plen) in hit {
                let trie = self.table_mut(table);
                trie.entry(key, plen).retain(|info| !dead(info));
                trie.prune(key, plen);
            }
        }
    }

    /// Every route, by table and prefix.
    pub fn dump(&self) -> Vec<FibEntry> {
        [FibTable::Local, FibTable::Main, FibTable::Default]
            .into_iter()
            .flat_map(|table| {
                self.table(table).iter().flat_map(move |(prefix, prefixlen, infos)| {
                    infos.iter().map(move |info| FibEntry {
                        table,
                        prefix,
                        prefixlen,
                        info: **info,
                    })
                })
            })
            .collect()
    }

    /// `RTN_*` of an address in the local table.
    pub(crate) fn local_type(&self, addr: u32) -> Option<u8> {
        self.local.lookup(addr, |_, info| Some(info.kind))
    }

    /// The device of a local address.
    pub(crate) fn local_dev(&self, addr: u32) -> Option<DevId> {
        self.local.lookup(addr, |_, info| (info.kind == RTN_LOCAL).then_some(info.dev))
    }
}

/// Looks a route up: the longest prefix of the first table that has one which fits.
///
/// # Errors
/// ENETUNREACH without a route; EHOSTUNREACH, EACCES or EINVAL as the route's type says.
///
/// linux: net/ipv4/fib_trie.c:fib_table_lookup
pub fn fib_lookup(net: &NetTables, flow: &FibLookup) -> Result<FibResult, Errno> {
    for table in [FibTable::Local, FibTable::Main, FibTable::Default] {
        let found = net.fib.table(table).lookup(flow.daddr, |prefixlen, info| {
            usable(net, flow, info).then(|| FibResult { prefixlen, table, info: **info })
        });
        let Some(result) = found else { continue };
        match result.info.kind {
            RTN_THROW => continue,
            RTN_UNREACHABLE => return Err(Errno::EHOSTUNREACH),
            RTN_PROHIBIT => return Err(Errno::EACCES),
            RTN_BLACKHOLE => return Err(Errno::EINVAL),
            _ => return Ok(result),
        }
    }
    Err(Errno::ENETUNREACH)
}

fn usable(net: &NetTables, flow: &FibLookup, info: &FibInfo) -> bool {
    let leads_nowhere =
        matches!(info.kind, RTN_THROW | RTN_UNREACHABLE | RTN_PROHIBIT | RTN_BLACKHOLE);
    // What is this machine's stays so when the device is down that has the address.
    let up = || info.kind == RTN_LOCAL || net.dev(info.dev).is_some_and(|dev| dev.up());
    (info.tos == 0 || info.tos == flow.tos)
        && info.scope >= flow.scope
        && (leads_nowhere || ((flow.oif == 0 || flow.oif == info.dev.0) && up()))
}

/// Adds a route by hand, as `ip route add` does.
///
/// # Errors
/// EEXIST if it stands; ENETUNREACH if the gateway is not on a link; EINVAL for a scope that can't
/// be; ENODEV, ENETDOWN for the device.
///
/// linux: net/ipv4/fib_frontend.c:ip_rt_ioctl (RTM_NEWROUTE)
pub fn fib_new_route(
    cx: &mut TaskCx,
    prefix: u32,
    prefixlen: u8,
    mut info: FibInfo,
) -> Result<(), Errno> {
    if prefixlen > 32 || prefix & !mask(prefixlen) != 0 {
        return Err(Errno::EINVAL);
    }
    update_tables(cx, |t| {
        fib_check_nh(&t.net, &mut info)?;
        match t.net.fib.insert(FibTable::Main, prefix, prefixlen, info) {
            true => Ok(()),
            false => Err(Errno::EEXIST),
        }
    })
}

/// A next hop must be on a link, and tells the device.
///
/// linux: net/ipv4/fib_semantics.c:fib_check_nh
fn fib_check_nh(net: &NetTables, info: &mut FibInfo) -> Result<(), Errno> {
    if matches!(info.kind, RTN_UNREACHABLE | RTN_PROHIBIT | RTN_BLACKHOLE | RTN_THROW) {
        return if info.gateway == 0 { Ok(()) } else { Err(Errno::EINVAL) };
    }
    if info.gateway != 0 {
        let hop = FibLookup { daddr: info.gateway, oif: info.dev.0, tos: 0, scope: RT_SCOPE_LINK };
        let found = fib_lookup(net, &hop).map_err(|_| Errno::ENETUNREACH)?;
        if matches!(found.info.kind, RTN_LOCAL | RTN_BROADCAST) {
            return Err(Errno::EINVAL);
        }
        info.dev = found.info.dev;
        info.scope = RT_SCOPE_UNIVERSE;
    } else if info.scope == RT_SCOPE_UNIVERSE {
        info.scope = RT_SCOPE_LINK;
    }
    if info.scope == RT_SCOPE_NOWHERE {
        return Err(Errno::EINVAL);
    }
    let dev = net.dev(info.dev).ok_or(Errno::ENODEV)?;
    if dev.up() { Ok(()) } else { Err(Errno::ENETDOWN) }
}

/// Takes a route away.
///
/// # Errors
/// ESRCH if there is none like it.
pub fn fib_del_route(
    cx: &mut TaskCx,
    prefix: u32,
    prefixlen: u8,
    matches: impl Fn(&FibInfo) -> bool,
) -> Result<(), Errno> {
    update_tables(cx, |t| {
        let infos = t.net.fib.main.aliases(prefix, prefixlen);
        let info =
            infos.iter().find(|info| matches(info)).map(|info| **info).ok_or(Errno::ESRCH)?;
        t.net.fib.remove(FibTable::Main, prefix, prefixlen, &info);
        t.ns.fnhe.flush(info.dev, info.gateway);
        Ok(())
    })
}

/// A route is there (`/proc/net/route`).
const RTF_UP: u32 = 1;
/// Its next hop is a gateway.
const RTF_GATEWAY: u32 = 2;
/// It leads to one host.
const RTF_HOST: u32 = 4;
/// It refuses.
const RTF_REJECT: u32 = 0x200;

/// The text of `/proc/net/route`: the routes of the main table, addresses and masks as the bytes of
/// the network read as a number of the host.
///
/// linux: net/ipv4/fib_trie.c:fib_route_seq_show
pub fn fib_route_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let mut text = format!(
        "{:<127}\n",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
    );
    let t = &of.t;
    let addr = |addr: u32| u32::from_ne_bytes(addr.to_be_bytes());
    for entry in t.net.fib.dump() {
        let (info, kind) = (&entry.info, entry.info.kind);
        if entry.table != FibTable::Main || matches!(kind, RTN_BROADCAST | RTN_LOCAL) {
            continue;
        }
        let rejects = matches!(kind, RTN_UNREACHABLE | RTN_PROHIBIT);
        let flags = RTF_UP
            | if rejects { RTF_REJECT } else { 0 }
            | if info.gateway != 0 { RTF_GATEWAY } else { 0 }
            | if entry.prefixlen == 32 { RTF_HOST } else { 0 };
        let line = format!(
            "{}\t{:08X}\t{:08X}\t{flags:04X}\t0\t0\t{}\t{:08X}\t{}\t0\t0",
            t.net.dev(info.dev).map_or("*", |dev| &dev.name),
            addr(entry.prefix),
            addr(info.gateway),
            info.metric,
            addr(mask(entry.prefixlen)),
            info.mtu
        );
        text += &format!("{line:<127}\n");
    }
    text
}

#[cfg(test)]
mod tests;
