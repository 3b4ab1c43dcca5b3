//! Scatter and gather input and output.

/// Most vectors in one call.
pub const UIO_MAXIOV: usize = 1024;
/// Vectors a call handles without allocating.
pub const UIO_FASTIOV: usize = 8;
