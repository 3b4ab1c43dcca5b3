//! GRO and GSO of UDP: what is merged is what was sent, and is cut into it again.

use super::*;
use crate::kernel::testing::with_bh;
use crate::net::core::dev::gro::MAX_GRO_SKBS;
use crate::net::core::gso::{udp_rcv_segment, validate_xmit_skb_list};
use crate::net::core::skbuff::{Gso, alloc_skb, skb_add_paged, skb_clone};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold};

const SADDR: u32 = 0xc000_0201;
const DADDR: u32 = 0xc000_0202;

/// A datagram, as its sender makes it.
#[derive(Clone)]
struct Dgram {
    port: u16,
    id: u16,
    df: bool,
    ttl: u8,
    tos: u8,
    summed: bool,
    data: Vec<u8>,
}

impl Dgram {
    fn new(id: u16, data: Vec<u8>) -> Self {
        Self { port: 1000, id, df: true, ttl: 64, tos: 0, summed: true, data }
    }

    fn bytes(&self) -> Vec<u8> {
        let (total, ulen) = (HEADERS + self.data.len(), HEADERS - IHL + self.data.len());
        let mut iph = IpHdr {
            version_ihl: 0x45,
            tos: self.tos,
            tot_len: (total as u16).into(),
            id: self.id.into(),
            frag_off: if self.df { IP_DF } else { 0 }.into(),
            ttl: self.ttl,
            protocol: IPPROTO_UDP,
            saddr: SADDR.into(),
            daddr: DADDR.into(),
            ..IpHdr::default()
        };
        iph.check.set(csum_fold(csum_partial(iph.as_bytes(), 0)));
        let mut uh = UdpHdr {
            source: self.port.into(),
            dest: 80.into(),
            len: (ulen as u16).into(),
            check: 0.into(),
        };
        if self.summed {
            let pseudo = csum_tcpudp_nofold(SADDR, DADDR, ulen as u32, IPPROTO_UDP, 0);
            let sum = csum_partial(&self.data, csum_partial(uh.as_bytes(), pseudo));
            uh.check.set(match csum_fold(sum) {
                0 => 0xffff,
                sum => sum,
            });
        }
        [iph.as_bytes(), uh.as_bytes(), &self.data].concat()
    }
}

fn octets(from: u32, len: u32) -> Vec<u8> {
    (from..from + len).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

/// `count` datagrams of a thousand octets and one of `rest`, their identifications going round.
fn flow(count: u32, rest: u32) -> Vec<Dgram> {
    let lens = (0..count).map(|_| 1000).chain((rest != 0).then_some(rest));
    lens.enumerate()
        .map(|(n, len)| Dgram::new(65_530u16.wrapping_add(n as u16), octets(n as u32 * 1000, len)))
        .collect()
}

fn packet(bh: &mut BhCx<'_>, bytes: &[u8]) -> Skb {
    let mut skb = alloc_skb(bh, bytes.len() + 64).expect("memory");
    skb.skb_reserve(32);
    skb.reset_network_header();
    skb.skb_put(bytes.len()).expect("room").copy_from_slice(bytes);
    skb.set_transport_header(IHL);
    skb.csum_start = skb.transport_header;
    skb
}

fn all(skb: &Skb) -> Vec<u8> {
    skb.parts().flatten().copied().collect()
}

fn list_of(bh: &mut BhCx<'_>, dgrams: &[Dgram]) -> Box<SkbList> {
    let mut list = bh.skb_list();
    for dgram in dgrams {
        let skb = packet(bh, &dgram.bytes());
        list.push(skb);
    }
    list
}

/// The packets that come out where all are to be merged, and of how many datagrams each is.
fn merged(bh: &mut BhCx<'_>, dgrams: &[Dgram]) -> Vec<(Vec<u8>, u16)> {
    let mut list = list_of(bh, dgrams);
    merge(bh, &mut list, true);
    let out = list.iter().map(|skb| (all(skb), skb.gso.segs.max(1))).collect();
    list.consume(bh);
    bh.free_skb_list(list);
    out
}

fn counts(out: &[(Vec<u8>, u16)]) -> Vec<u16> {
    out.iter().map(|one| one.1).collect()
}

#[test]
fn datagrams_of_one_length_become_one_and_are_cut_into_themselves_again() {
    with_bh(|bh| {
        let dgrams = flow(7, 300);
        let mut list = list_of(bh, &dgrams);
        merge(bh, &mut list, true);
        assert_eq!(list.len(), 1);
        let whole = list.first().expect("one");
        assert_eq!(whole.gso, Gso { size: 1000, segs: 8, kind: GsoType::UdpL4 });
        let bytes = all(whole);
        assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len());
        assert_eq!(usize::from(u16::from_be_bytes([bytes[24], bytes[25]])), bytes.len() - IHL);
        assert_eq!(ip_fast_csum(&bytes[..IHL]), 0);
        assert_eq!(bytes[HEADERS..], octets(0, 7300));
        validate_xmit_skb_list(bh, &mut list, NetdevFeatures::TSO | NetdevFeatures::HW_CSUM);
        let cut: Vec<Vec<u8>> = list
            .iter_mut()
            .map(|skb| {
                assert!(skb.skb_checksum_help());
                all(skb)
            })
            .collect();
        assert!(cut == dgrams.iter().map(Dgram::bytes).collect::<Vec<_>>());
        list.consume(bh);
        bh.free_skb_list(list);
    });
}

#[test]
fn a_shorter_one_is_the_last_and_a_longer_one_begins_anew() {
    with_bh(|bh| {
        let of = |lens: &[u32]| -> Vec<Dgram> {
            let made = lens.iter().zip(0..).map(|(len, id)| Dgram::new(id, octets(0, *len)));
            made.collect()
        };
        for (lens, expected) in [
            (&[100, 100, 50, 100, 100][..], &[3, 2][..]),
            (&[100, 100, 50, 50], &[3, 1]),
            (&[100, 101, 101], &[1, 2]),
            (&[1, 1, 1], &[3]),
            (&[100, 99, 101, 102], &[2, 1, 1]),
            // One without data is none of these.
            (&[100, 0, 100], &[1, 1, 1]),
        ] {
            assert_eq!(counts(&merged(bh, &of(lens))), expected, "{lens:?}");
        }
    });
}

#[test]
fn no_packet_has_more_than_64_or_grows_longer_than_its_length_can_say() {
    with_bh(|bh| {
        let small: Vec<Dgram> = (0..150).map(|id| Dgram::new(id, vec![7; 10])).collect();
        assert_eq!(counts(&merged(bh, &small)), [64, 64, 22]);
        let large: Vec<Dgram> = (0..60).map(|id| Dgram::new(id, vec![7; 1472])).collect();
        let out = merged(bh, &large);
        assert_eq!(counts(&out), [44, 16]);
        assert!(out.iter().all(|one| one.0.len() < 65_536));
    });
}

#[test]
fn what_differs_begins_anew_and_nothing_overtakes() {
    let differs: [(&str, fn(&mut Dgram)); 7] = [
        ("time to live", |dgram| dgram.ttl -= 1),
        ("type of service", |dgram| dgram.tos = 4),
        ("identification", |dgram| dgram.id -= 9),
        ("may be fragmented", |dgram| dgram.df = false),
        ("no sum", |dgram| dgram.summed = false),
        ("longer", |dgram| dgram.data.push(0)),
        ("another flow", |dgram| dgram.port += 1),
    ];
    with_bh(|bh| {
        for (what, change) in differs {
            let mut dgrams = flow(3, 0);
            change(&mut dgrams[1]);
            let out = merged(bh, &dgrams);
            assert!(out.len() >= 2, "{what}: {:?}", counts(&out));
            assert_eq!(out[0].0, dgrams[0].bytes(), "{what}: the first one goes as it came");
            let data: Vec<u8> = out.iter().flat_map(|one| one.0[HEADERS..].to_vec()).collect();
            let sent: Vec<u8> = dgrams.iter().flat_map(|dgram| dgram.data.clone()).collect();
            assert!(data == sent, "{what}: in their order");
        }
        let mut fixed = flow(4, 0);
        fixed.iter_mut().for_each(|dgram| dgram.id = 0);
        assert_eq!(
            counts(&merged(bh, &fixed)),
            [4],
            "they need not count where none is fragmented"
        );
        fixed.iter_mut().for_each(|dgram| dgram.df = false);
        assert_eq!(counts(&merged(bh, &fixed)), [1; 4]);
    });
}

#[test]
fn a_bad_sum_or_length_is_left_to_whoever_counts_it() {
    with_bh(|bh| {
        let dgrams = flow(3, 0);
        // IP's sum, UDP's, the data, UDP's length, IP's fragment offset.
        for at in [10, IHL + 6, 200, IHL + 5, 7] {
            let mut list = bh.skb_list();
            for (n, dgram) in dgrams.iter().enumerate() {
                let mut bytes = dgram.bytes();
                bytes[at] ^= if n == 1 { 0x20 } else { 0 };
                let skb = packet(bh, &bytes);
                list.push(skb);
            }
            merge(bh, &mut list, true);
            assert!(list.iter().all(|skb| skb.gso.segs < 3), "octet {at}");
            list.consume(bh);
            bh.free_skb_list(list);
        }
    });
}

#[test]
fn where_nobody_wants_it_nothing_is_merged() {
    with_bh(|bh| {
        for receive in
            [udp4_gro_receive, |bh: &mut BhCx<'_>, list: &mut SkbList| merge(bh, list, false)]
        {
            let mut list = list_of(bh, &flow(5, 0));
            receive(bh, &mut list);
            assert_eq!(list.len(), 5);
            list.consume(bh);
            bh.free_skb_list(list);
        }
    });
}

#[test]
fn flows_are_merged_beside_one_another_and_each_keeps_its_order() {
    with_bh(|bh| {
        let flows: Vec<Vec<Dgram>> = (0..MAX_GRO_SKBS as u16 + 2)
            .map(|port| flow(4, 100).into_iter().map(|dgram| Dgram { port, ..dgram }).collect())
            .collect();
        let turn_by_turn = |flows: &[Vec<Dgram>]| -> Vec<Dgram> {
            (0..5).flat_map(|n| flows.iter().map(move |flow| flow[n].clone())).collect()
        };
        assert_eq!(counts(&merged(bh, &turn_by_turn(&flows[..4]))), [5; 4]);
        // More than are looked for at a time: what is merged is less, and nothing is out of order.
        let out = merged(bh, &turn_by_turn(&flows));
        assert_eq!(out.iter().map(|one| usize::from(one.1)).sum::<usize>(), 5 * flows.len());
        for port in 0..flows.len() as u16 {
            let of_it = out.iter().filter(|one| one.0[IHL..IHL + 2] == port.to_be_bytes());
            let data: Vec<u8> = of_it.flat_map(|one| one.0[HEADERS..].to_vec()).collect();
            assert_eq!(data, octets(0, 4100), "port {port}");
        }
    });
}

/// As a socket gets it: the data is the payload.
fn received(bh: &mut BhCx<'_>, bytes: &[u8], size: u16) -> Skb {
    let mut skb = packet(bh, &bytes[..HEADERS]);
    assert!(skb_add_paged(bh, &mut skb, &bytes[HEADERS..]));
    let segs = (bytes.len() - HEADERS).div_ceil(usize::from(size)) as u16;
    skb.gso = Gso { size, segs, kind: GsoType::UdpL4 };
    assert!(skb.skb_pull(HEADERS));
    skb
}

#[test]
fn what_came_whole_is_cut_for_a_socket_and_a_clone_too() {
    with_bh(|bh| {
        let bytes = Dgram::new(5, octets(0, 2500)).bytes();
        for clones in [false, true] {
            let mut skb = received(bh, &bytes, 1000);
            let clone = clones.then(|| skb_clone(bh, &mut skb).expect("memory"));
            let mut list = bh.skb_list_of(skb);
            assert_eq!(udp_rcv_segment(bh, &mut list), 0);
            let seen: Vec<_> = list
                .iter()
                .map(|skb| {
                    let uh = skb.transport::<UdpHdr>().expect("in front of it");
                    let iph = skb.network::<IpHdr>().expect("and this");
                    assert_eq!(skb.headlen(), 0, "nothing was copied");
                    assert_eq!(skb.gso.size, 0);
                    assert_eq!(usize::from(iph.tot_len.get()), skb.len() + HEADERS);
                    (skb.len(), uh.source.get(), usize::from(uh.len.get()), iph.id.get())
                })
                .collect();
            assert_eq!(seen, [(1000, 1000, 1008, 5), (1000, 1000, 1008, 6), (500, 1000, 508, 7)]);
            let data: Vec<u8> = list.iter().flat_map(all).collect();
            assert_eq!(data, octets(0, 2500));
            list.consume(bh);
            bh.free_skb_list(list);
            if let Some(clone) = clone {
                assert_eq!(all(&clone), octets(0, 2500));
                bh.free_skb(clone);
            }
        }
    });
}

#[test]
fn one_that_is_no_longer_than_a_segment_stays_and_one_without_headers_is_lost() {
    with_bh(|bh| {
        let bytes = Dgram::new(5, octets(0, 900)).bytes();
        let skb = received(bh, &bytes, 1000);
        let mut list = bh.skb_list_of(skb);
        assert_eq!((udp_rcv_segment(bh, &mut list), list.len()), (0, 1));
        assert_eq!(list.first().map(|skb| (skb.gso.size, skb.len())), Some((0, 900)));
        list.consume(bh);
        bh.free_skb_list(list);
        let mut skb = received(bh, &bytes, 300);
        skb.transport_header = skb.network_header + 7;
        let mut list = bh.skb_list_of(skb);
        assert_eq!((udp_rcv_segment(bh, &mut list), list.len()), (3, 0));
        bh.free_skb_list(list);
    });
}
