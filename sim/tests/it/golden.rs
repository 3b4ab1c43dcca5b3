//! Golden walks: what a test's packets passed, compared with a committed file.
//!
//! `NETKEEL_BLESS=1 cargo test -p netkeel-sim` writes the files anew; the diff is for review.

use sim::World;
use stack::kernel::trace::drop_reason::DropReason;
use stack::kernel::trace::events::Point;
use stack::kernel::trace::{Record, WalkId};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Short names for ids, in the order they appear.
#[derive(Default)]
struct Names(BTreeMap<WalkId, String>, usize, usize);

impl Names {
    fn of(&mut self, id: WalkId, packet: bool) -> String {
        if let Some(name) = self.0.get(&id) {
            return name.clone();
        }
        let (count, letter) = if packet { (&mut self.1, 'p') } else { (&mut self.2, 's') };
        *count += 1;
        let name = format!("{letter}{count}");
        self.0.insert(id, name.clone());
        name
    }
}

/// The record is of a packet, not of a span.
pub fn is_packet(record: &Record) -> bool {
    record.len != 0 || record.dev != 0 || record.link().is_some()
}

/// A walk as lines: machine, CPU, context, packet or span, station, and what it says. No times:
/// they follow from the order.
pub fn render(walk: &[(u16, Record)]) -> String {
    let mut names = Names::default();
    let mut text = String::new();
    for (machine, r) in walk {
        let name = names.of(r.id, is_packet(r));
        let place = format!("{}{}", char::from(b'A' + *machine as u8), r.cpu);
        let _ = write!(text, "{place} {:9} {name:3} {}", r.context.name(), r.point.name());
        if let Some(link) = r.link() {
            let _ = write!(text, " {}", names.of(link, r.point != Point::link_span));
        } else if let Some(reason) = r.drop_reason() {
            let _ = write!(text, " {reason}");
        } else if r.point == Point::NF_HOOK {
            let hooks = ["PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING"];
            let _ = write!(text, " {}", hooks[r.arg as usize]);
        } else if r.point == Point::napi_skb_finish {
            let results = ["MERGED", "MERGED_FREE", "HELD", "NORMAL", "DROP"];
            let _ = write!(text, " GRO_{}", results[r.arg as usize]);
        }
        text.push('\n');
    }
    text
}

/// Compares the walk since it was last taken with the golden one.
pub fn check(world: &World, name: &str) {
    check_walk(&world.take_walk(), name);
}

/// Compares a walk, or what a test picked of one, with the golden one.
pub fn check_walk(walk: &[(u16, Record)], name: &str) {
    check_text(&render(walk), name);
}

/// Compares a rendered walk, and what stands beside it, with the golden one.
pub fn check_text(text: &str, name: &str) {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../tools/testing/selftests/walks", name]
        .iter()
        .collect::<PathBuf>()
        .with_extension("txt");
    if std::env::var_os("NETKEEL_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().expect("a file in a folder")).expect("the folder");
        std::fs::write(&file, text).expect("the golden walk is written");
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    if golden != text {
        let at = golden.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
        let show = |text: &str| {
            text.lines().skip(at.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n  ")
        };
        panic!(
            "{name}: line {} differs from the golden walk; NETKEEL_BLESS=1 writes it anew\n\
             golden:\n  {}\nseen:\n  {}",
            at + 1,
            show(&golden),
            show(text)
        );
    }
}

/// The stations of a rendered walk, in order.
pub fn points(walk: &[(u16, Record)]) -> Vec<Point> {
    walk.iter().map(|(_, record)| record.point).collect()
}

/// `wanted` come in this order, with anything between.
pub fn assert_order(walk: &[(u16, Record)], wanted: &[Point]) {
    let mut seen = points(walk).into_iter();
    for point in wanted {
        assert!(
            seen.any(|station| station == *point),
            "{} is missing or out of order in:\n{}",
            point.name(),
            render(walk)
        );
    }
}

/// Packets that ended for `reason`.
pub fn drops(walk: &[(u16, Record)], reason: DropReason) -> usize {
    walk.iter().filter(|(_, record)| record.drop_reason() == Some(reason)).count()
}
