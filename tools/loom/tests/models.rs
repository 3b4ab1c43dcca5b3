//! Every model on the stack's files as they are, and on each mistake the one that has to catch it.

use loom::model::Builder;
use netkeel_loom as variants;
use std::env;
use std::process::{Command, Output};

/// Switches of threads where none has to be, at most, in one order of steps.
const PREEMPTIONS: usize = 3;
/// The same for models with the whole idle loop: with one more they run for minutes. They hold then, too:
/// `LOOM_MAX_PREEMPTIONS=3` has it tried.
const PREEMPTIONS_IDLE: usize = 2;

/// Set for a process that runs one model and nothing else.
const CHILD: &str = "NETKEEL_LOOM_CHILD";

/// Those models, and the mistakes that they catch.
const IDLE: &[&str] = &[
    "a_waiting_task_gets_its_interrupt",
    "an_interrupt_is_taken_while_a_task_passes",
    "a_leader_is_woken_by_another_thread",
    "a_source_that_wants_to_be_armed_is",
    "a_source_is_heard_of_when_the_leader_has_gone",
    "a_source_is_heard_of_when_the_watch_is_over",
    "goes_unarmed",
    "watches_for_ever",
    "rests_over_a_kick",
    "goes_over_a_kick",
    "passes_nothing_on",
    "goes_in_silence",
    "arms_too_early",
];

fn check(test: &str, model: fn()) {
    let mut builder = Builder::new();
    let idle = IDLE.contains(&test);
    let bound = if idle { PREEMPTIONS_IDLE } else { PREEMPTIONS };
    builder.preemption_bound = builder.preemption_bound.or(Some(bound));
    builder.check(model);
}

/// Runs the model in a process of its own: where it fails, loom's threads unwind, and what they drop on
/// the way fails once more, which ends the process.
fn alone(test: &str, model: fn()) -> Option<Output> {
    if env::var_os(CHILD).is_some() {
        check(test, model);
        return None;
    }
    let this = env::current_exe().expect("this program");
    let child = Command::new(this).args([test, "--exact", "--nocapture"]).env(CHILD, "1").output();
    Some(child.expect("this program, once more"))
}

/// What a child said, without the stack of its panic.
fn said(output: &Output) -> String {
    let all = String::from_utf8_lossy(&output.stderr).into_owned();
    all.lines()
        .filter(|line| !line.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == 'a'))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The model must come to a good end.
fn holds(test: &str, model: fn()) {
    if let Some(output) = alone(test, model) {
        assert!(output.status.success(), "{}", said(&output));
    }
}

/// The model must not come to a good end: it panics, or has no thread left that could go on.
fn catches(test: &str, model: fn()) {
    if let Some(output) = alone(test, model) {
        assert!(!output.status.success(), "the mistake went unnoticed");
        let said = said(&output);
        assert!(
            said.contains("deadlock") || said.contains("assertion") || said.contains("panicked"),
            "{said}"
        );
    }
}

macro_rules! good {
    ($($model:ident)*) => {
        $(#[test]
        fn $model() {
            holds(stringify!($model), variants::good::models::$model);
        })*
    };
}

macro_rules! caught {
    ($($mistake:ident by $model:ident)*) => {
        $(#[test]
        fn $mistake() {
            catches(stringify!($mistake), variants::$mistake::models::$model);
        })*
    };
}

good! {
    one_holder_at_a_time
    a_kick_is_seen_or_somebody_is_woken
    a_waiting_task_gets_its_interrupt
    an_interrupt_is_taken_while_a_task_passes
    a_leader_is_woken_by_another_thread
    a_source_that_wants_to_be_armed_is
    a_source_is_heard_of_when_the_leader_has_gone
    a_source_is_heard_of_when_the_watch_is_over
    a_follower_is_not_forgotten
    a_sleeper_on_a_wait_queue_is_woken
    what_is_pushed_comes_out
    what_has_passed_has_ended
    every_frame_is_polled_by_one_at_a_time
    who_disables_has_it_for_himself
    a_socket_receives_in_order
    the_cap_holds
}

caught! {
    leaves_by_a_store by a_kick_is_seen_or_somebody_is_woken
    enters_without_looking by one_holder_at_a_time
    rests_over_a_kick by a_waiting_task_gets_its_interrupt
    lies_down_woken by a_sleeper_on_a_wait_queue_is_woken
    goes_over_a_kick by a_leader_is_woken_by_another_thread
    passes_nothing_on by a_leader_is_woken_by_another_thread
    goes_in_silence by a_leader_is_woken_by_another_thread
    arms_too_early by a_source_that_wants_to_be_armed_is
    goes_unarmed by a_source_is_heard_of_when_the_leader_has_gone
    watches_for_ever by a_source_is_heard_of_when_the_watch_is_over
    wakes_nobody by a_sleeper_on_a_wait_queue_is_woken
    pushes_in_silence by what_is_pushed_comes_out
    ends_too_early by what_has_passed_has_ended
    misses by every_frame_is_polled_by_one_at_a_time
    polls_twice by every_frame_is_polled_by_one_at_a_time
    takes_while_polled by who_disables_has_it_for_himself
    releases_early by a_socket_receives_in_order
    charges_in_two_steps by the_cap_holds
}
