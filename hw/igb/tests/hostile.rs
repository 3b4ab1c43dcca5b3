use super::*;

/// A generator whose sequence is fixed by its seed.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Two half words that look like descriptors often enough to reach the deep paths.
fn descriptor(r: &mut Xorshift, memory: &DmaBuf) -> (u64, u64) {
    let lo = match r.below(4) {
        0 => r.next(),
        _ => memory.bus_addr() + r.below(memory.len() + 64) as u64,
    };
    let kind = [E1000_ADVTXD_DTYP_CTXT, E1000_ADVTXD_DTYP_DATA, 0][r.below(3)];
    let cmd = (r.next() as u32 & !E1000_ADVTXD_DTYP_MASK) | kind | E1000_ADVTXD_DCMD_DEXT;
    let cmd = if r.below(4) == 0 { r.next() as u32 } else { cmd };
    (lo, r.next() << 32 | u64::from(cmd))
}

#[test]
fn random_transmit_descriptors_never_reach_outside_or_panic() {
    for seed in 1..=60u64 {
        let mut r = Xorshift(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut d, outside) = rig(1);
        let canary = d.dev.dma_alloc_coherent(4096, 64).unwrap();
        let memory = d.dev.dma_alloc_coherent(128 * 1024, 64).unwrap();
        canary.write_bytes(0, &[0x5A; 4096]).unwrap();
        for at in (0..memory.len()).step_by(8) {
            memory.write64(at, r.next());
        }
        for _ in 0..200 {
            for _ in 0..r.below(RING as usize) {
                let (lo, hi) = descriptor(&mut r, &memory);
                d.put(0, lo, hi);
            }
            d.tx_doorbell(0);
            let mut batch = FrameBatch::new();
            outside.drain(usize::MAX, &mut batch);
        }
        assert_eq!(
            d.dev.read32(E1000_TDH(0)),
            d.tx[0].next,
            "seed {seed}: it got through them all"
        );
        let mut bytes = [0; 4096];
        canary.read_bytes(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|&b| b == 0x5A));
    }
}

#[test]
fn random_register_writes_and_frames_never_panic() {
    for seed in 1..=40u64 {
        let mut r = Xorshift(seed.wrapping_mul(0xD134_2543_DE82_EF95));
        let (d, outside) = rig(2);
        let (_, lines) = Lines::new(10);
        d.dev.enable_msix(&lines).unwrap();
        let interesting: Vec<u32> = (0..16)
            .flat_map(|q| {
                [
                    E1000_RDT(q),
                    E1000_RDH(q),
                    E1000_RDLEN(q),
                    E1000_TDT(q),
                    E1000_TDLEN(q),
                    E1000_SRRCTL(q),
                ]
            })
            .chain([
                E1000_CTRL,
                E1000_RCTL,
                E1000_TCTL,
                E1000_MRQC,
                E1000_RXCSUM,
                E1000_MDIC,
                E1000_EERD,
                E1000_EIMS,
            ])
            .collect();
        for step in 0..3000u64 {
            match r.below(8) {
                0 => d.dev.write32(r.next() as u32, r.next() as u32),
                1 => d.dev.write32(r.next() as u32 & 0x1_FFFF, r.next() as u32),
                2 => {
                    d.dev.read32(r.next() as u32 & 0x1_FFFF);
                }
                3 => d.dev.config_write32(r.next() as u16 & 0xFF, r.next() as u32),
                4 => d.dev.set_master(),
                5 => {
                    let mut frame = vec![0; r.below(3000)];
                    frame.iter_mut().for_each(|b| *b = r.next() as u8);
                    if frame.len() > 30 && r.below(2) == 0 {
                        frame[..6].copy_from_slice(&[0xFF; 6]);
                        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                    }
                    outside.inject(&frame, FrameMeta::default());
                }
                6 => {
                    d.dev.advance(step * 1000);
                }
                _ => {
                    d.dev.write32(interesting[r.below(interesting.len())], r.next() as u32 & 0x3FF)
                }
            }
        }
    }
}

#[test]
fn random_receive_descriptors_only_fault() {
    for seed in 1..=40u64 {
        let mut r = Xorshift(seed.wrapping_mul(0xA076_1D64_78BD_642F));
        let (mut d, outside) = rig(1);
        for _ in 0..200 {
            for n in 0..RING as usize {
                d.rx[0].desc.write64(n * 16, r.next());
                d.rx[0].desc.write64(n * 16 + 8, r.next());
            }
            d.rx[0].next = r.below(RING as usize) as u32;
            d.rx_doorbell(0);
            inject(&outside, &plain(MAC, 14 + r.below(1500), 1));
        }
        assert!(d.dev.space().faults() > 0);
    }
}

#[test]
fn a_ring_outside_memory_stops_its_queue_only() {
    let (mut d, outside) = rig(2);
    d.dev.write32(E1000_TDBAH(0), 0x7777);
    d.send(0, &plain(MAC_B, 60, 0), 0);
    d.send(1, &plain(MAC_B, 60, 1), 0);
    assert_eq!(sent(&outside).len(), 1);
    assert!(d.dev.counters().ring_faults > 0);
}

#[test]
fn a_freed_buffer_is_not_read() {
    let (mut d, outside) = rig(1);
    let buf = d.dev.dma_alloc_coherent(2048, 64).unwrap();
    let cmd = E1000_ADVTXD_DCMD_EOP | E1000_ADVTXD_DCMD_DEXT | E1000_ADVTXD_DTYP_DATA | 100;
    for _ in 0..2 {
        d.put(0, buf.bus_addr(), u64::from(cmd));
    }
    let addr = buf.bus_addr();
    drop(buf);
    d.tx_doorbell(0);
    assert!(sent(&outside).is_empty(), "{addr:#x}");
    assert_eq!((d.dev.counters().tx_bad, d.dev.space().faults()), (2, 2));
}

#[test]
fn two_devices_on_threads_keep_going() {
    let (mut a, mut b) = pair();
    let other = std::thread::spawn(move || {
        let mut got = 0;
        for n in 0..3000u32 {
            b.send(0, &plain(MAC, 60, n as u8), 0);
            got += b.poll(0).len();
        }
        got
    });
    let mut got = 0;
    for n in 0..3000u32 {
        a.send(0, &plain(MAC_B, 60, n as u8), 0);
        got += a.poll(0).len();
    }
    got += other.join().unwrap();
    assert!(got > 0);
}
