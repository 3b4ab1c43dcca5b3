//! GRO and GSO of TCP: what is merged is what was sent, and is cut into it again.

use super::*;
use crate::kernel::testing::with_bh;
use crate::net::core::dev::NetdevFeatures;
use crate::net::core::dev::gro::MAX_GRO_SKBS;
use crate::net::core::gso::validate_xmit_skb_list;
use crate::net::core::skbuff::{Gso, alloc_skb, skb_add_paged, skb_clone};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold};
use zerocopy::IntoBytes;

const SADDR: u32 = 0xc000_0201;
const DADDR: u32 = 0xc000_0202;
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 2, 0];

/// A segment, as its sender makes it.
#[derive(Clone)]
struct Seg {
    port: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    id: u16,
    df: bool,
    ttl: u8,
    window: u16,
    options: Vec<u8>,
    data: Vec<u8>,
}

impl Seg {
    fn new(seq: u32, data: Vec<u8>) -> Self {
        Self {
            port: 1000,
            seq,
            ack: 7,
            flags: TCPHDR_ACK,
            id: 0,
            df: true,
            ttl: 64,
            window: 500,
            options: OPTIONS.to_vec(),
            data,
        }
    }

    /// The datagram.
    fn bytes(&self) -> Vec<u8> {
        let thlen = size_of::<TcpHdr>() + self.options.len();
        let total = IHL + thlen + self.data.len();
        let mut iph = IpHdr {
            version_ihl: 0x45,
            tot_len: (total as u16).into(),
            id: self.id.into(),
            frag_off: if self.df { uapi::ip::IP_DF } else { 0 }.into(),
            ttl: self.ttl,
            protocol: IPPROTO_TCP,
            saddr: SADDR.into(),
            daddr: DADDR.into(),
            ..IpHdr::default()
        };
        iph.check.set(csum_fold(csum_partial(iph.as_bytes(), 0)));
        let th = TcpHdr {
            source: self.port.into(),
            dest: 80.into(),
            seq: self.seq.into(),
            ack_seq: self.ack.into(),
            doff_res: ((thlen / 4) << 4) as u8,
            flags: self.flags,
            window: self.window.into(),
            check: 0.into(),
            urg_ptr: 0.into(),
        };
        let mut bytes = iph.as_bytes().to_vec();
        bytes.extend(th.as_bytes());
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        let pseudo = csum_tcpudp_nofold(SADDR, DADDR, (total - IHL) as u32, IPPROTO_TCP, 0);
        let check = csum_fold(csum_partial(&bytes[IHL..], pseudo));
        bytes[IHL + 16..IHL + 18].copy_from_slice(&check.to_be_bytes());
        bytes
    }
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

/// The packets that come out, and of how many segments each is.
fn merged(bh: &mut BhCx<'_>, segs: &[Seg]) -> Vec<(Vec<u8>, u16)> {
    let mut list = bh.skb_list();
    for seg in segs {
        let skb = packet(bh, &seg.bytes());
        list.push(skb);
    }
    tcp4_gro_receive(bh, &mut list);
    let out = list.iter().map(|skb| (all(skb), skb.gso.segs.max(1))).collect();
    list.consume(bh);
    bh.free_skb_list(list);
    out
}

fn octets(from: u32, len: u32) -> Vec<u8> {
    (from..from + len).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

/// `count` full segments and one of `rest` octets, pushed.
fn flow(seq: u32, count: u32, rest: u32) -> Vec<Seg> {
    let mut segs: Vec<Seg> = (0..count)
        .map(|n| Seg {
            id: 65_530u16.wrapping_add(n as u16),
            ..Seg::new(seq.wrapping_add(n * 1000), octets(n * 1000, 1000))
        })
        .collect();
    if rest != 0 {
        let mut last = Seg::new(seq.wrapping_add(count * 1000), octets(count * 1000, rest));
        last.id = 65_530u16.wrapping_add(count as u16);
        last.flags |= TCPHDR_PSH;
        segs.push(last);
    }
    segs
}

#[test]
fn segments_in_order_become_one_and_are_cut_into_themselves_again() {
    with_bh(|bh| {
        // The sequence numbers and the identifications go round on the way.
        let segs = flow(u32::MAX - 2500, 7, 300);
        let mut list = bh.skb_list();
        for seg in &segs {
            let skb = packet(bh, &seg.bytes());
            list.push(skb);
        }
        tcp4_gro_receive(bh, &mut list);
        assert_eq!(list.len(), 1);
        let whole = list.first().expect("one");
        assert_eq!((whole.gso.size, whole.gso.segs), (1000, 8));
        let bytes = all(whole);
        let (iph, rest) = IpHdr::ref_from_prefix(&bytes).expect("a header");
        let (th, _) = TcpHdr::ref_from_prefix(rest).expect("another");
        assert_eq!(usize::from(iph.tot_len.get()), bytes.len());
        assert_eq!(ip_fast_csum(&bytes[..IHL]), 0);
        assert_eq!(th.flags, TCPHDR_ACK | TCPHDR_PSH);
        assert_eq!(bytes[IHL + 32..], octets(0, 7300));
        validate_xmit_skb_list(bh, &mut list, NetdevFeatures::HW_CSUM);
        let cut: Vec<Vec<u8>> = list
            .iter_mut()
            .map(|skb| {
                assert!(skb.skb_checksum_help());
                all(skb)
            })
            .collect();
        assert!(cut.iter().eq(segs.iter().map(Seg::bytes).collect::<Vec<_>>().iter()));
        list.consume(bh);
        bh.free_skb_list(list);
    });
}

#[test]
fn what_differs_begins_anew() {
    let differs: [(&str, fn(&mut Seg)); 14] = [
        ("acknowledgement", |seg| seg.ack += 1),
        ("window", |seg| seg.window += 1),
        ("time to live", |seg| seg.ttl -= 1),
        ("options", |seg| seg.options[11] += 1),
        ("no options", |seg| seg.options.clear()),
        ("a hole", |seg| seg.seq += 1),
        ("an old one", |seg| seg.seq -= 1000),
        ("another connection", |seg| seg.port += 1),
        ("identification", |seg| seg.id += 1),
        ("may be fragmented", |seg| seg.df = false),
        ("window reduced", |seg| seg.flags |= TCPHDR_CWR),
        ("reset", |seg| seg.flags |= TCPHDR_RST),
        ("urgent", |seg| seg.flags |= TCPHDR_URG),
        ("longer", |seg| seg.data.push(0)),
    ];
    with_bh(|bh| {
        for (what, change) in differs {
            let mut segs = flow(1, 3, 0);
            change(&mut segs[1]);
            let out = merged(bh, &segs);
            assert!(
                out.len() >= 2,
                "{what}: {:?}",
                out.iter().map(|one| one.1).collect::<Vec<_>>()
            );
            assert_eq!(out[0].0, segs[0].bytes(), "{what}: the first one goes as it came");
        }
        // One without an answer, and no data to merge.
        let mut bare = flow(1, 2, 0);
        bare.iter_mut().for_each(|seg| seg.data.clear());
        assert_eq!(merged(bh, &bare).len(), 2);
    });
}

#[test]
fn a_bad_sum_is_left_to_whoever_counts_it() {
    with_bh(|bh| {
        let segs = flow(1, 3, 0);
        for at in [10, IHL + 16, 200] {
            let mut list = bh.skb_list();
            for (n, seg) in segs.iter().enumerate() {
                let mut bytes = seg.bytes();
                if n == 1 {
                    bytes[at] ^= 0x20;
                }
                let skb = packet(bh, &bytes);
                list.push(skb);
            }
            tcp4_gro_receive(bh, &mut list);
            assert_eq!(list.len(), 3, "octet {at}");
            list.consume(bh);
            bh.free_skb_list(list);
        }
    });
}

#[test]
fn flows_are_merged_beside_one_another_and_each_keeps_its_order() {
    with_bh(|bh| {
        let flows: Vec<Vec<Seg>> = (0..MAX_GRO_SKBS as u16 + 2)
            .map(|port| flow(1, 4, 100).into_iter().map(|seg| Seg { port, ..seg }).collect())
            .collect();
        // Four of them, turn by turn.
        let mixed: Vec<Seg> =
            (0..5).flat_map(|n| flows[..4].iter().map(move |flow| flow[n].clone())).collect();
        let out = merged(bh, &mixed);
        assert_eq!(out.iter().map(|one| one.1).collect::<Vec<_>>(), [5; 4]);
        // More than are looked for at a time: what is merged is less, and nothing is out of order.
        let many: Vec<Seg> =
            (0..5).flat_map(|n| flows.iter().map(move |flow| flow[n].clone())).collect();
        let out = merged(bh, &many);
        assert_eq!(out.iter().map(|one| u32::from(one.1)).sum::<u32>(), 5 * flows.len() as u32);
        for port in 0..flows.len() as u16 {
            let of_it = out.iter().filter(|one| one.0[IHL..IHL + 2] == port.to_be_bytes());
            let data: Vec<u8> = of_it.flat_map(|one| one.0[IHL + 32..].to_vec()).collect();
            assert_eq!(data, octets(0, 4100), "port {port}");
        }
    });
}

#[test]
fn a_packet_grows_no_longer_than_its_length_can_say() {
    with_bh(|bh| {
        let out = merged(bh, &flow(1, 80, 0));
        assert_eq!(out.iter().map(|one| one.1).collect::<Vec<_>>(), [65, 15]);
        assert!(out.iter().all(|one| one.0.len() < 65_536));
    });
}

#[test]
fn a_packet_in_pages_is_cut_by_reference_and_a_clone_has_its_data() {
    with_bh(|bh| {
        let seg = Seg { data: octets(0, 5500), ..Seg::new(9, Vec::new()) };
        let bytes = seg.bytes();
        let headers = IHL + 32;
        let mut skb = packet(bh, &bytes[..headers]);
        assert!(skb_add_paged(bh, &mut skb, &bytes[headers..]));
        skb.gso = Gso { size: 1000, segs: 6, kind: GsoType::Tcpv4 };
        let mut list = bh.skb_list_of(skb);
        // A device that can cut it gets it whole.
        validate_xmit_skb_list(bh, &mut list, NetdevFeatures::TSO);
        assert_eq!(list.len(), 1);
        validate_xmit_skb_list(bh, &mut list, NetdevFeatures::empty());
        assert_eq!(list.len(), 6);
        let data: Vec<u8> = list.iter().flat_map(|skb| all(skb)[headers..].to_vec()).collect();
        assert_eq!(data, octets(0, 5500));
        assert!(list.iter().all(|skb| skb.headlen() == headers), "nothing was copied");
        list.consume(bh);
        bh.free_skb_list(list);

        let mut list = bh.skb_list();
        for seg in flow(1, 3, 500) {
            let skb = packet(bh, &seg.bytes());
            list.push(skb);
        }
        tcp4_gro_receive(bh, &mut list);
        let clone = skb_clone(bh, &mut list.packets[0]).expect("memory");
        let whole = all(&list.packets[0]);
        list.consume(bh);
        bh.free_skb_list(list);
        assert_eq!(all(&clone), whole, "it outlives what it was cloned from");
        bh.free_skb(clone);
    });
}

#[test]
fn what_cannot_be_cut_is_dropped() {
    with_bh(|bh| {
        let bytes = Seg::new(1, octets(0, 3000)).bytes();
        // No transport header where it is said to be; one that is shorter or longer than can be.
        for (transport, doff) in [(bytes.len() - 4, 8), (IHL, 4), (bytes.len() - 24, 15)] {
            let mut bytes = bytes.clone();
            if let Some(octet) = bytes.get_mut(transport + 12) {
                *octet = doff << 4;
            }
            let mut skb = packet(bh, &bytes);
            skb.gso = Gso { size: 1000, segs: 3, kind: GsoType::Tcpv4 };
            skb.set_transport_header(transport);
            skb.csum_start = skb.transport_header;
            let mut list = bh.skb_list_of(skb);
            validate_xmit_skb_list(bh, &mut list, NetdevFeatures::empty());
            assert!(list.is_empty());
            bh.free_skb_list(list);
        }
    });
}
