//! soon
use super::checks;
checks! {}
