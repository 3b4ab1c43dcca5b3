use drivers::pci::IrqError;

use super::*;

/// Queue 0's causes on vector 0 (receive) and 1 (transmit), all enabled, auto-clear and auto-mask as asked.
fn msix(auto: u32) -> (Driver, Outside, Lines) {
    let (d, outside) = rig(1);
    let (counts, lines) = Lines::new(3);
    d.dev.enable_msix(&lines).unwrap();
    d.dev.write32(E1000_GPIE, E1000_GPIE_MSIX_MODE | E1000_GPIE_EIAME | E1000_GPIE_NSICR);
    d.dev.write32(E1000_IVAR(0), E1000_IVAR_VALID | (E1000_IVAR_VALID | 1) << 8);
    d.dev.write32(E1000_EIAC, auto);
    d.dev.write32(E1000_EIMS, 3);
    (d, outside, counts)
}

#[test]
fn a_vector_is_masked_by_its_message_and_fires_when_unmasked_with_a_cause_pending() {
    let (mut d, outside, counts) = msix(3);
    d.dev.write32(E1000_EIAM, 3);
    for n in 0..3 {
        inject(&outside, &plain(MAC, 60, n));
    }
    assert_eq!((counts.taken(0), counts.taken(1)), (1, 0));
    assert_eq!(
        (d.dev.read32(E1000_EIMS), d.dev.read32(E1000_EICS)),
        (2, 1),
        "two more came while masked"
    );
    assert_eq!(d.poll(0).len(), 3);
    d.dev.write32(E1000_EIMS, 1);
    assert_eq!(counts.taken(0), 1);
    assert_eq!(d.dev.read32(E1000_EICS), 0);
    d.dev.write32(E1000_EIMS, 1);
    assert_eq!(counts.taken(0), 0, "nothing pending");
}

#[test]
fn auto_clear_lets_every_cause_send_and_without_it_the_bit_must_be_cleared() {
    let (d, outside, counts) = msix(1);
    inject(&outside, &plain(MAC, 60, 0));
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!((counts.taken(0), d.dev.read32(E1000_EICS)), (2, 0));
    d.dev.write32(E1000_EIAC, 0);
    inject(&outside, &plain(MAC, 60, 0));
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!((counts.taken(0), d.dev.read32(E1000_EICS)), (1, 1));
    d.dev.write32(E1000_EICR, 1);
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!(counts.taken(0), 1);
}

#[test]
fn software_can_set_and_mask_causes() {
    let (mut d, outside, counts) = msix(7);
    d.dev.write32(E1000_EIMC, 1);
    d.dev.write32(E1000_EICS, 3);
    assert_eq!((counts.taken(0), counts.taken(1)), (0, 1));
    d.dev.write32(E1000_EIMS, 1);
    assert_eq!(counts.taken(0), 1);
    d.send(0, &plain(MAC_B, 60, 0), 0);
    assert_eq!(counts.taken(1), 1);
    assert_eq!(sent(&outside).len(), 1);
    d.dev.write32(E1000_IVAR(0), 0);
    d.send(0, &plain(MAC_B, 60, 0), 0);
    assert_eq!((counts.taken(0), counts.taken(1)), (0, 0), "an invalid allocation goes nowhere");
}

#[test]
fn queues_above_seven_have_the_upper_half_of_their_ivar() {
    let (mut d, outside) = rig(10);
    let (counts, lines) = Lines::new(3);
    d.dev.enable_msix(&lines).unwrap();
    d.dev.write32(E1000_GPIE, E1000_GPIE_MSIX_MODE);
    d.dev.write32(E1000_IVAR(9), (E1000_IVAR_VALID | 2) << 24);
    d.dev.write32(E1000_EIMS, 7);
    d.send(9, &plain(MAC_B, 60, 0), 0);
    assert_eq!(sent(&outside).len(), 1);
    assert_eq!((counts.taken(0), counts.taken(1), counts.taken(2)), (0, 0, 1));
}

#[test]
fn throttling_holds_a_message_back_and_never_loses_it() {
    let (d, outside, counts) = msix(3);
    // 100 microseconds.
    d.dev.write32(E1000_EITR(0), 100 << E1000_EITR_INTERVAL_SHIFT);
    assert_eq!(d.dev.advance(1_000_000), None);
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!(counts.taken(0), 1);
    assert_eq!(d.dev.advance(1_010_000), None);
    inject(&outside, &plain(MAC, 60, 0));
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!(counts.taken(0), 0);
    assert_eq!(d.dev.advance(1_099_999), Some(1_100_000));
    assert_eq!(counts.taken(0), 0);
    assert_eq!(d.dev.advance(1_100_000), None);
    assert_eq!(counts.taken(0), 1);
    assert_eq!(d.dev.advance(5), None, "the clock never goes back");
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!(d.dev.advance(0), Some(1_200_000));
    d.dev.write32(E1000_EITR(0), 0);
    assert_eq!((counts.taken(0), d.dev.advance(0)), (1, None), "without interval it goes at once");
}

#[test]
fn a_held_message_goes_away_with_its_mask() {
    let (d, outside, counts) = msix(3);
    d.dev.write32(E1000_EITR(0), 100 << E1000_EITR_INTERVAL_SHIFT);
    inject(&outside, &plain(MAC, 60, 0));
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!((counts.taken(0), d.dev.advance(1)), (1, Some(100_000)));
    d.dev.write32(E1000_EIMC, 1);
    assert_eq!(d.dev.advance(200_000), None);
    assert_eq!(counts.taken(0), 0);
    d.dev.write32(E1000_EIMS, 1);
    assert_eq!(counts.taken(0), 1);
}

#[test]
fn msi_follows_icr_and_its_mask() {
    let (mut d, outside) = rig(1);
    let (counts, lines) = Lines::new(1);
    d.dev.enable_msi(lines[0].clone()).unwrap();
    assert_eq!(d.dev.request_intx(lines[0].clone()), Err(IrqError::Busy));
    d.dev.read32(E1000_ICR);
    d.dev.write32(E1000_IAM, E1000_ICR_RXT0 | E1000_ICR_TXDW);
    d.dev.write32(E1000_IMS, E1000_ICR_RXT0 | E1000_ICR_TXDW);
    inject(&outside, &plain(MAC, 60, 0));
    inject(&outside, &plain(MAC, 60, 0));
    assert_eq!(counts.taken(0), 1, "one message while it stays asserted");
    assert_eq!(d.dev.read32(E1000_ICR), E1000_ICR_RXT0 | E1000_ICR_INT_ASSERTED);
    assert_eq!(
        (d.dev.read32(E1000_ICR), d.dev.read32(E1000_IMS)),
        (0, 0),
        "reading cleared and masked"
    );
    d.send(0, &plain(MAC_B, 60, 0), 0);
    assert_eq!(counts.taken(0), 0);
    d.dev.write32(E1000_IMS, E1000_ICR_TXDW);
    assert_eq!(counts.taken(0), 1);
    d.dev.disable_msi();
    d.dev.read32(E1000_ICR);
    d.dev.write32(E1000_ICS, E1000_ICR_TXDW);
    assert_eq!(counts.taken(0), 0);
}

#[test]
fn an_unasserted_icr_survives_reading_unless_told_otherwise() {
    let (d, _outside) = rig(0);
    let (counts, lines) = Lines::new(1);
    d.dev.request_intx(lines[0].clone()).unwrap();
    d.dev.read32(E1000_ICR);
    d.dev.write32(E1000_IMS, E1000_ICR_LSC);
    d.dev.write32(E1000_ICS, E1000_ICR_RXT0);
    assert_eq!(d.dev.read32(E1000_ICR_LEGACY), E1000_ICR_RXT0);
    assert_eq!(d.dev.read32(E1000_ICS), E1000_ICR_RXT0);
    d.dev.write32(E1000_GPIE, E1000_GPIE_NSICR);
    assert_eq!(d.dev.read32(E1000_ICR), E1000_ICR_RXT0);
    assert_eq!(d.dev.read32(E1000_ICR), 0);
    d.dev.write32(E1000_ICS, E1000_ICR_LSC);
    assert_eq!(counts.taken(0), 1);
    d.dev.write32(E1000_ICR, E1000_ICR_LSC);
    d.dev.write32(E1000_ICS, E1000_ICR_LSC);
    assert_eq!(counts.taken(0), 1, "acknowledged by writing, asserted again");
}

#[test]
fn vectors_are_bounded() {
    let (d, _outside) = rig(0);
    let (_, lines) = Lines::new(11);
    assert_eq!(d.dev.enable_msix(&lines), Err(IrqError::Vectors { available: 10 }));
    assert_eq!(d.dev.enable_msix(&[]), Err(IrqError::Vectors { available: 10 }));
    assert_eq!(d.dev.enable_msix(&lines[..10]), Ok(()));
    assert_ne!(d.dev.config_read16(0x72) & 0x8000, 0);
}
