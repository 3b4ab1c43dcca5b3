//! The search, and when a probe has room.

use super::*;
use crate::net::core::skbuff::{Cb, Depot, SkbPool};
use crate::net::ipv4::tcp::TcpSkbCb;
use crate::net::ipv4::tcp_cong::TcpReno;
use std::sync::Arc;

const BASE: u32 = 1024;

/// A connection whose peer takes segments of 1,460 octets, with a header of so many octets.
fn connection(header: u8) -> TcpSock {
    let mut tp = TcpSock::new(Box::new(TcpReno), 3);
    tp.rx_opt.mss_clamp = 1460;
    tp.tcp_header_len = header;
    tp.mss_cache = BASE;
    tp
}

#[test]
fn a_size_of_segments_is_a_length_of_packets_and_back() {
    for header in [20, 32] {
        let tp = connection(header);
        for mss in [48, 536, BASE, 1448] {
            assert_eq!(tcp_mtu_to_mss(&tp, tcp_mss_to_mtu(&tp, mss)), mss, "{header}");
        }
    }
    assert_eq!(tcp_mss_to_mtu(&connection(20), u32::MAX), u32::MAX);
}

#[test]
fn the_search_halves_what_is_left_until_it_is_not_worth_a_probe() {
    for (way, header) in [(1500, 20), (1300, 20), (1280, 32), (1067, 20)] {
        let tp = connection(header);
        let mut mtup = Mtup::new(&tp, BASE, Ktime::ZERO);
        let mut probes = 0;
        while let Some(mss) = mtup.next_size(&tp, 8) {
            let size = tcp_mss_to_mtu(&tp, mss);
            assert!(size > mtup.search_low, "{size}");
            if size <= way {
                mtup.search_low = size;
            } else {
                mtup.search_high = size - 1;
            }
            probes += 1;
        }
        assert!((way.saturating_sub(8)..=way).contains(&mtup.search_low), "{way}: {mtup:?}");
        assert!(probes <= 6, "{way}: {probes} probes");
    }
}

#[test]
fn a_range_turned_over_is_not_searched() {
    let tp = connection(20);
    let mut mtup = Mtup::new(&tp, BASE, Ktime::ZERO);
    // ICMP reported less than the search began with.
    mtup.search_high = 600;
    assert_eq!(mtup.next_size(&tp, 0), None);
    // Settings of any size.
    for base in [0, u32::MAX] {
        let mtup = Mtup::new(&tp, base, Ktime::ZERO);
        assert!(mtup.next_size(&tp, 8).is_none_or(|mss| (48..=1460).contains(&mss)), "{base}");
    }
}

#[test]
fn the_search_bounds_segments_and_the_way_bounds_the_search() {
    let mut tp = connection(20);
    assert_eq!(tcp_mtup_bound(&mut tp, 1500, 1460), 1460, "no search");
    tp.mtup = Some(Box::new(Mtup::new(&tp, BASE, Ktime::ZERO)));
    assert_eq!(tcp_mtup_bound(&mut tp, 1400, 1360), BASE);
    assert_eq!(tp.mtup.as_deref().map(|mtup| mtup.search_high), Some(1400));
    assert_eq!(tcp_mtup_bound(&mut tp, 576, 536), 536);
}

#[test]
fn a_probe_goes_where_its_loss_could_be_told() {
    let size = 1242;
    let needed = size + 4 * BASE;
    let with = |written: u32, window: u32, out: u32| {
        let mut tp = connection(20);
        tp.write_seq = tp.snd_nxt + written;
        tp.snd_wnd = window;
        tp.packets_out = out;
        tp.cong.snd_cwnd = PROBE_CWND;
        room(&tp, size)
    };
    assert_eq!(with(needed, needed, 0), Room::Now);
    assert_eq!(with(needed - 1, needed, 0), Room::Never);
    assert_eq!(with(needed, needed - 1, 0), Room::Never);
    assert_eq!(with(needed, needed, PROBE_CWND - 2), Room::Now);
    assert_eq!(with(needed, needed, PROBE_CWND - 1), Room::Later);
    // The window is large enough, and taken up.
    let mut tp = connection(20);
    tp.snd_nxt = tp.snd_una + 1;
    tp.write_seq = tp.snd_nxt + needed;
    tp.snd_wnd = needed;
    tp.cong.snd_cwnd = PROBE_CWND;
    assert_eq!(room(&tp, size), Room::Later);
}

/// The send queue with packets of so many octets, each in one piece; `eor`: what follows one is another record.
fn queue(sizes: &[u32], eor: Option<usize>) -> TcpSock {
    let mut pool = SkbPool::new(Arc::new(Depot::new(64 << 20)));
    let mut tp = connection(20);
    for (n, size) in sizes.iter().enumerate() {
        let mut skb = pool.alloc_handle().expect("memory");
        let page = Arc::clone(pool.page_frag_refill().expect("memory").place().0);
        skb.frags.push(crate::net::core::skbuff::SkbFrag { page, offset: 0, size: *size });
        skb.cb = Cb::Tcp(TcpSkbCb { eor: eor == Some(n), ..TcpSkbCb::NONE });
        (skb.len, skb.data_len) = (*size, *size);
        tp.write_queue.push_back(skb);
    }
    tp
}

/// Frees what a test has queued.
fn end(mut tp: TcpSock) {
    for skb in tp.write_queue.drain(..) {
        skb.forget_at_exit();
    }
}

#[test]
fn records_stay_apart_and_pieces_few() {
    let cases: [(&[u32], Option<usize>, bool); 6] = [
        (&[1242], None, true),
        (&[1000, 1000], None, true),
        (&[1000, 1000], Some(0), false),
        (&[1000, 1000], Some(1), true),
        (&[1000], None, false),
        (&[60; 30], None, false),
    ];
    for (sizes, eor, may) in cases {
        let tp = queue(sizes, eor);
        assert_eq!(tcp_can_coalesce_send_queue_head(&tp, 1242), may, "{sizes:?} {eor:?}");
        end(tp);
    }
}
