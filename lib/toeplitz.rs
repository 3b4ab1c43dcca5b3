//! The Toeplitz hash by which network cards spread flows over receive queues (RSS).
//!
//! For every set bit of the input, the 32 key bits that start at the same position are xored
//! together. The input of IPv4 is source address, destination address and, for TCP and UDP,
//! source port, destination port, all as on the wire.
//!
//! linux: the cards' own work; `include/linux/netdevice.h:netdev_rss_key_fill` gives them a key

use core::fmt;

/// The bytes of an RSS key.
pub const KEY_LEN: usize = 40;

/// The input bytes of an IPv4 flow with ports.
pub const FLOW_LEN: usize = 12;

/// The example key of Microsoft's RSS specification.
pub const MICROSOFT_KEY: [u8; KEY_LEN] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The 40 key bits that matter to the input byte at `position`, in the low bits; the key is
/// followed by zeros.
fn window(key: &[u8; KEY_LEN], position: usize) -> u64 {
    (position..position.saturating_add(5))
        .fold(0, |bits, at| bits << 8 | u64::from(key.get(at).copied().unwrap_or(0)))
}

/// The contribution of the value `byte` of an input byte to the hash.
fn contribution(window: u64, byte: u8) -> u32 {
    (0..8)
        .filter(|bit| byte >> (7 - bit) & 1 == 1)
        .fold(0, |hash, bit| hash ^ (window >> (8 - bit)) as u32)
}

/// Hashes `input` bit by bit; input past the end of the key has no influence.
pub fn toeplitz_hash(key: &[u8; KEY_LEN], input: &[u8]) -> u32 {
    hash_from(key, 0, input)
}

/// Hashes `input` as if it stood at byte `start` of the whole input.
fn hash_from(key: &[u8; KEY_LEN], start: usize, input: &[u8]) -> u32 {
    input
        .iter()
        .take(KEY_LEN)
        .enumerate()
        .fold(0, |hash, (at, &byte)| hash ^ contribution(window(key, start + at), byte))
}

/// The hash under one key, with a table for each byte of an IPv4 flow.
#[derive(Clone)]
pub struct Toeplitz {
    key: [u8; KEY_LEN],
    tables: Box<[[u32; 256]]>,
}

impl Toeplitz {
    /// Computes the tables (12 KiB) for `key`.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        let table = |position| {
            let window = window(key, position);
            let mut table = [0; 256];
            for (slot, byte) in table.iter_mut().zip(0..=u8::MAX) {
                *slot = contribution(window, byte);
            }
            table
        };
        Self { key: *key, tables: (0..FLOW_LEN).map(table).collect() }
    }

    /// The key.
    pub fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// Hashes `input`: one look-up for each of the first 12 bytes, bit by bit after that.
    #[inline]
    pub fn hash(&self, input: &[u8]) -> u32 {
        let (head, tail) = input.split_at(input.len().min(FLOW_LEN));
        let hash = self
            .tables
            .iter()
            .zip(head)
            .fold(0, |hash, (table, &byte)| hash ^ table[usize::from(byte)]);
        if tail.is_empty() { hash } else { hash ^ hash_from(&self.key, FLOW_LEN, tail) }
    }

    /// Hashes the addresses and ports of a flow, given in host order.
    #[inline]
    pub fn hash_flow(&self, saddr: u32, daddr: u32, sport: u16, dport: u16) -> u32 {
        let flow = u128::from(saddr) << 64
            | u128::from(daddr) << 32
            | u128::from(sport) << 16
            | u128::from(dport);
        self.hash(&flow.to_be_bytes()[4..])
    }
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Toeplitz").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Destination, source, hash of the addresses, hash with ports: Microsoft's verification
    /// suite.
    type Vector = (([u8; 4], u16), ([u8; 4], u16), u32, u32);
    const VECTORS: [Vector; 5] = [
        (([161, 142, 100, 80], 1766), ([66, 9, 149, 187], 2794), 0x323e_8fc2, 0x51cc_c178),
        (([65, 69, 140, 83], 4739), ([199, 92, 111, 2], 14230), 0xd718_262a, 0xc626_b0ea),
        (([12, 22, 207, 184], 38024), ([24, 19, 198, 95], 12898), 0xd2d0_a5de, 0x5c2b_394a),
        (([209, 142, 163, 6], 2217), ([38, 27, 205, 30], 48228), 0x8298_9176, 0xafc7_327f),
        (([202, 188, 127, 2], 1303), ([153, 39, 163, 191], 44251), 0x5d18_09c5, 0x10e8_28a2),
    ];

    #[test]
    fn microsoft_vectors() {
        let table = Toeplitz::new(&MICROSOFT_KEY);
        for ((daddr, dport), (saddr, sport), addresses, ports) in VECTORS {
            let mut input = [saddr, daddr].concat();
            assert_eq!(toeplitz_hash(&MICROSOFT_KEY, &input), addresses);
            assert_eq!(table.hash(&input), addresses);
            input.extend([sport, dport].map(u16::to_be_bytes).as_flattened());
            assert_eq!(toeplitz_hash(&MICROSOFT_KEY, &input), ports);
            assert_eq!(table.hash(&input), ports);
            let (saddr, daddr) = (u32::from_be_bytes(saddr), u32::from_be_bytes(daddr));
            assert_eq!(table.hash_flow(saddr, daddr, sport, dport), ports);
        }
    }

    proptest! {
        #[test]
        fn table_agrees_with_the_definition(input in vec(any::<u8>(), 0..64), key: [u8; 32]) {
            let mut full = MICROSOFT_KEY;
            full[..32].copy_from_slice(&key);
            let table = Toeplitz::new(&full);
            prop_assert_eq!(table.key(), &full);
            prop_assert_eq!(table.hash(&input), toeplitz_hash(&full, &input));
        }
    }
}
