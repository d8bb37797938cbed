//! Tenants from the document: keys out of the secrets, presets checked, swapped whole when something changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tutti_base::TenantId;
use tutti_flow::Tenants;
use tutti_service::{KeyPair, SourceRules, Tenant};
use tutti_store::Secrets;

/// The section `[tenants.NAME]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TenantSection {
    /// Key pairs that sign URLs, any of which may.
    pub keys: Vec<KeySection>,
    /// Length of a signature in bytes, 1 to 32; 32 unless set.
    pub signature_size: Option<usize>,
    /// Signature texts that pass unchecked.
    pub trusted_signatures: Vec<String>,
    /// URL prefixes that originals may come from, such as `https://img.example/` or `local://`; `*` stands for anything
    /// within a label or the path. Empty: local folders, and with a key everything.
    pub allowed_sources: Vec<String>,
    /// Named option lists by service: `[tenants.main.presets.image] thumb = "rs:fill:200:200"`.
    pub presets: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether URLs may name presets only.
    pub only_presets: bool,
    /// Put before sources that have no scheme.
    pub base_url: String,
    /// Replaced at the front of source URLs, in order: `[["shop/", "https://shop.example/"]]`.
    pub url_replacements: Vec<(String, String)>,
    /// An original shown in place of a failure, such as `local:///placeholder.png`.
    pub placeholder: Option<String>,
}

/// One key pair. Give secrets: `key = "secret:image-key"`; the secrets hold hexadecimal text, as other servers take it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeySection {
    /// The HMAC key: `secret:NAME`.
    pub key: String,
    /// The salt: `secret:NAME`, or empty.
    #[serde(default)]
    pub salt: String,
}

impl TenantSection {
    /// Whether it can be; needs no secrets.
    pub(crate) fn validate(&self, name: &str) -> Result<(), String> {
        if name != TenantId::MAIN {
            return Err(format!("tenant `{name}`: this version serves one tenant, `{}`", TenantId::MAIN));
        }
        let size = self.signature_size.unwrap_or(32);
        if !(1..=32).contains(&size) {
            return Err(format!("`signature_size` is {size}; it must be 1 to 32"));
        }
        for pair in &self.keys {
            for (what, text) in [("key", &pair.key), ("salt", &pair.salt)] {
                if !(text.starts_with("secret:") || what == "salt" && text.is_empty()) {
                    return Err(format!("`{what}` must be `secret:NAME`; set it by `tutti secret set NAME`"));
                }
            }
        }
        let tenant = self.without_keys(name)?;
        tutti_service_image::validate_presets(&tenant)
    }

    fn without_keys(&self, name: &str) -> Result<Tenant, String> {
        let placeholder = match &self.placeholder {
            None => None,
            Some(url) => Some(
                tutti_service_image::canonical_source(url).map_err(|problem| problem.detail.into_owned())?,
            ),
        };
        let presets = self.presets.iter().flat_map(|(service, lists)| {
            lists.iter().map(move |(name, list)| ((service.clone(), name.clone()), list.clone()))
        });
        Ok(Tenant {
            id: TenantId::new(name),
            keys: Vec::new(),
            signature_len: self.signature_size.unwrap_or(32),
            trusted_signatures: self.trusted_signatures.clone(),
            sources: SourceRules { allowed: self.allowed_sources.clone() },
            presets: presets.collect(),
            only_presets: self.only_presets,
            base_url: self.base_url.clone(),
            url_replacements: self.url_replacements.clone(),
            placeholder,
        })
    }

    /// The tenant with its keys. A secret that is missing or malformed is an error: serving unsigned instead is worse
    /// than not starting.
    pub(crate) fn resolve(&self, name: &str, secrets: &Secrets) -> anyhow::Result<Tenant> {
        let mut tenant = self.without_keys(name).map_err(anyhow::Error::msg)?;
        for pair in &self.keys {
            let salt = if pair.salt.is_empty() { Vec::new() } else { hex_secret(secrets, &pair.salt)? };
            tenant.keys.push(KeyPair { key: hex_secret(secrets, &pair.key)?, salt });
        }
        Ok(tenant)
    }

    /// The tenant on a node whose roles do not need its keys, or that has not got them yet: nothing that has to be signed
    /// is taken for signed there.
    pub(crate) fn sealed_off(&self, name: &str) -> anyhow::Result<Tenant> {
        let mut tenant = self.without_keys(name).map_err(anyhow::Error::msg)?;
        if !self.keys.is_empty() {
            let mut key = vec![0; 32];
            getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
            tenant.keys.push(KeyPair { key, salt: Vec::new() });
        }
        Ok(tenant)
    }
}

fn hex_secret(secrets: &Secrets, reference: &str) -> anyhow::Result<Vec<u8>> {
    let secret = secrets.resolve(reference)?;
    let text = std::str::from_utf8(secret.expose()).unwrap_or("").trim();
    let bytes = text.as_bytes().chunks(2).map(|pair| {
        let digits = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        anyhow::anyhow!("the secret behind `{reference}` must be hexadecimal text, two digits a byte")
    })
}

/// The tenants in force.
pub(crate) struct TenantTable {
    main: ArcSwap<Tenant>,
    generation: AtomicU64,
}

impl TenantTable {
    /// A table of one tenant.
    pub(crate) fn new(main: Tenant) -> Self {
        Self { main: ArcSwap::from_pointee(main), generation: AtomicU64::new(1) }
    }
    /// Replaces it; plans made before are thrown away.
    pub(crate) fn swap(&self, main: Tenant) {
        self.main.store(Arc::new(main));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Tenants for TenantTable {
    fn get(&self, _id: &TenantId) -> Arc<Tenant> {
        self.main.load_full()
    }
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl TenantTable {
    /// Whether a tenant's rules allow a URL: asked by the fetcher for every hop.
    pub(crate) fn allow_url(self: &Arc<Self>) -> tutti_fetch::AllowUrl {
        let table = Arc::clone(self);
        Arc::new(move |_tenant, url| {
            let tenant = table.main.load();
            let allowed = &tenant.sources.allowed;
            allowed.is_empty()
                || tutti_fetch::Target::parse(url).is_ok_and(|target| {
                    let covers = |text: &String| {
                        tutti_fetch::Pattern::parse(text).is_ok_and(|pattern| pattern.covers(&target))
                    };
                    allowed.iter().any(covers)
                })
        })
    }
}
