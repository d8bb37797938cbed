//! Origins that behave as they are told: one closure decides what a request gets, byte by byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::client::find;

/// A request that an origin got.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) head: String,
    /// How many came before it.
    pub(crate) before: usize,
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// An origin on loopback. It stops to listen when it is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    /// Starts one. Each connection carries one request; what `behave` returns does not matter.
    pub(crate) fn start(
        behave: impl Fn(&Asked, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (noted, ended, behave) = (Arc::clone(&asked), Arc::clone(&stopped), Arc::new(behave));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (noted, behave) = (Arc::clone(&noted), Arc::clone(&behave));
                std::thread::spawn(move || -> io::Result<()> {
                    let mut stream = stream?;
                    let asked = read(&mut stream, &noted)?;
                    behave(&asked, &mut stream)
                });
            }
        });
        Self { address, asked, stopped }
    }

    /// One that answers every request with these bytes.
    pub(crate) fn answering(answer: Vec<u8>) -> Self {
        Self::start(move |_, stream| stream.write_all(&answer))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics in it").clone()
    }

    /// How often it was asked.
    pub(crate) fn count(&self) -> usize {
        self.asked().len()
    }

    /// The target of an image made of the original at `path` here.
    pub(crate) fn image(&self, options: &str, path: &str) -> String {
        format!("/image/unsafe/{options}/plain/http://{}/{path}@png", self.address)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Only wakes the listening thread; when that is gone already there is nothing to wake.
        let _ = TcpStream::connect(self.address);
    }
}

fn read(stream: &mut TcpStream, noted: &Mutex<Vec<Asked>>) -> io::Result<Asked> {
    let mut head = Vec::new();
    let mut bytes = [0; 4096];
    while find(&head, b"\r\n\r\n").is_none() {
        let read = stream.read(&mut bytes)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&bytes[..read]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut noted = noted.lock().expect("no test panics in it");
    let asked = Asked { path, head, before: noted.len() };
    noted.push(asked.clone());
    Ok(asked)
}

/// A whole answer, after which the connection ends.
pub(crate) fn answer(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// 200 with an image.
pub(crate) fn image(fields: &str, body: &[u8]) -> Vec<u8> {
    answer("200 OK", &format!("Content-Type: image/png\r\n{fields}"), body)
}

/// Waits without an answer until the other side gives up.
pub(crate) fn hang(stream: &mut TcpStream) -> io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {}
    Ok(())
}

/// The document that allows these origins and local folders, and no others.
pub(crate) fn allowing(origins: &[&Origin]) -> String {
    let urls: Vec<String> = origins.iter().map(|origin| format!("\"http://{}/\"", origin.address)).collect();
    let allowed = format!("[tenants.main]\nallowed_sources = [\"local://\", {}]\n", urls.join(", "));
    allowed + &reaching(origins)
}

/// The exceptions from the address guard that these origins need.
pub(crate) fn reaching(origins: &[&Origin]) -> String {
    let source = |origin: &&Origin| {
        let (address, port) = (origin.address, origin.address.port());
        format!(
            "[fetch.sources.origin{port}]\nprefix = \"http://{address}/\"\nallowed_networks = [\"127.0.0.1\"]\n"
        )
    };
    origins.iter().map(source).collect()
}
