//! Scripts against `results.tsv`: our own, and the kernel's where they were fetched. What is listed as
//! passing must pass, what is listed as failing must fail: a row that is no longer true is changed,
//! by hand or with `NETKEEL_PKT_UPDATE=1`.

mod results;

use host::testing::{Need, need};
use pkt::parse::script::{Action, Event, Script};
use pkt::{Config, Failure, Report, Target, load, read_text, run_script};
use results::{Results, Row, Verdict};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests on the kernel come one after the other: too much at a time would make scripts late.
static KERNEL: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    KERNEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scripts at a time on the kernel, each in a namespace of its own: they mostly sleep.
const ABREAST: usize = 4;

/// Calls `f` for each case, several at a time; what it gave, in order.
fn for_each<R: Send>(target: Target, cases: &[Case], f: impl Fn(&Case) -> R + Sync) -> Vec<R> {
    // The kernel's own share a file by the process's number.
    let foreign = cases.iter().any(|case| case.name.contains('/'));
    let threads = if target == Target::Kernel && !foreign { ABREAST } else { 1 };
    let next = AtomicUsize::new(0);
    let given = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let one = (case.name.clone(), f(case));
            given.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut given = given.into_inner().unwrap_or_else(PoisonError::into_inner);
    given.sort_by(|a, b| a.0.cmp(&b.0));
    given.into_iter().map(|(_, one)| one).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A script to be run: its name in the results, where it lies, its text.
struct Case {
    name: String,
    path: PathBuf,
    text: String,
}

fn cases(dir: &Path, prefix: &str) -> Vec<Case> {
    let entries =
        std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "pkt"));
    paths.sort();
    let case = |path: PathBuf| {
        let file = path.file_name().expect("a file").to_string_lossy().into_owned();
        let text = read_text(&path).expect("a script");
        Case { name: format!("{prefix}{file}"), path, text }
    };
    paths.into_iter().map(case).collect()
}

fn own() -> Vec<Case> {
    cases(&root().join("scripts"), "")
}

/// The kernel's scripts, if they were fetched.
fn of_linux() -> Option<Vec<Case>> {
    let default = root().join("../../target/pkt/kernel-scripts");
    let dir = std::env::var_os("NETKEEL_PKT_SCRIPTS").map_or(default, PathBuf::from);
    if dir.is_dir() {
        return Some(cases(&dir, "linux-6.12/"));
    }
    let what = "needs the kernel's scripts: tools/pkt/fetch-kernel-scripts gets them";
    assert!(std::env::var_os("NETKEEL_REQUIRE_ALL").is_none_or(|all| all != "1"), "{what}");
    println!("skipped: {what}");
    None
}

/// Whether scripts can be run on the host kernel.
fn kernel_at_hand() -> bool {
    if !need(Need::Root) || !need(Need::DevNetTun) || !need(Need::Tool("ip")) {
        return false;
    }
    const PLACE: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = std::fs::read_to_string(PLACE).unwrap_or_default();
    if allowed.split_whitespace().any(|name| name == "cubic") {
        return true;
    }
    let what = format!("needs cubic in {PLACE}: sysctl -w allows it");
    assert!(std::env::var_os("NETKEEL_REQUIRE_ALL").is_none_or(|all| all != "1"), "{what}");
    println!("skipped: {what}");
    false
}

/// Options for scripts that can't be changed themselves.
fn options_of(name: &str) -> Vec<(String, Option<String>)> {
    let file = name.rsplit('/').next().unwrap_or(name);
    include_str!("../../options.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let (script, option, value) = (fields.next()?, fields.next()?, fields.next()?);
            (script == file).then(|| (option.to_owned(), Some(value.to_owned())))
        })
        .collect()
}

fn loaded(target: Target, case: &Case) -> (Script, Config) {
    let mut options = options_of(&case.name);
    if target == Target::Kernel {
        // What the kernel's own runner allows on a machine that is slow or has others on it.
        options.push(("tolerance_usecs".to_owned(), Some("14000".to_owned())));
    }
    load(&case.path, &case.text, &options).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Runs it; where only a time was wrong on the kernel, real time gets another chance.
fn run(
    target: Target,
    case: &Case,
    (script, config): &(Script, Config),
) -> Result<Report, Failure> {
    let tries = if target == Target::Kernel { 3 } else { 1 };
    let mut result = run_script(target, (script, &case.path), config);
    for _ in 1..tries {
        match &result {
            Err(failure) if failure.timing => {
                result = run_script(target, (script, &case.path), config)
            }
            _ => break,
        }
    }
    result
}

fn backend(target: Target) -> &'static str {
    if target == Target::Kernel { "kernel" } else { "stack" }
}

/// Whether a script says in its first line that it can't be run on the kernel.
fn stack_only(case: &Case) -> bool {
    case.text.lines().next().is_some_and(|line| line.contains("stack only"))
}

/// Runs the cases and compares with the results; what differs, a line each.
fn compare(target: Target, cases: &[Case]) {
    let mut results = Results::read();
    let applicable = |case: &Case| {
        let row = results.of(&case.name, backend(target));
        let not = row.as_ref().is_some_and(|row| row.verdict == Verdict::NotApplicable);
        let inapplicable = target == Target::Kernel && stack_only(case);
        assert!(!inapplicable || not, "{}: it says stack only, its row does not", case.name);
        !not
    };
    let went = for_each(target, cases, |case| {
        applicable(case).then(|| (case.name.clone(), run(target, case, &loaded(target, case))))
    });
    let mut wrong = Vec::new();
    for (name, went) in went.into_iter().flatten() {
        wrong.extend(results.compare((&name, backend(target)), &went));
    }
    if results.updating() {
        results.write();
        return;
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn own_scripts_on_the_stack() {
    let _one = alone();
    compare(Target::Stack, &own());
}

#[test]
fn own_scripts_on_the_kernel() {
    let _one = alone();
    if kernel_at_hand() {
        compare(Target::Kernel, &own());
    }
}

#[test]
fn the_kernels_scripts_on_the_stack() {
    let _one = alone();
    if let Some(cases) = of_linux() {
        compare(Target::Stack, &cases);
    }
}

#[test]
fn the_kernels_scripts_on_the_kernel() {
    let _one = alone();
    if let Some(cases) = of_linux()
        && kernel_at_hand()
    {
        compare(Target::Kernel, &cases);
    }
}

#[test]
fn the_stack_gives_the_same_each_time() {
    for case in own() {
        let loaded = loaded(Target::Stack, &case);
        let [first, second] = [(); 2].map(|()| run(Target::Stack, &case, &loaded));
        assert_eq!(first, second, "{}", case.name);
    }
}

/// Who cuts segments, and whether any are merged, shows in nothing that a script looks at.
#[test]
fn offloads_change_nothing_that_a_script_sees() {
    let results = Results::read();
    let mut cases = own();
    cases.extend(of_linux().unwrap_or_default());
    cases.retain(|case| {
        results.of(&case.name, "stack").is_some_and(|row| row.verdict == Verdict::Pass)
    });
    let mut wrong = Vec::new();
    for case in &cases {
        let (script, config) = loaded(Target::Stack, case);
        for on in [true, false] {
            let config = Config { offloads: Some(on), ..config.clone() };
            if let Err(failure) = run(Target::Stack, case, &(script.clone(), config)) {
                wrong.push(format!("{}, offloads {on}: {failure}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The script with an expectation behind its last event that nothing meets.
fn spoilt(script: &Script) -> Script {
    let wrong = pkt::parse::parse("+0 > P. 9999:10000(1) ack 9999").expect("it is of the language");
    let last = script.events.last().expect("a script has events").pos;
    let Action::Packet(packet) = &wrong.events[0].action else { panic!("it is a packet") };
    let event =
        Event { pos: last, action: Action::Packet(packet.clone()), ..wrong.events[0].clone() };
    let mut spoilt = script.clone();
    spoilt.events.push(event);
    spoilt
}

/// How many pass, and fail when spoilt.
fn each_fails_when_spoilt(target: Target, cases: &[Case]) -> usize {
    let results = Results::read();
    let passes = |case: &Case| {
        let row = results.of(&case.name, backend(target));
        row.is_some_and(|row| row.verdict == Verdict::Pass)
    };
    let spoil = |case: &Case| {
        let (script, config) = loaded(target, case);
        match run_script(target, (&spoilt(&script), &case.path), &config) {
            Ok(_) => Some(format!("{}: the spoilt script passes", case.name)),
            Err(failure) => {
                let of_it = failure.what.contains("P. 9999:10000(1) ack 9999") || failure.timing;
                (!of_it).then(|| format!("{}: it fails, but otherwise: {failure}", case.name))
            }
        }
    };
    let all = for_each(target, cases, |case| passes(case).then(|| spoil(case)));
    let wrong: Vec<&String> = all.iter().flatten().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    all.iter().flatten().count()
}

#[test]
fn a_wrong_expectation_fails_on_the_stack() {
    assert!(each_fails_when_spoilt(Target::Stack, &own()) > 0, "no script passes");
    if let Some(cases) = of_linux() {
        each_fails_when_spoilt(Target::Stack, &cases);
    }
}

#[test]
fn a_wrong_expectation_fails_on_the_kernel() {
    let _one = alone();
    if kernel_at_hand() {
        assert!(each_fails_when_spoilt(Target::Kernel, &own()) > 0, "no script passes");
        if let Some(cases) = of_linux() {
            each_fails_when_spoilt(Target::Kernel, &cases);
        }
    }
}

#[test]
fn every_row_is_of_a_script_and_every_failure_has_a_reason() {
    let names: Vec<String> = own().into_iter().map(|case| case.name).collect();
    let mut seen = BTreeMap::new();
    for Row { script, backend, verdict, why } in Results::read().rows() {
        let known = names.contains(script) || script.starts_with("linux-6.12/");
        assert!(known, "results.tsv: there is no script {script}");
        assert!(*verdict == Verdict::Pass || !why.is_empty(), "{script} on {backend}: why?");
        assert!(seen.insert((script.clone(), backend.clone()), ()).is_none(), "{script}: twice");
    }
    for line in include_str!("../../options.tsv").lines().filter(|line| !line.starts_with('#')) {
        assert_eq!(line.split('\t').count(), 3, "options.tsv: {line}");
    }
}
