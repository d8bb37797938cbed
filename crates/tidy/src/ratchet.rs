//! The ratchet: what is over a wall today, with its size. It may shrink and never grow.

use crate::Finding;

/// Something measured against a wall.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measure {
    /// `fn PATH NAME` or `file PATH`: how the line in the ratchet begins.
    pub key: String,
    /// Its lines.
    pub lines: usize,
}

/// Compares all measures with a wall and the exceptions in `text`, the file of the ratchet (only lines that begin with `kind`).
pub fn compare(kind: &str, wall: usize, measures: &[Measure], text: &str) -> Vec<Finding> {
    let entries: Vec<(String, usize)> = entries(text).filter(|(k, _)| k.starts_with(kind)).collect();
    let over = measures.iter().filter(|m| m.lines > wall);
    let mut found: Vec<Finding> = over.filter_map(|m| judge(m, wall, &entries)).collect();
    for (key, _) in &entries {
        if !measures.iter().any(|m| m.key == *key && m.lines > wall) {
            found.push(Finding::new(
                "crates/tidy/ratchet.txt",
                format!("`{key}` is within the wall now: take its line out"),
            ));
        }
    }
    found
}

fn judge(measure: &Measure, wall: usize, entries: &[(String, usize)]) -> Option<Finding> {
    let Measure { key, lines } = measure;
    match entries.iter().find(|(k, _)| k == key).map(|(_, allowed)| *allowed) {
        None => Some(Finding::new(key.clone(), format!("{lines} lines, the wall is {wall}"))),
        Some(allowed) if *lines > allowed => Some(Finding::new(
            key.clone(),
            format!("grew from {allowed} to {lines} lines, and may only shrink"),
        )),
        Some(allowed) if *lines < allowed => Some(Finding::new(
            "crates/tidy/ratchet.txt",
            format!("`{key}` shrank: change its line to `{key} {lines}`"),
        )),
        Some(_) => None,
    }
}

/// The lines `KEY LINES`; `#` begins a comment.
fn entries(text: &str) -> impl Iterator<Item = (String, usize)> + '_ {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.filter_map(|l| {
        let (key, number) = l.rsplit_once(' ')?;
        Some((key.to_owned(), number.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: usize, text: &str) -> Vec<Finding> {
        compare("fn", 70, &[Measure { key: "fn a.rs f".into(), lines }], text)
    }

    #[test]
    fn an_entry_may_shrink_and_never_grow() {
        assert!(check(70, "").is_empty());
        assert_eq!(check(71, "").len(), 1, "over the wall without an entry");
        assert!(check(80, "# why\nfn a.rs f 80\n").is_empty());
        assert_eq!(check(81, "fn a.rs f 80").len(), 1, "it grew");
        assert_eq!(check(79, "fn a.rs f 80").len(), 1, "it shrank and the entry must follow");
        assert_eq!(check(60, "fn a.rs f 80").len(), 1, "the entry is needless");
        assert!(check(60, "file b.rs 800").is_empty(), "other kinds are left alone");
    }
}
