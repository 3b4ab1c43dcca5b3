//! Tables of routes: order within a prefix, removal, flushing, copies.

use super::*;

fn by(dev: u16, metric: u32, tos: u8) -> FibInfo {
    FibInfo { dev: DevId(dev), metric, tos, ..FibInfo::default() }
}

fn order(tables: &FibTables) -> Vec<(u8, u32)> {
    tables.dump().iter().map(|entry| (entry.info.tos, entry.info.metric)).collect()
}

#[test]
fn routes_of_a_prefix_are_kept_by_tos_then_metric() {
    let mut tables = FibTables::default();
    for (metric, tos) in [(10, 0), (5, 0), (7, 16), (5, 8), (1, 0)] {
        assert!(tables.insert(FibTable::Main, 0x0a00_0000, 8, by(1, metric, tos)));
    }
    assert!(!tables.insert(FibTable::Main, 0x0a00_0000, 8, by(1, 5, 0)), "it stands there");
    assert_eq!(order(&tables), [(16, 7), (8, 5), (0, 1), (0, 5), (0, 10)]);
    assert!(tables.remove(FibTable::Main, 0x0a00_0000, 8, &by(1, 5, 0)));
    assert!(!tables.remove(FibTable::Main, 0x0a00_0000, 8, &by(1, 5, 0)), "it is gone");
    assert_eq!(order(&tables), [(16, 7), (8, 5), (0, 1), (0, 10)]);
}

#[test]
fn a_device_takes_its_routes_along_and_no_others() {
    let mut tables = FibTables::default();
    tables.insert(FibTable::Main, 0, 0, by(1, 0, 0));
    tables.insert(FibTable::Main, 0, 0, by(2, 1, 0));
    tables.insert(FibTable::Local, 0x0a00_0001, 32, by(2, 0, 0));
    tables.insert(FibTable::Default, 0x0b00_0000, 8, by(2, 0, 0));
    let copy = tables.clone();
    tables.flush(|info| info.dev == DevId(2));
    let left = tables.dump();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].table, left[0].info.dev), (FibTable::Main, DevId(1)));
    assert_eq!(copy.dump().len(), 4, "a copy does not change");
}

#[test]
fn host_bits_do_not_make_another_prefix() {
    let mut tables = FibTables::default();
    assert!(tables.insert(FibTable::Main, 0x0a01_0203, 8, by(1, 0, 0)));
    assert!(!tables.insert(FibTable::Main, 0x0aff_ffff, 8, by(1, 0, 0)));
    assert_eq!(tables.dump()[0].prefix, 0x0a00_0000);
}

#[test]
fn nothing_is_found_by_a_device_that_is_not_there() {
    let mut net = NetTables::default();
    net.fib.insert(FibTable::Main, 0, 0, by(3, 0, 0));
    let flow = FibLookup { daddr: 0x0808_0808, ..FibLookup::default() };
    assert_eq!(fib_lookup(&net, &flow), Err(Errno::ENETUNREACH));
    let kinds = [
        (RTN_UNREACHABLE, Errno::EHOSTUNREACH),
        (RTN_PROHIBIT, Errno::EACCES),
        (RTN_BLACKHOLE, Errno::EINVAL),
        (RTN_THROW, Errno::ENETUNREACH),
    ];
    for (kind, errno) in kinds {
        let mut net = NetTables::default();
        net.fib.insert(FibTable::Main, 0x0800_0000, 8, FibInfo { kind, ..FibInfo::default() });
        assert_eq!(fib_lookup(&net, &flow), Err(errno), "type {kind}");
    }
}
