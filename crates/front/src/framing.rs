//! How long a request's body is (RFC 9112 §6), refusing everything that two readers could read in two ways.

use crate::head::Version;
use crate::refusal::Refusal;

/// How a request's body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// So many bytes; at least one.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// The framing fields of one head.
#[derive(Default)]
pub(crate) struct FramingFields<'b> {
    length: Option<u64>,
    coding: Option<&'b [u8]>,
}

impl<'b> FramingFields<'b> {
    /// Takes a `Content-Length`: digits only, once.
    pub(crate) fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let number = parse_length(value).ok_or(Refusal::Framing)?;
        if self.length.replace(number).is_some() { Err(Refusal::Framing) } else { Ok(()) }
    }

    /// Takes a `Transfer-Encoding`, once.
    pub(crate) fn coding(&mut self, value: &'b [u8]) -> Result<(), Refusal> {
        if self.coding.replace(value).is_some() { Err(Refusal::Framing) } else { Ok(()) }
    }

    /// The framing, where it is beyond doubt.
    pub(crate) fn decide(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.coding, self.length) {
            (None, None | Some(0)) => Ok(Framing::None),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (Some(_), Some(_)) => Err(Refusal::Framing),
            (Some(_), None) if version == Version::Http10 => Err(Refusal::Framing),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (Some(coding), None) if is_other_coding(coding) => Err(Refusal::Coding),
            (Some(_), None) => Err(Refusal::Framing),
        }
    }
}

/// Whether `coding` is one plain word, so that the right answer is that we do not know it (RFC 9112 §6.1).
fn is_other_coding(coding: &[u8]) -> bool {
    !coding.is_empty() && coding.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-')
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_lengths() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", "1 ", "1,1", "0x1", "18446744073709551616", "1_0"] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
