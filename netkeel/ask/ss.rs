//! `netkeel ss`: the sockets of a running machine.
//!
//! Parts: `filter` (which are shown), `details` (what is told behind the columns).

mod details;
mod filter;

use super::{Asking, table};
use crate::cli::Failure;
use crate::control::wire::{Op, SOCKETS, Socket};
use clap::Args;
use filter::{ALL, CONNECTED, Filter, UNCONNECTED};

const EXAMPLES: &str = "\
Examples:
  netkeel ss -a                          every socket that has a port
  netkeel ss                             those with a peer
  netkeel ss -tln                        who listens, as `ss -tln`
  netkeel ss -ti                         connections, with what TCP knows of each
  netkeel ss -tao state time-wait        what is left of connections, and how long
  netkeel ss -t dport = :80              those to port 80
  netkeel ss -uanm                       with their memory, as `ss -uanm`
  netkeel ss -a --json | jq '.[] | select(.recv_q > 0)'";

/// Show the sockets of a running machine
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SsArgs {
    /// TCP; both if neither is named
    #[arg(short, long)]
    tcp: bool,
    /// UDP
    #[arg(short, long)]
    udp: bool,
    /// Every state: also listeners, requests, TIME-WAIT, and those without a peer
    #[arg(short, long)]
    all: bool,
    /// Those that wait for a peer
    #[arg(short, long)]
    listening: bool,
    /// Numbers for ports: they always are
    #[arg(short, long)]
    numeric: bool,
    /// With the timer that runs
    #[arg(short, long)]
    options: bool,
    /// With the socket's number, and the ways that are closed
    #[arg(short, long)]
    extended: bool,
    /// With what their queues hold and may hold
    #[arg(short, long)]
    memory: bool,
    /// With what TCP knows of each connection
    #[arg(short, long)]
    info: bool,
    /// state established|time-wait|…, sport = :PORT, dport = :PORT
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl SsArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let states = match (self.all, self.listening) {
            (true, _) => ALL,
            (_, true) => UNCONNECTED,
            _ => CONNECTED,
        };
        let filter = Filter::of(&self.filter, states)?;
        let mut sockets = self.sockets()?;
        sockets.retain(|socket| filter.passes(socket));
        self.asking.show(&sockets, |sockets| self.text(sockets, &filter))
    }

    /// All of the machine's, asked for in portions.
    fn sockets(&self) -> Result<Vec<Socket>, Failure> {
        let netid = match (self.tcp, self.udp) {
            (true, false) => Some("tcp".to_owned()),
            (false, true) => Some("udp".to_owned()),
            _ => None,
        };
        let mut machine = self.asking.connect()?;
        let mut sockets: Vec<Socket> = Vec::new();
        loop {
            let (skip, info) = (Some(sockets.len()), Some(self.info));
            let portion: Vec<Socket> =
                machine.ask(&Op::Sockets { netid: netid.clone(), skip, info })?;
            let last = portion.len() < SOCKETS;
            sockets.extend(portion);
            if last {
                return Ok(sockets);
            }
        }
    }

    fn text(&self, sockets: &[Socket], filter: &Filter) -> String {
        // As `ss` does: what can be only one is not said.
        let one_kind = self.tcp != self.udp;
        let one_state = filter.one_state(self.tcp || !self.udp);
        let shown = |row: [String; 8]| -> Vec<String> {
            let said = [!one_kind, !one_state, true, true, true, true, true, true];
            row.into_iter().zip(said).filter(|(_, said)| *said).map(|(cell, _)| cell).collect()
        };
        let header = [
            "Netid",
            "State",
            "Recv-Q",
            "Send-Q",
            "Local Address:",
            "Port",
            "Peer Address:",
            "Port",
        ];
        let mut rows = vec![shown(header.map(str::to_owned))];
        let port = |port: u16| if port == 0 { "*".to_owned() } else { port.to_string() };
        for s in sockets {
            rows.push(shown([
                s.netid.clone(),
                s.state.clone(),
                s.recv_q.to_string(),
                s.send_q.to_string(),
                format!("{}:", s.local_addr),
                port(s.local_port),
                format!("{}:", s.peer_addr),
                port(s.peer_port),
            ]));
        }
        let hidden = usize::from(one_kind) + usize::from(one_state);
        let text = table(&rows, &[4 - hidden, 6 - hidden]);
        let mut lines = text.lines();
        let mut all = lines.next().unwrap_or_default().to_owned() + "\n";
        for (line, socket) in lines.zip(sockets) {
            all += &(line.to_owned() + &self.details(socket) + "\n");
        }
        all
    }

    /// What stands behind the columns, and below them.
    fn details(&self, socket: &Socket) -> String {
        let mut behind = String::new();
        if let Some(timer) = socket.timer.as_ref().filter(|_| self.options) {
            behind += &details::timer(timer);
        }
        if self.extended {
            behind += &details::extended(socket);
        }
        let mut below = String::new();
        if let Some(skmem) = socket.skmem.as_ref().filter(|_| self.memory) {
            below += &details::memory(skmem);
        }
        if let Some(info) = &socket.tcp_info {
            below += &details::tcp_info(info, (socket.cong.as_deref(), socket.bbr), self.options);
        }
        match below.is_empty() {
            true => behind,
            false => behind + "\n\t" + &below,
        }
    }
}
