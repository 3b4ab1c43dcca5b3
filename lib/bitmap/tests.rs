use proptest::prelude::*;

use super::*;

#[test]
fn set_clear_and_test() {
    let map = AtomicBitmap::<2>::new();
    assert!(!map.set(3));
    assert!(map.set(3));
    assert!(!map.set(127));
    assert!(map.set(128), "out of range reads as already set");
    assert!(!map.test(128) && !map.clear(usize::MAX));
    assert!(map.test(3) && map.test(127));
    assert_eq!(format!("{map:?}"), "{3, 127}");
    assert!(map.clear(3));
    assert!(!map.clear(3));
}

#[test]
fn take_all_is_ascending_and_empties() {
    let map = AtomicBitmap::<3>::new();
    for bit in [190, 0, 64, 63, 5] {
        map.set(bit);
    }
    assert_eq!(map.take_all().collect::<Vec<_>>(), [0, 5, 63, 64, 190]);
    assert_eq!(map.take_all().next(), None);
}

#[test]
fn take_all_loses_nothing_between_threads() {
    let map = AtomicBitmap::<2>::new();
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let setters: Vec<_> = (0..4)
            .map(|t| {
                let map = &map;
                scope.spawn(move || (0..1000).filter(|i| !map.set((t * 31 + i) % 128)).count())
            })
            .collect();
        scope.spawn(|| {
            for _ in 0..1000 {
                taken.fetch_add(map.take_all().count() as u64, Ordering::Relaxed);
            }
        });
        let set: usize = setters.into_iter().map(|s| s.join().unwrap_or(0)).sum();
        taken.fetch_sub(set as u64, Ordering::Relaxed);
    });
    taken.fetch_add(map.take_all().count() as u64, Ordering::Relaxed);
    assert_eq!(taken.into_inner(), 0);
}

#[test]
fn mask_hex() {
    assert_eq!("f".parse(), Ok(CpuMask::from_bits(0xf)));
    assert_eq!("ff,ffffffff\n".parse(), Ok(CpuMask::from_bits(0xff_ffff_ffff)));
    assert_eq!("00000000,00000003".parse(), Ok(CpuMask::from_bits(3)));
    assert_eq!("0,0,1".parse(), Ok(CpuMask::from_bits(1)));
    assert_eq!(CpuMask::from_bits(0xff_0000_000f).to_string(), "ff,0000000f");
    assert_eq!(CpuMask::default().to_string(), "0");
    let refused = |s: &str| s.parse::<CpuMask>().unwrap_err().to_string();
    assert_eq!(refused("f,xyz"), "`xyz` is not a group of 1 to 8 hexadecimal digits");
    assert_eq!(refused("123456789"), "`123456789` names a processor above 63");
    assert_eq!(CpuMask::from_bits(1).to_mask(2), "1");
    assert_eq!(CpuMask::from_bits(1).to_mask(32), "00000001");
    assert_eq!(CpuMask::from_bits(1).to_mask(33), "0,00000001");
    assert_eq!(CpuMask::from_bits(u64::MAX).to_mask(64), "ffffffff,ffffffff");
    assert_eq!(refused("f,,1"), "empty part in `f,,1`");
    assert_eq!(refused(""), "empty part in ``");
    assert_eq!(refused("1,0,0"), "`1,0,0` names a processor above 63");
}

#[test]
fn mask_list() {
    let mask = CpuMask::parse_list("0-2,5");
    assert_eq!(mask, Ok(CpuMask::from_bits(0b100111)));
    assert_eq!(CpuMask::parse_list("0-63"), Ok(CpuMask::from_bits(u64::MAX)));
    assert_eq!(CpuMask::from_bits(u64::MAX).to_list(), "0-63");
    assert_eq!(CpuMask::from_bits(0b100111).to_list(), "0-2,5");
    let refused = |s: &str| CpuMask::parse_list(s).unwrap_err().to_string();
    assert_eq!(refused("0,64"), "`64` names a processor above 63");
    assert_eq!(refused("3-1"), "range `3-1` ends before it starts");
    assert_eq!(refused("1,a-2"), "`a-2` is neither a processor number nor a range");
    assert_eq!(refused("-"), "`-` is neither a processor number nor a range");
    assert_eq!(refused("1,"), "empty part in `1,`");
    assert_eq!(
        refused("99999999999999999999"),
        "`99999999999999999999` names a processor above 63"
    );
}

#[test]
fn mask_members() {
    let mask = CpuMask::from_bits(1 << 63 | 0b110);
    assert_eq!(mask.first(), Some(1));
    assert_eq!(mask.iter().collect::<Vec<_>>(), [1, 2, 63]);
    assert!(mask.contains(63) && !mask.contains(64) && !mask.is_empty());
    assert_eq!(CpuMask::default().first(), None);
}

proptest! {
    #[test]
    fn mask_round_trips(bits: u64) {
        let mask = CpuMask::from_bits(bits);
        prop_assert_eq!(mask.to_string().parse(), Ok(mask));
        prop_assert_eq!(CpuMask::parse_list(&mask.to_list()), Ok(mask));
    }

    #[test]
    fn mask_parsers_never_panic(text: String, plain in "[0-9a-f,-]{0,20}") {
        for text in [text, plain] {
            let _ = text.parse::<CpuMask>();
            let _ = CpuMask::parse_list(&text);
        }
    }
}
