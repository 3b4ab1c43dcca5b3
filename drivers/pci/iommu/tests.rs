use super::*;

#[test]
fn an_address_reaches_its_region_only() {
    let space = DmaSpace::new(1 << 20);
    let (a, b) = (space.alloc(100, 64).unwrap(), space.alloc(4096, 4096).unwrap());
    assert!(a.bus_addr() > u64::from(u32::MAX));
    assert_eq!(b.bus_addr() % 4096, 0);
    let mut tlb = Iotlb::default();
    a.write32(4, 0xA);
    b.write32(4, 0xB);
    for (buf, want) in [(&a, 0xA), (&b, 0xB), (&a, 0xA)] {
        let (mem, at) = tlb.get(&space, buf.bus_addr() + 4, 4).unwrap();
        assert_eq!(mem.read32(at), want);
    }
    assert_eq!(space.faults(), 0);
    for (bus, len) in [
        (a.bus_addr() + 97, 4),
        (a.bus_addr() - 1, 4),
        (a.bus_addr() + 100, 1),
        (0, 1),
        (u64::MAX, 1),
        (u64::MAX, usize::MAX),
        (a.bus_addr(), usize::MAX),
    ] {
        assert!(tlb.get(&space, bus, len).is_none(), "{bus:#x} {len}");
    }
    assert_eq!(space.faults(), 7);
}

#[test]
fn freed_memory_is_unreachable_at_once_and_its_address_is_not_reused() {
    let space = DmaSpace::new(1 << 20);
    let mut tlb = Iotlb::default();
    let buf = space.alloc(64, 64).unwrap();
    let bus = buf.bus_addr();
    assert!(tlb.get(&space, bus, 64).is_some());
    let part = buf.slice(0, 8).unwrap();
    drop(buf);
    assert!(tlb.get(&space, bus, 64).is_some(), "a part keeps the whole mapped");
    drop(part);
    assert!(tlb.get(&space, bus, 64).is_none());
    assert_eq!(space.used(), 0);
    assert!(space.alloc(64, 64).unwrap().bus_addr() > bus);
}

#[test]
fn the_limit_holds_and_a_refusal_costs_nothing() {
    let space = DmaSpace::new(1000);
    let buf = space.alloc(900, 64).unwrap();
    assert_eq!(space.alloc(101, 64).unwrap_err(), DmaError::NoMemory);
    assert_eq!(space.alloc(50, 3).unwrap_err(), DmaError::Invalid);
    assert_eq!(space.alloc(usize::MAX, 64).unwrap_err(), DmaError::NoMemory);
    assert_eq!(space.used(), 900);
    drop(buf);
    assert!(space.alloc(1000, 64).is_ok());
}

#[test]
fn more_regions_than_entries_still_resolve() {
    let space = DmaSpace::new(1 << 20);
    let bufs: Vec<_> = (0..9).map(|_| space.alloc(64, 64).unwrap()).collect();
    let mut tlb = Iotlb::default();
    for round in 0..3u32 {
        for (i, buf) in bufs.iter().enumerate() {
            let (mem, at) = tlb.get(&space, buf.bus_addr(), 64).unwrap();
            mem.write32(at, round * 100 + i as u32);
            assert_eq!(buf.read32(0), round * 100 + i as u32);
        }
    }
}
