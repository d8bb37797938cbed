//! Tenants: whose keys, sources, presets and limits a request counts under. Plain values, made from the configuration.

use std::collections::BTreeMap;

use tutti_base::{Source, TenantId};

/// One tenant's settings that services read while they plan.
#[derive(Clone, Default)]
pub struct Tenant {
    /// Which tenant.
    pub id: TenantId,
    /// The key pairs that sign its URLs; any of them may. None: unsigned URLs, local folders only.
    pub keys: Vec<KeyPair>,
    /// Length of a signature in bytes, 1 to 32, before base64.
    pub signature_len: usize,
    /// Signature texts that pass unchecked.
    pub trusted_signatures: Vec<String>,
    /// Where its originals may come from.
    pub sources: SourceRules,
    /// Named option lists in the service's own dialect, by service and name.
    pub presets: BTreeMap<(String, String), String>,
    /// Whether URLs may name presets only.
    pub only_presets: bool,
    /// Put before sources that have no scheme.
    pub base_url: String,
    /// Replaced in source URLs: (from, to), all in turn; `*` in `from` is `${1}` and so on in `to`, as imgproxy has it.
    pub url_replacements: Vec<(String, String)>,
    /// The original shown in place of a failure.
    pub placeholder: Option<Source>,
}

impl Tenant {
    /// Tenant `main` with no keys and local folders only.
    pub fn main() -> Self {
        Self { signature_len: 32, ..Self::default() }
    }
}

/// One signing key with its salt, as raw bytes. Not printable by accident: it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The HMAC key.
    pub key: Vec<u8>,
    /// Put before the signed text.
    pub salt: Vec<u8>,
}

/// Where originals may come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceRules {
    /// URL prefixes (`https://img.example/`, `local://`, `*` within a host's labels or the path) that are allowed;
    /// empty: everything that the keys allow.
    pub allowed: Vec<String>,
}
