//! The arguments of one option: how many there are, and numbers and words read as imgproxy (that is, Go) reads them.

use tutti_base::{Kind, Problem};

use super::known::shorten;

/// One option of a URL or of a preset: a name and at least one argument, which may be empty.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Call<'a> {
    /// The name as it was written.
    pub name: &'a str,
    /// The arguments.
    pub args: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// Reads `name:arg:…`; `None` when there is no `:`, which is where a source begins.
    pub(super) fn read(segment: &'a str) -> Option<Self> {
        let (name, args) = segment.split_once(':')?;
        Some(Self { name, args: args.split(':').collect() })
    }

    /// The same option with the arguments from `at` on; `None` when there is none at `at`, or it is empty.
    pub(super) fn given_from(&self, at: usize) -> Option<Self> {
        self.given(at)?;
        Some(Self { name: self.name, args: self.args[at..].to_vec() })
    }

    /// The argument at `at`, if it is there and not empty: an empty argument keeps what was set before.
    pub(super) fn given(&self, at: usize) -> Option<&'a str> {
        self.args.get(at).copied().filter(|arg| !arg.is_empty())
    }

    /// Refuses more than `most` arguments.
    pub(super) fn at_most(&self, most: usize) -> Result<&Self, Problem> {
        let found = self.args.len();
        if found <= most {
            return Ok(self);
        }
        let detail = format!("option `{}` takes at most {most} arguments, not {found}", self.name);
        Err(Problem::new(Kind::NotFound, detail).about(self.name.to_owned()))
    }

    /// The one argument.
    pub(super) fn only(&self) -> Result<&'a str, Problem> {
        self.at_most(1).map(|call| call.args[0])
    }

    /// A refusal of `arg`.
    pub(super) fn wrong(&self, arg: &str, expected: &str) -> Problem {
        let arg = shorten(arg);
        let detail = format!("option `{}` has the argument `{arg}`, which is not {expected}", self.name);
        Problem::new(Kind::NotFound, detail).about(self.name.to_owned())
    }

    /// A whole number of 0 or more; what no picture can reach is read as [`u32::MAX`].
    pub(super) fn count(&self, arg: &str) -> Result<u32, Problem> {
        let number = arg.parse::<i64>().ok().filter(|number| *number >= 0);
        let number = number.ok_or_else(|| self.wrong(arg, "a whole number of 0 or more"))?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A quality of 0 (keeps the default) to 100.
    pub(super) fn quality(&self, arg: &str) -> Result<u8, Problem> {
        let number = arg.parse::<i64>().ok().filter(|number| (0..=100).contains(number));
        number.map(|number| number as u8).ok_or_else(|| self.wrong(arg, "a whole number from 0 to 100"))
    }

    /// A finite number.
    pub(super) fn number(&self, arg: &str) -> Result<f64, Problem> {
        finite(arg).ok_or_else(|| self.wrong(arg, "a number"))
    }

    /// A finite number of 0 or more.
    pub(super) fn not_negative(&self, arg: &str) -> Result<f64, Problem> {
        finite(arg).filter(|number| *number >= 0.0).ok_or_else(|| self.wrong(arg, "a number of 0 or more"))
    }

    /// A finite number above 0.
    pub(super) fn positive(&self, arg: &str) -> Result<f64, Problem> {
        finite(arg).filter(|number| *number > 0.0).ok_or_else(|| self.wrong(arg, "a number above 0"))
    }
}

/// Go's `ParseBool`; every other word counts as false.
pub(super) fn flag(arg: &str) -> bool {
    matches!(arg, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// Three or six hexadecimal digits.
pub(super) fn hex_color(arg: &str) -> Option<[u8; 3]> {
    let digits: Vec<u8> =
        arg.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    match digits[..] {
        [r, g, b] => Some([r * 17, g * 17, b * 17]),
        [r, r2, g, g2, b, b2] => Some([r << 4 | r2, g << 4 | g2, b << 4 | b2]),
        _ => None,
    }
}

/// One channel of a colour: digits only.
pub(super) fn channel(arg: &str) -> Option<u8> {
    arg.bytes().all(|digit| digit.is_ascii_digit()).then(|| arg.parse().ok()).flatten()
}

/// What overflows is refused as Go refuses it; `nan` and `inf`, which Go lets pass, are refused too. Minus zero is zero.
fn finite(arg: &str) -> Option<f64> {
    arg.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arg: &str) -> Call<'_> {
        Call { name: "x", args: vec![arg] }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        let counts =
            [("5", Some(5)), ("+5", Some(5)), ("-0", Some(0)), ("4294967296", Some(u32::MAX)), ("-1", None)];
        for (arg, wanted) in counts {
            assert_eq!(call(arg).count(arg).ok(), wanted, "{arg}");
        }
        for arg in ["", " 5", "5.0", "0x5", "1_000", "9223372036854775808", "5a"] {
            assert!(call(arg).count(arg).is_err(), "{arg}");
        }
        for (arg, wanted) in
            [("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e2", 100.0), ("+2", 2.0), ("-1", -1.0)]
        {
            assert_eq!(call(arg).number(arg).ok(), Some(wanted), "{arg}");
        }
        for arg in ["", "nan", "NaN", "inf", "-Infinity", "1e400", "1,5", "1 "] {
            assert!(call(arg).number(arg).is_err(), "{arg}");
        }
        assert!(call("-0").not_negative("-0").unwrap().is_sign_positive());
        assert!(call("0").positive("0").is_err());
    }

    #[test]
    fn words_and_colours_are_read_as_go_reads_them() {
        assert!(["1", "t", "T", "TRUE", "true", "True"].into_iter().all(flag));
        assert!(!["0", "f", "false", "yes", "on", "", "tRUE", "2"].into_iter().any(flag));
        assert_eq!(hex_color("fff"), Some([255; 3]));
        assert_eq!(hex_color("0a0B0c"), Some([10, 11, 12]));
        for arg in ["", "ff", "ffff", "#fff", "ggg", "fffffff"] {
            assert_eq!(hex_color(arg), None, "{arg}");
        }
        assert_eq!(
            (channel("255"), channel("256"), channel("+5"), channel("")),
            (Some(255), None, None, None)
        );
    }
}
