//! `netkeel stat`: what the files of statistics in `/proc` would show.

use super::procfs::parse;
use super::{Asking, usage};
use crate::cli::{Failure, print};
use crate::control::ops::look::FILES;
use crate::control::wire::{Op, Stat};
use clap::Args;
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  netkeel stat                              which there are
  netkeel stat snmp                         in the shape of /proc/net/snmp
  netkeel stat drops                        packets dropped, by reason
  netkeel stat snmp --json | jq .Udp.InDatagrams
  watch -d netkeel stat softirqs";

/// Show the counters of a running machine, in the shape of the files in /proc
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatArgs {
    /// Which: interrupts, softirqs, dev, snmp, netstat, softnet_stat, arp, route, tcp, udp, raw, icmp,
    /// packet, igmp, mcfilter, sockstat, tcp_metrics, hooks, drops
    file: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl StatArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else {
            let mut text = String::new();
            for (name, what, _) in FILES {
                let _ = writeln!(text, "{name:14}{what}");
            }
            return print(text.as_bytes());
        };
        if !FILES.iter().any(|(name, ..)| name == file) {
            let names: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
            return Err(usage(format!("no statistics {file:?}: there are {}", names.join(", "))));
        }
        let stat: Stat = self.asking.ask(&Op::Stat { file: file.clone() })?;
        if self.asking.json {
            return self.asking.show(&parse(file, &stat.text), |_| String::new());
        }
        print(stat.text.as_bytes())
    }
}
