//! Writing numbers and short texts into byte buffers without allocation. Knows nothing of HTTP.

/// Appends `value` in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` as 16 hexadecimal digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0_u8; 16];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(value >> (60 - 4 * at)) as usize & 15];
    }
    out.extend_from_slice(&text);
}

/// Appends microseconds as milliseconds with two digits after the point.
pub(crate) fn push_millis(out: &mut Vec<u8>, micros: u64) {
    push_number(out, micros / 1000);
    let rest = (micros % 1000) / 10;
    out.extend_from_slice(&[b'.', b'0' + (rest / 10) as u8, b'0' + (rest % 10) as u8]);
}

/// Appends `name: value` and a line break.
pub(crate) fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_format_writes_them() {
        for value in [0, 1, 9, 10, 12345, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
            out.clear();
            push_hex(&mut out, value);
            assert_eq!(out, format!("{value:016x}").as_bytes());
        }
        let mut out = Vec::new();
        push_millis(&mut out, 12_349);
        assert_eq!(out, b"12.34");
    }
}
