//! IGMP: header and message types.

use zerocopy::network_endian::{U16, U32};

view! {
    /// An IGMP version 1 or 2 message.
    pub struct IgmpHdr[8] {
        /// Type of message.
        type_: u8,
        /// Maximum response time in tenths of a second.
        code: u8,
        /// Checksum of the message.
        csum: U16,
        /// Group address.
        group: U32,
    }
}

view! {
    /// The fixed part of an IGMP version 3 query.
    pub struct Igmpv3Query[12] {
        /// Type of message.
        type_: u8,
        /// Maximum response code.
        code: u8,
        /// Checksum of the message.
        csum: U16,
        /// Group address.
        group: U32,
        /// Suppress flag (bit 3) and robustness variable (bits 0 to 2).
        s_qrv: u8,
        /// Querier's query interval code.
        qqic: u8,
        /// Number of source addresses that follow.
        nsrcs: U16,
    }
}

view! {
    /// The fixed part of an IGMP version 3 report.
    pub struct Igmpv3Report[8] {
        /// Type of message.
        type_: u8,
        /// Reserved.
        resv1: u8,
        /// Checksum of the message.
        csum: U16,
        /// Reserved.
        resv2: U16,
        /// Number of group records that follow.
        ngrec: U16,
    }
}

view! {
    /// The fixed part of a group record in a version 3 report.
    pub struct Igmpv3Grec[8] {
        /// Type of record.
        grec_type: u8,
        /// Words of auxiliary data.
        grec_auxwords: u8,
        /// Number of source addresses that follow.
        grec_nsrcs: U16,
        /// Group address.
        grec_mca: U32,
    }
}

consts! { u8:
    /// Membership query.
    IGMP_HOST_MEMBERSHIP_QUERY = 0x11;
    /// Version 1 membership report.
    IGMP_HOST_MEMBERSHIP_REPORT = 0x12;
    /// DVMRP routing.
    IGMP_DVMRP = 0x13;
    /// PIM routing.
    IGMP_PIM = 0x14;
    /// Trace.
    IGMP_TRACE = 0x15;
    /// Version 2 membership report.
    IGMPV2_HOST_MEMBERSHIP_REPORT = 0x16;
    /// Leave group.
    IGMP_HOST_LEAVE_MESSAGE = 0x17;
    /// Version 3 membership report.
    IGMPV3_HOST_MEMBERSHIP_REPORT = 0x22;
    /// Multicast traceroute response.
    IGMP_MTRACE_RESP = 0x1e;
    /// Multicast traceroute.
    IGMP_MTRACE = 0x1f;
    /// Record: filter mode is include.
    IGMPV3_MODE_IS_INCLUDE = 1;
    /// Record: filter mode is exclude.
    IGMPV3_MODE_IS_EXCLUDE = 2;
    /// Record: mode changes to include.
    IGMPV3_CHANGE_TO_INCLUDE = 3;
    /// Record: mode changes to exclude.
    IGMPV3_CHANGE_TO_EXCLUDE = 4;
    /// Record: sources added.
    IGMPV3_ALLOW_NEW_SOURCES = 5;
    /// Record: sources removed.
    IGMPV3_BLOCK_OLD_SOURCES = 6;
}

consts! { u32:
    /// The all-hosts group, 224.0.0.1.
    IGMP_ALL_HOSTS = 0xe000_0001;
    /// The all-routers group, 224.0.0.2.
    IGMP_ALL_ROUTER = 0xe000_0002;
    /// The group version 3 reports go to, 224.0.0.22.
    IGMPV3_ALL_MCR = 0xe000_0016;
    /// Prefix of groups that are never forwarded.
    IGMP_LOCAL_GROUP = 0xe000_0000;
    /// Mask of groups that are never forwarded.
    IGMP_LOCAL_GROUP_MASK = 0xffff_ff00;
}
