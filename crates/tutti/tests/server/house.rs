//! A server of the real binary on free ports, with folders of its own; killed by its id when it is dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{self, Response};
use crate::procfs;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tutti");
pub(crate) const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples");

/// What does not come true within this never will.
const PATIENCE: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(10);

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

/// What a process prints, as it comes.
#[derive(Clone, Default)]
pub(crate) struct Printed(Arc<(Mutex<(String, bool)>, Condvar)>);

impl Printed {
    fn follow(mut from: impl Read + Send + 'static) -> Self {
        let printed = Self::default();
        let kept = printed.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let read = from.read(&mut bytes).unwrap_or(0);
                let (state, changed) = &*kept.0;
                let mut state = state.lock().expect("no test panics in it");
                state.0.push_str(&String::from_utf8_lossy(&bytes[..read]));
                state.1 = read == 0;
                changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        printed
    }

    pub(crate) fn text(&self) -> String {
        self.0.0.lock().expect("no test panics in it").0.clone()
    }

    /// Waits until `look` finds something in the text; none when the text ends without it.
    #[track_caller]
    fn wait<T>(&self, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("no test panics in it");
        loop {
            if let Some(found) = look(&state.0) {
                return Some(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                return None;
            }
            state = changed.wait_timeout(state, left).expect("no test panics in it").0;
        }
    }
}

/// How a server is started.
#[derive(Default)]
pub(crate) struct Setup {
    /// The folder of originals; the one in the data directory unless set.
    pub(crate) originals: Option<PathBuf>,
    /// The cache directory; the one in the data directory unless set.
    pub(crate) cache: Option<PathBuf>,
    /// The user that starts it, where root may choose.
    pub(crate) user: Option<u32>,
    /// Further words for `tutti serve`.
    pub(crate) words: Vec<String>,
    /// A listening socket that is handed down instead of an address.
    pub(crate) inherited: Option<TcpListener>,
}

/// A server and its folders.
pub(crate) struct House {
    folder: TempDir,
    setup: Setup,
    running: Option<Running>,
}

struct Running {
    child: Child,
    stdout: Printed,
    stderr: Printed,
    http: SocketAddr,
    admin: SocketAddr,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl House {
    /// A server with defaults, whose originals are in its data directory.
    pub(crate) fn start() -> Self {
        Self::with(Setup::default())
    }

    /// A server of the sample photos.
    pub(crate) fn of_samples() -> Self {
        Self::with(Setup { originals: Some(SAMPLES.into()), ..Setup::default() })
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if let Some(user) = setup.user {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).expect("the user's folder");
        }
        let mut house = Self { folder, setup, running: None };
        house.start_again();
        house
    }

    /// A server that was started with `document` in force.
    pub(crate) fn under(document: &str) -> Self {
        let mut house = Self::start();
        house.restart_under(document);
        house
    }

    /// The server that tests share which neither stop it nor change its document; it lives as long as one of them.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<House>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let house = Arc::new(Self::start());
            *shared = Arc::downgrade(&house);
            house
        })
    }

    pub(crate) fn restart_under(&mut self, document: &str) {
        self.done(&["config", "apply", "-", "--at-restart"], document);
        self.terminate();
        self.start_again();
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder beside the server's.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts an original into the folder of the data directory.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.originals().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let new = self.folder.path().join("new");
        std::fs::write(&new, bytes).expect("a file");
        std::fs::rename(new, path).expect("its place");
    }

    pub(crate) fn originals(&self) -> PathBuf {
        self.setup.originals.clone().unwrap_or_else(|| self.data().join("originals"))
    }

    fn command(&self) -> Command {
        let mut command = match &self.setup.inherited {
            None => {
                let mut command = match self.setup.user {
                    None => Command::new(BINARY),
                    Some(user) => {
                        let mut command = Command::new("setpriv");
                        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
                        command.args(ids).args(["--clear-groups", BINARY]);
                        command
                    }
                };
                command.stdin(Stdio::null());
                command
            }
            Some(listener) => {
                let socket = OwnedFd::from(listener.try_clone().expect("a copy of the socket"));
                let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\" 3<&0 </dev/null";
                let mut command = Command::new("sh");
                command.args(["-c", script, "sh", BINARY]).stdin(Stdio::from(socket));
                command
            }
        };
        command
            .args(["serve", "--admin", "127.0.0.1:0", "--node", "127.0.0.1:0", "--log", "json", "--data"])
            .arg(self.data());
        if self.setup.inherited.is_none() {
            command.args(["--http", "127.0.0.1:0"]);
        }
        if let Some(originals) = &self.setup.originals {
            command.arg("--originals").arg(originals);
        }
        if let Some(cache) = &self.setup.cache {
            command.arg("--cache").arg(cache);
        }
        command.args(&self.setup.words).env_remove("TUTTI_LOG");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the server that was stopped, in the same folders.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut child = self.command().spawn().expect("the binary");
        let stdout = Printed::follow(child.stdout.take().expect("a pipe"));
        let stderr = Printed::follow(child.stderr.take().expect("a pipe"));
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let log = stderr.clone();
        self.running = Some(Running { child, stdout, stderr, http: unknown, admin: unknown });
        let address = log.wait(|text| {
            // The last line of the welcome: all addresses stand before it.
            text.lines().any(|line| line.starts_with("data  ")).then_some(())?;
            text.lines().find_map(|line| line.split_once("serves on http://")?.1.parse().ok())
        });
        let address = address.unwrap_or_else(|| panic!("the server did not start:\n{}", log.text()));
        let ports = self.json(&["ports"]);
        let admin = ports["ports"].as_array().expect("ports").iter().find(|port| port["name"] == "admin");
        let admin = admin.and_then(|port| port["address"].as_str()?.parse().ok()).expect("an address");
        let running = self.running.as_mut().expect("it was just started");
        (running.http, running.admin) = (address, admin);
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running().child.id()
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.running().http
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.running().admin
    }

    /// What the server logged.
    pub(crate) fn log(&self) -> String {
        self.running().stderr.text()
    }

    /// What it wrote to standard output: the access log.
    pub(crate) fn access_log(&self) -> String {
        self.running().stdout.text()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, pid: u32, signal: rustix::process::Signal) {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        // Whoever has ended already needs no signal.
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Tells the server to stop, and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(self.pid(), rustix::process::Signal::TERM);
        self.wait()
    }

    /// As [`Self::terminate`], with all that the server has printed added to `said`.
    pub(crate) fn terminate_keeping(&mut self, said: &mut String) {
        let printed = [self.running().stdout.clone(), self.running().stderr.clone()];
        self.terminate();
        for printed in printed {
            printed.wait(|_| None::<()>);
            said.push_str(&printed.text());
        }
    }

    /// Waits until the server has ended.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let running = self.running.as_mut().expect("the server runs");
        let status = eventually("the server ends", || running.child.try_wait().expect("a child"));
        self.running = None;
        status
    }

    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().expect("the server runs");
        running.child.kill().expect("it lives");
        running.child.wait().expect("a child");
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        let answer = client::ask(self.http(), method, target, fields);
        answer.unwrap_or_else(|error| panic!("{method} {target}: {error}\n{}", self.log()))
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.ask("GET", target, &[])
    }

    /// Gets what must be there.
    #[track_caller]
    pub(crate) fn image(&self, target: &str) -> Response {
        let response = self.get(target);
        let text = String::from_utf8_lossy(&response.body[..response.body.len().min(400)]);
        assert_eq!(response.status, 200, "{target}: {text}");
        response
    }

    /// Runs `tutti` for this server's data directory.
    pub(crate) fn tutti(&self, words: &[&str]) -> Done {
        self.tutti_told(words, "")
    }

    /// As [`Self::tutti`], with something on standard input.
    pub(crate) fn tutti_told(&self, words: &[&str], input: &str) -> Done {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.extend(["--data".to_owned(), self.data().display().to_string()]);
        tutti(&words, input)
    }

    /// Runs a command that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn done(&self, words: &[&str], input: &str) -> String {
        let done = self.tutti_told(words, input);
        assert_eq!(done.code, 0, "{words:?}: {done:?}");
        done.out
    }

    /// The JSON that a command prints.
    #[track_caller]
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let out = self.done(&[words, &["--json"]].concat(), "");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out}"))
    }

    /// Applies a document and waits until it is in force.
    #[track_caller]
    pub(crate) fn apply(&self, document: &str) {
        let out = self.done(&["config", "apply", "-", "--json"], document);
        self.in_force(&serde_json::from_str(&out).expect("a plan"));
    }

    /// Waits until the change of this plan is in force.
    #[track_caller]
    pub(crate) fn in_force(&self, plan: &Value) {
        if plan["applied"] != true {
            return;
        }
        let wanted = plan["revision"].as_u64().expect("a revision");
        let reached = |text: &str| {
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let fields = lines.map(|line| line["fields"].clone());
            let of_documents =
                fields.filter(|fields| fields["message"] == "the cluster document is in force");
            of_documents
                .filter_map(|fields| fields["revision"].as_u64())
                .any(|revision| revision >= wanted)
                .then_some(())
        };
        let reached = self.running().stderr.wait(reached);
        reached.unwrap_or_else(|| panic!("revision {wanted} did not come into force:\n{}", self.log()));
    }

    /// The sum of a counter or gauge over the label sets that have all of `labels`, such as `cache="hit"`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = client::ask(self.admin(), "GET", "/metrics", &[]).expect("metrics");
        let text = String::from_utf8(text.body).expect("text");
        let rows = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        rows.filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Results made by engines.
    pub(crate) fn renders(&self) -> f64 {
        self.metric("tutti_render_total", &["service=\"image\""])
    }

    /// The engines that run now.
    pub(crate) fn engines(&self) -> Vec<u32> {
        procfs::children(self.pid())
    }

    /// Waits until that many results are on disk.
    #[track_caller]
    pub(crate) fn wait_for_kept(&self, results: u64) {
        eventually("results are on disk", || {
            let kept = self.json(&["cache", "stats"])["results"]["kept"].as_u64()?;
            (kept >= results).then_some(())
        });
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let Some(running) = &mut self.running else { return };
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", running.stderr.text());
        }
        // A failing test may have met it dead.
        let _ = running.child.kill();
        let _ = running.child.wait();
    }
}

/// Runs `tutti` with these words and something on standard input.
pub(crate) fn tutti(words: &[String], input: &str) -> Done {
    let mut command = Command::new(BINARY);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary");
    // A command that reads nothing may have ended before it is told anything.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its output");
    Done {
        code: output.status.code().expect("it ended by itself"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
