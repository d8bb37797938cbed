//! How files, functions and names look: openings, walls by ratchet, words that say nothing.

use crate::ratchet::{self, Measure};
use crate::rust_source::Word;
use crate::{Finding, RustSource};

/// Lines of a function, from its `fn` to its closing brace.
pub const FUNCTION_WALL: usize = 70;

/// Lines of a file; past 500 a reader asks why.
pub const FILE_WALL: usize = 600;

/// Words that say nothing of a type.
const EMPTY_WORDS: [&str; 3] = ["Manager", "Helper", "Util"];

/// File names that say nothing of what is inside.
const EMPTY_FILES: [&str; 6] = ["mod.rs", "util.rs", "utils.rs", "helper.rs", "helpers.rs", "common.rs"];

/// Files that do not open with `//!`.
pub fn openings(rust: &[RustSource]) -> Vec<Finding> {
    let silent = rust.iter().filter(|s| !s.text.starts_with("//! "));
    silent.map(|s| Finding::at(&s.path, 1, "does not open with `//!`")).collect()
}

/// Files whose names say nothing.
pub fn file_names<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    paths
        .filter(|p| EMPTY_FILES.contains(&name(p).as_str()))
        .map(|p| Finding::new(p, "this file name says nothing of what is inside"))
        .collect()
}

/// Types whose names hold an empty word.
pub fn type_names(rust: &[RustSource]) -> Vec<Finding> {
    rust.iter().flat_map(|s| empty_names(s, &s.words())).collect()
}

fn empty_names(source: &RustSource, words: &[Word]) -> Vec<Finding> {
    let introduces = ["struct", "enum", "trait", "type", "union"];
    let declared = words.windows(2).filter(|w| introduces.contains(&w[0].text.as_str()));
    declared
        .filter(|w| EMPTY_WORDS.iter().any(|e| w[1].text.contains(e)))
        .map(|w| Finding::at(&source.path, source.line(w[1].at), format!("type name `{}`", w[1].text)))
        .collect()
}

/// Functions over the wall, against the ratchet.
pub fn function_lengths(rust: &[RustSource], ratchet: &str) -> Vec<Finding> {
    let measures: Vec<Measure> = rust.iter().flat_map(function_measures).collect();
    ratchet::compare("fn ", FUNCTION_WALL, &measures, ratchet)
}

fn function_measures(source: &RustSource) -> Vec<Measure> {
    let functions = source.functions().into_iter();
    functions.map(|f| Measure { key: format!("fn {} {}", source.path, f.name), lines: f.length }).collect()
}

/// Files over the wall, against the ratchet.
pub fn file_lengths(rust: &[RustSource], ratchet: &str) -> Vec<Finding> {
    let measures: Vec<Measure> = rust
        .iter()
        .map(|s| Measure { key: format!("file {}", s.path), lines: s.text.lines().count() })
        .collect();
    ratchet::compare("file ", FILE_WALL, &measures, ratchet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_file_an_empty_name_and_a_long_function_are_found() {
        let long = format!("//! x\nstruct CacheManager;\nfn f() {{\n{}}}\n", "a();\n".repeat(69));
        let rust =
            [RustSource::scan("crates/x/src/a.rs", &long), RustSource::scan("b.rs", "// x\nfn g() {}")];
        assert_eq!(openings(&rust).len(), 1);
        assert_eq!(type_names(&rust).len(), 1);
        assert_eq!(function_lengths(&rust, "").len(), 1);
        assert!(function_lengths(&rust, "fn crates/x/src/a.rs f 71").is_empty());
        assert!(file_lengths(&rust, "").is_empty());
        assert_eq!(file_names(["crates/x/mod.rs", "crates/x/model.rs"].into_iter()).len(), 1);
    }
}
