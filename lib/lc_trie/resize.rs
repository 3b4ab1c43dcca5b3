//! Level compression: branches double while they are well filled and halve when they are sparse.
//!
//! A branch is doubled when at least the *inflate* share of the doubled table would be in use,
//! and halved when less than the *halve* share is; the gap keeps it from going back and forth.
//! The root may be sparser than the rest because every search passes it.

use std::mem::take;

use super::slot::{Head, MAX_BITS, Slot, mask};

/// When to resize, in per cent of a table's cells in use.
#[derive(Clone, Copy)]
struct Thresholds {
    inflate: usize,
    halve: usize,
}

const ROOT: Thresholds = Thresholds { inflate: 30, halve: 15 };
const INNER: Thresholds = Thresholds { inflate: 50, halve: 25 };

/// The cells in use of a table: as it is, and as it would be doubled.
fn usage<A>(pos: u8, table: &[Slot<A>]) -> (usize, usize) {
    table.iter().filter(|cell| !cell.is_empty()).fold((0, 0), |(now, doubled), cell| {
        (now + 1, doubled + 1 + usize::from(cell.is_full_below(pos)))
    })
}

/// Brings the branch in `slot` to the right size, or removes it when it no longer branches.
pub(super) fn resize<A: Clone>(slot: &mut Slot<A>, is_root: bool) {
    let limits = if is_root { ROOT } else { INNER };
    let mut grown = false;
    loop {
        let (Some(bits), Some((head, table))) = (slot.bits(), slot.branch()) else {
            return;
        };
        let (now, doubled) = usage(head.pos, table);
        let size = table.len();
        if now <= 1 {
            *slot = only_cell(slot);
        } else if bits < MAX_BITS && head.pos > 0 && 100 * doubled >= limits.inflate * 2 * size {
            *slot = inflated(slot, bits);
            grown = true;
        } else if !grown && bits > 1 && 100 * now < limits.halve * size {
            *slot = halved(slot, bits);
        } else {
            return;
        }
    }
}

/// Takes the only cell in use out of a branch.
fn only_cell<A: Clone>(slot: &mut Slot<A>) -> Slot<A> {
    let Some((_, table)) = slot.branch_mut() else {
        return take(slot);
    };
    table.iter_mut().find(|cell| !cell.is_empty()).map(take).unwrap_or_default()
}

/// The branch in `slot` with one more bit.
fn inflated<A: Clone>(slot: &mut Slot<A>, bits: u8) -> Slot<A> {
    let Some((head, table)) = slot.branch_mut() else {
        return take(slot);
    };
    let head = Head::new(head.key(), head.pos - 1, head.slen);
    let mut waiting = Slot::Empty;
    Slot::make(bits + 1, head, |index| {
        // Each old cell becomes two new ones: made at the even index, the second one waits.
        if index % 2 == 1 {
            return take(&mut waiting);
        }
        let cell = table.get_mut(index / 2).map(take).unwrap_or_default();
        let (low, high) = split(cell, head.pos);
        waiting = high;
        low
    })
}

/// Splits a cell by the bit at position `pos` of its keys.
fn split<A: Clone>(mut cell: Slot<A>, pos: u8) -> (Slot<A>, Slot<A>) {
    let Some(head) = cell.head() else {
        return (Slot::Empty, Slot::Empty);
    };
    if !cell.is_full_below(pos + 1) {
        return if head.key() >> pos & 1 == 0 { (cell, Slot::Empty) } else { (Slot::Empty, cell) };
    }
    let Some((_, table)) = cell.branch_mut() else {
        return (cell, Slot::Empty);
    };
    let (low, high) = table.split_at_mut(table.len() / 2);
    (half(head, low, head.key()), half(head, high, head.key() | 1 << pos))
}

/// The cell for one half of a branch's table; `key` is what its keys start with.
fn half<A: Clone>(head: Head, table: &mut [Slot<A>], key: u32) -> Slot<A> {
    if let [cell] = table {
        return take(cell);
    }
    let bits = table.len().trailing_zeros() as u8;
    let slen = longest_suffix(table);
    let mut slot = Slot::make(bits, Head::new(key, head.pos, slen), |index| {
        table.get_mut(index).map(take).unwrap_or_default()
    });
    resize(&mut slot, false);
    slot
}

/// The branch in `slot` with one bit less.
fn halved<A: Clone>(slot: &mut Slot<A>, bits: u8) -> Slot<A> {
    let Some((head, table)) = slot.branch_mut() else {
        return take(slot);
    };
    let old = *head;
    Slot::make(bits - 1, Head::new(old.key(), old.pos + 1, old.slen), |index| {
        match table.get_mut(2 * index..2 * index + 2) {
            Some([low, high]) if !low.is_empty() && !high.is_empty() => {
                join(take(low), take(high), old.pos)
            }
            Some([low, high]) => take(if low.is_empty() { high } else { low }),
            _ => Slot::Empty,
        }
    })
}

/// A one-bit branch over two cells that differ first at position `pos`.
pub(super) fn join<A>(low: Slot<A>, high: Slot<A>, pos: u8) -> Slot<A> {
    let key = low.head().map_or(0, Head::key) & mask(31 - pos);
    let slen = low.slen().max(high.slen());
    let mut cells = [low, high];
    Slot::make(1, Head::new(key, pos, slen), |index| take(&mut cells[index & 1]))
}

/// The longest suffix in a table.
pub(super) fn longest_suffix<A>(table: &[Slot<A>]) -> u8 {
    table.iter().map(Slot::slen).max().unwrap_or(0)
}
