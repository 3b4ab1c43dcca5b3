//! `netkeel up`: the stack on a TAP device, where the host's own programs talk to it.
//!
//! Key types: [`UpArgs`], [`UpError`]; [`run`] is the command, [`serve`] the same under another
//! master than the terminal. Parts: `plan` (what the arguments mean), `services` (`--echo`), `walk`
//! (`--walk`), `capture` and `sink` (`--pcap`), `control` (its socket), `report` (the counters).
//! Contexts: the caller's thread; the machine has threads of its own.
//! Invariant: nothing of the host is configured; what the host has to do is printed.

mod capture;
mod control;
pub(crate) mod frame_tap;
pub(crate) mod plan;
mod report;
mod services;
mod sink;
pub(crate) mod walk;

use crate::control::ops::Target;
use crate::control::ops::netns::Names;
use capture::Capture;
use clap::Args;
use control::{Control, Machinery};
use drivers::net::tun::MAX_MTU;
use host::entropy::EntropyError;
use host::private_socket::SocketError;
use host::signal::{StopSignal, is_closed_pipe};
use host::tap::{LinkWatch, Tap, TapError, TapOptions};
use host::wait::{Token, Trigger, Waiter};
use host::{Runtime, RuntimeError, TapLink, TapSpec};
use plan::Plan;
use sink::{Sink, is_stdout};
use stack::kernel::cpu::CpuId;
use stack::kernel::nsproxy::NetId;
use stack::net::core::dev::{NetDevice, dev_open, netif_set_xps_queue};
use stack::net::ipv4::devinet::{inet_insert_ifa, update_devconf};
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::sched::{QdiscOptions, tc_modify_qdisc};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::if_tun::{TUN_F_CSUM, TUN_F_TSO4, TUN_F_USO4, TUN_F_USO6};
use walk::{Comments, WalkPrinter};

/// Shown below the options.
const EXAMPLES: &str = "\
Examples:
  Without root, on a TAP that root made for you once:
    sudo ip tuntap add dev nk0 mode tap user $USER
    netkeel up --tap nk0 --addr 192.0.2.2/24 --echo
  Join it, in another terminal:
    sudo ip link set nk0 up
    sudo ip addr add 192.0.2.1/24 dev nk0
    ping 192.0.2.2
    nc -u 192.0.2.2 7
    nc 192.0.2.2 19
  On two CPUs, each with a queue of the TAP:
    sudo ip tuntap add dev nk0 mode tap multi_queue user $USER
    netkeel up --tap nk0 --addr 192.0.2.2/24 --echo --cpus 2 --queues 2
  See what happens to the datagrams of one host and port:
    netkeel up --tap nk0 --addr 192.0.2.2/24 --echo --walk 'udp port 7 and host 192.0.2.1'
  Capture every frame, each with its walk as a comment; or look on as they pass:
    netkeel up --tap nk0 --addr 192.0.2.2/24 --echo --walk --pcap nk0.pcapng
    netkeel up --tap nk0 --addr 192.0.2.2/24 --echo --pcap - | tshark -r -";

/// Bring the stack up on a TAP device, for the host's own programs to talk to
///
/// The host is not configured: the commands that join it are printed. Ctrl-C stops and prints the
/// counters.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct UpArgs {
    /// The TAP device; made if there is none, which takes root
    #[arg(long, value_name = "NAME")]
    pub tap: String,

    /// Our address and the length of its network's prefix, such as 192.0.2.2/24
    #[arg(long, value_name = "A/P")]
    pub addr: String,

    /// The gateway to everywhere else, an address of the same network
    #[arg(long, value_name = "A")]
    pub gw: Option<String>,

    /// Offer the small services on UDP and TCP: echo (7), discard (9), chargen (19)
    #[arg(long)]
    pub echo: bool,

    /// Print the stations of each packet as it ends; FILTER: which packets, in tcpdump's language, as 'tcp port 80'.
    /// What is sent is judged by its headers, where it begins
    #[arg(long, value_name = "FILTER", num_args = 0..=1, default_missing_value = "")]
    pub walk: Option<String>,

    /// Write every frame that passes the TAP as pcapng, checksums filled in; with --walk, a watched
    /// packet's walk is its comment. `-` is standard output, and text goes to standard error
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,

    /// Where to be asked by the other commands; else in a folder of the user's own, under the TAP's
    /// name
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Virtual CPUs, each with a thread of its own; on each of them echo is served, and the other services are spread
    /// over them
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub cpus: u8,

    /// Queues of the TAP, each with an interrupt: the first on CPU 0, the others on those behind it in
    /// turn. Several need a TAP that was created with `multi_queue`
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=32))]
    pub queues: u8,

    /// The queueing discipline of the TAP's queues, `pfifo_fast` or `fq`, which sends each flow at its pace; with
    /// options as `tc qdisc` has them: 'fq flow_limit 50 maxrate 10mbit'
    #[arg(long, value_name = "TEXT", value_parser = qdisc)]
    pub qdisc: Option<String>,

    /// Settings of the machine, in a file of the format of sysctl.conf(5); they hold before the device comes up
    #[arg(long, value_name = "FILE")]
    pub sysctl: Option<PathBuf>,

    /// Microseconds that a waiting service looks for packets before it sleeps, at most; 0: none. Some 50
    /// help where the peer answers from another processor within that time
    #[arg(long, value_name = "US", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub busy_poll: u32,
}

/// Why it did not come up, or went down. The text names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// An argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The TAP could not be opened.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The control socket could not be opened.
    #[error("control socket: {0} with --control")]
    Control(#[from] SocketError),
    /// The machine could not be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// No random numbers.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The stack refused something.
    #[error("{what}: {errno}")]
    Stack {
        /// What was being done.
        what: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// The port of a service can't be had.
    #[error(
        "{proto} port {port} ({service}) of the stack: {errno}; another socket of this machine has it: \
         start without --echo, or close that socket"
    )]
    Port {
        /// UDP or TCP.
        proto: &'static str,
        /// Whose port.
        service: &'static str,
        /// Which.
        port: u16,
        /// Why not.
        errno: Errno,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The TAP was deleted while in use.
    #[error("TAP {0} was deleted: create it again, then start anew")]
    Gone(String),
    /// The capture could not be written, or not to its end.
    #[error("can't write {file}: {source}; name another file with --pcap")]
    Capture {
        /// Where to.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// Standard output failed.
    #[error("writing the output: {0}")]
    Output(#[from] io::Error),
}

impl UpError {
    /// The exit code of a command that ends so: 2 for a mistake in its arguments, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Tap(TapError::BadName { .. }) => 2,
            _ => 1,
        }
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> UpError {
    move |source| UpError::System { what, source }
}

/// What it says can be done.
fn qdisc(text: &str) -> Result<String, String> {
    QdiscOptions::parse(text, None).map_err(|e| e.to_string())?;
    Ok(text.to_owned())
}

fn refused(what: &'static str) -> impl Fn(Errno) -> UpError {
    move |errno| UpError::Stack { what, errno }
}

/// Brings the stack up until SIGINT or SIGTERM; prints to standard output, unless the capture goes
/// there: then to standard error.
///
/// # Errors
/// [`UpError`]. Output into a closed pipe is none: then it ends quietly.
pub fn run(args: UpArgs) -> Result<(), UpError> {
    let stop = StopSignal::install().map_err(system("catching signals"))?;
    match args.pcap.as_deref() {
        Some(path) if is_stdout(path) => {
            sink::refuse_terminal(path)?;
            serve(&args, &mut io::stderr().lock(), &stop)
        }
        _ => serve(&args, &mut io::stdout().lock(), &stop),
    }
}

/// Brings the stack up until `stop` becomes readable or is hung up; prints to `out`.
///
/// # Errors
/// As [`run`].
pub fn serve(args: &UpArgs, out: &mut dyn Write, stop: impl AsFd) -> Result<(), UpError> {
    match serve_to(args, out, stop) {
        Err(UpError::Output(e)) if is_closed_pipe(&e) => Ok(()),
        other => other,
    }
}

fn serve_to(args: &UpArgs, out: &mut dyn Write, stop: impl AsFd) -> Result<(), UpError> {
    let plan = Plan::of(args)?;
    let waiter = Arc::new(Waiter::new().map_err(system("a place to wait"))?);
    let mut up = Up::start(&plan, &waiter)?;
    if plan.echo {
        services::start(&mut up.runtime)?;
    }
    if let Some(filter) = plan.walk.clone() {
        up.runtime.machine().tracer.start(filter);
        let comments = if up.capture.is_some() { Comments::Yes } else { Comments::No };
        up.walk = Some(WalkPrinter::new(up.runtime.machine(), comments));
    }
    // Before the first look at the link, so that no change falls between.
    let watch = LinkWatch::new().map_err(system("watching the link"))?;
    let mut link = up.runtime.tap_link(&plan.tap).unwrap_or(TapLink::Gone);
    let control = up.control.as_ref().map(Control::path);
    let control = control.ok_or(up.no_control.as_str());
    report::greeting(out, &plan, &up.dev, link == TapLink::Up, control)?;
    waiter.add(&stop, STOP, Trigger::Level).map_err(system("waiting for the end"))?;
    waiter.add(&watch, LINK, Trigger::Level).map_err(system("watching the link"))?;
    'up: while link != TapLink::Gone {
        up.look(out, &waiter)?;
        let timeout = up.pace();
        for token in waiter.wait(timeout).map_err(system("waiting"))? {
            match token {
                STOP => break 'up,
                READER => up.reader_reported(),
                token if token != LINK => up.asked(token),
                _ if watch.drain() => {
                    let now = up.runtime.tap_link(&plan.tap).unwrap_or(TapLink::Gone);
                    if now != std::mem::replace(&mut link, now) {
                        report::link(out, &plan.tap, now)?;
                    }
                }
                _ => {}
            }
        }
    }
    up.finish(out, &waiter)?;
    if link == TapLink::Gone { Err(UpError::Gone(plan.tap)) } else { Ok(()) }
}

const STOP: Token = Token(0);
const LINK: Token = Token(1);
const READER: Token = Token(2);
/// So often ended packets are looked for while the walk is printed.
const WALK_PACE: Duration = Duration::from_millis(50);

/// The machine, and who watches it.
struct Up {
    runtime: Runtime,
    dev: Arc<NetDevice>,
    walk: Option<WalkPrinter>,
    capture: Option<Capture>,
    control: Option<Control>,
    /// Why there is none.
    no_control: String,
    /// Why the capture came to its end before the stop.
    broken: Option<UpError>,
}

impl Up {
    /// The machine with its device up, addressed and routed, and captured from the first frame on.
    fn start(plan: &Plan, waiter: &Arc<Waiter>) -> Result<Self, UpError> {
        let options = TapOptions {
            offloads: TUN_F_CSUM | TUN_F_TSO4,
            wished: TUN_F_USO4 | TUN_F_USO6,
            ..TapOptions::default()
        };
        let taps = Tap::open_queues(&plan.tap, options, usize::from(plan.queues))?;
        let tap = &taps[0];
        let mtu = tap.mtu().map_err(system("the TAP's MTU"))?.min(MAX_MTU);
        let host_mac = tap.mac().map_err(system("the TAP's link address"))?;
        let mut runtime = Runtime::builder().cpus(plan.cpus).busy_poll(plan.busy_poll).boot()?;
        let spec = TapSpec { addr: plan.mac(host_mac), mtu, cpu: CpuId(0) };
        let dev = runtime.add_tap_queues(taps, spec)?;
        if !plan.sysctl.is_empty() {
            let names = Names::default();
            let (runtime, dev, net) = (&runtime, &dev, NetId::INIT);
            let target = Target { runtime, dev, names: &names, net };
            target.load(&plan.sysctl).map_err(|refusal| UpError::Usage(refusal.message))?;
        }
        let mut cx = runtime.task("up");
        if let Some(qdisc) = &plan.qdisc {
            tc_modify_qdisc(&mut cx, &dev, qdisc)
                .map_err(|e| refused("the queueing discipline")(e.errno()))?;
        }
        for (queue, cpus) in plan.xps() {
            netif_set_xps_queue(&mut cx, &dev, cpus, queue)
                .map_err(refused("spreading what is sent over the queues"))?;
        }
        // Not before the TAP is ours: it would empty the file of another that runs on this TAP.
        let capture = match &plan.pcap {
            None => None,
            Some(path) => {
                let sink = Sink::open(path)?;
                sink.watch(waiter, READER).map_err(system("watching the capture's reader"))?;
                let began = Capture::start(&mut cx, &dev, sink, waiter);
                Some(began.map_err(system("beginning the capture"))?)
            }
        };
        update_devconf(&mut cx, dev.ifindex, |cnf| cnf.arp_notify = true)
            .map_err(refused("settings of the device"))?;
        dev_open(&mut cx, &dev).map_err(refused("bringing the device up"))?;
        inet_insert_ifa(&mut cx, &dev, plan.addr).map_err(refused("adding the address"))?;
        if let Some(gw) = plan.gw {
            let info = FibInfo { gateway: gw.into(), ..FibInfo::default() };
            fib_new_route(&mut cx, 0, 0, info).map_err(refused("adding the default route"))?;
        }
        drop(cx);
        let (control, no_control) = match Control::open(plan, waiter)? {
            Ok(control) => (Some(control), String::new()),
            Err(why) => (None, why),
        };
        Ok(Self { runtime, dev, walk: None, capture, control, no_control, broken: None })
    }

    /// How long a wait may last: frames and clients end it, what the walk records does not.
    fn pace(&self) -> Option<Duration> {
        let watched = self.control.as_ref().is_some_and(Control::watched);
        let walk = (self.walk.is_some() || watched).then_some(WALK_PACE);
        walk.into_iter().chain(self.control.as_ref().and_then(Control::pace)).min()
    }

    /// A client of the control socket has something to say.
    fn asked(&mut self, token: Token) {
        let Some(control) = &mut self.control else { return };
        let prints_walks = self.walk.is_some();
        control
            .reported(token, &Machinery { runtime: &self.runtime, dev: &self.dev, prints_walks });
    }

    fn reader_reported(&mut self) {
        if let Some(capture) = &mut self.capture {
            capture.sink().reported();
        }
    }

    /// Writes the frames that have passed and prints the packets that have ended.
    fn look(&mut self, out: &mut dyn Write, waiter: &Waiter) -> Result<(), UpError> {
        if let Some(capture) = &mut self.capture {
            capture.take();
        }
        if let Some(walk) = &mut self.walk {
            walk.take(self.runtime.machine());
        }
        if let Some(capture) = &mut self.capture {
            let written = capture.write(self.walk.as_ref());
            let sink = capture.sink();
            if let Err(error) = written.and_then(|()| sink.watch_on(waiter, READER)) {
                self.capture_failed(error, out)?;
            }
        }
        if let Some(walk) = &mut self.walk {
            walk.print(out)?;
        }
        if let Some(control) = &mut self.control {
            let prints_walks = self.walk.is_some();
            control.look(&Machinery { runtime: &self.runtime, dev: &self.dev, prints_walks });
        }
        Ok(())
    }

    /// Goes on without the capture; a reader of standard output that has seen enough ends us.
    fn capture_failed(&mut self, source: io::Error, out: &mut dyn Write) -> Result<(), UpError> {
        let Some(mut capture) = self.capture.take() else { return Ok(()) };
        if capture.is_quiet(&source) {
            return Err(UpError::Output(source));
        }
        capture.stop(&mut self.runtime.task("up"));
        let file = capture.sink().name().to_owned();
        writeln!(out, "can't write {file}: {source}; going on without the capture")?;
        out.flush()?;
        self.broken = Some(UpError::Capture { file, source });
        Ok(())
    }

    /// Stops everything, then tells what was counted.
    fn finish(mut self, out: &mut dyn Write, waiter: &Waiter) -> Result<(), UpError> {
        if let Some(capture) = &self.capture {
            capture.stop(&mut self.runtime.task("up"));
        }
        self.look(out, waiter)?;
        // Nobody asks a machine that goes down.
        if let Some(control) = self.control.take() {
            report::control(out, control.counts())?;
        }
        let m = Arc::clone(self.runtime.machine());
        if let Some(capture) = &mut self.capture {
            match capture.finish(&m, self.walk.as_ref()) {
                Ok((frames, dropped)) => {
                    report::capture(out, capture.sink().name(), frames, dropped)?;
                }
                Err(error) => self.capture_failed(error, out)?,
            }
        }
        m.tracer.stop();
        self.runtime.shutdown()?;
        if let Some(mut walk) = self.walk {
            walk.take(&m);
            walk.print(out)?;
            walk.print_rest(out)?;
        }
        report::counters(out, &m, &self.dev)?;
        self.broken.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        up: UpArgs,
    }

    fn parse(words: &str) -> UpArgs {
        let words = std::iter::once("up").chain(words.split_whitespace());
        Command::try_parse_from(words).map(|command| command.up).expect("good words")
    }

    #[test]
    fn the_walk_takes_a_filter_or_none() {
        let common = "--tap nk0 --addr 192.0.2.2/24";
        assert_eq!(parse(common).walk, None);
        assert_eq!(parse(&format!("{common} --walk")).walk.as_deref(), Some(""));
        assert_eq!(parse(&format!("--walk {common}")).walk.as_deref(), Some(""));
        assert_eq!(parse(&format!("{common} --walk udp")).walk.as_deref(), Some("udp"));
        assert!(!parse(common).echo && parse(&format!("{common} --echo")).echo);
        let pcap = parse(&format!("{common} --pcap - --walk")).pcap;
        assert!(pcap.is_some_and(|path| is_stdout(&path)));
    }

    #[test]
    fn the_help_shows_examples() {
        let help = Command::try_parse_from(["up", "--help"]).err().expect("help").to_string();
        assert!(help.contains("netkeel up --tap nk0 --addr 192.0.2.2/24 --echo"), "{help}");
    }
}
