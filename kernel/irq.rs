//! Interrupt lines (being written).
use std::fmt;
use std::sync::Arc;

/// The device's end of an interrupt: raising it marks it pending at the CPU its affinity names.
///
/// Cheap to clone; safe to raise from any context and any thread. Raising never runs the handler.
#[derive(Clone)]
pub struct IrqLine(Arc<dyn Fn() + Send + Sync>);

impl IrqLine {
    /// A line that calls `raise`; what device models are tested with.
    pub fn from_fn(raise: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(raise))
    }

    /// Signals the interrupt once (an edge).
    pub fn raise(&self) {
        (self.0)();
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IrqLine")
    }
}
