//! A phase's instructions for each datagram or segment, the model of a NIC left out.

use super::profile::Profile;
use super::tools;
use std::collections::HashMap;
use std::path::PathBuf;

/// Where a device model begins: its side of the bus. By both ways of writing a method of a trait.
const MODEL: &[&str] = &[
    "*<impl drivers::pci::PciDev for hw::igb::I82576>::*",
    "<hw::igb::I82576 as drivers::pci::PciDev>::*",
];
/// Packets of the shorter run when nothing else is said, and its fewest batches: what is
/// allocated once is allocated by then, and a stream's window has grown.
const PACKETS: usize = 3200;
const FEWEST: usize = 50;
/// Segments that a round of `tcp_stream` writes.
const WRITE: usize = 44;
/// SYNs of a round, and acknowledgements of either kind.
const FLOOD: usize = 64;
/// Less than this is what adding and subtracting leaves behind.
const NOTHING: f64 = 1e-6;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Datagrams, so many at a time (`udp_walk`).
    Datagrams(usize),
    /// The segments of a stream (`tcp_stream`).
    Stream,
    /// A flood of SYNs answered by cookies, and acknowledgements with a cookie and without (`tcp_stream`).
    Cookies,
}

/// What is measured: traffic over a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    pub device: &'static str,
    pub traffic: Traffic,
}

impl Setting {
    /// The phases that its rounds have.
    pub fn phases(self) -> &'static [&'static str] {
        match (self.traffic, self.device) {
            (Traffic::Stream, _) => &["send", "acked", "softirq", "recv"],
            (Traffic::Cookies, _) => &["syn", "cookie", "guess"],
            (_, "igb") => &["send", "complete", "softirq", "recv"],
            _ => &["send", "softirq", "recv"],
        }
    }

    /// How its figures are called: `wire/32`, `stream/wire`, `cookies/wire`.
    pub fn name(self) -> String {
        let device = self.device;
        match self.traffic {
            Traffic::Datagrams(batch) => format!("{device}/{batch}"),
            Traffic::Stream => format!("stream/{device}"),
            Traffic::Cookies => format!("cookies/{device}"),
        }
    }

    /// Packets of a round.
    pub fn batch(self) -> usize {
        match self.traffic {
            Traffic::Datagrams(batch) => batch,
            Traffic::Stream => WRITE,
            Traffic::Cookies => FLOOD,
        }
    }

    /// The bench's arguments for so many rounds.
    fn count(self, rounds: usize) -> Vec<String> {
        let (device, rounds) = (self.device.to_owned(), rounds.to_string());
        match self.traffic {
            Traffic::Datagrams(batch) => vec!["count".into(), device, rounds, batch.to_string()],
            Traffic::Stream => vec!["count".into(), device, rounds],
            Traffic::Cookies => vec!["cookies".into(), rounds],
        }
    }
}

/// An executable and how long it runs.
pub struct Meter {
    exe: PathBuf,
    rounds: Option<usize>,
    /// The model alone, which is the same for all phases.
    models: HashMap<Setting, Profile>,
}

impl Meter {
    pub fn new(exe: PathBuf, rounds: Option<usize>) -> Self {
        Self { exe, rounds, models: HashMap::new() }
    }

    /// What ran in a phase, by instruction, for each packet.
    ///
    /// A toggle turns counting on or off, whichever it was. So three runs are needed where a model
    /// is left out: the phase with the model in it, P; the phase without its model but with the
    /// model's work elsewhere, P - M + N; the model everywhere, M + N. What is wanted is P - M, half
    /// of the first two less the third, and that holds for each instruction.
    pub fn phase(&mut self, setting: Setting, phase: &str) -> Result<Profile, String> {
        let name = format!("*::phase_{phase}");
        let mut profile = Profile::default();
        let with_model = self.per_packet(setting, &[&name])?;
        if with_model.total() == 0.0 {
            return Err(format!("callgrind did not see phase_{phase}; was it inlined?"));
        }
        if setting.device != "igb" {
            return Ok(with_model);
        }
        let toggles: Vec<&str> = [name.as_str()].into_iter().chain(MODEL.iter().copied()).collect();
        let less_model = self.per_packet(setting, &toggles)?;
        if !self.models.contains_key(&setting) {
            let model = self.per_packet(setting, MODEL)?;
            self.models.insert(setting, model);
        }
        let model = &self.models[&setting];
        if model.total() == 0.0 {
            return Err("callgrind did not see the model's registers".to_owned());
        }
        for (run, factor) in [(&with_model, 0.5), (&less_model, 0.5), (model, -0.5)] {
            profile.add(run, factor);
        }
        profile.costs.retain(|_, cost| cost.count.abs() > NOTHING);
        let rest = |cost: &&super::profile::Cost| is_model(&cost.function);
        let left: f64 = profile.costs.values().filter(rest).map(|cost| cost.count.abs()).sum();
        if left > 1.0 {
            return Err(format!("{left:.1} instructions of the model are still counted"));
        }
        Ok(profile)
    }

    /// The difference of two run lengths: nothing of setting up is left in it.
    fn per_packet(&self, setting: Setting, toggles: &[&str]) -> Result<Profile, String> {
        let batch = setting.batch();
        let rounds = self.rounds.unwrap_or((PACKETS / batch).max(FEWEST));
        let run = |rounds: usize| tools::callgrind(&self.exe, &setting.count(rounds), toggles);
        let each = 1.0 / (rounds * batch) as f64;
        let mut profile = Profile::default();
        profile.add(&run(2 * rounds)?, each);
        profile.add(&run(rounds)?, -each);
        profile.costs.retain(|_, cost| cost.count.abs() > NOTHING);
        Ok(profile)
    }
}

fn is_model(function: &str) -> bool {
    function.starts_with("hw::") || function.starts_with("<hw::")
}
