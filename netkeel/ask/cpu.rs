//! `netkeel cpu`: CPUs, which go down and come up while the machine runs.

use super::{Asking, Words, usage};
use crate::cli::Failure;
use crate::control::wire::{Cpu, Op};
use clap::Args;
use klib::bitmap::CpuMask;

const EXAMPLES: &str = "\
Examples:
  netkeel cpu                               which are online
  netkeel cpu 1 online                      as /sys/devices/system/cpu/cpu1/online
  netkeel cpu 1 online 0                    take it down: its work goes to the others
  netkeel cpu 1 online 1                    and back into use";

/// Show the CPUs of a running machine, or take them down and up
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CpuArgs {
    /// show, N online [0|1]
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl CpuArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("cpu", &self.words);
        let verb = words.verb();
        if verb == "show" {
            let [] = words.values([])?;
            return self.asking.show(&self.all()?, |all| text(all));
        }
        let cpu = verb.parse().map_err(|_| words.unknown(verb, &["show", "a CPU's number"]))?;
        let knob = words.need("online")?;
        if knob != "online" {
            return Err(words.unknown(knob, &["online"]));
        }
        let wanted = match words.next() {
            None => None,
            Some("0") => Some(false),
            Some("1") => Some(true),
            Some(other) => {
                return Err(usage(format!("cpu {cpu} online {other:?}: write 0 or 1")));
            }
        };
        let [] = words.values([])?;
        let found: Cpu = match wanted {
            Some(online) => self.asking.ask(&Op::CpuSet { cpu, online })?,
            None => self.all()?.into_iter().find(|found| found.cpu == cpu).ok_or_else(|| {
                Failure::Other(format!("there is no CPU {cpu}: `netkeel cpu` lists them"))
            })?,
        };
        if wanted.is_some() && !self.asking.json {
            return Ok(());
        }
        self.asking.show(&found, |found| format!("{}\n", u8::from(found.online)))
    }

    fn all(&self) -> Result<Vec<Cpu>, Failure> {
        self.asking.ask(&Op::CpuShow {})
    }
}

/// The set of those online, then each.
fn text(all: &[Cpu]) -> String {
    let online = all.iter().filter(|cpu| cpu.online && cpu.cpu < 64);
    let online = CpuMask::from_bits(online.fold(0, |bits, cpu| bits | 1 << cpu.cpu));
    let each = all.iter().map(|cpu| format!("cpu{} {}\n", cpu.cpu, u8::from(cpu.online)));
    std::iter::once(format!("online {}\n", online.to_list())).chain(each).collect()
}
