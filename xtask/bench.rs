//! `cargo xtask bench`: what a datagram and a segment cost, counted rather than timed wherever that is possible.
//!
//! The benches themselves are `sim/benches/udp_walk` and `sim/benches/tcp_stream`; here are the instruments around
//! them. How each figure comes about: `Documentation/networking/benches.md`.

mod disassembly;
mod locked;
mod measure;
mod profile;
mod table;
mod threads;
mod tools;
mod walk;

use measure::{Meter, Setting, Traffic};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use table::{Row, Table};

/// The command's help.
pub const HELP: &str = "\
What a 64-byte UDP datagram and a full segment of a TCP stream cost, with the budgets beside it.

Usage:
  cargo xtask bench [WHAT] [OPTIONS]

WHAT:
  instructions   instructions for each datagram and each segment by phase, and for each SYN of a
                 flood (callgrind)
  locked         executed instructions that lock, for each datagram by phase (callgrind, objdump)
  walk           what the stations cost against a build without them
  enter          instructions to enter a CPU and leave it, and the time when another runs it
  cpus           datagrams a second of two queues on two CPUs beside one
  rate           datagrams a second and a stream beside smoltcp's, allocations, connections a second
                 beside the host's
  all            all of these, the default

Options:
  --rounds N     batches of the shorter run under callgrind, and of a timed run
  --device NAME  wire or igb alone
  --batch N      batches of that size alone, 1 to 64, no stream and no SYNs
  --top N        instructions: the N functions that cost most, for each phase
  --tsv          lines of name, value and budget, with tabs between
  --root DIR     another checkout
";

const DEVICES: [&str; 2] = ["wire", "igb"];
/// The bench of datagrams.
const UDP: &str = "udp_walk";
/// The bench of streams and connections.
const TCP: &str = "tcp_stream";

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    what: Option<String>,
    rounds: Option<usize>,
    device: Option<&'static str>,
    batch: Option<usize>,
    top: usize,
    tsv: bool,
    root: Option<PathBuf>,
    help: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
            match arg.as_str() {
                "--rounds" => options.rounds = Some(number(&value()?)?),
                "--batch" => {
                    let batch = number(&value()?)?;
                    if batch > 64 {
                        return Err(format!("{batch}: a batch is at most 64 datagrams"));
                    }
                    options.batch = Some(batch);
                }
                "--top" => options.top = number(&value()?)?,
                "--device" => {
                    let name = value()?;
                    let known = DEVICES.into_iter().find(|device| *device == name);
                    options.device = Some(known.ok_or(format!("{name}: wire or igb"))?);
                }
                "--root" => options.root = Some(value()?.into()),
                "--tsv" => options.tsv = true,
                "--help" | "-h" => options.help = true,
                flag if flag.starts_with('-') => return Err(format!("{flag}: unknown option")),
                _ if options.what.is_some() => return Err(format!("{arg}: one at a time")),
                _ => options.what = Some(arg),
            }
        }
        Ok(options)
    }

    /// The devices asked for, or all.
    fn devices(&self) -> impl Iterator<Item = &'static str> + Clone {
        let asked = self.device;
        DEVICES.into_iter().filter(move |name| asked.is_none_or(|device| device == *name))
    }

    /// The devices and batches asked for, or all devices with these batches.
    fn datagrams(&self, batches: &[usize]) -> Vec<Setting> {
        let batches = self.batch.map_or_else(|| batches.to_vec(), |batch| vec![batch]);
        let on = |device| {
            let batches = batches.iter().map(|&batch| Traffic::Datagrams(batch));
            batches.map(move |traffic| Setting { device, traffic })
        };
        self.devices().flat_map(on).collect()
    }

    /// SYNs answered by cookies, over the wire if that is asked for; none where batches are.
    fn floods(&self) -> Vec<Setting> {
        let wire = self.batch.is_none() && self.device != Some("igb");
        wire.then_some(Setting { device: "wire", traffic: Traffic::Cookies }).into_iter().collect()
    }

    /// Streams over the devices asked for; none where batches are asked for.
    fn streams(&self) -> Vec<Setting> {
        let on = |device| Setting { device, traffic: Traffic::Stream };
        self.devices().filter(|_| self.batch.is_none()).map(on).collect()
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| format!("{text}: no number above zero"))
}

/// Budgets of phases and sides; those of the wire count everything, those of igb driver and stack.
fn budget(setting: Setting, part: &str) -> Option<f64> {
    use Traffic::{Datagrams, Stream};
    match (setting.device, setting.traffic, part) {
        ("wire", Datagrams(32), "send") => Some(700.0),
        ("wire", Datagrams(32), "softirq") => Some(650.0),
        ("wire", Datagrams(32), "recv") => Some(250.0),
        ("igb", Datagrams(32), "receive-side") => Some(1000.0),
        ("igb", Datagrams(32), "send-side") => Some(900.0),
        ("igb", Datagrams(1), "receive-side") => Some(1500.0),
        ("wire", Stream, "send-side" | "receive-side") => Some(1500.0),
        _ => None,
    }
}

fn instructions(root: &Path, options: &Options, table: &Table) -> Result<(), String> {
    tools::need("valgrind")?;
    let mut meter = Meter::new(tools::build(root, UDP, true)?, options.rounds);
    table.title("Instructions for each datagram");
    let datagrams = options.datagrams(&[1, 32, 64]);
    datagrams
        .into_iter()
        .try_for_each(|setting| phases(&mut meter, setting, options.top, table))?;
    let (streams, floods) = (options.streams(), options.floods());
    if streams.is_empty() && floods.is_empty() {
        return Ok(());
    }
    let mut meter = Meter::new(tools::build(root, TCP, true)?, options.rounds);
    for (title, settings) in [
        ("Instructions for each segment of 1,448 octets, without GRO", streams),
        ("Instructions for each SYN of a flood, cookie and guess at one", floods),
    ] {
        if !settings.is_empty() {
            table.title(title);
        }
        for setting in settings {
            phases(&mut meter, setting, options.top, table)?;
        }
    }
    Ok(())
}

/// A row for each phase, with the functions that cost most, and one for each side.
fn phases(meter: &mut Meter, setting: Setting, top: usize, table: &Table) -> Result<(), String> {
    let mut sides = [("send-side", 0.0), ("receive-side", 0.0)];
    let name = |part: &str| format!("instructions/{}/{part}", setting.name());
    for phase in setting.phases() {
        let profile = meter.phase(setting, phase)?;
        let total = profile.total();
        sides[usize::from(matches!(*phase, "softirq" | "recv"))].1 += total;
        table.row(&Row::new(name(phase), total, budget(setting, phase)));
        for (function, count) in profile.by_function().iter().take(top) {
            table.detail(&format!("{count:8.1}  {function}"));
        }
    }
    if setting.traffic == Traffic::Cookies {
        // Each is a thing of its own.
        return Ok(());
    }
    for (side, total) in sides {
        table.row(&Row::new(name(side), total, budget(setting, side)));
    }
    Ok(())
}

/// The benches print for themselves; their own verdicts are ours.
fn rate(root: &Path, table: &Table) -> Result<ExitCode, String> {
    let titles = [
        (UDP, "Datagrams a second in memory, one thread"),
        (TCP, "A stream and connections in memory, one thread"),
    ];
    let mut good = true;
    for (bench, title) in titles {
        let exe = tools::build(root, bench, true)?;
        table.title(title);
        let mut command = Command::new(&exe);
        command.arg("rate").args(table.tsv.then_some("--tsv"));
        let status = command.status().map_err(|error| format!("{}: {error}", exe.display()))?;
        good &= status.success();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the command; exit code 1 when packets allocate, an error when something is missing.
pub fn run(args: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let options = Options::parse(args)?;
    if options.help {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let root = super::root(options.root.clone())?;
    let table = Table { tsv: options.tsv };
    let what = options.what.as_deref().unwrap_or("all");
    match what {
        "instructions" => instructions(&root, &options, &table)?,
        "locked" => locked::run(&root, &options, &table)?,
        "walk" => walk::run(&root, &options, &table)?,
        "enter" => threads::enter(&root, options.rounds, &table)?,
        "cpus" => threads::cpus(&root, &table)?,
        "rate" => return rate(&root, &table),
        "all" => {
            instructions(&root, &options, &table)?;
            locked::run(&root, &options, &table)?;
            walk::run(&root, &options, &table)?;
            threads::enter(&root, options.rounds, &table)?;
            threads::cpus(&root, &table)?;
            return rate(&root, &table);
        }
        _ => return Err(format!("{what}: no such bench; `cargo xtask bench --help` lists them")),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line() {
        let options = parse("instructions --rounds 10 --device igb --top 5 --tsv").expect("good");
        assert_eq!(options.what.as_deref(), Some("instructions"));
        assert_eq!((options.rounds, options.device, options.top), (Some(10), Some("igb"), 5));
        let names =
            |settings: Vec<Setting>| settings.into_iter().map(Setting::name).collect::<Vec<_>>();
        assert_eq!(names(options.datagrams(&[1, 32])), ["igb/1", "igb/32"]);
        assert_eq!(names(options.streams()), ["stream/igb"]);
        let options = parse("--batch 64").expect("good");
        assert_eq!(names(options.datagrams(&[1])), ["wire/64", "igb/64"]);
        assert_eq!((options.streams(), options.floods()), (vec![], vec![]));
        assert_eq!(names(parse("").expect("good").floods()), ["cookies/wire"]);
        for bad in ["--rounds 0", "--batch 65", "--device eth", "--rounds", "rate walk", "-x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
