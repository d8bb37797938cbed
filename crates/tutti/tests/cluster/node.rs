//! One `tutti serve` with addresses and folders of its own; it and its engines are killed by their ids when it is dropped.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::{self, Response};
use crate::procfs;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tutti");

const HTTP: u16 = 8080;
const NODE: u16 = 8400;
const ADMIN: u16 = 8401;
/// What does not come true within this never will.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(15);

/// Waits until `check` has something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A node.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) host: Ipv4Addr,
    folder: PathBuf,
    /// What `tutti serve` is told beyond names, addresses and folders.
    pub(crate) words: Vec<String>,
    running: Option<Child>,
}

impl Node {
    /// A node that does not run yet; its data, cache and log are in a folder of its address within `home`.
    pub(crate) fn new(name: &str, host: Ipv4Addr, home: &Path, words: &[&str]) -> Self {
        let folder = home.join(host.to_string());
        std::fs::create_dir_all(&folder).expect("a folder");
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { name: name.to_owned(), host, folder, words, running: None }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        (self.host, HTTP).into()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        (self.host, ADMIN).into()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The folder of originals that it has unless told of another.
    pub(crate) fn originals(&self) -> PathBuf {
        self.data().join("originals")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// All that it has said.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Starts it, with a token to join with or without, and does not wait.
    pub(crate) fn spawn(&mut self, token: Option<&str>) {
        assert!(self.running.is_none(), "it runs already");
        let open = File::options().append(true).create(true).open(self.log_file());
        let log = open.expect("a log");
        let mut command = Command::new(BINARY);
        command.args(["serve", "--name", &self.name, "--log", "json", "--data"]).arg(self.data());
        for (flag, port) in [("--http", HTTP), ("--node", NODE), ("--admin", ADMIN)] {
            command.args([flag, &format!("{}:{port}", self.host)]);
        }
        command.args(&self.words).args(token.into_iter().flat_map(|token| ["--join", token]));
        command.env_remove("TUTTI_LOG").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::from(log));
        self.running = Some(command.spawn().expect("the binary"));
    }

    /// Waits until it serves; what it said where it ended instead.
    pub(crate) fn serves(&mut self) -> Result<(), String> {
        let admin = self.admin();
        let running = self.running.as_mut().expect("it was started");
        let ended = eventually(&format!("`{}` serves", self.name), || {
            if running.try_wait().expect("a child").is_some() {
                return Some(true);
            }
            let answer = client::ask(admin, "GET", "/readyz", &[]).ok()?;
            (answer.status == 200).then_some(false)
        });
        if ended {
            self.running = None;
            return Err(self.log());
        }
        Ok(())
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub(crate) fn start(&mut self, token: Option<&str>) {
        self.spawn(token);
        self.serves().unwrap_or_else(|log| panic!("`{}` ended:\n{log}", self.name));
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").id()
    }

    /// The server and its engines.
    fn family(&self) -> Vec<u32> {
        let server = self.pid();
        [vec![server], procfs::children(server)].concat()
    }

    /// `kill -9` of everything that the node is.
    pub(crate) fn kill(&mut self) {
        self.family().into_iter().for_each(|pid| signal(pid, Signal::KILL));
        self.bury();
    }

    /// Waits for what was killed.
    pub(crate) fn bury(&mut self) {
        let mut child = self.running.take().expect("it runs");
        child.wait().expect("a child");
    }

    /// Kills without waiting: for many at once.
    pub(crate) fn strike(&self) {
        self.family().into_iter().for_each(|pid| signal(pid, Signal::KILL));
    }

    /// Stops it in the middle of whatever it does.
    pub(crate) fn freeze(&self) {
        self.family().into_iter().for_each(|pid| signal(pid, Signal::STOP));
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.family().into_iter().for_each(|pid| signal(pid, Signal::CONT));
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn terminate(&mut self) {
        signal(self.pid(), Signal::TERM);
        let child = self.running.as_mut().expect("it runs");
        let status = eventually("the server ends", || child.try_wait().expect("a child"));
        assert!(status.success(), "`{}` ended with {status}:\n{}", self.name, self.log());
        self.running = None;
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        let answer = client::ask(self.http(), method, target, fields);
        answer.unwrap_or_else(|error| panic!("{method} {target} of `{}`: {error}\n{}", self.name, self.log()))
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.ask("GET", target, &[])
    }

    /// Gets what must be there.
    #[track_caller]
    pub(crate) fn image(&self, target: &str) -> Response {
        let answer = self.get(target);
        let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]);
        assert_eq!(answer.status, 200, "{target} of `{}`: {text}", self.name);
        answer
    }

    /// Runs `tutti` on this machine.
    pub(crate) fn tutti(&self, words: &[&str]) -> Done {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--data").arg(self.data()).stdin(Stdio::null());
        let output = command.output().expect("the binary");
        Done {
            code: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Runs a command that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let done = self.tutti(words);
        assert_eq!(done.code, 0, "{words:?} on `{}`: {done:?}", self.name);
        done.out
    }

    /// The JSON that a command prints.
    #[track_caller]
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let out = self.done(&[words, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out}"))
    }

    /// What this node knows of the node `name`; none where it knows no such node or does not answer.
    pub(crate) fn sees(&self, name: &str) -> Option<Value> {
        let done = self.tutti(&["nodes", "--json"]);
        let nodes: Value = serde_json::from_str(&done.out).ok()?;
        nodes.as_array()?.iter().find(|node| node["name"] == name).cloned()
    }

    /// The state that this node gives the node `name`.
    pub(crate) fn state_of(&self, name: &str) -> Option<String> {
        self.sees(name)?["state"].as_str().map(Into::into)
    }

    /// The sum of a counter or gauge over the label sets that have all of `labels`; none where nothing answers.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = String::from_utf8(client::ask(self.admin(), "GET", "/metrics", &[]).ok()?.body).ok()?;
        let rows = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        Some(rows.filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the log of `{}`, without what the store's library says\n{}",
                self.name,
                brief(&self.log())
            );
        }
        if self.running.is_some() {
            self.kill();
        }
    }
}

/// The end of a log, without the lines of libraries.
fn brief(log: &str) -> String {
    let ours: Vec<&str> = log.lines().filter(|line| !line.contains("\"openraft")).collect();
    ours[ours.len().saturating_sub(60)..].join("\n")
}

/// Whoever has ended already needs no signal.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
