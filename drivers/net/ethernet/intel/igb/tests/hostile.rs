//! A device that writes and says what it likes: nothing panics, nothing is read out of bounds, nothing leaks.

use super::bus::next_random;
use super::*;
use drivers::net::ethernet::intel::igb::e1000_regs::*;
use drivers::pci::DmaBuf;

/// Ring sizes by which the descriptor memory of each direction is known.
const RX: u32 = 128;
const TX: u32 = 96;

fn setup() -> Setup {
    let options = IgbOptions { rx_ring: RX, tx_ring: TX, itr: 0, ..IgbOptions::default() };
    Setup { options, ..cpus(2) }
}

fn rings(host: &Host, descriptors: u32) -> Vec<DmaBuf> {
    let memory = host.bus.memory.lock().unwrap();
    memory.iter().filter(|buf| buf.len() == descriptors as usize * 16).cloned().collect()
}

/// Writes rubbish over a descriptor, often with the bit that says that it is done.
fn scribble(ring: &DmaBuf, random: &mut u64) {
    let at = (next_random(random) as usize % (ring.len() / 16)) * 16;
    let mut word = next_random(random);
    match next_random(random) % 4 {
        // A plausible end of a frame, of any length.
        0 => word = word & 0xFFFF_0000_0000 | u64::from(E1000_RXD_STAT_DD | E1000_RXD_STAT_EOP),
        // A beginning that may never end.
        1 => word = 2048 << 32 | u64::from(E1000_RXD_STAT_DD),
        2 => word |= u64::from(E1000_RXD_STAT_DD) | u64::from(E1000_TXD_STAT_DD) << 32,
        _ => (),
    }
    ring.write64(at, next_random(random));
    ring.write64_release(at + 8, word);
}

stepped!(scribbled_descriptors_do_no_harm);
fn scribbled_descriptors_do_no_harm() -> u64 {
    let mut pair = Pair::new(setup(), setup());
    pair.acquaint();
    let a = bound(&mut pair.a.cx, 1000);
    let b = bound(&mut pair.b.cx, 7);
    let mut random = 0x9E37_79B9_7F4A_7C15;
    for round in 0..400_u32 {
        for host in [&pair.a, &pair.b] {
            let both = [rings(host, RX), rings(host, TX)].concat();
            for _ in 0..next_random(&mut random) % 200 {
                scribble(&both[next_random(&mut random) as usize % both.len()], &mut random);
            }
            for n in 0..3 {
                host.bus.line(n).raise();
            }
        }
        let _maybe = send(&mut pair.a.cx, a, (B, 7), &round.to_be_bytes());
        let _maybe = send(&mut pair.b.cx, b, (A, 1000), &round.to_be_bytes());
        pair.settle();
        recv_all(&mut pair.a.cx, a);
        recv_all(&mut pair.b.cx, b);
    }
    for host in [&mut pair.a, &mut pair.b] {
        let stats = host.dev.ops.ndo_get_stats64();
        assert!(stats.rx_errors > 0, "some of it was noticed: {stats:?}");
        host.end();
    }
    pair.digest()
}

stepped!(a_ring_full_of_one_lie_is_worked_off);
/// Every descriptor done, none an end; every one an end with an error; then every length too long.
fn a_ring_full_of_one_lie_is_worked_off() -> Vec<u64> {
    let mut digests = Vec::new();
    for word in [
        2048_u64 << 32 | u64::from(E1000_RXD_STAT_DD),
        u64::from(E1000_RXD_STAT_DD),
        60 << 32 | u64::from(E1000_RXD_STAT_DD | E1000_RXD_STAT_EOP | E1000_RXDEXT_STATERR_RXE),
        0xFFFF << 32 | u64::from(E1000_RXD_STAT_DD | E1000_RXD_STAT_EOP),
        u64::from(E1000_RXD_STAT_DD | E1000_RXD_STAT_EOP),
        u64::MAX,
    ] {
        let mut pair = Pair::new(setup(), setup());
        for ring in rings(&pair.b, RX) {
            for at in 0..RX as usize {
                ring.write64_release(at * 16 + 8, word);
            }
        }
        pair.b.bus.line(1).raise();
        pair.b.bus.line(2).raise();
        pair.settle();
        pair.b.end();
        pair.a.end();
        digests.push(pair.digest());
    }
    digests
}

stepped!(registers_that_lie_do_no_harm);
fn registers_that_lie_do_no_harm() -> u64 {
    let mut pair = Pair::new(setup(), setup());
    pair.acquaint();
    let a = bound(&mut pair.a.cx, 1000);
    pair.a.bus.lies.store(0xDEAD_BEEF_CAFE_F00D, Ordering::SeqCst);
    for round in 0..50_u8 {
        for n in 0..3 {
            pair.a.bus.line(n).raise();
        }
        let _maybe = send(&mut pair.a.cx, a, (B, 7), &[round]);
        pair.settle();
        let _rubbish = pair.a.dev.ops.ndo_get_stats64();
        let ethtool = pair.a.dev.ethtool.clone().expect("has ethtool");
        let _rubbish = (ethtool.get_link_settings(), ethtool.get_ethtool_stats());
    }
    dev_close(&mut pair.a.cx, &pair.a.dev);
    let _maybe = dev_open(&mut pair.a.cx, &pair.a.dev);
    dev_close(&mut pair.a.cx, &pair.a.dev);
    pair.a.bus.lies.store(0, Ordering::SeqCst);
    dev_open(&mut pair.a.cx, &pair.a.dev).expect("honest again");
    pair.settle();
    pair.one_more(3000);
    pair.a.end();
    pair.b.end();
    pair.digest()
}

/// Panics at the first packet.
#[derive(Default)]
struct Bomb(std::sync::atomic::AtomicBool);

impl PacketTap for Bomb {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, _dev: &Arc<NetDevice>) {
        consume_skb(cx, skb);
        assert!(self.0.swap(true, Ordering::SeqCst), "injected: not a failure of the test");
    }
}

stepped!(a_panic_in_a_poll_leaves_the_rings_whole);
fn a_panic_in_a_poll_leaves_the_rings_whole() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    pair.acquaint();
    let (a, b) = (bound(&mut pair.a.cx, 1000), bound(&mut pair.b.cx, 7));
    let func = PacketFunc::Tap(Arc::new(Bomb::default()) as Arc<dyn PacketTap>);
    let kind = uapi::if_ether::ETH_P_ALL;
    dev_add_pack(&mut pair.b.cx, PacketType { kind, dev: None, func });
    for n in 0..20_u8 {
        send(&mut pair.a.cx, a, (B, 7), &[n]).expect("sent");
    }
    pair.settle();
    assert_eq!(pair.b.m.contained_panics(), 1);
    // The packets of its poll were on their way together and are gone with it; the ring is as it was.
    assert_eq!(recv_all(&mut pair.b.cx, b), Vec::<Vec<u8>>::new());
    for n in 0..300_u32 {
        send(&mut pair.a.cx, a, (B, 7), &n.to_be_bytes()).expect("sent");
        pair.settle();
        assert_eq!(recv_all(&mut pair.b.cx, b), [n.to_be_bytes()]);
    }
    pair.a.end();
    exit_files(&mut pair.b.cx);
    dev_close(&mut pair.b.cx, &pair.b.dev);
    assert_eq!(pair.b.m.live_skbs(), 0, "what unwinding freed is not counted as alive");
    pair.digest()
}
