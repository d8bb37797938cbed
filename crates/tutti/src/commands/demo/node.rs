//! One node of the demo: a `tutti serve` that is started, looked after and stopped. Knows nothing of the cluster.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tutti_base::Tick;

use super::processes;

/// How long after its death a node is started again.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A node that dies this soon after its start could not be started.
const TOO_SOON: Duration = Duration::from_secs(2);
/// Most deaths of that kind in a row; then the node is given up.
pub(super) const TOO_SOON_MAX: u32 = 5;
/// A log that has grown beyond this is begun anew when its node is started, in bytes.
const LOG_MAX: u64 = 16 << 20;
/// How much of the end of a log is shown, in bytes.
const LOG_END: u64 = 2000;

/// A node.
pub(super) struct Node {
    pub name: &'static str,
    folder: PathBuf,
    state: State,
    too_soon: u32,
}

enum State {
    Stopped,
    Running { server: Child, since: Tick },
    Died { at: Tick },
    GivenUp,
}

/// What has happened to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// Nothing.
    None,
    /// This server has ended.
    Died(u32),
    /// It is time to start it again.
    Due,
    /// It died too soon too often.
    GivenUp,
}

impl Node {
    pub(super) fn new(name: &'static str, folder: PathBuf) -> Self {
        Self { name, folder, state: State::Stopped, too_soon: 0 }
    }

    /// Starts the server with `words`, in a process group of its own; what it says goes to the log in its folder.
    ///
    /// Errors: the folder, the log or the process cannot be made.
    pub(super) fn start(&mut self, binary: &Path, words: &[String], now: Tick) -> anyhow::Result<u32> {
        let log = open_log(&self.folder)?;
        let also = log.try_clone().context("the log cannot be shared")?;
        let mut command = Command::new(binary);
        command.args(words).process_group(0).stdin(Stdio::null()).stdout(log).stderr(also);
        let server = command.spawn().with_context(|| format!("node {} could not be started", self.name))?;
        let id = server.id();
        self.state = State::Running { server, since: now };
        Ok(id)
    }

    /// The server's process id while it runs.
    pub(super) fn server(&self) -> Option<u32> {
        match &self.state {
            State::Running { server, .. } => Some(server.id()),
            _ => None,
        }
    }

    /// Looks after it.
    pub(super) fn look(&mut self, now: Tick) -> News {
        match &mut self.state {
            State::Running { server, since } => {
                // An error means that there is nothing to wait for: it has ended.
                if matches!(server.try_wait(), Ok(None)) {
                    return News::None;
                }
                let id = server.id();
                let soon = now.since(*since) < TOO_SOON;
                self.too_soon = if soon { self.too_soon + 1 } else { 0 };
                self.state = State::Died { at: now };
                News::Died(id)
            }
            State::Died { .. } if self.too_soon >= TOO_SOON_MAX => {
                self.state = State::GivenUp;
                News::GivenUp
            }
            State::Died { at } if now.since(*at) >= AGAIN_AFTER => News::Due,
            _ => News::None,
        }
    }

    /// Kills it with everything that it begot.
    pub(super) fn kill(&self) {
        if let Some(server) = self.server() {
            processes::kill_all(&processes::family(server));
        }
    }

    /// Asks it to stop.
    pub(super) fn ask_to_stop(&self) {
        if let Some(server) = self.server() {
            processes::signal(server, Signal::TERM);
        }
    }

    /// Whether nothing runs.
    pub(super) fn is_over(&mut self) -> bool {
        match &mut self.state {
            State::Running { server, .. } => !matches!(server.try_wait(), Ok(None)),
            _ => true,
        }
    }

    /// The end of its log, to say why it does not run.
    pub(super) fn last_words(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.folder.join("log"))?;
            let len = log.metadata()?.len();
            log.seek(SeekFrom::Start(len.saturating_sub(LOG_END)))?;
            let mut end = Vec::new();
            log.take(LOG_END).read_to_end(&mut end)?;
            Ok(String::from_utf8_lossy(&end).trim().to_owned())
        };
        read().unwrap_or_else(|error| format!("its log cannot be read: {error}"))
    }
}

/// The folder may belong to the user that the server became, so a link in place of the log is not followed.
fn open_log(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("log");
    let open = || -> std::io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let flags = libc::O_NOFOLLOW;
        let log = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(&path)?;
        if log.metadata()?.len() > LOG_MAX {
            log.set_len(0)?;
        }
        Ok(log)
    };
    open().with_context(|| format!("the log {} cannot be opened", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node whose server is `script`.
    fn node(script: &str) -> (tempfile::TempDir, Node, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::new("one", folder.path().join("one"));
        (folder, node, vec!["-c".into(), script.into()])
    }

    fn wait_for_news(node: &mut Node, now: Tick) -> News {
        loop {
            match node.look(now) {
                News::None => std::thread::yield_now(),
                news => return news,
            }
        }
    }

    #[test]
    fn a_node_that_dies_is_due_again_after_a_while_and_says_why_it_died() {
        let (_folder, mut node, words) = node("echo the reason >&2");
        let begin = Tick(0);
        let id = node.start(Path::new("/bin/sh"), &words, begin).unwrap();
        let died = begin + TOO_SOON;
        assert_eq!(wait_for_news(&mut node, died), News::Died(id));
        assert_eq!(node.look(died + AGAIN_AFTER - Duration::from_millis(1)), News::None);
        assert_eq!(node.look(died + AGAIN_AFTER), News::Due);
        assert_eq!(node.last_words(), "the reason");
    }

    #[test]
    fn a_node_that_cannot_start_is_given_up() {
        let (_folder, mut node, words) = node("exit 1");
        for _ in 0..TOO_SOON_MAX {
            node.start(Path::new("/bin/sh"), &words, Tick(0)).unwrap();
            assert!(matches!(wait_for_news(&mut node, Tick(0)), News::Died(_)));
        }
        assert_eq!(node.look(Tick(0)), News::GivenUp);
        assert_eq!(node.look(Tick(0) + AGAIN_AFTER), News::None);
    }

    #[test]
    fn killing_a_node_kills_what_it_begot() {
        let (_folder, mut node, words) = node("sleep 1000 & wait");
        let server = node.start(Path::new("/bin/sh"), &words, Tick(0)).unwrap();
        let family = loop {
            let family = processes::family(server);
            if family.len() == 2 {
                break family;
            }
            std::thread::yield_now();
        };
        node.kill();
        assert!(matches!(wait_for_news(&mut node, Tick(0)), News::Died(_)));
        while processes::is_alive(family[1]) {
            std::thread::yield_now();
        }
        assert!(node.is_over() && node.server().is_none());
    }
}
