//! Neighbour entries: states and flags.

consts! { u16:
    /// No state.
    NUD_NONE = 0x00;
    /// Resolution is going on.
    NUD_INCOMPLETE = 0x01;
    /// Reachability was confirmed lately.
    NUD_REACHABLE = 0x02;
    /// Reachability was confirmed long ago.
    NUD_STALE = 0x04;
    /// Stale and in use; a probe is due.
    NUD_DELAY = 0x08;
    /// Being probed.
    NUD_PROBE = 0x10;
    /// Resolution failed.
    NUD_FAILED = 0x20;
    /// Needs no resolution.
    NUD_NOARP = 0x40;
    /// Never expires.
    NUD_PERMANENT = 0x80;
    /// The states a timer runs in.
    NUD_IN_TIMER = NUD_INCOMPLETE | NUD_REACHABLE | NUD_DELAY | NUD_PROBE;
    /// The states in which the hardware address is known.
    NUD_VALID = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE
        | NUD_DELAY;
    /// The states in which packets are sent without further checks.
    NUD_CONNECTED = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE;
}

consts! { u8:
    /// Probe as though the entry were used.
    NTF_USE = 1 << 0;
    /// The device itself handles the request.
    NTF_SELF = 1 << 1;
    /// The device's master handles the request.
    NTF_MASTER = 1 << 2;
    /// The entry is answered for by proxy.
    NTF_PROXY = 1 << 3;
    /// Learned outside the kernel.
    NTF_EXT_LEARNED = 1 << 4;
    /// The entry is offloaded.
    NTF_OFFLOADED = 1 << 5;
    /// The entry does not move.
    NTF_STICKY = 1 << 6;
    /// The neighbour is a router.
    NTF_ROUTER = 1 << 7;
}

consts! { u32:
    /// Extended flag: the kernel keeps the entry resolved.
    NTF_EXT_MANAGED = 1 << 0;
    /// Extended flag: the entry is locked.
    NTF_EXT_LOCKED = 1 << 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n, stringify!($n));)* } }
        same!(NUD_NONE NUD_INCOMPLETE NUD_REACHABLE NUD_STALE NUD_DELAY NUD_PROBE NUD_FAILED
            NUD_NOARP NUD_PERMANENT NTF_USE NTF_SELF NTF_MASTER NTF_PROXY NTF_ROUTER);
    }
}
