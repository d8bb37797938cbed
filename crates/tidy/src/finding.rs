//! What a rule complains of, and how that is shown. Decides nothing.

use std::fmt;

/// One breach of one rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Where: `path`, or `path:line`.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl Finding {
    /// A breach at `place`.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
    /// A breach at a line, counted from 1.
    pub fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Fails the test that calls it, if anything was found: names the rule, every place, and the way out.
///
/// # Panics
/// When `found` is not empty; that is its purpose.
pub fn report(rule: &str, way_out: &str, found: &[Finding]) {
    let places: Vec<String> = found.iter().map(|f| format!("  {f}")).collect();
    assert!(found.is_empty(), "\nrule: {rule}\n{}\nway out: {way_out}\n", places.join("\n"));
}
