//! `netkeel queue`: how a device's queues are steered.

use super::{Asking, Words, checked, owned, table};
use crate::cli::Failure;
use crate::control::wire::{Op, Queue, Refusal};
use clap::Args;
use klib::bitmap::CpuMask;
use uapi::errno::Errno;

const EXAMPLES: &str = "\
Examples:
  netkeel queue                             each queue of the machine's device
  netkeel queue dev nk0 rx-0 rps_cpus       as /sys/class/net/nk0/queues/rx-0/rps_cpus
  netkeel queue rx-0 rps_cpus 3             its packets are received by CPUs 0 and 1 (RPS)
  netkeel queue rx-0 rps_flow_cnt 4096      by the CPU of their reader (RFS), once
  netkeel sysctl net.core.rps_sock_flow_entries=4096
                                            readers are remembered, too
  netkeel queue tx-1 xps_cpus 2             what CPU 1 sends leaves by queue 1 (XPS)";

/// What a queue can be told.
const SETTINGS: [&str; 3] = ["rps_cpus", "rps_flow_cnt", "xps_cpus"];

/// Show or change how packets of a running machine are steered to CPUs and queues
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct QueueArgs {
    /// [dev D]; [dev D] rx-N rps_cpus [MASK], rx-N rps_flow_cnt [N], tx-N xps_cpus [MASK]
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl QueueArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("queue", &self.words);
        let (dev, verb) = words.dev_and_verb()?;
        if verb == "show" {
            let [after] = words.values(["dev"])?;
            let all = self.queues(dev.or(after))?;
            return self.asking.show(&all, |all| table(&rows(all), &[]));
        }
        if !verb.starts_with("rx-") && !verb.starts_with("tx-") {
            return Err(words.unknown(verb, &["dev", "show", "rx-N", "tx-N"]));
        }
        let name = words.need("a setting, such as rps_cpus,")?;
        if !SETTINGS.contains(&name) {
            return Err(words.unknown(name, &SETTINGS));
        }
        let Some(value) = words.next() else {
            let queue = self.queues(dev)?.into_iter().find(|queue| queue.queue == verb);
            let queue = queue.ok_or_else(|| {
                Failure::Other(format!("there is no queue {verb}: `netkeel queue` lists them"))
            })?;
            let value = queue.get(name).ok_or_else(|| {
                Failure::Other(format!("{verb} has no {name}: `netkeel queue` lists what it has"))
            })?;
            return self.asking.show(&queue, |_| value + "\n");
        };
        checked(check(name, value))?;
        let [] = words.values([])?;
        let (queue, name, value) = (verb.to_owned(), name.to_owned(), value.to_owned());
        let set: Queue = self.asking.ask(&Op::QueueSet { dev: owned(dev), queue, name, value })?;
        if self.asking.json { self.asking.show(&set, |_| String::new()) } else { Ok(()) }
    }

    fn queues(&self, dev: Option<&str>) -> Result<Vec<Queue>, Failure> {
        self.asking.ask(&Op::QueueShow { dev: owned(dev) })
    }
}

/// A mistake that can be seen here.
fn check(name: &str, value: &str) -> Result<(), Refusal> {
    let wrong = |text| Err(Refusal::new(Errno::EINVAL, text));
    match name {
        "rps_flow_cnt" if value.parse::<u32>().is_err() => {
            wrong(format!("{name} {value:?} is no number: write {name} 4096"))
        }
        "rps_flow_cnt" => Ok(()),
        _ => match value.parse::<CpuMask>() {
            Ok(_) => Ok(()),
            Err(e) => wrong(format!("{name}: {e}: write for example 3 for CPUs 0 and 1")),
        },
    }
}

/// A line a queue: its settings by name.
fn rows(all: &[Queue]) -> Vec<Vec<String>> {
    let settings = |queue: &Queue| {
        let each = SETTINGS.iter().filter_map(|name| Some([(*name).to_owned(), queue.get(name)?]));
        each.flatten().collect::<Vec<_>>()
    };
    let row =
        |queue: &Queue| [vec![queue.dev.clone(), queue.queue.clone()], settings(queue)].concat();
    all.iter().map(row).collect()
}
