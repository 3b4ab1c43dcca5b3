//! What a device does for the stack, and how that is switched.
//!
//! linux: net/core/dev.c, net/ethtool/common.c (`netdev_features_strings`), net/ethtool/features.c. Key types:
//! [`NetdevFeatures`], [`Feature`]. Contexts: reading in any; switching in tasks, under `class::Rtnl`.
//! Invariant: what is on is what was asked for, less what can't be without another that is off.

use super::NetDevice;
use crate::kernel::context::TaskCx;
use bitflags::bitflags;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uapi::errno::Errno;

bitflags! {
    /// What a device can do for the stack.
    ///
    /// linux: include/linux/netdev_features.h:NETIF_F_SG
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct NetdevFeatures: u64 {
        /// Sends packets with fragments.
        const SG = 1 << 0;
        /// Fills in TCP and UDP checksums over IPv4.
        const IP_CSUM = 1 << 1;
        /// Fills in any checksum.
        const HW_CSUM = 1 << 3;
        /// Cuts TCP over IPv4.
        const TSO = 1 << 16;
        /// The driver locks for itself: no queue lock is taken.
        const LLTX = 1 << 12;
        /// Received checksums are checked.
        const RXCSUM = 1 << 40;
        /// A flow's hash comes with each packet.
        const RXHASH = 1 << 41;
        /// Segments are cut in software where the device does not.
        const GSO = 1 << 11;
        /// Merges what belongs together before it goes up.
        const GRO = 1 << 14;
        /// Merges datagrams, too, that no socket of this machine gets.
        const GRO_UDP_FWD = 1 << 43;
        /// Cannot leave the machine.
        const LOOPBACK = 1 << 42;
        /// Cuts UDP over IPv4.
        const GSO_UDP_L4 = 1 << 26;
    }
}

/// What can be switched on any device.
///
/// linux: include/linux/netdev_features.h:NETIF_F_SOFT_FEATURES
const SOFT_FEATURES: NetdevFeatures = NetdevFeatures::GSO.union(NetdevFeatures::GRO);

/// The same, off at first.
///
/// linux: include/linux/netdev_features.h:NETIF_F_SOFT_FEATURES_OFF
const SOFT_FEATURES_OFF: NetdevFeatures = NetdevFeatures::GRO_UDP_FWD;

/// Checksums of what is sent.
///
/// linux: include/linux/netdev_features.h:NETIF_F_CSUM_MASK
const CSUM_MASK: NetdevFeatures = NetdevFeatures::IP_CSUM.union(NetdevFeatures::HW_CSUM);

/// A device's features: words that anybody reads, changed under `class::Rtnl`.
pub(super) struct FeatureBits {
    /// Those that are on.
    active: AtomicU64,
    /// Those that can be switched (`hw_features`).
    hw: AtomicU64,
    /// Those that were asked for (`wanted_features`).
    wanted: AtomicU64,
}

impl FeatureBits {
    pub(super) fn new(features: NetdevFeatures, hw: NetdevFeatures) -> Self {
        let features = features | SOFT_FEATURES;
        let hw = hw | SOFT_FEATURES | SOFT_FEATURES_OFF;
        let word = |bits: NetdevFeatures| AtomicU64::new(bits.bits());
        Self { active: word(features), hw: word(hw), wanted: word(features & hw) }
    }

    #[inline]
    pub(super) fn active(&self) -> NetdevFeatures {
        NetdevFeatures::from_bits_retain(self.active.load(Ordering::Relaxed))
    }

    pub(super) fn set_active(&self, features: NetdevFeatures) {
        self.active.store(features.bits(), Ordering::Relaxed);
    }

    fn hw(&self) -> NetdevFeatures {
        NetdevFeatures::from_bits_retain(self.hw.load(Ordering::Relaxed))
    }

    fn wanted(&self) -> NetdevFeatures {
        NetdevFeatures::from_bits_retain(self.wanted.load(Ordering::Relaxed))
    }
}

/// A feature as ethtool names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// It is on.
    pub active: bool,
    /// It is to be: off all the same, if it can't be without another.
    pub requested: bool,
    /// It can't be switched.
    pub fixed: bool,
}

/// Features by ethtool's names, in its order.
///
/// linux: net/ethtool/common.c:netdev_features_strings
pub const FEATURE_ORDER: &[(&str, NetdevFeatures)] = &[
    ("rx-checksum", NetdevFeatures::RXCSUM),
    ("tx-checksum-ipv4", NetdevFeatures::IP_CSUM),
    ("tx-checksum-ip-generic", NetdevFeatures::HW_CSUM),
    ("tx-scatter-gather", NetdevFeatures::SG),
    ("tx-tcp-segmentation", NetdevFeatures::TSO),
    ("tx-generic-segmentation", NetdevFeatures::GSO),
    ("rx-gro", NetdevFeatures::GRO),
    ("rx-hashing", NetdevFeatures::RXHASH),
    ("tx-udp-segmentation", NetdevFeatures::GSO_UDP_L4),
    ("rx-udp-gro-forwarding", NetdevFeatures::GRO_UDP_FWD),
    ("loopback", NetdevFeatures::LOOPBACK),
];

/// Groups of features by the names that `ethtool -k` shows and the short ones that `ethtool -K` takes.
pub const FEATURE_GROUPS: &[(&str, &str, &[&str])] = &[
    ("rx", "rx-checksumming", &["rx-checksum"]),
    ("tx", "tx-checksumming", &["tx-checksum-ipv4", "tx-checksum-ip-generic"]),
    ("sg", "scatter-gather", &["tx-scatter-gather"]),
    ("tso", "tcp-segmentation-offload", &["tx-tcp-segmentation"]),
    ("gso", "generic-segmentation-offload", &["tx-generic-segmentation"]),
    ("gro", "generic-receive-offload", &["rx-gro"]),
    ("rxhash", "receive-hashing", &["rx-hashing"]),
];

/// The features that a name stands for; `None`: there is no such.
#[must_use]
pub fn features_named(name: &str) -> Option<NetdevFeatures> {
    let one =
        |name: &str| FEATURE_ORDER.iter().find(|(known, _)| *known == name).map(|(_, bits)| *bits);
    match FEATURE_GROUPS.iter().find(|(short, long, _)| [*short, *long].contains(&name)) {
        Some((_, _, members)) => Some(
            members
                .iter()
                .filter_map(|member| one(member))
                .fold(NetdevFeatures::empty(), |all, bits| all | bits),
        ),
        None => one(name),
    }
}

/// The names that [`features_named`] knows: short ones of groups, then those of features.
pub fn feature_names() -> impl Iterator<Item = &'static str> {
    let groups = FEATURE_GROUPS.iter().map(|(short, ..)| *short);
    groups.chain(FEATURE_ORDER.iter().map(|(name, _)| *name))
}

/// What a device can, does and is asked to.
///
/// linux: net/ethtool/features.c:ethnl_get_features
#[must_use]
pub fn ethtool_get_features(dev: &NetDevice) -> Vec<Feature> {
    let bits = dev.feature_bits();
    let (active, hw) = (bits.active(), bits.hw());
    let requested = (active - hw) | (bits.wanted() & hw);
    let feature = |(name, bit): &(&'static str, NetdevFeatures)| Feature {
        name,
        active: active.contains(*bit),
        requested: requested.contains(*bit),
        fixed: !hw.contains(*bit),
    };
    FEATURE_ORDER.iter().map(feature).collect()
}

/// Asks a device for features (`on`) and to do without others (`off`); running flows follow at their next packet.
/// What can't be switched is passed over if others can. Context: task.
///
/// # Errors
/// EOPNOTSUPP when none of them can be switched and not all are so already.
///
/// linux: net/ethtool/features.c:ethnl_set_features
pub fn ethtool_set_features(
    cx: &mut TaskCx,
    dev: &NetDevice,
    on: NetdevFeatures,
    off: NetdevFeatures,
) -> Result<(), Errno> {
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    let bits = dev.feature_bits();
    let hw = bits.hw();
    let so_already = bits.active().contains(on) && !bits.active().intersects(off);
    if !hw.intersects(on | off) && !so_already {
        return Err(Errno::EOPNOTSUPP);
    }
    let wanted = (bits.wanted() - off) | (on & hw);
    bits.wanted.store(wanted.bits(), Ordering::Relaxed);
    __netdev_update_features(dev);
    Ok(())
}

/// Makes a device's features those that were asked for, as far as they go together.
///
/// linux: net/core/dev.c:__netdev_update_features
fn __netdev_update_features(dev: &NetDevice) {
    let bits = dev.feature_bits();
    let asked = (bits.active() - bits.hw()) | (bits.wanted() & bits.hw());
    bits.set_active(netdev_fix_features(asked));
}

/// Leaves out what can't be without another that is not there.
///
/// linux: net/core/dev.c:netdev_fix_features
fn netdev_fix_features(mut features: NetdevFeatures) -> NetdevFeatures {
    if features.contains(NetdevFeatures::HW_CSUM) {
        features -= NetdevFeatures::IP_CSUM;
    }
    if !features.contains(NetdevFeatures::SG) {
        features -= NetdevFeatures::TSO | NetdevFeatures::GSO;
    }
    if !features.intersects(CSUM_MASK) {
        features -= NetdevFeatures::TSO | NetdevFeatures::GSO_UDP_L4;
    }
    features
}

impl NetDevice {
    /// The driver has found that it can do this, too: switched on the first time, and as it was asked for after.
    /// Context: task, under `class::Rtnl`.
    pub fn offer_features(&self, more: NetdevFeatures) {
        let bits = self.feature_bits();
        let new = more - bits.hw();
        bits.hw.fetch_or(new.bits(), Ordering::Relaxed);
        bits.wanted.fetch_or(new.bits(), Ordering::Relaxed);
        __netdev_update_features(self);
    }
}

#[cfg(test)]
mod tests;
