//! Every scene there is, one after the other, and the stations that are in none of them.

use super::text;
use crate::cli::Failure;
use crate::scenario::{self, Setup, Subject, TcpScenario};
use clap::ValueEnum;
use stack::kernel::trace::events::Point;
use std::collections::BTreeSet;
use std::io::Write;

/// Octets of a datagram that becomes fragments.
const LONG: u16 = 4000;
/// Columns of the list of stations, and characters in each.
const COLUMNS: usize = 3;
const WIDTH: usize = 34;

/// What is walked, each with how it is asked for: every subject, a long datagram, every scenario of TCP.
pub fn setups(base: &Setup) -> Vec<(String, Setup)> {
    let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    let mut all = Vec::new();
    for &subject in Subject::value_variants() {
        let setup = Setup { subject, scenario: None, size: None, ..*base };
        let asked = format!("netkeel walk {}", name(&|| subject.to_possible_value()));
        all.push((asked.clone(), setup));
        if subject == Subject::Udp {
            all.push((format!("{asked} --size {LONG}"), Setup { size: Some(LONG), ..setup }));
        }
        if subject == Subject::Tcp {
            for &scenario in TcpScenario::value_variants() {
                let what = name(&|| scenario.to_possible_value());
                let setup = Setup { scenario: Some(scenario), ..setup };
                all.push((format!("{asked} --scenario {what}"), setup));
            }
        }
    }
    all
}

/// Plays and writes them, then the stations that none shows.
///
/// # Errors
/// Those of the scenes, and of `out`.
pub fn write(out: &mut dyn Write, base: &Setup, options: text::Options) -> Result<(), Failure> {
    let unwritten = |error| Failure::Other(format!("the walk can't be written: {error}"));
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (asked, setup) in setups(base) {
        let scene = scenario::run(&setup)?;
        seen.extend(scene.records.iter().map(|(_, record)| record.point.name()));
        writeln!(out, "━━ {asked}").map_err(unwritten)?;
        super::write(out, &scene, super::Format::Text, options).map_err(unwritten)?;
        writeln!(out).map_err(unwritten)?;
    }
    let unseen: Vec<&str> =
        Point::ALL.iter().map(|point| point.name()).filter(|name| !seen.contains(name)).collect();
    let (unseen_len, all) = (unseen.len(), Point::ALL.len());
    writeln!(
        out,
        "{} of {all} stations are in these walks. In none of them: what happens at boot, on other machines' \
         mistakes and on losses; {unseen_len} stations:",
        all - unseen_len
    )
    .map_err(unwritten)?;
    for line in unseen.chunks(COLUMNS) {
        let line: String = line.iter().map(|name| format!("{name:<WIDTH$}")).collect();
        writeln!(out, "  {}", line.trim_end()).map_err(unwritten)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_is_walked_and_what_none_shows_is_named() {
        let mut out = Vec::new();
        write(&mut out, &Setup::default(), text::Options::default()).expect("it is written");
        let text = String::from_utf8(out).expect("text");
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("━━ ")).collect();
        assert_eq!(headings.len(), setups(&Setup::default()).len());
        let (walks, rest) = text.split_once("stations are in these walks").expect("the summary");
        let (said, list) = rest.split_once("stations:\n").expect("the list");
        let unseen: BTreeSet<&str> = list.split_whitespace().collect();
        assert!(said.ends_with(&format!(" {} ", unseen.len())), "{said}");
        let shown: BTreeSet<&str> = walks.split_whitespace().collect();
        assert_eq!(unseen.intersection(&shown).next(), None);
        assert!(unseen.iter().all(|name| Point::ALL.iter().any(|point| point.name() == *name)));
        for wanted in [
            "ip_forward",
            "igmp_rcv",
            "ping_rcv",
            "raw_rcv",
            "packet_snd",
            "veth_xmit",
            "ip_fragment",
            "tcp_v4_rcv",
        ] {
            assert!(!unseen.contains(wanted), "{wanted}");
        }
    }
}
