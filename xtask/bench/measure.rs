//! A phase's instructions for each datagram, the model of a NIC left out.

use super::profile::Profile;
use super::tools;
use std::collections::HashMap;
use std::path::PathBuf;

/// Where a device model begins: its side of the bus. By both ways of writing a method of a trait.
const MODEL: &[&str] = &[
    "*<impl drivers::pci::PciDev for hw::igb::I82576>::*",
    "<hw::igb::I82576 as drivers::pci::PciDev>::*",
];
/// Datagrams of the shorter run when nothing else is said, and its fewest batches: what is
/// allocated once is allocated by then.
const DATAGRAMS: usize = 3200;
const FEWEST: usize = 50;
/// Less than this is what adding and subtracting leaves behind.
const NOTHING: f64 = 1e-6;

/// What is measured: a device and a size of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    pub device: &'static str,
    pub batch: usize,
}

impl Setting {
    /// The phases that its rounds have.
    pub fn phases(self) -> &'static [&'static str] {
        match self.device {
            "igb" => &["send", "complete", "softirq", "recv"],
            _ => &["send", "softirq", "recv"],
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

    /// What ran in a phase, by instruction, for each datagram.
    ///
    /// A toggle turns counting on or off, whichever it was. So three runs are needed where a model
    /// is left out: the phase with the model in it, P; the phase without its model but with the
    /// model's work elsewhere, P - M + N; the model everywhere, M + N. What is wanted is P - M, half
    /// of the first two less the third, and that holds for each instruction.
    pub fn phase(&mut self, setting: Setting, phase: &str) -> Result<Profile, String> {
        let name = format!("*Pair*::phase_{phase}");
        let mut profile = Profile::default();
        let with_model = self.per_datagram(setting, &[&name])?;
        if with_model.total() == 0.0 {
            return Err(format!("callgrind did not see phase_{phase}; was it inlined?"));
        }
        if setting.device != "igb" {
            return Ok(with_model);
        }
        let toggles: Vec<&str> = [name.as_str()].into_iter().chain(MODEL.iter().copied()).collect();
        let less_model = self.per_datagram(setting, &toggles)?;
        if !self.models.contains_key(&setting) {
            let model = self.per_datagram(setting, MODEL)?;
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
    fn per_datagram(&self, setting: Setting, toggles: &[&str]) -> Result<Profile, String> {
        let Setting { device, batch } = setting;
        let rounds = self.rounds.unwrap_or((DATAGRAMS / batch).max(FEWEST));
        let run = |rounds: usize| {
            let args = ["count", device, &rounds.to_string(), &batch.to_string()];
            tools::callgrind(&self.exe, &args.map(str::to_owned), toggles)
        };
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
