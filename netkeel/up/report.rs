//! What `netkeel up` says: how to join it, changes of the link, the counters at its end.

use super::plan::Plan;
use crate::control::server::Counts;
use crate::dump::Mac;
use host::TapLink;
use stack::kernel::machine::Machine;
use stack::net::core::dev::NetDevice;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;

/// Who we are, and what the host has to do.
pub(super) fn greeting(
    out: &mut dyn Write,
    plan: &Plan,
    dev: &NetDevice,
    up: bool,
    control: Result<&Path, &str>,
) -> io::Result<()> {
    let (name, prefix) = (&dev.name, plan.addr.prefixlen);
    let (addr, host) = (Ipv4Addr::from(plan.addr.local), plan.host());
    let link = if up { "up" } else { "down" };
    writeln!(
        out,
        "{name}: address {addr}/{prefix}, MAC {}, MTU {}, link {link}",
        Mac(dev.dev_addr()),
        dev.mtu()
    )?;
    writeln!(out, "to join it, run on the host:")?;
    writeln!(out, "  sudo ip link set {name} up")?;
    writeln!(out, "  sudo ip addr add {host}/{prefix} dev {name}")?;
    if plan.cpus > 1 || plan.queues > 1 {
        let (cpus, queues) = (plan.cpus, plan.queues);
        let (many, more) = (|n| if n == 1 { "" } else { "s" }, queues > 1);
        let how = if more { "; the TAP must be multi_queue whenever it is made anew" } else { "" };
        writeln!(out, "{cpus} CPU{}, {queues} queue{}{how}", many(cpus), many(queues))?;
    }
    if plan.echo {
        writeln!(out, "services on UDP and TCP: echo 7, discard 9, chargen 19")?;
    }
    match control {
        Ok(path) => writeln!(out, "control socket {}: see `netkeel addr --help`", path.display())?,
        Err(why) => writeln!(out, "no control socket: {why}")?,
    }
    writeln!(out, "Ctrl-C stops and prints the counters")?;
    out.flush()
}

/// The host side went up or down.
pub(super) fn link(out: &mut dyn Write, name: &str, link: TapLink) -> io::Result<()> {
    let text = match link {
        TapLink::Up => "link up",
        TapLink::Down => "link down: no carrier",
        TapLink::Gone => "deleted",
    };
    writeln!(out, "{name}: {text}")?;
    out.flush()
}

/// What the capture holds, and what it had no room for.
pub(super) fn capture(
    out: &mut dyn Write,
    file: &str,
    frames: u64,
    dropped: u64,
) -> io::Result<()> {
    writeln!(out, "capture: {frames} frames in {file}, {dropped} dropped")
}

/// Clients of the control socket that did not get what they wanted.
pub(super) fn control(out: &mut dyn Write, counts: Counts) -> io::Result<()> {
    let Counts { cut_off, refused } = counts;
    if counts == Counts::default() {
        return Ok(());
    }
    writeln!(out, "control socket: {cut_off} cut off for not reading, {refused} turned away")
}

/// Every counter that is not zero, under Linux's name; packets that did not end, as the slab they
/// lie in would tell.
pub(super) fn counters(out: &mut dyn Write, m: &Machine, dev: &NetDevice) -> io::Result<()> {
    let stats = dev.ops.ndo_get_stats64();
    writeln!(
        out,
        "{}: rx_packets {} rx_bytes {} rx_errors {} rx_dropped {}, \
         tx_packets {} tx_bytes {} tx_errors {} tx_dropped {}",
        dev.name,
        stats.rx_packets,
        stats.rx_bytes,
        stats.rx_errors,
        stats.rx_dropped,
        stats.tx_packets,
        stats.tx_bytes,
        stats.tx_errors,
        stats.tx_dropped
    )?;
    let mib = m.mib();
    let mut last = "";
    for (group, name, value) in mib.nonzero() {
        if group != last {
            writeln!(out, "{group}:")?;
            last = group;
        }
        writeln!(out, "  {name} {value}")?;
    }
    let drops: Vec<_> = mib.all_drops().collect();
    if !drops.is_empty() {
        writeln!(out, "drops:")?;
    }
    for (reason, count) in drops {
        writeln!(out, "  {reason} {count}  ({})", reason.explain())?;
    }
    let left = m.live_skbs();
    if left != 0 {
        writeln!(out, "skbuff_head_cache {left}")?;
    }
    out.flush()
}
