//! What belongs to one machine: flags over `tutti.toml` over defaults. Everything else is in the cluster document.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use tutti_base::Roles;

use crate::cli::ServeArgs;
use crate::strict;

/// The port of the HTTP listener.
pub(crate) const HTTP_PORT: u16 = 8080;
/// The port between nodes.
pub(crate) const NODE_PORT: u16 = 8400;
/// The port of console and API.
pub(crate) const ADMIN_PORT: u16 = 8401;

/// `tutti.toml`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    /// The machine's name; the host name unless set.
    pub name: Option<String>,
    /// The data directory.
    pub data: Option<PathBuf>,
    /// The cache directory; `cache` in the data directory unless set.
    pub cache: Option<PathBuf>,
    /// Addresses of the HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// The address of console and API.
    pub admin: Option<SocketAddr>,
    /// The address of a listener for metrics alone.
    pub metrics: Option<SocketAddr>,
    /// Folders of originals by name; the empty name is the unnamed folder.
    pub originals: BTreeMap<String, PathBuf>,
    /// What this node does; all of front, worker, voter and cache unless set. `tutti node roles` changes it live.
    #[serde(with = "roles_words")]
    pub roles: Option<Roles>,
    /// The address of the port between nodes, TCP and UDP; port 8400 of every interface unless set.
    pub node: Option<SocketAddr>,
    /// Where other nodes reach this one, for machines behind address translation.
    pub advertise: Vec<SocketAddr>,
    /// The one address that the cluster answers on; the node that holds it listens there.
    pub cluster_address: Option<SocketAddr>,
    /// The uid and gid to run as, when started as root.
    pub uid: Option<u32>,
    /// How logs are written.
    pub log: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Where results and originals are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caching {
    /// In memory and in the cache directory.
    OnDisk,
    /// In memory alone: the cache directory cannot be used.
    InMemory,
}

/// How a machine comes into a cluster. Printing it shows no token.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Joining {
    /// The token to join with; none: what it was before, or a cluster of its own.
    pub token: Option<String>,
    /// Whether its own state may be put aside for that.
    pub replace_state: bool,
    /// The name of the lost node in whose place it joins.
    pub replace: Option<String>,
}

impl std::fmt::Debug for Joining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Joining(with a token: {})", self.token.is_some())
    }
}

/// Roles as people write them: `front,worker`.
mod roles_words {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use tutti_base::Roles;

    pub(super) fn serialize<S: Serializer>(roles: &Option<Roles>, to: S) -> Result<S::Ok, S::Error> {
        match roles {
            Some(roles) => to.serialize_str(&roles.to_string()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Roles>, D::Error> {
        let words = Option::<String>::deserialize(from)?;
        words.map(|words| words.parse().map_err(D::Error::custom)).transpose()
    }
}

/// The settings in force on this machine.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Settings {
    /// The machine's name.
    pub name: String,
    /// The data directory.
    pub data: PathBuf,
    /// The cache directory.
    pub cache: PathBuf,
    /// Whether it is used.
    pub caching: Caching,
    /// Addresses of the HTTP listeners; none: port 8080, on loopback only unless a key is configured.
    pub http: Vec<SocketAddr>,
    /// The address of console and API.
    pub admin: SocketAddr,
    /// The address of a listener for metrics alone.
    pub metrics: Option<SocketAddr>,
    /// Folders of originals by name.
    pub originals: BTreeMap<String, PathBuf>,
    /// What this node does, where the machine says so.
    pub roles: Option<Roles>,
    /// The address of the port between nodes.
    pub node: SocketAddr,
    /// Where other nodes reach this one; none: where it listens.
    pub advertise: Vec<SocketAddr>,
    /// How this node comes into its cluster.
    pub joining: Joining,
    /// The one address that the cluster answers on.
    pub cluster_address: Option<SocketAddr>,
    /// Whether the demo's page is shown.
    pub gallery: bool,
    /// The uid and gid to run as, when started as root.
    pub uid: u32,
    /// How logs are written.
    pub log: LogFormat,
}

/// The uid and gid that a server started as root becomes; it needs no passwd entry. Engines
/// have the uids from 64000 on.
pub(crate) const SERVER_UID: u32 = 63_999;

impl Settings {
    /// Flags over the file over defaults.
    pub(crate) fn of(args: &ServeArgs, data: Option<&Path>) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let data = absolute(&data.map(Into::into).or(file.data).unwrap_or_else(default_data))?;
        let cache = args.cache.clone().or(file.cache).unwrap_or_else(|| data.join("cache"));
        let mut originals = file.originals;
        for given in &args.originals {
            let (name, folder) = named_folder(given)?;
            originals.insert(name, folder);
        }
        if !originals.contains_key("") {
            originals.insert(String::new(), data.join("originals"));
        }
        let originals = originals
            .into_iter()
            .map(|(name, at)| Ok((name, absolute(&at)?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            name: args.name.clone().or(file.name).unwrap_or_else(host_name),
            cache: absolute(&cache)?,
            caching: Caching::OnDisk,
            data,
            http: if args.http.is_empty() { file.http } else { args.http.clone() },
            admin: args.admin.or(file.admin).unwrap_or(SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT))),
            metrics: args.metrics.or(file.metrics),
            originals,
            roles: args.roles.or(file.roles),
            node: args.node.or(file.node).unwrap_or(SocketAddr::from(([0, 0, 0, 0], NODE_PORT))),
            advertise: if args.advertise.is_empty() { file.advertise } else { args.advertise.clone() },
            joining: Joining {
                token: args.join.clone(),
                replace_state: args.replace_state,
                replace: args.replace.clone(),
            },
            cluster_address: args.cluster_address.or(file.cluster_address),
            gallery: args.gallery,
            uid: file.uid.unwrap_or(SERVER_UID),
            log: args.log.unwrap_or(file.log),
        })
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: toml::Table =
        toml::from_str(&text).with_context(|| format!("{} is not TOML", path.display()))?;
    strict::read(table).map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message))
}

/// `DIR` or `NAME=DIR`.
fn named_folder(given: &str) -> anyhow::Result<(String, PathBuf)> {
    let (name, folder) = given.split_once('=').unwrap_or(("", given));
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !fits || folder.is_empty() {
        bail!("--originals {given}: give DIR or NAME=DIR, the name of letters, digits, `-`, `_` and `.`");
    }
    Ok((name.to_owned(), folder.into()))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))
}

/// `/var/lib/tutti` as root, else in the XDG data home.
pub(crate) fn default_data() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/tutti".into();
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let xdg = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    xdg.or_else(home).unwrap_or_else(|| "/var/lib".into()).join("tutti")
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_names_or_are_the_unnamed_one() {
        assert_eq!(named_folder("samples").unwrap(), (String::new(), "samples".into()));
        assert_eq!(named_folder("shop=/srv/a=b").unwrap(), ("shop".into(), "/srv/a=b".into()));
        assert!(named_folder("a/b=c").is_err());
        assert!(named_folder("x=").is_err());
    }

    #[test]
    fn an_unknown_key_in_the_file_names_the_nearest_known_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tutti.toml");
        std::fs::write(&path, "admn = '127.0.0.1:1'").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("`admn`") && error.contains("`admin`"), "{error}");
    }
}
