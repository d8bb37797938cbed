//! The network seam between nodes: ordered byte streams and datagrams, as turmoil or the kernel gives them.
//!
//! Only code between nodes goes through it; `front` and `fetch` use sockets directly. Its first user is the cluster.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::BoxFuture;

/// Opens streams and datagram sockets on one node's address.
pub trait Net: Send + Sync {
    /// Connects to `peer`. Cancel-safe: a dropped attempt leaves nothing open.
    fn connect(&self, peer: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Link>>>;
    /// Sends one datagram; it may be lost.
    fn send_datagram(&self, peer: SocketAddr, payload: Bytes) -> io::Result<()>;
}

/// An ordered, reliable byte stream to one peer.
pub trait Link: Send {
    /// The next bytes, empty at the end. Cancel-safe.
    fn read(&mut self) -> BoxFuture<'_, io::Result<Bytes>>;
    /// Writes all of `bytes`. Not cancel-safe: a dropped write may have sent a part.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>>;
}
