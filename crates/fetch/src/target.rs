//! An http(s) URL taken apart once: what is checked here is what is connected to and sent. Pure; resolves no names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest URL that is asked for, in bytes; also the bound of a redirect's `Location`.
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// Where a request goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Scheme, host and port.
    pub origin: OriginId,
    /// Path and query as they are sent: begins with `/`, dot segments resolved, visible ASCII only.
    pub path: String,
}

/// Scheme, host and port: what connections, caps and breakers are kept by.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OriginId {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: Host,
    /// The port, the scheme's own where none was named.
    pub port: u16,
}

/// The schemes that are fetched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

/// A host: a name to be resolved, or an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Host {
    /// A DNS name in lower case, without a final dot.
    Name(String),
    /// An address, whatever its spelling was.
    Address(IpAddr),
}

/// Why a text is not a URL that we fetch.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// Another scheme, or none.
    #[error("scheme `{0}` is not fetched; use http or https")]
    Scheme(String),
    /// User information in the authority: credentials are never sent.
    #[error("a URL with user information is not fetched")]
    UserInformation,
    /// The host is neither a name nor an address.
    #[error("`{0}` is not a host name or address; write international names in their `xn--` form")]
    Host(String),
    /// The port is not a number from 1 to 65535.
    #[error("`{0}` is not a port")]
    Port(String),
    /// Control characters, or longer than [`URL_BYTES_MAX`].
    #[error("the URL has control characters or is longer than {URL_BYTES_MAX} bytes")]
    Text,
}

impl Scheme {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
    /// Its default port.
    pub const fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl OriginId {
    /// Host and, unless it is the scheme's own, port: the value of `Host`.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Target {
    /// Takes a whole URL apart. A fragment is dropped; `\` never separates anything.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        check_text(url)?;
        let (scheme, rest) = url.split_once("://").ok_or_else(|| TargetError::Scheme(before_colon(url)))?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
            _ if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
            _ => return Err(TargetError::Scheme(scheme.to_owned())),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        Ok(Self { origin: parse_authority(scheme, authority)?, path: normal_path(path) })
    }

    /// Where `location` leads from here (RFC 3986 §5.2); an empty one leads to the same URL.
    pub fn join(&self, location: &str) -> Result<Self, TargetError> {
        check_text(location)?;
        let beyond = location.find([':', '/', '?', '#']).map(|at| (at, location.as_bytes()[at]));
        match beyond {
            Some((_, b':')) => Self::parse(location),
            Some((0, b'/')) if location.starts_with("//") => {
                Self::parse(&format!("{}:{location}", self.origin.scheme.name()))
            }
            Some((0, b'/')) => Ok(self.with_path(normal_path(location))),
            Some((0, b'?')) => Ok(self.with_path(normal_path(&format!("{}{location}", self.path_only())))),
            Some((0, b'#')) => Ok(self.clone()),
            None if location.is_empty() => Ok(self.clone()),
            _ => {
                let folder = self.path_only().rsplit_once('/').map_or("", |(folder, _)| folder);
                Ok(self.with_path(normal_path(&format!("{folder}/{location}"))))
            }
        }
    }

    fn with_path(&self, path: String) -> Self {
        Self { origin: self.origin.clone(), path }
    }

    /// The path without its query.
    pub fn path_only(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }
}

fn check_text(url: &str) -> Result<(), TargetError> {
    let clean = url.len() <= URL_BYTES_MAX && !url.bytes().any(|byte| byte < 0x20 || byte == 0x7f);
    clean.then_some(()).ok_or(TargetError::Text)
}

fn before_colon(url: &str) -> String {
    url.split_once(':').map_or(String::new(), |(scheme, _)| scheme.chars().take(32).collect())
}

fn parse_authority(scheme: Scheme, authority: &str) -> Result<OriginId, TargetError> {
    if authority.contains('@') {
        return Err(TargetError::UserInformation);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(|| bad_host(authority))?;
            let address: Ipv6Addr = address.parse().map_err(|_| bad_host(authority))?;
            (Host::Address(IpAddr::V6(address)), after)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (parse_host(host).ok_or_else(|| bad_host(host))?, port)
        }
    };
    Ok(OriginId { scheme, host, port: parse_port(scheme, port)? })
}

fn bad_host(host: &str) -> TargetError {
    TargetError::Host(host.chars().take(255).collect())
}

fn parse_port(scheme: Scheme, text: &str) -> Result<u16, TargetError> {
    let bad = || TargetError::Port(text.chars().take(16).collect());
    match text.strip_prefix(':') {
        None if text.is_empty() => Ok(scheme.port()),
        Some("") => Ok(scheme.port()),
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or_else(bad)
        }
        _ => Err(bad()),
    }
}

/// A host name, or a number in any spelling that some resolver would take for an IPv4 address (WHATWG URL, "ends in a
/// number"): hexadecimal, octal, fewer than four parts. What looks like a number and is none is refused.
fn parse_host(text: &str) -> Option<Host> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let last = host.rsplit('.').next()?;
    let hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(hex);
    if numeric {
        return odd_ipv4(&host).map(|address| Host::Address(IpAddr::V4(address)));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (host.len() <= 253 && host.split('.').all(label)).then_some(Host::Name(host))
}

/// An IPv4 address of one to four parts, each decimal, octal or hexadecimal; the last fills the remaining bytes.
fn odd_ipv4(host: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, heads) = parts.split_last()?;
    if heads.len() > 3 || heads.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 8 * (4 - heads.len() as u32);
    if u64::from(*last) >= 1 << room {
        return None;
    }
    let high = heads.iter().enumerate().fold(0, |bits, (at, part)| bits | part << (24 - 8 * at));
    Some(Ipv4Addr::from_bits(high | last))
}

fn number(part: &str) -> Option<u32> {
    let (digits, radix) = match part.strip_prefix("0x") {
        Some("") => return Some(0),
        Some(digits) => (digits, 16),
        None if part.len() > 1 && part.starts_with('0') => (part, 8),
        None => (part, 10),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

/// Drops the fragment, resolves dot segments (`%2e` counts as a dot), and encodes what may not stand in a request line.
fn normal_path(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match dots(segment) {
            Some(count) => {
                kept.truncate(kept.len() - (count - 1).min(kept.len()));
                if last {
                    kept.push("");
                }
            }
            None => kept.push(segment),
        }
    }
    let mut out = String::from("/");
    encode(&kept.join("/"), &mut out);
    if let Some(query) = query {
        out.push('?');
        encode(query, &mut out);
    }
    out
}

/// 1 for `.`, 2 for `..`, in any encoding.
fn dots(segment: &str) -> Option<usize> {
    match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
        "." => Some(1),
        ".." => Some(2),
        _ => None,
    }
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                out.push_str(&format!("%{byte:02X}"))
            }
            0x21..=0x7e => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_taken_apart_and_written_in_one_way() {
        for (url, canonical) in [
            ("http://Example.COM", "http://example.com/"),
            ("HTTPS://example.com:443/a?b#c", "https://example.com/a?b"),
            ("http://example.com.:80/a", "http://example.com/a"),
            ("http://example.com:8080/./a/../b/%2E%2e/c/", "http://example.com:8080/c/"),
            ("http://example.com/../../x", "http://example.com/x"),
            ("http://example.com/a/..", "http://example.com/"),
            ("http://example.com/a b/ü?q=\"", "http://example.com/a%20b/%C3%BC?q=%22"),
            ("http://example.com?x=/../y", "http://example.com/?x=/../y"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("http://example.com/a\\..\\b", "http://example.com/a%5C..%5Cb"),
        ] {
            assert_eq!(Target::parse(url).unwrap().to_string(), canonical, "{url}");
        }
    }

    #[test]
    fn numbers_in_odd_spellings_are_the_same_address() {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "127.0.1",
            "017700000001",
            "0X7F.0x0.0x0.0x1",
            "0x7f.0.0.01",
            "127.0.0.0x1",
        ] {
            let target = Target::parse(&format!("http://{host}/")).unwrap();
            assert_eq!(target.origin.host, Host::Address("127.0.0.1".parse().unwrap()), "{host}");
            assert_eq!(target.origin.authority(), "127.0.0.1");
        }
        assert_eq!(parse_host("0x"), Some(Host::Address("0.0.0.0".parse().unwrap())));
    }

    #[test]
    fn hosts_that_are_neither_name_nor_address_are_refused() {
        for host in [
            "",
            ".",
            "..",
            "a..b",
            "127.0.0.1..",
            "256.0.0.1.",
            "1.2.3.4.5",
            "4294967296",
            "127.0.0.08",
            "08",
            "1.2.3.0x100",
            "127.0.0.256",
            "foo.1",
            "foo.0x7f",
            "0x1ffffffff",
            "127%2e0.0.1",
            "127。0。0。1",
            "①②⑦.0.0.1",
            "exa mple",
            "[::1",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            "a@b",
            "a:b@c",
            "x:99999",
            "x:0",
            "x:-1",
            "x:+80",
            "[::1]x",
            "-\\evil",
            "a\\@b",
            "ex*mple",
        ] {
            let url = format!("http://{host}/");
            assert!(Target::parse(&url).is_err(), "{url} gave {:?}", Target::parse(&url));
        }
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        for url in
            ["file:///etc/passwd", "gopher://x/", "ftp://x", "//x/", "", "javascript:alert(1)", "http:/x"]
        {
            assert!(matches!(Target::parse(url), Err(TargetError::Scheme(_))), "{url}");
        }
        assert_eq!(Target::parse("http://x/\r\nHost: y"), Err(TargetError::Text));
        assert_eq!(Target::parse(&format!("http://x/{}", "a".repeat(URL_BYTES_MAX))), Err(TargetError::Text));
    }

    #[test]
    fn locations_lead_where_rfc_3986_says() {
        let here = Target::parse("http://a.example/b/c?d").unwrap();
        for (location, there) in [
            ("https://z.example/y", "https://z.example/y"),
            ("//z.example/y", "http://z.example/y"),
            ("/y", "http://a.example/y"),
            ("y", "http://a.example/b/y"),
            ("../y?z", "http://a.example/y?z"),
            ("?z", "http://a.example/b/c?z"),
            ("#z", "http://a.example/b/c?d"),
            ("", "http://a.example/b/c?d"),
            ("y?u=http://q/", "http://a.example/b/y?u=http://q/"),
        ] {
            assert_eq!(here.join(location).unwrap().to_string(), there, "{location}");
        }
        assert!(here.join("file:///etc/passwd").is_err());
        assert!(here.join("data:image/png;base64,").is_err());
    }

    proptest! {
        #[test]
        fn what_parses_parses_to_itself(url in "http://[a-z0-9.]{1,12}(:[0-9]{1,4})?/[ -~]{0,30}") {
            if let Ok(target) = Target::parse(&url) {
                prop_assert_eq!(Target::parse(&target.to_string()), Ok(target));
            }
        }

        #[test]
        fn no_text_breaks_the_parser_and_no_line_break_passes(text in "\\PC{0,40}", location in ".{0,40}") {
            let _ = Target::parse(&text);
            let here = Target::parse("http://a.example/b").unwrap();
            if let Ok(there) = here.join(&location) {
                let clean = there.path.starts_with('/') && there.path.bytes().all(|byte| byte > 0x20 && byte < 0x7f);
                prop_assert!(clean, "{}", there);
            }
        }
    }
}
