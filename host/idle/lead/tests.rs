use super::*;

#[test]
fn spinning_that_finds_nothing_is_tried_ever_more_rarely() {
    let spin = Spin::new(Duration::from_micros(50));
    let mut tries = 0;
    for _ in 0..1000 {
        if spin.pays() {
            spin.ended(false);
            tries += 1;
        }
    }
    assert!((5..=10).contains(&tries), "{tries}");
    while !spin.pays() {}
    spin.ended(true);
    assert!((0..10).all(|_| spin.pays()), "found once: it pays again");
    assert!(!Spin::new(Duration::ZERO).pays());
}
