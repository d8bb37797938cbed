//! Joining: the proof before the secret, and what a machine without a certificate may do.

use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::frame::{ANONYMOUS_FRAME_MAX, FrameReader, Hello};
use crate::join::{self, JoinError};
use crate::link::Wire;
use crate::token::Token;

/// Answers who asks to join with what was asked.
struct Door;

impl Serve for Door {
    fn serve(&self, from: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
        assert_eq!(from, NodeId(0));
        Box::pin(async move {
            match &*call.head {
                b"used token" => Err(Problem::new(Kind::Forbidden, "this token was used already")),
                _ => Ok(Reply::of([b"welcome ".as_slice(), &call.head].concat())),
            }
        })
    }
}

async fn open_house(clock: &Arc<dyn Clock>) -> (Authority, Node, Token) {
    let (authority, mut nodes) = nodes(1, clock).await;
    let node = nodes.remove(0);
    node.links.register(Topic::ROSTER, Arc::new(Door));
    let token = Token::create(node.links.addresses().to_vec(), authority.certificate()).unwrap();
    (authority, node, token)
}

const WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_machine_without_a_certificate_asks_to_join_and_is_answered() {
    run(|clock| async move {
        let (_, node, mut token) = open_house(&clock).await;
        // The first address is dead.
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        token.addresses.insert(0, dead);
        let line = token.line().unwrap();
        let pasted: Token = line.parse().unwrap();
        let answer = join::ask(&clock, &pasted, Bytes::from_static(b"me"), WITHIN).await.unwrap();
        assert_eq!(answer, "welcome me");
        let refused =
            join::ask(&clock, &pasted, Bytes::from_static(b"used token"), WITHIN).await.unwrap_err();
        assert_eq!(refused.to_string(), "the cluster refused: this token was used already");
        let long = join::ask(&clock, &pasted, vec![0; join::QUESTION_MAX].into(), WITHIN).await.unwrap();
        assert_eq!(long.len(), join::QUESTION_MAX + 8);
        let too_long = join::ask(&clock, &pasted, vec![0; join::QUESTION_MAX + 1].into(), WITHIN).await;
        assert!(matches!(too_long, Err(JoinError::TooLong(_))));
        drop(node);
    });
}

#[test]
fn a_node_of_another_cluster_never_sees_the_secret() {
    run(|clock| async move {
        let (_, _node, token) = open_house(&clock).await;
        // An impostor at the address in the token: it reads all that it is sent.
        let (impostor, _) = Identity::found("impostor", clock.wall()).unwrap();
        let server = Tls::of(&impostor, &clock).unwrap().server.clone();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut token = token;
        token.addresses = vec![address];
        let spying = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            if let Ok(mut stream) = TlsAcceptor::from(server).accept(socket).await {
                let _ = stream.read_to_end(&mut seen).await;
            }
            seen
        });
        let secret = Bytes::copy_from_slice(token.secret());
        let error = join::ask(&clock, &token, secret, WITHIN).await.unwrap_err();
        assert!(matches!(error, JoinError::WrongCluster(found) if found == address), "{error}");
        assert_eq!(spying.await.unwrap(), b"", "not one byte inside TLS");
    });
}

#[test]
fn a_dead_cluster_and_one_that_is_no_cluster_are_told_apart() {
    run(|clock| async move {
        let (_, _node, token) = open_house(&clock).await;
        let at = |addresses| {
            let mut token = token.clone();
            token.addresses = addresses;
            token
        };
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = join::ask(&clock, &at(vec![dead]), Bytes::new(), WITHIN).await.unwrap_err();
        assert!(matches!(error, JoinError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&dead.to_string()), "{error}");
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = other.accept().await.unwrap();
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        });
        let error = join::ask(&clock, &at(vec![address]), Bytes::new(), WITHIN).await.unwrap_err();
        assert!(matches!(error, JoinError::Protocol { .. }), "{error}");
    });
}

/// A connection without a certificate, past its hello.
async fn anonymous(
    node: &Node,
    authority: &Authority,
    clock: &Arc<dyn Clock>,
) -> Option<(Wire, FrameReader)> {
    let token = Token::create(node.links.addresses().to_vec(), authority.certificate()).unwrap();
    join::open(clock, &token, token.addresses[0]).await.ok()
}

#[test]
fn a_machine_without_a_certificate_may_only_ask_to_join() {
    run(|clock| async move {
        let (authority, node, _) = open_house(&clock).await;
        let (mut wire, mut reader) = anonymous(&node, &authority, &clock).await.unwrap();
        for topic in [Topic::FLOW, Topic::STORE, Topic::ADMIN] {
            let frame = crate::frame::CallFrame::frame(topic.0, 7, WITHIN, b"echo", &Bytes::new());
            wire.send(frame).await.unwrap();
            let answer = wire.receive(&mut reader).await.unwrap();
            assert_eq!(answer.kind, FrameKind::Failed);
            assert_eq!(crate::frame::read_failed(&answer.payload).unwrap().kind, Kind::Forbidden);
        }
        wire.send(Outgoing::new(FrameKind::Cast, Topic::HINT.0, 0, b"")).await.unwrap();
        assert!(wire.receive(&mut reader).await.is_err(), "a cast ends it");

        let (mut wire, mut reader) = anonymous(&node, &authority, &clock).await.unwrap();
        let long = vec![0; ANONYMOUS_FRAME_MAX + 1];
        // It may be cut while it still writes.
        let _ = wire.send(Outgoing::new(FrameKind::Call, Topic::ROSTER.0, 7, &long)).await;
        assert!(wire.receive(&mut reader).await.is_err());
        assert_eq!(node.served.calls.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn more_than_sixteen_machines_without_certificates_are_not_served_at_once() {
    run(|clock| async move {
        let (authority, node, _) = open_house(&clock).await;
        let full = "tutti_cluster_link_refused_total{reason=\"anonymous-full\"}";
        let mut held = Vec::new();
        for _ in 0..ANONYMOUS_MAX {
            held.push(anonymous(&node, &authority, &clock).await.unwrap());
        }
        let (mut wire, mut reader) = anonymous(&node, &authority, &clock).await.unwrap();
        assert!(wire.receive(&mut reader).await.is_err());
        assert_eq!(node.counter(full), 1);
        held.clear();
        // Places are free again as soon as the node has seen them go.
        let token = Token::create(node.links.addresses().to_vec(), authority.certificate()).unwrap();
        while join::ask(&clock, &token, Bytes::new(), WITHIN).await.is_err() {}
    });
}

#[test]
fn a_hello_with_the_id_of_a_node_needs_its_certificate() {
    run(|clock| async move {
        let (_, node, token) = open_house(&clock).await;
        let impostor = Hello::of(node.id(), Lane::Control);
        let error = join::greet(&clock, &token, token.addresses[0], impostor).await.err().unwrap();
        assert!(matches!(&error, JoinError::Refused(problem) if problem.detail.contains("token")), "{error}");
    });
}
