//! The command line of the cluster: tokens, nodes, the journal, originals, the users' store. Does nothing itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// `tutti token …`.
#[derive(Subcommand, Debug)]
pub(crate) enum TokenAction {
    /// Print the line with which one more machine joins.
    Create {
        /// The roles that it may have, such as `front,worker`; all unless given.
        #[arg(long, value_delimiter = ',')]
        roles: Vec<String>,
        /// How long the line may be used, such as `30m`, `1h` or `2d`; from 10s to 7d.
        #[arg(long, default_value = "1h", value_parser = duration)]
        expires: Duration,
        /// Where the machine finds this cluster; may be given several times. What the nodes advertise unless given.
        #[arg(long, value_name = "ADDR")]
        address: Vec<SocketAddr>,
    },
    /// List the tokens; never what is secret of them.
    List,
    /// Make a token worthless.
    Revoke {
        /// Its id, as `token list` shows it.
        id: String,
    },
}

/// `tutti node …`.
#[derive(Subcommand, Debug)]
pub(crate) enum NodeCommand {
    /// Let a node finish what it has and take nothing new.
    Drain {
        /// Its name.
        name: String,
        /// Why, for the journal.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Give a drained node work again.
    Resume {
        /// Its name.
        name: String,
    },
    /// Take a node out of the cluster for good. Prints the secrets to rotate.
    Remove {
        /// Its name.
        name: String,
        /// Also if it does not answer.
        #[arg(long)]
        force: bool,
    },
    /// Change what a node does; holds at once.
    Roles {
        /// Its name.
        name: String,
        /// All roles that it has from now on, such as `front,worker`.
        #[arg(value_delimiter = ',', required = true)]
        roles: Vec<String>,
    },
}

/// `tutti events`.
#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Go on and print what happens.
    #[arg(long)]
    pub follow: bool,
    /// Begin with this many events.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
}

/// `tutti assets …`.
#[derive(Subcommand, Debug)]
pub(crate) enum AssetsAction {
    /// List originals with the nodes that hold them.
    Ls {
        /// A folder and what paths begin with: `NAME=`, `NAME=PREFIX` or `PREFIX` of the unnamed folder.
        #[arg(value_name = "[NAME=][PREFIX]", default_value = "")]
        what: String,
    },
    /// Write a file as an original.
    Put {
        /// The file.
        file: PathBuf,
        /// `local://NAME/path`, or `local:///path`.
        url: String,
    },
    /// Remove an original on every node, for good.
    Rm {
        /// `local://NAME/path`, or `local:///path`.
        url: String,
    },
}

/// `tutti store …`.
#[derive(Subcommand, Debug)]
pub(crate) enum StoreCommand {
    /// Print the value of a key, or the keys that begin with something.
    Get {
        /// The key.
        key: String,
        /// Print all keys that begin with KEY, with their values.
        #[arg(long)]
        prefix: bool,
        /// Show every write that was acknowledged before, anywhere in the cluster.
        #[arg(long)]
        linearizable: bool,
    },
    /// Write a key.
    Put {
        /// The key.
        key: String,
        /// The value; `-` for standard input.
        value: String,
        /// Only if the key was last written at this revision.
        #[arg(long, value_name = "N", conflicts_with = "if_absent")]
        if_revision: Option<u64>,
        /// Only if the key does not exist.
        #[arg(long)]
        if_absent: bool,
    },
    /// Remove a key.
    Rm {
        /// The key.
        key: String,
    },
    /// Apply a transaction: conditions `when`, then `then` or `otherwise`. Exit status 1 where a condition fails.
    Txn {
        /// A JSON file; `-` for standard input.
        file: PathBuf,
    },
    /// Print changes as lines of JSON.
    Watch {
        /// What keys begin with; every key unless given.
        #[arg(default_value = "")]
        prefix: String,
        /// Only changes after this revision.
        #[arg(long, value_name = "REV")]
        after: Option<u64>,
    },
    /// Run a command while holding a lock. Its exit status is the command's.
    Lock(LockArgs),
}

/// `tutti store lock`.
#[derive(Args, Debug)]
pub(crate) struct LockArgs {
    /// The lock's name.
    pub name: String,
    /// How long the lock outlives this command when the machine dies.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub ttl: Duration,
    /// The command. It finds the fencing token in TUTTI_LOCK_TOKEN.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// `tutti promote`.
#[derive(Args, Debug)]
pub(crate) struct PromoteArgs {
    /// The node that becomes the one voter.
    pub name: String,
    /// The name once more, instead of being asked for it.
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}

/// A span such as `90s`, `30m`, `1h`, `2d`, `500ms`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let wrong = || format!("`{text}` is no span of time; write 90s, 30m, 1h or 2d");
    let ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn read(words: &str) -> Result<Command, clap::Error> {
        let words = words.split_whitespace();
        Cli::try_parse_from(["tutti"].into_iter().chain(words)).map(|cli| cli.command)
    }

    #[test]
    fn spans_have_units() {
        for (text, ms) in [
            ("500ms", 500),
            ("90", 90_000),
            ("90s", 90_000),
            ("30m", 1_800_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "h", "1w", "-1s", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_words_of_the_cluster_are_understood() {
        for words in [
            "token create",
            "token create --roles front,worker --expires 30m --address 10.0.0.1:8400 --address 10.0.0.2:8400",
            "token list --json",
            "token revoke 17",
            "nodes",
            "node drain two --why disk",
            "node resume two",
            "node remove two --force",
            "node roles two front,worker",
            "promote two --confirm two",
            "events --follow --limit 1000",
            "assets ls",
            "assets ls photos=2026/",
            "assets put a.jpg local:///a.jpg",
            "assets rm local:///a.jpg",
            "store get k --prefix --linearizable",
            "store put k v --if-revision 7",
            "store put k - --if-absent",
            "store rm k",
            "store txn -",
            "store watch k --after 7",
            "store lock nightly --ttl 30s -- echo --json hello",
            "backup state.tutti",
            "restore state.tutti",
        ] {
            read(words).unwrap_or_else(|error| panic!("{words}: {error}"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        for words in [
            "token",
            "token create --expires soon",
            "token create --address nowhere",
            "node drain",
            "node roles two",
            "events --limit 0",
            "events --limit 1001",
            "store put k v --if-revision 7 --if-absent",
            "store lock nightly",
            "assets put a.jpg",
        ] {
            let error = read(words).err().unwrap_or_else(|| panic!("{words} was understood"));
            assert_eq!(error.exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn words_of_a_command_under_a_lock_are_its_own() {
        let Ok(Command::Store { action: StoreCommand::Lock(lock) }) =
            read("store lock n -- cmd --ttl 1 --json")
        else {
            panic!("a lock")
        };
        assert_eq!(lock.command, ["cmd", "--ttl", "1", "--json"]);
        assert_eq!(lock.ttl, Duration::from_secs(10));
    }
}
