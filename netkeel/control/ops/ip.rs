//! Devices and their addresses.

use super::super::wire::{AddrInfo, Link, Refusal};
use super::{Done, Target, invalid, parse_prefix, refused};
use crate::dump::Mac;
use serde_json::{Value, json};
use stack::net::core::dev::device::dev_set_mtu;
use stack::net::core::dev::{NetDevice, dev_close, dev_open};
use stack::net::ipv4::devinet::{IfAddr, InDevice, inet_del_ifa, inet_insert_ifa};
use std::net::Ipv4Addr;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::if_::{IFF_BROADCAST, IFF_LOOPBACK, IFF_LOWER_UP, IFF_MULTICAST, IFF_NOARP, IFF_UP};
use uapi::rtnetlink::{RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE};

impl Target<'_> {
    pub(super) fn links(&self, name: Option<&str>, with_addrs: bool) -> Done<Vec<Link>> {
        let t = self.tables();
        let only = name.map(|name| self.dev(name)).transpose()?;
        let all = t.net.devs.iter().flatten();
        let wanted = all.filter(|dev| only.as_ref().is_none_or(|only| Arc::ptr_eq(only, dev)));
        let link = |dev: &Arc<NetDevice>| {
            let mut link = link_of(dev);
            match with_addrs {
                true => link.addr_info = Some(addrs_of(dev, t.net.in_dev(dev.ifindex))),
                false => link.linkmode = Some("DEFAULT".to_owned()),
            }
            link
        };
        Ok(wanted.map(link).collect())
    }

    pub(super) fn addr_add(&self, text: &str, dev: Option<&str>) -> Done {
        let (addr, len) = parse_prefix(text)?;
        let dev = self.dev_or_ours(dev)?;
        let ifa = IfAddr::new(addr, len)
            .map_err(|_| invalid(format!("{addr} can't be a host's address")))?;
        let why = |errno| match errno {
            Errno::EEXIST => Refusal::new(errno, format!("{} has {text} already", dev.name)),
            errno => refused(text)(errno),
        };
        inet_insert_ifa(&mut self.task(), &dev, ifa).map_err(why)?;
        Ok(Value::Null)
    }

    pub(super) fn addr_del(&self, text: &str, dev: Option<&str>) -> Done {
        let (addr, len) = parse_prefix(text)?;
        let dev = self.dev_or_ours(dev)?;
        let missing = || {
            let text = format!("{} has no address {addr}/{len}", dev.name);
            Refusal::new(Errno::EADDRNOTAVAIL, text)
        };
        inet_del_ifa(&mut self.task(), &dev, (addr, len)).map_err(|_| missing())?;
        Ok(Value::Null)
    }

    pub(super) fn link_set(&self, name: &str, up: Option<bool>, mtu: Option<u32>) -> Done {
        let dev = self.dev(name)?;
        let mut cx = self.task();
        if let Some(mtu) = mtu {
            let why = format!("{name} can't have an MTU of {mtu}");
            dev_set_mtu(&mut cx, &dev, mtu).map_err(refused(why))?;
        }
        match up {
            Some(true) => {
                dev_open(&mut cx, &dev).map_err(refused(format!("{name} does not come up")))?;
            }
            Some(false) => dev_close(&mut cx, &dev),
            None => (),
        }
        Ok(json!({ "mtu": dev.mtu(), "up": dev.up() }))
    }
}

/// The flags that are set, in the order of `ip`.
fn flags_of(dev: &NetDevice) -> Vec<String> {
    let flags = dev.flags();
    let carrier = flags & IFF_LOWER_UP != 0;
    let known = [
        (IFF_LOOPBACK, "LOOPBACK"),
        (IFF_BROADCAST, "BROADCAST"),
        (IFF_NOARP, "NOARP"),
        (IFF_MULTICAST, "MULTICAST"),
        (IFF_UP, "UP"),
        (IFF_LOWER_UP, "LOWER_UP"),
    ];
    let set = known.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name);
    let none = (dev.up() && !carrier).then_some("NO-CARRIER");
    none.into_iter().chain(set).map(str::to_owned).collect()
}

fn link_of(dev: &NetDevice) -> Link {
    let operstate = match (dev.is_loopback(), dev.running()) {
        (true, true) => "UNKNOWN",
        (_, true) => "UP",
        (_, false) => "DOWN",
    };
    let broadcast = if dev.is_loopback() { [0; 6] } else { uapi::if_ether::ETH_BROADCAST };
    Link {
        ifindex: dev.ifindex.0,
        ifname: dev.name.clone(),
        flags: flags_of(dev),
        mtu: dev.mtu(),
        qdisc: dev.root_qdisc().id().to_owned(),
        operstate: operstate.to_owned(),
        linkmode: None,
        group: "default".to_owned(),
        txqlen: dev.tx_queue_len,
        link_type: if dev.is_loopback() { "loopback" } else { "ether" }.to_owned(),
        address: Mac(dev.dev_addr()).to_string(),
        broadcast: Mac(broadcast).to_string(),
        addr_info: None,
    }
}

fn addrs_of(dev: &NetDevice, in_dev: Option<&Arc<InDevice>>) -> Vec<AddrInfo> {
    let addrs = in_dev.map_or(&[][..], |in_dev| &in_dev.ifa_list);
    let info = |ifa: &IfAddr| AddrInfo {
        family: "inet".to_owned(),
        local: Ipv4Addr::from(ifa.local).to_string(),
        prefixlen: ifa.prefixlen,
        broadcast: (ifa.broadcast != 0 && !dev.is_loopback())
            .then(|| Ipv4Addr::from(ifa.broadcast).to_string()),
        scope: scope_name(ifa.scope),
        secondary: ifa.secondary,
        label: dev.name.clone(),
        valid_life_time: u32::MAX,
        preferred_life_time: u32::MAX,
    };
    addrs.iter().map(info).collect()
}

/// A scope's name in `ip`.
pub(super) fn scope_name(scope: u8) -> String {
    match scope {
        RT_SCOPE_UNIVERSE => "global".to_owned(),
        RT_SCOPE_LINK => "link".to_owned(),
        RT_SCOPE_HOST => "host".to_owned(),
        other => other.to_string(),
    }
}
