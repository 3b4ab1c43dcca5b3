//! A machine of the stack with one CPU over a TAP, for a measured end of ours.

use super::figure::Sample;
use super::place::{OUR_MAC, OURS};
use super::{BenchError, refused};
use host::tap::Tap;
use host::{Runtime, TapSpec};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::{NetdevFeatures, dev_open};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use std::time::Duration;
use uapi::if_ether::ETH_DATA_LEN;

/// Measures on such a machine, whose device does without `off`; a task that waits spins as long as `busy_poll`.
pub(super) fn on_machine(
    tap: Tap,
    busy_poll: Duration,
    off: NetdevFeatures,
    measure: impl FnOnce(&mut TaskCx) -> Result<Sample, BenchError>,
) -> Result<Sample, BenchError> {
    let mut runtime = Runtime::builder().busy_poll(busy_poll).boot()?;
    let spec = TapSpec { addr: OUR_MAC, mtu: ETH_DATA_LEN as u32, cpu: CpuId(0) };
    let dev = runtime.add_tap(tap, spec)?;
    dev.set_features(dev.features() - off);
    let mut cx = runtime.task("bench");
    dev_open(&mut cx, &dev).map_err(refused("bringing the device up"))?;
    let addr = IfAddr::new(OURS, 24).map_err(refused("our address"))?;
    inet_insert_ifa(&mut cx, &dev, addr).map_err(refused("adding the address"))?;
    let sample = measure(&mut cx);
    exit_files(&mut cx);
    drop(cx);
    runtime.shutdown()?;
    sample
}
