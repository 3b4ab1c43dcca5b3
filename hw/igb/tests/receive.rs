use super::*;

/// The key of Microsoft's verification suite.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Source, port, destination, port, hash of the addresses, hash with the ports.
type Vector = ([u8; 4], u16, [u8; 4], u16, u32, u32);

/// Microsoft's vectors for IPv4.
const VECTORS: [Vector; 5] = [
    ([66, 9, 149, 187], 2794, [161, 142, 100, 80], 1766, 0x323e_8fc2, 0x51cc_c178),
    ([199, 92, 111, 2], 14230, [65, 69, 140, 83], 4739, 0xd718_262a, 0xc626_b0ea),
    ([24, 19, 198, 95], 12898, [12, 22, 207, 184], 38024, 0xd2d0_a5de, 0x5c2b_394a),
    ([38, 27, 205, 30], 48228, [209, 142, 163, 6], 2217, 0x8298_9176, 0xafc7_327f),
    ([153, 39, 163, 191], 44251, [202, 188, 127, 2], 1303, 0x5d18_09c5, 0x10e8_28a2),
];

fn rss(d: &Driver, fields: u32) {
    for (n, word) in KEY.chunks_exact(4).enumerate() {
        d.dev.write32(
            E1000_RSSRK(n as u32),
            u32::from_le_bytes([word[0], word[1], word[2], word[3]]),
        );
    }
    for n in 0..32u32 {
        let entry = |i: u32| (4 * n + i) % 8;
        d.dev.write32(E1000_RETA(n), entry(0) | entry(1) << 8 | entry(2) << 16 | entry(3) << 24);
    }
    d.dev.write32(E1000_RXCSUM, E1000_RXCSUM_IPOFL | E1000_RXCSUM_TUOFL | E1000_RXCSUM_PCSD);
    d.dev.write32(E1000_MRQC, E1000_MRQC_ENABLE_RSS_4Q | fields);
}

#[test]
fn rss_hashes_as_microsofts_vectors_say_and_spreads_over_queues() {
    let (mut d, outside) = rig(8);
    rss(&d, E1000_MRQC_RSS_FIELD_IPV4_TCP | E1000_MRQC_RSS_FIELD_IPV4);
    for (src, sport, dst, dport, ip_only, with_ports) in VECTORS {
        for (protocol, hash, kind) in [
            (6, with_ports, E1000_RXDADV_RSSTYPE_IPV4_TCP),
            (17, ip_only, E1000_RXDADV_RSSTYPE_IPV4),
        ] {
            inject(&outside, &Ip4 { src, dst, protocol, sport, dport, payload: b"x" }.frame());
            let queue = hash as usize % 8;
            let got = d.poll(queue);
            assert_eq!(got.len(), 1, "queue {queue}");
            assert_eq!((got[0].hash, got[0].info & E1000_RXDADV_RSSTYPE_MASK), (hash, kind));
        }
    }
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!(d.poll(0)[0].hash, 0, "no IP, no hash");
}

#[test]
fn rss_hashes_ipv6() {
    let (mut d, outside) = rig(8);
    rss(&d, E1000_MRQC_RSS_FIELD_IPV6_TCP | E1000_MRQC_RSS_FIELD_IPV6);
    let src = [0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 7];
    let dst = [0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x00, 0x03, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut frame = plain(MAC, 14, 0);
    frame[12..14].copy_from_slice(&[0x86, 0xDD]);
    frame.extend([0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend([src, dst].concat());
    frame.extend([2794u16.to_be_bytes(), 1766u16.to_be_bytes()].concat());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    let mut pseudo = [src, dst].concat();
    pseudo.extend([0, 0, 0, 20, 0, 0, 0, 6]);
    let check = rfc1071(&[&pseudo, &frame[54..]]);
    frame[70..72].copy_from_slice(&check.to_be_bytes());
    inject(&outside, &frame);
    let got = d.poll(0x4020_7d3d % 8);
    assert_eq!(got[0].hash, 0x4020_7d3d);
    assert_eq!(got[0].info & 0xF, E1000_RXDADV_RSSTYPE_IPV6_TCP);
    assert_eq!(got[0].info & 0xFFF0, E1000_RXDADV_PKTTYPE_IPV6 | E1000_RXDADV_PKTTYPE_TCP);
    assert_eq!(got[0].status & E1000_RXDEXT_STATERR_L4E, 0);
    assert_ne!(got[0].status & E1000_RXD_STAT_TCPCS, 0);
}

#[test]
fn checksums_are_checked_and_the_verdict_is_in_the_status() {
    let (mut d, outside) = rig(1);
    let errors = E1000_RXDEXT_STATERR_IPE | E1000_RXDEXT_STATERR_L4E;
    let checked = E1000_RXD_STAT_IPCS | E1000_RXD_STAT_TCPCS | E1000_RXD_STAT_UDPCS;
    let mut status = |frame: &[u8]| {
        inject(&outside, frame);
        d.poll(0).pop().unwrap().status & (errors | checked)
    };
    let good = UDP.frame();
    assert_eq!(status(&good), checked);
    for (at, want) in [(30, errors), (22, E1000_RXDEXT_STATERR_IPE), (45, E1000_RXDEXT_STATERR_L4E)]
    {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(status(&bad), checked | want, "byte {at}");
    }
    let mut unchecked = good.clone();
    unchecked[40..42].fill(0);
    assert_eq!(status(&unchecked), E1000_RXD_STAT_IPCS, "UDP without checksum");
    let mut fragment = good.clone();
    fragment[20] = 0x20;
    assert_eq!(status(&fragment) & checked, E1000_RXD_STAT_IPCS);
    assert_eq!(
        status(&Ip4 { protocol: 6, ..UDP }.frame()),
        E1000_RXD_STAT_IPCS | E1000_RXD_STAT_TCPCS
    );
    assert_eq!(status(&plain(MAC, 60, 0)), 0);
}

#[test]
fn a_short_frame_is_padded_and_its_padding_not_summed() {
    let (mut d, outside) = rig(1);
    let mut frame = Ip4 { payload: b"z", ..UDP }.frame();
    frame.extend([0xAA; 20]);
    inject(&outside, &frame);
    inject(&outside, &plain(MAC, 42, 3));
    let got = d.poll(0);
    assert_eq!(got[0].status & E1000_RXDEXT_STATERR_L4E, 0);
    assert_eq!(got[1].bytes.len(), 60);
    assert!(got[1].bytes[42..].iter().all(|&b| b == 0));
}

#[test]
fn filters_pass_own_broadcast_hashed_and_promiscuous() {
    let (mut d, outside) = rig(1);
    let group = [0x01, 0x00, 0x5E, 0x00, 0x00, 0x01];
    let mut passes = |dst| {
        inject(&outside, &plain(dst, 60, 0));
        d.poll(0).pop().map(|g| g.status & E1000_RXD_STAT_PIF != 0)
    };
    assert_eq!(
        (passes(MAC), passes([0xFF; 6]), passes(MAC_B), passes(group)),
        (Some(false), Some(false), None, None)
    );
    // The top 12 bits of the address, bits 47:36: here 0x010.
    d.dev.write32(E1000_MTA_N(0x010 >> 5), 1 << 0x10);
    let mut passes = |dst| {
        inject(&outside, &plain(dst, 60, 0));
        d.poll(0).pop().map(|g| g.status & E1000_RXD_STAT_PIF != 0)
    };
    assert_eq!((passes(group), passes([0x01, 0, 0x5E, 0, 0x10, 0x01])), (Some(true), None));
    d.dev.write32(E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_UPE);
    let mut passes = |dst| {
        inject(&outside, &plain(dst, 60, 0));
        d.poll(0).len()
    };
    assert_eq!((passes(MAC_B), passes([0xFF; 6])), (1, 0));
    d.dev.write32(E1000_RAL(23), u32::from_le_bytes([2, 0, 0, 0]));
    d.dev.write32(E1000_RAH(23), E1000_RAH_AV | 0x0900);
    d.dev.write32(E1000_RCTL, E1000_RCTL_EN);
    inject(&outside, &plain([2, 0, 0, 0, 0, 9], 60, 0));
    assert_eq!(d.poll(0).len(), 1, "the last receive address");
}

#[test]
fn long_frames_need_permission_and_take_several_descriptors() {
    let (mut d, outside) = rig(1);
    inject(&outside, &plain(MAC, 1514, 0));
    inject(&outside, &plain(MAC, 1515, 0));
    assert_eq!(d.poll(0).len(), 1);
    assert_eq!(d.dev.read32(E1000_ROC), 1);
    d.dev.write32(E1000_RLPML, 5004);
    d.dev.write32(E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_LPE);
    let mut frame = plain(MAC, 5000, 0);
    frame.iter_mut().enumerate().skip(14).for_each(|(i, b)| *b = i as u8);
    inject(&outside, &frame);
    inject(&outside, &plain(MAC, 5001, 0));
    let got = d.poll(0);
    assert_eq!(got.iter().map(|g| g.bytes.len()).collect::<Vec<_>>(), [2048, 2048, 904]);
    assert_eq!(
        got.iter().map(|g| g.status & E1000_RXD_STAT_EOP).collect::<Vec<_>>(),
        [0, 0, E1000_RXD_STAT_EOP]
    );
    assert_eq!(got.iter().flat_map(|g| g.bytes.clone()).collect::<Vec<_>>(), frame);
}

#[test]
fn vlan_tags_are_filtered_and_stripped() {
    let (mut d, outside) = rig(1);
    let mut frame = plain(MAC, 64, 7);
    frame.splice(12..12, [0x81, 0, 0x20, 0x05]);
    inject(&outside, &frame);
    assert_eq!(d.poll(0)[0].bytes, frame, "kept unless asked for");
    d.dev.write32(E1000_CTRL, E1000_CTRL_SLU | E1000_CTRL_VME);
    inject(&outside, &frame);
    let got = d.poll(0).pop().unwrap();
    assert_eq!(
        (got.bytes, got.vlan, got.status & E1000_RXD_STAT_VP),
        (plain(MAC, 64, 7), 0x2005, E1000_RXD_STAT_VP)
    );
    d.dev.write32(E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_VFE);
    inject(&outside, &frame);
    assert!(d.poll(0).is_empty());
    d.dev.write32(E1000_VFTA_N(0), 1 << 5);
    inject(&outside, &frame);
    assert_eq!(d.poll(0).len(), 1);
}

#[test]
fn a_full_ring_makes_frames_wait_in_the_packet_buffer_and_then_miss() {
    let (mut d, outside) = rig(1);
    d.dev.write32(E1000_RXPBS, 1);
    for n in 0..40 {
        inject(&outside, &plain(MAC, 100, n));
    }
    // Seven in the ring, ten in the buffer of 1024 bytes.
    assert_eq!((d.dev.read32(E1000_RNBC), d.dev.read32(E1000_MPC)), (1, 40 - 7 - 10));
    let mut salts = Vec::new();
    for _ in 0..4 {
        salts.extend(d.poll(0).iter().map(|g| g.bytes[20]));
    }
    assert_eq!(
        salts,
        (0..17).collect::<Vec<_>>(),
        "the rest follows when descriptors come, in order"
    );
}

#[test]
fn a_full_queue_that_drops_does_not_block_the_others() {
    let (mut d, outside) = rig(8);
    rss(&d, E1000_MRQC_RSS_FIELD_IPV4_UDP);
    d.dev.write32(E1000_SRRCTL(0), E1000_SRRCTL_DESCTYPE_ADV_ONEBUF | 2 | E1000_SRRCTL_DROP_EN);
    for n in 0..10 {
        inject(&outside, &plain(MAC, 60, n));
    }
    inject(&outside, &UDP.frame());
    assert_eq!(d.dev.read32(E1000_RQDPC(0)), 3);
    assert_eq!((d.dev.read32(E1000_RQDPC(0)), d.dev.read32(E1000_MPC)), (0, 0));
    assert_eq!((1..8).map(|q| d.poll(q).len()).sum::<usize>() + d.poll(0).len(), 8);
}

#[test]
fn the_ring_wraps_many_times_over() {
    let (mut d, outside) = rig(1);
    for n in 0..100u8 {
        for k in 0..3 {
            inject(&outside, &plain(MAC, 60 + k, n));
        }
        let got = d.poll(0);
        assert_eq!(got.len(), 3);
        assert!(got.iter().all(|g| g.bytes[30] == n));
    }
}

#[test]
fn a_descriptor_outside_dma_memory_is_an_error_and_a_fault() {
    let (mut d, outside) = rig(1);
    d.rx[0].desc.write64(0, 0xDEAD_BEEF_0000);
    inject(&outside, &plain(MAC, 60, 0));
    let got = d.poll(0);
    assert_ne!(got[0].status & E1000_RXDEXT_STATERR_RXE, 0);
    assert_eq!(d.dev.space().faults(), 1);
}

#[test]
fn legacy_descriptors_are_written_in_their_own_format() {
    let (d, outside) = rig(1);
    d.dev.write32(E1000_SRRCTL(0), 2);
    let mut bad = UDP.frame();
    bad[45] ^= 1;
    inject(&outside, &bad);
    let word = d.rx[0].desc.read64_acquire(8);
    assert_eq!(word & 0xFFFF, bad.len().max(60) as u64);
    assert_eq!(word >> 32 & 3, 3);
    assert_eq!(word >> 40 & 0xFF, 0x20, "L4 error");
    assert_eq!(d.rx[0].desc.read64(0), d.rx[0].buf(0));
}
