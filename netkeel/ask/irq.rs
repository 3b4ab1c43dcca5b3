//! `netkeel irq`: interrupts and where they are taken.

use super::{Asking, Words, usage};
use crate::cli::Failure;
use crate::control::wire::{Irq, Op, Stat};
use clap::Args;
use klib::bitmap::CpuMask;

const EXAMPLES: &str = "\
Examples:
  netkeel irq                               as /proc/interrupts
  netkeel irq 2 smp_affinity                as /proc/irq/2/smp_affinity
  netkeel irq 2 smp_affinity 3              CPUs 0 and 1
  netkeel irq 2 smp_affinity_list 0-1       the same";

/// Show the interrupts of a running machine, or name the CPUs that may take one
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct IrqArgs {
    /// show, N smp_affinity [MASK], N smp_affinity_list [LIST]
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl IrqArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("irq", &self.words);
        let verb = words.verb();
        if verb == "show" {
            let [] = words.values([])?;
            return self.all();
        }
        let irq =
            verb.parse().map_err(|_| words.unknown(verb, &["show", "an interrupt's number"]))?;
        let knob = words.need("smp_affinity or smp_affinity_list")?;
        if !["smp_affinity", "smp_affinity_list"].contains(&knob) {
            return Err(words.unknown(knob, &["smp_affinity", "smp_affinity_list"]));
        }
        let wanted = words.next().map(|text| parse(knob, text)).transpose()?;
        let [] = words.values([])?;
        let found = match wanted {
            Some(mask) => self.asking.ask(&Op::IrqSet { irq, affinity: mask.to_string() })?,
            None => {
                let all: Vec<Irq> = self.asking.ask(&Op::IrqShow {})?;
                all.into_iter().find(|found| found.irq == irq).ok_or_else(|| {
                    Failure::Other(format!("there is no interrupt {irq}: `netkeel irq` lists them"))
                })?
            }
        };
        if wanted.is_some() && !self.asking.json {
            return Ok(());
        }
        self.asking.show(&found, |found| match knob {
            "smp_affinity" => format!("{}\n", found.smp_affinity),
            _ => format!("{}\n", found.smp_affinity_list),
        })
    }

    fn all(&self) -> Result<(), Failure> {
        if self.asking.json {
            return self
                .asking
                .show(&self.asking.ask::<Vec<Irq>>(&Op::IrqShow {})?, |_| String::new());
        }
        let stat: Stat = self.asking.ask(&Op::Stat { file: "interrupts".to_owned() })?;
        self.asking.show(&stat, |stat| stat.text.clone())
    }
}

/// A set of CPUs, in the syntax of that file of `/proc/irq`.
fn parse(knob: &str, text: &str) -> Result<CpuMask, Failure> {
    let (parsed, like) = match knob {
        "smp_affinity" => (text.parse(), "3 for CPUs 0 and 1"),
        _ => (CpuMask::parse_list(text), "0-1"),
    };
    parsed.map_err(|e| usage(format!("{knob}: {e}: write for example {like}")))
}
