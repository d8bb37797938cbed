//! The settings of fetching, and the sources that are given exceptions from the address guard.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tutti_base::TenantId;

use crate::{Network, Pattern, Target};

/// Settings of fetching. All of them apply live.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The longest original from an origin, in bytes.
    pub max_body_bytes: u64,
    /// The most connections to one origin (scheme, host and port), idle ones included.
    pub connections_per_origin: usize,
    /// The most requests that wait for a connection to one origin; more are answered 503 at once.
    pub waiting_per_origin: usize,
    /// The most origins that connections and breakers are kept for.
    pub origins_max: usize,
    /// How long resolving, connecting and the TLS handshake may take, each, in ms.
    pub connect_timeout_ms: u64,
    /// How long an origin may take from our request to the end of its head, in ms.
    pub head_timeout_ms: u64,
    /// How long an idle connection is kept, in ms.
    pub idle_timeout_ms: u64,
    /// The longest head of an answer, in bytes.
    pub head_bytes: usize,
    /// The most fields in the head of an answer.
    pub head_fields: usize,
    /// The least bytes a second that a body must arrive with, after `min_rate_grace_ms`; 0 for no such limit.
    pub min_rate: u64,
    /// For how long in all a body may keep us waiting before `min_rate` applies, in ms.
    pub min_rate_grace_ms: u64,
    /// The most redirects that are followed for one original.
    pub redirects_max: usize,
    /// PEM files of certificate authorities that are trusted beside the public ones.
    pub extra_roots: Vec<PathBuf>,
    /// Sources with settings of their own, by name.
    pub sources: BTreeMap<String, SourceConfig>,
}

/// Settings of one source: of all URLs beneath a prefix. Where several prefixes cover a URL, the longest decides.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The URLs concerned, such as `http://images.shop.internal/` or `https://*.example/pub/`.
    pub prefix: Pattern,
    /// The tenant whose source it is; `main` unless set.
    #[serde(default)]
    pub tenant: TenantId,
    /// Address ranges that are not global and may be reached for these URLs all the same. Link-local and metadata
    /// addresses must be listed one by one.
    #[serde(default)]
    pub allowed_networks: Vec<Network>,
}

/// Why settings cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// A number is outside its range.
    #[error("`{key}` is {value}; it must be {range}")]
    Range {
        /// Which.
        key: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
    /// A file of `extra_roots` cannot be used.
    #[error("`extra_roots` names {}: {reason}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 20,
            connections_per_origin: 64,
            waiting_per_origin: 1024,
            origins_max: 1024,
            connect_timeout_ms: 2_000,
            head_timeout_ms: 8_000,
            idle_timeout_ms: 30_000,
            head_bytes: 32 << 10,
            head_fields: 100,
            min_rate: 1024,
            min_rate_grace_ms: 3_000,
            redirects_max: 5,
            extra_roots: Vec::new(),
            sources: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Whether the settings can be used; reads no files.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |key, value: u64, least: u64, most: u64, range| {
            let error = ConfigError::Range { key, value, range };
            (least..=most).contains(&value).then_some(()).ok_or(error)
        };
        let day = 86_400_000;
        within("max_body_bytes", self.max_body_bytes, 1, 1 << 40, "from 1 byte to 1 TiB")?;
        let connections = self.connections_per_origin as u64;
        within("connections_per_origin", connections, 1, 64, "from 1 to 64")?;
        within("waiting_per_origin", self.waiting_per_origin as u64, 1, 1 << 20, "from 1 to 1048576")?;
        within("origins_max", self.origins_max as u64, 1, 1 << 20, "from 1 to 1048576")?;
        within("connect_timeout_ms", self.connect_timeout_ms, 1, day, "from 1 ms to a day")?;
        within("head_timeout_ms", self.head_timeout_ms, 1, day, "from 1 ms to a day")?;
        within("idle_timeout_ms", self.idle_timeout_ms, 1, day, "from 1 ms to a day")?;
        within("head_bytes", self.head_bytes as u64, 8 << 10, 1 << 20, "from 8 KiB to 1 MiB")?;
        within("head_fields", self.head_fields as u64, 8, 1000, "from 8 to 1000")?;
        within("min_rate_grace_ms", self.min_rate_grace_ms, 0, day, "at most a day")?;
        within("redirects_max", self.redirects_max as u64, 0, 20, "at most 20")
    }

    /// Every exception from the address guard as one sentence, for the log at start and for `doctor`.
    pub fn exceptions(&self) -> Vec<String> {
        let lines = self.sources.iter().flat_map(|(name, source)| {
            let line = move |network: &Network| {
                format!(
                    "source `{name}` of tenant `{}` may reach {network} for URLs beneath {}",
                    source.tenant, source.prefix
                )
            };
            source.allowed_networks.iter().map(line)
        });
        lines.collect()
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
    pub(crate) fn head_timeout(&self) -> Duration {
        Duration::from_millis(self.head_timeout_ms)
    }
    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// The source of `tenant` that `target` belongs to.
    pub(crate) fn source_of(&self, tenant: &TenantId, target: &Target) -> Option<&SourceConfig> {
        let covering =
            self.sources.values().filter(|source| source.tenant == *tenant && source.prefix.covers(target));
        covering.max_by_key(|source| source.prefix.weight())
    }
}

/// The networks that one request may reach beyond the global ones: those of the source it asks for, and only while it
/// stays beneath that source's prefix. A redirect never enters another source's networks.
#[derive(Clone, Copy)]
pub(crate) struct Exceptions<'a>(Option<&'a SourceConfig>);

impl<'a> Exceptions<'a> {
    pub(crate) fn of(config: &'a Config, tenant: &TenantId, asked: &Target) -> Self {
        Self(config.source_of(tenant, asked))
    }
    /// Those that hold for `hop`.
    pub(crate) fn at(self, hop: &Target) -> &'a [Network] {
        match self.0 {
            Some(source) if source.prefix.covers(hop) => &source.allowed_networks,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        toml::from_str(
            r#"
            [sources.wide]
            prefix = "http://shop.internal/"
            allowed_networks = ["10.0.0.0/8"]
            [sources.narrow]
            prefix = "http://shop.internal/photos/"
            allowed_networks = ["10.1.2.3", "fd00:1::/32"]
            [sources.other]
            prefix = "http://shop.internal/"
            tenant = "other"
            allowed_networks = ["192.168.0.0/16"]
            "#,
        )
        .unwrap()
    }

    fn networks(tenant: &str, asked: &str, hop: &str) -> Vec<String> {
        let (config, tenant) = (config(), TenantId::new(tenant));
        let exceptions = Exceptions::of(&config, &tenant, &Target::parse(asked).unwrap());
        exceptions.at(&Target::parse(hop).unwrap()).iter().map(Network::to_string).collect()
    }

    #[test]
    fn the_longest_prefix_of_the_tenant_decides() {
        let same = |tenant, url| networks(tenant, url, url);
        assert_eq!(same("main", "http://shop.internal/a"), ["10.0.0.0/8"]);
        assert_eq!(same("main", "http://shop.internal/photos/a"), ["10.1.2.3/32", "fd00:1::/32"]);
        assert_eq!(same("other", "http://shop.internal/photos/a"), ["192.168.0.0/16"]);
        assert!(same("third", "http://shop.internal/a").is_empty());
    }

    #[test]
    fn a_redirect_keeps_its_exceptions_beneath_the_prefix_and_gains_none() {
        let photos = "http://shop.internal/photos/a";
        assert_eq!(networks("main", photos, "http://shop.internal/photos/b").len(), 2);
        assert!(networks("main", photos, "http://shop.internal/b").is_empty());
        assert!(networks("main", "http://public.example/", photos).is_empty());
    }

    #[test]
    fn exceptions_are_listed_in_full() {
        let lines = config().exceptions();
        assert_eq!(lines.len(), 4);
        let line = "source `narrow` of tenant `main` may reach 10.1.2.3/32 for URLs beneath http://shop.internal/photos/";
        assert!(lines.iter().any(|shown| shown == line), "{lines:?}");
        assert!(Config::default().exceptions().is_empty());
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        for (text, word) in [
            ("max_body = 1", "max_body"),
            ("[sources.a]\nprefix = \"http://x/\"\nallowed = []", "allowed"),
            ("[sources.a]\nprefix = \"x\"", "URL prefix"),
            ("[sources.a]\nprefix = \"http://x/\"\nallowed_networks = [\"10.0.0.1/8\"]", "10.0.0.0/8"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let error = Config { connections_per_origin: 65, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "`connections_per_origin` is 65; it must be from 1 to 64");
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn settings_survive_being_written_and_read() {
        let text = toml::to_string(&config()).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config());
    }
}
