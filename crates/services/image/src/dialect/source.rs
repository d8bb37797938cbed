//! Where the original is: decoding of the source part of a URL, and the one canonical form of every source. One decoding pass.

use std::net::Ipv6Addr;

use base64::Engine;
use tutti_base::{Kind, Problem, Source};

use super::known::shorten;
use super::signature::LENIENT;
use crate::percent;

/// The source part of a URL, decoded.
#[derive(PartialEq, Debug)]
pub(super) struct SourceText<'a> {
    /// What stands there, before replacements and base URL.
    pub text: String,
    /// The format asked for behind it.
    pub extension: Option<&'a str>,
}

/// Whether the last segment of a base64 source is a file name to be ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LastSegment {
    /// It belongs to the source.
    Source,
    /// It is a name for people, if there is more than one segment.
    FileName,
}

/// Decodes `part`: `plain/URL@ext`, or base64url with slashes anywhere and `.ext`.
pub(super) fn decode(part: &str, last: LastSegment) -> Result<SourceText<'_>, Problem> {
    match part.split_once('/') {
        Some(("plain", url)) => plain(url),
        Some(("enc", _)) => Err(refused("encrypted sources (`enc/`) are not built yet")),
        _ if part == "-" || part.starts_with("-/") => {
            Err(refused("chained pipelines (`-`) are not built yet"))
        }
        _ => base64(part, last),
    }
}

fn plain(url: &str) -> Result<SourceText<'_>, Problem> {
    let (url, extension) = cut_extension(url, '@', "write an `@` that belongs to the source as %40")?;
    let text = percent::decode(url)
        .ok_or_else(|| refused(format!("the source `{}` is not percent-encoded UTF-8", shorten(url))))?;
    Ok(SourceText { text, extension })
}

fn base64(part: &str, last: LastSegment) -> Result<SourceText<'_>, Problem> {
    let part = match part.rsplit_once('/') {
        Some((source, _name)) if last == LastSegment::FileName => source,
        _ => part,
    };
    let (encoded, extension) = cut_extension(part, '.', "it belongs behind `plain/` if it is not base64url")?;
    let joined: String = encoded.chars().filter(|char| *char != '/').collect();
    let bytes = LENIENT.decode(joined.trim_end_matches('=')).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        refused(format!(
            "the source `{}` is not base64url of UTF-8; plain sources stand behind `plain/`",
            shorten(part)
        ))
    })?;
    Ok(SourceText { text, extension })
}

/// Cuts the one extension behind `mark`; an empty one is none.
fn cut_extension<'a>(
    part: &'a str,
    mark: char,
    way_out: &str,
) -> Result<(&'a str, Option<&'a str>), Problem> {
    let mut pieces = part.split(mark);
    let (url, extension) = (pieces.next().unwrap_or(""), pieces.next());
    if pieces.next().is_some() {
        return Err(refused(format!("the source has more than one `{mark}`; {way_out}")));
    }
    if url.is_empty() {
        return Err(refused(
            "there is no source; it is written plain/URL or in base64url, as the last part of the path",
        ));
    }
    Ok((url, extension.filter(|extension| !extension.is_empty())))
}

/// The canonical source that `url` names.
pub(crate) fn canonical(url: &str) -> Result<Source, Problem> {
    let (scheme, behind) = split_scheme(url).ok_or_else(|| {
        refused(format!("the source `{}` has no scheme; write local:///cat.jpg or https://…", shorten(url)))
    })?;
    if url.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(refused("the source has control characters"));
    }
    match scheme.to_ascii_lowercase().as_str() {
        "local" => local(behind),
        "http" => http("http", "80", behind),
        "https" => http("https", "443", behind),
        other @ ("s3" | "gs" | "abs" | "swift") => {
            Err(refused(format!("`{other}:` sources are not built yet")))
        }
        other => {
            Err(refused(format!("`{}:` is no scheme for sources; use local, http or https", shorten(other))))
        }
    }
}

/// Cuts `url` at `://`, if what stands before it is a scheme.
pub(super) fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, behind) = url.split_once("://")?;
    let letters = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (letters && scheme.starts_with(|first: char| first.is_ascii_alphabetic())).then_some((scheme, behind))
}

/// `local://FOLDER/path`. As in imgproxy, `?` ends the path.
fn local(behind: &str) -> Result<Source, Problem> {
    let behind = behind.split_once('?').map_or(behind, |(path, _)| path);
    let Some((folder, path)) = behind.split_once('/') else {
        return Err(refused("a local source is local:///path or local://FOLDER/path"));
    };
    let is_name = folder.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !is_name || folder.starts_with('.') {
        return Err(refused(format!("`{}` is no name of a folder", shorten(folder))));
    }
    if let Some(fault) = path.split('/').find_map(component_fault) {
        return Err(refused(format!("the path of the source {fault}")));
    }
    Ok(Source::Local { folder: folder.to_owned(), path: path.to_owned() })
}

/// Why `component` may not stand in the path of a local source: it could mean another path to somebody.
fn component_fault(component: &str) -> Option<&'static str> {
    const TWICE: [&str; 4] = ["%2e", "%2f", "%5c", "%00"];
    let lower = component.to_ascii_lowercase();
    match component {
        "" => Some("has an empty component"),
        "." | ".." => Some("has a component `.` or `..`"),
        _ if component.contains('\\') => Some("has a backslash"),
        _ if TWICE.iter().any(|escape| lower.contains(escape)) => Some("is encoded more than once"),
        _ => None,
    }
}

/// An http(s) URL: host in lower case, default port dropped, no fragment, no user information, no dot segments, and
/// what may not stand in a URL percent-encoded. Escapes that are there stay as they are: origins may sign them.
fn http(scheme: &str, default_port: &str, behind: &str) -> Result<Source, Problem> {
    let behind = behind.split_once('#').map_or(behind, |(url, _)| url);
    let (authority, path_and_query) = behind.split_at(behind.find(['/', '?']).unwrap_or(behind.len()));
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    check_path(path)?;
    let mut url = format!("{scheme}://{}", canonical_authority(authority, default_port)?);
    if !path.starts_with('/') {
        url.push('/');
    }
    push_encoded(path, &mut url);
    if let Some(query) = query {
        url.push('?');
        push_encoded(query, &mut url);
    }
    Ok(Source::Http { url })
}

/// Refuses what an origin could read as a step upwards, which would lead past the allowed prefixes.
fn check_path(path: &str) -> Result<(), Problem> {
    let decoded = percent::decode_lossy(path);
    let steps = decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| matches!(part, b"." | b".."));
    if steps || decoded.contains(&0) || path.contains('\\') {
        return Err(refused("the path of the source has a component `.` or `..`, a backslash, or NUL"));
    }
    Ok(())
}

fn canonical_authority(authority: &str, default_port: &str) -> Result<String, Problem> {
    if authority.contains('@') {
        return Err(refused(
            "the source has user information, which is not sent; give credentials to the origin's settings",
        ));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let host = canonical_host(host)?;
    let wrong = || refused(format!("`{}` is no port", shorten(port)));
    if !port.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let port = port.trim_start_matches('0');
    match (port, authority.ends_with(":0")) {
        ("", false) => Ok(host),
        _ if port == default_port => Ok(host),
        _ if port.parse::<u16>().is_ok() => Ok(format!("{host}:{port}")),
        _ => Err(wrong()),
    }
}

fn canonical_host(host: &str) -> Result<String, Problem> {
    if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Option<Ipv6Addr> = literal.parse().ok();
        return address
            .map(|address| format!("[{address}]"))
            .ok_or_else(|| refused(format!("`{}` is no IPv6 address", shorten(host))));
    }
    let letters = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if host.is_empty() || host.starts_with('.') || host.contains("..") || !letters {
        let detail = format!("`{}` is no host; write international names in punycode (xn--…)", shorten(host));
        return Err(refused(detail));
    }
    Ok(host.to_ascii_lowercase())
}

/// Appends `text`, encoding what RFC 3986 lets stand nowhere in path and query, and every `%` that begins no escape.
fn push_encoded(text: &str, out: &mut String) {
    let keep = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}%".contains(&byte);
    for (at, piece) in text.split('%').scan(0, |at, piece| {
        let begins = *at;
        *at += piece.len() + 1;
        Some((begins, piece))
    }) {
        if at > 0 {
            out.push_str(if percent::is_escape(text, at - 1) { "%" } else { "%25" });
        }
        percent::encode(piece, keep, out);
    }
}

/// A refused source is 404, whatever is wrong with it.
pub(super) fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::NotFound, detail.into()).about("source")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, wanted: Option<&str>) {
        let found = canonical(url);
        assert_eq!(found.as_ref().ok().map(ToString::to_string).as_deref(), wanted, "{url}: {found:?}");
        if let Err(problem) = found {
            assert_eq!((problem.kind, problem.subject.as_deref()), (Kind::NotFound, Some("source")), "{url}");
        }
    }

    #[test]
    fn local_sources_have_one_form() {
        check("local:///cat.jpg", Some("local:///cat.jpg"));
        check("LOCAL:///a/b c.jpg", Some("local:///a/b c.jpg"));
        check("local://shop/a/b.jpg", Some("local://shop/a/b.jpg"));
        check("local:///a.jpg?x=1", Some("local:///a.jpg"));
        check("local:///100%.jpg", Some("local:///100%.jpg"));
        check("local:///..a/b..", Some("local:///..a/b.."));
    }

    #[test]
    fn local_paths_lead_nowhere_else() {
        for path in [
            "",
            "/",
            "a/",
            "/etc/passwd",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/..",
            "./a",
            "a\\b",
            "..\\a",
            "%2e%2e/a",
            "a/%2E%2E/b",
            "..%2fa",
            "a%2Fb",
            "a%5cb",
            "a%00",
            "a\0b",
            "a\nb",
        ] {
            check(&format!("local:///{path}"), None);
        }
        for folder in ["..", ".", ".hidden", "a b", "a\\b", "a:b", "a%2f", "ü"] {
            check(&format!("local://{folder}/a.jpg"), None);
        }
        check("local://", None);
        check("local://cat.jpg", None);
    }

    #[test]
    fn http_sources_have_one_form() {
        for (url, wanted) in [
            ("HTTP://Img.Example:80/A.jpg", "http://img.example/A.jpg"),
            ("https://img.example:443", "https://img.example/"),
            ("https://img.example:", "https://img.example/"),
            ("https://img.example:0443/", "https://img.example/"),
            ("https://img.example:80/", "https://img.example:80/"),
            ("http://img.example?a=b#c", "http://img.example/?a=b"),
            ("http://img.example/a b%20c%zz%", "http://img.example/a%20b%20c%25zz%25"),
            ("http://img.example/ü%c3%bc?q=<ü>", "http://img.example/%C3%BC%c3%bc?q=%3C%C3%BC%3E"),
            ("http://img.example/o/a%2Fb.jpg", "http://img.example/o/a%2Fb.jpg"),
            ("http://[::0001]:8080/a", "http://[::1]:8080/a"),
            ("http://[2001:DB8::1]/a", "http://[2001:db8::1]/a"),
            ("http://127.0.0.1:9/a//b", "http://127.0.0.1:9/a//b"),
            ("http://x/a?/../b", "http://x/a?/../b"),
        ] {
            check(url, Some(wanted));
            check(wanted, Some(wanted));
        }
    }

    #[test]
    fn http_sources_that_could_mean_two_things_are_refused() {
        for url in [
            "http:///a",
            "http://",
            "http://a@b/c",
            "http://a:b@c/",
            "http://a\\b/c",
            "http://a/b\\c",
            "http://ü/a",
            "http://a%2eb/",
            "http://a..b/",
            "http://.a/",
            "http://a:0/",
            "http://a:65536/",
            "http://a:8a/",
            "http://a:-1/",
            "http://[::1/",
            "http://[::1%25lo]/",
            "http://[x]/",
            "http://::1/",
            "http://x/../a",
            "http://x/a/..",
            "http://x/./a",
            "http://x/%2e%2E/a",
            "http://x/a%2f..%2fb",
            "http://x/a/..%5cb",
            "http://x/a%00",
            "http://x/a\r\nHost: y",
            "http://x y/",
        ] {
            check(url, None);
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for url in [
            "file:///etc/passwd",
            "ftp://x/a",
            "data:image/png;base64,AA",
            "s3://b/k",
            "gopher://x",
            "://x",
            "a.jpg",
            "1a://x/",
            "",
        ] {
            check(url, None);
        }
    }

    #[track_caller]
    fn check_decode(part: &str, last: LastSegment, wanted: Option<(&str, Option<&str>)>) {
        let found = decode(part, last).ok();
        assert_eq!(found.as_ref().map(|found| (found.text.as_str(), found.extension)), wanted, "{part}");
    }

    #[test]
    fn plain_sources_are_decoded_once() {
        use LastSegment::Source;
        check_decode("plain/http://x/a.jpg", Source, Some(("http://x/a.jpg", None)));
        check_decode("plain/http%3A%2F%2Fx%2Fa%3Fb%40c@png", Source, Some(("http://x/a?b@c", Some("png"))));
        check_decode("plain/local:///a%252e.jpg@", Source, Some(("local:///a%2e.jpg", None)));
        for wrong in ["plain/", "plain/@png", "plain/a@b@png", "plain/%zz", "plain/%ff", "enc/abcd", "-/w:1"]
        {
            check_decode(wrong, Source, None);
        }
    }

    #[test]
    fn base64_sources_may_be_broken_by_slashes_and_end_in_a_name() {
        use LastSegment::{FileName, Source};
        let whole = "bG9jYWw6Ly8vYS5qcGc";
        for part in [whole, "bG9jYWw6/Ly8vYS5qcGc", "bG9jYWw6Ly8vYS5qcGc=", "bG9jYWw6Ly8vYS5qcGc=="] {
            check_decode(part, Source, Some(("local:///a.jpg", None)));
        }
        check_decode("bG9jYWw6/Ly8vYS5qcGc.webp", Source, Some(("local:///a.jpg", Some("webp"))));
        check_decode("bG9jYWw6Ly8vYS5qcGc.webp/puppy.jpg", FileName, Some(("local:///a.jpg", Some("webp"))));
        check_decode(whole, FileName, Some(("local:///a.jpg", None)));
        for wrong in
            ["", ".png", "bG9jYWw6Ly8vYS5qcGc.webp/puppy.jpg", "a.b.c", "local:///a", "gICA", "+/+/", "plain"]
        {
            check_decode(wrong, Source, None);
        }
    }
}
