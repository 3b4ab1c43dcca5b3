//! Settings by name, as `sysctl` reads and writes them.
//!
//! linux: net/core/sysctl_net_core.c, net/ipv4/sysctl_net_ipv4.c, net/ipv4/devinet.c. Key types:
//! `Knob`. Contexts: task. Invariant: a value that is refused changes nothing.

mod tcp;

use super::{KeyPair, Sysctls, update_sysctls};
use crate::kernel::context::TaskCx;
use crate::kernel::machine::Machine;
use crate::net::core::dev::rps::{RPS_FLOWS_MAX, rps_sock_flow_sysctl};
use crate::net::ipv4::devinet::{InDevice, Ipv4DevConf, set_of_dev};
use crate::net::ipv4::tcp_cong::{
    tcp_get_allowed_congestion_control, tcp_get_available_congestion_control,
    tcp_set_allowed_congestion_control, tcp_set_default_congestion_control,
};
use crate::net::net_namespace::NetView;
use crate::net::sched::{QDISCS, qdisc_lookup_ops};
use std::time::Duration;
use tcp::tcp_table;
use uapi::errno::Errno;
use uapi::ip::IPV4_MIN_MTU;

/// A setting's place and kind.
enum Knob<'a> {
    /// A number within bounds.
    U8(&'a mut u8, u8, u8),
    /// The same, with a sign.
    I8(&'a mut i8, i8, i8),
    /// The same, wider.
    U32(&'a mut u32, u32, u32),
    /// 0 or 1.
    Flag(&'a mut bool),
    /// A time in units of so much.
    Time(&'a mut Duration, Duration),
    /// Two ports, the lower first.
    Ports(&'a mut (u16, u16)),
    /// Groups, from one to the other; none, if the first is the greater, which is 1 and 0 then.
    Groups(&'a mut (u32, u32)),
    /// Three numbers, none less than so much. Who writes fewer changes the first ones.
    Three(&'a mut [u32; 3], u32),
    /// A key of four words in hexadecimal, or two.
    Keys(&'a mut Option<KeyPair>),
}

use Knob::{Flag, Groups, I8, Keys, Ports, Three, Time, U8, U32};

const MOST: u32 = i32::MAX as u32;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// What `locktime` counts in.
const USER_HZ: Duration = Duration::from_millis(10);

/// linux: net/core/sysctl_net_core.c:net_core_table
fn net_core_table(s: &mut Sysctls) -> Vec<(&'static str, Knob<'_>)> {
    use crate::net::core::sock::{SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF};
    vec![
        ("net.core.netdev_budget", U32(&mut s.netdev_budget, 1, MOST)),
        ("net.core.netdev_max_backlog", U32(&mut s.netdev_max_backlog, 0, MOST)),
        ("net.core.busy_poll", U32(&mut s.busy_poll, 0, MOST)),
        ("net.core.busy_read", U32(&mut s.busy_read, 0, MOST)),
        ("net.core.optmem_max", U32(&mut s.optmem_max, 0, MOST)),
        ("net.core.rmem_default", U32(&mut s.rmem_default, SOCK_MIN_RCVBUF, MOST)),
        ("net.core.somaxconn", U32(&mut s.somaxconn, 0, MOST)),
        ("net.core.rmem_max", U32(&mut s.rmem_max, SOCK_MIN_RCVBUF, MOST)),
        ("net.core.wmem_default", U32(&mut s.wmem_default, SOCK_MIN_SNDBUF, MOST)),
        ("net.core.wmem_max", U32(&mut s.wmem_max, SOCK_MIN_SNDBUF, MOST)),
    ]
}

/// linux: net/ipv4/sysctl_net_ipv4.c:ipv4_net_table
fn ipv4_net_table(s: &mut Sysctls) -> Vec<(&'static str, Knob<'_>)> {
    let bogus = &mut s.icmp_ignore_bogus_error_responses;
    let n = &mut s.neigh;
    let f = &mut s.ipfrag;
    let g = &mut s.igmp;
    let (low, high) = (f.low_thresh, f.high_thresh);
    vec![
        ("net.ipv4.icmp_echo_ignore_all", Flag(&mut s.icmp_echo_ignore_all)),
        ("net.ipv4.icmp_echo_ignore_broadcasts", Flag(&mut s.icmp_echo_ignore_broadcasts)),
        ("net.ipv4.icmp_ignore_bogus_error_responses", Flag(bogus)),
        ("net.ipv4.icmp_msgs_burst", U32(&mut s.icmp_msgs_burst, 0, MOST)),
        ("net.ipv4.icmp_msgs_per_sec", U32(&mut s.icmp_msgs_per_sec, 0, MOST)),
        ("net.ipv4.icmp_ratelimit", Time(&mut s.icmp_ratelimit, MS)),
        ("net.ipv4.icmp_ratemask", U32(&mut s.icmp_ratemask, 0, MOST)),
        ("net.ipv4.igmp_link_local_mcast_reports", Flag(&mut g.link_local_mcast_reports)),
        ("net.ipv4.igmp_max_memberships", U32(&mut g.max_memberships, 0, MOST)),
        ("net.ipv4.igmp_max_msf", U32(&mut g.max_msf, 0, MOST)),
        ("net.ipv4.igmp_qrv", U8(&mut g.qrv, 1, u8::MAX)),
        ("net.ipv4.ip_default_ttl", U8(&mut s.ip_default_ttl, 1, u8::MAX)),
        ("net.ipv4.ip_forward", Flag(&mut s.ip_forward)),
        ("net.ipv4.ip_forward_use_pmtu", Flag(&mut s.ip_forward_use_pmtu)),
        ("net.ipv4.ip_local_port_range", Ports(&mut s.ip_local_port_range)),
        ("net.ipv4.ip_nonlocal_bind", Flag(&mut s.ip_nonlocal_bind)),
        ("net.ipv4.ip_no_pmtu_disc", U8(&mut s.ip_no_pmtu_disc, 0, u8::MAX)),
        ("net.ipv4.ipfrag_high_thresh", U32(&mut f.high_thresh, low, MOST)),
        ("net.ipv4.ipfrag_low_thresh", U32(&mut f.low_thresh, 0, high)),
        ("net.ipv4.ipfrag_max_dist", U32(&mut f.max_dist, 0, MOST)),
        ("net.ipv4.ipfrag_secret_interval", Time(&mut f.secret_interval, SECOND)),
        ("net.ipv4.ipfrag_time", Time(&mut f.timeout, SECOND)),
        ("net.ipv4.ping_group_range", Groups(&mut s.ping_group_range)),
        ("net.ipv4.neigh.default.base_reachable_time_ms", Time(&mut n.base_reachable_time, MS)),
        ("net.ipv4.neigh.default.delay_first_probe_time", Time(&mut n.delay_probe_time, SECOND)),
        ("net.ipv4.neigh.default.gc_stale_time", Time(&mut n.gc_staletime, SECOND)),
        ("net.ipv4.neigh.default.gc_thresh1", U32(&mut n.gc_thresh1, 0, MOST)),
        ("net.ipv4.neigh.default.gc_thresh2", U32(&mut n.gc_thresh2, 0, MOST)),
        ("net.ipv4.neigh.default.gc_thresh3", U32(&mut n.gc_thresh3, 0, MOST)),
        ("net.ipv4.neigh.default.locktime", Time(&mut n.locktime, USER_HZ)),
        ("net.ipv4.neigh.default.mcast_solicit", U8(&mut n.mcast_probes, 0, u8::MAX)),
        ("net.ipv4.neigh.default.retrans_time_ms", Time(&mut n.retrans_time, MS)),
        ("net.ipv4.neigh.default.ucast_solicit", U8(&mut n.ucast_probes, 0, u8::MAX)),
        ("net.ipv4.neigh.default.unres_qlen_bytes", U32(&mut n.unres_qlen_bytes, 0, MOST)),
        ("net.ipv4.route.min_pmtu", U32(&mut s.min_pmtu, IPV4_MIN_MTU, MOST)),
        ("net.ipv4.route.mtu_expires", Time(&mut s.mtu_expires, SECOND)),
    ]
}

/// linux: net/ipv4/devinet.c:devinet_sysctl
fn devinet_sysctl(c: &mut Ipv4DevConf) -> Vec<(&'static str, Knob<'_>)> {
    vec![
        ("accept_local", Flag(&mut c.accept_local)),
        ("accept_source_route", Flag(&mut c.accept_source_route)),
        ("arp_accept", Flag(&mut c.arp_accept)),
        ("arp_ignore", U8(&mut c.arp_ignore, 0, 8)),
        ("arp_notify", Flag(&mut c.arp_notify)),
        ("force_igmp_version", U8(&mut c.force_igmp_version, 0, 3)),
        ("forwarding", Flag(&mut c.forwarding)),
        (
            "igmpv2_unsolicited_report_interval",
            U32(&mut c.igmpv2_unsolicited_report_interval, 0, MOST),
        ),
        (
            "igmpv3_unsolicited_report_interval",
            U32(&mut c.igmpv3_unsolicited_report_interval, 0, MOST),
        ),
        ("promote_secondaries", Flag(&mut c.promote_secondaries)),
        ("route_localnet", Flag(&mut c.route_localnet)),
        ("rp_filter", U8(&mut c.rp_filter, 0, 2)),
    ]
}

/// What a device's own settings are when `default` has changed: those that it has of its own stay.
///
/// linux: net/ipv4/devinet.c:devinet_copy_dflt_conf
pub(super) fn defaulted(dev: &InDevice, before: &Ipv4DevConf, after: &Ipv4DevConf) -> Ipv4DevConf {
    let (mut own, mut before, mut after) = (dev.own(), *before, *after);
    let changes = devinet_sysctl(&mut before).into_iter().zip(devinet_sysctl(&mut after));
    let mut changed: Vec<(&str, String)> = Vec::new();
    for ((name, before), (_, after)) in changes {
        if before.show() != after.show() && !dev.was_set(name) {
            changed.push((name, after.show()));
        }
    }
    for (name, value) in changed {
        // It was taken for `default` just now.
        let _ = store(devinet_sysctl(&mut own), name, &value);
    }
    own
}

impl Knob<'_> {
    fn show(&self) -> String {
        match self {
            U8(value, ..) => value.to_string(),
            I8(value, ..) => value.to_string(),
            U32(value, ..) => value.to_string(),
            Flag(value) => u8::from(**value).to_string(),
            Time(value, unit) => (value.as_nanos() / unit.as_nanos()).to_string(),
            Ports((low, high)) => format!("{low}\t{high}"),
            Groups((low, high)) => format!("{low}\t{high}"),
            Three([least, first, most], _) => format!("{least}\t{first}\t{most}"),
            Keys(keys) => {
                let key = |[a, b, c, d]: [u32; 4]| format!("{a:08x}-{b:08x}-{c:08x}-{d:08x}");
                match keys.unwrap_or_default() {
                    (primary, None) => key(primary),
                    (primary, Some(backup)) => format!("{},{}", key(primary), key(backup)),
                }
            }
        }
    }

    fn expects(&self) -> String {
        match self {
            U8(_, least, most) => format!("{least} to {most}"),
            I8(_, least, most) => format!("{least} to {most}"),
            U32(_, least, most) => format!("{least} to {most}"),
            Flag(_) => "0 or 1".to_owned(),
            Time(..) => format!("0 to {MOST}"),
            Ports(_) => "two ports, the lower first".to_owned(),
            Groups(_) => "two groups' numbers, 1 0 for none".to_owned(),
            Three(_, least) => format!("up to three numbers, each {least} to {MOST}"),
            Keys(_) => "four words of eight hexadecimal digits, with dashes between, or two such keys with a comma \
                        between"
                .to_owned(),
        }
    }

    fn store(self, text: &str) -> Result<(), Errno> {
        /// Decimal, hexadecimal behind `0x`, octal behind `0`, as in C.
        fn number<T: TryFrom<i64> + PartialOrd>(text: &str, least: T, most: T) -> Option<T> {
            let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
            let value = match (digits, text.strip_prefix('0')) {
                (Some(hex), _) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => {
                    i64::from_str_radix(hex, 16)
                }
                (None, Some(octal)) if octal.starts_with(|c: char| c.is_ascii_digit()) => {
                    i64::from_str_radix(octal, 8)
                }
                _ => text.parse(),
            };
            T::try_from(value.ok()?).ok().filter(|value| (&least..=&most).contains(&value))
        }
        let text = text.trim();
        let stored = match self {
            U8(place, least, most) => number(text, least, most).map(|value| *place = value),
            I8(place, least, most) => number(text, least, most).map(|value| *place = value),
            U32(place, least, most) => number(text, least, most).map(|value| *place = value),
            Flag(place) => number(text, 0u8, 1).map(|value| *place = value == 1),
            Time(place, unit) => number(text, 0, MOST).map(|value| *place = unit * value),
            Ports(place) => {
                let mut ports = text.split_whitespace().map(|port| number(port, 1u16, u16::MAX));
                match (ports.next().flatten(), ports.next().flatten(), ports.next()) {
                    (Some(low), Some(high), None) if low <= high => {
                        *place = (low, high);
                        Some(())
                    }
                    _ => None,
                }
            }
            Groups(place) => {
                let mut ids = text.split_whitespace().map(|id| number(id, 0, u32::MAX - 1));
                match (ids.next().flatten(), ids.next().flatten(), ids.next()) {
                    (Some(low), Some(high), None) => {
                        *place = if low <= high { (low, high) } else { (1, 0) };
                        Some(())
                    }
                    _ => None,
                }
            }
            Three(place, least) => {
                let numbers = text.split_whitespace().map(|word| number(word, least, MOST));
                let numbers: Option<Vec<u32>> = numbers.take(4).collect();
                numbers.filter(|all| (1..=3).contains(&all.len())).map(|all| {
                    place.iter_mut().zip(all).for_each(|(place, value)| *place = value);
                })
            }
            Keys(place) => match text.split_once(',') {
                None => key(text).map(|one| *place = Some((one, None))),
                Some((primary, backup)) => key(primary)
                    .zip(key(backup.trim()))
                    .map(|(primary, backup)| *place = Some((primary, Some(backup)))),
            },
        };
        stored.ok_or(Errno::EINVAL)
    }
}

/// Four words in hexadecimal, with dashes between.
fn key(text: &str) -> Option<[u32; 4]> {
    let word = |word: &str| {
        let digits = word.len() == 8 && word.bytes().all(|c| c.is_ascii_hexdigit());
        digits.then(|| u32::from_str_radix(word, 16).ok()).flatten()
    };
    let words: Option<Vec<u32>> = text.split('-').take(5).map(word).collect();
    words?.try_into().ok()
}

/// A setting that is no number in the snapshot: it makes a table.
const RPS_SOCK_FLOW_ENTRIES: &str = "net.core.rps_sock_flow_entries";

/// One that is a name.
const DEFAULT_QDISC: &str = "net.core.default_qdisc";

/// Those that are about what is registered.
const TCP_CONGESTION_CONTROL: &str = "net.ipv4.tcp_congestion_control";
const TCP_AVAILABLE: &str = "net.ipv4.tcp_available_congestion_control";
const TCP_ALLOWED: &str = "net.ipv4.tcp_allowed_congestion_control";

/// Every setting with its value, by name.
pub fn sysctl_all<'a>(of: impl Into<NetView<'a>>) -> Vec<(String, String)> {
    let of = of.into();
    let t = &of.t;
    let mut sysctls = Sysctls::clone(&t.net.sysctl);
    let show = |(name, knob): (&str, Knob<'_>)| (name.to_owned(), knob.show());
    let mut all: Vec<_> = net_core_table(&mut sysctls).into_iter().map(show).collect();
    all.extend(ipv4_net_table(&mut sysctls).into_iter().map(show));
    all.extend(tcp_table(&mut sysctls.tcp).into_iter().map(show));
    let entries = of.m.net().rps_sock_flow_table.entries();
    all.push((RPS_SOCK_FLOW_ENTRIES.to_owned(), entries.to_string()));
    all.extend([
        (DEFAULT_QDISC.to_owned(), t.net.sysctl.default_qdisc.to_owned()),
        (TCP_CONGESTION_CONTROL.to_owned(), t.net.sysctl.tcp.congestion_control.to_owned()),
        (TCP_AVAILABLE.to_owned(), tcp_get_available_congestion_control(&t.net)),
        (TCP_ALLOWED.to_owned(), tcp_get_allowed_congestion_control(&t.net)),
    ]);
    let devs = t.net.devs.iter().flatten();
    let of_devs = devs.filter_map(|dev| Some((&*dev.name, t.net.in_dev(dev.ifindex)?.own())));
    let for_all = [("all", t.net.sysctl.conf_all), ("default", t.net.sysctl.conf_default)];
    for (whose, mut cnf) in for_all.into_iter().chain(of_devs) {
        let named =
            |(name, knob): (&str, Knob<'_>)| (format!("net.ipv4.conf.{whose}.{name}"), knob.show());
        all.extend(devinet_sysctl(&mut cnf).into_iter().map(named));
    }
    all.sort();
    all
}

/// What a setting can be, in words; `None`: there is none of that name.
pub fn sysctl_expects(m: &Machine, name: &str) -> Option<String> {
    if name == RPS_SOCK_FLOW_ENTRIES {
        return Some(format!("0 to {RPS_FLOWS_MAX}"));
    }
    if name == DEFAULT_QDISC {
        return Some(format!("one of {}", QDISCS.join(" ")));
    }
    if [TCP_CONGESTION_CONTROL, TCP_ALLOWED].contains(&name) {
        let known = tcp_get_available_congestion_control(&m.tables().net);
        let many = if name == TCP_ALLOWED { "any" } else { "one" };
        return Some(format!("{many} of {known}"));
    }
    let (mut sysctls, mut cnf) = (Sysctls::clone(&m.tables().net.sysctl), Ipv4DevConf::default());
    let conf = name.strip_prefix("net.ipv4.conf.").and_then(|conf| conf.rsplit_once('.'));
    let find = |table: Vec<(&'static str, Knob<'_>)>, name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, knob)| knob.expects())
    };
    match conf {
        Some((_, name)) => find(devinet_sysctl(&mut cnf), name),
        None => find(net_core_table(&mut sysctls), name)
            .or_else(|| find(ipv4_net_table(&mut sysctls), name))
            .or_else(|| find(tcp_table(&mut sysctls.tcp), name)),
    }
}

/// Sets a setting; what is sent from now on goes by it.
///
/// # Errors
/// ENOENT: there is no such setting, or no algorithm of that name; EINVAL: the value is none it can
/// have; EACCES: it can only be read; ENODEV.
pub fn sysctl_write(cx: &mut TaskCx, name: &str, value: &str) -> Result<(), Errno> {
    if name == RPS_SOCK_FLOW_ENTRIES {
        let entries = value.trim().parse().map_err(|_| Errno::EINVAL)?;
        return rps_sock_flow_sysctl(cx, entries);
    }
    match name {
        TCP_CONGESTION_CONTROL => return tcp_set_default_congestion_control(cx, value.trim()),
        TCP_ALLOWED => return tcp_set_allowed_congestion_control(cx, value),
        TCP_AVAILABLE => return Err(Errno::EACCES),
        DEFAULT_QDISC => {
            let qdisc = qdisc_lookup_ops(value.trim()).ok_or(Errno::ENOENT)?;
            update_sysctls(cx, |sysctl| sysctl.default_qdisc = qdisc);
            return Ok(());
        }
        _ => {}
    }
    let mut result = Err(Errno::ENOENT);
    if let Some((dev, knob)) = name.strip_prefix("net.ipv4.conf.").and_then(|c| c.rsplit_once('.'))
    {
        match dev {
            "all" => update_sysctls(cx, |s| {
                result = store(devinet_sysctl(&mut s.conf_all), knob, value);
            }),
            "default" => update_sysctls(cx, |s| {
                result = store(devinet_sysctl(&mut s.conf_default), knob, value);
            }),
            dev => {
                let t = cx.tables();
                let id = t.net.dev_by_name(dev).ok_or(Errno::ENOENT)?.ifindex;
                set_of_dev(cx, id, |cnf| {
                    result = store(devinet_sysctl(cnf), knob, value);
                    let known = devinet_sysctl(cnf).into_iter().find(|(name, _)| *name == knob);
                    known.map(|(name, _)| name).filter(|_| result.is_ok())
                })?;
            }
        }
    } else {
        update_sysctls(cx, |s| {
            result = store(net_core_table(s), name, value);
            if result == Err(Errno::ENOENT) {
                result = store(ipv4_net_table(s), name, value);
            }
            if result == Err(Errno::ENOENT) {
                result = store(tcp_table(&mut s.tcp), name, value);
            }
        });
    }
    result
}

fn store(table: Vec<(&'static str, Knob<'_>)>, name: &str, value: &str) -> Result<(), Errno> {
    let found = table.into_iter().find(|(known, _)| *known == name);
    found.map_or(Err(Errno::ENOENT), |(_, knob)| knob.store(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_stored_and_changes_nothing() {
        let (mut s, before) = (Sysctls::default(), Sysctls::default());
        let names: Vec<&str> = net_core_table(&mut s).iter().map(|(name, _)| *name).collect();
        for name in names {
            let shown = net_core_table(&mut s).into_iter().find(|(n, _)| *n == name);
            let text = shown.map(|(_, knob)| knob.show()).unwrap();
            assert_eq!(store(net_core_table(&mut s), name, &text), Ok(()), "{name}");
        }
        let names: Vec<&str> = tcp_table(&mut s.tcp).iter().map(|(name, _)| *name).collect();
        for name in names.into_iter().filter(|name| !name.ends_with("_key")) {
            let shown = tcp_table(&mut s.tcp).into_iter().find(|(n, _)| *n == name);
            let text = shown.map(|(_, knob)| knob.show()).unwrap();
            assert_eq!(store(tcp_table(&mut s.tcp), name, &text), Ok(()), "{name}");
        }
        let names: Vec<&str> = ipv4_net_table(&mut s).iter().map(|(name, _)| *name).collect();
        for name in names {
            let shown = ipv4_net_table(&mut s).into_iter().find(|(n, _)| *n == name);
            let text = shown.map(|(_, knob)| knob.show()).unwrap();
            assert_eq!(store(ipv4_net_table(&mut s), name, &text), Ok(()), "{name}");
        }
        assert_eq!(s, before);
    }

    #[test]
    fn what_a_setting_cannot_be_is_refused_and_changes_nothing() {
        let mut s = Sysctls::default();
        for (name, value) in [
            ("net.ipv4.ip_default_ttl", "0"),
            ("net.ipv4.ip_default_ttl", "256"),
            ("net.ipv4.ip_forward", "2"),
            ("net.ipv4.ip_forward", ""),
            ("net.ipv4.ip_local_port_range", "9 1"),
            ("net.ipv4.ip_local_port_range", "1 2 3"),
            ("net.ipv4.icmp_ratelimit", "-1"),
        ] {
            let refused = store(ipv4_net_table(&mut s), name, value);
            assert_eq!(refused, Err(Errno::EINVAL), "{name}={value}");
        }
        for (name, value) in [
            ("net.ipv4.tcp_syn_retries", "0"),
            ("net.ipv4.tcp_syn_retries", "128"),
            ("net.ipv4.tcp_adv_win_scale", "-32"),
            ("net.ipv4.tcp_min_snd_mss", "47"),
            ("net.ipv4.tcp_reordering", "301"),
            ("net.ipv4.tcp_notsent_lowat", "4294967296"),
            ("net.ipv4.tcp_rmem", ""),
            ("net.ipv4.tcp_rmem", "0"),
            ("net.ipv4.tcp_rmem", "1 2 x"),
            ("net.ipv4.tcp_rmem", "1 2 3 4"),
            ("net.ipv4.tcp_wmem", "4096 2147483648"),
            ("net.ipv4.tcp_fastopen_key", "1-2-3-4"),
            ("net.ipv4.tcp_fastopen_key", "00000001-00000002-00000003"),
            ("net.ipv4.tcp_fastopen_key", "00000001-00000002-00000003-+0000004"),
            ("net.ipv4.tcp_fastopen_key", "00000001-00000002-00000003-00000004,"),
            ("net.ipv4.tcp_fastopen_key", "00000001-00000002-00000003-00000004,1"),
        ] {
            let refused = store(tcp_table(&mut s.tcp), name, value);
            assert_eq!(refused, Err(Errno::EINVAL), "{name}={value}");
        }
        assert_eq!(store(tcp_table(&mut s.tcp), "net.ipv4.tcp_none", "1"), Err(Errno::ENOENT));
        assert_eq!(s, Sysctls::default());
        assert_eq!(store(ipv4_net_table(&mut s), "net.ipv4.ip_default_ttl", " 9\n"), Ok(()));
        assert_eq!(s.ip_default_ttl, 9);
    }

    #[test]
    fn tcps_settings_can_be_written() {
        let mut s = Sysctls::default().tcp;
        for (name, value) in [
            ("net.ipv4.tcp_rmem", "1 20 300"),
            ("net.ipv4.tcp_wmem", "8192\t65536"),
            ("net.ipv4.tcp_adv_win_scale", "-31"),
            ("net.ipv4.tcp_notsent_lowat", "4294967295"),
            ("net.ipv4.tcp_keepalive_intvl", "3"),
            ("net.ipv4.tcp_max_reordering", "1000"),
            ("net.ipv4.tcp_reordering", "900"),
            ("net.ipv4.tcp_fastopen_key", "a1a1a1a1-b2b2b2b2-c3c3c3c3-0000000d"),
        ] {
            assert_eq!(store(tcp_table(&mut s), name, value), Ok(()), "{name}={value}");
        }
        assert_eq!((s.rmem, s.wmem), ([1, 20, 300], [8192, 65_536, 4 << 20]));
        assert_eq!((s.adv_win_scale, s.keepalive_intvl), (-31, 3 * SECOND));
        assert_eq!((s.max_reordering, s.reordering), (1000, 900));
        let key = tcp_table(&mut s).into_iter().find(|(name, _)| name.ends_with("_key"));
        assert_eq!(key.unwrap().1.show(), "a1a1a1a1-b2b2b2b2-c3c3c3c3-0000000d");
        let two = "00000001-00000002-00000003-00000004, 00000005-00000006-00000007-00000008";
        assert_eq!(store(tcp_table(&mut s), "net.ipv4.tcp_fastopen_key", two), Ok(()));
        assert_eq!(s.fastopen_key, Some(([1, 2, 3, 4], Some([5, 6, 7, 8]))));
        let key = tcp_table(&mut s).into_iter().find(|(name, _)| name.ends_with("_key"));
        assert_eq!(key.unwrap().1.show(), two.replace(' ', ""));
    }

    /// What the host's settings are, ours can be; and most are by default. A host's administrator,
    /// its memory and its age decide the rest.
    #[test]
    fn the_hosts_values_can_be_had() {
        let (mut known, mut same) = (0, 0);
        let mut s = Sysctls::default().tcp;
        let names: Vec<&str> = tcp_table(&mut s).iter().map(|(name, _)| *name).collect();
        for name in names {
            let file = name.strip_prefix("net.ipv4.").unwrap();
            let host = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{file}"));
            let Ok(host) = host else { continue };
            let shown = tcp_table(&mut s).into_iter().find(|(n, _)| *n == name).unwrap().1.show();
            assert_eq!(store(tcp_table(&mut s), name, &host), Ok(()), "{file} is {host}");
            known += 1;
            same += usize::from(shown == host.trim());
        }
        assert!(known == 0 || same * 4 > known * 3, "{same} of {known} are the host's");
    }
}
