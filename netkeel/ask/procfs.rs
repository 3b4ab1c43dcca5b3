//! The files of statistics as JSON: ours and a kernel's by the same rules.
//!
//! Names of columns are those of the files, in lower case where a file has headings and not names.

use serde_json::{Map, Value, json};

/// What the text of a file says; `null` for a file that is not known.
#[must_use]
pub fn parse(file: &str, text: &str) -> Value {
    match file {
        "snmp" | "netstat" => pairs_of_lines(text),
        "sockstat" => names_and_values(text),
        "interrupts" => interrupts(text),
        "softirqs" => softirqs(text),
        "dev" => dev(text),
        "softnet_stat" => softnet_stat(text),
        "arp" => columns(text, &["ip_address", "hw_type", "flags", "hw_address", "mask", "device"]),
        "route" => by_header(text),
        "tcp" => tcp(text),
        "udp" | "raw" | "icmp" => udp(text),
        "packet" => columns(
            text,
            &["sk", "refcnt", "type", "proto", "iface", "running", "rmem", "user", "inode"],
        ),
        "igmp" => igmp(text),
        "mcfilter" => mcfilter(text),
        "tcp_metrics" => tcp_metrics(text),
        "drops" => drops(text),
        _ => Value::Null,
    }
}

fn number(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

/// A server's address, then names and values; of lost SYNs how many, and when the last was.
fn tcp_metrics(text: &str) -> Value {
    let server = |line: &str| {
        let mut words = line.split_whitespace().filter(|word| *word != "ago");
        let mut server = Map::new();
        server.insert("address".to_owned(), words.next().into());
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            let value = match (name, value.split_once('/')) {
                ("fo_syn_drops", Some((count, ago))) => {
                    let ago = ago.trim_end_matches("sec").parse::<f64>().ok();
                    server.insert("fo_syn_drop_seconds_ago".to_owned(), ago.into());
                    number(count)
                }
                // Its octets are no number.
                ("fo_cookie", _) => value.into(),
                _ => number(value),
            };
            server.insert(name.to_owned(), value);
        }
        Value::Object(server)
    };
    text.lines().map(server).collect()
}

/// A line of each device, below it one of each of its groups, which begins with tabs.
fn igmp(text: &str) -> Value {
    let mut devices: Vec<Value> = Vec::new();
    for line in text.lines().skip(1) {
        let words: Vec<&str> =
            line.split([':', '\t', ' ']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            [index, device, count, querier] if !line.starts_with('\t') => {
                devices.push(json!({
                    "index": number(index),
                    "device": device,
                    "count": number(count),
                    "querier": querier,
                    "groups": [],
                }));
            }
            [group, users, running, timer, reporter] => {
                let timer = u64::from_str_radix(timer, 16).unwrap_or(0);
                let group = json!({
                    "group": group,
                    "users": number(users),
                    "timer_running": number(running),
                    "timer": timer,
                    "reporter": number(reporter),
                });
                let groups = devices.last_mut().and_then(|device| device["groups"].as_array_mut());
                groups.into_iter().for_each(|groups| groups.push(group.clone()));
            }
            _ => (),
        }
    }
    devices.into()
}

/// A line of each source that filters name.
fn mcfilter(text: &str) -> Value {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [index, device, group, source, include, exclude] = words[..] else { return None };
        Some(json!({
            "index": number(index),
            "device": device,
            "group": group,
            "source": source,
            "include": number(include),
            "exclude": number(exclude),
        }))
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// A group: a line of names, then a line of values.
fn pairs_of_lines(text: &str) -> Value {
    let mut groups = Map::new();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((group, names)) = names.split_once(':') else { continue };
        let values = values.split_once(':').map_or("", |(_, values)| values);
        let all = names.split_whitespace().zip(values.split_whitespace().map(number));
        groups
            .insert(group.to_owned(), all.map(|(name, value)| (name.to_owned(), value)).collect());
    }
    Value::Object(groups)
}

/// A line: a group, then names and values in turn.
fn names_and_values(text: &str) -> Value {
    let mut groups = Map::new();
    for (group, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let all = words.chunks_exact(2).map(|two| (two[0].to_owned(), number(two[1])));
        groups.insert(group.to_owned(), all.collect());
    }
    Value::Object(groups)
}

fn interrupts(text: &str) -> Value {
    let mut lines = text.lines();
    let cpus = lines.next().map_or(0, |line| line.split_whitespace().count());
    let irq = |line: &str| {
        let (irq, rest) = line.split_once(':')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (counts, what) = words.split_at(cpus.min(words.len()));
        let counts: Vec<Value> = counts.iter().map(|count| number(count)).collect();
        Some(json!({ "irq": irq.trim(), "counts": counts, "what": what.join(" ") }))
    };
    lines.filter_map(irq).collect()
}

fn softirqs(text: &str) -> Value {
    let rows = text.lines().filter_map(|line| line.split_once(':'));
    let counts = |rest: &str| rest.split_whitespace().map(number).collect::<Value>();
    Value::Object(rows.map(|(name, rest)| (name.trim().to_owned(), counts(rest))).collect())
}

/// Under each device, the columns of both ways.
fn dev(text: &str) -> Value {
    let heading = text.lines().nth(1).unwrap_or_default();
    let mut parts = heading.split('|').skip(1);
    let mut names = Vec::new();
    for way in ["rx", "tx"] {
        let columns = parts.next().unwrap_or_default().split_whitespace();
        names.extend(columns.map(|column| format!("{way}_{column}")));
    }
    let rows = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    let row = |rest: &str| {
        let values = rest.split_whitespace().map(number);
        Value::Object(names.iter().cloned().zip(values).collect())
    };
    Value::Object(rows.map(|(name, rest)| (name.trim().to_owned(), row(rest))).collect())
}

/// The columns have no headings; these are the kernel's names for them, "" where there is nothing.
const SOFTNET: [&str; 15] = [
    "processed",
    "dropped",
    "time_squeeze",
    "",
    "",
    "",
    "",
    "",
    "cpu_collision",
    "received_rps",
    "flow_limit_count",
    "backlog_len",
    "cpu",
    "input_qlen",
    "process_qlen",
];

fn softnet_stat(text: &str) -> Value {
    let value = |digits: &str| u64::from_str_radix(digits, 16).map_or(Value::Null, Value::from);
    let row = |line: &str| {
        let all = SOFTNET.iter().zip(line.split_whitespace());
        let named = all.filter(|(name, _)| !name.is_empty());
        Value::Object(named.map(|(name, digits)| ((*name).to_owned(), value(digits))).collect())
    };
    text.lines().map(row).collect()
}

/// Rows of as many words as there are names, below a heading.
fn columns(text: &str, names: &[&str]) -> Value {
    let row = |line: &str| {
        let all = names.iter().zip(line.split_whitespace());
        Value::Object(all.map(|(name, word)| ((*name).to_owned(), word.into())).collect())
    };
    text.lines().skip(1).map(row).collect()
}

/// Rows below a heading of one word a column.
fn by_header(text: &str) -> Value {
    let heading = text.lines().next().unwrap_or_default().to_lowercase();
    let names: Vec<&str> = heading.split_whitespace().collect();
    columns(text, &names)
}

/// The columns that the files of both protocols begin with. A heading names two where there is one.
const SOCKETS: [&str; 12] = [
    "sl",
    "local_address",
    "rem_address",
    "st",
    "tx_rx_queue",
    "tr_tm_when",
    "retrnsmt",
    "uid",
    "timeout",
    "inode",
    "ref",
    "pointer",
];

fn udp(text: &str) -> Value {
    columns(text, &[&SOCKETS[..], &["drops"]].concat())
}

/// The last columns have no headings; these are the kernel's names for them. Who has no socket has none.
fn tcp(text: &str) -> Value {
    columns(
        text,
        &[&SOCKETS[..], &["rto", "ato", "quick_pingpong", "snd_cwnd", "ssthresh"]].concat(),
    )
}

fn drops(text: &str) -> Value {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), number(words.next()?)))
    };
    Value::Object(text.lines().skip(1).filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_under_their_devices() {
        let text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
                    1\tlo        :     1      V3\n\
                    \t\t\t\t010000E0     1 0:00000000\t\t0\n\
                    2\teth0      :     1      V2\n\
                    \t\t\t\t030201EF     3 1:0000001A\t\t1\n";
        let all = |group: &str, users: u32, timer: (u32, u32), reporter: u32| {
            json!([{ "group": group, "users": users, "timer_running": timer.0, "timer": timer.1,
                     "reporter": reporter }])
        };
        let lo = all("010000E0", 1, (0, 0), 0);
        let eth = all("030201EF", 3, (1, 26), 1);
        let expected = json!([
            { "index": 1, "device": "lo", "count": 1, "querier": "V3", "groups": lo },
            { "index": 2, "device": "eth0", "count": 1, "querier": "V2", "groups": eth },
        ]);
        assert_eq!(parse("igmp", text), expected);
        assert_eq!(parse("igmp", "x\n\t\t1 2 3:4 5\n1 2\n"), json!([]));
    }

    #[test]
    fn sources_are_objects() {
        let text = "Idx Device        MCA        SRC    INC    EXC\n  2   eth0 0xef010203 0xcb007105      0      1\n";
        let expected = json!([{ "index": 2, "device": "eth0", "group": "0xef010203", "source": "0xcb007105",
                                "include": 0, "exclude": 1 }]);
        assert_eq!(parse("mcfilter", text), expected);
        assert_eq!(parse("mcfilter", "x\n1 2\n"), json!([]));
    }

    #[test]
    fn metrics_of_servers_are_objects() {
        let text = "192.0.2.1 fo_mss 1460 fo_syn_drops 2/1.250sec ago fo_cookie 0011223344556677 source 192.0.2.2\n\
                    198.51.100.7 fo_mss 1000 source 192.0.2.2\n";
        let expected = json!([
            {
                "address": "192.0.2.1",
                "fo_mss": 1460,
                "fo_syn_drops": 2,
                "fo_syn_drop_seconds_ago": 1.25,
                "fo_cookie": "0011223344556677",
                "source": "192.0.2.2",
            },
            { "address": "198.51.100.7", "fo_mss": 1000, "source": "192.0.2.2" },
        ]);
        assert_eq!(parse("tcp_metrics", text), expected);
        assert_eq!(parse("tcp_metrics", ""), json!([]));
        assert!(parse("tcp_metrics", "fo_syn_drops /x ago fo_mss").is_array(), "whatever it says");
    }
}
