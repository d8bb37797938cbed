//! A plain HTTP/1.1 client over one socket: sends what it is told, and reads one answer after the other.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of the first field `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn cache_status(&self) -> &str {
        self.field("Cache-Status").unwrap_or_default()
    }

    pub(crate) fn etag(&self) -> &str {
        self.field("ETag").expect("an ETag")
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache_status().starts_with("tutti; hit")
    }

    /// The problem document that it is.
    #[track_caller]
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.field("Content-Type"), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_slice(&self.body).expect("a problem document");
        assert_eq!(problem["status"], self.status);
        problem
    }

    /// The sentence of the problem that it is.
    #[track_caller]
    pub(crate) fn detail(&self) -> String {
        self.problem()["detail"].as_str().expect("a sentence").to_owned()
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, held: Vec::new() })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request on this connection and reads its answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> io::Result<Response> {
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str("Host: localhost\r\n");
        }
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.send(request.as_bytes())?;
        self.response(method)
    }

    /// The next answer; `method` is what it answers.
    pub(crate) fn response(&mut self, method: &str) -> io::Result<Response> {
        let end = loop {
            if let Some(at) = find(&self.held, b"\r\n\r\n") {
                break at + 4;
            }
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head: Vec<u8> = self.held.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head in ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut response = Response { status, fields, body: Vec::new() };
        if method != "HEAD" && !matches!(status, 100..200 | 204 | 304) {
            response.body = self.body(&response)?;
        }
        Ok(response)
    }

    fn body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if response.field("Transfer-Encoding").is_some() {
            return self.chunks();
        }
        match response.field("Content-Length") {
            Some(length) => self.take(length.parse().expect("a length")),
            None => {
                while self.more()? > 0 {}
                Ok(std::mem::take(&mut self.held))
            }
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = find(&self.held, b"\r\n") {
                    break self.take(at + 2)?;
                }
                if self.more()? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            };
            let line = String::from_utf8(line).expect("a chunk's length");
            let length = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's length");
            let mut chunk = self.take(length + 2)?;
            if length == 0 {
                return Ok(all);
            }
            chunk.truncate(length);
            all.append(&mut chunk);
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.held.len() < length {
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.held.drain(..length).collect())
    }

    /// Reads on; 0 at the end of the connection.
    fn more(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        let read = self.stream.read(&mut bytes)?;
        self.held.extend_from_slice(&bytes[..read]);
        Ok(read)
    }

    /// Whether the server ends the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.held.is_empty() && matches!(self.more(), Ok(0))
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> io::Result<Response> {
    Client::connect(address)?.ask(method, target, fields)
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
