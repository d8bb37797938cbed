//! Text for the page, with units that people read. Knows no part of the page.

use tutti_base::Wall;

/// Bytes, in the unit that fits.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut size = count as f64;
    let mut at = 0;
    while size >= 1024.0 && at + 1 < units.len() {
        size /= 1024.0;
        at += 1;
    }
    if at == 0 { format!("{count} B") } else { format!("{size:.1} {}", units[at]) }
}

/// A number in groups of three.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A span of time, in its two largest units.
pub(super) fn span(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3600 % 24),
    }
}

/// The time of day, in UTC.
pub(super) fn clock(at: Wall) -> String {
    let secs = at.secs() % 86_400;
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(5 << 40)],
            ["0 B", "1023 B", "1.5 kB", "5.0 TB"]
        );
        assert_eq!([number(0), number(999), number(1_234_567)], ["0", "999", "1\u{202f}234\u{202f}567"]);
        assert_eq!(
            [span(59), span(61), span(3_661), span(90_000)],
            ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
        );
        assert_eq!(clock(Wall(1_795_546_059_000)), "18:47:39");
    }
}
