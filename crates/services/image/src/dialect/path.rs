//! The outer shape of a URL: signature, options, source. Undoes what proxies do to paths; checks nothing yet.

use std::borrow::Cow;

use tutti_base::{Kind, Problem};

/// A path below the mount, cut at its first segment.
#[derive(PartialEq, Debug)]
pub(super) struct SignedPath<'a> {
    /// The first segment.
    pub signature: &'a str,
    /// The rest, repaired, without a leading slash: what is signed, after a slash.
    pub rest: Cow<'a, str>,
}

/// Cuts `path`; a query is left away, since it is not signed either.
pub(super) fn split(path: &str) -> Result<SignedPath<'_>, Problem> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let path = path.strip_prefix('/').unwrap_or(path);
    let (signature, rest) = path.split_once('/').unwrap_or((path, ""));
    let rest = repair(rest);
    if signature.is_empty() || rest.is_empty() {
        let detail = "an image URL is /SIGNATURE/OPTIONS/SOURCE, such as /unsafe/rs:fit:300:200/plain/local:///cat.jpg";
        return Err(Problem::new(Kind::NotFound, detail));
    }
    Ok(SignedPath { signature, rest })
}

/// Reads `%3A` left of the plain source as `:`, and mends `plain/http:/x` and `plain/local:/x`, whose second slash was
/// taken for a duplicate on the way here.
fn repair(rest: &str) -> Cow<'_, str> {
    let source_at = plain_source_at(rest);
    let (options, source) = rest.split_at(source_at.unwrap_or(rest.len()));
    let options = if options.contains('%') {
        Cow::Owned(options.replace("%3A", ":").replace("%3a", ":"))
    } else {
        Cow::Borrowed(options)
    };
    let missing = missing_slashes(source);
    let lead = usize::from(rest.starts_with('/'));
    match (&options, missing) {
        (Cow::Borrowed(_), None) => Cow::Borrowed(&rest[lead..]),
        (_, None) => Cow::Owned([&options[lead..], source].concat()),
        (_, Some((at, slashes))) => {
            Cow::Owned([&options[lead..], &source[..at], slashes, &source[at..]].concat())
        }
    }
}

/// Where the source begins behind `plain/`.
fn plain_source_at(rest: &str) -> Option<usize> {
    const PLAIN: &str = "plain/";
    if rest.starts_with(PLAIN) {
        return Some(PLAIN.len());
    }
    rest.find("/plain/").map(|at| at + 1 + PLAIN.len())
}

/// Where `source` lacks slashes behind its scheme, and which.
fn missing_slashes(source: &str) -> Option<(usize, &'static str)> {
    let (scheme, behind) = source.split_once(":/")?;
    let is_scheme = !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme || behind.is_empty() || behind.starts_with('/') {
        return None;
    }
    let slashes = if scheme.eq_ignore_ascii_case("local") { "//" } else { "/" };
    Some((scheme.len() + 2, slashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, signature: &str, rest: &str) {
        let found = split(path).unwrap();
        assert_eq!((found.signature, &*found.rest), (signature, rest), "{path}");
    }

    #[test]
    fn signature_and_rest_are_cut_and_the_query_is_left_away() {
        check("/sig/w:1/plain/a", "sig", "w:1/plain/a");
        check("/sig/plain/http://x/a.jpg?b=c/d", "sig", "plain/http://x/a.jpg");
        check("/sig//w:1/plain/a", "sig", "w:1/plain/a");
        for path in ["", "/", "/sig", "/sig/", "//a", "/sig//", "/?/a"] {
            assert_eq!(split(path).unwrap_err().kind, Kind::NotFound, "{path}");
        }
    }

    #[test]
    fn what_proxies_do_is_undone() {
        check("/s/plain/http:/x/a", "s", "plain/http://x/a");
        check("/s/plain/https:/x/a", "s", "plain/https://x/a");
        check("/s/plain/local:/a.jpg", "s", "plain/local:///a.jpg");
        check("/s/w:1/plain/local:/a.jpg", "s", "w:1/plain/local:///a.jpg");
        check("/s/w%3A1%3a2/plain/http:/x/a", "s", "w:1:2/plain/http://x/a");
        check("/s/rs%3Afill%3A300/YWJj/YWJj", "s", "rs:fill:300/YWJj/YWJj");
    }

    #[test]
    fn what_is_whole_is_left_alone() {
        for rest in [
            "plain/http://x/a%3Ab",
            "plain/local:///a.jpg",
            "plain/x/a.jpg",
            "plain/http:",
            "plain/http:/",
            "plain/http://x/y:/z",
            "plain/x/y:/z",
            "plain/local%3A%2F%2F%2Fa.jpg",
            "http:/x/a",
        ] {
            check(&format!("/s/{rest}"), "s", rest);
        }
    }
}
