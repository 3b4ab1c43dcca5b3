//! The order of locks, in one table, and the check of it in debug builds.
//!
//! linux: kernel/lockdep.c. `Documentation/networking/locking.md` is this table with words;
//! `xtask check` compares the two.
//! Contexts: all. Release builds carry none of it.
//!
//! The stack of held ranks belongs to the thread, so it sits in a `thread_local!`: the only one
//! of the project, in debug builds only, and nothing but this assertion reads it.

/// A class of locks: all locks of a class share a rank; a thread takes ranks in ascending order.
pub trait LockClass {
    /// Name in messages and in the documentation.
    const NAME: &'static str;
    /// Position in the order; higher is taken later.
    const RANK: u8;
}

macro_rules! lock_classes {
    ($($rank:literal $name:ident $doc:literal;)*) => {
        /// The classes, lowest rank first.
        pub mod class {
            $(#[doc = $doc] #[derive(Debug)] pub struct $name;
              impl super::LockClass for $name {
                  const NAME: &'static str = stringify!($name);
                  const RANK: u8 = $rank;
              })*
        }
        /// `(rank, name, meaning)` of every class, as the documentation prints it.
        pub const CLASSES: &[(u8, &str, &str)] = &[$(($rank, stringify!($name), $doc)),*];
    };
}

lock_classes! {
    3 Rtnl "A device's configuration: up, down, MTU, address, one change at a time (`rtnl_lock`).";
    5 Tables "The making of a new snapshot of the read-mostly tables: one writer at a time.";
    10 Files "A task's file table, written.";
    12 Nsproxy "The namespace that a task is in.";
    15 Epoll "The interest list of an epoll instance.";
    20 Cpu "A virtual CPU: entering it ranks as a lock, and nobody holds two.";
    30 PortHash "Bind and lookup buckets of a protocol's sockets.";
    34 Pipe "A pipe's buffers, and who waits at its ends; a file in memory.";
    35 Sock "A socket's state (`sk_lock.slock`).";
    36 BindHash "A part of the table of bound TCP ports.";
    37 Ehash "A part of the table of TCP connections.";
    38 TimeWait "What is left of a TCP connection.";
    39 Accept "A listener's connections that wait to be accepted.";
    40 NeighTable "The neighbour hash table.";
    45 Neigh "One neighbour entry.";
    47 ListenHash "A part of the table of TCP listeners.";
    48 Request "A connection's request that has no socket yet.";
    50 Qdisc "A queueing discipline's queue (`qdisc_lock`).";
    55 TxQueue "A device's transmit queue (`HARD_TX_LOCK`).";
    56 Fanout "The members of a group of packet sockets, who share what a device's frames bring.";
    57 TapSock "A packet socket's state, as a tap takes it: whoever sends may hold his own socket's.";
    60 Napi "What a NAPI context parks between polls.";
    62 Backlog "The queue by which packets reach another CPU's backlog (`rps_lock`).";
    65 Ring "A device ring or the driver's private state.";
    70 EpollReady "The ready list of an epoll instance.";
    75 WaitQueue "A wait queue outside a socket.";
    77 InetFrag "A part of the table of datagrams that are put together from fragments.";
    78 Fnhe "What is known of the MTU of ways.";
    79 Igmp "The groups of devices, and the timers of IGMP.";
    80 InetPeer "ICMP rate-limit and IP-ID tables.";
    82 AddrList "The addresses that a device receives at besides its own (`netif_addr_lock`).";
    85 Depot "The machine's depot of packet memory.";
    90 Irq "Interrupt descriptors.";
    92 Publish "Publication of the read-mostly tables.";
    95 Trace "A CPU's ring of walk records.";
}

#[cfg(debug_assertions)]
mod checked {
    use super::LockClass;
    use std::cell::RefCell;

    thread_local! {
        static HELD: RefCell<Vec<(u8, &'static str)>> = const { RefCell::new(Vec::new()) };
    }

    /// A rank held by this thread; debug builds assert the order when it is taken.
    #[derive(Debug)]
    pub struct Held(u8);

    impl Held {
        /// Records that this thread takes a lock of class `C`.
        ///
        /// # Panics
        /// When the thread already holds the same or a higher rank.
        #[track_caller]
        pub fn acquire<C: LockClass>() -> Self {
            HELD.with_borrow_mut(|held| {
                if let Some((rank, name)) = held.iter().max_by_key(|(rank, _)| *rank) {
                    assert!(*rank < C::RANK, "lock order: {} taken while {name} is held", C::NAME);
                }
                held.push((C::RANK, C::NAME));
            });
            Self(C::RANK)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.with_borrow_mut(|held| {
                if let Some(at) = held.iter().rposition(|(rank, _)| *rank == self.0) {
                    held.remove(at);
                }
            });
        }
    }
}

#[cfg(not(debug_assertions))]
mod checked {
    /// A rank held by this thread; release builds record nothing.
    #[derive(Debug)]
    pub struct Held;

    impl Held {
        /// Records nothing.
        #[inline(always)]
        pub fn acquire<C: super::LockClass>() -> Self {
            Self
        }
    }
}

pub use checked::Held;

#[cfg(test)]
mod tests {
    use super::{CLASSES, class};
    use crate::kernel::locking::SpinLock;

    #[test]
    fn ranks_are_distinct_and_ascend() {
        assert!(CLASSES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock order: Sock taken while Neigh is held")]
    fn a_lower_rank_after_a_higher_one_panics() {
        let neigh: SpinLock<(), class::Neigh> = SpinLock::new(());
        let sock: SpinLock<(), class::Sock> = SpinLock::new(());
        let _outer = neigh.lock();
        let _inner = sock.lock();
    }

    #[test]
    fn ascending_and_interleaved_release_is_fine() {
        let neigh: SpinLock<(), class::Neigh> = SpinLock::new(());
        let sock: SpinLock<(), class::Sock> = SpinLock::new(());
        let first = sock.lock();
        let second = neigh.lock();
        drop(first);
        drop(second);
        drop(sock.lock());
    }
}
