//! Who owns a socket, and what waits until he gives it back.
//!
//! linux: include/net/sock.h (`socket_lock_t`, `sk_backlog`). Key type: [`Owner`]. Contexts: under the
//! socket's lock, `class::Sock`. Invariant: while somebody owns the socket, what comes waits; it is
//! worked off in its order before anything that comes later is received.

/// What waits for the owner.
pub(super) trait Backlog: Default {
    /// Nothing does.
    fn is_empty(&self) -> bool;
}

/// The owner of a socket, if it has one, and its backlog.
#[derive(Default)]
pub(super) struct Owner<Q> {
    owned: bool,
    /// What waits.
    pub(super) backlog: Q,
}

impl<Q: Backlog> Owner<Q> {
    /// Somebody owns the socket.
    #[inline]
    pub(super) fn owned(&self) -> bool {
        self.owned
    }

    /// Owns the socket; false when somebody else does.
    pub(super) fn own(&mut self) -> bool {
        !std::mem::replace(&mut self.owned, true)
    }

    /// Gives the socket back, unless something waits: that is taken out, to be worked off before the
    /// next try.
    pub(super) fn release(&mut self) -> Option<Q> {
        if self.backlog.is_empty() {
            self.owned = false;
            return None;
        }
        Some(std::mem::take(&mut self.backlog))
    }

    /// The owner is gone, by a panic, and what waits stays.
    pub(super) fn abandon(&mut self) {
        self.owned = false;
    }
}
