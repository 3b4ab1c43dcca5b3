//! What `/proc/net/dev` and `/proc/net/softnet_stat` show.
//!
//! linux: net/core/net-procfs.c. Contexts: task, on no CPU: each is entered in turn.

use crate::kernel::machine::Machine;
use crate::net::net_namespace::NetView;
use std::fmt::Write;

/// The text of `/proc/net/dev`: each device's counters.
///
/// linux: net/core/net-procfs.c:dev_seq_show
pub fn dev_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let mut text =
        "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|\
                    bytes    packets errs drop fifo colls carrier compressed\n"
            .to_owned();
    for dev in of.t.net.devs.iter().flatten() {
        let s = dev.ops.ndo_get_stats64();
        let _ = writeln!(
            text,
            "{:>6}: {:7} {:7} {:4} {:4} {:4} {:5} {:10} {:9} {:8} {:7} {:4} {:4} {:4} {:5} {:7} {:10}",
            dev.name,
            s.rx_bytes,
            s.rx_packets,
            s.rx_errors,
            s.rx_dropped + s.rx_missed,
            0,
            s.rx_length_errors + s.rx_crc_errors,
            0,
            s.multicast,
            s.tx_bytes,
            s.tx_packets,
            s.tx_errors,
            s.tx_dropped,
            0,
            0,
            0,
            0
        );
    }
    text
}

/// The text of `/proc/net/softnet_stat`: a line for each CPU, of hexadecimal columns as Linux has
/// them: received, dropped, squeezed, six that are always zero, two of steering and flow limits, the
/// backlog's length, the CPU, and the two halves of that length.
///
/// linux: net/core/net-procfs.c:softnet_seq_show
pub fn softnet_seq_show(m: &Machine) -> String {
    let lines = m.for_each_cpu(|local| {
        let softnet = &local.softnet;
        let queued = softnet.input_pkt_queue.len() as u64;
        let mut columns = [0; 15];
        columns[0] = softnet.processed;
        columns[1] = softnet.dropped;
        columns[2] = softnet.time_squeeze;
        columns[9] = softnet.received_rps;
        columns[11] = queued;
        columns[12] = u64::from(local.id.0);
        columns[13] = queued;
        columns
    });
    let column = |value: &u64| format!("{:08x}", *value as u32);
    let line = |columns: &[u64; 15]| columns.iter().map(column).collect::<Vec<_>>().join(" ");
    lines.iter().map(|columns| line(columns) + "\n").collect()
}
