//! Silent peers: machines that take a connection and then say nothing.

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::frame::{FRAME_MAX, FrameReader, Hello};
use crate::link::Wire;

/// What a node does that was stopped after its handshakes.
struct Stopped {
    identity: Identity,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
}

impl Stopped {
    async fn new(authority: &Authority, clock: &Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { identity: member(authority, "stopped", clock), listener, clock: clock.clone() }
    }
    fn address(&self) -> (NodeId, Vec<SocketAddr>) {
        (self.identity.node(), vec![self.listener.local_addr().unwrap()])
    }
    /// Opens the next connection as a node does.
    async fn open(&self) -> (Wire, FrameReader) {
        let server = Tls::of(&self.identity, &self.clock).unwrap().server.clone();
        let (socket, _) = self.listener.accept().await.unwrap();
        let (socket, session) = TlsAcceptor::from(server).accept(socket).await.unwrap().into_inner();
        let (mut wire, mut reader) = (Wire::new(socket, session), FrameReader::new(FRAME_MAX));
        let hello = Hello::read(&wire.receive(&mut reader).await.unwrap()).unwrap();
        let lane = crate::frame::lane_of(hello.lane).unwrap();
        wire.send(Hello::of(self.identity.node(), lane).frame()).await.unwrap();
        (wire, reader)
    }
}

#[test]
fn a_peer_that_says_nothing_is_silent_and_its_links_break_after_a_while() {
    run(|clock| async move {
        let (authority, nodes) = nodes(1, &clock).await;
        let stopped = Stopped::new(&authority, &clock).await;
        let peer = stopped.identity.node();
        nodes[0].links.set_peers(vec![stopped.address()]);
        let links = nodes[0].links.clone();
        let asking = tokio::spawn(async move { links.call(peer, call("echo", Lane::Small)).await });
        // Held, never read.
        let held = (stopped.open().await, stopped.open().await);
        assert_eq!(asking.await.unwrap().unwrap_err(), CallError::Silent(peer));
        assert!(nodes[0].counter("tutti_cluster_link_silent_total") >= 1);
        until(|| !nodes[0].links.is_connected(peer)).await;
        drop(held);
    });
}

#[test]
fn bytes_of_an_answer_that_is_not_complete_count_as_heard() {
    run(|clock| async move {
        let (authority, nodes) = nodes(1, &clock).await;
        let slow = Stopped::new(&authority, &clock).await;
        let peer = slow.identity.node();
        nodes[0].links.set_peers(vec![slow.address()]);
        let _control = slow.open().await;
        let links = nodes[0].links.clone();
        let asking = tokio::spawn(async move { links.call(peer, call("echo", Lane::Small)).await });
        let (mut wire, mut reader) = slow.open().await;
        let id = loop {
            let frame = wire.receive(&mut reader).await.unwrap();
            if frame.kind == FrameKind::Call {
                break frame.call;
            }
        };
        let whole = crate::frame::ReplyFrame::whole(id, b"slowly", Bytes::from(vec![3; 60]));
        let bytes = [whole.built.as_slice(), &whole.body].concat();
        for piece in bytes.chunks(8) {
            wire.send(Outgoing { built: piece.to_vec(), body: Bytes::new() }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let answer = asking.await.unwrap();
        // Where this machine is so busy that a pause grew past the limit, silent is the right word.
        match answer {
            Ok(reply) => assert_eq!(reply.head, "slowly"),
            Err(error) => assert_eq!(error, CallError::Silent(peer)),
        }
    });
}

#[test]
fn more_than_was_granted_and_frames_that_are_too_long_break_the_connection() {
    run(|clock| async move {
        let (authority, nodes) = nodes(1, &clock).await;
        let liar = Stopped::new(&authority, &clock).await;
        let peer = liar.identity.node();
        nodes[0].links.set_peers(vec![liar.address()]);
        let (mut wire, mut reader) = liar.open().await;
        until(|| nodes[0].links.is_connected(peer)).await;
        let mut too_long = Outgoing::new(FrameKind::Beat, 0, 0, b"");
        too_long.built[..4].copy_from_slice(&(FRAME_MAX as u32 + 1).to_le_bytes());
        wire.send(too_long).await.unwrap();
        while wire.receive(&mut reader).await.is_ok() {}

        let (mut wire, mut reader) = liar.open().await;
        let links = nodes[0].links.clone();
        let asking = tokio::spawn(async move { links.call(peer, call("long", Lane::Control)).await });
        let id = loop {
            let frame = wire.receive(&mut reader).await.unwrap();
            if frame.kind == FrameKind::Call {
                break frame.call;
            }
        };
        wire.send(crate::frame::ReplyFrame::pieces(id, b"", None, None)).await.unwrap();
        let held = asking.await.unwrap().unwrap();
        let piece = || Outgoing::with_body(FrameKind::Chunk, 0, id, &[], vec![0; 1 << 20].into());
        wire.send(piece()).await.unwrap();
        // The connection may break while this is written. Nothing is taken, so nothing is granted.
        let _ = wire.send(piece()).await;
        while wire.receive(&mut reader).await.is_ok() {}
        let Body::Stream(mut body) = held.body else { panic!("in pieces") };
        assert_eq!(body.chunks.next().await.unwrap().unwrap().len(), 1 << 20);
        assert!(body.chunks.next().await.unwrap().is_err());
    });
}
