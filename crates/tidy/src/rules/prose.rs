//! What all text files say: open ends, paths of one machine, hosts of registries, links that lead nowhere, the map.

use std::path::Path;

use crate::tree::TextFile;
use crate::{Finding, RustSource};

/// Written in two halves, so that this file does not break its own rules.
const OPEN_ENDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Where only one machine has something.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Registries are used through their clients and named nowhere.
const REGISTRY_HOSTS: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("deb.debian", ".org"),
    concat!("security.debian", ".org"),
];

/// What a path of ours begins with.
const OUR_FOLDERS: [&str; 6] = ["crates/", "bench/", "docs/", "scripts/", "samples/", "deploy/"];

/// Lock files are written by the tools, hosts and all.
const LOCK_FILES: [&str; 1] = ["Cargo.lock"];

/// Open ends without the number of an issue.
pub fn open_ends(rust: &[RustSource], scripts: &[&TextFile]) -> Vec<Finding> {
    let comments = rust.iter().flat_map(|s| open_lines(&s.path, &s.comments));
    comments.chain(scripts.iter().flat_map(|t| open_lines(&t.path, &t.text))).collect()
}

fn open_lines(path: &str, text: &str) -> Vec<Finding> {
    let numbered = |line: &str| line.split('#').skip(1).any(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    let open = |line: &str| OPEN_ENDS.iter().any(|w| line.contains(w)) && !numbered(line);
    lines(text).filter(|(_, l)| open(l)).map(|(n, l)| Finding::at(path, n, l.trim())).collect()
}

/// Paths that exist on one machine only.
pub fn machine_paths(texts: &[TextFile]) -> Vec<Finding> {
    let begins = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "./_-}>)*".contains(c))
    };
    let bad =
        |line: &str| MACHINE_PATHS.iter().any(|p| line.match_indices(p).any(|(at, _)| begins(line, at)));
    search(texts, bad, "a path of one machine")
}

/// Hosts of package registries.
pub fn registry_hosts(texts: &[TextFile]) -> Vec<Finding> {
    search(texts, |line| REGISTRY_HOSTS.iter().any(|h| line.contains(h)), "the host of a registry")
}

fn search(texts: &[TextFile], bad: impl Fn(&str) -> bool, what: &str) -> Vec<Finding> {
    let read = texts.iter().filter(|t| !LOCK_FILES.iter().any(|l| t.path.ends_with(l)));
    let hits = read.flat_map(|t| lines(&t.text).filter(|(_, l)| bad(l)).map(|(n, _)| (t.path.as_str(), n)));
    hits.map(|(path, n)| Finding::at(path, n, what)).collect()
}

/// Links in Markdown to files that are not there. `planned` pictures are named in the table of the test.
pub fn links(root: &Path, pages: &[&TextFile], planned: &[&str]) -> Vec<Finding> {
    let mut found = Vec::new();
    for page in pages {
        let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        for (number, target) in targets(&page.text) {
            let file = target.split('#').next().unwrap_or_default();
            let there = file.is_empty() || root.join(folder).join(file).exists();
            if !there && !planned.contains(&file) {
                found.push(Finding::at(
                    &page.path,
                    number,
                    format!("link to `{target}`, which is not there"),
                ));
            }
        }
    }
    found
}

/// The targets of `[…](target)` that lie in the checkout, outside of code blocks.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in lines(text) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let links = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let local = links.filter(|t| !t.contains("://") && !t.starts_with("mailto:"));
        found.extend(local.map(|t| (number, t.to_owned())));
    }
    found
}

/// Folders of packages that the map in ARCHITECTURE.md does not name.
pub fn map<'a>(folders: impl Iterator<Item = &'a str>, architecture: &str) -> Vec<Finding> {
    let absent = folders.filter(|f| !architecture.contains(&format!("`{f}`")));
    absent.map(|f| Finding::new("ARCHITECTURE.md", format!("the map does not name `{f}`"))).collect()
}

/// Paths of ours in backticks on a page that are not there.
pub fn named_paths(root: &Path, page: &TextFile) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in lines(&page.text) {
        let quoted = line.split('`').skip(1).step_by(2);
        let ours =
            quoted.filter(|q| OUR_FOLDERS.iter().any(|f| q.starts_with(f)) && !q.contains([' ', '*', '<']));
        let absent = ours.filter(|q| !root.join(q).exists());
        found.extend(absent.map(|q| Finding::at(&page.path, number, format!("`{q}` is not there"))));
    }
    found
}

/// Tests that ARCHITECTURE.md says hold an invariant, and that are nowhere: neither a function nor the name of a case.
pub fn absent_tests(architecture: &TextFile, rust: &[RustSource]) -> Vec<Finding> {
    let there = |name: &str| {
        let (function, case) = (format!("fn {name}("), format!("\"{name}\""));
        rust.iter().any(|source| source.text.contains(&function) || source.text.contains(&case))
    };
    let is_name = |word: &str| word.matches('_').count() > 1 && word.chars().all(is_of_names);
    let mut found = Vec::new();
    let section = lines(&architecture.text).skip_while(|(_, line)| !line.starts_with("## Invariants"));
    for (number, line) in section.skip(1).take_while(|(_, line)| !line.starts_with("## ")) {
        let names = line.split('`').skip(1).step_by(2).filter(|word| is_name(word));
        let absent = names.filter(|name| !there(name));
        found.extend(
            absent.map(|name| Finding::at(&architecture.path, number, format!("no test is called `{name}`"))),
        );
    }
    found
}

fn is_of_names(letter: char) -> bool {
    letter == '_' || letter.is_ascii_lowercase() || letter.is_ascii_digit()
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, l)| (i + 1, l))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> TextFile {
        TextFile { path: "docs/a.md".into(), text: text.into() }
    }

    #[test]
    fn an_open_end_needs_a_number() {
        let open = text(concat!("# TO", "DO tidy up\n# TO", "DO #12 tidy up\n"));
        assert_eq!(open_ends(&[], &[&open]).len(), 1);
        let rust = RustSource::scan("a.rs", concat!("// TO", "DO\nlet x = \"TO", "DO\";\n"));
        assert_eq!(open_ends(&[rust], &[]).len(), 1);
    }

    #[test]
    fn paths_of_one_machine_and_hosts_of_registries_are_found() {
        let bad =
            text(concat!("see /wo", "rk/x\nfront/wo", "rk/er is fine\nhttps://static.crates", ".io/a\n"));
        assert_eq!(machine_paths(std::slice::from_ref(&bad)).len(), 1);
        assert_eq!(registry_hosts(&[bad]).len(), 1);
    }

    #[test]
    fn an_invariant_that_no_test_holds_is_found() {
        let page = text(
            "`no_such_test_a`\n## Invariants\n| x | `a_test_is_there`, `a_case_is_too`, `no_such_test` |\n## B\n`no_such_test_b`",
        );
        let rust = RustSource::scan("a.rs", "fn a_test_is_there() {}\nconst A: &str = \"a_case_is_too\";\n");
        let found = absent_tests(&page, &[rust]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let page =
            text("[a](nowhere.md) [b](https://x/y) [c](#here) [d](img/later.png)\n```\n[e](no.md)\n```\n");
        let found = links(Path::new(env!("CARGO_MANIFEST_DIR")), &[&page], &["img/later.png"]);
        assert_eq!(found.len(), 1, "{found:?}");
        let page = text("see `crates/nowhere.rs` and `src/lib.rs`");
        assert_eq!(named_paths(Path::new(env!("CARGO_MANIFEST_DIR")), &page).len(), 1);
        assert_eq!(map(["crates/a", "crates/b"].into_iter(), "| `crates/a` |").len(), 1);
    }
}
