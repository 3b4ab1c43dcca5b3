use super::*;
use crate::scenario::{Nic, Setup, Subject, run};

/// A scene over wire devices, whatever the default is.
pub(super) fn scene(subject: Subject, frames: bool) -> Scene {
    run(&Setup { subject, frames, nic: Nic::Wire, ..Setup::default() }).expect("the scene plays")
}

#[test]
fn every_record_has_a_span_and_a_block() {
    let scene = scene(Subject::Icmp, false);
    let story = Story::new(&scene);
    assert!(story.steps.iter().all(|step| step.span.watched()));
    let in_blocks: usize = story.blocks.iter().map(|block| block.steps.len()).sum();
    assert_eq!(in_blocks, story.steps.len());
    for block in &story.blocks {
        let steps = &story.steps[block.steps.clone()];
        assert!(steps.iter().all(|step| step.span == block.span && step.machine == block.machine));
    }
}

#[test]
fn a_packet_keeps_its_name_on_both_machines() {
    let scene = scene(Subject::Udp, false);
    let story = Story::new(&scene);
    let packets = story.packets();
    assert_eq!(packets.iter().map(|id| story.name(*id)).collect::<Vec<_>>(), ["#1", "#2"]);
    for packet in packets {
        assert_eq!(story.origin(packet), Origin::Call);
        let own = story.steps.iter().filter(|step| step.record.id == packet);
        let machines: BTreeSet<u16> = own.map(|step| step.machine).collect();
        assert_eq!(machines.len(), 2);
    }
}

#[test]
fn an_answer_is_linked_to_what_it_answers() {
    let scene = scene(Subject::Icmp, false);
    let story = Story::new(&scene);
    let packets = story.packets();
    assert_eq!(story.origin(packets[1]), Origin::MadeFor(packets[0]), "port unreachable");
    assert_eq!(story.origin(packets[2]), Origin::Call, "the echo request");
    assert_eq!(story.origin(packets[3]), Origin::MadeFor(packets[2]), "the echo reply");
}

#[test]
fn clones_are_numbered_below_their_packet() {
    let scene = scene(Subject::Udp, true);
    let story = Story::new(&scene);
    let names: Vec<_> = story.packets().iter().map(|id| story.name(*id)).collect();
    assert_eq!(names, ["#1", "#1.1", "#1.2", "#2", "#2.1", "#2.2"]);
}
