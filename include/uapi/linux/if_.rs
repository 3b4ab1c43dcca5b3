//! Device names, flags and states.

/// Octets of a device's name, the final zero included.
pub const IFNAMSIZ: usize = 16;
/// Octets of a device's alias.
pub const IFALIASZ: usize = 256;

consts! { u32:
    /// The device is up.
    IFF_UP = 1 << 0;
    /// The broadcast address is valid.
    IFF_BROADCAST = 1 << 1;
    /// Debugging is on.
    IFF_DEBUG = 1 << 2;
    /// It is a loopback device.
    IFF_LOOPBACK = 1 << 3;
    /// It is a point-to-point link.
    IFF_POINTOPOINT = 1 << 4;
    /// Trailers are avoided.
    IFF_NOTRAILERS = 1 << 5;
    /// It is operational.
    IFF_RUNNING = 1 << 6;
    /// It has no ARP.
    IFF_NOARP = 1 << 7;
    /// It receives every frame.
    IFF_PROMISC = 1 << 8;
    /// It receives every multicast frame.
    IFF_ALLMULTI = 1 << 9;
    /// It spreads load over slaves.
    IFF_MASTER = 1 << 10;
    /// It is a slave of a load balancer.
    IFF_SLAVE = 1 << 11;
    /// It can multicast.
    IFF_MULTICAST = 1 << 12;
    /// Its medium can be chosen.
    IFF_PORTSEL = 1 << 13;
    /// Its medium is chosen automatically.
    IFF_AUTOMEDIA = 1 << 14;
    /// Its addresses are lost when it goes down.
    IFF_DYNAMIC = 1 << 15;
    /// It has a carrier.
    IFF_LOWER_UP = 1 << 16;
    /// It waits for an external event.
    IFF_DORMANT = 1 << 17;
    /// It echoes frames sent.
    IFF_ECHO = 1 << 18;
    /// Flags userspace cannot change.
    IFF_VOLATILE = IFF_LOOPBACK | IFF_POINTOPOINT | IFF_BROADCAST | IFF_ECHO | IFF_MASTER
        | IFF_SLAVE | IFF_RUNNING | IFF_LOWER_UP | IFF_DORMANT;
}

consts! { u8:
    /// State: unknown.
    IF_OPER_UNKNOWN = 0;
    /// State: a component is missing.
    IF_OPER_NOTPRESENT = 1;
    /// State: down.
    IF_OPER_DOWN = 2;
    /// State: a device below is down.
    IF_OPER_LOWERLAYERDOWN = 3;
    /// State: testing.
    IF_OPER_TESTING = 4;
    /// State: waiting for an external event.
    IF_OPER_DORMANT = 5;
    /// State: up.
    IF_OPER_UP = 6;
    /// Link mode: up as soon as there is a carrier.
    IF_LINK_MODE_DEFAULT = 0;
    /// Link mode: dormant until a supplicant says otherwise.
    IF_LINK_MODE_DORMANT = 1;
    /// Link mode: testing until told otherwise.
    IF_LINK_MODE_TESTING = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n as i64, libc::$n as i64, stringify!($n));)* } }
        same!(IFNAMSIZ IFF_UP IFF_BROADCAST IFF_DEBUG IFF_LOOPBACK IFF_POINTOPOINT IFF_NOTRAILERS
            IFF_RUNNING IFF_NOARP IFF_PROMISC IFF_ALLMULTI IFF_MASTER IFF_SLAVE IFF_MULTICAST
            IFF_PORTSEL IFF_AUTOMEDIA IFF_DYNAMIC);
    }
}
