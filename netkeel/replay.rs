//! `netkeel replay`: what would become of each frame of a capture.
//!
//! Key type: [`ReplayArgs`]; `run` is the command. Parts: `frame` (what a frame is), `fate` (what
//! became of it), `hosts` (who answers ARP), `report` (the table and the lines).
//! Contexts: the caller's thread; the machine is stepped, its clock virtual.
//! Invariants: the same file and arguments give the same report; memory is bounded whatever the file's length.

mod fate;
mod frame;
mod hosts;
mod report;

use crate::cli::{self, Failure};
use crate::up::plan::{parse_addr, parse_gw};
use clap::{Args, ValueEnum};
use drivers::net::wire::wire_probe;
use drivers::net::wire_port::{FrameBatch, FrameMeta};
use fate::Fate;
use frame::{Frame, Kind};
use hosts::Hosts;
use hw::capture::{CaptureFile, ReplayError, Replayer};
use hw::wire::{Outside, WireEnd};
use report::{Played, Report};
use sim::{MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::time::Ktime;

use stack::net::core::dev::dev_open;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::socket::{sys_bind, sys_recvfrom, sys_socket};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM};

/// Shown below the options.
const EXAMPLES: &str = "\
Examples:
  netkeel replay day.pcapng --addr 192.0.2.2/24
                        a table: delivered, answered, dropped where and why
  netkeel replay day.pcapng --addr 192.0.2.2/24 --listen 53 --listen 123
                        with programs that read these UDP ports
  netkeel replay day.pcapng --addr 192.0.2.2/24 --frames | grep NO_SOCKET
                        a line for each frame
  netkeel replay day.pcapng --addr 192.0.2.2/24 --format json | jq .drop
                        an object for each frame";

/// Frames that wait on the wire at most: one goes at a time, and its answers are taken at once.
const WIRE: usize = 1024;
/// A longer pause between two frames is played as one of this length.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The machine waits so long for an answer that the capture does not have.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// The device's link address where the capture does not tell.
const DEFAULT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// Say what would become of each frame of a capture, received by a machine with this address
///
/// Hosts of the capture answer the machine's ARP requests; nobody else is there. Frames that the
/// machine itself sent are passed by.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// The capture, pcap or pcapng
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The machine's address and the length of its network's prefix, such as 192.0.2.2/24
    #[arg(long, value_name = "A/P")]
    addr: String,

    /// The machine's link address; else the one that the capture sends frames for its address to
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    mac: Option<[u8; 6]>,

    /// The gateway to everywhere else, an address of the same network
    #[arg(long, value_name = "A")]
    gw: Option<String>,

    /// A UDP port that a program reads; may be given several times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    listen: Vec<u16>,

    /// All frames at once, not at the capture's times
    #[arg(long)]
    fast: bool,

    /// Print a line for each frame, before the table
    #[arg(long)]
    frames: bool,

    /// How to write it down
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Write to this file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How a replay is put out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people.
    #[default]
    Text,
    /// One JSON object a line: each frame's, then the total.
    Json,
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let octets: Vec<_> = text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    let mac: Option<[u8; 6]> =
        octets.into_iter().collect::<Result<Vec<_>, _>>().ok().and_then(|mac| mac.try_into().ok());
    mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])
        .ok_or_else(|| "write a host's link address as 02:00:00:00:00:01".to_owned())
}

/// Plays the file and writes what became of it.
///
/// # Errors
/// With what to tell the user, and the exit code that goes with it.
pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let usage =
        |error: crate::up::UpError| Failure::with_code(error.exit_code(), error.to_string());
    let addr = parse_addr(&args.addr).map_err(usage)?;
    let gw = args.gw.as_deref().map(|gw| parse_gw(gw, &addr)).transpose().map_err(usage)?;
    let mac = match args.mac {
        Some(mac) => mac,
        None => mac_of(&args.file, addr.local.into())?.unwrap_or(DEFAULT_MAC),
    };
    let mut player = Player::new(args, &Place { addr, gw, mac })?;
    let file = cli::file_of(args.out.as_deref());
    let mut out = BufWriter::new(cli::open_output(file)?);
    let played = player.play(args, &mut out);
    player.close();
    let written = out.flush();
    match played {
        Err(Ended::Out(error)) => cli::end_output(file, Err(error)),
        Err(Ended::Capture(error)) => {
            cli::end_output(file, written)?;
            Err(unplayable(&args.file, &error))
        }
        Ok(()) => cli::end_output(file, written),
    }
}

/// Why a replay ends before its file does.
enum Ended {
    /// What is written finds no room, or no reader.
    Out(io::Error),
    /// The file is broken; what was played before is written down.
    Capture(ReplayError),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}

impl From<ReplayError> for Ended {
    fn from(error: ReplayError) -> Self {
        Self::Capture(error)
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    File::open(path).map(BufReader::new).map_err(|error| {
        let path = path.display();
        Failure::Other(format!("can't read {path}: {error}; name a pcap or pcapng file"))
    })
}

fn unplayable(path: &Path, error: &ReplayError) -> Failure {
    Failure::Other(format!("{}: {error}", path.display()))
}

/// The link address that the first frame for an IP address is sent to.
fn mac_of(path: &Path, addr: Ipv4Addr) -> Result<Option<[u8; 6]>, Failure> {
    let (_device, outside) = WireEnd::open(WIRE);
    let mut replayer = CaptureFile::replay(outside, open(path)?, Ktime::ZERO)
        .map_err(|error| unplayable(path, &error))?;
    // What is wrong later in the file is told when it is played.
    while let Ok(Some(bytes)) = replayer.take_next() {
        let frame = Frame::of(&bytes);
        if frame.addrs.is_some_and(|(_, to)| to == addr) && frame.to[0] & 1 == 0 {
            return Ok(Some(frame.to));
        }
    }
    Ok(None)
}

/// Where the machine is.
struct Place {
    addr: IfAddr,
    gw: Option<Ipv4Addr>,
    mac: [u8; 6],
}

/// A machine with a device on a wire, and the wire's other end.
struct Player {
    world: World,
    cx: TaskCx,
    outside: Outside,
    replayer: Replayer<BufReader<File>>,
    /// Frames of the file so far.
    taken: u64,
    sockets: Vec<i32>,
    hosts: Hosts,
    mac: [u8; 6],
    report: Report,
}

impl Player {
    fn new(args: &ReplayArgs, place: &Place) -> Result<Self, Failure> {
        let refused =
            |what: &'static str| move |errno: Errno| Failure::Other(format!("{what}: {errno}"));
        let mut world = World::new(1);
        let machine = world.machine(&MachineSpec::default());
        let mut cx = world.task_cx(&machine, CpuId(0));
        let (device, outside) = WireEnd::open(WIRE);
        let dev = wire_probe(&mut cx, "eth%d", place.mac, Arc::new(device))
            .map_err(refused("adding the device"))?;
        dev_open(&mut cx, &dev).map_err(refused("bringing the device up"))?;
        inet_insert_ifa(&mut cx, &dev, place.addr).map_err(refused("adding the address"))?;
        if let Some(gw) = place.gw {
            let info = FibInfo { gateway: gw.into(), ..FibInfo::default() };
            fib_new_route(&mut cx, 0, 0, info).map_err(refused("adding the default route"))?;
        }
        let mut sockets = Vec::new();
        for port in &args.listen {
            let bound = sys_socket(&mut cx, AF_INET, SOCK_DGRAM, 0).and_then(|fd| {
                sys_bind(&mut cx, fd, &SockaddrIn::new(0, *port).to_bytes()).map(|()| fd)
            });
            let fd = bound.map_err(|errno| {
                Failure::Usage(format!("--listen {port}: {errno}; name each port once"))
            })?;
            sockets.push(fd);
        }
        let start = world.clock().peek();
        let replayer = CaptureFile::replay(outside.clone(), open(&args.file)?, start)
            .map_err(|error| unplayable(&args.file, &error))?;
        world.settle();
        world.watch(None);
        let (hosts, report) = (Hosts::new(place.addr, place.gw), Report::default());
        Ok(Self { world, cx, outside, replayer, taken: 0, sockets, hosts, mac: place.mac, report })
    }

    /// Plays the file, as far as it can be, and writes what became of it.
    fn play(&mut self, args: &ReplayArgs, out: &mut dyn Write) -> Result<(), Ended> {
        let played = self.play_frames(args, out);
        if matches!(played, Err(Ended::Out(_))) {
            return played;
        }
        self.world.run_for(AFTERWARDS);
        self.report.unasked += self.answers().len() as u64;
        self.report.skipped = self.replayer.skipped();
        match args.format {
            Format::Json => writeln!(out, "{}", self.report.json())?,
            Format::Text => self.report.write(out)?,
        }
        played
    }

    /// Plays all frames, one after the other.
    fn play_frames(&mut self, args: &ReplayArgs, out: &mut dyn Write) -> Result<(), Ended> {
        let mut time = Duration::ZERO;
        let mut before = self.replayer.next_at()?;
        while let Some(due) = self.replayer.next_at()? {
            if !args.fast {
                let pause = before.map_or(Duration::ZERO, |before| due - before);
                time += pause.min(LONGEST_PAUSE);
                self.world.run_for(pause.min(LONGEST_PAUSE));
            }
            before = Some(due);
            self.report.unasked += self.answers().len() as u64;
            let _of_the_time_between = self.world.take_walk();
            let Some(bytes) = self.replayer.take_next()? else { break };
            let frame = Frame::of(&bytes);
            self.taken += 1;
            if frame.from == self.mac {
                self.report.own += 1;
                continue;
            }
            let played = self.one(&bytes, frame, time);
            self.report.add(&played);
            match args.format {
                Format::Json => writeln!(out, "{}", played.json())?,
                Format::Text if args.frames => writeln!(out, "{}", played.line())?,
                Format::Text => {}
            }
        }
        Ok(())
    }

    /// What becomes of a frame.
    fn one(&mut self, bytes: &[u8], frame: Frame, time: Duration) -> Played {
        self.hosts.remember(&frame);
        self.outside.inject(bytes, FrameMeta::default());
        self.world.settle();
        let fate = Fate::of(&self.world.take_walk());
        let answers = self.answers();
        self.read();
        let number = self.taken + self.replayer.skipped();
        Played { number, time, len: bytes.len(), frame, fate, answers }
    }

    /// What the machine has sent, and sends once its questions for link addresses are answered.
    fn answers(&mut self) -> Vec<Kind> {
        let (mut kinds, mut batch) = (Vec::new(), FrameBatch::new());
        while self.outside.drain(WIRE, &mut batch) != 0 {
            for (bytes, _) in batch.iter() {
                let frame = Frame::of(bytes);
                kinds.push(frame.kind);
                if let Some(reply) = self.hosts.answer(&frame) {
                    self.outside.inject(&reply, FrameMeta::default());
                }
            }
            batch.clear();
            self.world.settle();
        }
        // What was of the answers' walk is nobody's.
        let _seen = self.world.take_walk();
        kinds
    }

    /// Reads what the sockets have, as their programs would.
    fn read(&mut self) {
        let mut buffer = [0; 1];
        for fd in &self.sockets {
            let mut more = true;
            while more {
                let mut call = sys_recvfrom(*fd, &mut buffer, MSG_DONTWAIT);
                let read = self.world.block_on(&mut self.cx, &mut call, Duration::from_secs(1));
                more = matches!(read, Some(Ok(_)));
            }
        }
    }

    fn close(&mut self) {
        exit_files(&mut self.cx);
    }
}
