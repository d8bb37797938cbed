//! The links of this node to its peers over real sockets: [`Peers`] with an identity. Decides neither who is a member nor
//! what is asked.
//!
//! One TCP port takes all connections, mutual TLS 1.3 by the cluster's authority. Each side dials for its own calls, one
//! connection a lane, so two nodes that call each other have two on each lane, and simultaneous dials need no rule. The
//! control lane stands to every known peer; the others are dialled when they are first used and then kept.

mod accept;
mod book;
mod counts;
mod dial;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tracing::Instrument;
use tutti_base::rng::Rng;
use tutti_base::{BoxFuture, Call, CallError, Clock, Lane, NodeId, Peers, Reply, Serve, Tick, Topic};
use tutti_telemetry::Metrics;

use crate::config::{Config, ConfigError};
use crate::datagram::{Datagrams, Keyring};
use crate::frame::{FrameKind, HEAD_MAX, Outgoing};
use crate::identity::Identity;
use crate::link::Link;
use crate::tls::{Tls, TlsError};
use book::{Book, Standing};
pub(crate) use counts::Counts;
pub(crate) use dial::{DialError, reach, welcome};

/// How long a handshake may take, TLS and hello together.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How long one address is tried before the next.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// The most handshakes of peers at once; one more is closed.
pub const HANDSHAKES_MAX: usize = 64;
/// The most connections without a certificate at once; one more is closed.
pub const ANONYMOUS_MAX: usize = 16;
/// The most connections of one peer on one lane; beyond it the oldest is cut.
pub const ACCEPTED_PER_LANE_MAX: usize = 4;
/// How long a call waits for a dial before it counts as unreachable; the dial goes on.
pub const CALL_WAITS_FOR_DIAL: Duration = Duration::from_millis(300);
/// The least time between two dials of one lane, and the first wait of the control lane.
pub const REDIAL_MIN: Duration = Duration::from_millis(50);
/// The longest wait between two dials of the control lane.
pub const REDIAL_MAX: Duration = Duration::from_secs(1);

/// Hears what happens to the control links that this node dialled. Called from the links' tasks: must not block.
pub trait LinkEvents: Send + Sync {
    /// A control link stands.
    fn connected(&self, node: NodeId);
    /// A control link broke.
    fn broken(&self, node: NodeId);
    /// The peer's machine refused a connection: nothing listens there.
    fn refused(&self, _node: NodeId) {}
    /// Something arrived from the peer, on any connection; at most each 50 ms a connection.
    fn heard(&self, _node: NodeId) {}
}

/// What the links need of the world.
pub struct Outside {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for jitter alone.
    pub rng: Box<dyn Rng>,
    /// Where to count.
    pub metrics: Metrics,
}

/// Why the links cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The identity cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address} for other nodes: {error}; set `listen`, or end what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        error: std::io::Error,
    },
}

/// What every connection needs of its node.
pub(crate) struct Home {
    pub(crate) me: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counts: Counts,
    pub(crate) limits: Config,
    keyring: Arc<Keyring>,
    topics: ArcSwap<HashMap<u8, Arc<dyn Serve>>>,
    events: OnceLock<Arc<dyn LinkEvents>>,
}

impl Home {
    pub(crate) fn serve(&self, topic: u8) -> Option<Arc<dyn Serve>> {
        self.topics.load().get(&topic).cloned()
    }
    pub(crate) fn tell(&self, what: impl FnOnce(&dyn LinkEvents)) {
        if let Some(events) = self.events.get() {
            what(&**events);
        }
    }
    pub(crate) fn datagrams_from(&self, peer: NodeId) -> u64 {
        self.keyring.received_from(peer)
    }
}

/// A connection that stands, in the gauge.
struct Counted(Arc<Home>);

impl Counted {
    fn new(home: &Arc<Home>) -> Self {
        home.counts.links.inc();
        Self(home.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counts.links.dec();
    }
}

/// What the tasks of the links share.
struct Core {
    home: Arc<Home>,
    tls: ArcSwap<Tls>,
    book: Book,
    keyring: Arc<Keyring>,
    rng: Mutex<Box<dyn Rng>>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    /// Every task holds a receiver; true ends them.
    stop: watch::Sender<bool>,
}

/// The links of this node. Dropping them ends their tasks and connections.
pub struct Links {
    core: Arc<Core>,
    datagrams: Arc<Datagrams>,
    addresses: Vec<SocketAddr>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.core.stop.send_replace(true);
    }
}

impl Links {
    /// Listens, TCP and UDP on one port number, and accepts, but for the nodes that `identity` remembers as removed. Call
    /// within a tokio runtime.
    pub async fn start(
        config: Config,
        identity: &Identity,
        outside: Outside,
    ) -> Result<Arc<Self>, StartError> {
        config.validate()?;
        let Outside { clock, rng, metrics } = outside;
        let tls = Tls::of(identity, &clock)?;
        let mut sockets = Vec::new();
        for address in &config.listen {
            let bound = bind(*address).await;
            sockets.push(bound.map_err(|error| StartError::Listen { address: *address, error })?);
        }
        let (listeners, udp): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let counts = Counts::register(&metrics, &config);
        let keyring = Arc::new(Keyring::default());
        let (connections, me) = (config.connections_max, identity.node());
        let core = Arc::new(Core {
            home: Arc::new(Home {
                me,
                clock,
                counts: counts.clone(),
                limits: config,
                keyring: keyring.clone(),
                topics: ArcSwap::default(),
                events: OnceLock::new(),
            }),
            tls: ArcSwap::from_pointee(tls),
            book: Book::default(),
            keyring: keyring.clone(),
            rng: Mutex::new(rng),
            connections: Arc::new(Semaphore::new(connections)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            anonymous: Arc::new(Semaphore::new(ANONYMOUS_MAX)),
            stop: watch::Sender::new(false),
        });
        identity.removed().iter().for_each(|node| core.book.forbid(*node));
        for listener in listeners {
            core.spawn("cluster.accept", core.clone().accept(listener));
        }
        let (datagrams, receivers) = Datagrams::new(udp, keyring, counts);
        for receiver in receivers {
            core.spawn("cluster.datagrams", receiver);
        }
        Ok(Arc::new(Self { core, datagrams: Arc::new(datagrams), addresses }))
    }

    /// Where the node port listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
    /// Where others are to reach this node: as configured, else where it listens, with the address that this machine has
    /// towards other networks in place of an unspecified one.
    pub fn advertised(&self) -> Vec<SocketAddr> {
        let advertise = &self.core.home.limits.advertise;
        if !advertise.is_empty() {
            return advertise.clone();
        }
        let outward = |address: &SocketAddr| {
            let ip = if address.ip().is_unspecified() { outward(address.is_ipv6()) } else { address.ip() };
            SocketAddr::new(ip, address.port())
        };
        self.addresses.iter().map(outward).collect()
    }

    /// Answers `topic` with `serve` from now on.
    pub fn register(&self, topic: Topic, serve: Arc<dyn Serve>) {
        self.core.home.topics.rcu(|topics| {
            let mut topics = HashMap::clone(topics);
            topics.insert(topic.0, serve.clone());
            topics
        });
    }
    /// Tells `events` what happens to the control links. Counts once, at start.
    pub fn set_events(&self, events: Arc<dyn LinkEvents>) {
        if self.core.home.events.set(events).is_err() {
            tracing::warn!("the links tell their events already; the second listener hears nothing");
        }
    }
    /// Makes these the peers: dials the new ones, cuts those that are missing. This node itself is passed over.
    pub fn set_peers(&self, mut peers: Vec<(NodeId, Vec<SocketAddr>)>) {
        peers.retain(|(id, _)| *id != self.core.home.me);
        for peer in self.core.book.set(peers) {
            self.core.spawn("cluster.keep", self.core.clone().keep(peer));
        }
    }
    /// Refuses a removed node from now on, whatever certificate it shows, and cuts what stands.
    pub fn forbid(&self, node: NodeId) {
        self.core.book.forbid(node);
        self.core.keyring.forget(node);
    }
    /// Uses the certificates of `identity` for connections from now on; those that stand stay.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), TlsError> {
        let tls = Tls::of(identity, &self.core.home.clock)?;
        if tls.cluster != self.core.tls.load().cluster || identity.node() != self.core.home.me {
            return Err(TlsError::Unusable(
                "another node or cluster than the links were started with".into(),
            ));
        }
        self.core.tls.store(Arc::new(tls));
        Ok(())
    }

    /// Whether a control link to `node` stands.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.core.book.get(node).is_some_and(|peer| peer.open(Lane::Control).is_some())
    }
    /// Smoothed round-trip time on the control link to `node`, once it was measured.
    pub fn rtt(&self, node: NodeId) -> Option<Duration> {
        let link = self.core.book.get(node)?.open(Lane::Control)?;
        Some(link.rtt_ns()).filter(|rtt| *rtt > 0).map(Duration::from_nanos)
    }
    /// The version that `node` said it runs.
    pub fn version(&self, node: NodeId) -> Option<String> {
        Some(self.core.book.get(node)?.open(Lane::Control)?.hello.software.clone())
    }

    /// Sends a datagram, sealed for `to`. Never waits.
    pub fn send_datagram(&self, to: NodeId, payload: &[u8]) -> Result<(), crate::DatagramError> {
        let heard = self.core.book.get(to).and_then(|peer| peer.open(Lane::Control));
        self.datagrams.send(to, payload, heard.map(|link| link.report()))
    }
    /// The datagrams that arrive.
    pub fn datagrams(&self) -> &Datagrams {
        &self.datagrams
    }

    /// Cuts everything and returns once all tasks have ended. Calls under way fail.
    pub async fn stop(&self) {
        self.core.stop.send_replace(true);
        self.core.stop.closed().await;
    }

    async fn ask(&self, to: NodeId, call: Call) -> Result<Reply, CallError> {
        let deadline = self.core.home.clock.now() + call.within;
        if to == self.core.home.me {
            return self.ask_myself(call, deadline).await;
        }
        // A connection may end between being found and being used; a second one is then looked for, once.
        for _ in 0..2 {
            let link = self.core.link(to, call.lane, deadline).await?;
            match link.call(&call, deadline).await {
                Err(None) => {}
                Err(Some(error)) => return Err(error),
                Ok(reply) => return Ok(reply),
            }
        }
        Err(CallError::Unreachable(to))
    }

    async fn ask_myself(&self, call: Call, deadline: Tick) -> Result<Reply, CallError> {
        let me = self.core.home.me;
        let serve = self.core.home.serve(call.topic.0).ok_or(CallError::Unreachable(me))?;
        match select(serve.serve(me, call), self.core.home.clock.sleep_until(deadline)).await {
            Either::Left((answer, _)) => answer.map_err(|problem| CallError::Refused(me, Box::new(problem))),
            Either::Right(_) => Err(CallError::Late(me)),
        }
    }
}

impl Peers for Links {
    fn call(&self, to: NodeId, call: Call) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            let answer = self.ask(to, call).await;
            self.core.home.counts.called(match &answer {
                Ok(_) => "answered",
                Err(CallError::Unreachable(_)) => "unreachable",
                Err(CallError::Broken(_)) => "broken",
                Err(CallError::Silent(_)) => "silent",
                Err(CallError::Late(_)) => "late",
                Err(CallError::Refused(..)) => "refused",
            });
            answer
        })
    }

    fn cast(&self, to: NodeId, topic: Topic, head: Bytes) {
        let link = self.core.book.get(to).and_then(|peer| peer.open(Lane::Control));
        let fits = head.len() <= HEAD_MAX;
        let frame = || Outgoing::with_body(FrameKind::Cast, topic.0, 0, &[], head);
        if !(fits && link.is_some_and(|link| link.offer(frame()))) {
            self.core.home.counts.casts_lost.inc();
        }
    }
}

impl Core {
    /// Runs `task` until it ends or the links stop.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let mut stop = self.stop.subscribe();
        let span = tracing::debug_span!("cluster.task", task = name);
        let work = async move {
            let stopped = stop.wait_for(|stop| *stop);
            tokio::pin!(stopped, task);
            select(task, stopped).await;
        };
        tokio::spawn(work.instrument(span));
    }

    /// The connection to `to` on `lane`, dialled if need be.
    async fn link(self: &Arc<Self>, to: NodeId, lane: Lane, deadline: Tick) -> Result<Arc<Link>, CallError> {
        let peer = self.book.get(to).ok_or(CallError::Unreachable(to))?;
        if let Some(link) = peer.open(lane) {
            return Ok(link);
        }
        let patience = deadline.min(self.home.clock.now() + CALL_WAITS_FOR_DIAL);
        let mut standing = peer.lane(lane).subscribe();
        // The first look may find a connection that is just ending; the second then dials.
        for _ in 0..2 {
            self.dial(&peer, lane, self.home.clock.now());
            let settled = std::pin::pin!(standing.wait_for(Standing::is_settled));
            match select(settled, self.home.clock.sleep_until(patience)).await {
                Either::Left((Ok(standing), _)) => {
                    if let Standing::Open(link) = &*standing {
                        return Ok(link.clone());
                    }
                }
                _ => break,
            }
        }
        Err(CallError::Unreachable(to))
    }

    /// A wait of half to all of `full`.
    fn jittered(&self, full: Duration) -> Duration {
        let half = full / 2;
        let spread =
            self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(half.as_nanos() as u64 + 1);
        half + Duration::from_nanos(spread)
    }
}

/// The address that this machine has towards other networks; loopback when it has none. Sends nothing: a datagram socket
/// that is connected only looks up its route. The destinations are for documentation (RFC 5737, RFC 3849).
fn outward(may_be_v6: bool) -> IpAddr {
    let towards = |from: IpAddr, to: IpAddr| -> std::io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind((from, 0))?;
        socket.connect((to, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    let v4 = || towards(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()).ok();
    let v6 =
        || towards(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()).ok();
    let found = v4().or_else(|| may_be_v6.then(v6).flatten());
    found.filter(|ip| !ip.is_unspecified()).unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// How often a free TCP port is tried whose UDP twin is taken.
const BIND_TRIES: usize = 16;

async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 1;
    loop {
        let listener = TcpListener::bind(address).await?;
        match UdpSocket::bind(listener.local_addr()?).await {
            Ok(socket) => return Ok((listener, socket)),
            Err(_) if address.port() == 0 && tries < BIND_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
