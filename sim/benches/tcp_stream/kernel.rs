//! Connections through the host's kernel, over its loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A listener of the host's.
pub struct Kernel {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Kernel {
    /// One on a port that is free.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        Self { listener, addr }
    }

    /// A connection with the same calls as [`Pair::connection`](crate::pair::Pair::connection)'s: what a call
    /// waits for has come before it on this processor.
    pub fn connection(&self) {
        let mut near = TcpStream::connect(self.addr).expect("it listens");
        let (mut far, _) = self.listener.accept().expect("it is there");
        let octet = &mut [0x55];
        near.write_all(octet).expect("there is room");
        far.read_exact(octet).expect("it came");
        far.write_all(octet).expect("there is room");
        near.read_exact(octet).expect("it came");
        drop(near);
        drop(far);
    }
}
