//! The part of a kept answer's head that does not change, rendered once and kept with the entry. Reads no clock.

use std::sync::Arc;

use tutti_base::http::Field;
use tutti_cache::Entry;
use tutti_service::Plan;

use crate::text::{push_field, push_number};

/// Hexadecimal digits of the body's hash in an `ETag`: 128 bits.
const TAG_DIGITS: usize = 32;

/// A rendered head, up to and without `Date`, and what it was made of beside the entry.
pub(crate) struct Face {
    /// `HTTP/1.1 200 OK` and every constant field, each line ended.
    pub(crate) head: Vec<u8>,
    /// Where the fields begin that a 206 has too.
    shared_at: usize,
    /// Where the fields begin that a 304 has too.
    validators_at: usize,
    /// The strong tag in its quotes.
    pub(crate) etag: String,
    vary: Option<&'static str>,
    fields: Vec<Field>,
    expires: Option<tutti_base::Wall>,
}

impl Face {
    /// Calls `then` with the face that `entry` has for `plan`: the kept one, or a fresh one where another plan's is
    /// kept (two plans may share bytes and differ in what they say of them).
    pub(crate) fn with<T>(entry: &Arc<Entry>, plan: &Plan, then: impl FnOnce(&Face) -> T) -> T {
        let kept = entry.face.get_or_init(|| Box::new(Self::render(entry, plan)));
        match kept.downcast_ref::<Self>() {
            Some(face) if face.fits(plan) => then(face),
            _ => then(&Self::render(entry, plan)),
        }
    }

    fn fits(&self, plan: &Plan) -> bool {
        self.vary == plan.vary && self.expires == plan.expires && self.fields == plan.fields
    }

    fn render(entry: &Entry, plan: &Plan) -> Self {
        let mut head = b"HTTP/1.1 200 OK\r\nContent-Length: ".to_vec();
        push_number(&mut head, entry.body.len());
        head.extend_from_slice(b"\r\n");
        let shared_at = head.len();
        push_field(
            &mut head,
            "Content-Type",
            clean(&entry.meta.content_type, "application/octet-stream").as_bytes(),
        );
        head.extend_from_slice(b"Accept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n");
        let of_bytes = entry
            .meta
            .fields
            .iter()
            .filter(|(name, _)| !plan.fields.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
        push_fields(&mut head, of_bytes.chain(&plan.fields));
        let validators_at = head.len();
        let etag = format!("\"{}\"", &entry.meta.hash.hex()[..TAG_DIGITS]);
        push_field(&mut head, "ETag", etag.as_bytes());
        push_lifetime(&mut head, entry, plan);
        if let Some(vary) = plan.vary {
            push_field(&mut head, "Vary", vary.as_bytes());
        }
        head.shrink_to_fit();
        Self {
            head,
            shared_at,
            validators_at,
            etag,
            vary: plan.vary,
            fields: plan.fields.clone(),
            expires: plan.expires,
        }
    }

    /// The fields that a 206 has too.
    pub(crate) fn shared(&self) -> &[u8] {
        &self.head[self.shared_at..]
    }

    /// The fields that a 304 has too (RFC 9110 §15.4.5).
    pub(crate) fn validators(&self) -> &[u8] {
        &self.head[self.validators_at..]
    }
}

/// `max-age` is the whole lifetime: `Age` says what of it is gone. A URL that expires bounds it.
fn push_lifetime(head: &mut Vec<u8>, entry: &Entry, plan: &Plan) {
    let binding = &entry.binding;
    let until = plan.expires.map_or(binding.fresh_until, |expires| binding.fresh_until.min(expires));
    head.extend_from_slice(b"Cache-Control: public, max-age=");
    push_number(head, until.since(binding.stored_at).as_secs());
    let stale = binding.revalidate_until.since(binding.fresh_until).as_secs();
    if stale > 0 && plan.expires.is_none() {
        head.extend_from_slice(b", stale-while-revalidate=");
        push_number(head, stale);
    }
    head.extend_from_slice(b"\r\n");
}

/// Appends `fields`, less those that are malformed or that only the front may send.
pub(crate) fn push_fields<'f>(head: &mut Vec<u8>, fields: impl Iterator<Item = &'f Field>) {
    for (name, value) in fields {
        if is_allowed(name) && is_value(value) {
            push_field(head, name, value.as_bytes());
        }
    }
}

/// `value` where it may stand in a head, else `otherwise`.
pub(crate) fn clean<'v>(value: &'v str, otherwise: &'v str) -> &'v str {
    if is_value(value) && !value.is_empty() { value } else { otherwise }
}

fn is_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

/// Names that a service may not set: framing, the connection, and what the front says itself.
fn is_allowed(name: &str) -> bool {
    const OURS: [&str; 18] = [
        "accept-ranges",
        "age",
        "cache-control",
        "cache-status",
        "connection",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "etag",
        "keep-alive",
        "request-id",
        "server-timing",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
    ];
    let is_token = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    is_token && !OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_could_break_a_head_are_left_out() {
        let fields: Vec<Field> = [
            ("Content-Disposition", "inline"),
            ("X-A", "b\r\nX-B: c"),
            ("Transfer-Encoding", "chunked"),
            ("content-length", "3"),
            ("X C", "d"),
            ("", "e"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let mut head = Vec::new();
        push_fields(&mut head, fields.iter());
        assert_eq!(head, b"Content-Disposition: inline\r\n");
        assert_eq!(clean("a\nb", "c"), "c");
    }
}
