//! A client of one connection: asks, and reads answers whose length is told. Blocks, for so long and no longer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Longest answer, in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A connection.
pub(crate) struct Client(TcpStream);

impl Client {
    /// Errors: nobody answers there, or not within a second.
    pub(crate) fn connect(address: SocketAddr, within: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Errors: the connection broke or fell silent; it is of no use any longer.
    pub(crate) fn get(&mut self, target: &str) -> io::Result<Answer> {
        write!(self.0, "GET {target} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let mut held = Vec::new();
        let end = loop {
            if let Some(at) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(&mut held)?;
        };
        let mut body = held.split_off(end);
        let head = String::from_utf8_lossy(&held).to_ascii_lowercase();
        let status =
            head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let length = length.filter(|length| *length <= ANSWER_MAX).ok_or(io::ErrorKind::InvalidData)?;
        while body.len() < length {
            self.more(&mut body)?;
        }
        Ok(Answer { status, body })
    }

    fn more(&mut self, held: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        match self.0.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                held.extend_from_slice(&bytes[..read]);
                Ok(())
            }
        }
    }
}

/// One request on a connection of its own.
pub(crate) fn get(address: SocketAddr, target: &str, within: Duration) -> io::Result<Answer> {
    Client::connect(address, within)?.get(target)
}
