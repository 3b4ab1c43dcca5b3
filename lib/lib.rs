//! Checksums, hashes, rings, bitmaps and tries.
