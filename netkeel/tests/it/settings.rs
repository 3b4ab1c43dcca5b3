//! Streams to the host's kernel and back in 48 settings of both, each of which must be seen to hold.
//!
//! `NETKEEL_SETTINGS_BYTES` says how much goes each way in each of them, with `M` or `G` behind it.

use crate::bulk::{
    connect, host_receives, host_sends, octets_of, stack_receives, stack_sends, with_stack_of,
};
use crate::up::{HOST, tool};
use host::tap::TapOptions;
use host::testing::{Need, need};
use stack::kernel::context::{BhCx, TaskCx};
use stack::net::core::dev::{
    NetDevice, NetdevFeatures, PacketFunc, PacketTap, PacketType, dev_add_pack,
    ethtool_set_features,
};
use stack::net::core::skbuff::{IpSummed, PktType, Skb, consume_skb};
use stack::net::core::sysctl::update_sysctls;
use stack::net::socket::sys_getsockopt;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;
use uapi::if_ether::{ETH_HLEN, ETH_P_ALL};
use uapi::if_tun::{TUN_F_CSUM, TUN_F_TSO4};
use uapi::ip::IPPROTO_TCP;
use uapi::snmp::{IpMib, LinuxMib, TcpMib};
use uapi::socket::SOL_TCP;
use uapi::tcp::{TCP_INFO, TCPI_OPT_ECN, TCPI_OPT_SACK, TCPI_OPT_TIMESTAMPS};

const MTUS: [u32; 3] = [576, 1500, 9000];

/// What differs from one setting to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    /// Several segments go down whole, here and at the host: not without `sums`, which takes it along.
    tso: bool,
    /// Segments are merged here. The host's TAP merges none.
    gro: bool,
    /// Checksums are left to the other side.
    sums: bool,
    ecn: bool,
    timestamps: bool,
    sack: bool,
    mtu: u32,
}

impl Setting {
    /// Its switches, and the place of its MTU.
    fn values(&self) -> [usize; 7] {
        let switches = [self.tso, self.gro, self.sums, self.ecn, self.timestamps, self.sack];
        let mtu = MTUS.iter().position(|mtu| *mtu == self.mtu).unwrap();
        let mut values = [mtu; 7];
        values.iter_mut().zip(switches).for_each(|(value, switch)| *value = usize::from(switch));
        values
    }

    /// Segments pass the TAP whole.
    fn whole(&self) -> bool {
        self.tso && self.sums
    }
}

/// Sixteen of the 64 ways of six switches for each MTU: the last two follow from the others, so that any three
/// switches have all their values together.
fn settings() -> Vec<Setting> {
    let of = |(at, mtu): (usize, u32)| {
        (0..16u32).map(move |bits| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|bit| bits >> bit & 1 == 1);
            let (e, f) = (a ^ b ^ c ^ (at == 1), b ^ c ^ d ^ (at == 2));
            Setting { tso: a, gro: b, sums: e, ecn: c, timestamps: d, sack: f, mtu }
        })
    };
    MTUS.into_iter().enumerate().flat_map(of).collect()
}

#[test]
fn each_two_values_meet_in_some_setting() {
    let all = settings();
    assert_eq!(all.len(), 48);
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one), "{one:?} is there twice");
    }
    for first in 0..7 {
        for second in first + 1..7 {
            for (a, b) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
                let possible = (a < 2 || first == 6) && (b < 2 || second == 6);
                let met = all.iter().map(Setting::values).any(|v| (v[first], v[second]) == (a, b));
                assert_eq!(met, possible, "{first} is {a} and {second} is {b}");
            }
        }
    }
}

/// What a tap on the machine sees of TCP's packets.
#[derive(Default)]
struct Seen {
    /// The longest that went, link header included.
    longest_sent: AtomicU64,
    sent_unsummed: AtomicU64,
    /// Of those that were not merged here.
    came_unsummed: AtomicU64,
}

impl PacketTap for Seen {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, _: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        let ip = skb.network_bytes();
        if ip.get(9) == Some(&IPPROTO_TCP) {
            let unsummed = u64::from(skb.ip_summed == IpSummed::Partial);
            if skb.pkt_type == PktType::Outgoing {
                self.longest_sent.fetch_max(skb.len() as u64, Ordering::Relaxed);
                self.sent_unsummed.fetch_add(unsummed, Ordering::Relaxed);
            } else if skb.gso.size == 0 {
                self.came_unsummed.fetch_add(unsummed, Ordering::Relaxed);
            }
        }
        consume_skb(cx, skb);
    }
}

/// Sets the host's side. Its settings are those of the namespace of this thread.
fn set_host(setting: &Setting) {
    for (name, on) in [
        ("tcp_ecn", setting.ecn),
        ("tcp_timestamps", setting.timestamps),
        ("tcp_sack", setting.sack),
    ] {
        let file = format!("/proc/sys/net/ipv4/{name}");
        std::fs::write(file, if on { "1" } else { "0" }).unwrap();
    }
}

/// Sets ours, and watches.
fn set_ours(cx: &mut TaskCx, dev: &NetDevice, setting: &Setting) -> Arc<Seen> {
    update_sysctls(cx, |sysctl| {
        sysctl.tcp.ecn = u8::from(setting.ecn);
        sysctl.tcp.timestamps = u8::from(setting.timestamps);
        sysctl.tcp.sack = setting.sack;
    });
    let switches = [
        (setting.whole(), NetdevFeatures::TSO),
        (setting.gro, NetdevFeatures::GRO),
        (setting.sums, NetdevFeatures::HW_CSUM),
    ];
    for (on, feature) in switches {
        let none = NetdevFeatures::empty();
        let (on, off) = if on { (feature, none) } else { (none, feature) };
        ethtool_set_features(cx, dev, on, off).unwrap();
    }
    let active = dev.features();
    assert_eq!(active.contains(NetdevFeatures::TSO), setting.whole());
    assert_eq!(active.contains(NetdevFeatures::GRO), setting.gro);
    assert_eq!(active.contains(NetdevFeatures::HW_CSUM), setting.sums);
    let seen = Arc::<Seen>::default();
    let func = PacketFunc::Tap(Arc::clone(&seen) as Arc<dyn PacketTap>);
    dev_add_pack(cx, PacketType { kind: ETH_P_ALL, dev: Some(dev.ifindex), func });
    seen
}

/// Octets of data in a full segment.
fn mss(setting: &Setting) -> u32 {
    setting.mtu - 40 - if setting.timestamps { 12 } else { 0 }
}

/// What the stack says of the connection (`tcpi_options`, `tcpi_snd_mss`) is what was set.
fn check_options(setting: &Setting, info: &[u8]) {
    for (on, bit) in [
        (setting.ecn, TCPI_OPT_ECN),
        (setting.timestamps, TCPI_OPT_TIMESTAMPS),
        (setting.sack, TCPI_OPT_SACK),
    ] {
        assert_eq!(info[5] & bit != 0, on, "option {bit}");
    }
    let told = u32::from_ne_bytes(info[16..20].try_into().unwrap());
    assert_eq!(told, mss(setting), "the size of segments");
}

/// What the host says of it, too.
fn check_host_options(setting: &Setting) {
    let told = tool(&["ss", "-tinoH", "sport", "=", ":5001"]);
    let has = |word: &str| told.split_whitespace().any(|told| told == word);
    let mss = format!("mss:{}", mss(setting));
    let expected =
        [("ecn", setting.ecn), ("ts", setting.timestamps), ("sack", setting.sack), (&mss, true)];
    for (word, on) in expected {
        assert_eq!(has(word), on, "{word}: {told}");
    }
}

/// Frames and octets that the device has received and sent, and packets that IP has received.
fn counts(cx: &mut TaskCx, dev: &NetDevice) -> [u64; 5] {
    let stats = dev.ops.ndo_get_stats64();
    let received = cx.machine().mib().get(IpMib::InReceives);
    [stats.rx_packets, stats.rx_bytes, stats.tx_packets, stats.tx_bytes, received]
}

fn run(cx: &mut TaskCx, dev: &NetDevice, setting: &Setting, len: u64) {
    set_host(setting);
    let seen = set_ours(cx, dev, setting);
    let listener = TcpListener::bind((HOST, 5001)).unwrap();
    let fd = connect(cx, 5001);
    let mut stream = listener.accept().unwrap().0;
    check_options(setting, &sys_getsockopt(cx, fd, SOL_TCP, TCP_INFO).unwrap());
    check_host_options(setting);
    let host = thread::spawn(move || {
        let got = host_receives(&mut stream);
        (got, host_sends(&mut stream, len))
    });
    let begin = counts(cx, dev);
    let sent = stack_sends(cx, fd, len);
    // The host's thread sends when it has all.
    let got = stack_receives(cx, fd);
    let (host_got, host_sent) = host.join().unwrap();
    assert!(host_got == sent && got == host_sent, "the hashes are the same at both ends");
    assert_eq!((sent.0, got.0), (len, len));
    cx.flush();
    let end = counts(cx, dev);
    let mib = cx.machine().mib();
    let (again, timeouts) = (mib.get(TcpMib::RetransSegs), mib.get(LinuxMib::TCPTimeouts));
    println!("{again} segments sent again here, {timeouts} time-outs");
    let [frames, octets, _, _, received] = std::array::from_fn(|at| end[at] - begin[at]);
    check_seen(setting, &seen);
    // Among them are the acknowledgements of what we sent.
    let link = u64::from(setting.mtu) + ETH_HLEN as u64;
    assert_eq!(octets > frames * link, setting.whole(), "{octets} octets in {frames} frames");
    if setting.whole() {
        return;
    }
    if setting.gro {
        assert!(received < frames, "some of {frames} were merged");
    } else {
        assert!(received.abs_diff(frames) <= 20, "{received} of {frames}: none was merged");
    }
}

/// What passed the device is as it was set.
fn check_seen(setting: &Setting, seen: &Seen) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let longest = of(&seen.longest_sent);
    let link = u64::from(setting.mtu) + ETH_HLEN as u64;
    match setting.whole() {
        true => assert!(longest > link, "several segments in a packet, not {longest} octets"),
        false => assert_eq!(longest, link, "full segments and no more"),
    }
    assert_eq!(of(&seen.sent_unsummed) != 0, setting.sums, "sums are left to the host");
    assert_eq!(of(&seen.came_unsummed) != 0, setting.sums, "the host leaves sums to us");
}

#[test]
fn streams_pass_in_every_setting() {
    if !need(Need::Tool("ss")) {
        return;
    }
    let len = octets_of("NETKEEL_SETTINGS_BYTES").unwrap_or(4 << 20);
    let start = Instant::now();
    for setting in settings() {
        let offloads = match (setting.sums, setting.tso) {
            (true, true) => TUN_F_CSUM | TUN_F_TSO4,
            (true, false) => TUN_F_CSUM,
            (false, _) => 0,
        };
        // What the device can is there; whether it does is switched.
        let options = TapOptions { offloads, ..TapOptions::default() };
        let begin = Instant::now();
        let ran = with_stack_of(options, setting.mtu, |_, cx, dev| {
            run(cx, dev, &setting, len);
        });
        if !ran {
            return;
        }
        println!("{setting:?}: {:.2} s", begin.elapsed().as_secs_f64());
    }
    println!("48 settings, {len} octets each way: {:.1} s", start.elapsed().as_secs_f64());
}
