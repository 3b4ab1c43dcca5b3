//! The `netkeel` command.
fn main() {}
