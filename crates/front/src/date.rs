//! The calendar as HTTP and the access log write it, and the line that each thread keeps for the current second.

use tutti_base::Wall;

use crate::text::push_number;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A second of the calendar in UTC.
struct Civil {
    year: u64,
    /// 1 to 12.
    month: u64,
    day: u64,
    /// 0 is Thursday, the first day of 1970.
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// The second `secs` after 1970, by Howard Hinnant's `civil_from_days`
    /// (<https://howardhinnant.github.io/date_algorithms.html>).
    fn of(secs: u64) -> Self {
        let (days, rest) = (secs / 86_400, secs % 86_400);
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            weekday: (days % 7) as usize,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }
}

fn push_two(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

fn push_clock(out: &mut Vec<u8>, civil: &Civil) {
    push_two(out, civil.hour);
    out.push(b':');
    push_two(out, civil.minute);
    out.push(b':');
    push_two(out, civil.second);
}

/// Appends an IMF-fixdate (RFC 9110 §5.6.7).
fn push_http_date(out: &mut Vec<u8>, civil: &Civil) {
    out.extend_from_slice(DAYS[civil.weekday].as_bytes());
    out.extend_from_slice(b", ");
    push_two(out, civil.day);
    out.push(b' ');
    out.extend_from_slice(MONTHS[civil.month as usize - 1].as_bytes());
    out.push(b' ');
    push_number(out, civil.year);
    out.push(b' ');
    push_clock(out, civil);
    out.extend_from_slice(b" GMT");
}

/// Appends an RFC 3339 date and time, without fraction and zone.
fn push_stamp(out: &mut Vec<u8>, civil: &Civil) {
    push_number(out, civil.year);
    out.push(b'-');
    push_two(out, civil.month);
    out.push(b'-');
    push_two(out, civil.day);
    out.push(b'T');
    push_clock(out, civil);
}

/// The texts of the current second, made once a second and thread.
#[derive(Default)]
pub(crate) struct DateLine {
    second: u64,
    /// The whole `Date` field with its line break.
    pub(crate) field: Vec<u8>,
    /// `2026-11-24T18:00:00`.
    pub(crate) stamp: Vec<u8>,
}

impl DateLine {
    /// Makes the texts those of `now`.
    pub(crate) fn update(&mut self, now: Wall) {
        if self.second == now.secs() && !self.field.is_empty() {
            return;
        }
        self.second = now.secs();
        let civil = Civil::of(self.second);
        self.field.clear();
        self.field.extend_from_slice(b"Date: ");
        push_http_date(&mut self.field, &civil);
        self.field.extend_from_slice(b"\r\n");
        self.stamp.clear();
        push_stamp(&mut self.stamp, &civil);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(secs: u64, field: &str, stamp: &str) {
        let mut line = DateLine::default();
        line.update(Wall(secs * 1000));
        assert_eq!(line.field, format!("Date: {field}\r\n").as_bytes());
        assert_eq!(line.stamp, stamp.as_bytes());
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00");
        check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT", "2100-02-28T23:59:59");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00");
    }
}
