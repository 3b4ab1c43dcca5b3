use super::*;
use crate::scenario::Subject;
use crate::walk::tests::scene;
use serde_json::Value;
use std::collections::BTreeMap;

const KEYS: [&str; 12] =
    ["v", "packet", "span", "point", "file", "cpu", "context", "ns", "dev", "len", "link", "drop"];

fn lines(subject: Subject) -> Vec<String> {
    let scene = scene(subject, false);
    let mut out = Vec::new();
    write(&mut out, &Story::new(&scene)).expect("a vector takes all");
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    text.lines().map(str::to_owned).collect()
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).expect("a line is an object")
}

#[test]
fn every_line_is_an_object_with_the_keys_in_order() {
    for line in lines(Subject::Icmp) {
        let object = parse(&line);
        assert_eq!(object.as_object().map(|object| object.len()), Some(KEYS.len()));
        let places: Vec<_> = KEYS.iter().map(|key| line.find(&format!("\"{key}\":"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{line}");
        assert_eq!(object["v"], 1);
        assert_ne!(object["packet"].is_null(), object["span"].is_null(), "{line}");
        assert_eq!(object["packet"].is_null(), object["len"].is_null(), "{line}");
    }
}

#[test]
fn packets_begin_and_end_where_they_must() {
    let mut ends: BTreeMap<u64, Vec<(String, String)>> = BTreeMap::new();
    for line in lines(Subject::Udp) {
        let object = parse(&line);
        let Some(packet) = object["packet"].as_u64() else { continue };
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        let place = text("dev");
        let machine = place.split(':').next().unwrap_or_default().to_owned();
        ends.entry(packet).or_default().push((machine, text("point")));
    }
    let ends: Vec<_> =
        ends.values().map(|steps| (steps[0].clone(), steps[steps.len() - 1].clone())).collect();
    let at = |machine: &str, point: &str| (machine.to_owned(), point.to_owned());
    let expected = [
        (at("A", "link_span"), at("B", "consume_skb")),
        (at("B", "link_span"), at("A", "consume_skb")),
    ];
    assert_eq!(ends, expected);
}

#[test]
fn a_drop_has_its_reason() {
    let drops: Vec<Value> = lines(Subject::Icmp).iter().map(|line| parse(line)).collect();
    let reasons: Vec<_> = drops.iter().filter_map(|object| object["drop"].as_str()).collect();
    assert!(reasons.contains(&"NO_SOCKET"), "{reasons:?}");
}

#[test]
fn names_are_escaped() {
    let name = "e\"t\\h\n0";
    let line = Text(Some(name)).to_string();
    assert_eq!(serde_json::from_str::<String>(&line).expect("a string"), name);
}
