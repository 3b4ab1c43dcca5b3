//! What commands of scripts mean on the stack: settings are set on the machine, what belongs to a
//! host around it is nothing, everything else is an error.

use ::stack::kernel::context::TaskCx;
use ::stack::net::core::sysctl::names::sysctl_write;
use ::stack::net::ipv4::tcp::tcp4_seq_show;
use ::stack::net::sched::tc_modify_qdisc;
use uapi::errno::Errno;

/// What `defaults.sh` of any folder means: the settings of our own, whose lines say where Linux begins
/// with the value; a machine without such a setting is as it should be.
const DEFAULTS: &str = include_str!("../scripts/defaults.sh");
const SAME: &str = "# as Linux begins";

/// Programs that arrange the host around a machine, or look at it.
const NOTHING: &[&str] = &["ip", "nstat", "ethtool", "true", "sleep", "sync"];

/// Runs the lines of a command.
pub(super) fn run(cx: &mut TaskCx, command: &str) -> Result<(), String> {
    let joined = command.replace("\\\n", " ");
    for line in joined.split(['\n', ';']).flat_map(|line| line.split("&&")) {
        let words = words(line)?;
        if let Some((program, args)) = words.split_first() {
            one(cx, program, args)?;
        }
    }
    Ok(())
}

/// The words of a line; quotes are taken off, output that goes elsewhere too.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let (mut word, mut quote, mut any) = (String::new(), None, false);
    for c in line.trim().chars() {
        match (quote, c) {
            (None, '#') if word.is_empty() => break,
            (None, '"' | '\'') => (quote, any) = (Some(c), true),
            (Some(open), c) if open == c => quote = None,
            (None, c) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (_, c) => word.push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("`{line}`: a quote is not closed"));
    }
    if any || !word.is_empty() {
        all.push(word);
    }
    if let Some(at) = all.iter().position(|word| word.contains('>')) {
        all.truncate(at);
    }
    Ok(all)
}

fn one(cx: &mut TaskCx, program: &str, args: &[String]) -> Result<(), String> {
    let name = program.rsplit('/').next().unwrap_or(program);
    match name {
        "sysctl" => sysctl(cx, args),
        "defaults.sh" => defaults(cx),
        "set_sysctls.py" => args.iter().try_for_each(|arg| {
            let (path, value) = arg.split_once('=').ok_or_else(|| no_setting(arg))?;
            let name = path.strip_prefix("/proc/sys/").ok_or_else(|| no_setting(arg))?;
            set(cx, name, value)
        }),
        "tc" => tc(cx, args),
        "grep" => grep(cx, args),
        // A machine's settings go with it.
        _ if program.starts_with("/tmp/sysctl_restore_") => Ok(()),
        _ if NOTHING.contains(&name) => Ok(()),
        _ => Err(format!(
            "the command `{program}` means nothing to the stack: sysctl, tc, grep, defaults.sh and \
             set_sysctls.py do, {} are passed by; run the script with --backend kernel",
            NOTHING.join(", ")
        )),
    }
}

/// `tc qdisc replace dev DEV root NAME OPTIONS`: the machine has one device, whatever its name. Anything else of the host's
/// queues is nothing to it.
fn tc(cx: &mut TaskCx, args: &[String]) -> Result<(), String> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ["qdisc", "replace" | "add" | "change", "dev", _, "root", words @ ..] = args.as_slice()
    else {
        return Ok(());
    };
    let t = cx.machine().tables();
    for dev in t.net.devs.iter().flatten().filter(|dev| dev.tx_queue_len != 0) {
        tc_modify_qdisc(cx, dev, &words.join(" ")).map_err(|error| format!("tc: {error}"))?;
    }
    Ok(())
}

/// `grep TEXT FILE… | grep TEXT …` on what the machine shows of its streams: a line must be left. A text is taken as it
/// stands.
fn grep(cx: &TaskCx, args: &[String]) -> Result<(), String> {
    let mut steps = args.split(|arg| arg == "|");
    let first = steps.next().unwrap_or(&[]);
    let Some((text, files)) = first.split_first() else {
        return Err("grep: write grep TEXT FILE".to_owned());
    };
    let mut shown = String::new();
    for file in files {
        match file.as_str() {
            "/proc/net/tcp" => shown += &tcp4_seq_show(cx.machine()),
            // There is no IPv6.
            "/proc/net/tcp6" => {}
            other => return Err(format!("grep: the stack shows /proc/net/tcp, not {other}")),
        }
    }
    let mut texts = vec![text.as_str()];
    for step in steps {
        let [program, text] = step else { return Err("grep: write | grep TEXT".to_owned()) };
        if program != "grep" {
            return Err(format!("grep: into {program}: only grep can follow"));
        }
        texts.push(text);
    }
    if shown.lines().any(|line| texts.iter().all(|text| line.contains(text))) {
        return Ok(());
    }
    Err(format!("grep: no line has {texts:?}:\n{shown}"))
}

fn no_setting(arg: &str) -> String {
    format!("`{arg}` is no setting: write NAME=VALUE")
}

fn sysctl(cx: &mut TaskCx, args: &[String]) -> Result<(), String> {
    let mut lenient = false;
    for arg in args {
        match arg.as_str() {
            "-e" => lenient = true,
            "-q" | "-w" | "-qw" | "-wq" => {}
            flag if flag.starts_with('-') => {
                return Err(format!("sysctl {flag}: -q, -w and -e are known"));
            }
            _ => {
                let (name, value) = arg.split_once('=').ok_or_else(|| no_setting(arg))?;
                match write(cx, name, value) {
                    Err(Errno::ENOENT) if lenient => {}
                    done => done.map_err(|errno| refused(name, value, errno))?,
                }
            }
        }
    }
    Ok(())
}

fn defaults(cx: &mut TaskCx) -> Result<(), String> {
    for line in DEFAULTS.lines().filter(|line| line.starts_with("sysctl ")) {
        let words = words(line)?;
        let setting = words.last().and_then(|word| word.split_once('='));
        let (name, value) = setting.ok_or_else(|| no_setting(line))?;
        match write(cx, name, value) {
            Err(Errno::ENOENT) if line.ends_with(SAME) => {}
            done => done.map_err(|errno| refused(name, value, errno))?,
        }
    }
    Ok(())
}

fn set(cx: &mut TaskCx, name: &str, value: &str) -> Result<(), String> {
    write(cx, name, value).map_err(|errno| refused(name, value, errno))
}

fn write(cx: &mut TaskCx, name: &str, value: &str) -> Result<(), Errno> {
    sysctl_write(cx, &name.replace('/', "."), value)
}

fn refused(name: &str, value: &str, errno: Errno) -> String {
    match errno {
        Errno::ENOENT => format!("sysctl {name}: the stack has no such setting"),
        errno => format!("sysctl {name}={value}: {errno}"),
    }
}
