//! `netkeel features`: what a device does for the stack, as `ethtool -k` and `-K`.

use super::{Asking, Words, checked, owned, usage};
use crate::cli::Failure;
use crate::control::ops::features::parse_feature;
use crate::control::wire::{Feature, Features, Op};
use clap::Args;
use stack::net::core::dev::features::{FEATURE_GROUPS, FEATURE_ORDER};
use std::collections::BTreeMap;
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  netkeel features                          as `ethtool -k`: those of the machine's device
  netkeel features dev lo
  netkeel features tso off                  as `ethtool -K`: segments are cut before the device
  netkeel features tx off                   sums are computed here; tso goes with it
  netkeel features dev nk0 gro off rx-udp-gro-forwarding on
  netkeel features --json | jq .[].\"rx-gro\"

Names are ethtool's: rx, tx, sg, tso, gso, gro, rxhash, or those that are shown.";

/// Show or switch what a device of a running machine does for the stack
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct FeaturesArgs {
    /// [dev D]; [dev D] NAME on|off [NAME on|off]…
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl FeaturesArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("features", &self.words);
        let (dev, verb) = words.dev_and_verb()?;
        if verb == "show" {
            let [after] = words.values(["dev"])?;
            let features = self.features(dev.or(after))?;
            return self.asking.show(&vec![features], |all| all.iter().map(text).collect());
        }
        let wanted = parse(words, verb)?;
        let before = self.features(dev)?;
        let op = Op::FeaturesSet { dev: owned(dev), features: wanted.clone() };
        let after: Features = self.asking.ask(&op)?;
        if self.asking.json {
            return self.asking.show(&vec![after], |_| String::new());
        }
        self.asking.show(&after, |after| changes(&before, after, &wanted))
    }

    fn features(&self, dev: Option<&str>) -> Result<Features, Failure> {
        self.asking.ask(&Op::FeaturesShow { dev: owned(dev) })
    }
}

/// Names, each with what it is to be.
fn parse<'a>(mut words: Words<'a>, first: &'a str) -> Result<BTreeMap<String, bool>, Failure> {
    let mut wanted = BTreeMap::new();
    let mut next = Some(first);
    while let Some(name) = next {
        checked(parse_feature(name))?;
        let on = match words.need(&format!("on or off behind {name}"))? {
            "on" => true,
            "off" => false,
            other => return Err(usage(format!("features {name} {other:?}: write on or off"))),
        };
        if wanted.insert(name.to_owned(), on).is_some() {
            return Err(usage(format!("features: {name} is there twice")));
        }
        next = words.next();
    }
    Ok(wanted)
}

fn state(feature: &Feature) -> String {
    let state = if feature.active { "on" } else { "off" };
    if feature.fixed {
        return format!("{state} [fixed]");
    }
    match feature.requested == feature.active {
        true => state.to_owned(),
        false => format!("{state} [requested {}]", if feature.requested { "on" } else { "off" }),
    }
}

/// As `ethtool -k`: groups first, each with its members, unless it is the same as its only one.
fn text(of: &Features) -> String {
    let mut text = format!("Features for {}:\n", of.ifname);
    let mut left = of.features.clone();
    for (_, group, members) in FEATURE_GROUPS {
        let found: Vec<(&str, Feature)> =
            members.iter().filter_map(|name| Some((*name, left.remove(*name)?))).collect();
        match &found[..] {
            [] => {}
            [(name, only)] if !name.starts_with("tx-") || *name == "tx-generic-segmentation" => {
                let _ = writeln!(text, "{group}: {}", state(only));
            }
            several => {
                let on = several.iter().any(|(_, feature)| feature.active);
                let _ = writeln!(text, "{group}: {}", if on { "on" } else { "off" });
                for (name, feature) in several {
                    let _ = writeln!(text, "\t{name}: {}", state(feature));
                }
            }
        }
    }
    let order = FEATURE_ORDER.iter().filter_map(|(name, _)| Some((*name, left.remove(*name)?)));
    for (name, feature) in order.collect::<Vec<_>>() {
        let _ = writeln!(text, "{name}: {}", state(&feature));
    }
    // What a newer machine has besides.
    for (name, feature) in left {
        let _ = writeln!(text, "{name}: {}", state(&feature));
    }
    text
}

/// What became otherwise than it was asked for, as `ethtool -K` tells it; nothing if all is as asked.
fn changes(before: &Features, after: &Features, wanted: &BTreeMap<String, bool>) -> String {
    let asked = |name: &str| {
        let names = FEATURE_GROUPS
            .iter()
            .filter(|(_, _, members)| members.contains(&name))
            .flat_map(|(short, long, _)| [*short, *long]);
        names.chain([name]).find_map(|known| wanted.get(known)).copied()
    };
    let mut lines = String::new();
    let mut surprising = false;
    for (name, now) in &after.features {
        let changed = before.features.get(name).is_none_or(|then| then.active != now.active);
        let state = if now.active { "on" } else { "off" };
        match asked(name) {
            None if changed => {
                surprising = true;
                let _ = writeln!(lines, "{name}: {state} [not requested]");
            }
            Some(on) if on != now.active => {
                surprising = true;
                let on = if on { "on" } else { "off" };
                let _ = writeln!(lines, "{name}: {state} [requested {on}]");
            }
            Some(_) if changed => {
                let _ = writeln!(lines, "{name}: {state}");
            }
            _ => {}
        }
    }
    if surprising { format!("Actual changes:\n{lines}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(active: bool, requested: Option<bool>) -> Feature {
        Feature { active, fixed: requested.is_none(), requested: requested.unwrap_or(active) }
    }

    fn features(of: &[(&str, Feature)]) -> Features {
        let features = of.iter().map(|(name, feature)| ((*name).to_owned(), *feature)).collect();
        Features { ifname: "nk0".to_owned(), features }
    }

    fn full() -> Features {
        features(&[
            ("rx-checksum", feature(true, None)),
            ("tx-checksum-ipv4", feature(false, None)),
            ("tx-checksum-ip-generic", feature(true, Some(true))),
            ("tx-scatter-gather", feature(true, Some(true))),
            ("tx-tcp-segmentation", feature(false, Some(true))),
            ("tx-udp-segmentation", feature(true, Some(true))),
            ("rx-gro", feature(true, Some(true))),
            ("loopback", feature(false, None)),
            ("later", feature(true, Some(true))),
        ])
    }

    #[test]
    fn features_are_shown_as_ethtool_shows_them() {
        let expected = "Features for nk0:\n\
             rx-checksumming: on [fixed]\n\
             tx-checksumming: on\n\
             \ttx-checksum-ipv4: off [fixed]\n\
             \ttx-checksum-ip-generic: on\n\
             scatter-gather: on\n\
             \ttx-scatter-gather: on\n\
             tcp-segmentation-offload: off\n\
             \ttx-tcp-segmentation: off [requested on]\n\
             generic-receive-offload: on\n\
             tx-udp-segmentation: on\n\
             loopback: off [fixed]\n\
             later: on\n";
        assert_eq!(text(&full()), expected);
    }

    #[test]
    fn only_what_nobody_asked_for_is_told() {
        let mut after = full();
        let wanted = BTreeMap::from([("tx".to_owned(), false)]);
        let off = feature(false, Some(false));
        after.features.insert("tx-checksum-ip-generic".to_owned(), off);
        assert_eq!(changes(&full(), &after, &wanted), "");
        let gone = feature(false, Some(true));
        after.features.insert("tx-udp-segmentation".to_owned(), gone);
        assert_eq!(
            changes(&full(), &after, &wanted),
            "Actual changes:\ntx-checksum-ip-generic: off\ntx-udp-segmentation: off [not requested]\n"
        );
        let wanted = BTreeMap::from([("tso".to_owned(), true)]);
        assert_eq!(
            changes(&full(), &full(), &wanted),
            "Actual changes:\ntx-tcp-segmentation: off [requested on]\n"
        );
    }
}
