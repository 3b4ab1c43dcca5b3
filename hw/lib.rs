//! Device models behind registers and descriptor memory.
