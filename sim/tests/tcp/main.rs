//! TCP under weather, under abuse, and at scale.
//!
//! `NETKEEL_SEEDS` says how many seeds each test takes; unset, few enough for every day. A release build
//! moves more octets and opens more connections than a debug build, which looks at every socket after each
//! step instead.

mod attacks;
mod fastopen;
mod hostile;
mod linux_losses;
mod many;
mod mtu_probe;
mod rates;
mod sack;
mod time;
mod transfer;
mod util;
