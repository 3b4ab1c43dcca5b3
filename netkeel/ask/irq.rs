//! `netkeel irq`: interrupts and where they are taken.

use super::balance::{Balancer, Counted, Move};
use super::{Asking, Words, usage};
use crate::cli::{Failure, print};
use crate::control::client::Connection;
use crate::control::wire::{Cpu, Irq, Op, Stat};
use clap::Args;
use host::wait::Waiter;
use klib::bitmap::CpuMask;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  netkeel irq                               as /proc/interrupts
  netkeel irq 2 smp_affinity                as /proc/irq/2/smp_affinity
  netkeel irq 2 smp_affinity 3              CPUs 0 and 1
  netkeel irq 2 smp_affinity_list 0-1       the same
  netkeel irq --balance                     spread them over the CPUs by their load, until Ctrl-C
  netkeel irq --balance --interval 2 --hintpolicy ignore";

/// Show the interrupts of a running machine, or name the CPUs that may take one
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct IrqArgs {
    /// show, N smp_affinity [MASK], N smp_affinity_list [LIST]
    words: Vec<String>,
    /// Spread them over the CPUs by their load, as irqbalance does, until Ctrl-C; each move is printed
    #[arg(long, conflicts_with = "words")]
    balance: bool,
    /// Seconds between looks
    #[arg(long, value_name = "S", default_value_t = 10.0, requires = "balance", value_parser = interval)]
    interval: f64,
    /// Whether an interrupt stays where its driver would have it
    #[arg(long, value_name = "POLICY", default_value = "subset", requires = "balance")]
    hintpolicy: HintPolicy,
    #[command(flatten)]
    asking: Asking,
}

/// What a driver's hint means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum HintPolicy {
    /// An interrupt goes to CPUs of its hint alone
    #[default]
    Subset,
    /// It goes anywhere
    Ignore,
}

/// Seconds that can be waited for.
fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    (0.05..=3600.0)
        .contains(&seconds)
        .then_some(seconds)
        .ok_or_else(|| "0.05 to 3600 seconds".to_owned())
}

impl IrqArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        if self.balance {
            return self.balance();
        }
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

    /// Spreads them over the CPUs until it is stopped.
    ///
    /// linux: user space in Linux:irqbalance
    fn balance(&self) -> Result<(), Failure> {
        let mut connection = self.asking.connect()?;
        let mut balancer = Balancer::default();
        let mut before = Look::of(&mut connection)?;
        let failed = |e: std::io::Error| Failure::Other(format!("waiting: {e}"));
        let waiter = Waiter::new().map_err(failed)?;
        loop {
            waiter.wait(Some(Duration::from_secs_f64(self.interval))).map_err(failed)?;
            let now = Look::of(&mut connection)?;
            let (work, counted) = now.since(&before, self.hintpolicy);
            if let Some(Move { irq, from, to }) = balancer.interval(&work, &counted) {
                let affinity = format!("{:x}", 1_u64 << to);
                let moved: Irq = connection.ask(&Op::IrqSet { irq, affinity })?;
                let line = match self.asking.json {
                    true => {
                        let name = moved.name;
                        format!("{}\n", json!({ "irq": irq, "name": name, "from": from, "to": to }))
                    }
                    false => format!("irq {irq} ({}): CPU {from} -> CPU {to}\n", moved.name),
                };
                print(line.as_bytes())?;
            }
            before = now;
        }
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

/// What was counted so far.
struct Look {
    irqs: Vec<Irq>,
    /// Packets that each CPU that is online has handled.
    work: BTreeMap<u8, u64>,
}

impl Look {
    fn of(connection: &mut Connection) -> Result<Self, Failure> {
        let irqs = connection.ask(&Op::IrqShow {})?;
        let cpus: Vec<Cpu> = connection.ask(&Op::CpuShow {})?;
        let stat: Stat = connection.ask(&Op::Stat { file: "softnet_stat".to_owned() })?;
        // A line a CPU, the first number what it has handled, the thirteenth which it is.
        let of = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number =
                |at: usize| words.get(at).and_then(|word| u64::from_str_radix(word, 16).ok());
            Some((number(12)? as u8, number(0)?))
        };
        let handled: BTreeMap<u8, u64> = stat.text.lines().filter_map(of).collect();
        let online = cpus.iter().filter(|cpu| cpu.online);
        let work = online.map(|cpu| (cpu.cpu, handled.get(&cpu.cpu).copied().unwrap_or(0)));
        Ok(Self { irqs, work: work.collect() })
    }

    /// What was counted since an earlier look.
    fn since(&self, before: &Self, policy: HintPolicy) -> (BTreeMap<u8, u64>, Vec<Counted>) {
        let work = self.work.iter().map(|(cpu, now)| {
            // Files of statistics count to 32 bits.
            let was = before.work.get(cpu).copied().unwrap_or(*now);
            (*cpu, u64::from((*now as u32).wrapping_sub(was as u32)))
        });
        let total = |irq: &Irq| irq.counts.iter().sum::<u64>();
        let counted = self.irqs.iter().map(|irq| {
            let was = before.irqs.iter().find(|old| (old.irq, &old.name) == (irq.irq, &irq.name));
            let hint = irq.affinity_hint.as_ref().filter(|_| policy == HintPolicy::Subset);
            let mask = hint.and_then(|hint| hint.parse::<CpuMask>().ok());
            Counted {
                irq: irq.irq,
                cpu: irq.effective,
                count: total(irq) - was.map_or(total(irq), total).min(total(irq)),
                hint: mask.map_or(Vec::new(), |mask| mask.iter().map(|cpu| cpu as u8).collect()),
            }
        });
        (work.collect(), counted.collect())
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
