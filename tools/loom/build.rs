//! Makes of the stack's own source files what `lib.rs` compiles: the same lines, with the paths of a
//! module instead of a crate, once as they are and once for each mistake that the models have to catch.
//!
//! A mistake is a replacement in one file. Its text has to stand there exactly once: when the source has
//! changed so that it does not, the build says so, and the mistake is to be made anew.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Source files, and the modules they become.
const FILES: &[(&str, &str)] = &[
    ("kernel/locking/cpu_cell.rs", "cpu_cell.rs"),
    ("kernel/sched/wait.rs", "wait_queue.rs"),
    ("kernel/remote_queue.rs", "remote_queue.rs"),
    ("net/core/dev/napi/state.rs", "napi_state.rs"),
    ("net/core/sock/owner.rs", "owner.rs"),
    ("net/core/skbuff/depot.rs", "depot.rs"),
    ("host/idle.rs", "idle.rs"),
    ("host/idle/words.rs", "words.rs"),
    ("host/idle/lead.rs", "lead.rs"),
    ("host/ksoftirqd.rs", "ksoftirqd.rs"),
    ("host/park.rs", "park.rs"),
    ("tools/loom/models/world.rs", "world.rs"),
    ("tools/loom/models/models.rs", "models.rs"),
];

struct Mistake {
    name: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
}

const MISTAKES: &[Mistake] = &[
    // Unlocked with a plain store, a kick that came in during the stay is gone.
    Mistake {
        name: "leaves_by_a_store",
        file: "kernel/locking/cpu_cell.rs",
        right: "match self.cell.state.compare_exchange(HELD, 0, Ordering::Release, Ordering::Relaxed) {",
        wrong: "self.cell.state.store(0, Ordering::Release); match Ok::<u32, u32>(0) {",
    },
    // Two are inside.
    Mistake {
        name: "enters_without_looking",
        file: "kernel/locking/cpu_cell.rs",
        right: "while seen & HELD == 0 {",
        wrong: "while seen & HELD == 0 || seen == HELD {",
    },
    // Rests although there is word.
    Mistake {
        name: "rests_over_a_kick",
        file: "host/idle/words.rs",
        right: "while seen & KICKED == 0 {",
        wrong: "while seen & KICKED == 0 || seen >= AWAKE {",
    },
    // Sleeps without a last look at its own word.
    Mistake {
        name: "lies_down_woken",
        file: "host/idle/words.rs",
        right: "self.0.compare_exchange(RUNNING, asleep, Ordering::SeqCst, Ordering::SeqCst).is_ok()",
        wrong: "{ self.0.store(asleep, Ordering::SeqCst); true }",
    },
    // The leader goes, and leaves the word it was the last to see to nobody.
    Mistake {
        name: "goes_over_a_kick",
        file: "host/idle/lead.rs",
        right: "if word_left || idle.comes_late(self.next) {",
        wrong: "let _ = word_left; if idle.comes_late(self.next) {",
    },
    // ksoftirqd keeps to itself what woke it and was meant for the leader.
    Mistake {
        name: "passes_nothing_on",
        file: "host/ksoftirqd.rs",
        right: "if events.woken() && self.idle.lead.led() {",
        wrong: "if events.woken() && self.idle.lead.led() && false {",
    },
    // The leader goes and does not tell ksoftirqd, which waits for that.
    Mistake {
        name: "goes_in_silence",
        file: "host/idle/lead.rs",
        right: "if self.leads && idle.lead.unlead() {",
        wrong: "if self.leads && idle.lead.unlead() && false {",
    },
    // The leader goes, and leaves the arming to nobody.
    Mistake {
        name: "goes_unarmed",
        file: "host/idle.rs",
        right: "if self.watch.on.load(Ordering::SeqCst) && self.followers.load(Ordering::SeqCst) == 0 {",
        wrong: "if true {",
    },
    // Watches for ever, with the interrupts off.
    Mistake {
        name: "watches_for_ever",
        file: "host/ksoftirqd.rs",
        right: "if idle.leads().wrapping_sub(before) >= THICK {",
        wrong: "if idle.leads().wrapping_sub(before) < THICK {",
    },
    // Looks for requests before it rests: one that comes in between is nobody's.
    Mistake {
        name: "arms_too_early",
        file: "host/idle.rs",
        right: "self.word.all_rest() && self.to_arm.fetch_and(!bit, Ordering::SeqCst) & bit != 0",
        wrong: "false && bit != 0",
    },
    // Tells nobody that the queue is no longer empty.
    Mistake {
        name: "pushes_in_silence",
        file: "kernel/remote_queue.rs",
        right: "first: first && room != 0",
        wrong: "first: first && room > 1",
    },
    // What was taken counts as ended.
    Mistake {
        name: "ends_too_early",
        file: "kernel/remote_queue.rs",
        right: "std::mem::swap(&mut waiting.items, into);",
        wrong: "std::mem::swap(&mut waiting.items, into); self.ended.store(waiting.pushed, Ordering::Release);",
    },
    // Gives the right to poll up although somebody asked for one more.
    Mistake {
        name: "misses",
        file: "net/core/dev/napi/state.rs",
        right: "let missed = if state & SCHED != 0 { MISSED } else { 0 };",
        wrong: "let missed = if state & SCHED != 0 { 0 } else { 0 };",
    },
    // Two poll.
    Mistake {
        name: "polls_twice",
        file: "net/core/dev/napi/state.rs",
        right: "Ok(_) => return missed == 0,",
        wrong: "Ok(_) => return true,",
    },
    // Has it for himself although somebody still polls.
    Mistake {
        name: "takes_while_polled",
        file: "net/core/dev/napi/state.rs",
        right: "self.0.fetch_or(SCHED, Ordering::AcqRel) & SCHED == 0",
        wrong: "self.0.fetch_or(SCHED, Ordering::AcqRel) & SCHED < 2",
    },
    // The socket is free while its backlog is still worked off.
    Mistake {
        name: "releases_early",
        file: "net/core/sock/owner.rs",
        right: "if self.backlog.is_empty() {",
        wrong: "self.owned = false; if self.backlog.is_empty() {",
    },
    // The account is looked at and changed in two steps.
    Mistake {
        name: "charges_in_two_steps",
        file: "net/core/skbuff/depot.rs",
        right: "self.try_charge(bytes) || (",
        wrong: "(self.used() + bytes <= self.cap && { self.used.fetch_add(bytes, Ordering::Relaxed); true }) || (",
    },
    // Woken for what nobody waits for any more, it forgets the others.
    Mistake {
        name: "wakes_nobody",
        file: "kernel/sched/wait.rs",
        right: "if waiter.events & events == 0 {",
        wrong: "if waiter.events & events != 0 {",
    },
];

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../..");
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    for (file, _) in FILES {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let mut modules = variant(&root, &out, "good", None);
    for mistake in MISTAKES {
        modules += &variant(&root, &out, mistake.name, Some(mistake));
    }
    fs::write(out.join("variants.rs"), modules).expect("the folder is cargo's for us");
}

/// Writes one variant's files; the module that declares them.
fn variant(root: &Path, out: &Path, name: &str, mistake: Option<&Mistake>) -> String {
    let folder = out.join(name);
    fs::create_dir_all(&folder).expect("the folder is cargo's for us");
    for (file, module) in FILES {
        let mut text = fs::read_to_string(root.join(file)).expect("a file of the stack");
        if let Some(mistake) = mistake.filter(|mistake| mistake.file == *file) {
            let found = text.matches(mistake.right).count();
            assert_eq!(found, 1, "{name}: {file} has {found} times: {}", mistake.right);
            text = text.replace(mistake.right, mistake.wrong);
        }
        fs::write(folder.join(module), rewritten(&text, name))
            .expect("the folder is cargo's for us");
    }
    let path = |module: &str| folder.join(module).display().to_string();
    format!(
        "#[doc = \"The stack's files as they are, or with the mistake of this name.\"]\n\
         pub mod {name} {{\n\
         pub mod kernel {{ pub mod locking {{\n\
             pub use crate::shims::{{SpinLock, atomic, lockdep}};\n\
             #[path = \"{}\"] pub mod cpu_cell;\n\
         }} }}\n\
         pub mod rustix {{ pub use crate::shims::rustix::*; }}\n\
         pub mod clock {{ pub use crate::shims::clock::*; }}\n\
         pub mod wait {{ pub use crate::shims::wait::*; }}\n\
         #[path = \"{}\"] pub mod wait_queue;\n\
         #[path = \"{}\"] pub(crate) mod idle;\n\
         #[path = \"{}\"] pub(crate) mod ksoftirqd;\n\
         #[path = \"{}\"] pub mod park;\n\
         #[path = \"{}\"] pub(crate) mod world;\n\
         #[path = \"{}\"] pub mod models;\n\
         #[path = \"{}\"] pub mod remote_queue;\n\
         #[path = \"{}\"] mod napi_state;\n\
         #[path = \"{}\"] mod owner;\n\
         #[path = \"{}\"] mod depot;\n\
         mod pool {{ pub(super) use super::world::{{BATCH, HANDLE_SIZE, SIZES}}; }}\n\
         use world::{{PAGE_FRAG_SIZE, Page, SkBuff}};\n\
         }}\n",
        path("cpu_cell.rs"),
        path("wait_queue.rs"),
        path("idle.rs"),
        path("ksoftirqd.rs"),
        path("park.rs"),
        path("world.rs"),
        path("models.rs"),
        path("remote_queue.rs"),
        path("napi_state.rs"),
        path("owner.rs"),
        path("depot.rs"),
    )
}

/// The text with the paths it has inside a module of that name, and without its unit tests.
fn rewritten(text: &str, name: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod tests") {
        Some(at) => &text[..at],
        None => text,
    };
    text.replace("use crate::kernel::sched", &format!("use crate::{name}::world::sched"))
        .replace("crate::", &format!("crate::{name}::"))
        .replace("use super::atomic::", "use crate::shims::atomic::")
        .replace("use stack::kernel::locking::", &format!("use crate::{name}::kernel::locking::"))
        .replace("use stack::kernel::cpu::", &format!("use crate::{name}::world::"))
        .replace("use stack::kernel::machine::", &format!("use crate::{name}::world::"))
        .replace("use rustix::", &format!("use crate::{name}::rustix::"))
        .replace("use std::sync::atomic::", "use crate::shims::atomic::")
        .replace("use loom_shims::", "use crate::shims::")
}
