//! `netkeel ss`: the sockets of a running machine.

use super::{Asking, table};
use crate::cli::Failure;
use crate::control::wire::{Op, Socket};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  netkeel ss -a                  every socket that has a port
  netkeel ss                     those with a peer
  netkeel ss -uanm               with their memory, as `ss -uanm`
  netkeel ss -a --json | jq '.[] | select(.recv_q > 0)'";

/// Show the sockets of a running machine
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SsArgs {
    /// UDP: there is nothing else yet
    #[arg(short, long)]
    udp: bool,
    /// Also those without a peer
    #[arg(short, long)]
    all: bool,
    /// Numbers for ports: they always are
    #[arg(short, long)]
    numeric: bool,
    /// With what their queues hold and may hold
    #[arg(short, long)]
    memory: bool,
    #[command(flatten)]
    asking: Asking,
}

impl SsArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut sockets: Vec<Socket> = self.asking.ask(&Op::Sockets {})?;
        sockets.retain(|socket| self.all || socket.peer_port != 0);
        self.asking.show(&sockets, |sockets| self.text(sockets))
    }

    fn text(&self, sockets: &[Socket]) -> String {
        // As `ss` does: where only one state can be, it is not said.
        let skip = usize::from(!self.all);
        let header =
            ["State", "Recv-Q", "Send-Q", "Local Address:", "Port", "Peer Address:", "Port"];
        let mut rows = vec![header.map(str::to_owned)[skip..].to_vec()];
        for s in sockets {
            let port = |port: u16| if port == 0 { "*".to_owned() } else { port.to_string() };
            let row = [
                s.state.clone(),
                s.recv_q.to_string(),
                s.send_q.to_string(),
                format!("{}:", s.local_addr),
                port(s.local_port),
                format!("{}:", s.peer_addr),
                port(s.peer_port),
            ];
            rows.push(row[skip..].to_vec());
        }
        let text = table(&rows, &[3 - skip, 5 - skip]);
        if !self.memory {
            return text;
        }
        let memory = |s: &Socket| {
            let m = &s.skmem;
            let (r, rb, t, tb, bl, d) = (m.r, m.rb, m.t, m.tb, m.bl, m.d);
            format!("\t skmem:(r{r},rb{rb},t{t},tb{tb},f0,w0,o0,bl{bl},d{d})\n")
        };
        let mut lines = text.lines();
        let mut all = lines.next().unwrap_or_default().to_owned() + "\n";
        for (line, socket) in lines.zip(sockets) {
            all += &format!("{line}\n{}", memory(socket));
        }
        all
    }
}
