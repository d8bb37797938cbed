//! Calls and answers: whole, in pieces, cancelled, refused, too many.

use super::*;

#[test]
fn a_call_is_answered_on_every_lane_and_says_whom_it_is_from() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        for lane in Lane::ALL {
            let body = Bytes::from(vec![9; 20_000]);
            let asked = Call { body: body.clone(), ..call("echo", lane) };
            let reply = ask(&nodes[0].links, nodes[1].id(), asked).await.unwrap();
            assert_eq!(reply.head, nodes[0].id().to_string());
            assert!(matches!(reply.body, Body::Whole(whole) if whole == body));
        }
        let own = ask(&nodes[0].links, nodes[0].id(), call("echo", Lane::Small)).await.unwrap();
        assert_eq!(own.head, nodes[0].id().to_string());
        assert_eq!(nodes[0].served.calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_slow_answer_is_waited_for_as_long_as_the_peer_beats() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let reply = ask(&nodes[0].links, nodes[1].id(), call("slow", Lane::Small)).await.unwrap();
        assert_eq!(reply.head, "at last");
    });
}

#[test]
fn small_calls_go_on_beside_a_long_body_whose_reader_is_slow() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let peer = nodes[1].id();
        let reply = ask(&nodes[0].links, peer, call("long", Lane::Bulk)).await.unwrap();
        let Body::Stream(StreamBody { len, mut chunks, .. }) = reply.body else { panic!("it is long") };
        assert_eq!(len, Some((PIECES * PIECE) as u64));
        let mut read = chunks.next().await.unwrap().unwrap().len();
        for _ in 0..50 {
            let beside = ask(&nodes[0].links, peer, call("echo", Lane::Bulk)).await.unwrap();
            assert_eq!(beside.head, nodes[0].id().to_string());
        }
        let window = WINDOW / PIECE + 3;
        assert!(nodes[1].served.pieces.load(Ordering::SeqCst) <= window, "the source is held back");
        while let Some(piece) = chunks.next().await {
            read += piece.unwrap().len();
        }
        assert_eq!(read, PIECES * PIECE);
    });
}

const WINDOW: usize = crate::frame::WINDOW_BYTES as usize;

#[test]
fn a_body_dropped_amid_stops_its_source() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let reply = ask(&nodes[0].links, nodes[1].id(), call("long", Lane::Bulk)).await.unwrap();
        drop(reply);
        let again = ask(&nodes[0].links, nodes[1].id(), call("echo", Lane::Bulk)).await;
        assert!(again.is_ok());
        assert!(nodes[1].served.pieces.load(Ordering::SeqCst) < PIECES);
    });
}

#[test]
fn a_body_of_a_file_arrives_whole_or_in_pieces_by_its_length() {
    run(|clock| async move {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3 << 20).map(|at: u32| (at / 1000) as u8).collect();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(file);
        struct Files(Arc<std::fs::File>);
        impl Serve for Files {
            fn serve(&self, _: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
                let len = std::str::from_utf8(&call.head).unwrap().parse().unwrap();
                let body = Body::File(tutti_base::FileBody { file: self.0.clone(), offset: 10, len });
                Box::pin(std::future::ready(Ok(Reply { head: Bytes::new(), body })))
            }
        }
        let (_, nodes) = nodes(2, &clock).await;
        nodes[1].links.register(Topic::FLOW, Arc::new(Files(file)));
        for (length, whole) in
            [("0", true), ("1000", true), ("1048576", true), ("1048577", false), ("3000000", false)]
        {
            let reply = ask(&nodes[0].links, nodes[1].id(), call(length, Lane::Bulk)).await.unwrap();
            let wanted = &bytes[10..10 + length.parse::<usize>().unwrap()];
            match reply.body {
                Body::Whole(body) => assert!(whole && body == wanted),
                Body::Stream(stream) => {
                    let pieces: Vec<_> = stream.chunks.map(Result::unwrap).collect().await;
                    assert!(!whole && pieces.concat() == wanted);
                }
                Body::File(_) => panic!("no file travels"),
            }
        }
    });
}

#[test]
fn a_long_body_of_a_call_travels_on_the_bulk_lane_alone() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let ask = |lane, bytes| {
            let asked = Call { body: vec![1; bytes].into(), ..call("length", lane) };
            ask(&nodes[0].links, nodes[1].id(), asked)
        };
        let limit = tutti_base::net::SMALL_MAX;
        assert_eq!(ask(Lane::Small, limit).await.unwrap().head, limit.to_string());
        let refused = ask(Lane::Small, limit + 1).await.unwrap_err();
        assert!(refused.to_string().contains("over the limit"), "{refused}");
        assert_eq!(ask(Lane::Bulk, 12 << 20).await.unwrap().head, (12 << 20).to_string());
        assert!(ask(Lane::Bulk, crate::frame::CALL_BODY_MAX + 1).await.is_err());
    });
}

#[test]
fn a_dropped_call_is_dropped_at_the_peer_and_so_is_one_whose_time_is_over() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let (links, peer) = (&*nodes[0].links, nodes[1].id());
        let served = &nodes[1].served;
        let asking = ask(links, peer, call("never", Lane::Small));
        let dropped = tokio::time::timeout(SLOW, asking).await;
        assert!(dropped.is_err());
        until(|| served.dropped.load(Ordering::SeqCst) >= 1).await;
        let short = Call { within: SLOW, ..call("never", Lane::Small) };
        assert_eq!(ask(links, peer, short).await.unwrap_err(), CallError::Late(peer));
        until(|| served.dropped.load(Ordering::SeqCst) >= 2).await;
    });
}

#[test]
fn a_refusal_says_why_and_a_defect_of_the_server_hurts_one_call_alone() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let (links, peer) = (&*nodes[0].links, nodes[1].id());
        let kind = |answer: Result<Reply, CallError>| match answer.unwrap_err() {
            CallError::Refused(from, problem) if from == peer => problem.kind,
            other => panic!("{other}"),
        };
        assert_eq!(kind(ask(links, peer, call("what", Lane::Small)).await), Kind::NotFound);
        for defect in ["panic", "panic later"] {
            assert_eq!(kind(ask(links, peer, call(defect, Lane::Small)).await), Kind::Internal);
        }
        let stranger = Call { topic: Topic(77), ..call("echo", Lane::Small) };
        assert_eq!(kind(ask(links, peer, stranger).await), Kind::Unavailable);
        assert!(ask(links, peer, call("echo", Lane::Small)).await.is_ok());
    });
}

#[test]
fn a_broken_connection_fails_its_calls_at_once_and_an_unknown_node_is_unreachable() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let (links, peer) = (nodes[0].links.clone(), nodes[1].id());
        let asking: Vec<_> = Lane::ALL
            .into_iter()
            .map(|lane| {
                let links = links.clone();
                tokio::spawn(async move { ask(&links, peer, call("never", lane)).await.unwrap_err() })
            })
            .collect();
        until(|| nodes[1].served.calls.load(Ordering::SeqCst) >= 3).await;
        nodes[1].links.stop().await;
        for asked in asking {
            assert_eq!(asked.await.unwrap(), CallError::Broken(peer));
        }
        let gone = ask(&links, peer, call("echo", Lane::Small)).await.unwrap_err();
        assert!(gone == CallError::Unreachable(peer) || gone == CallError::Broken(peer), "{gone}");
        let unknown = ask(&links, NodeId(1), call("echo", Lane::Small)).await.unwrap_err();
        assert_eq!(unknown, CallError::Unreachable(NodeId(1)));
        assert!(unknown.blames_peer());
    });
}

#[test]
fn one_call_more_than_the_limit_is_refused_here() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let few = Config { calls_max: 16, ..config() };
        let caller = start(nodes[0].identity.clone(), &clock, few).await;
        caller.links.set_peers(vec![nodes[1].address()]);
        let peer = nodes[1].id();
        let spawned: Vec<_> = (0..16)
            .map(|_| {
                let links = caller.links.clone();
                tokio::spawn(async move { ask(&links, peer, call("never", Lane::Small)).await })
            })
            .collect();
        until(|| nodes[1].served.calls.load(Ordering::SeqCst) >= 16).await;
        let refused = ask(&caller.links, peer, call("echo", Lane::Small)).await.unwrap_err();
        assert!(
            matches!(&refused, CallError::Refused(_, problem) if problem.kind == Kind::Overloaded),
            "{refused}"
        );
        spawned[0].abort();
        until(|| nodes[1].served.dropped.load(Ordering::SeqCst) >= 1).await;
        assert!(ask(&caller.links, peer, call("echo", Lane::Small)).await.is_ok());
    });
}

#[test]
fn casts_arrive_on_the_control_lane_and_are_lost_without_a_link() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let peer = nodes[1].id();
        until(|| nodes[0].links.is_connected(peer)).await;
        nodes[0].links.cast(peer, Topic::FLOW, Bytes::from_static(b"hint"));
        until(|| nodes[1].served.heard.load(Ordering::SeqCst) >= 1).await;
        nodes[0].links.cast(NodeId(1), Topic::FLOW, Bytes::from_static(b"hint"));
        assert_eq!(nodes[0].counter("tutti_cluster_link_casts_lost_total"), 1);
    });
}

#[test]
fn the_listener_hears_of_connected_broken_and_refused() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<&'static str>>);
    impl LinkEvents for Heard {
        fn connected(&self, _: NodeId) {
            self.0.lock().unwrap().push("connected");
        }
        fn broken(&self, _: NodeId) {
            self.0.lock().unwrap().push("broken");
        }
        fn refused(&self, _: NodeId) {
            self.0.lock().unwrap().push("refused");
        }
        fn heard(&self, _: NodeId) {
            self.0.lock().unwrap().push("heard");
        }
    }
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let heard = Arc::new(Heard::default());
        let listener = start(nodes[0].identity.clone(), &clock, config()).await;
        listener.links.set_events(heard.clone());
        listener.links.set_peers(vec![nodes[1].address()]);
        let has = |word| heard.0.lock().unwrap().contains(&word);
        until(|| has("connected") && has("heard")).await;
        nodes[1].links.stop().await;
        until(|| has("broken") && has("refused")).await;
    });
}
