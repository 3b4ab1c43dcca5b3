//! What `/proc/net/snmp`, `/proc/net/netstat` and `/proc/net/sockstat` show.
//!
//! linux: net/ipv4/proc.c. Contexts: task, on no CPU: the counters of each are added up.
//! DIVERGES: no `UdpLite:` line; `OutTransmits` stays at zero, as do the counters of
//! features that are not built. Whoever reads by the header line, as tools do, misses nothing.

use crate::net::core::snmp::{Mib, NetMib};
use crate::net::core::stream::proto_memory_allocated;
use crate::net::net_namespace::NetView;
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use uapi::snmp::{IcmpMib, IpMib, LinuxMib, TcpMib, UdpMib};

/// A line of names and one of values.
fn group(text: &mut String, name: &str, counters: &[(String, i128)]) {
    let (mut names, mut values) = (String::new(), String::new());
    for (counter, value) in counters {
        let _ = write!(names, " {counter}");
        let _ = write!(values, " {value}");
    }
    let _ = writeln!(text, "{name}:{names}\n{name}:{values}");
}

fn read<T: Copy + Into<Mib>>(
    mib: &NetMib,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Vec<(String, i128)> {
    all.iter().map(|item| (name(*item).to_owned(), mib.get(*item).into())).collect()
}

/// The text of `/proc/net/snmp`: the counters of IP, ICMP, TCP and UDP, each a line of names and a line of
/// values.
///
/// linux: net/ipv4/proc.c:snmp_seq_show
pub fn snmp_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let (mib, sysctl) = (of.mib(), of.t.net.sysctl.clone());
    let mut text = String::new();
    let forwarding = if sysctl.ip_forward { 1 } else { 2 };
    let mut ip = vec![
        ("Forwarding".to_owned(), forwarding),
        ("DefaultTTL".to_owned(), i128::from(sysctl.ip_default_ttl)),
    ];
    ip.extend(read(&mib, IpMib::ip(), IpMib::name));
    group(&mut text, "Ip", &ip);
    group(&mut text, "Icmp", &read(&mib, IcmpMib::ALL, IcmpMib::name));
    icmpmsg_put(&mut text, &mib);
    // What RFC 4022 calls other than its list of algorithms; the bounds of the timeout in milliseconds;
    // no bound of connections.
    let constants = [("RtoAlgorithm", 1), ("RtoMin", 200), ("RtoMax", 120_000), ("MaxConn", -1)];
    let mut tcp: Vec<_> = constants.map(|(name, value)| (name.to_owned(), value)).into();
    tcp.extend(read(&mib, TcpMib::ALL, TcpMib::name));
    group(&mut text, "Tcp", &tcp);
    group(&mut text, "Udp", &read(&mib, UdpMib::ALL, UdpMib::name));
    text
}

/// The types of ICMP that came or went, if any did.
///
/// linux: net/ipv4/proc.c:icmpmsg_put
fn icmpmsg_put(text: &mut String, mib: &NetMib) {
    let types = |way: &'static str, counter: fn(u8) -> Mib| {
        let named = move |n| (format!("{way}Type{n}"), mib.get(counter(n)).into());
        (0..=u8::MAX).map(named).filter(|(_, count)| *count != 0)
    };
    let seen: Vec<(String, i128)> =
        types("In", Mib::IcmpMsgIn).chain(types("Out", Mib::IcmpMsgOut)).collect();
    if !seen.is_empty() {
        group(text, "IcmpMsg", &seen);
    }
}

/// The text of `/proc/net/netstat`: the counters beside those of the standards.
///
/// linux: net/ipv4/proc.c:netstat_seq_show
pub fn netstat_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let mib = of.mib();
    let mut text = String::new();
    group(&mut text, "TcpExt", &read(&mib, LinuxMib::ALL, LinuxMib::name));
    group(&mut text, "IpExt", &read(&mib, IpMib::ip_ext(), IpMib::name));
    text
}

/// The text of `/proc/net/sockstat`, but for its first line: who has a socket that is bound to
/// nothing is not known here. Memory is in pages.
///
/// linux: net/ipv4/proc.c:sockstat_seq_show
pub fn sockstat_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let sockets = of.net().udp_table.dump();
    let pages = |bytes: usize| bytes.div_ceil(4096);
    let mem: usize = sockets.iter().map(|sk| pages(sk.state().rmem_alloc)).sum();
    let tcp = &of.net().tcp;
    let told = |count: &AtomicU32| count.load(Ordering::Relaxed);
    format!(
        "TCP: inuse {} orphan {} tw {} alloc {} mem {}\nUDP: inuse {} mem {mem}\n\
         UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse {} memory {}\n",
        tcp.hashinfo.sockets(),
        told(&tcp.memory.orphans),
        told(&tcp.memory.tw_count),
        told(&tcp.memory.sockets),
        proto_memory_allocated(of.m),
        sockets.len(),
        of.net().frags.queues(),
        of.net().frags.frag_mem_limit()
    )
}
