use super::*;

#[test]
fn a_poll_lies_in_its_softirq() {
    let depth = |point| match place(point) {
        Place::Frame(depth) => depth,
        other => panic!("{point:?} is {other:?}"),
    };
    assert!(depth(Point::__do_softirq) < depth(Point::net_rx_action));
    assert!(depth(Point::net_rx_action) < depth(Point::igb_poll));
    assert!(depth(Point::igb_poll) < depth(Point::igb_clean_tx_irq));
}

#[test]
fn a_gloss_is_short() {
    for gloss in Point::ALL.iter().filter_map(|point| gloss(*point)) {
        assert!(gloss.len() <= 36, "{gloss}");
    }
}
