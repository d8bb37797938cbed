//! An answer on its way out: what is left of its head and body, and where the rest of the body comes from.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use bytes::Bytes;
use rustix::io::Errno;
use tutti_base::FileBody;

use crate::mailbox::Token;
use crate::pump::{self, Outlet, Pump, Pumped};

/// Bytes that one connection may write before others get their turn.
const TURN_BYTES: u64 = 1 << 20;

/// Where the rest of a body comes from.
pub(crate) enum Source {
    /// There is no more.
    None,
    /// The rest of a file, and whether a piece of it is being read from the disk.
    File { rest: FileBody, fetching: bool },
    /// A stream.
    Stream { pump: Pump, frame: Frame },
}

/// How a stream is delimited.
pub(crate) enum Frame {
    /// By its length: so many bytes to go.
    Length(u64),
    /// In chunks; the line break behind the last one is still owed, or not.
    Chunked { owes_break: bool },
    /// By the end of the connection.
    Close,
}

/// An answer that could not be written at once.
pub(crate) struct Output {
    head: Vec<u8>,
    head_at: usize,
    piece: Bytes,
    source: Source,
    /// Bytes that the kernel has taken.
    pub(crate) sent: u64,
}

/// How far an output got.
#[derive(Debug)]
pub(crate) enum Progress {
    /// All of it is out.
    Done,
    /// The client has to take some first.
    Blocked,
    /// The next piece has to come first.
    Starved,
    /// Enough for one turn.
    Enough,
    /// It cannot be completed: the connection must be closed.
    Broken(String),
}

impl Output {
    /// An answer of which `sent` bytes are out already.
    pub(crate) fn new(head: Vec<u8>, piece: Bytes, source: Source, sent: u64) -> Self {
        Self { head, head_at: 0, piece, source, sent }
    }

    /// Takes the piece that came by letter.
    pub(crate) fn supply(&mut self, piece: io::Result<Bytes>) -> Result<(), String> {
        if let Source::File { rest, fetching } = &mut self.source {
            *fetching = false;
            self.piece = piece.map_err(|error| format!("reading a kept body: {error}"))?;
            advance(rest, self.piece.len());
        }
        Ok(())
    }

    /// Writes what can be written now.
    pub(crate) fn write(&mut self, socket: BorrowedFd<'_>, outlet: &Outlet, token: Token) -> Progress {
        let begin = self.sent;
        loop {
            if self.head_at == self.head.len() && self.piece.is_empty() {
                match self.refill(outlet, token) {
                    Ok(Some(progress)) => return progress,
                    Ok(None) => continue,
                    Err(cause) => return Progress::Broken(cause),
                }
            }
            if self.sent - begin >= TURN_BYTES {
                return Progress::Enough;
            }
            let slices = [IoSlice::new(&self.head[self.head_at..]), IoSlice::new(&self.piece)];
            match rustix::io::writev(socket, &slices) {
                Ok(written) => self.advance(written),
                Err(Errno::AGAIN) => return Progress::Blocked,
                Err(Errno::INTR) => {}
                Err(errno) => return Progress::Broken(errno.to_string()),
            }
        }
    }

    fn advance(&mut self, written: usize) {
        self.sent += written as u64;
        let of_head = written.min(self.head.len() - self.head_at);
        self.head_at += of_head;
        bytes::Buf::advance(&mut self.piece, written - of_head);
    }

    /// Gets the next piece. Some progress: there is none now.
    fn refill(&mut self, outlet: &Outlet, token: Token) -> Result<Option<Progress>, String> {
        match &mut self.source {
            Source::None => Ok(Some(Progress::Done)),
            Source::File { rest, .. } if rest.len == 0 => Ok(Some(Progress::Done)),
            Source::File { fetching: true, .. } => Ok(Some(Progress::Starved)),
            Source::File { rest, fetching } => match pump::read_resident(rest) {
                Ok(piece) => {
                    advance(rest, piece.len());
                    self.piece = piece;
                    Ok(None)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pump::fetch_piece(rest.clone(), outlet, token);
                    *fetching = true;
                    Ok(Some(Progress::Starved))
                }
                Err(error) => Err(format!("reading a kept body: {error}")),
            },
            Source::Stream { pump, frame } => match pump.next() {
                Pumped::Nothing => Ok(Some(Progress::Starved)),
                Pumped::Broken(error) => Err(error.to_string()),
                Pumped::Piece(piece) if piece.is_empty() => Ok(None),
                Pumped::Piece(piece) => self.frame_piece(piece).map(|()| None),
                Pumped::Ended => match frame {
                    Frame::Length(0) | Frame::Close => Ok(Some(Progress::Done)),
                    Frame::Length(left) => {
                        Err(format!("the body ended {left} bytes before its stated length"))
                    }
                    Frame::Chunked { owes_break } => {
                        let end: &[u8] = if *owes_break { b"\r\n0\r\n\r\n" } else { b"0\r\n\r\n" };
                        self.set_head(end.to_vec());
                        self.source = Source::None;
                        Ok(None)
                    }
                },
            },
        }
    }

    fn frame_piece(&mut self, piece: Bytes) -> Result<(), String> {
        let Source::Stream { frame, .. } = &mut self.source else { return Ok(()) };
        match frame {
            Frame::Close => {}
            Frame::Length(left) => {
                *left = left
                    .checked_sub(piece.len() as u64)
                    .ok_or_else(|| "the body is longer than its stated length".to_owned())?;
            }
            Frame::Chunked { owes_break } => {
                let before = if *owes_break { "\r\n" } else { "" };
                *owes_break = true;
                let line = format!("{before}{:x}\r\n", piece.len()).into_bytes();
                self.set_head(line);
            }
        }
        self.piece = piece;
        Ok(())
    }

    fn set_head(&mut self, head: Vec<u8>) {
        self.head = head;
        self.head_at = 0;
    }
}

fn advance(file: &mut FileBody, by: usize) {
    file.offset += by as u64;
    file.len = file.len.saturating_sub(by as u64);
}
