//! Who may depend on whom. Reads only the edges that cargo reports.

use crate::Finding;
use crate::cargo::{Edge, EdgeKind, Package};

/// A package of the workspace, and all that it may depend on.
pub type Layer = (&'static str, &'static [&'static str]);

/// The house. A change here changes the architecture: it needs a page in docs/adr/ and a line in ARCHITECTURE.md.
/// `tutti`, the binary, may name everyone; nobody may name `tutti`, `tutti-admin`, `tutti-front`, `tutti-worker` or a service.
pub const LAYERS: &[Layer] = &[
    ("tutti-base", &[]),
    ("tutti-tidy", &[]),
    // Decisions: pure.
    ("tutti-dispatch", &["tutti-base"]),
    ("tutti-placement", &["tutti-base"]),
    ("tutti-imaging", &["tutti-base"]),
    // Mechanisms: sockets, disks, processes.
    ("tutti-telemetry", &["tutti-base"]),
    ("tutti-store", &["tutti-base", "tutti-telemetry"]),
    ("tutti-cache", &["tutti-base", "tutti-telemetry"]),
    ("tutti-fetch", &["tutti-base", "tutti-telemetry"]),
    ("tutti-process", &["tutti-base", "tutti-telemetry"]),
    ("tutti-cluster", &["tutti-base", "tutti-telemetry"]),
    // Services: the contract, and each its own engine.
    ("tutti-service", &["tutti-base"]),
    ("tutti-service-echo", &["tutti-base", "tutti-service"]),
    ("tutti-service-image", &["tutti-base", "tutti-service", "tutti-imaging"]),
    ("tutti-service-gallery", &["tutti-base", "tutti-service"]),
    // The journey and its faces.
    (
        "tutti-flow",
        &[
            "tutti-base",
            "tutti-cache",
            "tutti-dispatch",
            "tutti-fetch",
            "tutti-placement",
            "tutti-service",
            "tutti-telemetry",
        ],
    ),
    ("tutti-front", &["tutti-base", "tutti-cache", "tutti-flow", "tutti-service", "tutti-telemetry"]),
    ("tutti-worker", &["tutti-base", "tutti-flow", "tutti-process", "tutti-service", "tutti-telemetry"]),
    ("tutti-control", &["tutti-base", "tutti-telemetry", "tutti-placement", "tutti-store", "tutti-cluster"]),
    ("tutti-admin", &["tutti-base", "tutti-store", "tutti-telemetry"]),
    // Clusters of real processes for tests: the binary is a program to it, not a package.
    ("tutti-lab", &["tutti-base"]),
];

/// The composition root.
const ROOT: &str = "tutti";

/// Edges for tests alone: allowed beyond the layers, and listed so that each is a decision.
pub const DEV_EDGES: &[(&str, &str)] = &[];

/// The edges that the layers do not allow, and the packages that no layer names.
pub fn check(packages: &[Package], edges: &[Edge], layers: &[Layer], dev: &[(&str, &str)]) -> Vec<Finding> {
    let known = |name: &str| name == ROOT || layers.iter().any(|(n, _)| *n == name);
    let strangers = packages.iter().filter(|p| !known(&p.name));
    let mut found: Vec<Finding> = strangers
        .map(|p| Finding::new(p.folder.clone().unwrap_or_default(), format!("`{}` has no layer", p.name)))
        .collect();
    found.extend(edges.iter().filter(|e| !allowed(e, layers, dev)).map(finding));
    found
}

fn allowed(edge: &Edge, layers: &[Layer], dev: &[(&str, &str)]) -> bool {
    let below = layers.iter().any(|(n, may)| *n == edge.from && may.contains(&edge.to.as_str()));
    let for_tests = edge.kind == EdgeKind::Dev && dev.contains(&(edge.from.as_str(), edge.to.as_str()));
    edge.to != ROOT && (edge.from == ROOT || below || for_tests)
}

fn finding(edge: &Edge) -> Finding {
    let table = if edge.kind == EdgeKind::Dev { "DEV_EDGES" } else { "LAYERS" };
    Finding::new(edge.from.clone(), format!("depends on `{}`, which {table} does not allow", edge.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str, kind: EdgeKind) -> Edge {
        Edge { from: from.into(), to: to.into(), kind }
    }

    #[test]
    fn an_edge_against_the_layers_is_found() {
        let count = |e: Edge, dev: &[(&str, &str)]| check(&[], &[e], LAYERS, dev).len();
        assert_eq!(count(edge("tutti-flow", "tutti-base", EdgeKind::Normal), &[]), 0);
        assert_eq!(count(edge("tutti-flow", "tutti-process", EdgeKind::Normal), &[]), 1);
        assert_eq!(count(edge("tutti-base", "tutti-cache", EdgeKind::Build), &[]), 1);
        assert_eq!(count(edge("tutti-flow", "tutti", EdgeKind::Normal), &[]), 1);
        let dev = [("tutti-flow", "tutti-worker")];
        assert_eq!(count(edge("tutti-flow", "tutti-worker", EdgeKind::Dev), &dev), 0);
        assert_eq!(count(edge("tutti-flow", "tutti-worker", EdgeKind::Normal), &dev), 1);
    }

    #[test]
    fn a_package_without_a_layer_is_found() {
        let stranger = Package {
            name: "tutti-x".into(),
            version: "0".into(),
            license: None,
            folder: Some("crates/x".into()),
        };
        assert_eq!(check(&[stranger], &[], LAYERS, &[]).len(), 1);
    }

    #[test]
    fn the_layers_have_no_cycle() {
        for (position, (name, may)) in LAYERS.iter().enumerate() {
            let earlier = |n: &&str| LAYERS[..position].iter().any(|(e, _)| e == n);
            assert!(may.iter().all(earlier), "{name} may depend only on what stands before it");
        }
    }
}
