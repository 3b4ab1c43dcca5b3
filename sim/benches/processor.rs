//! What a thread has had of its processor.

use rustix::time::{ClockId, clock_gettime};

/// Seconds that this thread has had a processor, so that what else the system runs counts less.
pub fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
