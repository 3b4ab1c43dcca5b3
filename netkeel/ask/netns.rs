//! `netkeel netns`: as `ip netns`.

use super::{Asking, Words, table};
use crate::cli::Failure;
use crate::control::wire::{Netns, Op};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  netkeel netns add blue                    a namespace of the machine, with nothing but a loopback device
  netkeel netns                             which there are
  netkeel link add veth0 type veth peer eth0 netns blue
  netkeel addr add 10.0.0.1/24 dev veth0
  netkeel link set veth0 up
  netkeel addr -N blue add 10.0.0.2/24 dev eth0
  netkeel link -N blue set eth0 up
  netkeel route -N blue add default via 10.0.0.1
  netkeel sysctl -N blue net.ipv4.ip_forward=1      each has settings, counters and sockets of its own
  netkeel netns del blue                    its devices go with it";

/// Show, make or take away the namespaces of a running machine
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct NetnsArgs {
    /// show, add NAME, del NAME
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl NetnsArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("netns", &self.words);
        match words.verb() {
            "show" => {
                let [] = words.values([])?;
                let all: Vec<Netns> = self.asking.ask(&Op::NetnsShow {})?;
                self.asking.show(&all, |all| {
                    let row =
                        |netns: &Netns| vec![netns.name.clone(), format!("(id: {})", netns.id)];
                    table(&all.iter().map(row).collect::<Vec<_>>(), &[])
                })
            }
            verb @ ("add" | "del") => {
                let name = words.need("the name")?.to_owned();
                let [] = words.values([])?;
                self.asking.order(&match verb {
                    "add" => Op::NetnsAdd { name },
                    _ => Op::NetnsDel { name },
                })
            }
            other => Err(words.unknown(other, &["show", "add", "del"])),
        }
    }
}
