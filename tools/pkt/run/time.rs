//! When events are due, and whether they came in time.

use super::{Pending, Runner, Went, Wrong, secs};
use crate::backend::{Call, Done};
use crate::parse::Pos;
use crate::parse::script::{Time, Us};

/// A call that a script does not say to sleep may take so long.
const GRACE: Us = 1_000_000;
/// What is late is waited for so long, to say how late.
const LATE: Us = 500_000;
/// A packet that may go out whenever is waited for so long.
const WHENEVER: Us = 130_000_000;

/// When an event is due, in the script's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// At the earliest.
    pub begin: Us,
    /// At the latest.
    pub end: Us,
    /// What a relative time is reckoned from.
    base: Option<Us>,
    /// It is a range.
    range: bool,
    /// Whenever.
    any: bool,
    /// The time of the event before.
    last: Option<Us>,
}

impl Due {
    /// A time that the script counts as the event's own is.
    pub(super) fn end_of(&self, end: Us) -> Us {
        self.base.unwrap_or(0) + end
    }

    /// At one time, as late after `last` as it is.
    pub(super) fn once(at: Us, last: Us) -> Self {
        Self { begin: at, end: at, base: None, range: false, any: false, last: Some(last) }
    }
}

impl Runner<'_> {
    /// The script's time.
    pub(super) fn now(&mut self) -> Us {
        self.backend.now() - self.start
    }

    /// Packets to the machine that follow each other are reckoned from each other's time, so that
    /// what handling them takes does not add up; all else from now.
    pub(super) fn due(&mut self, time: Time, inbound: bool) -> Went<Due> {
        let base = match self.last {
            Some((at, true)) if inbound => at,
            _ => self.now(),
        };
        let (begin, end, relative) = match time {
            Time::Absolute(at) => (at, at, false),
            Time::AbsoluteRange(begin, end) => (begin, end, false),
            Time::Relative(after) => (base + after, base + after, true),
            Time::RelativeRange(begin, end) => (base + begin, base + end, true),
            Time::Any => (base, base, true),
        };
        let last = self.last.map(|(at, _)| at);
        if let (false, Some(last)) = (relative, last)
            && begin < last
        {
            let (from, to) = (secs(last), secs(begin));
            return Err(
                format!("time goes backward in script from {from:.6} to {to:.6} sec").into()
            );
        }
        let range = matches!(time, Time::AbsoluteRange(..) | Time::RelativeRange(..));
        let any = time == Time::Any;
        Ok(Due { begin, end, base: relative.then_some(base), range, any, last })
    }

    fn tolerance(&self, due: &Due) -> Us {
        let since = due.last.map_or(0, |last| due.begin - last) as f64;
        let part = (self.config.tolerance_percent / 100.0 * since) as Us;
        part.max(self.config.tolerance)
    }

    /// Until when a packet or the end of a call is waited for.
    pub(super) fn patience(&self, due: &Due) -> Us {
        if due.any { due.end + WHENEVER } else { due.end + self.tolerance(due) + LATE }
    }

    /// Whether something that happened at `at` was in time.
    pub(super) fn in_time(&self, due: &Due, at: Us, what: &str) -> Went<()> {
        let tolerance = self.tolerance(due);
        if due.any || (due.begin - tolerance..=due.end + tolerance).contains(&at) {
            return Ok(());
        }
        let expected = match (due.range, due.base) {
            (true, Some(base)) => format!(
                "in relative time range +{:.6}~+{:.6} sec but happened at {:+.6} sec",
                secs(due.begin - base),
                secs(due.end - base),
                secs(at - base)
            ),
            (true, None) => format!(
                "in time range {:.6}~{:.6} sec but happened at {:.6} sec",
                secs(due.begin),
                secs(due.end),
                secs(at)
            ),
            _ => format!("at {:.6} sec but happened at {:.6} sec", secs(due.begin), secs(at)),
        };
        let what = format!(
            "timing error: expected {what} {expected}; tolerance {:.6} sec",
            secs(tolerance)
        );
        Err(Wrong { what, timing: true })
    }

    /// Waits until the event is due; it must not be too late.
    pub(super) fn wait(&mut self, due: &Due, what: &str) -> Went<()> {
        self.backend.wait_until(self.start + due.begin)?;
        let now = self.now();
        self.in_time(due, now, what)
    }

    /// A call that must not sleep.
    pub(super) fn quick(&mut self, call: Call) -> Went<Done> {
        self.backend.start(call)?;
        let until = self.backend.now() + GRACE;
        match self.backend.finish(until)? {
            Some((done, _)) => Ok(done),
            None => Err(
                "the call sleeps, and the script does not say until when: write +0...0.1 before it"
                    .to_owned()
                    .into(),
            ),
        }
    }

    /// The call before must have ended before the next begins.
    pub(super) fn before_call(&mut self) -> Went<()> {
        let Some(pending) = &self.pending else { return Ok(()) };
        let pos = pending.pos;
        self.reap(Some(pos)).map_err(|(at, wrong)| Wrong {
            what: format!("the call of line {}: {}", at.line, wrong.what),
            ..wrong
        })
    }

    /// Looks whether the sleeping call has ended; with `last` waits for it as long as it may take.
    pub(super) fn reap(&mut self, last: Option<Pos>) -> Result<(), (Pos, Wrong)> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let until = match last {
            Some(_) => self.start + self.patience(&pending.due),
            None => self.backend.now(),
        };
        let pos = pending.pos;
        let ended = self.backend.finish(until).map_err(|what| (pos, what.into()))?;
        let Some((done, at)) = ended else {
            if last.is_none() {
                self.pending = Some(pending);
                return Ok(());
            }
            let due = secs(pending.due.end);
            let what = format!(
                "timing error: expected {}() to end at {due:.6} sec but it still sleeps at {:.6} sec",
                pending.spec.name,
                secs(until - self.start)
            );
            return Err((pos, Wrong { what, timing: true }));
        };
        self.ended(pending, done, at - self.start).map_err(|wrong| (pos, wrong))
    }

    fn ended(&mut self, pending: Pending, done: Done, at: Us) -> Went<()> {
        self.note_at(at, &format!("{}() ends: {}", pending.spec.name, done.ret));
        self.complete(&pending.spec, &pending.call, &done)?;
        self.in_time(&pending.due, at, "system call return")
    }
}
