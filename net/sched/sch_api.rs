//! Disciplines by their names and options, in the words of `tc`.
//!
//! linux: net/sched/sch_api.c, and the words that iproute2's `tc` has for what it says to it. Key types:
//! [`QdiscOptions`], [`QdiscError`]; [`tc_modify_qdisc`] gives a device's queues another discipline, or changes the
//! one they have. Contexts: task. Invariant: what is refused changes nothing.

use super::sch_fq::params::FqParams;
use super::{QDISCS, qdisc_lookup_ops};
use crate::kernel::context::TaskCx;
use crate::net::core::dev::NetDevice;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;
use uapi::errno::Errno;

/// A discipline and what is set of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QdiscOptions {
    /// `pfifo_fast`, which has nothing to be set.
    PfifoFast,
    /// `fq`.
    Fq(FqParams),
}

/// Why a discipline is refused. The text names the cause and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QdiscError {
    /// Nothing is named.
    Nothing,
    /// There is none of that name.
    Unknown(String),
    /// The device sends at once, and has no queues.
    NoQueue,
    /// The discipline has no such option.
    NoOption {
        /// The discipline.
        id: &'static str,
        /// The word.
        word: String,
        /// The options that it has.
        has: &'static str,
    },
    /// An option stands last that wants a value.
    NoValue {
        /// The option.
        option: String,
        /// What it wants.
        wants: String,
    },
    /// The value of an option can't be.
    Value {
        /// The option.
        option: String,
        /// Its value.
        value: String,
        /// What it wants.
        wants: String,
    },
}

impl QdiscError {
    /// What a system call says of it.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Unknown(_) => Errno::ENOENT,
            Self::NoQueue => Errno::EOPNOTSUPP,
            _ => Errno::EINVAL,
        }
    }
}

impl fmt::Display for QdiscError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = QDISCS.join(", ");
        match self {
            Self::Nothing => write!(f, "no queueing discipline is named: name one of {known}"),
            Self::Unknown(name) => {
                write!(f, "there is no queueing discipline {name:?}: name one of {known}")
            }
            Self::NoQueue => f.write_str(
                "the device has no queues, since it sends at once: choose one that has, such as a TAP or an igb",
            ),
            Self::NoOption { id, word, has: "" } => {
                write!(f, "{id} has no options: leave {word:?} out")
            }
            Self::NoOption { id, word, has } => {
                write!(f, "{id} has no option {word:?}: it has {has}")
            }
            Self::NoValue { option, wants } => write!(f, "{option} has no value: write {wants}"),
            Self::Value { option, value, wants } => {
                write!(f, "{option} {value:?} can't be: write {wants}")
            }
        }
    }
}

impl std::error::Error for QdiscError {}

impl QdiscOptions {
    /// A discipline with the options that it has when nothing is set.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        qdisc_lookup_ops(name).map(|name| match name {
            "fq" => Self::Fq(FqParams::default()),
            _ => Self::PfifoFast,
        })
    }

    /// What `text` says, the discipline's name and then options; where it is the `present` one, what `text` does not
    /// say stays as it is.
    ///
    /// # Errors
    /// What of it can't be.
    pub fn parse(text: &str, present: Option<&Self>) -> Result<Self, QdiscError> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().ok_or(QdiscError::Nothing)?;
        let new = Self::named(name).ok_or_else(|| QdiscError::Unknown(name.to_owned()))?;
        let words = Words { id: new.id(), option: "", words };
        match (new, present) {
            (Self::Fq(_), Some(Self::Fq(present))) => present.changed(words).map(Self::Fq),
            (Self::Fq(params), _) => params.changed(words).map(Self::Fq),
            (Self::PfifoFast, _) => words.end().map(|()| Self::PfifoFast),
        }
    }

    /// The discipline's name.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::PfifoFast => "pfifo_fast",
            Self::Fq(_) => "fq",
        }
    }
}

impl fmt::Display for QdiscOptions {
    /// As `tc qdisc show` does, from the name on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PfifoFast => f.write_str(self.id()),
            Self::Fq(params) => write!(f, "{} {params}", self.id()),
        }
    }
}

/// Gives each queue of a device the discipline that `text` names, as `tc qdisc replace dev … root TEXT` does:
/// `fq flow_limit 50 maxrate 10mbit`. A queue that has it keeps what it holds, as far as there is room now, and the
/// options that are not named; what another holds is dropped.
///
/// # Errors
/// [`QdiscError`]: then all is as it was.
///
/// linux: net/sched/sch_api.c:tc_modify_qdisc
pub fn tc_modify_qdisc(cx: &mut TaskCx, dev: &NetDevice, text: &str) -> Result<(), QdiscError> {
    let present = dev.tx_queues.first().map(|queue| queue.qdisc().options());
    let options = QdiscOptions::parse(text, present.as_ref())?;
    if dev.tx_queue_len == 0 {
        return Err(QdiscError::NoQueue);
    }
    cx.local_bh_disable(|bh| {
        for queue in &dev.tx_queues {
            queue.qdisc().change_or_graft(bh, &options, dev.tx_queue_len);
        }
    });
    Ok(())
}

/// The options of a discipline, word by word.
pub(super) struct Words<'a> {
    id: &'static str,
    /// The present one.
    option: &'a str,
    words: std::str::SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    pub(super) fn next_option(&mut self) -> Option<&'a str> {
        self.option = self.words.next()?;
        Some(self.option)
    }

    /// There is no option of that name, but those that it `has`.
    pub(super) fn unknown(&self, has: &'static str) -> QdiscError {
        QdiscError::NoOption { id: self.id, word: self.option.to_owned(), has }
    }

    /// There are none.
    fn end(mut self) -> Result<(), QdiscError> {
        self.next_option().map_or(Ok(()), |_| Err(self.unknown("")))
    }

    /// The option's value, made of its word.
    fn value<T>(
        &mut self,
        wants: impl FnOnce() -> String,
        made: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, QdiscError> {
        let option = self.option.to_owned();
        let Some(word) = self.words.next() else {
            return Err(QdiscError::NoValue { option, wants: wants() });
        };
        let value = || word.to_owned();
        made(word).ok_or_else(|| QdiscError::Value { option, value: value(), wants: wants() })
    }

    /// A count within what 32 bits hold.
    pub(super) fn number(&mut self, range: RangeInclusive<u64>) -> Result<u32, QdiscError> {
        let (least, most) = (*range.start(), *range.end());
        self.value(
            || format!("a number from {least} to {most}"),
            |word| {
                let number = word.parse().ok().filter(|number| range.contains(number));
                number.and_then(|number| u32::try_from(number).ok())
            },
        )
    }

    /// A rate, in octets a second.
    pub(super) fn rate(&mut self) -> Result<u32, QdiscError> {
        self.value(
            || "bits a second such as 10mbit, or octets such as 10mbps, below 34gbit".to_owned(),
            |word| {
                let octets = scaled(word, &RATES, 1.0 / 8.0)?;
                (octets <= f64::from(u32::MAX)).then_some(octets as u32)
            },
        )
    }

    /// A time; a number alone is microseconds.
    pub(super) fn time(&mut self, most: Duration) -> Result<Duration, QdiscError> {
        self.time_in(most, 1e3)
    }

    /// A time; a number alone is nanoseconds.
    pub(super) fn time_ns(&mut self, most: Duration) -> Result<Duration, QdiscError> {
        self.time_in(most, 1.0)
    }

    fn time_in(&mut self, most: Duration, unit: f64) -> Result<Duration, QdiscError> {
        self.value(
            || format!("a time such as 5ms, up to {}", told_time(most)),
            |word| {
                let ns = scaled(word, &TIMES, unit)?;
                (ns <= most.as_nanos() as f64).then(|| Duration::from_nanos(ns as u64))
            },
        )
    }
}

/// Units of rates, in octets a second.
///
/// linux: iproute2's tc (its words)
const RATES: [(&str, f64); 16] = [
    ("bit", 1.0 / 8.0),
    ("kbit", 1e3 / 8.0),
    ("mbit", 1e6 / 8.0),
    ("gbit", 1e9 / 8.0),
    ("kibit", 1024.0 / 8.0),
    ("mibit", 1_048_576.0 / 8.0),
    ("gibit", 1_073_741_824.0 / 8.0),
    ("bps", 1.0),
    ("kbps", 1e3),
    ("mbps", 1e6),
    ("gbps", 1e9),
    ("kibps", 1024.0),
    ("mibps", 1_048_576.0),
    ("gibps", 1_073_741_824.0),
    ("tbit", 1e12 / 8.0),
    ("tbps", 1e12),
];

/// Units of times, in nanoseconds.
const TIMES: [(&str, f64); 12] = [
    ("s", 1e9),
    ("sec", 1e9),
    ("secs", 1e9),
    ("ms", 1e6),
    ("msec", 1e6),
    ("msecs", 1e6),
    ("us", 1e3),
    ("usec", 1e3),
    ("usecs", 1e3),
    ("ns", 1.0),
    ("nsec", 1.0),
    ("nsecs", 1.0),
];

/// A number with a unit; `alone`: of one without.
fn scaled(word: &str, units: &[(&str, f64)], alone: f64) -> Option<f64> {
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = word.split_at(end);
    let factor = match unit {
        "" => alone,
        unit => units.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?.1,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

/// A rate in octets a second, as `tc` tells it.
pub(super) fn told_rate(octets: u32) -> String {
    let bits = u64::from(octets) * 8;
    let units = [(1_000_000_000, "Gbit"), (1_000_000, "Mbit"), (1_000, "Kbit")];
    let exact = units.into_iter().find(|(unit, _)| bits >= *unit && bits.is_multiple_of(*unit));
    exact.map_or_else(|| format!("{bits}bit"), |(unit, name)| format!("{}{name}", bits / unit))
}

/// A time, as `tc` tells it.
pub(super) fn told_time(time: Duration) -> String {
    let ns = time.as_nanos();
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let exact = units.into_iter().find(|(unit, _)| ns >= *unit && ns.is_multiple_of(*unit));
    exact.map_or_else(|| format!("{ns}ns"), |(unit, name)| format!("{}{name}", ns / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sched::sch_fq::params::Beyond;

    fn parse(text: &str) -> Result<QdiscOptions, QdiscError> {
        QdiscOptions::parse(text, None)
    }

    fn fq(text: &str) -> FqParams {
        match parse(text) {
            Ok(QdiscOptions::Fq(params)) => params,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        assert_eq!(fq("fq"), FqParams::default());
        let all = "fq limit 5 flow_limit 3 orphan_mask 7 nopacing quantum 4000 initial_quantum 0 maxrate 1mbit \
                   low_rate_threshold 8000 refill_delay 2ms ce_threshold 500 timer_slack 500 horizon 1.5s horizon_cap";
        let params = fq(all);
        let expected = FqParams {
            limit: 5,
            flow_limit: 3,
            orphan_mask: 7,
            pacing: false,
            quantum: 4000,
            initial_quantum: 0,
            max_rate: Some(125_000),
            low_rate_threshold: 1000,
            flow_refill_delay: Duration::from_millis(2),
            ce_threshold: Some(Duration::from_micros(500)),
            timer_slack: Duration::from_nanos(500),
            horizon: Duration::from_millis(1500),
            beyond: Beyond::Cap,
        };
        assert_eq!(params, expected);
        let present = QdiscOptions::Fq(params);
        let changed = QdiscOptions::parse("fq flow_limit 9 pacing", Some(&present));
        let expected = FqParams { flow_limit: 9, pacing: true, ..params };
        assert_eq!(changed, Ok(QdiscOptions::Fq(expected)));
        let other = QdiscOptions::parse("fq", Some(&QdiscOptions::PfifoFast));
        assert_eq!(other, parse("fq"), "another begins anew");
    }

    #[test]
    fn it_is_told_as_tc_does() {
        assert_eq!(
            parse("fq").unwrap().to_string(),
            "fq limit 10000p flow_limit 100p orphan_mask 1023 quantum 3028b initial_quantum 15140b \
             low_rate_threshold 550Kbit refill_delay 40ms timer_slack 10us horizon 10s horizon_drop"
        );
        let text =
            parse("fq nopacing maxrate 3gbit ce_threshold 1s horizon 1001 horizon_cap").unwrap();
        let text = text.to_string();
        for part in [
            "1023 nopacing quantum",
            "maxrate 3Gbit low",
            "ce_threshold 1s timer",
            "1001us horizon_cap",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(parse("pfifo_fast").unwrap().to_string(), "pfifo_fast");
    }

    #[test]
    fn bounds_are_linuxs() {
        for good in [
            "quantum 1",
            "quantum 1048576",
            "initial_quantum 2147483647",
            "limit 0",
            "limit 4294967295",
            "maxrate 0",
            "maxrate 34359738360bit",
            "horizon 0",
            "horizon 4294s",
            "timer_slack 4294967295",
        ] {
            fq(&format!("fq {good}"));
        }
        assert_eq!(fq("fq maxrate 34359738360bit").max_rate, None, "the greatest is none");
        for bad in [
            "quantum 0",
            "quantum 1048577",
            "initial_quantum 2147483648",
            "limit 4294967296",
            "limit -1",
            "limit 1.5",
            "limit x",
            "maxrate 100gbit",
            "maxrate x",
            "maxrate 1mile",
            "maxrate .",
            "horizon 1h",
            "horizon 4295s",
            "timer_slack 5s",
            "ce_threshold -1ms",
            "refill_delay 5parsecs",
            "horizon inf",
            "horizon nan",
        ] {
            let Err(QdiscError::Value { option, value, wants }) = parse(&format!("fq {bad}"))
            else {
                panic!("{bad}");
            };
            assert_eq!(format!("{option} {value}"), bad);
            assert!(!wants.is_empty());
        }
    }

    #[test]
    fn a_refusal_names_cause_and_way_out() {
        for (text, errno, said) in [
            ("", Errno::EINVAL, "no queueing discipline is named: name one of pfifo_fast, fq"),
            (
                "sfq",
                Errno::ENOENT,
                "there is no queueing discipline \"sfq\": name one of pfifo_fast, fq",
            ),
            ("pfifo_fast limit 5", Errno::EINVAL, "pfifo_fast has no options: leave \"limit\" out"),
            ("fq limit", Errno::EINVAL, "limit has no value: write a number from 0 to 4294967295"),
            (
                "fq horizon 2h",
                Errno::EINVAL,
                "horizon \"2h\" can't be: write a time such as 5ms, up to 4294967295us",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.errno(), error.to_string()), (errno, said.to_owned()));
        }
        let error = parse("fq buckets 1024").unwrap_err().to_string();
        assert!(
            error.starts_with("fq has no option \"buckets\": it has limit, flow_limit,"),
            "{error}"
        );
    }
}
