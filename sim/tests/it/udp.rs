//! UDP between two machines.

use crate::util::{A, B, Pair, addr, recv, send, udp};
use sim::Digest;
use stack::fs::exit_files;

stepped!(a_datagram_and_its_answer);
fn a_datagram_and_its_answer() -> Digest {
    let mut pair = Pair::new(1);
    let (mut on_a, mut on_b) = (pair.on_a(), pair.on_b());
    let client = udp(&mut on_a, A, 4000);
    let server = udp(&mut on_b, B, 7);
    send(&mut pair, &mut on_a, client, b"hello", addr(B, 7));
    let (data, from) = recv(&mut pair, &mut on_b, server).expect("a datagram");
    assert_eq!(data, b"hello");
    assert_eq!(from.to_bytes(), addr(A, 4000));
    send(&mut pair, &mut on_b, server, &data, from.to_bytes());
    let (data, from) = recv(&mut pair, &mut on_a, client).expect("the answer");
    assert_eq!((data.as_slice(), from.to_bytes()), (&b"hello"[..], addr(B, 7)));
    exit_files(&mut on_a);
    exit_files(&mut on_b);
    drop((on_a, on_b));
    pair.end()
}
