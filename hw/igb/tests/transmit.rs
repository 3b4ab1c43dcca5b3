use super::*;
use crate::wire::Carrier;

const BOTH: u32 = E1000_TXD_POPTS_IXSM | E1000_TXD_POPTS_TXSM;
const END: u32 = E1000_ADVTXD_DCMD_EOP | E1000_ADVTXD_DCMD_RS;

/// A context descriptor: Ethernet and a 20-byte IPv4 header.
fn context(d: &mut Driver, l4: u32, l4_len: u32, mss: u32, vlan: u32) {
    let w0 = vlan << 16 | 14 << E1000_ADVTXD_MACLEN_SHIFT | 20;
    let w2 = E1000_ADVTXD_DCMD_DEXT | E1000_ADVTXD_DTYP_CTXT | E1000_ADVTXD_TUCMD_IPV4 | l4;
    let w3 = mss << E1000_ADVTXD_MSS_SHIFT | l4_len << E1000_ADVTXD_L4LEN_SHIFT;
    d.put(0, u64::from(w0), u64::from(w3) << 32 | u64::from(w2));
}

/// The frame as a driver hands it over: no IP checksum, the pseudo header's sum in the L4 field.
fn unfinished(ip: &Ip4<'_>, length_in_sum: bool) -> Vec<u8> {
    let mut frame = ip.frame();
    frame[24..26].fill(0);
    let field = if ip.protocol == 6 { 50 } else { 40 };
    let len = if length_in_sum { frame.len() - 34 } else { 0 };
    let seed = !rfc1071(&[&ip.pseudo(len)]);
    frame[field..field + 2].copy_from_slice(&seed.to_be_bytes());
    frame
}

#[test]
fn a_frame_crosses_between_two_devices_with_its_packet_id() {
    let (mut a, mut b) = pair();
    let frame = plain(MAC_B, 200, 5);
    let addr = a.tx[0].buf(0);
    a.dev.trace_tx(addr, 77);
    a.send(0, &frame, 0);
    assert!(a.tx_done(0, 0));
    let got = b.poll(0);
    assert_eq!((&got[0].bytes, got[0].id), (&frame, 77));
    b.send(0, &plain(MAC, 60, 6), 0);
    let got = a.poll(0);
    assert_eq!((got[0].bytes.len(), got[0].id), (60, 0));
}

#[test]
fn one_doorbell_sends_many_frames_in_order() {
    let (mut d, outside) = rig(1);
    for n in 0..6 {
        d.put_data(0, &plain(MAC_B, 100, n), if n == 5 { END } else { E1000_ADVTXD_DCMD_EOP }, 0);
    }
    assert!(sent(&outside).is_empty());
    d.tx_doorbell(0);
    assert_eq!(sent(&outside).iter().map(|f| f[50]).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        (0..6).map(|n| d.tx_done(0, n)).collect::<Vec<_>>(),
        [false, false, false, false, false, true]
    );
    assert_eq!(d.dev.read32(E1000_TDH(0)), 6);
}

#[test]
fn checksums_are_inserted_as_the_context_says() {
    let (mut d, outside) = rig(1);
    for (ip, l4) in [
        (UDP, E1000_ADVTXD_TUCMD_L4T_UDP),
        (Ip4 { protocol: 6, ..UDP }, E1000_ADVTXD_TUCMD_L4T_TCP),
    ] {
        context(&mut d, l4, 0, 0, 0);
        d.send(0, &unfinished(&ip, true), BOTH);
        assert_eq!(sent(&outside), [pad(ip.frame())]);
    }
    d.send(0, &unfinished(&UDP, true), 0);
    assert_eq!(sent(&outside), [pad(unfinished(&UDP, true))], "nothing unless asked for");
}

fn pad(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}

#[test]
fn inserted_checksums_pass_the_other_devices_check() {
    let (mut a, mut b) = pair();
    for len in [1usize, 2, 3, 100, 1001, 1472] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        let mut frame = unfinished(&Ip4 { payload: &payload, ..UDP }, true);
        frame[..6].copy_from_slice(&MAC_B);
        context(&mut a, E1000_ADVTXD_TUCMD_L4T_UDP, 0, 0, 0);
        a.send(0, &frame, BOTH);
        let got = b.poll(0);
        assert_eq!(
            got[0].status & (E1000_RXDEXT_STATERR_IPE | E1000_RXDEXT_STATERR_L4E),
            0,
            "length {len}"
        );
        assert_ne!(got[0].status & E1000_RXD_STAT_UDPCS, 0);
    }
}

#[test]
fn a_frame_is_gathered_from_several_buffers_and_several_doorbells() {
    let (mut d, outside) = rig(1);
    let frame = plain(MAC_B, 500, 9);
    d.put_data(0, &frame[..14], 0, 0);
    d.tx_doorbell(0);
    assert!(sent(&outside).is_empty());
    d.put_data(0, &frame[14..300], 0, 0);
    d.put_data(0, &frame[300..], END, 0);
    d.tx_doorbell(0);
    assert_eq!(sent(&outside), [frame]);
}

#[test]
fn short_frames_are_padded_with_zeros() {
    let (mut d, outside) = rig(1);
    d.send(0, &plain(MAC_B, 1500, 0xFF), 0);
    d.send(0, &plain(MAC_B, 20, 0xFF), 0);
    let out = sent(&outside);
    assert_eq!(out[1], pad(plain(MAC_B, 20, 0xFF)));
}

#[test]
fn tcp_is_segmented() {
    let (mut d, outside) = rig(1);
    let payload: Vec<u8> = (0..1700).map(|i| i as u8).collect();
    let ip = Ip4 { protocol: 6, payload: &payload, ..UDP };
    context(&mut d, E1000_ADVTXD_TUCMD_L4T_TCP, 20, 600, 0);
    let options = BOTH | (payload.len() as u32) << E1000_ADVTXD_PAYLEN_SHIFT;
    d.put_data(0, &unfinished(&ip, false), END | E1000_ADVTXD_DCMD_TSE, options);
    d.tx_doorbell(0);
    let out = sent(&outside);
    assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), [654, 654, 554]);
    for (n, f) in out.iter().enumerate() {
        assert_eq!(f[54..], payload[n * 600..1700.min(n * 600 + 600)]);
        assert_eq!(u16::from_be_bytes([f[16], f[17]]) as usize, f.len() - 14);
        assert_eq!(u16::from_be_bytes([f[18], f[19]]), 0x1234 + n as u16);
        assert_eq!(u32::from_be_bytes([f[38], f[39], f[40], f[41]]), 0x0102_0304 + 600 * n as u32);
        assert_eq!(rfc1071(&[&f[14..34]]), 0, "IP checksum");
        assert_eq!(rfc1071(&[&ip.pseudo(f.len() - 34), &f[34..]]), 0, "TCP checksum");
    }
    // CWR in the first, FIN and PSH in the last.
    assert_eq!(out.iter().map(|f| f[47]).collect::<Vec<_>>(), [0x90, 0x10, 0x19]);
    assert_eq!((d.dev.read32(E1000_TSCTC), d.dev.read32(E1000_GPTC)), (1, 3));
}

#[test]
fn udp_is_segmented() {
    let (mut d, outside) = rig(1);
    let payload = [0x33; 1000];
    let ip = Ip4 { payload: &payload, ..UDP };
    context(&mut d, E1000_ADVTXD_TUCMD_L4T_UDP, 8, 400, 0);
    d.put_data(0, &unfinished(&ip, false), END | E1000_ADVTXD_DCMD_TSE, BOTH);
    d.tx_doorbell(0);
    let out = sent(&outside);
    assert_eq!(
        out.iter().map(|f| u16::from_be_bytes([f[38], f[39]])).collect::<Vec<_>>(),
        [408, 408, 208]
    );
    assert!(out.iter().all(|f| rfc1071(&[&ip.pseudo(f.len() - 34), &f[34..]]) == 0));
}

#[test]
fn a_vlan_tag_is_inserted_and_the_checksum_still_right() {
    let (mut d, outside) = rig(1);
    context(&mut d, E1000_ADVTXD_TUCMD_L4T_UDP, 0, 0, 0x2005);
    d.put_data(0, &unfinished(&UDP, true), END | E1000_ADVTXD_DCMD_VLE, BOTH);
    d.tx_doorbell(0);
    let mut want = UDP.frame();
    want.splice(12..12, [0x81, 0, 0x20, 0x05]);
    assert_eq!(sent(&outside), [pad(want)]);
}

#[test]
fn the_head_can_be_written_back_instead() {
    let (mut d, _outside) = rig(1);
    let cell = d.dev.dma_alloc_coherent(64, 64).unwrap();
    d.dev.write32(E1000_TDWBAH(0), (cell.bus_addr() >> 32) as u32);
    d.dev.write32(E1000_TDWBAL(0), cell.bus_addr() as u32 | E1000_TX_HEAD_WB_ENABLE);
    d.send(0, &plain(MAC_B, 60, 0), 0);
    d.send(0, &plain(MAC_B, 60, 0), 0);
    assert_eq!(cell.read32_acquire(0), 2);
    assert!(!d.tx_done(0, 1));
}

#[test]
fn without_link_descriptors_wait_and_go_when_it_is_back() {
    let (mut d, outside) = rig(1);
    outside.set_carrier(Carrier::Down);
    d.send(0, &plain(MAC_B, 60, 1), 0);
    assert!(!d.tx_done(0, 0));
    outside.set_carrier(Carrier::Up);
    assert!(d.tx_done(0, 0));
    assert_eq!(sent(&outside).len(), 1);
}

#[test]
fn loopback_brings_frames_back_without_a_cable() {
    let (mut d, outside) = rig(1);
    outside.set_carrier(Carrier::Down);
    d.dev.write32(
        E1000_MDIC,
        E1000_MDIC_OP_WRITE
            | 1 << E1000_MDIC_PHY_SHIFT
            | MII_CR_LOOPBACK
            | MII_CR_SPEED_1000
            | MII_CR_FULL_DUPLEX,
    );
    d.send(0, &plain(MAC, 90, 4), 0);
    let got = d.poll(0);
    assert_eq!(got[0].bytes, plain(MAC, 90, 4));
    assert!(sent(&outside).is_empty());
}

#[test]
fn the_ring_wraps_and_a_refused_frame_is_counted() {
    let (mut d, outside) = rig(1);
    for n in 0..1100u32 {
        d.send(0, &plain(MAC_B, 60, n as u8), 0);
        assert!(d.tx_done(0, n % RING));
    }
    assert_eq!(sent(&outside).len(), 1024);
    assert_eq!(d.dev.counters().tx_refused, 76);
}
