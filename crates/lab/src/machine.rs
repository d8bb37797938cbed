//! One machine of the lab: its port, its quota, and the node that runs on it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tutti_base::clock::MachineTime;

use crate::http;
use crate::quota::Group;
use crate::wires::{Port, address};

const NAMES: [&str; 9] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const HTTP: u16 = 8080;
const NODE: u16 = 8400;
const METRICS: u16 = 8402;
const PAUSE: Duration = Duration::from_millis(50);
/// What must come comes within this.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Waits until `check` has something.
///
/// Errors: it does not come within a minute.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let time = MachineTime::start();
    let until = time.now() + PATIENCE;
    while time.now() < until {
        if let Some(found) = check() {
            return Ok(found);
        }
        std::thread::sleep(PAUSE);
    }
    bail!("in vain: {what}")
}

/// A machine.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) port: Port,
    pub(crate) group: Group,
    at: usize,
    binary: PathBuf,
    folder: PathBuf,
    originals: Option<PathBuf>,
    server: Option<Child>,
}

/// What machines have in common.
pub(crate) struct Outfit<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) data: &'a Path,
    pub(crate) groups: &'a str,
    pub(crate) quota_pct: u64,
}

impl Machine {
    /// Machine `at`, with a folder of originals or without.
    pub(crate) fn new(at: usize, outfit: &Outfit<'_>, originals: Option<&Path>) -> anyhow::Result<Self> {
        let name = NAMES.get(at).context("too many machines")?;
        let folder = outfit.data.join(name);
        std::fs::create_dir_all(&folder).context("no folder")?;
        Ok(Self {
            name,
            port: Port::new(at)?,
            group: Group::new(outfit.groups, name, outfit.quota_pct)?,
            at,
            binary: outfit.binary.into(),
            folder,
            originals: originals.map(Into::into),
            server: None,
        })
    }

    pub(crate) fn http(&self) -> SocketAddr {
        (address(self.at), HTTP).into()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts the node, with a token to join with or without, and waits until it serves.
    pub(crate) fn start(&mut self, token: Option<&str>) -> anyhow::Result<()> {
        let log =
            File::options().append(true).create(true).open(self.folder.join("log")).context("no log")?;
        let [limits, counts] = self.group.doors();
        let join_groups = format!("echo $$ > {limits} && echo $$ > {counts} && exec \"$@\"");
        let host = address(self.at);
        let mut command = Command::new("sh");
        command.args(["-c", &join_groups, "sh"]).args(self.port.enter()).arg(&self.binary);
        command
            .args(["serve", "--name", self.name, "--log", "json", "--admin", "127.0.0.1:8401", "--data"])
            .arg(self.data());
        for (flag, port) in [("--http", HTTP), ("--node", NODE), ("--metrics", METRICS)] {
            command.args([flag, &format!("{host}:{port}")]);
        }
        if let Some(originals) = &self.originals {
            command.arg("--originals").arg(originals);
        }
        command.args(token.into_iter().flat_map(|token| ["--join", token]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().context("the node cannot be started")?);
        let http = self.http();
        let server = self.server.as_mut().context("it was just started")?;
        let ended = eventually(&format!("`{}` serves", self.name), || {
            if !matches!(server.try_wait(), Ok(None)) {
                return Some(true);
            }
            let answer = http::get(http, "/readyz", ANSWER_WITHIN).ok()?;
            (answer.status == 200).then_some(false)
        })?;
        if ended {
            bail!("`{}` ended; see {}", self.name, self.folder.join("log").display());
        }
        Ok(())
    }

    /// Sends a signal to everything that runs here.
    pub(crate) fn signal(&self, signal: Signal) {
        for process in self.group.processes().into_iter().filter_map(Pid::from_raw) {
            // Whoever has ended already needs no signal.
            let _ = kill_process(process, signal);
        }
    }

    /// `kill -9` of everything that runs here.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
    }

    /// What a command of `tutti` on this machine prints.
    ///
    /// Errors: it fails; with what it said.
    pub(crate) fn tutti(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(words).arg("--data").arg(self.data()).stdin(Stdio::null());
        let output = command.output().context("the binary cannot be run")?;
        if !output.status.success() {
            bail!("{words:?} on `{}`: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("not UTF-8")
    }

    /// The JSON that a command prints.
    pub(crate) fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        serde_json::from_str(&self.tutti(&[words, &["--json"]].concat())?).context("no JSON")
    }

    /// The sum of a metric over all its labels.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let from = SocketAddr::from((address(self.at), METRICS));
        let answer = http::get(from, "/metrics", ANSWER_WITHIN)
            .with_context(|| format!("no metrics of `{}`", self.name))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let rows = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        Ok(rows.filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.kill();
    }
}
