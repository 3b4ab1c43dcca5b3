//! Names of options and requests, for calls with arguments that mean something.

use uapi::in_::*;
use uapi::socket::*;

/// A level and the names it has, from and to.
pub const NAMES: [(i32, i32, i32); 7] = [
    (SOL_SOCKET, 1, SO_INQ),
    (SOL_IP, 1, IP_PROTOCOL),
    (SOL_TCP, 1, 46),
    (SOL_UDP, 1, 1),
    (SOL_UDP, 100, 104),
    (SOL_PACKET, 1, 24),
    (SOL_RAW, 1, 1),
];

/// Numbers that options take or refuse.
pub const VALUES: [i32; 14] =
    [0, 1, -1, 2, 3, 7, 90, 536, 2048, 65_535, 100_000, i32::MAX, i32::MIN, 1 << 20];

/// Requests of `ioctl`: a first one, and how many follow it.
pub const REQUESTS: [(u32, u32); 9] = [
    (0x541b, 1),
    (0x5421, 1),
    (0x5411, 1),
    (0x8901, 8),
    (0x890b, 3),
    (0x8910, 24),
    (0x8927, 34),
    (0x8953, 3),
    (0x8980, 4),
];
