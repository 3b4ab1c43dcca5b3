//! Options: read and verified, held against a second reading of the RFC; echoed; in fragments.

use super::compile::{Fill, Malformed, Reader, compile};
use super::{IpOptions, IpOptionsRcu, OptFlags, ip_options_of, keep_copied};
use proptest::prelude::*;
use uapi::ip::{
    IPOPT_CIPSO, IPOPT_END, IPOPT_LSRR, IPOPT_NOOP, IPOPT_RA, IPOPT_RR, IPOPT_SEC, IPOPT_SSRR,
    IPOPT_TIMESTAMP,
};

/// Of 10.0.0.0/8 all are this host's.
const OWN: u32 = 0x0a00_0001;
const NOW: u32 = 0x0102_0304;

fn is_foreign(addr: u32) -> bool {
    addr >> 24 != 10
}

fn reader(received: bool) -> Reader<'static> {
    let fill = Fill { addr: OWN, time: NOW };
    Reader { is_foreign: &is_foreign, fill: received.then_some(fill) }
}

/// A received packet's options, and what became of them.
fn received(options: &[u8]) -> (Result<IpOptions, Malformed>, Vec<u8>) {
    let mut data = options.to_vec();
    let read = compile(&mut data, &reader(true));
    (read, data)
}

/// The octet of the header that is complained of.
fn problem(options: &[u8]) -> Option<u8> {
    received(options).0.err().map(|problem| problem.at)
}

#[test]
fn routes_are_recorded_as_long_as_there_is_room() {
    let (read, data) = received(&[IPOPT_RR, 7, 4, 0, 0, 0, 0, IPOPT_END]);
    let read = read.expect("well-formed");
    assert_eq!((read.rr, read.optlen), (20, 8));
    assert_eq!(read.flags, OptFlags::RR_NEEDADDR | OptFlags::CHANGED);
    assert_eq!(data, [IPOPT_RR, 7, 8, 10, 0, 0, 1, IPOPT_END]);
    let (read, same) = received(&data);
    assert_eq!(read.map(|read| read.flags), Ok(OptFlags::empty()));
    assert_eq!(same, data);
    // No length, no room, no place, a piece of an entry, a second one.
    assert_eq!(problem(&[IPOPT_RR, 2, 4, 0]), Some(21));
    assert_eq!(problem(&[IPOPT_RR, 7, 3, 0, 0, 0, 0, 0]), Some(22));
    assert_eq!(problem(&[IPOPT_RR, 7, 5, 0, 0, 0, 0, 0]), Some(22));
    assert_eq!(problem(&[IPOPT_RR, 8, 4, 0]), Some(20));
    assert_eq!(problem(&[IPOPT_RR, 3, 4, IPOPT_RR, 3, 4, 0, 0]), Some(23));
    assert_eq!(problem(&[IPOPT_NOOP, IPOPT_NOOP, IPOPT_NOOP, IPOPT_RR]), Some(23));
}

#[test]
fn times_are_stamped_in_three_ways() {
    let [t, n] = [[1, 2, 3, 4], [10, 0, 0, 1]];
    let stamped = |options: &[u8]| {
        let (read, data) = received(options);
        (read.map(|read| read.flags), data)
    };
    let timed = OptFlags::TS_NEEDTIME | OptFlags::CHANGED;
    let only = [&[IPOPT_TIMESTAMP, 8, 9, 0][..], &t].concat();
    assert_eq!(stamped(&[IPOPT_TIMESTAMP, 8, 5, 0, 0, 0, 0, 0]), (Ok(timed), only));
    let both = [&[IPOPT_TIMESTAMP, 12, 13, 1][..], &n, &t].concat();
    let asked = [&[IPOPT_TIMESTAMP, 12, 5, 1][..], &[0; 8]].concat();
    assert_eq!(stamped(&asked), (Ok(timed | OptFlags::TS_NEEDADDR), both));
    let listed = [&[IPOPT_TIMESTAMP, 12, 5, 3][..], &n, &[0; 4]].concat();
    let ours = [&[IPOPT_TIMESTAMP, 12, 13, 3][..], &n, &t].concat();
    assert_eq!(stamped(&listed), (Ok(timed), ours));
    let others = [IPOPT_TIMESTAMP, 12, 5, 3, 192, 0, 2, 9, 0, 0, 0, 0];
    assert_eq!(stamped(&others), (Ok(OptFlags::empty()), others.to_vec()));
    // Who finds no room counts himself; there is no room for a sixteenth.
    let full = |count: u8| [IPOPT_TIMESTAMP, 4, 5, count << 4];
    assert_eq!(stamped(&full(0)), (Ok(OptFlags::CHANGED), full(1).to_vec()));
    assert_eq!(problem(&full(15)), Some(23));
    assert_eq!(problem(&[IPOPT_TIMESTAMP, 4, 4, 0]), Some(22));
    assert_eq!(problem(&[IPOPT_TIMESTAMP, 3, 5, 0]), Some(21));
    assert_eq!(problem(&[IPOPT_TIMESTAMP, 11, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Some(22));
}

#[test]
fn other_options() {
    let alert = received(&[IPOPT_RA, 4, 0, 0]).0.map(|read| read.router_alert);
    assert_eq!(alert, Ok(20));
    assert_eq!(received(&[IPOPT_RA, 4, 0, 1]).0.map(|read| read.router_alert), Ok(0));
    assert_eq!(problem(&[IPOPT_RA, 3, 0, 0]), Some(21));
    assert_eq!(problem(&[IPOPT_SEC, 4, 9, 9]), None);
    assert_eq!(problem(&[IPOPT_CIPSO, 6, 0, 0, 0, 1, 0, 0]), Some(21));
    assert_eq!(problem(&[IPOPT_CIPSO, 8, 0, 0, 0, 1, 0, 2]), Some(22));
    let (read, data) = received(&[IPOPT_END, 7, 0, 9]);
    assert_eq!(read.map(|read| read.flags), Ok(OptFlags::CHANGED));
    assert_eq!(data, [0; 4]);
}

#[test]
fn a_socket_s_source_route_gives_its_first_hop_away() {
    let mut data = [IPOPT_SSRR, 11, 4, 192, 0, 2, 9, 192, 0, 2, 8, 0];
    let read = compile(&mut data, &reader(false)).expect("well-formed");
    assert_eq!(read.flags, OptFlags::STRICTROUTE);
    assert_eq!(data[3..7], [192, 0, 2, 8]);
    let mut made = IpOptionsRcu { opt: read, ..IpOptionsRcu::default() };
    made.data[..12].copy_from_slice(&data);
    assert_eq!(made.first_hop(1), 0xc000_0209);
    made.ip_options_undo();
    assert_eq!(made.data(), [IPOPT_SSRR, 11, 4, 192, 0, 2, 9, 192, 0, 2, 8, 0]);
    for bad in [[IPOPT_LSRR, 7, 8], [IPOPT_LSRR, 6, 4], [IPOPT_LSRR, 3, 4]] {
        let mut data = [0; 8];
        data[..3].copy_from_slice(&bad);
        assert!(compile(&mut data, &reader(false)).is_err(), "{bad:?}");
    }
}

/// What RFC 791 asks of options, read once more and otherwise: an option at a time, each by a table of its own. The
/// octet of the header where the problem is.
fn oracle(options: &[u8]) -> Option<usize> {
    let mut rest = options.to_vec();
    let (mut at, mut seen) = (20, Vec::new());
    while !rest.is_empty() {
        let kind = rest[0];
        if kind == IPOPT_END {
            return None;
        }
        if kind == IPOPT_NOOP {
            rest.remove(0);
            at += 1;
            continue;
        }
        if rest.len() == 1 || rest[1] < 2 || usize::from(rest[1]) > rest.len() {
            return Some(at);
        }
        let behind = rest.split_off(usize::from(rest[1]));
        let option = std::mem::replace(&mut rest, behind);
        let (len, class) = (option.len(), if kind == IPOPT_LSRR { IPOPT_SSRR } else { kind });
        let twice = seen.contains(&class);
        seen.push(class);
        let entries = |least: u8, entry: usize| match usize::from(option[2]) {
            pointer if pointer < usize::from(least) => Some(2),
            pointer if pointer <= len && pointer + entry - 1 > len => Some(2),
            _ => None,
        };
        let found = match kind {
            IPOPT_RR if twice => Some(0),
            IPOPT_RR if len < 3 => Some(1),
            IPOPT_RR => entries(4, 4),
            IPOPT_SSRR | IPOPT_LSRR if len < 3 => Some(1),
            IPOPT_SSRR | IPOPT_LSRR if option[2] < 4 => Some(2),
            IPOPT_SSRR | IPOPT_LSRR => twice.then_some(0),
            IPOPT_TIMESTAMP if twice => Some(0),
            IPOPT_TIMESTAMP if len < 4 => Some(1),
            IPOPT_TIMESTAMP => match option[3] & 15 {
                1 => entries(5, 8),
                3 => entries(5, 8),
                _ => entries(5, 4),
            }
            .or((usize::from(option[2]) > len && option[3] >> 4 == 15 && option[3] & 15 != 3)
                .then_some(3)),
            IPOPT_RA => (len < 4).then_some(1),
            IPOPT_CIPSO if twice => Some(0),
            IPOPT_CIPSO => Some(if len < 8 { 1 } else { 2 }),
            _ => None,
        };
        if let Some(found) = found {
            return Some(at + found);
        }
        at += len;
    }
    None
}

/// Options that are nearly well-formed: kinds that mean something, lengths and pointers that nearly fit.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![0, 1, 7, 68, 68, 130, 131, 134, 137, 148, 148, 200]);
    let one =
        (kinds, 0_u8..13, prop::collection::vec(0_u8..20, 0..12)).prop_map(|(kind, len, more)| {
            let mut option = vec![kind];
            if kind > 1 {
                option.push(len);
                option.extend(more);
                // Most often as long as it says.
                if len % 4 != 3 {
                    option.resize(usize::from(len).max(2), 0);
                }
            }
            option
        });
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let mut all = all.concat();
        all.truncate(40);
        all.resize(all.len().next_multiple_of(4), 0);
        all
    })
}

fn agrees(options: &[u8]) {
    let (read, data) = received(options);
    assert_eq!(data.len(), options.len());
    assert_eq!(read.err().map(|problem| usize::from(problem.at)), oracle(options), "{options:?}");
    // A socket is never given what a host would refuse, but for what the times count.
    let mut own = options.to_vec();
    if compile(&mut own, &reader(false)).is_ok() {
        assert_eq!(oracle(options), None, "{options:?}");
    }
    if read.is_ok() {
        // What was read is found again.
        let header = [&[0; 20][..], &data].concat();
        let found = ip_options_of(&header);
        let read = read.unwrap_or_default();
        assert_eq!(
            (found.rr, found.ts, found.srr, found.optlen),
            (read.rr, read.ts, read.srr, read.optlen),
            "{options:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_octets_are_read_as_the_rfc_says(words in prop::collection::vec(any::<[u8; 4]>(), 0..=10)) {
        agrees(&words.concat());
    }

    #[test]
    fn nearly_any_options_are_read_as_the_rfc_says(options in nearly()) {
        agrees(&options);
    }
}

fn later(options: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    keep_copied(&mut options);
    options
}

#[test]
fn later_fragments_keep_only_the_options_that_are_to_be_copied() {
    let n = IPOPT_NOOP;
    assert_eq!(later(&[IPOPT_RR, 3, 4, IPOPT_END]), [n, n, n, IPOPT_END]);
    assert_eq!(later(&[IPOPT_RA, 4, 0, 0]), [IPOPT_RA, 4, 0, 0]);
    assert_eq!(
        later(&[n, IPOPT_SEC, 3, 9, IPOPT_TIMESTAMP, 4, 5, 0, IPOPT_RA, 4, 0, 0]),
        [n, IPOPT_SEC, 3, 9, n, n, n, n, IPOPT_RA, 4, 0, 0]
    );
    assert_eq!(later(&[]), [0; 0]);
}

#[test]
fn options_that_are_none_end_the_search() {
    for odd in [&[IPOPT_RR][..], &[IPOPT_RR, 0, 0, 0], &[IPOPT_RR, 1, 0, 0], &[IPOPT_RR, 5, 0, 0]] {
        assert_eq!(later(odd), odd);
    }
    assert_eq!(later(&[IPOPT_END, IPOPT_RR, 3, 4]), [IPOPT_END, IPOPT_RR, 3, 4]);
}
