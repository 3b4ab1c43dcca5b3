//! What kind of socket it is. Contexts: any.
//!
//! linux: include/net/sock.h (`sk_type`, `sk_protocol`).

use super::Sock;
use uapi::socket::SOL_RAW;

impl Sock {
    /// `SO_TYPE`.
    pub fn sk_type(&self) -> i32 {
        self.sk_prot.kind.0
    }

    /// `SO_PROTOCOL`: a raw socket's is its port.
    pub fn sk_protocol(&self) -> u16 {
        if self.sk_prot.level == SOL_RAW { self.inet_num() } else { self.sk_prot.kind.1.into() }
    }
}
