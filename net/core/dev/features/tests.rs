//! Features switched as on Linux 6.18, by ethtool 6.1.

use super::*;
use crate::kernel::context::BhCx;
use crate::kernel::cpu::CpuId;
use crate::kernel::machine::Machine;
use crate::kernel::sched::TaskStruct;
use crate::kernel::testing::Still;
use crate::net::core::dev::device::DeviceSpec;
use crate::net::core::dev::{LinkStats, NetDeviceOps};
use crate::net::core::skbuff::Skb;

struct NoDriver;

impl NetDeviceOps for NoDriver {
    fn ndo_open(&self, _: &mut TaskCx, _: &Arc<NetDevice>) -> Result<(), Errno> {
        Ok(())
    }
    fn ndo_stop(&self, _: &mut TaskCx, _: &Arc<NetDevice>) {}
    fn ndo_start_xmit(
        &self,
        _: &mut BhCx<'_>,
        _: &Arc<NetDevice>,
        _: u16,
        skb: Skb,
    ) -> Result<(), Skb> {
        Err(skb)
    }
    fn ndo_get_stats64(&self) -> LinkStats {
        LinkStats::default()
    }
}

const ALL: NetdevFeatures = NetdevFeatures::HW_CSUM
    .union(NetdevFeatures::SG)
    .union(NetdevFeatures::TSO)
    .union(NetdevFeatures::GSO_UDP_L4);

/// A device that can do all of that, whose receive checksums are fixed.
fn device() -> NetDevice {
    let spec = DeviceSpec {
        name: "nk0".to_owned(),
        addr: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        flags: 0,
        kind: 1,
        features: ALL | NetdevFeatures::RXCSUM,
        hw_features: ALL,
        tx_queues: 1,
        tx_queue_len: 0,
    };
    NetDevice::new(spec, Arc::new(NoDriver), None)
}

fn with_device(test: impl FnOnce(&mut dyn FnMut(&str, bool) -> Result<(), Errno>, &NetDevice)) {
    let machine = Machine::builder().boot(Box::new(Still)).expect("boots");
    let mut cx = TaskCx::new(&machine, TaskStruct::new("test", CpuId(0)));
    let dev = device();
    let mut set = |name: &str, on: bool| {
        let named = features_named(name).expect("a feature");
        let none = NetdevFeatures::empty();
        let (on, off) = if on { (named, none) } else { (none, named) };
        ethtool_set_features(&mut cx, &dev, on, off)
    };
    test(&mut set, &dev);
}

/// Names of features that are on; with `~`, that are asked for and off all the same.
fn on(dev: &NetDevice) -> Vec<String> {
    let told = |feature: Feature| match (feature.active, feature.requested) {
        (true, _) => Some(feature.name.to_owned()),
        (false, true) => Some(format!("~{}", feature.name)),
        (false, false) => None,
    };
    ethtool_get_features(dev).into_iter().filter_map(told).collect()
}

const FULL: [&str; 7] = [
    "rx-checksum",
    "tx-checksum-ip-generic",
    "tx-scatter-gather",
    "tx-tcp-segmentation",
    "tx-generic-segmentation",
    "rx-gro",
    "tx-udp-segmentation",
];

#[test]
fn without_checksums_nothing_is_cut_by_the_device_and_fragments_stay() {
    with_device(|set, dev| {
        assert_eq!(on(dev), FULL);
        assert_eq!(set("tx", false), Ok(()));
        let without = [
            "rx-checksum",
            "tx-scatter-gather",
            "~tx-tcp-segmentation",
            "tx-generic-segmentation",
            "rx-gro",
            "~tx-udp-segmentation",
        ];
        assert_eq!(on(dev), without);
        // What is asked for now comes when it can.
        assert_eq!(set("tso", false), Ok(()));
        assert_eq!(set("tx", true), Ok(()));
        assert_eq!(
            on(dev),
            FULL.iter().filter(|name| **name != "tx-tcp-segmentation").copied().collect::<Vec<_>>()
        );
        assert_eq!(set("tso", true), Ok(()));
        assert_eq!(on(dev), FULL);
    });
}

#[test]
fn without_fragments_there_are_no_segments_but_datagrams() {
    with_device(|set, dev| {
        assert_eq!(set("sg", false), Ok(()));
        let without = [
            "rx-checksum",
            "tx-checksum-ip-generic",
            "~tx-tcp-segmentation",
            "~tx-generic-segmentation",
            "rx-gro",
            "tx-udp-segmentation",
        ];
        assert_eq!(on(dev), without);
        assert_eq!(set("sg", true), Ok(()));
        assert_eq!(on(dev), FULL);
    });
}

#[test]
fn what_is_fixed_is_refused_and_passed_over_in_company() {
    with_device(|set, dev| {
        assert_eq!(set("rx", false), Err(Errno::EOPNOTSUPP));
        assert_eq!(set("rx", true), Ok(()), "it is so already");
        assert_eq!(set("rxhash", true), Err(Errno::EOPNOTSUPP));
        assert_eq!(set("tx-checksum-ipv4", true), Err(Errno::EOPNOTSUPP));
        assert_eq!(set("tx", true), Ok(()), "one of its two can be switched");
        assert_eq!(on(dev), FULL);
        let fixed =
            |name: &str| ethtool_get_features(dev).iter().any(|f| f.name == name && f.fixed);
        assert!(fixed("rx-checksum") && fixed("rx-hashing") && !fixed("rx-udp-gro-forwarding"));
    });
}

#[test]
fn a_driver_offers_what_it_finds_and_does_not_undo_what_was_asked() {
    with_device(|set, dev| {
        dev.offer_features(NetdevFeatures::RXHASH);
        assert!(dev.features().contains(NetdevFeatures::RXHASH));
        assert_eq!(set("rxhash", false), Ok(()));
        dev.offer_features(NetdevFeatures::RXHASH);
        assert!(!dev.features().contains(NetdevFeatures::RXHASH));
    });
}

#[test]
fn every_name_stands_for_features_and_no_other_does() {
    for name in feature_names() {
        assert!(features_named(name).is_some_and(|bits| !bits.is_empty()), "{name}");
    }
    assert_eq!(features_named("scatter-gather"), features_named("sg"));
    assert_eq!(features_named("lro"), None);
    assert_eq!(features_named(""), None);
}
