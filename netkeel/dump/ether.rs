//! Frames of Ethernet, and ARP's.

use super::{Octets, Printer};
use std::fmt::Write;
use uapi::if_ether::{ETH_HLEN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ETH_P_RARP};

/// A link address, written with colons.
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Printer {
    pub(super) fn ether(&mut self, out: &mut String, bytes: &[u8], len: usize) {
        let frame = Octets(bytes);
        let (Some(to), Some(from), Some(kind)) = (frame.array(0), frame.array(6), frame.u16(12))
        else {
            out.push_str(" [|ether]");
            return;
        };
        let known = match kind {
            ETH_P_IP => Some("IPv4"),
            ETH_P_IPV6 => Some("IPv6"),
            ETH_P_ARP => Some("ARP"),
            ETH_P_RARP => Some("Reverse ARP"),
            _ => None,
        };
        let body = frame.from(ETH_HLEN);
        let body_len = len - ETH_HLEN.min(len);
        if self.style.link || known.is_none() {
            let name = known.unwrap_or("Unknown");
            let _ = write!(
                out,
                "{} > {}, ethertype {name} (0x{kind:04x}), length {len}: ",
                Mac(from),
                Mac(to)
            );
        }
        match kind {
            ETH_P_IP => {
                if !self.style.link {
                    out.push_str("IP ");
                }
                self.ip(out, body, body_len);
            }
            ETH_P_IPV6 => {
                if !self.style.link {
                    out.push_str("IP6 ");
                }
                self.ip6(out, body, body_len);
            }
            ETH_P_ARP | ETH_P_RARP => {
                if !self.style.link {
                    out.push_str(if kind == ETH_P_ARP { "ARP, " } else { "Reverse " });
                }
                if arp(out, body, body_len).is_none() {
                    out.push_str("[|arp]");
                }
            }
            _ => hex(out, body),
        }
    }
}

/// Octets of a protocol that is not known, sixteen a line.
fn hex(out: &mut String, body: Octets<'_>) {
    for (at, line) in body.0.chunks(16).enumerate() {
        let _ = write!(out, "\n\t0x{:04x}: ", at * 16);
        for pair in line.chunks(2) {
            out.push(' ');
            pair.iter().for_each(|octet| {
                let _ = write!(out, "{octet:02x}");
            });
        }
        let text = line.iter().map(|octet| match octet {
            b'!'..=b'~' => char::from(*octet),
            _ => '.',
        });
        let columns = 40 - line.chunks(2).map(|pair| 1 + 2 * pair.len()).sum::<usize>();
        let _ = write!(out, "{:columns$}  {}", "", text.collect::<String>());
    }
}

/// None: its end is cut off.
fn arp(out: &mut String, arp: Octets<'_>, len: usize) -> Option<()> {
    let op = arp.u16(6)?;
    let (sender, target): (_, [u8; 6]) = (arp.array(8)?, arp.array(18)?);
    let (from, to) = (arp.ip(14)?, arp.ip(24)?);
    let _ = match op {
        1 if target != [0; 6] => write!(out, "Request who-has {to} ({}) tell {from}", Mac(target)),
        1 => write!(out, "Request who-has {to} tell {from}"),
        2 => write!(out, "Reply {from} is-at {}", Mac(sender)),
        3 => write!(out, "Request who-is {} tell {}", Mac(target), Mac(sender)),
        4 => write!(out, "Reply {} at {to}", Mac(target)),
        op => write!(out, "Unknown ({op})"),
    };
    let _ = write!(out, ", length {len}");
    Some(())
}
