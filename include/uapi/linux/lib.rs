//! Wire formats and ABI numbers of Linux: views without state.
