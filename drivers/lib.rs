//! Network device drivers and the bus they see.
