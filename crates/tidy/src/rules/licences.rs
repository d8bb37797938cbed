//! Licences that may be linked in, and packages that may not. Reads SPDX expressions only.

use crate::Finding;
use crate::cargo::Package;

/// What may be linked into the binary. No GPL, no AGPL.
pub const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "IJG",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Packages under a licence that is not in [`ALLOWED`] and asks nothing of us while they are used unmodified, with the
/// licence.
pub const EXCEPTIONS: &[(&str, &str)] = &[("foca", "MPL-2.0")];

/// Packages that may not be linked in, and why.
pub const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "rustls is the one TLS of the house"),
    ("native-tls", "rustls is the one TLS of the house"),
    ("mozjpeg-sys", "it defines the symbols of libjpeg, as turbojpeg does; one of them would win by chance"),
];

/// Packages without an allowed licence.
pub fn licences(packages: &[Package]) -> Vec<Finding> {
    let excepted =
        |p: &Package| EXCEPTIONS.iter().any(|(name, l)| *name == p.name && p.license.as_deref() == Some(l));
    let bad = packages.iter().filter(|p| !p.license.as_deref().is_some_and(allowed) && !excepted(p));
    bad.map(|p| {
        let licence = p.license.as_deref().unwrap_or("none");
        Finding::new(format!("{} {}", p.name, p.version), format!("licence `{licence}`"))
    })
    .collect()
}

/// Packages that are banned.
pub fn bans(packages: &[Package]) -> Vec<Finding> {
    let reason = |p: &Package| BANNED.iter().find(|(name, _)| *name == p.name).map(|(_, why)| *why);
    packages.iter().filter_map(|p| reason(p).map(|why| Finding::new(p.name.clone(), why))).collect()
}

/// Whether an SPDX expression can be met with allowed licences: one side of an `OR` (or the old `/`), both of an `AND`.
pub fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any_of(&tokens, &mut at);
    met && at == tokens.len()
}

fn any_of(tokens: &[&str], at: &mut usize) -> bool {
    let mut met = all_of(tokens, at);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(tokens, at);
    }
    met
}

fn all_of(tokens: &[&str], at: &mut usize) -> bool {
    let mut met = one(tokens, at);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(tokens, at);
    }
    met
}

fn one(tokens: &[&str], at: &mut usize) -> bool {
    if tokens.get(*at) == Some(&"(") {
        *at += 1;
        let met = any_of(tokens, at);
        *at += 1;
        return met;
    }
    let mut name = tokens.get(*at).copied().unwrap_or_default().to_owned();
    *at += 1;
    if tokens.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", tokens.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    ALLOWED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged_as_spdx_means_them() {
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-2.0) AND Unicode-3.0"] {
            assert!(allowed(good), "{good}");
        }
        assert!(allowed("Apache-2.0 WITH LLVM-exception"));
        for bad in ["GPL-3.0", "MIT AND AGPL-3.0-only", "LGPL-2.1", "", "MIT AND (GPL-2.0 OR AGPL-3.0)"] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn a_banned_or_unlicensed_package_is_found() {
        let package = |name: &str, license: Option<&str>| Package {
            name: name.into(),
            version: "1".into(),
            license: license.map(Into::into),
            folder: None,
        };
        let packages = [package("openssl-sys", Some("MIT")), package("a", None), package("b", Some("MIT"))];
        assert_eq!((bans(&packages).len(), licences(&packages).len()), (1, 1));
    }
}
