//! Every check on the host kernel and on the stack, stepped and on threads, with one CPU and with two.

use host::testing::{Need, need};
use parity::checks::{all, groups, options, pipes, streams, wire};
use parity::{Check, Engine, Machine, Report, diff, each_on_kernel, on_kernel};

fn compare(checks: &[Check], kernel: &[Report], (engine, cpus): (Engine, u8)) {
    let mut differ = 0;
    let mut said = String::new();
    for (check, kernel) in checks.iter().zip(kernel) {
        if let Some(lines) = diff(kernel, &Machine::run_check(engine, cpus, check)) {
            differ += 1;
            said += &format!("{}\n{lines}", check.name);
        }
    }
    assert!(
        differ == 0,
        "{differ} of {} checks differ, {engine:?} with {cpus} CPUs:\n{said}",
        checks.len()
    );
}

/// On the kernel once, on the stack stepped and on threads, with one CPU and with two.
fn compare_everywhere(checks: &[Check], on_kernel: fn(&[Check]) -> Vec<Report>) {
    if !need(Need::Root) {
        // The stack's half still shows that nothing panics or is left over.
        checks.iter().for_each(|check| drop(Machine::run_check(Engine::Stepped, 1, check)));
        return;
    }
    let kernel = on_kernel(checks);
    for engine in [Engine::Stepped, Engine::Threads] {
        compare(checks, &kernel, (engine, 1));
        compare(checks, &kernel, (engine, 2));
    }
}

#[test]
fn the_stack_answers_as_the_host_kernel_does() {
    let checks = all();
    assert!(checks.len() >= 80, "{} checks", checks.len());
    compare_everywhere(&checks, on_kernel);
}

#[test]
fn the_stack_answers_as_the_host_kernel_does_on_streams() {
    compare_everywhere(&streams(), each_on_kernel);
}

#[test]
fn the_stack_answers_as_the_host_kernel_does_on_pipes_and_splice() {
    compare_everywhere(&pipes(), each_on_kernel);
}

#[test]
fn the_stack_answers_as_the_host_kernel_does_on_fragments_and_path_mtu() {
    let checks = wire();
    assert!(checks.len() >= 25, "{} checks", checks.len());
    compare_everywhere(&checks, each_on_kernel);
}

#[test]
fn the_stack_answers_as_the_host_kernel_does_on_options_of_ip() {
    let checks = options();
    assert!(checks.len() >= 30, "{} checks", checks.len());
    compare_everywhere(&checks, each_on_kernel);
}

#[test]
fn the_stack_answers_as_the_host_kernel_does_on_groups_and_igmp() {
    let checks = groups();
    assert!(checks.len() >= 20, "{} checks", checks.len());
    compare_everywhere(&checks, each_on_kernel);
}

/// What depends on time, chance or tuning is no check.
#[test]
fn the_host_kernel_answers_the_same_each_time_on_streams() {
    if !need(Need::Root) {
        return;
    }
    let checks = streams();
    assert!(checks.len() >= 120, "{} checks", checks.len());
    let [first, second] = [each_on_kernel(&checks), each_on_kernel(&checks)];
    let mut said = String::new();
    for (check, (first, second)) in checks.iter().zip(first.iter().zip(&second)) {
        assert!(!first.is_empty(), "{} notes nothing", check.name);
        if let Some(lines) = diff(first, second) {
            said += &format!("{}\n{lines}", check.name);
        }
    }
    assert!(said.is_empty(), "another answer (second as stack):\n{said}");
}

#[test]
fn a_check_says_something_and_the_same_each_time() {
    for check in [all(), streams(), wire(), groups(), options()].concat() {
        let report = Machine::run_check(Engine::Stepped, 2, &check);
        assert!(!report.is_empty(), "{} notes nothing", check.name);
        assert_eq!(report, Machine::run_check(Engine::Stepped, 2, &check), "{}", check.name);
    }
}

#[test]
fn names_are_unique() {
    let checks = [all(), streams(), wire(), pipes(), groups(), options()].concat();
    let mut names: Vec<&str> = checks.iter().map(|check| check.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), checks.len());
}
