//! The command line: what can be typed. Does nothing itself.

mod cluster;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use tutti_base::Roles;

use crate::settings::LogFormat;

pub(crate) use cluster::{
    AssetsAction, EventsArgs, LockArgs, NodeCommand, PromoteArgs, StoreCommand, TokenAction,
};

/// Tutti: many machines, one server.
#[derive(Parser, Debug)]
#[command(name = "tutti", version, about, disable_help_subcommand = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print JSON instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// The data directory of the server.
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the server.
    Serve(Box<ServeArgs>),
    /// Run several nodes here behind one address, with a page of pictures and a gentle load.
    Demo(DemoArgs),
    /// Show and change the cluster document.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Set and list secrets; their values are never shown.
    Secret {
        /// What to do.
        #[command(subcommand)]
        action: SecretAction,
    },
    /// Look into the caches, and purge.
    Cache {
        /// What to do.
        #[command(subcommand)]
        action: CacheAction,
    },
    /// Build an image URL, signed where the server has a key.
    Url {
        /// The original, such as `local:///photo01.jpg` or `https://img.example/a.jpg`.
        source: String,
        /// Options, such as `rs:fit:512:512` or `q:70`.
        options: Vec<String>,
        /// The format to write: jpg, png or webp.
        #[arg(long)]
        format: Option<String>,
    },
    /// Say what the server would do for a URL, and why.
    Explain {
        /// A path such as `/image/…`, or a whole URL.
        url: String,
    },
    /// Say how the node and its cluster are.
    Status,
    /// List the nodes of the cluster.
    Nodes,
    /// Drain, resume or remove a node, or change its roles.
    Node {
        /// What to do.
        #[command(subcommand)]
        action: NodeCommand,
    },
    /// Make, list and revoke the lines with which machines join.
    Token {
        /// What to do.
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Make a node the one voter, where the old voter is lost.
    Promote(PromoteArgs),
    /// Show what happened in the cluster, and why.
    Events(EventsArgs),
    /// List, write and remove originals, on any node.
    Assets {
        /// What to do.
        #[command(subcommand)]
        action: AssetsAction,
    },
    /// Keep small things of your own in the replicated store.
    Store {
        /// What to do.
        #[command(subcommand)]
        action: StoreCommand,
    },
    /// Write the cluster's small state to a file, without secrets.
    Backup {
        /// The file; it must not exist.
        file: PathBuf,
    },
    /// Make a backup the state of the cluster.
    Restore {
        /// The file.
        file: PathBuf,
    },
    /// Check the machine and the server's state, and say what to do.
    Doctor,
    /// List the ports that the server listens on.
    Ports,
    /// Print shell completions.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Explain a word, also one that other systems use.
    Help {
        /// The word, such as `master` or `render cache`.
        word: Vec<String>,
    },
    /// Be an engine of a service. Started by the server only.
    #[command(hide = true)]
    Engine {
        /// The service.
        service: String,
    },
}

/// `tutti serve`.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct ServeArgs {
    /// A file with this machine's settings.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The cache directory; `cache` in the data directory unless given.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The machine's name; the host name unless given.
    #[arg(long)]
    pub name: Option<String>,
    /// An address to serve HTTP on; may be given several times.
    #[arg(long, value_name = "ADDR")]
    pub http: Vec<SocketAddr>,
    /// The address of console and API.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// The address of a listener for metrics alone.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// A folder of originals; may be given several times, with names.
    #[arg(long, value_name = "[NAME=]DIR")]
    pub originals: Vec<String>,
    /// What this node does from its first start on, such as `front,worker`; unless given what its token allows, or all of
    /// front, worker, voter and cache. Later `tutti node roles` changes it.
    #[arg(long)]
    pub roles: Option<Roles>,
    /// The address of the port between nodes, TCP and UDP.
    #[arg(long, value_name = "ADDR")]
    pub node: Option<SocketAddr>,
    /// Where other nodes reach this one, behind address translation; may be given several times.
    #[arg(long, value_name = "ADDR")]
    pub advertise: Vec<SocketAddr>,
    /// Join the cluster that made this token (`tutti token create`).
    #[arg(long, value_name = "TOKEN")]
    pub join: Option<String>,
    /// Join although this machine has run alone: its small state is archived, caches and folders stay.
    #[arg(long, requires = "join")]
    pub replace_state: bool,
    /// Join in place of a lost node of this name: this machine was rebuilt.
    #[arg(long, value_name = "NAME", requires = "join")]
    pub replace: Option<String>,
    /// The one address that the cluster answers on: the node that holds it listens there.
    #[arg(long, value_name = "ADDR")]
    pub cluster_address: Option<SocketAddr>,
    /// Show the demo's page of the pictures in the unnamed folder.
    #[arg(long, hide = true)]
    pub gallery: bool,
    /// How logs are written.
    #[arg(long, value_enum)]
    pub log: Option<LogFormat>,
}

/// `tutti demo`.
#[derive(Args, Debug, Clone)]
pub(crate) struct DemoArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub nodes: usize,
    /// How many requests a second.
    #[arg(long, default_value = "20/s", value_parser = rate, value_name = "N/s")]
    pub load: f64,
    /// The folder of the nodes, emptied first; a temporary one unless given.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The folder of originals; `samples` unless given.
    #[arg(long, value_name = "DIR")]
    pub originals: Option<PathBuf>,
    /// The cluster address; the nodes have the addresses behind it.
    #[arg(long, default_value = "127.0.0.10", value_name = "IP")]
    pub base: Ipv4Addr,
    /// End after so many seconds, print the sums, and fail if a request has failed.
    #[arg(long, hide = true, value_name = "SECONDS")]
    pub check: Option<u64>,
    /// Kill the master so many times, and print for how long the address was silent.
    #[arg(long, hide = true, value_name = "N")]
    pub kill: Option<u32>,
    /// Be the guard of a demo. Started by a demo only.
    #[arg(long, hide = true)]
    pub guard: bool,
}

/// A pace such as `20/s`.
fn rate(text: &str) -> Result<f64, String> {
    let number: f64 =
        text.strip_suffix("/s").unwrap_or(text).trim().parse().map_err(|_| "give it as `20/s`")?;
    if (0.1..=10_000.0).contains(&number) { Ok(number) } else { Err("from 0.1/s to 10000/s".to_owned()) }
}

/// `tutti config …`.
#[derive(Subcommand, Debug)]
pub(crate) enum ConfigAction {
    /// Print the document.
    Show,
    /// Print one value.
    Get {
        /// Its dotted path, such as `image.quality.jpeg`.
        path: String,
    },
    /// Set one value.
    Set {
        /// Its dotted path.
        path: String,
        /// The value, as TOML; what is not TOML is a text.
        value: String,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Merge a file into the document, table by table.
    Apply {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// Delete what the file does not have.
        #[arg(long)]
        replace: bool,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Show what differs between two revisions.
    Diff {
        /// The older; the one before the newer unless given.
        from: Option<u64>,
        /// The newer; the current unless given.
        to: Option<u64>,
    },
    /// List the revisions.
    History,
    /// Go back to an older revision.
    Rollback {
        /// Its number.
        revision: u64,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// How a change of the document is made.
#[derive(Args, Debug, Clone)]
pub(crate) struct ChangeArgs {
    /// Print the plan and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Change only if the document has this revision.
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
    /// Keep a change that needs a restart; it holds from the next start on.
    #[arg(long)]
    pub at_restart: bool,
    /// Why, for the history.
    #[arg(long, default_value = "")]
    pub why: String,
}

/// `tutti secret …`.
#[derive(Subcommand, Debug)]
pub(crate) enum SecretAction {
    /// Set a secret from standard input.
    Set {
        /// Its name; documents refer to it as `secret:NAME`.
        name: String,
    },
    /// List names and times.
    List,
    /// Remove a secret.
    Rm {
        /// Its name.
        name: String,
    },
}

/// `tutti cache …`.
#[derive(Subcommand, Debug)]
pub(crate) enum CacheAction {
    /// Show what the caches hold.
    Stats,
    /// Purge by URL, original, tag, or everything.
    Purge(PurgeArgs),
}

/// What to purge: exactly one of these.
#[derive(Args, Debug, Clone)]
#[group(required = true, multiple = false)]
pub(crate) struct PurgeArgs {
    /// One URL, in all its variants: its path as clients ask for it.
    #[arg(long)]
    pub url: Option<String>,
    /// An original and everything made of it.
    #[arg(long)]
    pub source: Option<String>,
    /// Everything that carries a tag.
    #[arg(long)]
    pub tag: Option<String>,
    /// Everything.
    #[arg(long)]
    pub all: bool,
}
