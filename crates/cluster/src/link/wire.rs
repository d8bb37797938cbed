//! A TCP connection with TLS on it, after the handshake: bytes in, bytes out, in as few system calls as can be.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Ended;
use crate::frame::{Frame, FrameReader, Outgoing};

/// The most bytes that one system call reads.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// Where a read puts its bytes before TLS takes them; a read never waits in between, so a thread needs one.
    static INCOMING: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// One connection, its handshake done.
pub(crate) struct Wire {
    socket: TcpStream,
    tls: Connection,
}

impl Wire {
    pub(crate) fn new(socket: TcpStream, tls: impl Into<Connection>) -> Self {
        let mut tls = tls.into();
        // The queue before it has the limit.
        tls.set_buffer_limit(None);
        Self { socket, tls }
    }

    /// The certificate that the peer showed.
    pub(crate) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates().and_then(|chain| chain.first())
    }

    /// Key material that only the two ends know (RFC 8446 §7.5).
    pub(crate) fn export<const N: usize>(&self, label: &[u8]) -> Result<[u8; N], Ended> {
        self.tls.export_keying_material([0; N], label, None).map_err(socket_error)
    }

    /// Reads what is there, up to one system call's worth, into `reader`. Ready with the number of bytes.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut FrameReader,
    ) -> Poll<Result<usize, Ended>> {
        INCOMING.with_borrow_mut(|incoming| {
            let mut buffer = ReadBuf::new(incoming);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)).map_err(socket_error)?;
            match buffer.filled() {
                [] => Poll::Ready(Err(Ended::Closed)),
                filled => Poll::Ready(self.open(filled, reader).map(|()| filled.len())),
            }
        })
    }

    fn open(&mut self, mut sealed: &[u8], reader: &mut FrameReader) -> Result<(), Ended> {
        while !sealed.is_empty() {
            self.tls.read_tls(&mut sealed).map_err(socket_error)?;
            let state = self.tls.process_new_packets().map_err(socket_error)?;
            let mut plain = state.plaintext_bytes_to_read();
            while plain > 0 {
                let mut from = self.tls.reader();
                let chunk = io::BufRead::fill_buf(&mut from).map_err(socket_error)?;
                let length = chunk.len();
                reader.push(chunk)?;
                io::BufRead::consume(&mut from, length);
                plain = plain.saturating_sub(length.max(1));
            }
            if state.peer_has_closed() {
                return Err(Ended::Closed);
            }
        }
        Ok(())
    }

    /// Seals frames, many into one record where they fit.
    pub(super) fn seal(&mut self, frames: &[Outgoing]) -> Result<(), Ended> {
        let parts = frames.iter().flat_map(|frame| [IoSlice::new(&frame.built), IoSlice::new(&frame.body)]);
        let mut parts: Vec<IoSlice<'_>> = parts.filter(|part| !part.is_empty()).collect();
        let mut rest = parts.as_mut_slice();
        while !rest.is_empty() {
            let written = self.tls.writer().write_vectored(rest).map_err(socket_error)?;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Whether sealed bytes wait.
    pub(super) fn has_backlog(&self) -> bool {
        self.tls.wants_write()
    }

    /// Writes sealed bytes until the socket is full (Pending) or there are none. Adds to `wrote` what it wrote.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, wrote: &mut usize) -> Poll<Result<(), Ended>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Outwards { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(Ended::Closed)),
                Ok(bytes) => *wrote += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(socket_error(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends one frame, for the opening of a connection.
    pub(crate) async fn send(&mut self, frame: Outgoing) -> Result<(), Ended> {
        self.seal(&[frame])?;
        poll_fn(|cx| self.poll_flush(cx, &mut 0)).await
    }

    /// The next frame, for the opening of a connection. Cancel-safe.
    pub(crate) async fn receive(&mut self, reader: &mut FrameReader) -> Result<Frame, Ended> {
        // The handshake may have left bytes behind.
        self.drain(reader)?;
        loop {
            if let Some(frame) = reader.next() {
                return Ok(frame);
            }
            poll_fn(|cx| self.poll_read(cx, reader)).await?;
        }
    }

    fn drain(&mut self, reader: &mut FrameReader) -> Result<(), Ended> {
        let mut bytes = [0; 4096];
        loop {
            match self.tls.reader().read(&mut bytes) {
                Ok(0) => return Err(Ended::Closed),
                Ok(read) => reader.push(&bytes[..read])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(socket_error(error)),
            }
        }
    }
}

pub(crate) fn socket_error(error: impl std::fmt::Display) -> Ended {
    Ended::Socket(error.to_string())
}

/// The socket as TLS writes to it: a full socket is an error of kind `WouldBlock`, and the task is woken later.
struct Outwards<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Outwards<'_, '_> {
    fn done(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
        match poll {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Outwards<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::done(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::done(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, parts))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
