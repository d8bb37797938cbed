//! Preconditions and ranges (RFC 9110 §13, §14): which part of an answer, if any, is sent. Pure.
//!
//! Answers carry a strong `ETag` and no `Last-Modified`, so that the two dated conditions are ignored, as §13.1.3 and
//! §13.1.4 want it.

use std::borrow::Cow;

use crate::head::{Conditions, RequestHead, Verb};

/// The conditional fields of one request; several lines of one name are joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preconditions<'a> {
    if_match: Option<Cow<'a, [u8]>>,
    if_none_match: Option<Cow<'a, [u8]>>,
    range: Option<Cow<'a, [u8]>>,
    if_range: Option<Cow<'a, [u8]>>,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Portion {
    /// All of it, 200.
    Whole,
    /// 206 with so many bytes from there.
    Part { first: u64, len: u64 },
    /// 304
    NotModified,
    /// 412
    Failed,
    /// 416
    Unsatisfiable,
}

impl<'a> Preconditions<'a> {
    /// Those of a request.
    pub(crate) fn of(head: &'a RequestHead<'_, '_>) -> Self {
        if head.conditions == Conditions::None {
            return Self::default();
        }
        Self {
            if_match: joined(head, "if-match"),
            if_none_match: joined(head, "if-none-match"),
            range: joined(head, "range"),
            if_range: joined(head, "if-range"),
        }
    }

    /// The same, independent of the request's bytes.
    pub(crate) fn into_owned(self) -> Preconditions<'static> {
        let own = |value: Option<Cow<'a, [u8]>>| value.map(|value| Cow::Owned(value.into_owned()));
        Preconditions {
            if_match: own(self.if_match),
            if_none_match: own(self.if_none_match),
            range: own(self.range),
            if_range: own(self.if_range),
        }
    }

    /// What is sent of a body with this strong `etag` (quoted) and length, in the order of RFC 9110 §13.2.2.
    pub(crate) fn decide(&self, etag: &[u8], len: u64, verb: Verb) -> Portion {
        if self.if_match.as_ref().is_some_and(|list| !names(list, etag, Comparison::Strong)) {
            return Portion::Failed;
        }
        if self.if_none_match.as_ref().is_some_and(|list| names(list, etag, Comparison::Weak)) {
            return Portion::NotModified;
        }
        let (Some(range), Verb::Get) = (&self.range, verb) else {
            return Portion::Whole;
        };
        if self.if_range.as_ref().is_some_and(|tag| tag.trim_ascii() != etag) {
            return Portion::Whole;
        }
        portion(range, len)
    }
}

fn joined<'a>(head: &'a RequestHead<'_, '_>, name: &'a str) -> Option<Cow<'a, [u8]>> {
    let mut values = head.all(name);
    let first = values.next()?;
    let mut joined = Cow::Borrowed(first);
    for value in values {
        joined.to_mut().extend_from_slice(b", ");
        joined.to_mut().extend_from_slice(value);
    }
    Some(joined)
}

/// How entity tags are compared (RFC 9110 §8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether the list names `etag`, which is strong. A malformed list names what stands before its first error.
fn names(list: &[u8], etag: &[u8], comparison: Comparison) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let Some(opened) = quoted.strip_prefix(b"\"") else { return false };
        let Some(end) = memchr::memchr(b'"', opened) else { return false };
        let tag = &quoted[..end + 2];
        if tag == etag && !(weak && comparison == Comparison::Strong) {
            return true;
        }
        let after = quoted[end + 2..].trim_ascii_start();
        rest = match after.strip_prefix(b",") {
            Some(more) => more.trim_ascii_start(),
            None => return false,
        };
    }
    false
}

/// The part that a `Range` asks for. Several parts, other units and malformed values get the whole (§14.2).
fn portion(range: &[u8], len: u64) -> Portion {
    let unit = range.get(..6).is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes="));
    let spec = if unit { range[6..].trim_ascii() } else { return Portion::Whole };
    let Some(dash) = memchr::memchr(b'-', spec) else { return Portion::Whole };
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Portion::Whole,
        (Some(first), _) if first >= len && (last.is_empty() || number(last).is_some()) => {
            Portion::Unsatisfiable
        }
        (Some(first), Some(last)) => Portion::Part { first, len: last.min(len - 1) - first + 1 },
        (Some(first), None) if last.is_empty() => Portion::Part { first, len: len - first },
        (None, Some(0)) if first.is_empty() => Portion::Unsatisfiable,
        (None, Some(_)) if first.is_empty() && len == 0 => Portion::Unsatisfiable,
        (None, Some(last)) if first.is_empty() => {
            Portion::Part { first: len - last.min(len), len: last.min(len) }
        }
        _ => Portion::Whole,
    }
}

/// Digits alone; what does not fit counts as the largest number.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &[u8] = b"\"abc\"";

    #[track_caller]
    fn check(field: &str, value: &str, want: Portion) {
        let value = Some(Cow::Borrowed(value.as_bytes()));
        let mut conditions = Preconditions::default();
        match field {
            "if-match" => conditions.if_match = value,
            "if-none-match" => conditions.if_none_match = value,
            _ => conditions.range = value,
        }
        assert_eq!(conditions.decide(TAG, 10, Verb::Get), want);
    }

    #[test]
    fn tags_are_compared_weakly_for_none_match_and_strongly_for_match() {
        for list in ["\"abc\"", "W/\"abc\"", "*", "\"x,y\", \"abc\"", "\"x\" ,W/\"abc\""] {
            check("if-none-match", list, Portion::NotModified);
        }
        for list in ["\"ab\"", "abc", "\"abc", "", "\"x\" \"abc\""] {
            check("if-none-match", list, Portion::Whole);
        }
        check("if-match", "W/\"abc\"", Portion::Failed);
        check("if-match", "\"abc\"", Portion::Whole);
        check("if-match", "*", Portion::Whole);
        check("if-match", "\"old\"", Portion::Failed);
    }

    #[test]
    fn ranges_are_single_and_bounded() {
        let part = |first, len| Portion::Part { first, len };
        check("range", "bytes=0-0", part(0, 1));
        check("range", "BYTES=2-", part(2, 8));
        check("range", "bytes=-3", part(7, 3));
        check("range", "bytes=-30", part(0, 10));
        check("range", "bytes=5-99999999999999999999999", part(5, 5));
        for none in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999999-"] {
            check("range", none, Portion::Unsatisfiable);
        }
        for whole in [
            "bytes=",
            "bytes=-",
            "bytes=3-1",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=a-b",
            "bytes=1-x",
            "bytes",
        ] {
            check("range", whole, Portion::Whole);
        }
    }

    #[test]
    fn a_range_of_another_body_or_for_head_is_ignored() {
        let conditions = Preconditions {
            range: Some(Cow::Borrowed(b"bytes=0-0")),
            if_range: Some(Cow::Borrowed(b"\"old\"")),
            ..Preconditions::default()
        };
        assert_eq!(conditions.decide(TAG, 10, Verb::Get), Portion::Whole);
        let conditions = Preconditions { if_range: Some(Cow::Borrowed(TAG)), ..conditions };
        assert_eq!(conditions.decide(TAG, 10, Verb::Get), Portion::Part { first: 0, len: 1 });
        assert_eq!(conditions.decide(TAG, 10, Verb::Head), Portion::Whole);
    }
}
