//! One seed, one run: every stepped test runs twice.

use sim::Digest;

/// Makes a test of a function that ends in its world's digest: it is run twice, and both runs must
/// have passed the same stations at the same times, with the same counters at the end. A function
/// that is not named so is never called, which clippy reports.
macro_rules! stepped {
    ($name:ident) => {
        mod $name {
            #[test]
            fn twice() {
                crate::stepped::twice(super::$name);
            }
        }
    };
}

/// Runs a test's body twice and compares.
///
/// # Panics
/// When the runs differ, or nothing was recorded that could.
pub fn twice(body: fn() -> Digest) {
    let [first, second] = [body(), body()];
    assert_eq!(first, second, "the same seed gave another walk");
    assert_ne!(first.records(), 0, "nothing was recorded");
}
