//! The cells of the trie: empty, a leaf, or a branch over a power-of-two table of cells.
//!
//! What a search needs to decide whether to follow a cell — its key, its position and the longest
//! suffix below it — is in the cell itself, so cells that cannot match cost no memory access.

use std::sync::Arc;

/// A branch has at most `1 << MAX_BITS` cells, which bounds what a copy-on-write change copies.
pub(super) const MAX_BITS: u8 = 10;

/// The mask of the `plen` leading bits.
#[inline]
pub(super) const fn mask(plen: u8) -> u32 {
    (u64::MAX << (32 - plen as u32)) as u32
}

/// What is known of a cell without following it.
///
/// The key is kept as bytes so that the cell's tag fits beside the rest: a cell is 32 bytes.
#[derive(Clone, Copy)]
pub(super) struct Head {
    key: [u8; 4],
    /// The position of the lowest bit a branch tells apart; 0 for a leaf.
    pub(super) pos: u8,
    /// The longest suffix (32 less the prefix length) at or below.
    pub(super) slen: u8,
}

impl Head {
    /// A head; the bits of `key` below the branch's are cleared by the caller.
    pub(super) const fn new(key: u32, pos: u8, slen: u8) -> Self {
        Self { key: key.to_ne_bytes(), pos, slen }
    }

    /// The bits that everything at or below starts with, then zeros.
    #[inline]
    pub(super) const fn key(self) -> u32 {
        u32::from_ne_bytes(self.key)
    }
}

/// The aliases of each prefix that shares a key, the longest prefix first.
pub(super) type Prefixes<A> = Vec<(u8, Vec<A>)>;

/// A cell.
#[derive(Clone, Default)]
pub(super) enum Slot<A> {
    /// Nothing.
    #[default]
    Empty,
    /// A key with one prefix; its length is 32 less the head's `slen`.
    Leaf(Head, Vec<A>),
    /// A key with several prefixes.
    Leaves(Head, Arc<Prefixes<A>>),
    /// A branch; the length of its table is a power of two.
    Branch(Head, Arc<[Slot<A>]>),
}

impl<A> Slot<A> {
    /// The head of a cell that is not empty.
    #[inline]
    pub(super) fn head(&self) -> Option<Head> {
        match self {
            Self::Empty => None,
            Self::Leaf(head, _) | Self::Leaves(head, _) | Self::Branch(head, _) => Some(*head),
        }
    }

    /// The head and table of a branch.
    #[inline]
    pub(super) fn branch(&self) -> Option<(Head, &[Self])> {
        match self {
            Self::Branch(head, table) => Some((*head, table)),
            _ => None,
        }
    }

    /// The number of bits a branch tells apart, without following it.
    #[inline]
    pub(super) fn bits(&self) -> Option<u8> {
        match self {
            Self::Branch(_, table) => Some(table.len().trailing_zeros() as u8),
            _ => None,
        }
    }

    /// A branch over `bits` bits whose cells are made by `cell`, in order.
    pub(super) fn make(bits: u8, head: Head, cell: impl FnMut(usize) -> Self) -> Self {
        Self::Branch(head, (0..1 << bits).map(cell).collect())
    }
}

impl<A: Clone> Slot<A> {
    /// The head and table of a branch, to change: a shared table is copied first.
    pub(super) fn branch_mut(&mut self) -> Option<(&mut Head, &mut [Self])> {
        match self {
            Self::Branch(head, table) => Some((head, Arc::make_mut(table))),
            _ => None,
        }
    }
}

impl<A> Slot<A> {
    /// A leaf for one prefix without aliases.
    pub(super) fn leaf(key: u32, plen: u8) -> Self {
        Self::Leaf(Head::new(key, 0, 32 - plen), Vec::with_capacity(1))
    }

    /// Whether nothing is here.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The longest suffix at or below; 0 when empty.
    #[inline]
    pub(super) fn slen(&self) -> u8 {
        self.head().map_or(0, |head| head.slen)
    }

    /// Whether this is a branch that starts right below position `pos`: nothing is skipped.
    #[inline]
    pub(super) fn is_full_below(&self, pos: u8) -> bool {
        match (self.bits(), self.head()) {
            (Some(bits), Some(head)) => head.pos + bits == pos,
            _ => false,
        }
    }

    /// The leaf's prefix that is number `index` from the longest.
    #[inline]
    pub(super) fn prefix(&self, index: usize) -> Option<(u8, &[A])> {
        match self {
            Self::Leaf(head, aliases) if index == 0 => Some((32 - head.slen, aliases)),
            Self::Leaves(_, prefixes) => {
                prefixes.get(index).map(|(plen, aliases)| (*plen, aliases.as_slice()))
            }
            _ => None,
        }
    }
}

impl<A: Clone> Slot<A> {
    /// The aliases of the leaf's prefix of length `plen`, to change.
    pub(super) fn prefix_mut(&mut self, plen: u8) -> Option<&mut Vec<A>> {
        match self {
            Self::Leaf(head, aliases) if head.slen == 32 - plen => Some(aliases),
            Self::Leaves(_, prefixes) => {
                let index = prefixes.iter().position(|(have, _)| *have == plen)?;
                Arc::make_mut(prefixes).get_mut(index).map(|(_, aliases)| aliases)
            }
            _ => None,
        }
    }

    /// Adds a prefix of length `plen` to a leaf; says whether it was missing.
    pub(super) fn add_prefix(&mut self, plen: u8) -> bool {
        match self {
            Self::Leaf(head, aliases) => {
                let have = 32 - head.slen;
                if have == plen {
                    return false;
                }
                let old = (have, std::mem::take(aliases));
                let new = (plen, Vec::with_capacity(1));
                let prefixes = if plen > have { vec![new, old] } else { vec![old, new] };
                let head = Head::new(head.key(), 0, 32 - plen.min(have));
                *self = Self::Leaves(head, Arc::new(prefixes));
                true
            }
            Self::Leaves(head, prefixes) => {
                let at = prefixes.partition_point(|(have, _)| *have > plen);
                if prefixes.get(at).is_some_and(|(have, _)| *have == plen) {
                    return false;
                }
                Arc::make_mut(prefixes).insert(at, (plen, Vec::with_capacity(1)));
                head.slen = head.slen.max(32 - plen);
                true
            }
            _ => false,
        }
    }

    /// Removes the prefix of length `plen` from a leaf, which may leave the cell empty; says
    /// whether it was there.
    pub(super) fn remove_prefix(&mut self, plen: u8) -> bool {
        match self {
            Self::Leaf(head, _) if head.slen == 32 - plen => {
                *self = Self::Empty;
                true
            }
            Self::Leaves(head, prefixes) => {
                let Some(index) = prefixes.iter().position(|(have, _)| *have == plen) else {
                    return false;
                };
                let prefixes = Arc::make_mut(prefixes);
                prefixes.remove(index);
                let key = head.key();
                head.slen = prefixes.last().map_or(0, |(plen, _)| 32 - plen);
                if let [(plen, aliases)] = prefixes.as_mut_slice() {
                    let head = Head::new(key, 0, 32 - *plen);
                    *self = Self::Leaf(head, std::mem::take(aliases));
                }
                true
            }
            _ => false,
        }
    }
}
