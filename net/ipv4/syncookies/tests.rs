use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

const SECRET: SyncookieSecret = SyncookieSecret([SipKey([1, 2]), SipKey([3, 4])]);
const NOW: Ktime = Ktime::from_secs(600);

fn syn(sport: u16, seq: u32) -> CookieSyn {
    let [saddr, daddr] = [Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(192, 0, 2, 1)];
    CookieSyn { tuple: TcpTuple { saddr, sport, daddr, dport: 80 }, seq }
}

fn any_syn() -> impl Strategy<Value = CookieSyn> {
    (any::<[u32; 2]>(), any::<[u16; 2]>(), any::<u32>()).prop_map(|(addrs, ports, seq)| {
        let [saddr, daddr] = addrs.map(Ipv4Addr::from_bits);
        CookieSyn { tuple: TcpTuple { saddr, sport: ports[0], daddr, dport: ports[1] }, seq }
    })
}

/// Sizes that a cookie came back with, of so many that were not given out.
fn guessed(cookies: impl Iterator<Item = (CookieSyn, u32, Ktime)>) -> usize {
    cookies
        .filter(|(syn, cookie, at)| cookie_v4_check(&SECRET, syn, *cookie, *at).is_some())
        .count()
}

#[test]
fn the_largest_size_not_above_the_peers_is_remembered() {
    for (mss, kept) in [
        (0, 536),
        (535, 536),
        (536, 536),
        (1299, 536),
        (1300, 1300),
        (1439, 1300),
        (1440, 1440),
        (1459, 1440),
        (1460, 1460),
        (u16::MAX, 1460),
    ] {
        let syn = syn(4000, 77);
        let (cookie, said) = cookie_v4_init_sequence(&SECRET, &syn, mss, NOW);
        assert_eq!(said, kept, "{mss}");
        assert_eq!(cookie_v4_check(&SECRET, &syn, cookie, NOW), Some(kept), "{mss}");
    }
}

#[test]
fn a_cookie_is_good_in_its_minute_and_the_next() {
    for made in [0, 1, 59, 60, 90, 119, 60 * 256 - 1, 60 * 256] {
        let syn = syn(4000, 77);
        let (cookie, _) = cookie_v4_init_sequence(&SECRET, &syn, 1460, Ktime::from_secs(made));
        for later in 0..400 {
            let at = Ktime::from_secs(made + later);
            let minutes = (made + later) / 60 - made / 60;
            let good = cookie_v4_check(&SECRET, &syn, cookie, at);
            assert_eq!(good.is_some(), minutes < 2, "made at {made}, {later} s later");
        }
        assert_eq!(cookie_v4_check(&SECRET, &syn, cookie, Ktime::from_secs(made + 120)), None);
    }
}

/// 256 minutes later the minute's bits are the same again; its hash is not.
#[test]
fn the_minutes_that_look_alike_are_told_apart() {
    let cookies = (0..4096_u32).map(|seq| {
        let syn = syn(4000, seq);
        let (cookie, _) = cookie_v4_init_sequence(&SECRET, &syn, 1460, NOW);
        (syn, cookie, NOW + Duration::from_secs(256 * 60))
    });
    assert_eq!(guessed(cookies), 0);
}

#[test]
fn another_tuple_number_or_secret_is_refused() {
    let base = syn(4000, 77);
    let (cookie, _) = cookie_v4_init_sequence(&SECRET, &base, 1460, NOW);
    let flip = |addr: Ipv4Addr, bit: u32| Ipv4Addr::from_bits(addr.to_bits() ^ 1 << bit);
    let tuple = |tuple| CookieSyn { tuple, ..base };
    let near = (0..32).flat_map(|bit| {
        let (t, port) = (base.tuple, 1_u16 << (bit % 16));
        [
            tuple(TcpTuple { saddr: flip(t.saddr, bit), ..t }),
            tuple(TcpTuple { daddr: flip(t.daddr, bit), ..t }),
            tuple(TcpTuple { sport: t.sport ^ port, ..t }),
            tuple(TcpTuple { dport: t.dport ^ port, ..t }),
            tuple(t.reversed()),
        ]
    });
    assert_eq!(guessed(near.map(|syn| (syn, cookie, NOW))), 0);
    // A sequence number near ours would pass as another segment size.
    let far = (4..100_000).map(|by| CookieSyn { seq: base.seq.wrapping_add(by), ..base });
    assert_eq!(guessed(far.map(|syn| (syn, cookie, NOW))), 0);
    let other = SyncookieSecret([SipKey([1, 2]), SipKey([3, 5])]);
    assert_eq!(cookie_v4_check(&other, &base, cookie, NOW), None);
    let other = SyncookieSecret([SipKey([2, 2]), SipKey([3, 4])]);
    assert_eq!(cookie_v4_check(&other, &base, cookie, NOW), None);
}

/// Of 2^32 cookies two minutes times four sizes are good: none of the 2^21 here.
#[test]
fn guesses_fail() {
    let guesses = (0..1_u32 << 21).map(|n| (syn(4000, 77), n.wrapping_mul(0x9e37_79b1), NOW));
    assert_eq!(guessed(guesses), 0);
}

#[test]
fn a_size_that_is_not_in_the_table_is_refused() {
    let base = syn(4000, 77);
    let count = tcp_cookie_time(NOW);
    for index in 0..1000 {
        let cookie = secure_tcp_syn_cookie(&SECRET, &base, count, index);
        let size = cookie_v4_check(&SECRET, &base, cookie, NOW);
        assert_eq!(size, MSSTAB.get(index as usize).copied(), "{index}");
    }
}

#[test]
fn options_not_granted_by_our_settings_are_refused() {
    let options = CookieOptions { snd_wscale: Some(7), sack_ok: true, ecn_ok: true };
    let ts = cookie_init_timestamp(&options, 1_000_000);
    let decoded = |change: fn(&mut TcpSysctls)| {
        let mut sysctl = TcpSysctls::default();
        change(&mut sysctl);
        cookie_timestamp_decode(Some(ts), &sysctl)
    };
    assert_eq!(decoded(|_| ()), Some(options));
    assert_eq!(decoded(|s| s.timestamps = 0), None);
    assert_eq!(decoded(|s| s.sack = false), None);
    assert_eq!(decoded(|s| s.window_scaling = false), None);
    assert_eq!(decoded(|s| s.ecn = 0), Some(CookieOptions { ecn_ok: false, ..options }));
    // Without a timestamp there is nothing to refuse.
    let mut none = TcpSysctls::default();
    (none.timestamps, none.sack, none.window_scaling) = (0, false, false);
    assert_eq!(cookie_timestamp_decode(None, &none), Some(CookieOptions::default()));
}

proptest! {
    #[test]
    fn what_was_given_out_comes_back(syn in any_syn(), mss: u16, secs in 0..1_u64 << 40) {
        let now = Ktime(secs.wrapping_mul(1_000_003));
        let (cookie, kept) = cookie_v4_init_sequence(&SECRET, &syn, mss, now);
        prop_assert!(kept <= mss || kept == 536);
        prop_assert_eq!(cookie_v4_check(&SECRET, &syn, cookie, now), Some(kept));
        let next = now + Duration::from_secs(60);
        prop_assert_eq!(cookie_v4_check(&SECRET, &syn, cookie, next), Some(kept));
        prop_assert_eq!(cookie_v4_check(&SECRET, &syn, cookie, now + Duration::from_secs(120)), None);
    }

    #[test]
    fn options_come_back(scale in proptest::option::of(0..15_u8), sack_ok: bool, ecn_ok: bool, now in 64..u32::MAX) {
        let options = CookieOptions { snd_wscale: scale, sack_ok, ecn_ok };
        let ts = cookie_init_timestamp(&options, now);
        prop_assert!(ts <= now && now - ts < 64);
        prop_assert_eq!(cookie_timestamp_decode(Some(ts), &TcpSysctls::default()), Some(options));
    }

    #[test]
    fn nothing_that_arrives_panics(syn in any_syn(), cookie: u32, ns: u64, tsecr: Option<u32>) {
        let size = cookie_v4_check(&SECRET, &syn, cookie, Ktime(ns));
        prop_assert!(size.is_none_or(|size| MSSTAB.contains(&size)));
        let options = cookie_timestamp_decode(tsecr, &TcpSysctls::default());
        prop_assert!(options.is_some_and(|o| o.snd_wscale.is_none_or(|scale| scale <= 14)));
    }
}
