//! What `/proc/net/igmp` and `/proc/net/mcfilter` show. Context: task, on no CPU.
//!
//! linux: net/ipv4/igmp.c.

use super::device::McDev;
use crate::kernel::time::Ktime;
use crate::net::core::dev::DevId;
use crate::net::net_namespace::NetView;
use std::fmt::Write;

/// What times are counted in here.
const USER_HZ: u128 = 100;

/// The text of `/proc/net/igmp`: each device's groups, the one joined last first.
///
/// linux: net/ipv4/igmp.c:igmp_mc_seq_show
pub fn igmp_mc_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let (t, now) = (&of.t, of.m.ktime_get());
    let mut text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n".to_owned();
    let inner = of.net().igmp.inner.lock();
    for (id, mc) in inner.devs.iter().filter(|(_, mc)| mc.len() != 0) {
        let Some(dev) = t.net.dev(DevId(*id)) else { continue };
        let forced = t.net.in_dev(DevId(*id)).map_or(0, |in_dev| in_dev.cnf.force_igmp_version);
        let _ = writeln!(
            text,
            "{id}\t{:<10}: {:5} {:>7}",
            dev.name,
            mc.len(),
            querier(mc, forced, now)
        );
        for im in mc.iter() {
            let ticks = im.timer.map_or(0, |at| at.since(now).as_millis() * USER_HZ / 1000);
            let _ = writeln!(
                text,
                "\t\t\t\t{:08X} {:5} {}:{ticks:08X}\t\t{}",
                u32::from_ne_bytes(im.multiaddr.to_be_bytes()),
                im.users,
                u8::from(im.timer.is_some()),
                u8::from(im.reporter)
            );
        }
    }
    text
}

fn querier(mc: &McDev, forced: u8, now: Ktime) -> &'static str {
    match forced {
        1 => "V1",
        _ if now < mc.v1_seen => "V1",
        2 => "V2",
        _ if now < mc.v2_seen => "V2",
        _ => "V3",
    }
}

/// The text of `/proc/net/mcfilter`: the sources that filters name, each with how many include and exclude it.
///
/// linux: net/ipv4/igmp.c:igmp_mcf_seq_show
pub fn igmp_mcf_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let t = &of.t;
    let mut text = "Idx Device        MCA        SRC    INC    EXC\n".to_owned();
    let inner = of.net().igmp.inner.lock();
    for (id, mc) in &inner.devs {
        let Some(dev) = t.net.dev(DevId(*id)) else { continue };
        for im in mc.iter() {
            for (source, include, exclude) in im.mcfilter() {
                let _ = writeln!(
                    text,
                    "{id:3} {:>6.6} 0x{:08x} 0x{source:08x} {include:6} {exclude:6}",
                    dev.name, im.multiaddr
                );
            }
        }
    }
    text
}
