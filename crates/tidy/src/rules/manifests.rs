//! What every package's Cargo.toml says: the workspace's lints, and versions from the one table.

use toml::{Table, Value};

use crate::Finding;

/// Packages that stand outside the workspace, and why.
pub const OUTSIDE: &[(&str, &str)] = &[
    ("bench/tools/Cargo.toml", "measuring tools with their own lock file, built by `make bench` alone"),
    ("fuzz/Cargo.toml", "fuzz targets, which need a nightly compiler and sanitizers; run by hand"),
];

/// What is wrong with one manifest.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let manifest: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![Finding::new(path, format!("is not TOML: {error}"))],
    };
    if !manifest.contains_key("package") || OUTSIDE.iter().any(|(p, _)| *p == path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if !from_workspace(manifest.get("lints")) {
        found.push(Finding::new(path, "has no `[lints] workspace = true`"));
    }
    for field in ["version", "edition", "rust-version", "license", "publish"] {
        if !from_workspace(manifest["package"].get(field)) {
            found.push(Finding::new(path, format!("`{field}` does not come from the workspace")));
        }
    }
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        found.extend(own_versions(path, manifest.get(kind)));
    }
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    found.extend(targets.flat_map(|t| own_versions(path, t.get("dependencies"))));
    found
}

fn own_versions(path: &str, dependencies: Option<&Value>) -> Vec<Finding> {
    let table = dependencies.and_then(Value::as_table).into_iter().flatten();
    table
        .filter(|(_, wanted)| !from_workspace(Some(wanted)))
        .map(|(name, _)| Finding::new(path, format!("`{name}` has a version of its own")))
        .collect()
}

fn from_workspace(value: Option<&Value>) -> bool {
    value.and_then(|v| v.get("workspace")).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n";

    #[test]
    fn lints_and_versions_come_from_the_workspace() {
        let good = format!("{HEAD}[lints]\nworkspace = true\n[dependencies]\nb = {{ workspace = true }}\n");
        assert!(check("a/Cargo.toml", &good).is_empty());
        assert_eq!(check("a/Cargo.toml", HEAD).len(), 1, "no lints");
        assert_eq!(check("a/Cargo.toml", &good.replace("b = { workspace = true }", "b = \"1\"")).len(), 1);
        assert_eq!(
            check("a/Cargo.toml", &good.replace("edition.workspace = true", "edition = \"2024\"")).len(),
            1
        );
    }
}
