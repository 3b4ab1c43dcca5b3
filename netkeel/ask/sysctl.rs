//! `netkeel sysctl`: settings by name.

use super::{Asking, usage};
use crate::cli::Failure;
use crate::control::wire::{Op, Setting};
use crate::sysctl_conf;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  netkeel sysctl                                    all there are
  netkeel sysctl net.ipv4.ip_default_ttl
  netkeel sysctl net.ipv4.conf                      all below a name
  netkeel sysctl -w net.ipv4.icmp_echo_ignore_all=1
  netkeel sysctl net.ipv4.conf.nk0.rp_filter=1
  netkeel sysctl -p router.conf                     all of a file, as sysctl.conf(5), or none

`netkeel up --sysctl FILE` sets them before the device comes up.";

/// Show or change the settings of a running machine
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SysctlArgs {
    /// Change: the same as without, when a value is there
    #[arg(short)]
    write: bool,
    /// Change what a file of the format of sysctl.conf(5) says: all of it or, if anything is refused, nothing
    #[arg(short = 'p', long, value_name = "FILE", conflicts_with_all = ["write", "name"])]
    load: Option<PathBuf>,
    /// NAME, or NAME=VALUE
    #[arg(value_name = "NAME[=VALUE]")]
    name: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl SysctlArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        // As procps takes them: with slashes, too.
        let dotted = |name: &str| sysctl_conf::dotted(name.trim());
        if let Some(path) = &self.load {
            let settings = sysctl_conf::wanted(path).map_err(usage)?;
            return self.shown(&Op::SysctlLoad { settings });
        }
        let op = match self.name.as_deref().map(|text| (text, text.split_once('='))) {
            Some((_, Some((name, value)))) => {
                Op::SysctlSet { name: dotted(name), value: value.trim().to_owned() }
            }
            Some((name, None)) if self.write => {
                return Err(usage(format!("sysctl -w {name}: a value is missing: write {name}=1")));
            }
            None if self.write => {
                return Err(usage("sysctl -w: write NAME=VALUE behind it".to_owned()));
            }
            name => Op::SysctlGet { name: name.map(|(name, _)| dotted(name)) },
        };
        self.shown(&op)
    }

    fn shown(&self, op: &Op) -> Result<(), Failure> {
        let settings: Vec<Setting> = self.asking.ask(op)?;
        self.asking.show(&settings, |all| {
            all.iter().map(|setting| format!("{} = {}\n", setting.name, setting.value)).collect()
        })
    }
}
