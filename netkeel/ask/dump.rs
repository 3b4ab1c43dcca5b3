//! `netkeel dump`: the frames of a running machine, as tcpdump prints them or as a file.

use super::Asking;
use crate::cli::{Failure, end_output, file_of, open_output};
use crate::control::client::Connection;
use crate::control::wire::{Dumped, Event, Op, parse_answer, unhex};
use crate::dump::{Printer, Style, TimeStyle};
use crate::up::plan::parse_filter;
use clap::Args;
use hw::capture::{CaptureWriter, Direction, Packet};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  netkeel dump                              every frame of the only machine that runs
  netkeel dump -i nk0 'tcp port 80'         those of one device that the expression describes
  netkeel dump -c 10 -e arp                 ten, with their link headers
  netkeel dump -w day.pcapng                all of them into a file, for Wireshark
  netkeel dump -w - udp | tshark -r -

The expressions are tcpdump's (pcap-filter), for Ethernet. Names are not looked up, as with
tcpdump -n; the time of the day is UTC; what programs say inside TCP and UDP is not shown.";

/// So many octets of a frame are enough for its line.
const FOR_LINES: usize = 256;

/// Print the frames that pass a running machine's devices, as tcpdump does.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DumpArgs {
    /// The machine: its TAP's name, or the path of its control socket; the only one that runs if none is named
    #[arg(long, value_name = "NAME|PATH")]
    machine: Option<String>,
    /// The namespace of the machine; the one it booted with if none is named
    #[arg(long, short = 'N', value_name = "NAME")]
    netns: Option<String>,
    /// The device; all of them if none is named
    #[arg(short, long, value_name = "DEV")]
    interface: Option<String>,
    /// End after so many frames
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Write the frames to a pcapng file instead; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Octets of a frame that are kept at most
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=262_144))]
    snaplen: Option<u32>,
    /// Print the link header too
    #[arg(short = 'e', conflicts_with = "write")]
    link: bool,
    /// Print more of the IP header
    #[arg(short, conflicts_with = "write")]
    verbose: bool,
    /// Print TCP's numbers as they are, not relative
    #[arg(short = 'S', conflicts_with = "write")]
    absolute: bool,
    /// Print no time; -tt: seconds since 1970
    #[arg(short = 't', action = clap::ArgAction::Count, conflicts_with = "write")]
    time: u8,
    /// Which frames, in tcpdump's language; all if none is given
    #[arg(value_name = "EXPRESSION")]
    expression: Vec<String>,
}

/// Where frames go.
enum Out {
    Lines(Box<dyn Write>, Box<Printer>),
    File(Box<FileOut>),
}

struct FileOut {
    writer: CaptureWriter<Box<dyn Write>>,
    /// The file's numbers of devices.
    interfaces: BTreeMap<String, u32>,
}

/// A frame as it was told.
struct Told {
    time: Duration,
    dev: String,
    out: bool,
    len: usize,
    octets: Vec<u8>,
}

impl DumpArgs {
    /// Prints until Ctrl-C, the count is reached, the machine ends, or nobody reads.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let filter = self.expression.join(" ");
        parse_filter("expression", &filter).map_err(|e| Failure::Usage(e.to_string()))?;
        let file = self.write.as_deref().and_then(|path| file_of(Some(path)));
        if self.write.is_some() && file.is_none() && io::stdout().is_terminal() {
            let what = "-w -: a capture is not for a terminal; name a file, or pipe it on";
            return Err(Failure::Usage(what.to_owned()));
        }
        let asking = Asking {
            machine: self.machine.clone(),
            netns: self.netns.clone(),
            ..Asking::default()
        };
        let mut connection = asking.connect()?;
        let whole = if self.write.is_some() { 262_144 } else { FOR_LINES };
        let op = Op::DumpAttach {
            dev: self.interface.clone(),
            filter: Some(filter),
            snaplen: Some(self.snaplen.map_or(whole, |len| len as usize)),
        };
        connection.ask::<serde_json::Value>(&op)?;
        connection.be_patient()?;
        let mut out = self.out()?;
        match self.frames(&mut connection, &mut out) {
            Ok(done) => done,
            Err(error) => end_output(file, Err(error)),
        }
    }

    fn out(&self) -> Result<Out, Failure> {
        let place = open_output(self.write.as_deref().and_then(|path| file_of(Some(path))))?;
        if self.write.is_none() {
            let time = match self.time {
                0 => TimeStyle::Day,
                1 => TimeStyle::None,
                _ => TimeStyle::Epoch,
            };
            let style =
                Style { link: self.link, verbose: self.verbose, absolute: self.absolute, time };
            return Ok(Out::Lines(place, Box::new(Printer::new(style))));
        }
        let writer = CaptureWriter::new(place).map_err(|e| Failure::Other(e.to_string()))?;
        Ok(Out::File(Box::new(FileOut { writer, interfaces: BTreeMap::new() })))
    }

    /// The outer error is that of the output.
    fn frames(&self, from: &mut Connection, out: &mut Out) -> io::Result<Result<(), Failure>> {
        let mut came = 0;
        while self.count.is_none_or(|count| came < count) {
            let line = match from.line() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    // Nobody may read standard error; there is nowhere else to say so.
                    let _unheard = writeln!(
                        io::stderr(),
                        "dump: the machine has ended, or let go of us: too slow"
                    );
                    return Ok(Ok(()));
                }
                Err(failure) => return Ok(Err(failure)),
            };
            match serde_json::from_str(&line) {
                Ok(Event::Frame { time, dev, out: sent, len, octets }) => {
                    let (time, octets) = (Duration::from_nanos(time), unhex(&octets));
                    out.put(&Told { time, dev, out: sent, len, octets })?;
                    came += 1;
                }
                Ok(_) => {}
                // Not an event, so a refusal: say what it says.
                Err(_) => {
                    let said = parse_answer::<serde_json::Value>(&line);
                    return Ok(said.map(|_| ()).map_err(Failure::Other));
                }
            }
        }
        // How it went goes to standard error, as tcpdump's does; whoever has ended meanwhile says nothing.
        if let Ok(Dumped { received, dropped }) = last_word(from) {
            let _unheard = writeln!(
                io::stderr(),
                "{came} packets captured\n{received} packets received by filter\n{dropped} packets dropped by kernel"
            );
        }
        Ok(Ok(()))
    }
}

/// The answer to the end, behind events that were on their way.
fn last_word(from: &mut Connection) -> Result<Dumped, String> {
    from.say(&Op::DumpDetach {}).map_err(|e| e.to_string())?;
    loop {
        let line = from.line().map_err(|e| e.to_string())?.ok_or("it has ended")?;
        if serde_json::from_str::<Event>(&line).is_err() {
            return parse_answer(&line);
        }
    }
}

impl Out {
    fn put(&mut self, frame: &Told) -> io::Result<()> {
        match self {
            Self::Lines(out, printer) => {
                writeln!(out, "{}", printer.line(frame.time, &frame.octets, frame.len))?;
                out.flush()
            }
            Self::File(file) => file.put(frame),
        }
    }
}

impl FileOut {
    fn put(&mut self, frame: &Told) -> io::Result<()> {
        let interface = match self.interfaces.get(&frame.dev) {
            Some(interface) => *interface,
            None => {
                let interface = self.writer.interface(&frame.dev)?;
                self.interfaces.insert(frame.dev.clone(), interface);
                interface
            }
        };
        let direction = if frame.out { Direction::Out } else { Direction::In };
        let packet = Packet {
            interface,
            time: frame.time,
            direction,
            bytes: &frame.octets,
            len: frame.len,
            comment: None,
        };
        self.writer.packet(&packet)?;
        self.writer.get_mut().flush()
    }
}
