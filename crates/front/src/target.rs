//! Request targets and authorities (RFC 9112 §3): which host, which path, which query. Decodes nothing.

use crate::head::{Verb, Version};
use crate::refusal::Refusal;

/// Where a request goes, as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place<'b> {
    /// The authority in the case it came in; empty where an HTTP/1.0 client named none.
    pub(crate) host: &'b str,
    /// The path, percent-encoded as it came; `*` for the server as a whole.
    pub(crate) path: &'b str,
    /// The query, without `?`.
    pub(crate) query: Option<&'b str>,
}

/// Finds the place that `target` and the value of `Host` name together.
pub(crate) fn locate<'b>(
    target: &'b str,
    host: Option<&'b [u8]>,
    version: Version,
    verb: Verb,
) -> Result<Place<'b>, Refusal> {
    if !target.is_ascii() || memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(Refusal::Target);
    }
    let host = match host {
        Some(value) => authority(value)?,
        None if version == Version::Http11 => return Err(Refusal::Host),
        None => "",
    };
    if target.starts_with('/') {
        return Ok(split(host, target));
    }
    if target == "*" && verb == Verb::Options {
        return Ok(Place { host, path: target, query: None });
    }
    let (named, rest) = absolute(target)?;
    if !host.is_empty() && !host.eq_ignore_ascii_case(named) {
        return Err(Refusal::Host);
    }
    Ok(split(named, rest))
}

fn split<'b>(host: &'b str, rest: &'b str) -> Place<'b> {
    match memchr::memchr(b'?', rest.as_bytes()) {
        None => Place { host, path: rest, query: None },
        Some(at) => {
            let path = if at == 0 { "/" } else { &rest[..at] };
            Place { host, path, query: Some(&rest[at + 1..]) }
        }
    }
}

/// The authority and the rest of an absolute-form target.
fn absolute(target: &str) -> Result<(&str, &str), Refusal> {
    const SCHEME: &str = "http://";
    let named = target.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
    if !named {
        return Err(Refusal::Target);
    }
    let after = &target[SCHEME.len()..];
    let end = after.find(['/', '?']).unwrap_or(after.len());
    let host = authority(&after.as_bytes()[..end]).map_err(|_| Refusal::Target)?;
    let rest = &after[end..];
    Ok((host, if rest.is_empty() { "/" } else { rest }))
}

/// Checks an authority: a name, an IPv4 or a bracketed IPv6 address, and perhaps a port. No user information; of the
/// characters that RFC 3986 would allow only those that host names are made of.
fn authority(value: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(value).map_err(|_| Refusal::Host)?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(Refusal::Host)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| Refusal::Host)?;
            let port =
                if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(Refusal::Host)?) };
            (None, port)
        }
        None => match text.split_once(':') {
            None => (Some(text), None),
            Some((name, port)) => (Some(name), Some(port)),
        },
    };
    let name_fits = name.is_none_or(is_name);
    // An empty port is allowed (RFC 3986 §3.2.3).
    let port_fits = port.is_none_or(|port| {
        port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
    });
    if name_fits && port_fits { Ok(text) } else { Err(Refusal::Host) }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// The host of an authority, without its port.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').map_or(authority, |end| &authority[..end + 2]),
        None => authority.find(':').map_or(authority, |end| &authority[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(target: &str, host: Option<&'static str>) -> Result<(String, String, Option<String>), Refusal> {
        locate(target, host.map(str::as_bytes), Version::Http11, Verb::Get)
            .map(|place| (place.host.into(), place.path.into(), place.query.map(str::to_owned)))
    }

    #[test]
    fn both_forms_give_host_path_and_query() {
        let want = Ok(("a.b:80".to_owned(), "/p".to_owned(), Some("q?r".to_owned())));
        assert_eq!(place("/p?q?r", Some("a.b:80")), want);
        assert_eq!(place("HTTP://a.b:80/p?q?r", Some("A.B:80")), want);
        assert_eq!(place("http://a", Some("a")), Ok(("a".into(), "/".into(), None)));
        assert_eq!(place("http://a?x", Some("a")), Ok(("a".into(), "/".into(), Some("x".into()))));
    }

    #[test]
    fn doubtful_hosts_and_targets_are_refused() {
        for host in
            ["", "a b", "a,b", "u@a", "a:b", "a:65536", "a/b", "[::1", "[::1]x", "[a]", "a%00", "é", "a:1:2"]
        {
            assert_eq!(place("/", Some(host)), Err(Refusal::Host), "{host:?}");
        }
        for target in ["*", "x", "https://a/", "http://u@a/", "http:///", "/#f", "//é", "a:80", "ftp://a/"] {
            assert_eq!(place(target, Some("a")), Err(Refusal::Target), "{target:?}");
        }
        assert_eq!(place("http://a/", Some("b")), Err(Refusal::Host));
        assert_eq!(place("http://a/", None), Err(Refusal::Host));
        assert!(place("/", Some("[::1]:80")).is_ok() && place("/", Some("a:")).is_ok());
    }

    #[test]
    fn a_port_is_cut_off() {
        assert_eq!(without_port("a.b:80"), "a.b");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("a"), "a");
    }
}
