//! The list of stations: every point the walk can show, with its Linux file.

use stack::kernel::trace::events::Point;
use std::io::{self, Write};

/// Column in which the files stand.
const FILE_COLUMN: usize = 32;

/// Writes every point, grouped by subsystem, then by file, in the order of the list.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write) -> io::Result<()> {
    let mut groups: Vec<(&str, Vec<Point>)> = Vec::new();
    for &point in Point::ALL {
        let group = group(point);
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, points)) => points.push(point),
            None => groups.push((group, vec![point])),
        }
    }
    for (at, (name, points)) in groups.iter().enumerate() {
        if at != 0 {
            writeln!(out)?;
        }
        writeln!(out, "{name}")?;
        for point in points {
            writeln!(out, "  {:<FILE_COLUMN$}{}", point.name(), point.file())?;
        }
    }
    Ok(())
}

/// What a reader looks under.
fn group(point: Point) -> &'static str {
    let file = point.file();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.starts_with(prefix));
    if file == "netkeel" {
        "Links between packets, calls and interrupts"
    } else if starts(&["kernel/", "include/linux/irq"]) {
        "Interrupts, softirqs and timers"
    } else if starts(&["drivers/"]) {
        "Drivers"
    } else if starts(&["net/socket.c", "fs/"]) {
        "System calls"
    } else if starts(&["net/core/sock.c", "include/net/sock.h", "net/core/datagram.c"]) {
        "Sockets"
    } else if starts(&["net/core/neighbour.c", "net/ipv4/arp.c", "include/net/arp.h"]) {
        "Neighbours and ARP"
    } else if starts(&["net/netfilter/", "include/linux/netfilter"]) {
        "Netfilter"
    } else if starts(&["net/ipv4/", "include/net/"]) {
        "IPv4, UDP and ICMP"
    } else {
        "Devices, queues and packets"
    }
}

#[cfg(test)]
mod tests;
