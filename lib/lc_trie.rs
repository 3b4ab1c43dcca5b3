//! A level-compressed trie from IPv4 prefixes to lists of aliases: the routing table's search
//! structure.
//!
//! The trie follows Nilsson and Karlsson, *IP-Address Lookup Using LC-Tries* (1999): chains of
//! one-way branches are skipped (path compression) and well-filled subtrees are merged into one
//! wide branch (level compression). Prefixes are stored under their address with zero host bits,
//! so all candidates for an address lie at that address with more and more low bits cleared.
//!
//! It is copy-on-write: cloning is one reference count, a change copies the branches from the
//! root to the changed prefix that are shared with a clone and nothing else, and a clone never
//! changes. A writer therefore changes its own trie and publishes a clone to the readers.
//!
//! linux: `net/ipv4/fib_trie.c`

use core::fmt;

mod resize;
mod slot;

use resize::{join, longest_suffix, resize};
use slot::{Head, Slot, mask};

/// A map from IPv4 prefixes to aliases of type `A`, searched by the longest match.
///
/// Keys are addresses in host order; their bits beyond the prefix length are ignored. A prefix
/// length above 32 counts as 32.
#[derive(Clone)]
pub struct LcTrie<A> {
    root: Slot<A>,
    len: usize,
}

/// A key without host bits, and its prefix length.
const fn normal(key: u32, plen: u8) -> (u32, u8) {
    let plen = if plen > 32 { 32 } else { plen };
    (key & mask(plen), plen)
}

/// The cell of a branch's table that `key` belongs to.
#[inline]
const fn index_of(key: u32, head: Head, size: usize) -> usize {
    (key >> head.pos) as usize & (size - 1)
}

/// The number of low bits that must be ignored for `key` and `other` to agree.
#[inline]
const fn disagreement(key: u32, other: u32) -> u8 {
    (32 - (key ^ other).leading_zeros()) as u8
}

/// Whether `key` agrees with a branch in all bits above those its `size` cells tell apart.
#[inline]
const fn belongs(key: u32, head: Head, size: usize) -> bool {
    ((key ^ head.key()) >> head.pos) as usize & !(size - 1) == 0
}

impl<A> LcTrie<A> {
    /// An empty trie.
    pub const fn new() -> Self {
        Self { root: Slot::Empty, len: 0 }
    }

    /// The number of prefixes, including those whose list of aliases is empty.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no prefix is stored.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The aliases of exactly this prefix; empty when it is not stored.
    pub fn aliases(&self, key: u32, plen: u8) -> &[A] {
        self.find(key, plen).unwrap_or_default()
    }

    /// Whether exactly this prefix is stored, with or without aliases.
    pub fn contains(&self, key: u32, plen: u8) -> bool {
        self.find(key, plen).is_some()
    }

    /// The aliases of exactly this prefix.
    fn find(&self, key: u32, plen: u8) -> Option<&[A]> {
        let (key, plen) = normal(key, plen);
        let mut slot = &self.root;
        while let Some((head, table)) = slot.branch() {
            slot = table.get(index_of(key, head, table.len()))?;
        }
        slot.head().filter(|head| head.key() == key)?;
        (0..).map_while(|n| slot.prefix(n)).find(|&(have, _)| have == plen).map(|(_, list)| list)
    }

    /// Offers the aliases of the prefixes that match `addr` to `accept`, the longest prefix first
    /// and in list order within a prefix, and returns its first answer.
    ///
    /// Takes no lock and allocates nothing.
    ///
    /// linux: `net/ipv4/fib_trie.c:fib_table_lookup`
    #[inline]
    pub fn lookup<R>(&self, addr: u32, mut accept: impl FnMut(u8, &A) -> Option<R>) -> Option<R> {
        search(&self.root, addr, &mut accept)
    }

    /// All prefixes with their aliases in the order of their keys, the longest prefix of a key
    /// first.
    pub fn iter(&self) -> Iter<'_, A> {
        Iter { tables: vec![core::slice::from_ref(&self.root).iter()], leaf: None }
    }
}

/// Searches a subtree for `addr`, deepest match first.
fn search<A, R>(
    slot: &Slot<A>,
    addr: u32,
    accept: &mut impl FnMut(u8, &A) -> Option<R>,
) -> Option<R> {
    let Some((head, table)) = slot.branch() else {
        return offer(slot, addr, accept);
    };
    if !belongs(addr, head, table.len()) {
        return leftmost(slot, addr, accept);
    }
    let mut index = index_of(addr, head, table.len());
    let found = search(table.get(index)?, addr, accept);
    if found.is_some() {
        return found;
    }
    // What is left here is shorter: clear the address's bits from the lowest up. A prefix found
    // after clearing a bit has a suffix that reaches beyond that bit.
    while index != 0 {
        let cleared = head.pos + index.trailing_zeros() as u8;
        if head.slen <= cleared {
            break;
        }
        index &= index - 1;
        let cell = table.get(index)?;
        if cell.slen() > cleared {
            let found = leftmost(cell, addr, accept);
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// Searches a subtree in which `addr` itself cannot be: only its lowest key can match, with a
/// suffix that covers every bit where the two differ.
fn leftmost<A, R>(
    mut slot: &Slot<A>,
    addr: u32,
    accept: &mut impl FnMut(u8, &A) -> Option<R>,
) -> Option<R> {
    loop {
        let head = slot.head()?;
        if head.slen < disagreement(addr, head.key()) {
            return None;
        }
        match slot.branch() {
            Some((_, table)) => slot = table.first()?,
            None => return offer(slot, addr, accept),
        }
    }
}

/// Offers a leaf's matching aliases.
#[inline]
fn offer<A, R>(
    slot: &Slot<A>,
    addr: u32,
    accept: &mut impl FnMut(u8, &A) -> Option<R>,
) -> Option<R> {
    let head = slot.head()?;
    let differ = disagreement(addr, head.key());
    if head.slen < differ {
        return None;
    }
    let mut number = 0;
    while let Some((plen, aliases)) = slot.prefix(number) {
        if 32 - plen >= differ {
            let found = aliases.iter().find_map(|alias| accept(plen, alias));
            if found.is_some() {
                return found;
            }
        }
        number += 1;
    }
    None
}

impl<A: Clone> LcTrie<A> {
    /// The aliases of a prefix, to change; a prefix not stored yet is added without aliases.
    ///
    /// Call [`prune`](Self::prune) after taking the last alias out.
    ///
    /// linux: `net/ipv4/fib_trie.c:fib_insert_alias`
    pub fn entry(&mut self, key: u32, plen: u8) -> &mut Vec<A> {
        let (key, plen) = normal(key, plen);
        if add(&mut self.root, key, plen, true) {
            self.len += 1;
        }
        match find_mut(&mut self.root, key, plen) {
            Some(aliases) => aliases,
            None => unreachable!("{key:#x}/{plen} was just added"),
        }
    }

    /// Adds `alias` at the end of a prefix's list.
    pub fn insert(&mut self, key: u32, plen: u8, alias: A) {
        self.entry(key, plen).push(alias);
    }

    /// Removes a prefix and returns its aliases; empty when it was not stored.
    pub fn remove(&mut self, key: u32, plen: u8) -> Vec<A> {
        if !self.contains(key, plen) {
            return Vec::new();
        }
        let aliases = core::mem::take(self.entry(key, plen));
        self.prune(key, plen);
        aliases
    }

    /// Removes a prefix whose list of aliases is empty; says whether it did.
    ///
    /// linux: `net/ipv4/fib_trie.c:fib_remove_alias`
    pub fn prune(&mut self, key: u32, plen: u8) -> bool {
        let (key, plen) = normal(key, plen);
        let removed = self.find(key, plen).is_some_and(<[A]>::is_empty)
            && cut(&mut self.root, key, plen, true);
        self.len -= usize::from(removed);
        removed
    }
}

/// What a branch's size depends on in one of its cells.
fn shape<A>(slot: &Slot<A>, pos: u8) -> (bool, bool) {
    (slot.is_empty(), slot.is_full_below(pos))
}

/// Makes sure that a subtree has the prefix; says whether it was missing.
fn add<A: Clone>(slot: &mut Slot<A>, key: u32, plen: u8, is_root: bool) -> bool {
    let Some(head) = slot.head() else {
        *slot = Slot::leaf(key, plen);
        return true;
    };
    let apart = disagreement(key, head.key());
    let bottom = head.pos + slot.bits().unwrap_or(0);
    if apart > bottom {
        let (old, new) = (core::mem::take(slot), Slot::leaf(key, plen));
        let (low, high) = if key > head.key() { (old, new) } else { (new, old) };
        *slot = join(low, high, apart - 1);
        resize(slot, is_root);
        return true;
    }
    let Some((head, table)) = slot.branch_mut() else {
        return slot.add_prefix(plen);
    };
    let index = index_of(key, *head, table.len());
    let Some(cell) = table.get_mut(index) else {
        return false;
    };
    let before = shape(cell, head.pos);
    let added = add(cell, key, plen, false);
    if added {
        head.slen = head.slen.max(32 - plen);
        if shape(cell, head.pos) != before {
            resize(slot, is_root);
        }
    }
    added
}

/// The aliases of a prefix of a subtree, to change.
fn find_mut<A: Clone>(slot: &mut Slot<A>, key: u32, plen: u8) -> Option<&mut Vec<A>> {
    if slot.bits().is_none() {
        return slot.prefix_mut(plen);
    }
    let (head, table) = slot.branch_mut()?;
    let index = index_of(key, *head, table.len());
    find_mut(table.get_mut(index)?, key, plen)
}

/// Removes a prefix from a subtree; says whether it was there.
fn cut<A: Clone>(slot: &mut Slot<A>, key: u32, plen: u8, is_root: bool) -> bool {
    let Some((head, table)) = slot.branch_mut() else {
        return slot.remove_prefix(plen);
    };
    let index = index_of(key, *head, table.len());
    let Some(cell) = table.get_mut(index) else {
        return false;
    };
    let before = shape(cell, head.pos);
    let removed = cut(cell, key, plen, false);
    if removed {
        let changed = shape(cell, head.pos) != before;
        if head.slen == 32 - plen {
            head.slen = longest_suffix(table);
        }
        if changed {
            resize(slot, is_root);
        }
    }
    removed
}

/// The prefixes of a trie in key order; made by [`LcTrie::iter`].
pub struct Iter<'a, A> {
    /// What is left of the tables on the way from the root.
    tables: Vec<core::slice::Iter<'a, Slot<A>>>,
    /// The leaf being read and the number of its next prefix.
    leaf: Option<(&'a Slot<A>, usize)>,
}

impl<'a, A> Iterator for Iter<'a, A> {
    type Item = (u32, u8, &'a [A]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((slot, number)) = self.leaf.take()
                && let Some((plen, aliases)) = slot.prefix(number)
            {
                self.leaf = Some((slot, number + 1));
                return Some((slot.head()?.key(), plen, aliases));
            }
            match self.tables.last_mut()?.next() {
                None => drop(self.tables.pop()),
                Some(slot) => match slot.branch() {
                    Some((_, table)) => self.tables.push(table.iter()),
                    None => self.leaf = Some((slot, 0)),
                },
            }
        }
    }
}

impl<'a, A> IntoIterator for &'a LcTrie<A> {
    type Item = (u32, u8, &'a [A]);
    type IntoIter = Iter<'a, A>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<A> fmt::Debug for Iter<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("depth", &self.tables.len()).finish_non_exhaustive()
    }
}

impl<A> Default for LcTrie<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> fmt::Debug for LcTrie<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LcTrie").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
