//! Percent-encoding (RFC 3986 §2.1): one strict decoding pass, and encoding of what a URL may not hold.

/// Decodes every `%XX` once; `None` when a `%` is not followed by two hexadecimal digits or the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' { hex(bytes.next()?)? << 4 | hex(bytes.next()?)? } else { byte });
    }
    String::from_utf8(out).ok()
}

/// Decodes every valid `%XX` once and leaves the rest as it is: what a careless server would see.
pub(crate) fn decode_lossy(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1).zip(bytes.get(at + 2)).and_then(|(&a, &b)| hex(a).zip(hex(b)));
        match pair {
            Some((high, low)) if bytes[at] == b'%' => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// Appends `text` to `out`, with every byte for which `keep` is false written as `%XX`.
pub(crate) fn encode(text: &str, keep: impl Fn(u8) -> bool, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// Whether `text` has a valid `%XX` at byte `at`.
pub(crate) fn is_escape(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    bytes.get(at) == Some(&b'%')
        && [at + 1, at + 2].iter().all(|&at| bytes.get(at).is_some_and(|&digit| hex(digit).is_some()))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_is_decoded_and_broken_escapes_are_refused() {
        assert_eq!(decode("a%20b%2525+"), Some("a b%25+".into()));
        for broken in ["%", "%2", "%zz", "a%g0", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
        assert_eq!(decode_lossy("%2e%2E/%zz%"), b"../%zz%");
    }
}
