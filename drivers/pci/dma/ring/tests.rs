use super::*;
use crate::pci::dma::DmaMem;

fn ring<const WORDS: usize>(len: usize, count: usize) -> Result<DmaRing<WORDS>, OutOfRange> {
    let mem = DmaMem::alloc(len, 64).unwrap();
    DmaRing::new(DmaBuf::new(mem, 0x1000, || ()), count)
}

#[test]
fn a_ring_is_made_only_of_memory_that_holds_all_slots_aligned() {
    // The lie this catches: a slot beyond the window, an overflow, or words that are not aligned.
    assert!(ring::<2>(160, 10).is_ok());
    assert_eq!(ring::<2>(159, 10).unwrap_err(), OutOfRange);
    assert_eq!(ring::<2>(160, usize::MAX / 8).unwrap_err(), OutOfRange);
    let mem = DmaMem::alloc(64, 64).unwrap();
    let whole = DmaBuf::new(mem, 0, || ());
    assert!(DmaRing::<2>::new(whole.slice(8, 48).unwrap(), 3).is_ok());
    assert!(DmaRing::<2>::new(whole.slice(8, 48).unwrap(), 4).is_err());
    assert!(DmaRing::<2>::new(whole.slice(4, 48).unwrap(), 3).is_err());
}

#[test]
fn a_slot_is_reached_and_no_other() {
    // The lie this catches: a wrong address, or a bound that is not the ring's.
    let ring = ring::<3>(24 * 5, 4).unwrap();
    ring.buf().write_bytes(0, &[0xEE; 120]).unwrap();
    for slot in [4, 5, usize::MAX, usize::MAX / 24, 1 << 60] {
        ring.write_pair(slot, 1, 2);
        assert_eq!((ring.read_pair_acquire(slot), ring.read_high_acquire(slot)), ((0, 0), 0));
        assert_eq!(ring.write_bytes(slot, &[0; 3]), Err(OutOfRange));
        assert_eq!(ring.read_bytes(slot, &mut [0; 3]), Err(OutOfRange));
    }
    assert_eq!(ring.write_bytes(3, &[0; 25]), Err(OutOfRange));
    assert_eq!(ring.read_bytes(0, &mut [0; 25]), Err(OutOfRange));
    let mut all = [0; 120];
    ring.buf().read_bytes(0, &mut all).unwrap();
    assert!(all.iter().all(|&b| b == 0xEE));

    ring.write_pair(2, 0x0807_0605_0403_0201, 0x100F_0E0D_0C0B_0A09);
    ring.buf().read_bytes(0, &mut all).unwrap();
    let expected: Vec<u8> = (1..=16).collect();
    assert_eq!(all[48..64], expected[..]);
    assert!(all[..48].iter().chain(&all[64..]).all(|&b| b == 0xEE));
    assert_eq!(ring.read_pair_acquire(2), (0x0807_0605_0403_0201, 0x100F_0E0D_0C0B_0A09));
    assert_eq!(ring.read_high_acquire(2), 0x100F_0E0D_0C0B_0A09);

    ring.write_bytes(3, &[7; 24]).unwrap();
    let mut slot = [0; 24];
    ring.read_bytes(3, &mut slot).unwrap();
    assert_eq!(slot, [7; 24]);
    ring.buf().read_bytes(0, &mut all).unwrap();
    assert!(all[64..72].iter().chain(&all[96..]).all(|&b| b == 0xEE));
}

#[test]
fn slots_follow_one_another_around_the_end() {
    let ring = ring::<3>(24 * 5, 5).unwrap();
    for slot in 0..5 {
        assert_eq!(ring.after(slot), (slot + 1) % 5);
        (0..=5).for_each(|n| assert_eq!(ring.ahead(slot, n), (slot + n) % 5, "{n} behind {slot}"));
    }
}

#[test]
fn slots_follow_each_other_around_and_have_addresses() {
    let ring = ring::<256>(3 * 2048, 3).unwrap();
    assert_eq!([0, 1, 2].map(|slot| ring.after(slot)), [1, 2, 0]);
    assert_eq!(ring.bus_addr(2), 0x1000 + 4096);
    assert_eq!(ring.count(), 3);
}
