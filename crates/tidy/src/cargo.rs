//! What cargo says of the workspace: packages, edges and licences, by `cargo metadata`. Never touches the network.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// How one package needs another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EdgeKind {
    /// It is linked in.
    Normal,
    /// For its tests.
    Dev,
    /// For its build script.
    Build,
}

/// One edge between two packages of the workspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// Who needs.
    pub from: String,
    /// Who is needed.
    pub to: String,
    /// For what.
    pub kind: EdgeKind,
}

/// One package, ours or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as an SPDX expression, where it says one.
    pub license: Option<String>,
    /// From the root of the checkout, where it is ours.
    pub folder: Option<String>,
}

/// The workspace's own packages and the edges between them.
///
/// # Panics
/// When cargo fails; its message is shown.
pub fn workspace(root: &Path) -> (Vec<Package>, Vec<Edge>) {
    let metadata = metadata(root, &["--no-deps"]);
    let packages = packages(root, &metadata);
    let edges = list(&metadata, "packages").iter().flat_map(edges_of).collect::<Vec<_>>();
    let ours = |name: &str| packages.iter().any(|p| p.name == name);
    let edges = edges.into_iter().filter(|e| ours(&e.to)).collect();
    (packages, edges)
}

/// Every package that is linked into anything here, on this platform.
///
/// # Panics
/// When cargo fails, such as when the crates have never been downloaded: run `cargo fetch` once.
pub fn everything(root: &Path) -> Vec<Package> {
    let platform = format!("--filter-platform={}", host());
    let metadata = metadata(root, &[&platform]);
    packages(root, &metadata)
}

fn metadata(root: &Path, more: &[&str]) -> Value {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["metadata", "--format-version=1", "--offline"]).args(more);
    let output = command.output().expect("cargo runs, since it runs this test");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo metadata failed (after a fresh clone run `cargo fetch` once):\n{complaint}"
    );
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn packages(root: &Path, metadata: &Value) -> Vec<Package> {
    list(metadata, "packages").iter().map(|p| package(root, p)).collect()
}

fn package(root: &Path, value: &Value) -> Package {
    let folder = value["source"].is_null().then(|| {
        let manifest = Path::new(text(value, "manifest_path"));
        let relative = manifest.strip_prefix(root).unwrap_or(manifest);
        relative.parent().unwrap_or(relative).to_string_lossy().into_owned()
    });
    Package {
        name: text(value, "name").to_owned(),
        version: text(value, "version").to_owned(),
        license: value["license"].as_str().map(str::to_owned),
        folder,
    }
}

fn edges_of(package: &Value) -> Vec<Edge> {
    let kind = |d: &Value| match d["kind"].as_str() {
        Some("dev") => EdgeKind::Dev,
        Some("build") => EdgeKind::Build,
        _ => EdgeKind::Normal,
    };
    let from = text(package, "name");
    list(package, "dependencies")
        .iter()
        .map(|d| Edge { from: from.to_owned(), to: text(d, "name").to_owned(), kind: kind(d) })
        .collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The platform that this test was built for, in the words of rustc.
fn host() -> String {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc lies beside cargo");
    let said = String::from_utf8_lossy(&rustc.stdout).into_owned();
    said.lines().find_map(|l| l.strip_prefix("host: ")).unwrap_or("x86_64-unknown-linux-gnu").to_owned()
}
