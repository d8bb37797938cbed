//! A server on loopback that does to each request exactly what a test tells it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What is done for one request, in order; afterwards the next request is read.
pub(crate) enum Act {
    Send(Vec<u8>),
    /// Waits for a permit of the gate.
    Pass(Arc<Semaphore>),
    /// Sends this again and again until the client is gone, or [`FOREVER`] bytes are sent.
    Forever(Vec<u8>),
    /// Says nothing more, and keeps the connection.
    Hold,
    Close,
}

/// The head of a request as it came.
pub(crate) struct Asked {
    pub(crate) head: String,
    /// How many requests came before it.
    pub(crate) number: usize,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// How many bytes forever is: far beyond every limit, and an end for a client that has none.
const FOREVER: usize = 16 << 20;

type Script = Arc<dyn Fn(&Asked) -> Vec<Act> + Send + Sync>;

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) accepted: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    open: AtomicUsize,
    pub(crate) most_open: AtomicUsize,
    pub(crate) heads: Mutex<Vec<String>>,
}

pub(crate) struct Stage {
    pub(crate) port: u16,
    pub(crate) seen: Arc<Seen>,
    server: JoinHandle<()>,
}

impl Stage {
    pub(crate) async fn open(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1", script, None).await
    }

    pub(crate) async fn at(
        address: &str,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, script): (Arc<Seen>, Script) = (Arc::default(), Arc::new(script));
        let server = tokio::spawn(serve(listener, seen.clone(), script, tls));
        Self { port, seen, server }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
    pub(crate) fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }
    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
    pub(crate) fn open_now(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    listener: TcpListener,
    seen: Arc<Seen>,
    script: Script,
    tls: Option<tokio_rustls::TlsAcceptor>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.accepted.fetch_add(1, Ordering::SeqCst);
        let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_open.fetch_max(open, Ordering::SeqCst);
        let (seen, script, tls) = (seen.clone(), script.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => play(stream, &seen, &script).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => play(stream, &seen, &script).await,
                    Err(_) => None,
                },
            };
            seen.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Plays until the connection ends.
async fn play(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen, script: &Script) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        seen.heads.lock().unwrap().push(head.clone());
        let number = seen.requests.fetch_add(1, Ordering::SeqCst);
        for act in script(&Asked { head, number }) {
            match act {
                Act::Send(bytes) => stream.write_all(&bytes).await.ok()?,
                Act::Pass(gate) => gate.acquire().await.ok()?.forget(),
                Act::Forever(bytes) => {
                    for _ in 0..FOREVER / bytes.len() {
                        stream.write_all(&bytes).await.ok()?;
                    }
                    return None;
                }
                Act::Hold => drop(stream.read_u8().await.ok()?),
                Act::Close => return None,
            }
        }
    }
}

/// A whole answer with these lines in its head.
pub(crate) fn answer(status: &str, lines: &[&str], body: &[u8]) -> Vec<Act> {
    let length = format!("Content-Length: {}", body.len());
    vec![raw(status, &[lines, &[length.as_str()]].concat(), body)]
}

/// Exactly these lines, then these bytes.
pub(crate) fn raw(status: &str, lines: &[&str], body: &[u8]) -> Act {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    Act::Send([format!("HTTP/1.1 {status}\r\n{lines}\r\n").as_bytes(), body].concat())
}

pub(crate) fn ok(body: &[u8]) -> Vec<Act> {
    answer("200 OK", &[], body)
}
