//! Tests of links over loopback: two or three nodes, real sockets, the runtime's clock.

mod calls;
mod cost;
mod datagrams;
mod joining;
mod refusals;
mod silence;

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream;
use tutti_base::rng::SplitMix;
use tutti_base::{Body, BodyError, Kind, Problem, StreamBody};

use super::*;
use crate::authority::Authority;
use crate::testing::TestClock;

/// One node: its identity and links.
struct Node {
    identity: Identity,
    links: Arc<Links>,
    metrics: Metrics,
    served: Arc<Served>,
}

impl Node {
    fn id(&self) -> NodeId {
        self.identity.node()
    }
    fn address(&self) -> (NodeId, Vec<SocketAddr>) {
        (self.id(), self.links.addresses().to_vec())
    }
    fn counter(&self, line: &str) -> u64 {
        let text = self.metrics.text();
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.map_or(0, |value| value.trim().parse().unwrap())
    }
}

/// Serves what the head says; counts what came and what was dropped.
#[derive(Default)]
struct Served {
    calls: AtomicUsize,
    heard: AtomicUsize,
    dropped: AtomicUsize,
    /// Pieces of long bodies that were taken from their source.
    pieces: AtomicUsize,
}

struct Server(Arc<Served>, Arc<dyn Clock>);

struct CountsDrop(Arc<Served>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

const PIECE: usize = 100_000;
const PIECES: usize = 80;

fn long_body(served: Arc<Served>) -> Body {
    let pieces = stream::iter(0..PIECES).map(move |at| {
        served.pieces.fetch_add(1, Ordering::SeqCst);
        Ok::<_, BodyError>(Bytes::from(vec![at as u8; PIECE]))
    });
    Body::Stream(StreamBody { len: Some((PIECES * PIECE) as u64), hash: None, chunks: Box::pin(pieces) })
}

impl Serve for Server {
    fn serve(&self, from: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let (served, clock) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            match &*call.head {
                b"echo" => Ok(Reply { head: from.to_string().into(), body: call.body.into() }),
                b"hit" => Ok(Reply { head: Bytes::new(), body: HIT.clone().into() }),
                b"length" => Ok(Reply::of(call.body.len().to_string())),
                b"long" => Ok(Reply { head: Bytes::new(), body: long_body(served) }),
                b"slow" => {
                    clock.sleep_until(clock.now() + SLOW).await;
                    Ok(Reply::of("at last"))
                }
                b"never" => {
                    let _dropped = CountsDrop(served);
                    std::future::pending().await
                }
                // Without the hook, whose printing could take longer than a peer may be silent.
                b"panic" => std::panic::resume_unwind(Box::new("as asked")),
                b"panic later" => {
                    tokio::task::yield_now().await;
                    std::panic::resume_unwind(Box::new("as asked"))
                }
                _ => Err(Problem::new(Kind::NotFound, "no such thing")),
            }
        })
    }
    fn hear(&self, _from: NodeId, _head: Bytes) {
        self.0.heard.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a peer's cache has.
static HIT: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| Bytes::from(vec![5; 20_000]));

/// Far longer than a peer may be silent.
const SLOW: Duration = Duration::from_millis(400);

fn config() -> Config {
    Config { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Config::default() }
}

fn outside(clock: &Arc<dyn Clock>, metrics: &Metrics) -> Outside {
    Outside { clock: clock.clone(), rng: Box::new(SplitMix::new(1)), metrics: metrics.clone() }
}

async fn start(identity: Identity, clock: &Arc<dyn Clock>, config: Config) -> Node {
    let (metrics, served) = (Metrics::default(), Arc::new(Served::default()));
    let links = Links::start(config, &identity, outside(clock, &metrics)).await.unwrap();
    links.register(Topic::FLOW, Arc::new(Server(served.clone(), clock.clone())));
    Node { identity, links, metrics, served }
}

fn member(authority: &Authority, name: &str, clock: &Arc<dyn Clock>) -> Identity {
    let mut identity = Identity::new(name).unwrap();
    let request = identity.request().unwrap();
    let certificate = authority.sign(&request, identity.node(), name, clock.wall()).unwrap();
    identity.admit(authority.cluster(), certificate, vec![authority.certificate().to_vec()]);
    identity
}

/// A cluster of `count` nodes that know one another.
async fn nodes(count: usize, clock: &Arc<dyn Clock>) -> (Authority, Vec<Node>) {
    let (first, authority) = Identity::found("node-0", clock.wall()).unwrap();
    let mut nodes = vec![start(first, clock, config()).await];
    for at in 1..count {
        nodes.push(start(member(&authority, &format!("node-{at}"), clock), clock, config()).await);
    }
    let all: Vec<_> = nodes.iter().map(Node::address).collect();
    nodes.iter().for_each(|node| node.links.set_peers(all.clone()));
    (authority, nodes)
}

fn call(head: &'static str, lane: Lane) -> Call {
    let within = Duration::from_secs(60);
    Call { topic: Topic::FLOW, lane, head: Bytes::from_static(head.as_bytes()), body: Bytes::new(), within }
}

/// Asks as often as the peer counts as silent: threads of a busy machine may wait that long.
async fn ask(from: &Links, to: NodeId, call: Call) -> Result<Reply, CallError> {
    loop {
        match from.call(to, call.clone()).await {
            Err(CallError::Silent(_)) => {}
            answer => return answer,
        }
    }
}

/// Waits for `condition`; a test that waits for ever is stopped by its runner.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A runtime with two threads, as a node has.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Arc<dyn Clock>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { test(TestClock::shared()).await });
    runtime.shutdown_background();
}

#[test]
fn control_links_stand_by_themselves_and_are_measured() {
    run(|clock| async move {
        let (_, nodes) = nodes(3, &clock).await;
        for (node, peer) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            let (links, peer) = (nodes[node].links.clone(), nodes[peer].id());
            until(|| links.is_connected(peer)).await;
            until(|| links.rtt(peer).is_some_and(|rtt| rtt < Duration::from_secs(1))).await;
            assert_eq!(links.version(peer).as_deref(), Some(env!("CARGO_PKG_VERSION")));
        }
        for node in &nodes {
            node.links.stop().await;
        }
    });
}

#[test]
fn what_is_advertised_can_be_dialled() {
    run(|clock| async move {
        let (_, nodes) = nodes(1, &clock).await;
        let identity = &nodes[0].identity;
        let everywhere = Config { listen: vec!["[::]:0".parse().unwrap()], ..config() };
        let node = start(identity.clone(), &clock, everywhere.clone()).await;
        let found = node.links.advertised();
        assert!(found.len() == 1 && !found[0].ip().is_unspecified(), "{found:?}");
        assert_eq!(found[0].port(), node.links.addresses()[0].port());
        let outside = vec!["192.0.2.7:8400".parse().unwrap()];
        let behind =
            start(identity.clone(), &clock, Config { advertise: outside.clone(), ..everywhere }).await;
        assert_eq!(behind.links.advertised(), outside);
    });
}

#[test]
fn a_stopped_node_frees_its_port() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let (address, peer) = (nodes[0].links.addresses()[0], nodes[1].id());
        until(|| nodes[0].links.is_connected(peer)).await;
        nodes[0].links.stop().await;
        let again = Config { listen: vec![address], ..Config::default() };
        let restarted = start(nodes[0].identity.clone(), &clock, again).await;
        restarted.links.set_peers(vec![nodes[1].address()]);
        until(|| restarted.links.is_connected(peer) && nodes[1].links.is_connected(restarted.id())).await;
    });
}
