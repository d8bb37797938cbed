//! What may bring a process down or hide a warning: `unsafe`, `unwrap`, silent `allow`.

use crate::{Exception, Finding, RustSource};

/// Who may hold `unsafe` code, and why. Each block there carries a `// SAFETY:` line.
pub const UNSAFE: &[Exception] = &[
    Exception::of("crates/front/src/inherit.rs", "takes over listeners that the parent process left open"),
    Exception::of("crates/imaging/examples/measure.rs", "the CPU clock of a process has no safe wrapper"),
    Exception::of("crates/imaging/src/decode/jpeg.rs", "binding to libjpeg-turbo"),
    Exception::of("crates/imaging/src/decode/jpeg/tests.rs", "makes CMYK files with libjpeg-turbo's encoder"),
    Exception::of(
        "crates/imaging/src/decode/png/unfilter/sse.rs",
        "vector instructions, after the processor was asked",
    ),
    Exception::of("crates/imaging/src/decode/webp.rs", "binding to libwebp"),
    Exception::of("crates/imaging/src/encode/jpeg.rs", "binding to libjpeg-turbo"),
    Exception::of("crates/imaging/src/encode/webp.rs", "binding to libwebp"),
    Exception::of(
        "crates/imaging/src/resize/kernel/avx2.rs",
        "vector instructions, after the processor was asked",
    ),
    Exception::of("crates/process/src/raw.rs", "system calls of the sandbox that have no safe wrapper"),
    Exception::of(
        "crates/process/tests/engine/programs.rs",
        "engines that misbehave, as a hostile one would",
    ),
];

/// How many lines above an `unsafe` its `// SAFETY:` may begin.
const SAFETY_WITHIN: usize = 8;

/// `unsafe` anywhere.
pub fn unsafe_code(rust: &[RustSource]) -> Vec<Finding> {
    rust.iter()
        .flat_map(|s| lines_of(s, "unsafe").into_iter().map(|l| Finding::at(&s.path, l, "`unsafe`")))
        .collect()
}

/// Blocks and impls of `unsafe` without a `// SAFETY:` line shortly above, or `# Safety` for a function.
pub fn safety_comments(rust: &[RustSource]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in rust {
        let comments: Vec<&str> = source.comments.lines().collect();
        for line in lines_of(source, "unsafe") {
            let above = &comments[line.saturating_sub(SAFETY_WITHIN + 1)..line.min(comments.len())];
            if !above.iter().any(|c| c.contains("SAFETY:") || c.contains("# Safety")) {
                found.push(Finding::at(&source.path, line, "`unsafe` without a `// SAFETY:` line above"));
            }
        }
    }
    found
}

/// `.unwrap()` outside of tests.
pub fn unwraps(rust: &[RustSource]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in rust {
        for word in source.words().iter().filter(|w| w.text == "unwrap") {
            let (before, after) = (word.at.checked_sub(1), word.at + word.text.len());
            let called = source.code[after..].starts_with(&['(', ')']);
            let method = before.is_some_and(|b| source.code[b] == '.');
            let line = source.line(word.at);
            if called && method && !source.is_test(line) {
                found.push(Finding::at(&source.path, line, "`.unwrap()` outside of a test"));
            }
        }
    }
    found
}

/// Lints that are silenced with `allow`, or without a reason.
pub fn silenced_lints(rust: &[RustSource]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in rust {
        for word in source.words().iter().filter(|w| w.text == "allow" || w.text == "expect") {
            if !opens_attribute(source, word.at) {
                continue;
            }
            let line = source.line(word.at);
            let body = source.matching(word.at + word.text.len()).map(|end| word.at..end);
            let reasoned = body.is_some_and(|b| source.code[b].iter().collect::<String>().contains("reason"));
            if word.text == "allow" || !reasoned {
                found.push(Finding::at(&source.path, line, "a silenced lint"));
            }
        }
    }
    found
}

/// Whether `#[` or `#![` stands right before `at`.
fn opens_attribute(source: &RustSource, at: usize) -> bool {
    source.code[..at].ends_with(&['#', '[']) || source.code[..at].ends_with(&['#', '!', '['])
}

fn lines_of(source: &RustSource, keyword: &str) -> Vec<usize> {
    let words = source.words().into_iter().filter(|w| w.text == keyword);
    words.map(|w| source.line(w.at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> [RustSource; 1] {
        [RustSource::scan("crates/x/src/a.rs", text)]
    }

    #[test]
    fn unsafe_code_is_found_and_wants_its_reason() {
        let bare = scan("fn f() { unsafe { g() } }\n// unsafe in a comment\n");
        assert_eq!((unsafe_code(&bare).len(), safety_comments(&bare).len()), (1, 1));
        let reasoned = scan("// SAFETY: g has no contract.\nfn f() { unsafe { g() } }");
        assert_eq!((unsafe_code(&reasoned).len(), safety_comments(&reasoned).len()), (1, 0));
        assert!(unsafe_code(&scan("#![deny(unsafe_code)]")).is_empty());
    }

    #[test]
    fn unwrap_is_found_outside_of_tests_alone() {
        assert_eq!(unwraps(&scan("fn f() { a.unwrap(); a.unwrap_or(1); }")).len(), 1);
        assert!(unwraps(&scan("#[cfg(test)]\nmod t { fn f() { a.unwrap() } }")).is_empty());
    }

    #[test]
    fn a_lint_is_silenced_with_a_reason_or_not_at_all() {
        assert_eq!(silenced_lints(&scan("#[allow(dead_code)]\nfn f() {}")).len(), 1);
        assert_eq!(silenced_lints(&scan("#[expect(dead_code)]\nfn f() {}")).len(), 1);
        assert!(
            silenced_lints(&scan("#[expect(dead_code, reason = \"x\")]\nfn f() { a.expect(\"b\"); }"))
                .is_empty()
        );
    }
}
