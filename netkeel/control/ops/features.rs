//! What devices do for the stack.

use super::super::wire::{Feature, Features, Refusal};
use super::{Done, Target, invalid};
use stack::net::core::dev::features::{feature_names, features_named};
use stack::net::core::dev::{
    NetDevice, NetdevFeatures, ethtool_get_features, ethtool_set_features,
};
use std::collections::BTreeMap;
use uapi::errno::Errno;

impl Target<'_> {
    pub(super) fn features(&self, dev: Option<&str>) -> Done<Features> {
        Ok(features_of(&*self.dev_or_ours(dev)?))
    }

    pub(super) fn features_set(
        &self,
        dev: Option<&str>,
        features: &BTreeMap<String, bool>,
    ) -> Done<Features> {
        let dev = self.dev_or_ours(dev)?;
        let (mut on, mut off) = (NetdevFeatures::empty(), NetdevFeatures::empty());
        for (name, wanted) in features {
            let bits = parse_feature(name)?;
            if *wanted { on |= bits } else { off |= bits }
        }
        if on.intersects(off) {
            return Err(invalid("a feature is to be on and off: name it once".to_owned()));
        }
        ethtool_set_features(&mut self.task(), &dev, on, off).map_err(|errno| {
            let names: Vec<&str> = features.keys().map(String::as_str).collect();
            let text = format!(
                "{} can't switch {}: `netkeel features dev {}` shows what is fixed",
                dev.name,
                names.join(", "),
                dev.name
            );
            Refusal::new(errno, text)
        })?;
        Ok(features_of(&dev))
    }
}

/// The features that a name stands for.
pub(crate) fn parse_feature(name: &str) -> Done<NetdevFeatures> {
    features_named(name).ok_or_else(|| {
        let known: Vec<&str> = feature_names().collect();
        Refusal::new(Errno::EINVAL, format!("no feature {name:?}: write {}", known.join(", ")))
    })
}

fn features_of(dev: &NetDevice) -> Features {
    let features = ethtool_get_features(dev).into_iter().map(|feature| {
        let (active, fixed) = (feature.active, feature.fixed);
        let told = Feature { active, fixed, requested: feature.requested };
        (feature.name.to_owned(), told)
    });
    Features { ifname: dev.name.clone(), features: features.collect() }
}
