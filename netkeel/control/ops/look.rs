//! Interrupts, statistics, settings.

use super::super::wire::{Irq, Refusal, Setting, Stat, Wanted};
use super::{Done, Target, invalid, value};
use klib::bitmap::CpuMask;
use stack::fs::proc::show_softirqs;
use stack::kernel::irq::{IrqDesc, proc::show_interrupts};
use stack::net::core::net_procfs::{dev_seq_show, softnet_seq_show};
use stack::net::core::sysctl::names::{sysctl_all, sysctl_expects, sysctl_write};
use stack::net::ipv4::arp::arp_seq_show;
use stack::net::ipv4::fib::fib_route_seq_show;
use stack::net::ipv4::igmp::{igmp_mc_seq_show, igmp_mcf_seq_show};
use stack::net::ipv4::ping::ping_v4_seq_show;
use stack::net::ipv4::proc::{netstat_seq_show, snmp_seq_show, sockstat_seq_show};
use stack::net::ipv4::raw::raw_seq_show;
use stack::net::ipv4::tcp::tcp4_seq_show;
use stack::net::ipv4::tcp_fastopen::tcp_metrics_show;
use stack::net::ipv4::udp::udp4_seq_show;
use stack::net::net_namespace::NetView;
use stack::net::netfilter::nf_hooks_seq_show;
use stack::net::packet::af_packet::packet_seq_show;
use std::fmt::Write;
use std::sync::Arc;
use uapi::errno::Errno;

/// The files of statistics, each with what it shows and who writes it.
pub(crate) const FILES: &[(&str, &str, fn(NetView<'_>) -> String)] = &[
    ("interrupts", "/proc/interrupts", |of| show_interrupts(of.m)),
    ("softirqs", "/proc/softirqs", |of| show_softirqs(of.m)),
    ("dev", "/proc/net/dev", |of| dev_seq_show(of)),
    ("snmp", "/proc/net/snmp", |of| snmp_seq_show(of)),
    ("netstat", "/proc/net/netstat", |of| netstat_seq_show(of)),
    ("softnet_stat", "/proc/net/softnet_stat", |of| softnet_seq_show(of.m)),
    ("arp", "/proc/net/arp", |of| arp_seq_show(of)),
    ("route", "/proc/net/route", |of| fib_route_seq_show(of)),
    ("tcp", "/proc/net/tcp", |of| tcp4_seq_show(of)),
    ("udp", "/proc/net/udp", |of| udp4_seq_show(of)),
    ("raw", "/proc/net/raw", |of| raw_seq_show(of)),
    ("icmp", "/proc/net/icmp", |of| ping_v4_seq_show(of)),
    ("packet", "/proc/net/packet", |of| packet_seq_show(of)),
    ("igmp", "/proc/net/igmp", |of| igmp_mc_seq_show(of)),
    ("mcfilter", "/proc/net/mcfilter", |of| igmp_mcf_seq_show(of)),
    ("sockstat", "/proc/net/sockstat", |of| sockstat_seq_show(of)),
    ("tcp_metrics", "what is kept of servers for fast open, as `ip tcp_metrics`", |of| {
        tcp_metrics_show(of)
    }),
    ("hooks", "netfilter's hooks by point and priority, as `nft list hooks`", |of| {
        nf_hooks_seq_show(of)
    }),
    ("drops", "packets dropped, by reason", |of| drops(&of)),
];

/// Packets dropped, by reason: a line each, of those that have a count.
fn drops(of: &NetView<'_>) -> String {
    let mut text = "reason                      count  why\n".to_owned();
    for (reason, count) in of.mib().all_drops() {
        let _ = writeln!(text, "{:24} {count:8}  {}", reason.name(), reason.explain());
    }
    text
}

impl Target<'_> {
    pub(super) fn stat(&self, file: &str) -> Done<Stat> {
        let Some((name, _, text)) = FILES.iter().find(|(name, ..)| *name == file) else {
            let names: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
            let text = format!("no statistics {file:?}: there are {}", names.join(", "));
            return Err(Refusal::new(Errno::ENOENT, text));
        };
        Ok(Stat { file: (*name).to_owned(), text: text(self.view()) })
    }

    pub(super) fn irqs(&self) -> Vec<Irq> {
        self.m().tables().irqs.iter().flatten().map(irq_of).collect()
    }

    pub(super) fn irq_set(&self, irq: u8, affinity: &str) -> Done {
        let t = self.m().tables();
        let Some(desc) = t.irqs.get(usize::from(irq)).and_then(Option::as_ref) else {
            let text = format!("there is no interrupt {irq}: `netkeel irq` lists them");
            return Err(Refusal::new(Errno::ENOENT, text));
        };
        let mask: CpuMask = affinity.parse().map_err(|e| invalid(format!("{e}")))?;
        let cpus = self.m().cpu_ids().count() - 1;
        let why = |e| invalid(format!("interrupt {irq}, {affinity}: {e}: it has CPUs 0 to {cpus}"));
        desc.set_affinity(mask).map_err(why)?;
        value(irq_of(desc))
    }

    pub(super) fn settings(&self, name: Option<&str>) -> Done<Vec<Setting>> {
        let all = sysctl_all(self.view());
        let below = name.map(|name| format!("{name}."));
        let wanted = |known: &str| match (name, &below) {
            (Some(name), Some(below)) => known == name || known.starts_with(below),
            _ => true,
        };
        let found: Vec<Setting> = all
            .into_iter()
            .filter(|(known, _)| wanted(known))
            .map(|(name, value)| Setting { name, value })
            .collect();
        match name {
            Some(name) if found.is_empty() => Err(no_setting(name)),
            _ => Ok(found),
        }
    }

    /// All of them, or none: after one that is refused each setting is what it was, also those that follow others.
    pub(crate) fn load(&self, wanted: &[Wanted]) -> Done<Vec<Setting>> {
        let before = sysctl_all(self.view());
        let mut after: Vec<Setting> = Vec::new();
        for Wanted { name, value, lenient, at } in wanted {
            let refusal = match self.set(name, value) {
                Ok(is) => {
                    after.extend(is);
                    continue;
                }
                Err(_) if *lenient => continue,
                Err(refusal) => refusal,
            };
            self.restore(&before);
            let place = if at.is_empty() { String::new() } else { format!("{at}: ") };
            let text = format!("{place}{}; nothing was changed", refusal.message);
            return Err(Refusal::new(refusal.errno, text));
        }
        Ok(after)
    }

    /// Sets back what differs. Those of all devices come first by their names, then the devices' own; a second round
    /// finds what others had taken along.
    fn restore(&self, before: &[(String, String)]) {
        for _ in 0..2 {
            let now = sysctl_all(self.view());
            let differs = before.iter().filter(|setting| !now.contains(setting));
            for (name, value) in differs {
                // It was so a moment ago.
                let _ = sysctl_write(&mut self.task(), name, value);
            }
        }
    }

    pub(super) fn set(&self, name: &str, text: &str) -> Done<Vec<Setting>> {
        sysctl_write(&mut self.task(), name, text).map_err(|errno| match errno {
            Errno::EACCES => Refusal::new(Errno::EACCES, format!("{name} can only be read")),
            Errno::ENOENT if sysctl_all(self.view()).iter().all(|(known, _)| known != name) => {
                no_setting(name)
            }
            errno => {
                let expected = sysctl_expects(self.m(), name).unwrap_or_default();
                Refusal::new(errno, format!("{name} can't be {text:?}: write {expected}"))
            }
        })?;
        self.settings(Some(name))
    }
}

fn no_setting(name: &str) -> Refusal {
    let text = format!("there is no setting {name:?}: `netkeel sysctl` lists them");
    Refusal::new(Errno::ENOENT, text)
}

fn irq_of(desc: &Arc<IrqDesc>) -> Irq {
    let affinity = desc.affinity();
    Irq {
        irq: desc.irq.0,
        name: desc.name.clone(),
        smp_affinity: affinity.to_string(),
        smp_affinity_list: affinity.to_list(),
        affinity_hint: desc.affinity_hint().map(|hint| hint.to_string()),
        effective: desc.effective_affinity().0,
        counts: desc.counts(),
    }
}
