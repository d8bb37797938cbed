//! A front on a free port with made-up answers, and clients that speak to it in raw bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tutti_base::clock::MachineTime;
use tutti_front::{Config, Front, Outside, listeners};
use tutti_telemetry::Metrics;

use super::fake::{Fake, TestClock};

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running front.
pub(crate) struct House {
    pub(crate) front: Option<Front>,
    pub(crate) fake: Fake,
    pub(crate) metrics: Metrics,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) log: Log,
    pub(crate) address: SocketAddr,
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One thread, so that counts are exact, and otherwise the defaults.
pub(crate) fn config() -> Config {
    Config { threads: 1, ..Config::default() }
}

pub(crate) fn start(config: Config) -> House {
    start_with(config, Duration::from_secs(10))
}

pub(crate) fn start_with(config: Config, deadline: Duration) -> House {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let fake = Fake::new(deadline);
    fake.keep_bytes("/hit", "0123456789");
    let (metrics, log) = (Metrics::default(), Log::default());
    let listener = listeners::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let outside = Outside {
        runtime: runtime.handle().clone(),
        clock: Arc::new(TestClock(MachineTime::start())),
        metrics: metrics.clone(),
        log: Some(Box::new(log.clone())),
    };
    let front = Front::start(config, vec![listener], fake.clone(), outside).unwrap();
    let address = front.addresses()[0];
    House { front: Some(front), fake, metrics, runtime, log, address }
}

impl House {
    pub(crate) fn client(&self) -> Client {
        client_at(self.address)
    }

    /// Sends `request` on a connection of its own and reads the answer.
    pub(crate) fn ask(&self, request: &str) -> Reply {
        let mut client = self.client();
        client.send(request);
        client.reply()
    }

    /// GET of `path` with further field lines (each with its line break).
    pub(crate) fn get(&self, path: &str, fields: &str) -> Reply {
        self.ask(&get(path, fields))
    }

    /// The value of a metric line that begins with `name`; 0 where there is none.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.text();
        let line = text.lines().find(|line| line.starts_with(name));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub(crate) fn drain(&mut self, within: Duration) -> tutti_front::Drained {
        let front = self.front.take().unwrap();
        self.runtime.block_on(front.drain(within))
    }

    /// What was logged; ends the front.
    pub(crate) fn logged(&mut self) -> String {
        self.drain(Duration::from_secs(5));
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }
}

pub(crate) fn client_at(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Client { stream, input: Vec::new() }
}

pub(crate) fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A client that speaks raw bytes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> bool {
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(read) => {
                self.input.extend_from_slice(&piece[..read]);
                true
            }
            Err(error) => panic!("{error} after {:?}", self.input.escape_ascii().to_string()),
        }
    }

    fn head(&mut self) -> (u16, String) {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more(), "no answer, but {:?}", self.input.escape_ascii().to_string());
        };
        let head = String::from_utf8(self.input.drain(..end).collect()).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let (status, head) = self.head();
        let mut reply = Reply { status, head, body: Vec::new() };
        if let Some(len) = reply.field("content-length").map(|len| len.parse::<usize>().unwrap()) {
            while self.input.len() < len {
                assert!(self.more(), "a short body");
            }
            reply.body = self.input.drain(..len).collect();
        }
        reply
    }

    /// An answer of which only the head comes.
    pub(crate) fn reply_without_body(&mut self) -> Reply {
        let (status, head) = self.head();
        Reply { status, head, body: Vec::new() }
    }

    /// Everything to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.input)
    }

    /// Whether the connection is at its end, with nothing unread.
    pub(crate) fn is_over(&mut self) -> bool {
        self.input.is_empty() && !self.more()
    }
}
