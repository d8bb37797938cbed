//! The paths (`a::b::c`) that a file names: imports expanded, and those inside expressions. Resolves nothing.

use crate::RustSource;
use crate::rust_source::is_ident;

/// One path and the line it stands on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Counted from 1.
    pub line: usize,
    /// Segments joined with `::`.
    pub path: String,
}

impl Named {
    /// Whether it is `prefix` or lies below it.
    pub fn is_below(&self, prefix: &str) -> bool {
        self.path == prefix || self.path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::"))
    }
    /// Whether its last segments are `ending`.
    pub fn ends_with(&self, ending: &str) -> bool {
        self.path == ending || self.path.strip_suffix(ending).is_some_and(|rest| rest.ends_with("::"))
    }
}

/// Every path of two or more segments in the code of `source`, with the trees of its imports expanded.
pub fn named(source: &RustSource) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    let code = &source.code;
    while at < code.len() {
        if !is_ident(code[at]) {
            at += 1;
            continue;
        }
        let end = path_end(code, at);
        let path: String = code[at..end].iter().filter(|c| !c.is_whitespace()).collect();
        if path == "use" {
            let stop = (end..code.len()).find(|&i| code[i] == ';').unwrap_or(code.len());
            expand(source, end, stop, &mut found);
            at = stop;
        } else {
            if path.contains("::") {
                found.push(Named { line: source.line(at), path });
            }
            at = end;
        }
    }
    found
}

/// The end of the path that begins at `at`: identifiers joined by `::`.
fn path_end(code: &[char], at: usize) -> usize {
    let mut end = (at..code.len()).find(|&i| !is_ident(code[i])).unwrap_or(code.len());
    while code.get(end) == Some(&':') && code.get(end + 1) == Some(&':') {
        let from = end + 2;
        let next = (from..code.len()).find(|&i| !is_ident(code[i])).unwrap_or(code.len());
        if next == from {
            break;
        }
        end = next;
    }
    end
}

/// Expands the tree of a `use` between `from` and `to`: one path for each leaf.
fn expand(source: &RustSource, from: usize, to: usize, found: &mut Vec<Named>) {
    let mut prefixes: Vec<String> = vec![String::new()];
    let mut segment = String::new();
    let mut leaf_at = from;
    for at in from..=to.min(source.code.len() - 1) {
        let c = source.code[at];
        match c {
            '{' => {
                let outer = prefixes.last().cloned().unwrap_or_default();
                prefixes.push(format!("{outer}{segment}"));
                segment.clear();
            }
            ',' | '}' | ';' => {
                let prefix = prefixes.last().cloned().unwrap_or_default();
                push_leaf(source.line(leaf_at), &prefix, &segment, found);
                segment.clear();
                if c == '}' {
                    prefixes.pop();
                }
            }
            c if c.is_whitespace() => {
                if !segment.is_empty() {
                    segment.push(' ');
                }
            }
            c => {
                if segment.is_empty() {
                    leaf_at = at;
                }
                segment.push(c);
            }
        }
    }
}

fn push_leaf(line: usize, prefix: &str, segment: &str, found: &mut Vec<Named>) {
    let name = segment.split(" as ").next().unwrap_or_default().trim();
    if name.is_empty() {
        return;
    }
    let path = format!("{prefix}{name}").trim_end_matches("::self").to_owned();
    found.push(Named { line, path });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_expanded_and_expressions_read() {
        let text = "use std::{fs, time::{Duration, Instant as I}, io::{self, Read}};\nfn f() { std::env::var(x); a::b(); }";
        let paths: Vec<String> = named(&RustSource::scan("a.rs", text)).into_iter().map(|n| n.path).collect();
        let expected = [
            "std::fs",
            "std::time::Duration",
            "std::time::Instant",
            "std::io",
            "std::io::Read",
            "std::env::var",
            "a::b",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_path_is_compared_by_whole_segments() {
        let named = |path: &str| Named { line: 1, path: path.into() };
        assert!(named("std::fs::File").is_below("std::fs"));
        assert!(!named("std::fsx").is_below("std::fs"));
        assert!(named("std::time::Instant::now").ends_with("Instant::now"));
        assert!(!named("MyInstant::now").ends_with("Instant::now"));
    }
}
