//! Cookies, options, the table of servers.

use super::client::pause;
use super::*;
use crate::kernel::time::Ktime;
use crate::net::core::sysctl::TcpSysctls;
use proptest::prelude::*;
use std::time::Duration;

const KEYS: [u32; 4] = [0xa1a1_a1a1, 0xb2b2_b2b2, 0xc3c3_c3c3, 0xd4d4_d4d4];
const CLIENT: u32 = u32::from_be_bytes([192, 0, 2, 1]);
const SERVER: u32 = u32::from_be_bytes([192, 168, 0, 1]);

fn cookie(bytes: &[u8]) -> TcpFastopenCookie {
    TcpFastopenCookie::parse(bytes, false).expect("as long as one")
}

/// What Linux 6.18 gives.
#[test]
fn cookies_are_those_of_linux() {
    let sysctl = TcpSysctls { fastopen_key: Some((KEYS, None)), ..TcpSysctls::default() };
    let keys = tcp_fastopen_keys(&sysctl, SipKey([1, 2]));
    let made = TcpFastopenCookie::generate(&keys.primary, CLIENT, SERVER);
    assert_eq!(made, cookie(&0x3021_b9d8_8901_7eeb_u64.to_be_bytes()));
    let bytes: Vec<u8> = (1..=16).collect();
    let keys = FastopenKeys::from_bytes(&bytes).expect("a key");
    let made = TcpFastopenCookie::generate(&keys.primary, CLIENT, SERVER);
    assert_eq!(made, cookie(&0x18f0_2838_73c9_5e68_u64.to_be_bytes()));
    assert_eq!(keys.to_bytes(), bytes);
}

#[test]
fn a_key_has_sixteen_octets_or_two_have_thirty_two() {
    let bytes: Vec<u8> = (0..33).collect();
    for len in 0..=33 {
        let keys = FastopenKeys::from_bytes(&bytes[..len]);
        assert_eq!(keys.is_some(), matches!(len, 16 | 32), "{len}");
        assert_eq!(keys.is_some_and(|keys| keys.backup.is_some()), len == 32);
    }
    let sysctl =
        TcpSysctls { fastopen_key: Some((KEYS, Some([1, 0, 2, 0]))), ..TcpSysctls::default() };
    assert_eq!(tcp_fastopen_keys(&sysctl, SipKey([1, 2])).backup, Some(SipKey([1, 2])));
    let unset = tcp_fastopen_keys(&TcpSysctls::default(), SipKey([1, 2]));
    assert_eq!(unset.primary, SipKey([1, 2]), "a secret one, where nobody has set one");
}

#[test]
fn options_are_read_as_they_are_written() {
    let eight = cookie(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let experimental = TcpFastopenCookie { exp: true, ..eight };
    let asks = TcpFastopenCookie { exp: true, ..TcpFastopenCookie::REQUEST };
    for cookie in [eight, experimental, TcpFastopenCookie::REQUEST, asks, cookie(&[9; 16])] {
        let mut bytes = [0; 20];
        let len = cookie.write(&mut bytes);
        assert_eq!(len, cookie.option_len());
        assert!(len % 4 == 0 && len <= 20);
        assert_eq!(tcp_parse_fastopen_option(&bytes[..len]), Some(cookie));
    }
}

#[test]
fn what_no_cookie_has_is_none() {
    assert_eq!(tcp_parse_fastopen_option(&[34, 2]), Some(TcpFastopenCookie::REQUEST));
    // Of odd length, too short, too long; with another magic number.
    for bad in [&[34, 5, 1, 2, 3][..], &[34, 4, 1, 2], &[34, 20, 0], &[254, 4, 0xf9, 0x88]] {
        assert_eq!(tcp_parse_fastopen_option(bad), None, "{bad:?}");
    }
    let mut long = [1; 20];
    (long[0], long[1]) = (34, 20);
    assert_eq!(tcp_parse_fastopen_option(&long), None);
}

#[test]
fn the_table_of_servers_has_a_bound_and_forgets_the_oldest() {
    let mut cache = FastopenCache::default();
    for n in 0..3000_u32 {
        cache.learn((1, n), cookie(&n.to_be_bytes()));
    }
    assert_eq!(cache.len(), 1024);
    assert_eq!(cache.cookie((1, 2999)), cookie(&2999_u32.to_be_bytes()));
    assert_eq!(cache.cookie((1, 3000 - 1024)), cookie(&1976_u32.to_be_bytes()));
    assert!(cache.cookie((1, 3000 - 1025)).is_request());
    // Another address of ours has another cookie.
    assert!(cache.cookie((2, 2999)).is_request());
}

#[test]
fn pauses_double_up_to_sixty_four_times() {
    let hour = Duration::from_secs(3600);
    let hours: Vec<u64> =
        [1, 2, 3, 7, 8, u32::MAX].map(|times| pause(hour, times).as_secs() / 3600).to_vec();
    assert_eq!(hours, [1, 2, 4, 64, 64, 64]);
}

proptest! {
    #[test]
    fn anything_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(cookie) = tcp_parse_fastopen_option(&bytes) {
            prop_assert!(cookie.option_len() <= 20);
        }
    }
}

#[test]
fn lost_syns_are_counted_while_they_follow_one_another() {
    let at = Ktime::from_secs;
    let (here, server) = (0xc000_0201, 0xc633_6407);
    let mut cache = FastopenCache::default();
    assert_eq!(cache.told(at(1)), "");
    cache.learn((here, server), cookie(&[1, 2, 3, 4]));
    let told = |losses: &str| {
        format!("198.51.100.7 fo_mss 1000{losses} fo_cookie 01020304 source 192.0.2.1\n")
    };
    assert_eq!(cache.told(at(1)), told(""));
    cache.answered((here, server), Some(at(10)));
    cache.answered((here, server), Some(at(20)));
    assert_eq!(cache.told(at(22)), told(" fo_syn_drops 2/2.000sec ago"));
    assert!(!cache.cookie((here, server)).is_request(), "the next SYN has data all the same");
    cache.answered((here, server), None);
    assert_eq!(cache.told(at(22)), told(""));
    (0..2000).for_each(|n| cache.answered((here, server), Some(at(n))));
    assert_eq!(cache.told(at(1999)), told(" fo_syn_drops 1023/0.000sec ago"));
    // Of another, of whom nothing else is known.
    cache.answered((here, 1), Some(at(5)));
    assert!(
        cache.told(at(6)).starts_with("0.0.0.1 fo_syn_drops 1/1.000sec ago source 192.0.2.1\n")
    );
}
