//! Packets of the language.

use super::lexer::Kind;
use super::script::{
    Body, Dir, IcmpSpec, IpSpec, PacketSpec, Quoted, Sum, TcpOption, TcpSpec, TosSpec, UdpSpec,
    flag,
};
use super::{Parsed, Parser};

/// Types of ICMP messages by name, and the codes of one of them.
const ICMP_TYPES: &[(&str, u8)] = &[
    ("echo_reply", 0),
    ("unreachable", 3),
    ("source_quench", 4),
    ("redirect", 5),
    ("echo_request", 8),
    ("time_exceeded", 11),
    ("parameter_problem", 12),
    ("timestamp_request", 13),
    ("timestamp_reply", 14),
    ("information_request", 15),
    ("information_reply", 16),
    ("address_mask_request", 17),
    ("address_mask_reply", 18),
];

/// Codes of "unreachable", in the order of their numbers.
const UNREACHABLE: &[&str] = &[
    "net_unreachable",
    "host_unreachable",
    "protocol_unreachable",
    "port_unreachable",
    "frag_needed",
    "source_route_failed",
    "net_unknown",
    "host_unknown",
    "source_host_isolated",
    "net_prohibited",
    "host_prohibited",
    "net_unreachable_for_tos",
    "host_unreachable_for_tos",
    "packet_filtered",
    "precedence_violation",
    "precedence_cutoff",
];

/// The name of an ICMP type and code, as scripts write them.
pub(crate) fn icmp_name(kind: u8, code: u8) -> String {
    let name = ICMP_TYPES.iter().find(|(_, number)| *number == kind).map(|(name, _)| *name);
    let kind_name = name.map_or_else(|| format!("type_{kind}"), str::to_owned);
    match (kind, code) {
        (3, code) if usize::from(code) < UNREACHABLE.len() => {
            format!("{kind_name} {}", UNREACHABLE[usize::from(code)])
        }
        (_, 0) => kind_name,
        _ => format!("{kind_name} code_{code}"),
    }
}

/// Letters of flags.
pub(crate) const FLAGS: &[(char, u16)] = &[
    ('F', flag::FIN),
    ('S', flag::SYN),
    ('R', flag::RST),
    ('P', flag::PSH),
    ('.', flag::ACK),
    ('U', flag::URG),
    ('E', flag::ECE),
    ('W', flag::CWR),
    ('A', flag::AE),
];

impl Parser {
    /// A packet, from its direction on.
    pub(super) fn packet(&mut self, dir: Dir) -> Parsed<PacketSpec> {
        self.pass();
        // What an ICMP message quotes may stand before it.
        let mut quoted = None;
        if self.is_sign('[') && matches!(self.ahead(2), Kind::Sign(':' | '(')) {
            quoted = Some(self.quoted()?);
        }
        let ip = self.ip_spec(dir)?;
        if self.is_word("ipv4")
            || self.is_word("ipv6")
            || self.is_word("gre")
            || self.is_word("mpls")
        {
            return self.error(format!(
                "{}: tunnels are not supported; packets here have one IPv4 header",
                self.kind().show()
            ));
        }
        let mut ports = self.ports()?;
        if self.take_word("udp") {
            if ports.is_none() {
                ports = self.ports()?;
            }
            let body = Body::Udp(self.udp(dir)?);
            return Ok(PacketSpec { dir, ip, ports, body });
        }
        if self.take_word("icmp") {
            let body = Body::Icmp(self.icmp(dir, quoted)?);
            return Ok(PacketSpec { dir, ip, ports: None, body });
        }
        if quoted.is_some() {
            return self.expected("`icmp`: only it quotes a packet");
        }
        let body = Body::Tcp(self.tcp(dir)?);
        Ok(PacketSpec { dir, ip, ports, body })
    }

    /// `[ect0]`, `(tos 0x10)`, `[ttl 3]`, several with commas.
    fn ip_spec(&mut self, dir: Dir) -> Parsed<IpSpec> {
        let mut spec = IpSpec::default();
        let close = match self.kind() {
            Kind::Sign('[') => ']',
            Kind::Sign('(') => ')',
            _ => return Ok(spec),
        };
        self.pass();
        loop {
            let word = self.word("tos, ttl, noecn, ect0, ect1, ce or ect01")?;
            match word.as_str() {
                "noecn" => spec.tos = TosSpec::Ecn(0),
                "ect1" => spec.tos = TosSpec::Ecn(1),
                "ect0" => spec.tos = TosSpec::Ecn(2),
                "ce" => spec.tos = TosSpec::Ecn(3),
                "ect01" if dir == Dir::In => {
                    return self
                        .error("[ect01] is for packets that go out: which one is to be sent?");
                }
                "ect01" => spec.tos = TosSpec::Ect01,
                "tos" => spec.tos = TosSpec::Tos(self.number("tos")?),
                "ttl" => spec.ttl = Some(self.number("ttl")?),
                other => {
                    return self.error(format!(
                        "`{other}` is nothing of an IPv4 header: \
                         tos, ttl, noecn, ect0, ect1, ce, ect01 are"
                    ));
                }
            }
            if !self.take_sign(',') {
                break;
            }
        }
        self.sign(close)?;
        Ok(spec)
    }

    /// `1024 > 8080`
    fn ports(&mut self) -> Parsed<Option<(u16, u16)>> {
        if !matches!(self.kind(), Kind::Int { .. }) || *self.ahead(1) != Kind::Sign('>') {
            return Ok(None);
        }
        let source = self.number("a port")?;
        self.sign('>')?;
        Ok(Some((source, self.number("a port")?)))
    }

    fn sum(&mut self, dir: Dir, may_be_none: bool) -> Parsed<Sum> {
        let sum = match self.kind() {
            Kind::Word(word) if word == "badsum" => Sum::Bad,
            Kind::Word(word) if word == "nosum" && may_be_none => Sum::None,
            _ => return Ok(Sum::Good),
        };
        if dir == Dir::Out && sum == Sum::Bad {
            return self.error("badsum is for packets that come in: what goes out must be right");
        }
        self.pass();
        Ok(sum)
    }

    fn udp(&mut self, dir: Dir) -> Parsed<UdpSpec> {
        self.sign('(')?;
        let len = self.number("the length of a datagram")?;
        self.sign(')')?;
        if len > 65_507 {
            return self.error(format!("{len} bytes: a datagram has at most 65507"));
        }
        Ok(UdpSpec { len, sum: self.sum(dir, true)? })
    }

    fn icmp(&mut self, dir: Dir, mut quoted: Option<Quoted>) -> Parsed<IcmpSpec> {
        let kind = self.icmp_type()?;
        let mut spec = IcmpSpec {
            kind,
            code: self.icmp_code(kind)?,
            mtu: None,
            id: 0,
            seq: 0,
            len: 0,
            quoted: Quoted::None,
            sum: Sum::Good,
        };
        loop {
            if self.take_word("mtu") {
                if (spec.kind, spec.code) != (3, 4) {
                    return self.error("mtu is only of `unreachable frag_needed`");
                }
                spec.mtu = Some(self.number("the MTU")?);
            } else if self.take_word("id") {
                spec.id = self.number("the identifier")?;
            } else if self.take_word("seq") {
                spec.seq = self.number("the sequence number")?;
            } else if self.take_sign('(') {
                spec.len = self.number("the length")?;
                self.sign(')')?;
            } else {
                break;
            }
        }
        if quoted.is_none() && self.is_sign('[') {
            quoted = Some(self.quoted()?);
        }
        spec.quoted = quoted.unwrap_or(Quoted::None);
        spec.sum = self.sum(dir, false)?;
        Ok(spec)
    }

    fn icmp_type(&mut self) -> Parsed<u8> {
        let word = self.word("the type of an ICMP message")?;
        let named = ICMP_TYPES.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind);
        let numbered = word.strip_prefix("type_").and_then(|number| number.parse().ok());
        match named.or(numbered) {
            Some(kind) => Ok(kind),
            None => {
                self.at -= 1;
                let names: Vec<&str> = ICMP_TYPES.iter().map(|(name, _)| *name).collect();
                self.error(format!("`{word}` is no type of ICMP: {}, type_N are", names.join(", ")))
            }
        }
    }

    fn icmp_code(&mut self, kind: u8) -> Parsed<u8> {
        let Kind::Word(word) = self.kind().clone() else { return Ok(0) };
        if ["mtu", "id", "seq", "badsum"].contains(&word.as_str()) {
            return Ok(0);
        }
        let named = UNREACHABLE.iter().position(|name| *name == word).filter(|_| kind == 3);
        let numbered = word.strip_prefix("code_").and_then(|number| number.parse().ok());
        match named.map(|code| code as u8).or(numbered) {
            Some(code) => {
                self.pass();
                Ok(code)
            }
            None => self.error(format!(
                "`{word}` is no code of this type: of `unreachable` {} are, of any code_N",
                UNREACHABLE.join(", ")
            )),
        }
    }

    /// `[1:1461(1460)]` or `[udp (1000)]`
    fn quoted(&mut self) -> Parsed<Quoted> {
        self.sign('[')?;
        let quoted = if self.take_word("udp") {
            self.sign('(')?;
            let len = self.number("the length of the datagram")?;
            self.sign(')')?;
            Quoted::Udp(len)
        } else {
            let (seq, len) = self.seq()?;
            Quoted::Tcp(seq, len)
        };
        self.sign(']')?;
        Ok(quoted)
    }

    /// `1:1001(1000)`
    fn seq(&mut self) -> Parsed<(u32, u32)> {
        let seq: u32 = self.number("the first sequence number")?;
        self.sign(':')?;
        let end: u32 = self.number("the sequence number behind the last")?;
        self.sign('(')?;
        let len: u16 = self.number("the length of the data")?;
        if seq.wrapping_add(len.into()) != end {
            return self
                .error(format!("{seq}:{end}({len}): from {seq} to {end} is another length"));
        }
        self.sign(')')?;
        Ok((seq, len.into()))
    }

    fn flags(&mut self) -> Parsed<u16> {
        if self.take_sign('-') {
            return Ok(0);
        }
        let mut bits = 0;
        if let Kind::Word(letters) = self.kind().clone() {
            for letter in letters.chars() {
                let Some((_, bit)) = FLAGS.iter().find(|(known, _)| *known == letter) else {
                    return self.error(format!(
                        "`{letter}` of `{letters}` is no TCP flag: F S R P . U E W A are, - is none"
                    ));
                };
                bits |= bit;
            }
            self.pass();
        } else if matches!(self.kind(), Kind::Float(_)) {
            return self.error("the ACE count of accurate ECN is not supported: write flags");
        } else if !self.is_sign('.') {
            return self.expected("TCP flags, such as S or P.");
        }
        if self.take_sign('.') {
            bits |= flag::ACK;
        }
        Ok(bits)
    }

    fn tcp(&mut self, dir: Dir) -> Parsed<TcpSpec> {
        let mut flags = self.flags()?;
        let (seq, len) = self.seq()?;
        let ack = if self.take_word("ack") { self.number("the acknowledgement")? } else { 0 };
        let win = if self.take_word("win") { Some(self.number("the window")?) } else { None };
        let mut urg = 0;
        if self.take_word("urg") {
            flags |= flag::URG;
            urg = self.number("the urgent pointer")?;
        }
        let options = self.tcp_options(dir)?;
        let sum = self.sum(dir, false)?;
        if self.is_sign('{') {
            return self.error("mutations in { } are not supported");
        }
        Ok(TcpSpec { flags, seq, len, ack, win, urg, options, sum })
    }

    fn tcp_options(&mut self, dir: Dir) -> Parsed<Option<Vec<TcpOption>>> {
        let mut options = Vec::new();
        // `<` may also begin the next event only behind its time.
        if !self.take_sign('<') {
            return Ok(Some(options));
        }
        if *self.kind() == Kind::Ellipsis {
            if dir == Dir::In {
                return self
                    .error("<...> is for packets that go out: which options are to be sent?");
            }
            self.pass();
            self.sign('>')?;
            return Ok(None);
        }
        loop {
            options.push(self.tcp_option()?);
            if !self.take_sign(',') {
                break;
            }
        }
        if crate::wire::option_bytes(&options).len() > 40 {
            return self.error("the options are longer than the 40 bytes there is room for");
        }
        self.sign('>')?;
        Ok(Some(options))
    }

    fn tcp_option(&mut self) -> Parsed<TcpOption> {
        let name = self.word("a TCP option")?;
        Ok(match name.as_str() {
            "nop" => TcpOption::Nop,
            "eol" => TcpOption::Eol,
            "mss" => TcpOption::Mss(self.number("mss")?),
            "wscale" => TcpOption::Wscale(self.number("wscale")?),
            "sackOK" => TcpOption::SackOk,
            "sack" => self.sack()?,
            "TS" => {
                if !self.take_word("val") {
                    return self.expected("`val`");
                }
                let val = self.number("the timestamp")?;
                if !self.take_word("ecr") {
                    return self.expected("`ecr`");
                }
                TcpOption::Ts(val, self.number("the echo")?)
            }
            "FO" => TcpOption::FastOpen(self.hex(38)?),
            "FOEXP" => TcpOption::FastOpenExp(self.hex(36)?),
            "md5" => TcpOption::Md5(self.hex(16)?),
            "unknown" => {
                let kind = self.number("the option's kind")?;
                TcpOption::Other(kind, self.hex(38)?)
            }
            other => {
                self.at -= 1;
                return self.error(format!(
                    "`{other}` is no TCP option: nop, eol, mss, wscale, sackOK, sack, TS, FO, FOEXP, \
                     md5, unknown are"
                ));
            }
        })
    }

    fn sack(&mut self) -> Parsed<TcpOption> {
        let mut blocks = Vec::new();
        while matches!(self.kind(), Kind::Int { .. }) {
            let left = self.number("the left edge of a SACK block")?;
            self.sign(':')?;
            blocks.push((left, self.number("the right edge of a SACK block")?));
        }
        if blocks.is_empty() {
            return self.expected("a SACK block, such as 1001:2001");
        }
        Ok(TcpOption::Sack(blocks))
    }

    /// Bytes in hexadecimal digits, at most so many; perhaps none.
    fn hex(&mut self, most: usize) -> Parsed<Vec<u8>> {
        let digits = match self.kind().clone() {
            Kind::Word(text) | Kind::Int { text, .. } => text,
            _ => return Ok(Vec::new()),
        };
        let digits = digits.as_bytes();
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        };
        match digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>() {
            Some(bytes) if bytes.len() <= most => {
                self.pass();
                Ok(bytes)
            }
            Some(bytes) => self.error(format!("{} bytes: at most {most} fit", bytes.len())),
            None => self.expected("bytes in hexadecimal, two digits each"),
        }
    }
}
