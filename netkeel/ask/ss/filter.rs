//! Which sockets are shown: `state X`, `sport = :N`, `dport = :N`.

use super::super::usage;
use crate::cli::Failure;
use crate::control::wire::Socket;

/// The states, as they are printed and as they are asked for.
const STATES: [(&str, &str); 11] = [
    ("ESTAB", "established"),
    ("SYN-SENT", "syn-sent"),
    ("SYN-RECV", "syn-recv"),
    ("FIN-WAIT-1", "fin-wait-1"),
    ("FIN-WAIT-2", "fin-wait-2"),
    ("TIME-WAIT", "time-wait"),
    ("UNCONN", "closed"),
    ("CLOSE-WAIT", "close-wait"),
    ("LAST-ACK", "last-ack"),
    ("LISTEN", "listening"),
    ("CLOSING", "closing"),
];

/// Several states under one name.
const GROUPS: [(&str, u16); 5] = [
    ("all", ALL),
    ("connected", ALL & !UNCONNECTED),
    ("synchronized", ALL & !UNCONNECTED & !bit(1)),
    ("bucket", BUCKET),
    ("big", ALL & !BUCKET),
];

const fn bit(state: usize) -> u16 {
    1 << state
}

/// Every state.
pub(super) const ALL: u16 = (1 << STATES.len()) - 1;
/// Those without a connection: what `-l` shows.
pub(super) const UNCONNECTED: u16 = bit(6) | bit(9);
/// Those that have no socket of their own.
const BUCKET: u16 = bit(2) | bit(5);
/// What is shown when nothing is asked for.
pub(super) const CONNECTED: u16 = ALL & !UNCONNECTED & !BUCKET;
/// Those that UDP's sockets can have.
const UDP: u16 = bit(0) | bit(6);

/// What a socket must be, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    states: u16,
    sport: Option<u16>,
    dport: Option<u16>,
}

impl Filter {
    /// Of the words behind the command; `states` where they name none.
    pub(super) fn of(words: &[String], states: u16) -> Result<Self, Failure> {
        let mut filter = Self { states, sport: None, dport: None };
        let mut named = None;
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "state" | "exclude" => {
                    let mask = states_of(words.next(), word)?;
                    let so_far = named.unwrap_or(if word == "state" { 0 } else { ALL });
                    named = Some(if word == "state" { so_far | mask } else { so_far & !mask });
                }
                "sport" | "dport" => {
                    let port = port_of(&mut words, word)?;
                    let place = if word == "sport" { &mut filter.sport } else { &mut filter.dport };
                    if place.replace(port).is_some_and(|before| before != port) {
                        return Err(usage(format!("ss: no socket has two {word}s: write one")));
                    }
                }
                "and" | "(" | ")" => (),
                _ => {
                    return Err(usage(format!(
                        "ss: {word:?} is not understood here: write state established, sport = :7 \
                         or dport = :7"
                    )));
                }
            }
        }
        filter.states = named.unwrap_or(states);
        Ok(filter)
    }

    /// It is to be shown.
    pub(super) fn passes(&self, socket: &Socket) -> bool {
        let state = STATES.iter().position(|(name, _)| *name == socket.state);
        state.is_some_and(|at| self.states & bit(at) != 0)
            && self.sport.is_none_or(|port| port == socket.local_port)
            && self.dport.is_none_or(|port| port == socket.peer_port)
    }

    /// Only one state can be: it need not be said. `tcp`: there may be streams.
    pub(super) fn one_state(&self, tcp: bool) -> bool {
        (self.states & if tcp { ALL } else { UDP }).count_ones() <= 1
    }
}

fn states_of(name: Option<&str>, word: &str) -> Result<u16, Failure> {
    let asked = name.unwrap_or_default().to_ascii_lowercase();
    let one = STATES.iter().position(|(printed, name)| {
        *name == asked || printed.eq_ignore_ascii_case(&asked) || asked.as_str() == short(name)
    });
    let group = GROUPS.iter().find(|(name, _)| *name == asked).map(|(_, mask)| *mask);
    one.map(bit).or(group).ok_or_else(|| {
        let names = STATES.iter().map(|(_, name)| *name);
        let names: Vec<&str> = names.chain(GROUPS.iter().map(|(name, _)| *name)).collect();
        usage(format!("ss: {word} {asked:?} is not known: there are {}", names.join(", ")))
    })
}

/// Other ways to write them.
fn short(name: &str) -> &str {
    match name {
        "closed" => "unconnected",
        "listening" => "listen",
        name => name,
    }
}

fn port_of<'a>(words: &mut impl Iterator<Item = &'a str>, what: &str) -> Result<u16, Failure> {
    let mut word = words.next();
    if matches!(word, Some("=" | "==" | "eq")) {
        word = words.next();
    }
    let port = word.map(|word| word.strip_prefix(':').unwrap_or(word));
    let port = port.and_then(|port| port.parse().ok());
    port.ok_or_else(|| {
        usage(format!("ss: {what} {:?}: write {what} = :7", word.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Result<Filter, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Filter::of(&words, CONNECTED).map_err(|failure| failure.to_string())
    }

    #[test]
    fn words_name_states_and_ports() {
        let of = |states, sport, dport| Ok(Filter { states, sport, dport });
        assert_eq!(filter(""), of(CONNECTED, None, None));
        assert_eq!(filter("state established"), of(bit(0), None, None));
        assert_eq!(filter("state TIME-WAIT state syn-recv"), of(BUCKET, None, None));
        assert_eq!(filter("state bucket"), of(BUCKET, None, None));
        assert_eq!(filter("exclude listening"), of(ALL & !bit(9), None, None));
        assert_eq!(filter("( sport = :7 and dport eq 80 )"), of(CONNECTED, Some(7), Some(80)));
    }

    #[test]
    fn what_is_not_understood_is_named_with_the_way_out() {
        for (words, part) in [
            ("state", "there are established, syn-sent"),
            ("state open", "\"open\" is not known: there are established"),
            ("sport", "write sport = :7"),
            ("dport = :http", "dport \":http\": write dport = :7"),
            ("dport = :70000", "write dport = :7"),
            ("sport = :7 sport = :9", "no socket has two sports"),
            ("dst 192.0.2.1", "\"dst\" is not understood here"),
        ] {
            let error = filter(words).unwrap_err();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
