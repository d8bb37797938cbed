//! Datagrams with descriptors between server and engine, on the server's side. Takes no descriptor from an engine.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::frame::INPUTS_MAX;

/// Sends one frame with `files`, at most [`INPUTS_MAX`]. Cancel-safe: it is sent whole or not at all.
pub(super) async fn send(
    socket: &AsyncFd<OwnedFd>,
    frame: &[u8],
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    socket.async_io(Interest::WRITABLE, |socket| try_send(socket, frame, files)).await
}

fn try_send(socket: &OwnedFd, frame: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(INPUTS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("more than {INPUTS_MAX} descriptors"),
        ));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(frame)], &mut ancillary, flags)?;
    Ok(())
}

/// Receives one frame into `into`; its length, 0 at the end. What is longer than `into` is cut. Descriptors that came with
/// it are closed by the kernel. Cancel-safe.
pub(super) async fn receive(socket: &AsyncFd<OwnedFd>, into: &mut [u8]) -> io::Result<usize> {
    let receive = |socket: &OwnedFd| Ok(rustix::net::recv(socket, &mut *into, RecvFlags::DONTWAIT)?.0);
    socket.async_io(Interest::READABLE, receive).await
}
