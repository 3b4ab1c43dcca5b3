//! What fragments say of ECN, together.

use super::ip_frag_ecn;
use uapi::ip::{INET_ECN_CE, INET_ECN_ECT_0, INET_ECN_ECT_1, INET_ECN_NOT_ECT};

#[test]
fn fragments_agree_on_ecn_or_are_of_no_datagram() {
    let seen = |all: &[u8]| all.iter().fold(0, |seen, ecn| seen | 1 << ecn);
    let (no, one, zero, ce) = (INET_ECN_NOT_ECT, INET_ECN_ECT_1, INET_ECN_ECT_0, INET_ECN_CE);
    for alike in [no, one, zero] {
        assert_eq!(ip_frag_ecn(seen(&[alike])), Some(0), "the first one's stays");
    }
    assert_eq!(ip_frag_ecn(seen(&[zero, one])), Some(0));
    for marked in [&[ce][..], &[ce, zero], &[ce, one], &[ce, zero, one]] {
        assert_eq!(ip_frag_ecn(seen(marked)), Some(INET_ECN_CE), "{marked:?}");
    }
    for mixed in [&[no, ce][..], &[no, zero], &[no, one], &[no, zero, one], &[no, ce, zero]] {
        assert_eq!(ip_frag_ecn(seen(mixed)), None, "{mixed:?}");
    }
}
