//! URL prefixes that say which URLs belong to a source, with `*` inside a host's labels and the path. Pure.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::target::{Scheme, Target};

/// A URL prefix such as `https://img.example/`, `https://*.example/pub/` or `http://10.1.2.3:8080/`.
///
/// The host must fit whole, so `https://img.example` does not cover `https://img.example.evil`; a `*` in it stands for
/// any text within one label. The port is the scheme's own unless named. The path is a prefix, in which a `*` stands for
/// any text without `/`; end it with `/` to mean a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

/// Why a text is not a pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a URL prefix; write it like `https://img.example/` or `http://10.1.2.3:8080/photos/`")]
pub struct PatternError(String);

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let bad = || PatternError(text.to_owned());
        // A star is no host character; a letter in its place lets the one URL parser judge everything else.
        let target = Target::parse(&text.replace('*', "x")).map_err(|_| bad())?;
        let (_, rest) = text.split_once("://").ok_or_else(bad)?;
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if path.contains(['?', '#']) || authority.contains(['?', '#']) {
            return Err(bad());
        }
        let host = if authority.contains('*') {
            let host = authority.split(':').next().unwrap_or_default();
            host.trim_end_matches('.').to_ascii_lowercase()
        } else {
            target.origin.host.to_string()
        };
        let path = if path.contains('*') { path.to_owned() } else { target.path_only().to_owned() };
        Ok(Self { scheme: target.origin.scheme, host, port: target.origin.port, path })
    }

    /// Whether `target` lies beneath this prefix. A path that could climb once it is decoded further never does.
    pub fn covers(&self, target: &Target) -> bool {
        self.scheme == target.origin.scheme
            && self.port == target.origin.port
            && host_fits(&self.host, &target.origin.host.to_string())
            && !climbs(target.path_only())
            && prefix_fits(self.path.as_bytes(), target.path_only().as_bytes())
    }

    /// How much it says: of two patterns that cover a URL, the longer one decides.
    pub(crate) fn weight(&self) -> usize {
        self.host.len() + self.path.len()
    }
}

fn host_fits(pattern: &str, host: &str) -> bool {
    if !pattern.contains('*') {
        return pattern == host;
    }
    let (mut wanted, mut labels) = (pattern.split('.'), host.split('.'));
    loop {
        match (wanted.next(), labels.next()) {
            (None, None) => return true,
            (Some(wanted), Some(label)) if stars_fit(wanted.as_bytes(), label.as_bytes()) => {}
            _ => return false,
        }
    }
}

/// Whether all of `text` fits `pattern`. Only the last star is tried again, so this stays quadratic.
fn stars_fit(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from, mut retry) = (0, 0, None);
    while from < text.len() {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at, from));
            at += 1;
        } else if pattern.get(at) == Some(&text[from]) {
            (at, from) = (at + 1, from + 1);
        } else if let Some((star, start)) = retry {
            retry = Some((star, start + 1));
            (at, from) = (star + 1, start + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Whether `pattern` fits the beginning of `path`, segment by segment; a star stays within its segment.
fn prefix_fits(pattern: &[u8], path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/');
    let mut wanted = pattern.split(|byte| *byte == b'/').peekable();
    while let Some(part) = wanted.next() {
        let Some(segment) = segments.next() else { return false };
        let fits = if wanted.peek().is_some() {
            stars_fit(part, segment)
        } else {
            stars_fit(&[part, b"*"].concat(), segment)
        };
        if !fits {
            return false;
        }
    }
    true
}

/// Whether some server could read `..` out of `path` by decoding it once or twice more, or by taking `\` for `/`.
fn climbs(path: &str) -> bool {
    let lower = path.to_ascii_lowercase().replace("%25", "%").replace("%25", "%");
    let plain = lower.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    plain.split('/').any(|segment| segment == "..")
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, url: &str) -> bool {
        Pattern::parse(pattern).unwrap().covers(&Target::parse(url).unwrap())
    }

    #[test]
    fn a_prefix_covers_its_own_host_and_folder_only() {
        for (pattern, url) in [
            ("https://img.example", "https://img.example/a"),
            ("https://IMG.example/", "https://img.example:443/a?b"),
            ("https://*.example/", "https://cdn.example/a"),
            ("https://img*.a.example/", "https://img12.a.example/a"),
            ("http://10.1.2.3:8080/pub/", "http://0xa.1.2.3:8080/pub/x"),
            ("http://[::1]/", "http://[0:0::1]/x"),
            ("https://img.example/*/small/", "https://img.example/shop/small/a"),
            ("https://img.example/pub", "https://img.example/public/a"),
            ("https://img.example/a*c", "https://img.example/abc/d"),
        ] {
            assert!(covers(pattern, url), "{pattern} covers {url}");
        }
    }

    #[test]
    fn a_prefix_does_not_reach_beyond_what_it_says() {
        for (pattern, url) in [
            ("https://img.example", "https://img.example.evil/"),
            ("https://img.example", "https://img.example:8443/"),
            ("https://img.example", "http://img.example/"),
            ("https://*.example/", "https://a.b.example/"),
            ("https://*.example/", "https://example/"),
            ("https://img.example/pub/", "https://img.example/pub"),
            ("https://img.example/pub/", "https://img.example/pub/../etc"),
            ("https://img.example/pub/", "https://img.example/pub/%2e%2e/etc"),
            ("https://img.example/pub/", "https://img.example/pub/..%2fetc"),
            ("https://img.example/pub/", "https://img.example/pub/%252e%252e%252fetc"),
            ("https://img.example/pub/", "https://img.example/pub/..\\etc"),
            ("https://img.example/*/small/", "https://img.example/a/b/small/c"),
            ("https://img.example/", "https://other.example/?https://img.example/"),
        ] {
            assert!(!covers(pattern, url), "{pattern} must not cover {url}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "img.example",
            "ftp://x/",
            "https://",
            "https://a@b/",
            "https://x/?q",
            "*://x/",
            "https://x/#a",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stars_stay_cheap_on_hostile_text() {
        let pattern = Pattern::parse(&format!("https://x/{}b", "*a".repeat(60))).unwrap();
        assert!(!pattern.covers(&Target::parse(&format!("https://x/{}", "a".repeat(4000))).unwrap()));
    }
}
