//! The journey of a request through the real server: its spans are those that ARCHITECTURE.md tells, in that order.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// No answer of the server takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);
/// A miss and a hit each. A hit on a folder's photo looks at the folder again after a second, which a machine that stands
/// still may take between the two: one pair that is quicker is enough.
const PAIRS: usize = 3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One row of the journey's table: the spans and the files that it names.
struct Row {
    spans: Vec<String>,
    files: Vec<String>,
}

/// The table under `## A request's journey`.
fn told() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("A request's journey")).unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| step"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [_, spans, files] = cells[..] else { panic!("three columns: {line}") };
        Row { spans: quoted(spans), files: quoted(files) }
    })
    .collect()
}

/// A server on the sample photos, whose log tells every span as it begins.
struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tutti"))
            .args([
                "serve",
                "--log",
                "json",
                "--http",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--node",
                "127.0.0.1:0",
            ])
            .arg("--data")
            .arg(folder.path().join("data"))
            .arg("--originals")
            .arg(root().join("samples").canonicalize().unwrap())
            .env("TUTTI_LOG", "info,tutti_front=debug,tutti_flow=debug,tutti_worker=debug")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server ended before it served:\n{said}");
            if let Some((_, address)) = line.split_once("serves on http://") {
                break address.trim().to_owned();
            }
            said += &line;
        };
        Self { child, log, address, _folder: folder }
    }

    /// Sends two equal requests at once on one connection; the answers' `Cache-Status`.
    fn ask_twice(&self, target: &str) -> [String; 2] {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let first = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let second = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all((first + &second).as_bytes()).unwrap();
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).unwrap();
        let text = String::from_utf8_lossy(&answers);
        assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{}", &text[..text.len().min(600)]);
        let mut statuses =
            text.split("\r\nCache-Status: ").skip(1).map(|rest| rest.lines().next().unwrap().into());
        [statuses.next().unwrap(), statuses.next().unwrap()]
    }

    /// Stops it; what it has logged since it began to serve.
    fn stop(mut self) -> Vec<Value> {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let mut text = String::new();
        self.log.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The spans that began below a `front.request` for `target`, in order.
fn spans(log: &[Value], target: &str) -> Vec<String> {
    let began = log.iter().filter(|line| line["fields"]["message"] == "new");
    let of_target = began.filter(|line| {
        let outermost = line["spans"].get(0).unwrap_or(&line["span"]);
        outermost["name"] == "front.request" && outermost["target"] == target
    });
    of_target.map(|line| line["span"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_journey_takes_the_steps_that_architecture_tells() {
    let server = Server::start();
    let targets: Vec<String> = (0..PAIRS)
        .map(|number| format!("/image/unsafe/rs:fit:64:{}/plain/local:///photo01.jpg@webp", 64 + number))
        .collect();
    for target in &targets {
        let [first, second] = server.ask_twice(target);
        assert_eq!(first, "tutti; fwd=miss; stored");
        assert!(second.starts_with("tutti; hit"), "{second}");
    }
    let log = server.stop();
    let mut journeys = targets.iter().map(|target| spans(&log, target));
    let quick = journeys.find(|spans| spans.iter().filter(|span| *span == "front.request").count() == 1);
    let told: Vec<String> = told().into_iter().flat_map(|row| row.spans).collect();
    assert!(told.len() > 5, "the table was not read: {told:?}");
    assert_eq!(quick.expect("a hit that never left its connection's thread, and so has no span"), told);
}

#[test]
fn the_files_that_the_journey_names_are_there() {
    let rows = told();
    assert!(rows.len() > 8 && rows.iter().all(|row| !row.files.is_empty()), "the table was not read");
    for file in rows.iter().flat_map(|row| &row.files) {
        assert!(root().join(file).is_file(), "{file} is named and not there");
    }
}
