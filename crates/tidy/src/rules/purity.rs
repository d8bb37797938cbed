//! Who may touch the clock, the disk, the network, the environment and randomness. Reads paths, not behaviour.

use crate::paths::{Named, named};
use crate::{Exception, Finding, RustSource};

/// The packages that decide: time, randomness and state are arguments there.
pub const PURE: &[&str] = &["crates/dispatch/src/", "crates/imaging/src/", "crates/placement/src/"];

/// What a pure package names nowhere but in its tests.
pub const WORLD: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "tokio",
    "rand",
    "getrandom",
];

/// The journey runs in the simulator too, and a service sees only its contract: both reach the world over seams.
pub const SEAMED: &[&str] = &["crates/flow/src/", "crates/services/"];

/// What these name nowhere but in their tests.
pub const BEHIND_SEAMS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio::net",
    "tokio::fs",
    "tokio::time",
    "rand",
];

/// Addresses are values: naming one opens nothing.
const VALUES: [&str; 4] =
    ["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr", "std::net::SocketAddr"];

/// Who reads a clock beside `base`, and why.
pub const CLOCKS: &[Exception] = &[
    Exception::of("crates/base/src/clock.rs", "the one implementation of the clock seam"),
    Exception::of(
        "crates/process/src/engine.rs",
        "measures how long a job took in its engine; decides nothing by it",
    ),
];

/// How the environment is read.
const ENVIRONMENT_READS: [&str; 6] =
    ["env::var", "env::var_os", "env::vars", "env::args", "env::args_os", "env::temp_dir"];

/// The one package that may read the environment.
const BINARY: &str = "crates/tutti/";

/// Who reads the environment beside the binary, and why.
pub const ENVIRONMENT: &[Exception] = &[];

/// Paths below `folders`, outside of tests, that lie below one of `forbidden`.
pub fn forbidden(rust: &[RustSource], folders: &[&str], forbidden: &[&str]) -> Vec<Finding> {
    let inside = rust.iter().filter(|s| folders.iter().any(|f| s.path.starts_with(f)));
    let value = |n: &Named| VALUES.iter().any(|v| n.is_below(v));
    inside.flat_map(|s| offences(s, |n| !value(n) && forbidden.iter().any(|f| n.is_below(f)))).collect()
}

/// Reads of a clock outside of tests.
pub fn clocks(rust: &[RustSource]) -> Vec<Finding> {
    let reads = |n: &Named| n.ends_with("Instant::now") || n.ends_with("SystemTime::now");
    of_crates(rust).flat_map(|s| offences(s, reads)).collect()
}

/// Reads of the environment outside of tests, build scripts and the binary.
pub fn environment(rust: &[RustSource]) -> Vec<Finding> {
    let reads = |n: &Named| ENVIRONMENT_READS.iter().any(|r| n.ends_with(r));
    of_crates(rust).filter(|s| !s.path.starts_with(BINARY)).flat_map(|s| offences(s, reads)).collect()
}

fn of_crates(rust: &[RustSource]) -> impl Iterator<Item = &RustSource> {
    rust.iter().filter(|s| s.path.starts_with("crates/") && s.path.contains("/src/"))
}

fn offences(source: &RustSource, is: impl Fn(&Named) -> bool) -> Vec<Finding> {
    let hits = named(source).into_iter().filter(|n| !source.is_test(n.line) && is(n));
    hits.map(|n| Finding::at(&source.path, n.line, format!("names `{}`", n.path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> [RustSource; 1] {
        [RustSource::scan("crates/dispatch/src/a.rs", text)]
    }

    #[test]
    fn the_world_is_found_in_imports_and_expressions_but_not_in_tests() {
        let count = |text| forbidden(&scan(text), PURE, WORLD).len();
        assert_eq!(count("use std::time::Duration;"), 0);
        assert_eq!(count("use std::{fs, time::Instant};"), 2);
        assert_eq!(count("use std::net::{IpAddr, TcpStream};"), 1);
        assert_eq!(count("fn f() { std::env::var(\"A\"); tokio::spawn(x); }"), 2);
        assert_eq!(count("#[cfg(test)]\nmod tests { use std::fs; }"), 0);
        assert_eq!(forbidden(&[RustSource::scan("crates/cache/src/a.rs", "use std::fs;")], PURE, WORLD), []);
    }

    #[test]
    fn a_clock_is_found_however_it_was_imported() {
        let count = |text| clocks(&scan(text)).len();
        assert_eq!(count("use std::time::Instant; fn f(i: Instant) {}"), 0);
        assert_eq!(
            count("fn f() { Instant::now(); std::time::SystemTime::now(); tokio::time::Instant::now(); }"),
            3
        );
    }
}
