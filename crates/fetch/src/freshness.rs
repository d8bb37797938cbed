//! What an origin's answer says of keeping it (RFC 9111, RFC 5861), and its tags. Pure; decides nothing about our caches.

use std::time::{Duration, UNIX_EPOCH};

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use tutti_base::Wall;
use tutti_base::http::Validator;

use crate::OriginAnswer;

/// The most tags that are taken from one answer.
pub const TAGS_MAX: usize = 64;
/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 128;
/// The longest `ETag` that is kept, in bytes; a longer one is as good as none.
pub const ETAG_BYTES_MAX: usize = 512;
/// The longest media type that is kept, in bytes.
const TYPE_BYTES_MAX: usize = 255;
/// Longer lifetimes count as this one (RFC 9111 §1.2.2).
const SECONDS_MAX: u64 = 1 << 31;

/// An origin's answer read, with what had to be left out of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    /// What it says.
    pub answer: OriginAnswer,
    /// How many tags were over [`TAGS_MAX`] or [`TAG_BYTES_MAX`] or not visible ASCII, and were left out.
    pub tags_dropped: usize,
}

/// Reads the fields of an answer that arrived at `now`.
pub fn read(fields: &HeaderMap, now: Wall) -> Reading {
    let directives = Directives::read(fields);
    let (tags, tags_dropped) = tags(fields);
    let keepable = !directives.private && !directives.no_store;
    let answer = OriginAnswer {
        validator: validator(fields),
        claimed_type: text(fields, header::CONTENT_TYPE, TYPE_BYTES_MAX),
        fresh_for: fresh_for(&directives, fields, now),
        stale_while_revalidate: directives.stale(directives.stale_while_revalidate),
        stale_if_error: directives.stale(directives.stale_if_error),
        shared: keepable && !fields.contains_key(header::SET_COOKIE) && !varies_on_everything(fields),
        tags,
    };
    Reading { answer, tags_dropped }
}

/// `Cache-Control`, as far as it concerns a shared cache. Of a repeated directive the smallest value counts.
#[derive(Default)]
struct Directives {
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    stale_while_revalidate: Option<u64>,
    stale_if_error: Option<u64>,
    no_cache: bool,
    no_store: bool,
    private: bool,
    must_revalidate: bool,
}

impl Directives {
    fn read(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for value in fields.get_all(header::CACHE_CONTROL) {
            split_unquoted(value.as_bytes()).for_each(|directive| directives.take(directive));
        }
        directives
    }

    fn take(&mut self, directive: &[u8]) {
        let text = String::from_utf8_lossy(directive);
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "max-age" => lower(&mut self.max_age, value),
            "s-maxage" => lower(&mut self.s_maxage, value),
            "stale-while-revalidate" => lower(&mut self.stale_while_revalidate, value),
            "stale-if-error" => lower(&mut self.stale_if_error, value),
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "private" => self.private = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            _ => {}
        }
    }

    /// How long it may be used stale: not at all where the answer demands to be revalidated.
    fn stale(&self, seconds: Option<u64>) -> Option<Duration> {
        if self.no_cache || self.must_revalidate {
            return Some(Duration::ZERO);
        }
        seconds.map(Duration::from_secs)
    }
}

/// Keeps the smaller value; one that is no number counts as 0, which is stale (RFC 9111 §4.2.1).
fn lower(kept: &mut Option<u64>, value: &str) {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if digits { value.parse().unwrap_or(SECONDS_MAX).min(SECONDS_MAX) } else { 0 };
    *kept = Some(kept.map_or(seconds, |kept| kept.min(seconds)));
}

/// Splits at commas that stand outside quotes.
fn split_unquoted(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    value.split(move |byte| {
        let plain = !std::mem::take(&mut escaped);
        match byte {
            b'"' if plain => quoted = !quoted,
            b'\\' if plain && quoted => escaped = true,
            _ => {}
        }
        *byte == b',' && !quoted
    })
}

fn fresh_for(directives: &Directives, fields: &HeaderMap, now: Wall) -> Option<Duration> {
    if directives.no_cache || directives.no_store {
        return Some(Duration::ZERO);
    }
    let stated = directives.s_maxage.or(directives.max_age).map(Duration::from_secs);
    let lifetime = stated.or_else(|| expires_in(fields, now))?;
    Some(lifetime.saturating_sub(age(fields)))
}

/// `Expires` less `Date`; what cannot be read has expired (RFC 9111 §5.3).
fn expires_in(fields: &HeaderMap, now: Wall) -> Option<Duration> {
    let expires = fields.get(header::EXPIRES)?;
    let sent = fields.get(header::DATE).and_then(|date| moment(date.as_bytes())).unwrap_or(now);
    let lifetime = moment(expires.as_bytes()).map_or(Duration::ZERO, |expires| expires.since(sent));
    Some(lifetime.min(Duration::from_secs(SECONDS_MAX)))
}

/// The largest `Age`; one that is no number says nothing (RFC 9111 §5.1).
fn age(fields: &HeaderMap) -> Duration {
    let ages =
        fields.get_all(header::AGE).iter().filter_map(|age| age.to_str().ok()?.trim().parse::<u64>().ok());
    Duration::from_secs(ages.max().unwrap_or(0).min(SECONDS_MAX))
}

/// An HTTP date in any of its three forms (RFC 9110 §5.6.7).
fn moment(text: &[u8]) -> Option<Wall> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?.trim()).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Wall(u64::try_from(since.as_millis()).ok()?))
}

fn varies_on_everything(fields: &HeaderMap) -> bool {
    let everything = |value: &[u8]| value.split(|byte| *byte == b',').any(|name| name.trim_ascii() == b"*");
    fields.get_all(header::VARY).iter().any(|value| everything(value.as_bytes()))
}

/// `ETag` and `Last-Modified`, each only when it is well formed, so that it can be sent back.
fn validator(fields: &HeaderMap) -> Validator {
    let etag = text(fields, header::ETAG, ETAG_BYTES_MAX).filter(|etag| well_formed_etag(etag));
    let last_modified =
        text(fields, header::LAST_MODIFIED, 64).filter(|date| moment(date.as_bytes()).is_some());
    Validator { etag, last_modified }
}

/// `"..."` or `W/"..."` without quotes and blanks in it (RFC 9110 §8.8.3).
pub(crate) fn well_formed_etag(etag: &str) -> bool {
    let opaque = etag.strip_prefix("W/").unwrap_or(etag);
    let middle = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    etag.len() <= ETAG_BYTES_MAX
        && middle
            .is_some_and(|middle| middle.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'"'))
}

fn text(fields: &HeaderMap, name: HeaderName, bytes_max: usize) -> Option<String> {
    let value = fields.get(name)?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= bytes_max).then(|| value.to_owned())
}

/// `Surrogate-Key` (separated by blanks) and `Cache-Tag` (by commas), each tag once; and how many were left out.
fn tags(fields: &HeaderMap) -> (Vec<String>, usize) {
    let mut tags: Vec<String> = Vec::new();
    let mut dropped = 0;
    let keys = fields
        .get_all("surrogate-key")
        .iter()
        .flat_map(|value| value.as_bytes().split(u8::is_ascii_whitespace));
    let named =
        fields.get_all("cache-tag").iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for tag in keys.chain(named).map(|tag| tag.trim_ascii()).filter(|tag| !tag.is_empty()) {
        let usable = tag.len() <= TAG_BYTES_MAX && tag.iter().all(|byte| (0x20..0x7f).contains(byte));
        let tag = String::from_utf8_lossy(tag);
        if tags.iter().any(|kept| *kept == tag) {
            continue;
        }
        if usable && tags.len() < TAGS_MAX {
            tags.push(tag.into_owned());
        } else {
            dropped += 1;
        }
    }
    (tags, dropped)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// Tue, 24 Nov 2026 12:00:00 GMT.
    const NOON: Wall = Wall(1_795_521_600_000);

    fn answer(lines: &[(&'static str, &str)]) -> OriginAnswer {
        reading(lines).answer
    }

    fn reading(lines: &[(&'static str, &str)]) -> Reading {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_str(value).unwrap());
        }
        read(&fields, NOON)
    }

    fn fresh(lines: &[(&'static str, &str)]) -> Option<u64> {
        answer(lines).fresh_for.map(|fresh| fresh.as_secs())
    }

    #[test]
    fn freshness_follows_rfc_9111() {
        let cc = "cache-control";
        for (lines, seconds) in [
            (vec![], None),
            (vec![(cc, "public")], None),
            (vec![(cc, "max-age=60")], Some(60)),
            (vec![(cc, "Max-Age=\"60\"")], Some(60)),
            (vec![(cc, "max-age=60, s-maxage=10")], Some(10)),
            (vec![(cc, "s-maxage=100, max-age=10")], Some(100)),
            (vec![(cc, "max-age=60"), (cc, "max-age=30")], Some(30)),
            (vec![(cc, "max-age=60"), ("age", "20")], Some(40)),
            (vec![(cc, "max-age=60"), ("age", "200")], Some(0)),
            (vec![(cc, "max-age=60"), ("age", "soon")], Some(60)),
            (vec![(cc, "max-age=soon")], Some(0)),
            (vec![(cc, "max-age=-1")], Some(0)),
            (vec![(cc, "max-age")], Some(0)),
            (vec![(cc, "max-age=99999999999999999999999")], Some(SECONDS_MAX)),
            (vec![(cc, "no-cache, max-age=60")], Some(0)),
            (vec![(cc, "x=\"a, max-age=5\", max-age=60")], Some(60)),
            (vec![("expires", "Tue, 24 Nov 2026 12:01:00 GMT")], Some(60)),
            (vec![("expires", "Tuesday, 24-Nov-26 12:01:00 GMT")], Some(60)),
            (vec![("expires", "Tue Nov 24 12:01:00 2026")], Some(60)),
            (
                vec![("expires", "Tue, 24 Nov 2026 12:01:00 GMT"), ("date", "Tue, 24 Nov 2026 12:00:30 GMT")],
                Some(30),
            ),
            (vec![("expires", "0")], Some(0)),
            (vec![("expires", "Tue, 24 Nov 2026 11:00:00 GMT")], Some(0)),
            (vec![("expires", "0"), (cc, "max-age=60")], Some(60)),
        ] {
            assert_eq!(fresh(&lines), seconds, "{lines:?}");
        }
    }

    #[test]
    fn stale_use_is_what_the_origin_allows() {
        let stale = |value| {
            let answer = answer(&[("cache-control", value)]);
            (answer.stale_while_revalidate.map(|d| d.as_secs()), answer.stale_if_error.map(|d| d.as_secs()))
        };
        assert_eq!(stale("max-age=1"), (None, None));
        assert_eq!(stale("max-age=1, stale-while-revalidate=5, stale-if-error=9"), (Some(5), Some(9)));
        assert_eq!(stale("max-age=1, stale-if-error=9, must-revalidate"), (Some(0), Some(0)));
        assert_eq!(stale("no-cache"), (Some(0), Some(0)));
    }

    #[test]
    fn what_is_for_one_client_is_not_shared() {
        assert!(answer(&[("cache-control", "public, max-age=5"), ("vary", "accept, cookie")]).shared);
        for (name, value) in [
            ("cache-control", "private"),
            ("cache-control", "max-age=9, Private=\"x, y\""),
            ("cache-control", "no-store"),
            ("set-cookie", "a=b"),
            ("vary", "*"),
            ("vary", "accept , *"),
        ] {
            assert!(!answer(&[(name, value)]).shared, "{name}: {value}");
        }
    }

    #[test]
    fn validators_are_kept_only_when_they_can_be_sent_back() {
        let etag = |value| answer(&[("etag", value)]).validator.etag;
        assert_eq!(etag("\"abc\"").as_deref(), Some("\"abc\""));
        assert_eq!(etag("W/\"abc\"").as_deref(), Some("W/\"abc\""));
        assert_eq!(etag("\"\"").as_deref(), Some("\"\""));
        for bad in ["abc", "\"abc", "\"a\"b\"", "w/\"abc\"", "\"a b\"", "\""] {
            assert_eq!(etag(bad), None, "{bad}");
        }
        assert_eq!(etag(&format!("\"{}\"", "a".repeat(ETAG_BYTES_MAX))), None);
        let modified = |value| answer(&[("last-modified", value)]).validator.last_modified;
        assert!(modified("Tue, 24 Nov 2026 12:01:00 GMT").is_some());
        assert_eq!(modified("yesterday"), None);
    }

    #[test]
    fn tags_are_taken_once_and_up_to_their_limits() {
        let read = reading(&[("surrogate-key", "a b  a"), ("cache-tag", "c d, b ,")]);
        assert_eq!((read.answer.tags, read.tags_dropped), (vec!["a".into(), "b".into(), "c d".into()], 0));

        let many: Vec<String> = (0..TAGS_MAX + 3).map(|number| format!("tag{number}")).collect();
        let read = reading(&[("surrogate-key", &many.join(" "))]);
        assert_eq!((read.answer.tags.len(), read.tags_dropped), (TAGS_MAX, 3));

        let (fits, over) = ("x".repeat(TAG_BYTES_MAX), "y".repeat(TAG_BYTES_MAX + 1));
        let read = reading(&[("cache-tag", &format!("{fits},{over}"))]);
        assert_eq!((read.answer.tags, read.tags_dropped), (vec![fits], 1));
    }

    proptest! {
        #[test]
        fn no_field_breaks_the_reading(control in "[ -~]{0,60}", date in "[ -~]{0,40}") {
            let lines = [("cache-control", control.as_str()), ("expires", &date), ("date", &date), ("age", &date)];
            let answer = answer(&lines);
            prop_assert!(answer.fresh_for.unwrap_or_default() <= Duration::from_secs(SECONDS_MAX));
        }
    }
}
