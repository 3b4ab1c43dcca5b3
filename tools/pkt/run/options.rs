//! Options: what a script, or whoever runs it, says about its network and its rules.

use crate::backend::Config;
use crate::parse::script::Script;
use crate::parse::{ParseError, Pos};
use std::net::Ipv4Addr;
use std::str::FromStr;

type Set = Result<(), String>;

/// The options that there are, for messages.
const KNOWN: &str = "ip_version, local_ip, remote_ip, gateway_ip, netmask_ip, mtu, bind_port, \
     connect_port, tolerance_usecs, tolerance_percent, strict_segments, offloads, \
     tcp_ts_tick_usecs, \
     tcp_ts_ecr_scaled, allow_extra";

/// Applies options given from outside, then the script's own.
///
/// # Errors
/// The option that is unknown, or its value, with its place in the script (from outside: line 0).
pub fn configure(
    given: &[(String, Option<String>)],
    script: &Script,
) -> Result<Config, ParseError> {
    let mut config = Config::default();
    let outside = given.iter().map(|(name, value)| (name, value, Pos::default()));
    let own = script.options.iter().map(|(name, value, pos)| (name, value, *pos));
    for (name, value, pos) in outside.chain(own) {
        set(&mut config, name, value.as_deref()).map_err(|what| ParseError { pos, what })?;
    }
    Ok(config)
}

fn number<T: FromStr>(name: &str, value: Option<&str>) -> Result<T, String> {
    let text = value.ok_or_else(|| format!("--{name} wants a value: --{name}=…"))?;
    text.parse().map_err(|_| format!("--{name}={text}: no value that it can have"))
}

fn set(config: &mut Config, name: &str, value: Option<&str>) -> Set {
    match name {
        "ip_version" => match value {
            Some("ipv4") => {}
            _ => {
                return Err(format!(
                    "--ip_version={}: only ipv4 is supported",
                    value.unwrap_or_default()
                ));
            }
        },
        "local_ip" => config.local = number(name, value)?,
        "remote_ip" => config.remote = number(name, value)?,
        "gateway_ip" => config.gateway = number(name, value)?,
        "netmask_ip" => {
            let mask: Ipv4Addr = number(name, value)?;
            let bits = u32::from(mask);
            if bits.leading_ones() + bits.trailing_zeros() != 32 && bits != 0 {
                return Err(format!("--netmask_ip={mask} is no mask"));
            }
            config.prefix = bits.leading_ones() as u8;
        }
        "mtu" => {
            config.mtu = number(name, value)?;
            if !(68..=65_535).contains(&config.mtu) {
                return Err(format!("--mtu={}: from 68 to 65535", config.mtu));
            }
        }
        "bind_port" => config.bind_port = number(name, value)?,
        "connect_port" => config.connect_port = number(name, value)?,
        "tolerance_usecs" => config.tolerance = number::<u32>(name, value)?.into(),
        "tolerance_percent" => {
            let percent: f64 = number(name, value)?;
            if !(0.0..=100.0).contains(&percent) {
                return Err(format!("--tolerance_percent={percent}: from 0 to 100"));
            }
            config.tolerance_percent = percent;
        }
        "strict_segments" => config.strict_segments = true,
        "offloads" => {
            config.offloads = match value {
                Some("on") => Some(true),
                Some("off") => Some(false),
                _ => return Err("--offloads wants on or off".to_owned()),
            };
        }
        "tcp_ts_tick_usecs" => config.ts_tick = number::<u32>(name, value)?.into(),
        "tcp_ts_ecr_scaled" => config.ts_ecr_scaled = true,
        "allow_extra" => {
            let reason = value.map(|text| text.trim_matches('"').trim()).unwrap_or_default();
            if reason.is_empty() {
                return Err("--allow_extra wants a reason: --allow_extra=\"…\"".to_owned());
            }
            config.allow_extra = Some(reason.to_owned());
        }
        _ => return Err(format!("--{name} is no option that is known: {KNOWN} are")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn config(options: &str) -> Result<Config, String> {
        let script = parse(&format!("{options}\n0 close(3) = 0")).unwrap();
        configure(&[], &script).map_err(|error| error.what)
    }

    #[test]
    fn options_are_applied_in_order() {
        let given = [("tolerance_usecs".to_owned(), Some("14000".to_owned()))];
        let script = parse("--mtu=1400\n--netmask_ip=255.255.255.0\n0 close(3) = 0").unwrap();
        let config = configure(&given, &script).unwrap();
        assert_eq!((config.mtu, config.prefix, config.tolerance), (1400, 24, 14_000));
    }

    #[test]
    fn what_is_unknown_or_wrong_is_named() {
        for (options, names) in [
            ("--foo=1", "--foo"),
            ("--mtu=1", "68"),
            ("--mtu", "wants a value"),
            ("--mtu=x", "--mtu=x"),
            ("--ip_version=ipv6", "ipv4"),
            ("--netmask_ip=255.0.255.0", "no mask"),
            ("--allow_extra", "reason"),
            ("--tolerance_percent=101", "100"),
        ] {
            let error = config(options).unwrap_err();
            assert!(error.contains(names), "{options}: {error}");
        }
    }
}
