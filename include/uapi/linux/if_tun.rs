//! TUN and TAP devices: flags, offloads, ioctl requests.

/// The device clones are opened from.
pub const TUN_PATH: &str = "/dev/net/tun";

consts! { u16:
    /// Layer 3 device: IP packets.
    IFF_TUN = 0x0001;
    /// Layer 2 device: Ethernet frames.
    IFF_TAP = 0x0002;
    /// Receive through NAPI.
    IFF_NAPI = 0x0010;
    /// Receive through NAPI, in fragments.
    IFF_NAPI_FRAGS = 0x0020;
    /// Create the device without a carrier.
    IFF_NO_CARRIER = 0x0040;
    /// Several queues.
    IFF_MULTI_QUEUE = 0x0100;
    /// Attach a queue.
    IFF_ATTACH_QUEUE = 0x0200;
    /// Detach a queue.
    IFF_DETACH_QUEUE = 0x0400;
    /// The device outlives its descriptor.
    IFF_PERSIST = 0x0800;
    /// No filter is attached.
    IFF_NOFILTER = 0x1000;
    /// No packet information precedes packets.
    IFF_NO_PI = 0x1000;
    /// Ignored.
    IFF_ONE_QUEUE = 0x2000;
    /// A virtio header precedes packets.
    IFF_VNET_HDR = 0x4000;
    /// Fail when the device exists.
    IFF_TUN_EXCL = 0x8000;
    /// Packet information: the packet was cut.
    TUN_PKT_STRIP = 0x0001;
}

consts! { u32:
    /// Offload: packets without checksums are accepted.
    TUN_F_CSUM = 0x01;
    /// Offload: TCP segmentation over IPv4.
    TUN_F_TSO4 = 0x02;
    /// Offload: TCP segmentation over IPv6.
    TUN_F_TSO6 = 0x04;
    /// Offload: TCP segmentation with ECN.
    TUN_F_TSO_ECN = 0x08;
    /// Offload: UDP fragmentation.
    TUN_F_UFO = 0x10;
    /// Offload: UDP segmentation over IPv4.
    TUN_F_USO4 = 0x20;
    /// Offload: UDP segmentation over IPv6.
    TUN_F_USO6 = 0x40;
    /// Ignored.
    TUNSETNOCSUM = 0x4004_54c8;
    /// Set the debugging level.
    TUNSETDEBUG = 0x4004_54c9;
    /// Create or attach to a device.
    TUNSETIFF = 0x4004_54ca;
    /// Make the device outlive its descriptor.
    TUNSETPERSIST = 0x4004_54cb;
    /// Set the owning user.
    TUNSETOWNER = 0x4004_54cc;
    /// Set the link type.
    TUNSETLINK = 0x4004_54cd;
    /// Set the owning group.
    TUNSETGROUP = 0x4004_54ce;
    /// Read the flags there are.
    TUNGETFEATURES = 0x8004_54cf;
    /// Set the offloads.
    TUNSETOFFLOAD = 0x4004_54d0;
    /// Set the address filter.
    TUNSETTXFILTER = 0x4004_54d1;
    /// Read name and flags of the device.
    TUNGETIFF = 0x8004_54d2;
    /// Read the size of the send buffer.
    TUNGETSNDBUF = 0x8004_54d3;
    /// Set the size of the send buffer.
    TUNSETSNDBUF = 0x4004_54d4;
    /// Attach a filter.
    TUNATTACHFILTER = 0x4010_54d5;
    /// Detach the filter.
    TUNDETACHFILTER = 0x4010_54d6;
    /// Read the size of the virtio header.
    TUNGETVNETHDRSZ = 0x8004_54d7;
    /// Set the size of the virtio header.
    TUNSETVNETHDRSZ = 0x4004_54d8;
    /// Attach or detach a queue.
    TUNSETQUEUE = 0x4004_54d9;
    /// Choose the index of the device.
    TUNSETIFINDEX = 0x4004_54da;
    /// Read the filter.
    TUNGETFILTER = 0x8010_54db;
    /// The virtio header is little-endian.
    TUNSETVNETLE = 0x4004_54dc;
    /// Whether the virtio header is little-endian.
    TUNGETVNETLE = 0x8004_54dd;
    /// The virtio header is big-endian.
    TUNSETVNETBE = 0x4004_54de;
    /// Whether the virtio header is big-endian.
    TUNGETVNETBE = 0x8004_54df;
    /// Set the program that picks the queue.
    TUNSETSTEERINGEBPF = 0x8004_54e0;
    /// Set the program that filters.
    TUNSETFILTEREBPF = 0x8004_54e1;
    /// Set the carrier.
    TUNSETCARRIER = 0x4004_54e2;
    /// Network namespace of the device.
    TUNGETDEVNETNS = 0x54e3;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n as i64, libc::$n as i64, stringify!($n));)* } }
        same!(IFF_TUN IFF_TAP IFF_NO_PI IFF_VNET_HDR IFF_MULTI_QUEUE IFF_TUN_EXCL IFF_NAPI
            TUN_F_CSUM TUN_F_TSO4 TUN_F_UFO TUNSETIFF TUNSETOFFLOAD TUNSETVNETHDRSZ TUNGETIFF
            TUNSETQUEUE TUNSETPERSIST TUNGETFEATURES TUNSETCARRIER TUNATTACHFILTER TUNGETFILTER
            TUNSETSNDBUF);
    }
}
