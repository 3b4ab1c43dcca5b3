//! Routes.

use super::super::wire::{Refusal, Route};
use super::ip::scope_name;
use super::{Done, Target, invalid, parse_ip, parse_prefix, refused};
use serde_json::Value;
use stack::net::core::dev::DevId;
use stack::net::ipv4::devinet::mask;
use stack::net::ipv4::fib::{FibEntry, FibInfo, FibTable, fib_del_route, fib_new_route};
use stack::net::ipv4::route::{Flow4, ip_route_output_flow};
use std::net::Ipv4Addr;
use uapi::errno::Errno;
use uapi::rtnetlink::{
    RT_SCOPE_UNIVERSE, RTN_BLACKHOLE, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_PROHIBIT,
    RTN_THROW, RTN_UNREACHABLE,
};

/// The next hop of a request.
pub(super) struct Hop {
    via: Option<Ipv4Addr>,
    dev: Option<DevId>,
    metric: Option<u32>,
}

impl Target<'_> {
    pub(super) fn hop(
        &self,
        via: Option<&str>,
        dev: Option<&str>,
        metric: Option<u32>,
    ) -> Done<Hop> {
        let via = via.map(parse_ip).transpose()?;
        let dev = dev.map(|name| Ok(self.dev(name)?.ifindex)).transpose()?;
        Ok(Hop { via, dev, metric })
    }

    pub(super) fn routes(&self, table: Option<&str>) -> Done<Vec<Route>> {
        let wanted = match table.unwrap_or("main") {
            "all" => None,
            "main" => Some(FibTable::Main),
            "local" => Some(FibTable::Local),
            "default" => Some(FibTable::Default),
            other => {
                let text = format!("no table {other:?}: there are main, local, default, and all");
                return Err(invalid(text));
            }
        };
        let dump = self.tables().net.fib.dump();
        let shown = dump.iter().filter(|e| wanted.is_none_or(|table| table == e.table));
        Ok(shown.map(|entry| self.route_of(entry, wanted.is_none())).collect())
    }

    fn route_of(&self, entry: &FibEntry, all: bool) -> Route {
        let (t, info) = (self.tables(), &entry.info);
        let dev = t.net.dev(info.dev);
        let by_kernel = info.prefsrc != 0;
        let table = match entry.table {
            FibTable::Main => None,
            FibTable::Local => Some("local"),
            FibTable::Default => Some("default"),
        };
        let down = dev.is_some_and(|dev| dev.up() && !dev.carrier());
        Route {
            kind: kind_name(info.kind).map(str::to_owned),
            dst: destination(entry.prefix, entry.prefixlen),
            gateway: address(info.gateway),
            dev: dev.map(|dev| dev.name.clone()),
            table: table.filter(|_| all).map(str::to_owned),
            protocol: by_kernel.then(|| "kernel".to_owned()),
            scope: (info.scope != RT_SCOPE_UNIVERSE).then(|| scope_name(info.scope)),
            prefsrc: address(info.prefsrc),
            metric: Some(info.metric).filter(|metric| *metric != 0),
            flags: down.then(|| "linkdown".to_owned()).into_iter().collect(),
            cache: None,
        }
    }

    pub(super) fn route_add(&self, dst: &str, hop: &Hop) -> Done {
        let (prefix, len) = parse_destination(dst)?;
        if hop.via.is_none() && hop.dev.is_none() {
            let text = format!("route to {dst}: name the way, as `via 192.0.2.1` or `dev nk0`");
            return Err(invalid(text));
        }
        let info = FibInfo {
            gateway: hop.via.map_or(0, u32::from),
            dev: hop.dev.unwrap_or(DevId(0)),
            metric: hop.metric.unwrap_or(0),
            ..FibInfo::default()
        };
        let why = |errno| match errno {
            Errno::EEXIST => Refusal::new(errno, format!("the route to {dst} is there already")),
            Errno::ENETUNREACH => {
                Refusal::new(errno, format!("route to {dst}: the gateway is on no link of ours"))
            }
            errno => refused(format!("route to {dst}"))(errno),
        };
        fib_new_route(&mut self.task(), prefix, len, info).map_err(why)?;
        Ok(Value::Null)
    }

    pub(super) fn route_del(&self, dst: &str, hop: &Hop) -> Done {
        let (prefix, len) = parse_destination(dst)?;
        let fits = |info: &FibInfo| {
            hop.via.is_none_or(|via| u32::from(via) == info.gateway)
                && hop.dev.is_none_or(|dev| dev == info.dev)
                && hop.metric.is_none_or(|metric| metric == info.metric)
        };
        let why = |errno| Refusal::new(errno, format!("there is no such route to {dst}"));
        fib_del_route(&mut self.task(), prefix, len, fits).map_err(why)?;
        Ok(Value::Null)
    }

    pub(super) fn route_get(&self, dst: &str) -> Done<Route> {
        let daddr = u32::from(parse_ip(dst)?);
        let flow = Flow4 { daddr, ..Flow4::default() };
        let found = self.task().local_bh_disable(|bh| ip_route_output_flow(bh, &flow));
        let way = found.map_err(refused(format!("no way to {dst}")))?;
        let t = self.tables();
        let cache = match way.rt_type {
            RTN_LOCAL => vec!["local"],
            RTN_BROADCAST => vec!["local", "brd"],
            RTN_MULTICAST => vec!["mc"],
            _ => vec![],
        };
        Ok(Route {
            kind: kind_name(way.rt_type).map(str::to_owned),
            dst: Ipv4Addr::from(daddr).to_string(),
            gateway: address(way.gateway),
            dev: t.net.dev(way.dev).map(|dev| dev.name.clone()),
            prefsrc: address(way.saddr),
            cache: Some(cache.into_iter().map(str::to_owned).collect()),
            ..Route::default()
        })
    }
}

fn address(addr: u32) -> Option<String> {
    (addr != 0).then(|| Ipv4Addr::from(addr).to_string())
}

fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        RTN_LOCAL => "local",
        RTN_BROADCAST => "broadcast",
        RTN_MULTICAST => "multicast",
        RTN_BLACKHOLE => "blackhole",
        RTN_UNREACHABLE => "unreachable",
        RTN_PROHIBIT => "prohibit",
        RTN_THROW => "throw",
        _ => return None,
    })
}

fn destination(prefix: u32, len: u8) -> String {
    match len {
        0 => "default".to_owned(),
        32 => Ipv4Addr::from(prefix).to_string(),
        len => format!("{}/{len}", Ipv4Addr::from(prefix)),
    }
}

/// A prefix that a route can lead to.
pub(crate) fn parse_destination(text: &str) -> Done<(u32, u8)> {
    if text == "default" {
        return Ok((0, 0));
    }
    let (addr, len) = parse_prefix(text)?;
    let addr = u32::from(addr);
    if addr & !mask(len) != 0 {
        let network = Ipv4Addr::from(addr & mask(len));
        return Err(invalid(format!("{text} has bits behind its prefix: write {network}/{len}")));
    }
    Ok((addr, len))
}
