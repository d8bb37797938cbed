//! The command line: what can be typed. Does nothing itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::LogFormat;

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
    Serve(ServeArgs),
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
    /// Say how the server is.
    Status,
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
    /// How logs are written.
    #[arg(long, value_enum)]
    pub log: Option<LogFormat>,
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
