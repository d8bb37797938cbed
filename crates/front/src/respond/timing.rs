//! `Server-Timing`: how long the parts of the journey took, which node made the bytes, and why that one. Reads no clock.

use std::time::Duration;

use tutti_cache::Entry;
use tutti_flow::{Timing, Whence};

use crate::text::push_millis;

/// Most bytes of one description; what is longer is cut.
const DESC_MAX: usize = 256;

/// The field of what was made for this answer: each part, the whole, and whence it is.
pub(super) fn push_timing(head: &mut Vec<u8>, timing: &Timing, whence: &Whence, total: Duration) {
    head.extend_from_slice(b"Server-Timing: ");
    for (name, took) in &timing.0 {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b";dur=");
        push_millis(head, took.as_micros() as u64);
        head.extend_from_slice(b", ");
    }
    head.extend_from_slice(b"total;dur=");
    push_millis(head, total.as_micros() as u64);
    push_whence(head, whence.maker.as_deref(), whence);
    head.extend_from_slice(b"\r\n");
}

/// The field of a hit, which has no parts. Its maker is kept with the bytes.
pub(super) fn push_hit_timing(head: &mut Vec<u8>, whence: &Whence, entry: &Entry) {
    head.extend_from_slice(b"Server-Timing: cache;desc=hit");
    push_whence(head, whence.maker.as_deref().or(entry.meta.maker.as_deref()), whence);
    head.extend_from_slice(b"\r\n");
}

fn push_whence(head: &mut Vec<u8>, maker: Option<&str>, whence: &Whence) {
    let (why, through) = (whence.why.as_deref(), whence.through.as_deref());
    for (name, text) in [("made", maker), ("why", why), ("through", through)] {
        if let Some(text) = text {
            head.extend_from_slice(b", ");
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b";desc=");
            push_quoted(head, text);
        }
    }
}

/// A quoted-string (RFC 9110 section 5.6.4) of what is printable ASCII in `text`; anything else becomes `?`.
fn push_quoted(head: &mut Vec<u8>, text: &str) {
    head.push(b'"');
    for letter in text.chars().take(DESC_MAX) {
        match letter {
            '"' | '\\' => head.extend_from_slice(&[b'\\', letter as u8]),
            ' '..='~' => head.push(letter as u8),
            _ => head.push(b'?'),
        }
    }
    head.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(whence: &Whence) -> String {
        let mut head = Vec::new();
        let timing = Timing(vec![("run", Duration::from_micros(1500))]);
        push_timing(&mut head, &timing, whence, Duration::from_millis(2));
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn whence_stands_behind_the_times_and_only_what_is_known() {
        let times = "Server-Timing: run;dur=1.50, total;dur=2.00";
        assert_eq!(field(&Whence::default()), format!("{times}\r\n"));
        let whence = Whence {
            maker: Some("two".into()),
            why: Some("fastest, 12 ms".into()),
            through: Some("three".into()),
        };
        let known = r#", made;desc="two", why;desc="fastest, 12 ms", through;desc="three""#;
        assert_eq!(field(&whence), format!("{times}{known}\r\n"));
    }

    #[test]
    fn a_description_cannot_break_out_of_its_quotes_or_its_line_and_has_an_end() {
        let mut head = Vec::new();
        push_quoted(&mut head, "a\"b\\c\r\nX: \u{e9}\u{7f}");
        assert_eq!(head, br#""a\"b\\c??X: ??""#);
        head.clear();
        push_quoted(&mut head, &"x".repeat(DESC_MAX + 1));
        assert_eq!(head.len(), DESC_MAX + 2);
    }
}
