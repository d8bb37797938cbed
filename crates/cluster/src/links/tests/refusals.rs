//! Who is not let in: other clusters, removed nodes, impostors, other generations of the protocol.

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tutti_base::Wall;

use super::*;
use crate::frame::{CallFrame, FRAME_MAX, FrameReader, Hello, PROTOCOL, REVISION, read_failed};
use crate::link::Wire;
use crate::testing::MemoryDisk;
use crate::tls;

/// Dials `node` by hand with the certificate of `identity`, and says `hello`.
async fn dial(
    node: &Node,
    identity: &Identity,
    hello: Hello,
    clock: &Arc<dyn Clock>,
) -> std::io::Result<(Wire, FrameReader)> {
    let socket = TcpStream::connect(node.links.addresses()[0]).await?;
    let client = Tls::of(identity, clock).unwrap().client.clone();
    let name = tls::server_name(node.identity.cluster(), node.id());
    let (socket, session) = TlsConnector::from(client).connect(name, socket).await?.into_inner();
    let (mut wire, reader) = (Wire::new(socket, session), FrameReader::new(FRAME_MAX));
    wire.send(hello.frame()).await.map_err(std::io::Error::other)?;
    Ok((wire, reader))
}

/// As [`dial`]; the first word of the answer.
async fn greet(
    node: &Node,
    identity: &Identity,
    hello: Hello,
    clock: &Arc<dyn Clock>,
) -> std::io::Result<Result<Hello, Problem>> {
    let (mut wire, mut reader) = dial(node, identity, hello, clock).await?;
    let frame = wire.receive(&mut reader).await.map_err(std::io::Error::other)?;
    Ok(match frame.kind {
        FrameKind::Failed => Err(read_failed(&frame.payload).unwrap()),
        _ => Ok(Hello::read(&frame).unwrap()),
    })
}

#[test]
fn a_node_of_another_cluster_is_refused_by_both_sides() {
    run(|clock| async move {
        let (_, ours) = nodes(1, &clock).await;
        let (_, theirs) = nodes(1, &clock).await;
        theirs[0].links.set_peers(vec![ours[0].address()]);
        let error = ask(&theirs[0].links, ours[0].id(), call("echo", Lane::Small)).await.unwrap_err();
        assert_eq!(error, CallError::Unreachable(ours[0].id()));

        // One that trusts our authority and shows a certificate of another.
        let (mut stranger, _) = Identity::found("stranger", clock.wall()).unwrap();
        let certificate = stranger.certificate().unwrap().clone();
        let trusted = ours[0].identity.authorities().to_vec();
        stranger.admit(stranger.cluster(), certificate, trusted);
        let hello = Hello::of(stranger.node(), Lane::Small);
        assert!(greet(&ours[0], &stranger, hello, &clock).await.is_err());
        until(|| ours[0].counter("tutti_cluster_link_refused_total{reason=\"tls\"}") >= 1).await;
        assert_eq!(ours[0].served.calls.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_certificate_of_one_node_is_no_certificate_of_another() {
    run(|clock| async move {
        let (authority, nodes) = nodes(2, &clock).await;
        let thief = member(&authority, "thief", &clock);
        let hello = Hello::of(nodes[1].id(), Lane::Control);
        let refused = greet(&nodes[0], &thief, hello, &clock).await.unwrap().unwrap_err();
        assert_eq!(refused.kind, Kind::Forbidden);
        assert!(refused.detail.contains(&nodes[1].id().to_string()), "{refused}");
    });
}

#[test]
fn a_forbidden_node_is_cut_and_refused_and_no_longer_dialled() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let (keeper, removed) = (&nodes[0], &nodes[1]);
        assert!(ask(&removed.links, keeper.id(), call("echo", Lane::Small)).await.is_ok());
        let links = removed.links.clone();
        let id = keeper.id();
        let asking = tokio::spawn(async move { ask(&links, id, call("never", Lane::Small)).await });
        until(|| keeper.served.calls.load(Ordering::SeqCst) >= 2).await;
        keeper.links.forbid(removed.id());
        assert_eq!(asking.await.unwrap().unwrap_err(), CallError::Broken(id));
        let hello = Hello::of(removed.id(), Lane::Small);
        let refused = greet(keeper, &removed.identity, hello, &clock).await.unwrap().unwrap_err();
        assert!(refused.detail.contains("removed"), "{refused}");
        let error = ask(&keeper.links, removed.id(), call("echo", Lane::Small)).await.unwrap_err();
        assert_eq!(error, CallError::Unreachable(removed.id()));
        keeper.links.set_peers(vec![removed.address()]);
        assert!(!keeper.links.is_connected(removed.id()), "it stays removed");
    });
}

#[test]
fn a_node_that_was_removed_is_refused_from_the_first_moment_of_the_next_start() {
    run(|clock| async move {
        let (authority, nodes) = nodes(1, &clock).await;
        let removed = member(&authority, "removed", &clock);
        let disk = MemoryDisk::default();
        let mut identity = nodes[0].identity.clone();
        identity.add_removed([removed.node()]);
        identity.save(&disk).unwrap();
        nodes[0].links.stop().await;
        let kept = Identity::load(&disk).unwrap().expect("it was saved");
        let again = start(kept, &clock, config()).await;
        let hello = Hello::of(removed.node(), Lane::Control);
        let refused = greet(&again, &removed, hello, &clock).await.unwrap().unwrap_err();
        assert!(refused.detail.contains("removed"), "{refused}");
    });
}

#[test]
fn the_revision_before_is_spoken_with_and_another_generation_is_told_so() {
    run(|clock| async move {
        let (authority, nodes) = nodes(1, &clock).await;
        let peer = member(&authority, "older", &clock);
        let hello = |protocol, revision| Hello { protocol, revision, ..Hello::of(peer.node(), Lane::Small) };
        let before = greet(&nodes[0], &peer, hello(PROTOCOL, REVISION - 1), &clock).await.unwrap();
        assert_eq!(before.map(|hello| hello.node), Ok(nodes[0].id()));
        let after = greet(&nodes[0], &peer, hello(PROTOCOL, REVISION + 1), &clock).await.unwrap();
        assert!(after.is_ok());
        let other = greet(&nodes[0], &peer, hello(PROTOCOL + 1, 0), &clock).await.unwrap().unwrap_err();
        assert!(other.detail.contains("generation 2"), "{other}");
    });
}

#[test]
fn a_renewed_certificate_is_used_at_once_and_standing_links_stay() {
    run(|clock| async move {
        let (authority, nodes) = nodes(2, &clock).await;
        let peer = nodes[1].id();
        assert!(ask(&nodes[0].links, peer, call("echo", Lane::Small)).await.is_ok());
        // The control lane is dialled by itself, the small one for the call.
        until(|| nodes[0].counter("tutti_cluster_link_dials_total{outcome=\"connected\"}") == 2).await;
        let dials = 2;
        let mut renewed = nodes[0].identity.clone();
        let signed =
            authority.sign(&renewed.request().unwrap(), renewed.node(), "node-0", clock.wall()).unwrap();
        assert_ne!(Some(&signed), renewed.certificate());
        renewed.admit(authority.cluster(), signed, vec![authority.certificate().to_vec()]);
        nodes[0].links.set_identity(&renewed).unwrap();
        assert!(ask(&nodes[0].links, peer, call("echo", Lane::Small)).await.is_ok());
        assert_eq!(nodes[0].counter("tutti_cluster_link_dials_total{outcome=\"connected\"}"), dials);
        assert!(
            ask(&nodes[0].links, peer, call("echo", Lane::Bulk)).await.is_ok(),
            "a new link with the new one"
        );

        let (stranger, _) = Identity::found("stranger", clock.wall()).unwrap();
        assert!(nodes[0].links.set_identity(&stranger).is_err());
    });
}

#[test]
fn an_expired_certificate_is_refused() {
    run(|clock| async move {
        let (authority, nodes) = nodes(1, &clock).await;
        let mut late = Identity::new("late").unwrap();
        let long_ago = Wall(clock.wall().0 - 30 * 24 * 3600 * 1000);
        let signed = authority.sign(&late.request().unwrap(), late.node(), "late", long_ago).unwrap();
        late.admit(authority.cluster(), signed, vec![authority.certificate().to_vec()]);
        let hello = Hello::of(late.node(), Lane::Small);
        assert!(greet(&nodes[0], &late, hello, &clock).await.is_err());
        until(|| nodes[0].counter("tutti_cluster_link_refused_total{reason=\"tls\"}") >= 1).await;
    });
}

#[test]
fn the_oldest_of_too_many_connections_of_one_peer_and_lane_is_cut() {
    run(|clock| async move {
        let (authority, nodes) = nodes(1, &clock).await;
        let peer = member(&authority, "often", &clock);
        let mut held = Vec::new();
        for _ in 0..=ACCEPTED_PER_LANE_MAX {
            let hello = Hello::of(peer.node(), Lane::Small);
            let (mut wire, mut reader) = dial(&nodes[0], &peer, hello, &clock).await.unwrap();
            assert!(wire.receive(&mut reader).await.is_ok());
            held.push((wire, reader));
        }
        let (wire, reader) = &mut held[0];
        while wire.receive(reader).await.is_ok() {}
        let (wire, reader) = &mut held[1];
        wire.send(CallFrame::frame(Topic::FLOW.0, 1, SLOW, b"echo", &Bytes::new())).await.unwrap();
        assert_eq!(wire.receive(reader).await.unwrap().kind, FrameKind::Reply);
    });
}

#[test]
fn long_calls_beyond_what_may_arrive_at_once_are_refused() {
    run(|clock| async move {
        let (authority, nodes) = nodes(1, &clock).await;
        let peer = member(&authority, "large", &clock);
        let hello = Hello::of(peer.node(), Lane::Bulk);
        let (mut wire, mut reader) = dial(&nodes[0], &peer, hello, &clock).await.unwrap();
        assert!(wire.receive(&mut reader).await.is_ok());
        let announced = Bytes::from(vec![0; crate::frame::CALL_BODY_MAX]);
        for call in 1..=3 {
            wire.send(CallFrame::frame(Topic::FLOW.0, call, SLOW, b"length", &announced)).await.unwrap();
        }
        let refused = loop {
            let frame = wire.receive(&mut reader).await.unwrap();
            if frame.kind != FrameKind::Beat {
                break frame;
            }
        };
        assert_eq!((refused.kind, refused.call), (FrameKind::Failed, 3));
        assert_eq!(read_failed(&refused.payload).unwrap().kind, Kind::Overloaded);
        // A number that is in use breaks the protocol.
        wire.send(CallFrame::frame(Topic::FLOW.0, 1, SLOW, b"length", &announced)).await.unwrap();
        while wire.receive(&mut reader).await.is_ok() {}
    });
}

#[test]
fn connections_that_say_nothing_are_limited_and_closed_after_a_while() {
    run(|clock| async move {
        let (_, nodes) = nodes(1, &clock).await;
        let few = start(nodes[0].identity.clone(), &clock, Config { connections_max: 16, ..config() }).await;
        let connect = async |node: &Node| TcpStream::connect(node.links.addresses()[0]).await.unwrap();
        let refused = |reason| format!("tutti_cluster_link_refused_total{{reason=\"{reason}\"}}");
        let mut held = Vec::new();
        for _ in 0..=16 {
            held.push(connect(&few).await);
        }
        until(|| few.counter(&refused("connections")) == 1).await;
        for _ in 0..=HANDSHAKES_MAX {
            held.push(connect(&nodes[0]).await);
        }
        until(|| nodes[0].counter(&refused("handshakes")) == 1).await;
        until(|| few.counter(&refused("handshake-late")) == 16).await;
    });
}
