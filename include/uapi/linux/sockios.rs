//! Requests of ioctl(2) on sockets.

consts! { u32:
    /// Octets ready to read.
    FIONREAD = 0x541b;
    /// Set or clear nonblocking mode.
    FIONBIO = 0x5421;
    /// Do not close on exec.
    FIONCLEX = 0x5450;
    /// Close on exec.
    FIOCLEX = 0x5451;
    /// Set or clear signalling of readiness.
    FIOASYNC = 0x5452;
    /// Set who is signalled.
    FIOSETOWN = 0x8901;
    /// Set who is signalled.
    SIOCSPGRP = 0x8902;
    /// Read who is signalled.
    FIOGETOWN = 0x8903;
    /// Read who is signalled.
    SIOCGPGRP = 0x8904;
    /// Whether the socket is at the urgent mark.
    SIOCATMARK = 0x8905;
    /// Timestamp of the last packet, in microseconds.
    SIOCGSTAMP = 0x8906;
    /// Timestamp of the last packet, in nanoseconds.
    SIOCGSTAMPNS = 0x8907;
    /// Octets ready to read.
    SIOCINQ = FIONREAD;
    /// Octets not yet sent or acknowledged.
    SIOCOUTQ = 0x5411;
    /// Octets not yet sent.
    SIOCOUTQNSD = 0x894b;
    /// Add a route.
    SIOCADDRT = 0x890b;
    /// Delete a route.
    SIOCDELRT = 0x890c;
    /// Unused.
    SIOCRTMSG = 0x890d;
    /// Name of a device by index.
    SIOCGIFNAME = 0x8910;
    /// Obsolete.
    SIOCSIFLINK = 0x8911;
    /// List the devices' addresses.
    SIOCGIFCONF = 0x8912;
    /// Read a device's flags.
    SIOCGIFFLAGS = 0x8913;
    /// Set a device's flags.
    SIOCSIFFLAGS = 0x8914;
    /// Read a device's address.
    SIOCGIFADDR = 0x8915;
    /// Set a device's address.
    SIOCSIFADDR = 0x8916;
    /// Read the peer's address.
    SIOCGIFDSTADDR = 0x8917;
    /// Set the peer's address.
    SIOCSIFDSTADDR = 0x8918;
    /// Read the broadcast address.
    SIOCGIFBRDADDR = 0x8919;
    /// Set the broadcast address.
    SIOCSIFBRDADDR = 0x891a;
    /// Read the netmask.
    SIOCGIFNETMASK = 0x891b;
    /// Set the netmask.
    SIOCSIFNETMASK = 0x891c;
    /// Read the metric.
    SIOCGIFMETRIC = 0x891d;
    /// Set the metric.
    SIOCSIFMETRIC = 0x891e;
    /// Read the MTU.
    SIOCGIFMTU = 0x8921;
    /// Set the MTU.
    SIOCSIFMTU = 0x8922;
    /// Rename a device.
    SIOCSIFNAME = 0x8923;
    /// Set the hardware address.
    SIOCSIFHWADDR = 0x8924;
    /// Read the hardware address.
    SIOCGIFHWADDR = 0x8927;
    /// Obsolete.
    SIOCGIFSLAVE = 0x8929;
    /// Add a multicast address.
    SIOCADDMULTI = 0x8931;
    /// Remove a multicast address.
    SIOCDELMULTI = 0x8932;
    /// Index of a device by name.
    SIOCGIFINDEX = 0x8933;
    /// Set extended flags.
    SIOCSIFPFLAGS = 0x8934;
    /// Read extended flags.
    SIOCGIFPFLAGS = 0x8935;
    /// Set the hardware broadcast address.
    SIOCSIFHWBROADCAST = 0x8937;
    /// Number of devices; unused.
    SIOCGIFCOUNT = 0x8938;
    /// Read the transmit queue's length.
    SIOCGIFTXQLEN = 0x8942;
    /// Set the transmit queue's length.
    SIOCSIFTXQLEN = 0x8943;
    /// Ethtool request.
    SIOCETHTOOL = 0x8946;
    /// Address of the PHY in use.
    SIOCGMIIPHY = 0x8947;
    /// Read a PHY register.
    SIOCGMIIREG = 0x8948;
    /// Write a PHY register.
    SIOCSMIIREG = 0x8949;
    /// Delete an ARP entry.
    SIOCDARP = 0x8953;
    /// Read an ARP entry.
    SIOCGARP = 0x8954;
    /// Set an ARP entry.
    SIOCSARP = 0x8955;
    /// Read device resources.
    SIOCGIFMAP = 0x8970;
    /// Set device resources.
    SIOCSIFMAP = 0x8971;
    /// Read VLAN settings.
    SIOCGIFVLAN = 0x8982;
    /// Change VLAN settings.
    SIOCSIFVLAN = 0x8983;
    /// Set hardware timestamping.
    SIOCSHWTSTAMP = 0x89b0;
    /// Read hardware timestamping.
    SIOCGHWTSTAMP = 0x89b1;
    /// First request private to a driver.
    SIOCDEVPRIVATE = 0x89f0;
    /// First request private to a protocol.
    SIOCPROTOPRIVATE = 0x89e0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!(u64::from($n), libc::$n as u64, stringify!($n));)* } }
        same!(FIONREAD FIONBIO FIOCLEX FIONCLEX FIOASYNC SIOCADDRT SIOCDELRT SIOCGIFNAME
            SIOCGIFCONF SIOCGIFFLAGS SIOCSIFFLAGS SIOCGIFADDR SIOCSIFADDR SIOCGIFMTU SIOCSIFMTU
            SIOCGIFHWADDR SIOCSIFHWADDR SIOCGIFINDEX SIOCDARP SIOCGARP SIOCSARP SIOCGIFTXQLEN);
        assert_eq!(u64::from(SIOCINQ), libc::TIOCINQ);
        assert_eq!(u64::from(SIOCOUTQ), libc::TIOCOUTQ);
    }
}
