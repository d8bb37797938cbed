//! One test for each house rule, over the real checkout. A failure names the rule, every place, and the way out.

use std::sync::LazyLock;

use tutti_tidy::rules::{layers, licences, manifests, prose, purity, safety, shape};
use tutti_tidy::{Tree, cargo, exception, report};

static TREE: LazyLock<Tree> = LazyLock::new(Tree::here);

/// Files that links may name before they exist, each made by a command that its page names.
const PLANNED_LINKS: [&str; 0] = [];

fn text(path: &str) -> &'static str {
    let file = TREE.texts.iter().find(|t| t.path == path);
    &file.unwrap_or_else(|| panic!("{path} must exist")).text
}

#[test]
fn the_checkout_is_really_read() {
    assert!(TREE.rust.iter().any(|s| s.path == "crates/base/src/clock.rs" && !s.functions().is_empty()));
    assert!(TREE.rust.len() > 30, "only {} Rust files were found", TREE.rust.len());
}

#[test]
fn packages_depend_only_downwards() {
    let (packages, edges) = cargo::workspace(&TREE.root);
    let found = layers::check(&packages, &edges, layers::LAYERS, layers::DEV_EDGES);
    let way_out = "reach it through a trait of `base`, `service` or `flow` and let `tutti` put them together; \
        a new edge is a line in crates/tidy/src/rules/layers.rs with a page in docs/adr/";
    report("packages depend only on those below them", way_out, &found);
}

#[test]
fn pure_packages_touch_nothing_of_the_world() {
    let found = purity::forbidden(&TREE.rust, purity::PURE, purity::WORLD);
    report("dispatch, placement and imaging decide, and do no I/O", "take it as an argument", &found);
}

#[test]
fn journey_and_services_reach_the_world_over_seams() {
    let found = purity::forbidden(&TREE.rust, purity::SEAMED, purity::BEHIND_SEAMS);
    let way_out = "use the seams: `Clock` and `Rng` of base, `Peers`, `Store`, `Cache`, `Fetch`, `Work`; a service: its job context";
    report(
        "flow and the services have no sockets, files or clock of their own: the simulator runs them",
        way_out,
        &found,
    );
}

#[test]
fn clocks_are_read_in_one_place() {
    let found = exception::apply(purity::clocks(&TREE.rust), purity::CLOCKS);
    let way_out = "take a `Clock` (or `Tick`); a real exception is a line in CLOCKS with its reason";
    report("only base/src/clock.rs reads the time", way_out, &found);
}

#[test]
fn the_environment_is_read_by_the_binary_alone() {
    let found = exception::apply(purity::environment(&TREE.rust), purity::ENVIRONMENT);
    let way_out =
        "let `tutti` read it and pass it on in a `Config`; a real exception is a line in ENVIRONMENT";
    report("nothing below the binary reads the environment", way_out, &found);
}

#[test]
fn unsafe_code_lies_in_named_files() {
    let found = exception::apply(safety::unsafe_code(&TREE.rust), safety::UNSAFE);
    let way_out =
        "find a safe way, or name the file and the reason in UNSAFE in crates/tidy/src/rules/safety.rs";
    report("unsafe code lies only in named small modules", way_out, &found);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let found = safety::safety_comments(&TREE.rust);
    report("each unsafe block has a `// SAFETY:` line", "write down why its contract holds", &found);
}

#[test]
fn nothing_unwraps_outside_of_tests() {
    let found = safety::unwraps(&TREE.rust);
    report("no `unwrap` outside of tests", "return an error, or `expect(\"why it cannot fail\")`", &found);
}

#[test]
fn lints_are_silenced_with_a_reason() {
    let found = safety::silenced_lints(&TREE.rust);
    report("no `#[allow]`", "use `#[expect(lint, reason = \"…\")]`", &found);
}

#[test]
fn files_say_what_they_are_for() {
    let found = shape::openings(&TREE.rust);
    report("each file opens with one `//!` sentence", "say what it is and what it must not do", &found);
}

#[test]
fn names_say_something() {
    let mut found = shape::file_names(TREE.rust.iter().map(|s| s.path.as_str()));
    found.extend(shape::type_names(&TREE.rust));
    report(
        "no mod.rs, no Manager, Helper or Util",
        "name the thing by what it does; `foo.rs` beside `foo/`",
        &found,
    );
}

#[test]
fn functions_fit_on_a_screen() {
    let found = shape::function_lengths(&TREE.rust, text("crates/tidy/ratchet.txt"));
    report(
        "a function has at most 70 lines",
        "split it: control flow in the parent, plain work in the leaves",
        &found,
    );
}

#[test]
fn files_hold_one_noun() {
    let found = shape::file_lengths(&TREE.rust, text("crates/tidy/ratchet.txt"));
    report("a file has at most 600 lines", "find the second noun in it and give it a file", &found);
}

#[test]
fn open_ends_have_a_number() {
    let scripts: Vec<_> = [".py", ".sh", "Makefile"].iter().flat_map(|e| TREE.ending(e)).collect();
    let found = prose::open_ends(&TREE.rust, &scripts);
    report("no open end without the number of an issue", "do it now, or file it and write `#number`", &found);
}

#[test]
fn no_file_knows_one_machine() {
    let found = prose::machine_paths(&TREE.texts);
    report("no path that only one machine has", "use a relative path or a parameter", &found);
    let found = prose::registry_hosts(&TREE.texts);
    report("no host of a package registry", "name the package; its client knows the host", &found);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let pages: Vec<_> = TREE.ending(".md").collect();
    assert!(pages.len() > 5, "only {} pages were found", pages.len());
    report(
        "links lead somewhere",
        "mend or remove the link",
        &prose::links(&TREE.root, &pages, &PLANNED_LINKS),
    );
}

#[test]
fn the_map_names_every_package() {
    let (packages, _) = cargo::workspace(&TREE.root);
    let folders: Vec<String> = packages.into_iter().filter_map(|p| p.folder).collect();
    let found = prose::map(folders.iter().map(String::as_str), text("ARCHITECTURE.md"));
    report("ARCHITECTURE.md maps what stands", "add the package's row to its map", &found);
}

#[test]
fn the_journey_names_files_that_exist() {
    let pages = TREE.texts.iter().filter(|t| t.path == "ARCHITECTURE.md" || t.path == "CONTRIBUTING.md");
    let found: Vec<_> = pages.flat_map(|p| prose::named_paths(&TREE.root, p)).collect();
    report("paths on the map are real", "follow the file to where it went", &found);
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let page = TREE.texts.iter().find(|t| t.path == "ARCHITECTURE.md").expect("ARCHITECTURE.md must exist");
    assert!(page.text.contains("\n## Invariants"), "the section is gone");
    let found = prose::absent_tests(page, &TREE.rust);
    report("each invariant is held by a test that is there", "name the test that holds it now", &found);
}

#[test]
fn manifests_follow_the_workspace() {
    let found: Vec<_> = TREE.ending("Cargo.toml").flat_map(|t| manifests::check(&t.path, &t.text)).collect();
    let way_out = "`[lints] workspace = true`, `name.workspace = true`, and the version in the root's table";
    report("lints and versions come from the workspace", way_out, &found);
}

#[test]
fn licences_are_permissive() {
    let packages = cargo::everything(&TREE.root);
    assert!(packages.len() > 20, "only {} packages were found", packages.len());
    let way_out = "choose another package, or add a permissive licence to ALLOWED and to deny.toml";
    report("no GPL or AGPL in the binary", way_out, &licences::licences(&packages));
    report("banned packages stay out", "use what the reason names", &licences::bans(&packages));
}
