//! Multicast: the groups that devices and sockets belong to, and IGMP, by which routers hear of them.
//!
//! linux: net/ipv4/igmp.c; RFC 1112, RFC 2236, RFC 3376. Key type: [`IgmpTable`]. Parts: `group` (a group's filters),
//! `device` (a device's groups and timers), `report` (messages of version 3), `rx` (messages that come), `send`,
//! `sock` (what sockets join), `sockopt` (the options), `proc`.
//! Contexts: groups are joined and left by tasks, under `class::Rtnl`; looked up, reported and timed in BH. Locks:
//! `class::Igmp`, for one event; nothing is sent and no device touched under it.
//! DIVERGES: one timer for all devices, not one for each group: a timer that was armed stays in the wheel until it is
//! due, and finds out what is. Groups that were left are bounded (1024 of a device are told of), in Linux they are not.

mod device;
mod group;
mod proc;
mod report;
mod rx;
mod send;
mod sock;
mod sockopt;

pub use proc::{igmp_mc_seq_show, igmp_mcf_seq_show};
pub(crate) use rx::{igmp_err, igmp_rcv};
pub(crate) use sock::{IpMcSock, ip_mc_drop_socket, ip_mc_sf_allow};
pub(crate) use sockopt::{ip_mc_getsockopt, ip_mc_setsockopt};

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerTarget;
use crate::net::core::dev::{DevId, NetDevice};
use crate::net::core::dev_addr_lists::{dev_mc_add, dev_mc_del};
use device::{Effects, FilterOp, IgmpCx, IgmpParms, McDev};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use uapi::if_ether::ETH_ALEN;
use uapi::ip::IPPROTO_IGMP;

/// The groups of a namespace's devices.
#[derive(Default)]
pub struct IgmpTable {
    inner: SpinLock<Inner, class::Igmp>,
}

#[derive(Default)]
struct Inner {
    devs: BTreeMap<u16, McDev>,
    /// The earliest timer that was armed and has not gone off.
    armed: Option<Ktime>,
}

impl fmt::Debug for IgmpTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IgmpTable({} devices)", self.inner.lock().devs.len())
    }
}

impl Inner {
    /// When a timer is to be armed for, if none is armed early enough.
    fn arm_for(&mut self) -> Option<Ktime> {
        let next = self.devs.values().filter_map(McDev::next_timer).min()?;
        if self.armed.is_some_and(|armed| armed <= next) {
            return None;
        }
        self.armed = Some(next);
        Some(next)
    }
}

/// What settings say of a device; `None`: it is gone.
fn parms(cx: &BhCx<'_>, dev: DevId) -> Option<IgmpParms> {
    let net = &cx.t.net;
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let cnf = net.in_dev(dev).map(|in_dev| in_dev.cnf).unwrap_or_default();
    Some(IgmpParms {
        qrv: net.sysctl.igmp.qrv,
        llm_reports: net.sysctl.igmp.link_local_mcast_reports,
        force_version: cnf.force_igmp_version,
        v2_interval: ms(cnf.igmpv2_unsolicited_report_interval),
        v3_interval: ms(cnf.igmpv3_unsolicited_report_interval),
        mtu: net.dev(dev)?.mtu(),
    })
}

/// Something happens to a device's groups: what is to be sent of it is, and the timer armed. `None`: the device is
/// gone. What its filters are to be told is left to a task.
fn with_dev<R>(
    cx: &mut BhCx<'_>,
    dev: DevId,
    event: impl FnOnce(&mut McDev, &mut IgmpCx<'_>) -> R,
) -> Option<(R, Vec<FilterOp>)> {
    let table = &cx.t.ns.igmp;
    let (parms, now) = (parms(cx, dev)?, cx.now());
    let mut inner = table.inner.lock();
    let mut igmp = IgmpCx { now, parms, rng: &mut cx.cpu.rng, out: Effects::default() };
    let result = event(inner.devs.entry(dev.0).or_default(), &mut igmp);
    let Effects { send, filter } = igmp.out;
    let arm = inner.arm_for();
    drop(inner);
    if let Some(at) = arm {
        cx.add_timer(at, Arc::clone(table) as Arc<dyn TimerTarget>, 0);
    }
    send.iter().for_each(|message| send::send(cx, dev, message));
    Some((result, filter))
}

impl TimerTarget for IgmpTable {
    /// Sends the reports that are due.
    ///
    /// linux: net/ipv4/igmp.c:igmp_timer_expire, igmp_gq_timer_expire, igmp_ifc_timer_expire
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, _: u64) {
        walk!(cx, igmp_timer_expire);
        let now = cx.now();
        let due: Vec<u16> = {
            let mut inner = self.inner.lock();
            if inner.armed.is_some_and(|armed| armed <= now) {
                inner.armed = None;
            }
            let due = |dev: &McDev| dev.next_timer().is_some_and(|at| at <= now);
            inner.devs.iter().filter(|(_, dev)| due(dev)).map(|(id, _)| *id).collect()
        };
        for dev in due {
            // A device that is gone has no timers by now.
            let _gone = with_dev(cx, DevId(dev), McDev::run_timers);
        }
        let arm = self.inner.lock().arm_for();
        if let Some(at) = arm {
            cx.add_timer(at, self, 0);
        }
    }
}

/// A task changes a device's groups: the device's filters follow, and no route from before is used.
fn change<R>(
    cx: &mut TaskCx,
    dev: &Arc<NetDevice>,
    event: impl FnOnce(&mut McDev, &mut IgmpCx<'_>) -> R,
) -> Option<R> {
    let (result, filter) = cx.local_bh_disable(|bh| {
        let done = with_dev(bh, dev.ifindex, event);
        bh.t.ns.fnhe.rt_cache_flush();
        done
    })?;
    for op in filter {
        match op {
            FilterOp::Add(group) => dev_mc_add(cx, dev, ip_eth_mc_map(group)),
            // Its list may have gone with the device.
            FilterOp::Del(group) => drop(dev_mc_del(cx, dev, ip_eth_mc_map(group))),
        }
    }
    Some(result)
}

/// The address on an Ethernet that a group's packets are sent to: 23 bits of it are the group's (RFC 1112
/// section 6.4).
///
/// linux: include/net/ip.h:ip_eth_mc_map
pub(crate) fn ip_eth_mc_map(group: u32) -> [u8; ETH_ALEN] {
    let [_, b, c, d] = group.to_be_bytes();
    [0x01, 0x00, 0x5e, b & 0x7f, c, d]
}

/// The device belongs to the group, and takes packets for it from `saddr` (zero: from somebody); messages of IGMP it
/// takes from anybody.
///
/// linux: net/ipv4/igmp.c:ip_check_mc_rcu
pub(crate) fn ip_check_mc_rcu(
    cx: &BhCx<'_>,
    dev: DevId,
    (group, saddr): (u32, u32),
    protocol: u8,
) -> bool {
    let inner = cx.t.ns.igmp.inner.lock();
    let im = inner.devs.get(&dev.0).and_then(|dev| dev.get(group));
    im.is_some_and(|im| protocol == IPPROTO_IGMP || im.lets_in(saddr))
}

/// The device comes up: it belongs to the group of all hosts, and tells of those that sockets have joined.
///
/// linux: net/ipv4/igmp.c:ip_mc_up
pub(crate) fn ip_mc_up(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    change(cx, dev, |mc, igmp| {
        if !mc.up {
            mc.ip_mc_up(igmp);
        }
    });
}

/// It goes down.
///
/// linux: net/ipv4/igmp.c:ip_mc_down
pub(crate) fn ip_mc_down(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    change(cx, dev, |mc, igmp| {
        if mc.up {
            mc.ip_mc_down(igmp);
        }
    });
}

/// It is gone: sockets keep what they have joined there, and leave nothing.
///
/// linux: net/ipv4/igmp.c:ip_mc_destroy_dev
pub(crate) fn ip_mc_destroy_dev(cx: &TaskCx, dev: DevId) {
    cx.net().igmp.inner.lock().devs.remove(&dev.0);
}

#[cfg(test)]
mod tests;
