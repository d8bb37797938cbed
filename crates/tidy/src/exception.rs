//! Exceptions to rules: data with a reason, and themselves held to be needed. Decides nothing else.

use crate::Finding;

/// A place where a rule does not hold, and why.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// A path from the root of the checkout; a folder ends with `/`.
    pub place: &'static str,
    /// Why it has to be so.
    pub reason: &'static str,
}

impl Exception {
    /// Shorthand for tables.
    pub const fn of(place: &'static str, reason: &'static str) -> Self {
        Self { place, reason }
    }
    /// Whether `path` lies in this place.
    pub fn covers(&self, path: &str) -> bool {
        if self.place.ends_with('/') { path.starts_with(self.place) } else { path == self.place }
    }
}

/// Takes out the findings that `table` excuses, and adds one for each exception that excuses nothing.
pub fn apply(found: Vec<Finding>, table: &[Exception]) -> Vec<Finding> {
    let path = |f: &Finding| f.place.split(':').next().unwrap_or_default().to_owned();
    let unneeded: Vec<Finding> = table
        .iter()
        .filter(|e| !found.iter().any(|f| e.covers(&path(f))))
        .map(|e| Finding::new(e.place, "this exception is no longer needed; take it out of the table"))
        .collect();
    let mut left: Vec<Finding> =
        found.into_iter().filter(|f| !table.iter().any(|e| e.covers(&path(f)))).collect();
    left.extend(unneeded);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_excuses_its_place_and_must_be_needed() {
        let found = vec![Finding::at("a/b.rs", 3, "x"), Finding::at("a/c.rs", 1, "x")];
        let left = apply(found.clone(), &[Exception::of("a/b.rs", "r")]);
        assert_eq!(left, [found[1].clone()]);
        assert!(apply(found.clone(), &[Exception::of("a/", "r")]).is_empty());
        let left = apply(found, &[Exception::of("a/", "r"), Exception::of("z/", "r")]);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].place, "z/");
    }
}
