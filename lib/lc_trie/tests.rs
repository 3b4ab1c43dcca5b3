use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Prefixes in a plain map; searched from /32 down.
type Model = BTreeMap<(u32, u8), Vec<u32>>;

fn model_lookup(model: &Model, addr: u32) -> Vec<(u8, u32)> {
    let of = |plen: u8| model.get(&(addr & mask(plen), plen)).map(|list| (plen, list));
    let lists = (0..=32).rev().filter_map(of);
    lists.flat_map(|(plen, list)| list.iter().map(move |&alias| (plen, alias))).collect()
}

/// Every alias offered for `addr`, in order.
fn offers(trie: &LcTrie<u32>, addr: u32) -> Vec<(u8, u32)> {
    let mut seen = Vec::new();
    let none: Option<()> = trie.lookup(addr, |plen, &alias| {
        seen.push((plen, alias));
        None
    });
    assert!(none.is_none());
    seen
}

/// Checks what every cell promises; returns the number of prefixes.
fn check(slot: &Slot<u32>) -> usize {
    let Some((head, table)) = slot.branch() else {
        let prefixes: Vec<_> = (0..).map_while(|n| slot.prefix(n)).collect();
        assert!(prefixes.windows(2).all(|pair| pair[0].0 > pair[1].0));
        assert_eq!(prefixes.is_empty(), slot.is_empty());
        assert_eq!(prefixes.last().map_or(0, |last| 32 - last.0), slot.slen());
        return prefixes.len();
    };
    assert_eq!(table.len(), 1 << slot.bits().unwrap());
    assert!(table.iter().filter(|cell| !cell.is_empty()).count() > 1);
    assert_eq!(head.slen, longest_suffix(table));
    let mut count = 0;
    for (index, cell) in table.iter().enumerate() {
        if let Some(below) = cell.head() {
            assert!(belongs(below.key(), head, table.len()));
            assert_eq!(index_of(below.key(), head, table.len()), index);
            assert!(below.pos + cell.bits().unwrap_or(0) <= head.pos);
        }
        count += check(cell);
    }
    count
}

fn check_all(trie: &LcTrie<u32>, model: &Model, addrs: impl IntoIterator<Item = u32>) {
    assert_eq!(check(&trie.root), model.len());
    assert_eq!((trie.len(), trie.is_empty()), (model.len(), model.is_empty()));
    let mut listed: Vec<_> = trie.iter().map(|(k, p, a)| ((k, p), a.to_vec())).collect();
    assert!(listed.windows(2).all(|w| w[0].0.0 < w[1].0.0 || w[0].0.1 > w[1].0.1));
    listed.sort();
    assert!(listed.iter().map(|(k, a)| (k, a)).eq(model.iter()));
    let near = model.keys().flat_map(|&(key, plen)| {
        let last = key | !mask(plen);
        [key, last, key.wrapping_sub(1), last.wrapping_add(1), key | 1]
    });
    for addr in near.chain(addrs) {
        assert_eq!(offers(trie, addr), model_lookup(model, addr), "{addr:#x}");
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u32, u8, u32),
    Pop(u32, u8),
    Remove(u32, u8),
    RemoveNth(usize),
}

/// Keys that collide: few distinct bytes, some dense ranges, some anything.
fn key() -> impl Strategy<Value = u32> {
    prop_oneof![
        vec(prop_oneof![Just(0u8), Just(1), Just(128), Just(255), Just(10)], 4)
            .prop_map(|b| b.into_iter().fold(0, |key, b| key << 8 | u32::from(b))),
        (0u32..512).prop_map(|n| 0x0a00_0000 | n << 8),
        (0u32..64),
        any::<u32>(),
    ]
}

fn plen() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(8), Just(16), Just(24), Just(31), Just(32), 0u8..=32]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (key(), plen(), any::<u32>()).prop_map(|(k, p, a)| Op::Insert(k, p, a)),
        1 => (key(), plen()).prop_map(|(k, p)| Op::Pop(k, p)),
        1 => (key(), plen()).prop_map(|(k, p)| Op::Remove(k, p)),
        3 => any::<usize>().prop_map(Op::RemoveNth),
    ]
}

fn apply(trie: &mut LcTrie<u32>, model: &mut Model, op: Op) {
    match op {
        Op::Insert(key, plen, alias) => {
            trie.insert(key, plen, alias);
            model.entry((key & mask(plen), plen)).or_default().push(alias);
        }
        Op::Pop(key, plen) => {
            let expect = model.entry((key & mask(plen), plen)).or_default().pop();
            assert_eq!(trie.entry(key, plen).pop(), expect);
            let left = model.get(&(key & mask(plen), plen)).map_or(0, Vec::len);
            assert_eq!(trie.prune(key, plen), left == 0);
            model.retain(|_, aliases| !aliases.is_empty());
        }
        Op::Remove(key, plen) => {
            let expect = model.remove(&(key & mask(plen), plen)).unwrap_or_default();
            assert_eq!(trie.remove(key, plen), expect);
        }
        Op::RemoveNth(n) => {
            let nth = n.checked_rem(model.len()).and_then(|n| model.keys().nth(n).copied());
            if let Some((key, plen)) = nth {
                assert_eq!(Some(trie.remove(key, plen)), model.remove(&(key, plen)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_a_linear_search(ops in vec(op(), 0..200), addrs in vec(key(), 0..50)) {
        let (mut trie, mut model) = (LcTrie::new(), Model::new());
        for op in ops {
            apply(&mut trie, &mut model, op);
            assert_eq!(trie.len(), model.len());
        }
        check_all(&trie, &model, addrs);
    }

    #[test]
    fn clones_stay_as_they_were(
        rounds in vec(vec(op(), 0..40), 1..6), addrs in vec(key(), 0..20),
    ) {
        let (mut trie, mut model) = (LcTrie::new(), Model::new());
        let mut kept = Vec::new();
        for ops in rounds {
            kept.push((trie.clone(), model.clone()));
            for op in ops {
                apply(&mut trie, &mut model, op);
            }
        }
        kept.push((trie, model));
        for (trie, model) in &kept {
            check_all(trie, model, addrs.iter().copied());
        }
    }

    #[test]
    fn any_prefix_length_is_accepted(key: u32, plen: u8) {
        let mut trie = LcTrie::new();
        trie.insert(key, plen, 1);
        assert_eq!(trie.aliases(key, plen.min(32)), [1]);
        assert_eq!(trie.lookup(key, |plen, _| Some(plen)), Some(plen.min(32)));
        assert_eq!(trie.remove(key, plen), [1]);
        assert!(trie.is_empty());
    }
}

#[test]
fn default_route_and_host_route() {
    let mut trie = LcTrie::new();
    assert_eq!(trie.lookup(0, |_, alias: &u32| Some(*alias)), None);
    trie.insert(0, 0, 1);
    trie.insert(0xc0a8_0001, 32, 2);
    trie.insert(u32::MAX, 32, 3);
    let of = |addr| trie.lookup(addr, |plen, &alias| Some((plen, alias)));
    assert_eq!(of(0), Some((0, 1)));
    assert_eq!(of(0xc0a8_0001), Some((32, 2)));
    assert_eq!(of(0xc0a8_0002), Some((0, 1)));
    assert_eq!(of(u32::MAX), Some((32, 3)));
}

#[test]
fn backtracks_until_accepted() {
    let mut trie = LcTrie::new();
    for (plen, alias) in [(0, 1), (8, 2), (16, 3), (24, 4), (32, 5)] {
        trie.insert(0x0a01_0203, plen, alias);
    }
    assert_eq!(offers(&trie, 0x0a01_0203), [(32, 5), (24, 4), (16, 3), (8, 2), (0, 1)]);
    assert_eq!(trie.lookup(0x0a01_0203, |_, &a| (a < 3).then_some(a)), Some(2));
}

#[test]
fn grows_shrinks_and_empties() {
    let (mut trie, mut model) = (LcTrie::new(), Model::new());
    for n in 0..5000u32 {
        apply(&mut trie, &mut model, Op::Insert(n.wrapping_mul(0x9e37_79b9), 8 + n as u8 % 25, n));
        apply(&mut trie, &mut model, Op::Insert(0x0a00_0000 + (n << 8), 24, n));
    }
    check_all(&trie, &model, []);
    assert_eq!(trie.root.bits(), Some(slot::MAX_BITS));
    while !model.is_empty() {
        let n = model.len() / 3;
        for _ in 0..1 + model.len() / 2 {
            apply(&mut trie, &mut model, Op::RemoveNth(n));
        }
        assert_eq!(check(&trie.root), model.len());
    }
    assert!(trie.root.is_empty());
}

#[test]
fn a_cell_is_four_words() {
    assert_eq!(size_of::<Slot<u32>>(), 32);
}
