//! Options of fragments.

use super::ip_options_fragment;
use uapi::ip::{IPOPT_END, IPOPT_NOOP, IPOPT_RA, IPOPT_RR, IPOPT_SEC, IPOPT_TIMESTAMP};

fn later(options: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    ip_options_fragment(&mut options);
    options
}

#[test]
fn later_fragments_keep_only_the_options_that_are_to_be_copied() {
    let n = IPOPT_NOOP;
    assert_eq!(later(&[IPOPT_RR, 3, 4, IPOPT_END]), [n, n, n, IPOPT_END]);
    assert_eq!(later(&[IPOPT_RA, 4, 0, 0]), [IPOPT_RA, 4, 0, 0]);
    assert_eq!(
        later(&[n, IPOPT_SEC, 3, 9, IPOPT_TIMESTAMP, 4, 5, 0, IPOPT_RA, 4, 0, 0]),
        [n, IPOPT_SEC, 3, 9, n, n, n, n, IPOPT_RA, 4, 0, 0]
    );
    assert_eq!(later(&[]), [0; 0]);
}

#[test]
fn options_that_are_none_end_the_search() {
    for odd in [&[IPOPT_RR][..], &[IPOPT_RR, 0, 0, 0], &[IPOPT_RR, 1, 0, 0], &[IPOPT_RR, 5, 0, 0]] {
        assert_eq!(later(odd), odd);
    }
    assert_eq!(later(&[IPOPT_END, IPOPT_RR, 3, 4]), [IPOPT_END, IPOPT_RR, 3, 4]);
}
