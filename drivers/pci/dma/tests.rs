use super::*;

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) + salt) as u8).collect()
}

#[test]
fn a_copy_writes_its_bytes_and_no_other() {
    // The lie this catches: a wrong tail or length in the written-out copy.
    const LEN: usize = 700;
    for len in (0..260).chain([511, 512, 513, 600]) {
        for offset in 0..20 {
            let mem = DmaMem::alloc(LEN, 64).unwrap();
            mem.write_bytes(0, &[0xEE; LEN]).unwrap();
            let bytes = pattern(len, offset);
            mem.write_bytes(offset, &bytes).unwrap();
            let mut all = vec![0; LEN];
            mem.read_bytes(0, &mut all).unwrap();
            assert_eq!(&all[offset..offset + len], &bytes[..], "len {len} offset {offset}");
            assert!(
                all[..offset].iter().chain(&all[offset + len..]).all(|&b| b == 0xEE),
                "len {len} offset {offset}"
            );
            let mut back = vec![0xDD; len + 40];
            mem.read_bytes(offset, &mut back[20..20 + len]).unwrap();
            assert_eq!(&back[20..20 + len], &bytes[..]);
            assert!(back[..20].iter().chain(&back[20 + len..]).all(|&b| b == 0xDD));
        }
    }
}

#[test]
fn nothing_outside_the_window_is_reached() {
    // The lie this catches: a bound that overflows, or that is the allocation's and not the window's.
    let mem = DmaMem::alloc(256, 64).unwrap();
    mem.write_bytes(0, &[0x55; 256]).unwrap();
    let mid = mem.slice(64, 64).unwrap();
    for offset in [64, 61, 63, 128, 4096, usize::MAX, usize::MAX - 3, usize::MAX - 7, 1 << 63] {
        mid.write32(offset, !0);
        mid.write64(offset, !0);
        mid.write32_release(offset, !0);
        mid.write64_release(offset, !0);
        assert_eq!((mid.read32(offset), mid.read64(offset)), (0, 0), "offset {offset:#x}");
        assert_eq!((mid.read32_acquire(offset), mid.read64_acquire(offset)), (0, 0));
        assert_eq!(mid.write_bytes(offset, &[0; 5]), Err(OutOfRange));
        assert_eq!(mid.read_bytes(offset, &mut [0; 5]), Err(OutOfRange));
    }
    assert_eq!(mid.write_bytes(0, &[0; 65]), Err(OutOfRange));
    assert_eq!(mid.write_bytes(64, &[]), Ok(()));
    assert!(mid.slice(60, 5).is_none());
    assert!(mid.slice(usize::MAX, 1).is_none());
    assert_eq!(mid.slice(64, 0).map(|m| m.is_empty()), Some(true));
    let mut all = [0; 256];
    mem.read_bytes(0, &mut all).unwrap();
    assert!(all.iter().all(|&b| b == 0x55));
}

#[test]
fn scalars_are_little_endian_and_aligned() {
    let mem = DmaMem::alloc(16, 16).unwrap();
    mem.write64(8, 0x0807_0605_0403_0201);
    let mut raw = [0; 8];
    mem.read_bytes(8, &mut raw).unwrap();
    assert_eq!(raw, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(mem.read32(12), 0x0807_0605);
    assert_eq!(mem.read32(9), 0, "unaligned");
    assert_eq!(mem.read64(4), 0, "unaligned");
    mem.write32(2, !0);
    assert_eq!(mem.read64(0), 0);
}

#[test]
fn memory_outlives_every_handle_but_no_longer() {
    use std::sync::atomic::AtomicUsize;
    // The lie this catches: a window that does not keep its memory.
    struct Owner {
        drops: Arc<AtomicUsize>,
        _words: Vec<u64>,
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.drops.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let mut words = vec![0u64; 8];
    let ptr = NonNull::new(words.as_mut_ptr().cast::<u8>()).unwrap();
    let owner = Arc::new(Owner { drops: Arc::clone(&drops), _words: words });
    // SAFETY: the vector's heap block is valid while the owner lives, and nobody touches the vector.
    let mem = unsafe { DmaMem::from_raw_parts(ptr, 64, owner) };
    let part = mem.slice(8, 8).unwrap();
    let buf = DmaBuf::new(part, 0x1000, || ());
    drop(mem);
    buf.write64(0, 7);
    assert_eq!((buf.read64(0), drops.load(Ordering::Relaxed)), (7, 0));
    drop(buf);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn release_and_acquire_hand_a_buffer_over_between_threads() {
    // The lie this catches: a Send or Sync that does not hold, or an ownership word that orders nothing.
    let mem = DmaMem::alloc(4096, 64).unwrap();
    let device = mem.clone();
    let worker = std::thread::spawn(move || {
        for round in 1..=2000u32 {
            while device.read32_acquire(0) != round * 2 - 1 {
                std::thread::yield_now();
            }
            let mut data = [0; 100];
            device.read_bytes(64, &mut data).unwrap();
            assert!(data.iter().all(|&b| b == round as u8), "round {round}");
            device.write_bytes(200, &[!(round as u8); 100]).unwrap();
            device.write32_release(0, round * 2);
        }
    });
    for round in 1..=2000u32 {
        mem.write_bytes(64, &[round as u8; 100]).unwrap();
        mem.write32_release(0, round * 2 - 1);
        while mem.read32_acquire(0) != round * 2 && !worker.is_finished() {
            std::thread::yield_now();
        }
        let mut data = [0; 100];
        mem.read_bytes(200, &mut data).unwrap();
        assert!(data.iter().all(|&b| b == !(round as u8)), "round {round}");
    }
    worker.join().unwrap();
}

#[test]
fn impossible_requests_are_refused() {
    assert_eq!(DmaMem::alloc(0, 64).unwrap_err(), DmaError::Invalid);
    assert_eq!(DmaMem::alloc(64, 3).unwrap_err(), DmaError::Invalid);
    assert_eq!(DmaMem::alloc(64, 4 << 20).unwrap_err(), DmaError::Invalid);
    assert_eq!(DmaMem::alloc(usize::MAX, 64).unwrap_err(), DmaError::Invalid);
    let mem = DmaMem::alloc(10, 4096).unwrap();
    assert_eq!(mem.len(), 10);
    assert_eq!(mem.ptr.as_ptr().addr() % 4096, 0);
}
