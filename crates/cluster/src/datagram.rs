//! Datagrams between nodes: sealed with keys of the control links, refused when they come twice. Never more than one try.
//!
//! A datagram is version (u8), key (u64), counter (u64), all little endian, and a ChaCha20-Poly1305 box of the payload with
//! these 17 bytes as associated data. Each direction has its own key: the exporter (RFC 8446 §7.5) of the control link that
//! the sender dialled, so it changes with every new link and needs no agreement.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tutti_base::{BoxFuture, NodeId};

use crate::links::Counts;

/// The longest datagram, in bytes: it crosses every network in one piece.
pub const DATAGRAM_MAX: usize = 1200;
/// The longest payload.
pub const PAYLOAD_MAX: usize = DATAGRAM_MAX - HEAD_BYTES - TAG_BYTES;
/// The most datagrams that wait to be taken; more are dropped.
pub const QUEUE_MAX: usize = 1024;
/// The most keys of one peer that are still opened: of its newest links.
pub const KEYS_PER_PEER_MAX: usize = 2;
/// The name of the key material in the TLS exporter.
pub(crate) const EXPORT_LABEL: &[u8] = b"EXPORTER-tutti-datagram-1";
/// How many datagrams may be un-received, by the peer's word, before UDP counts as blocked.
pub const UNHEARD_MAX: u64 = 4;
/// Over how many pongs (one a second).
const UNHEARD_PONGS: u64 = 3;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 17;
const TAG_BYTES: usize = 16;
/// Errors of a socket in a row after which it is given up.
const RECEIVE_ERRORS_MAX: u32 = 1000;

/// Key material from the exporter: 32 bytes of key, 8 bytes that name it.
pub(crate) type Exported = [u8; 40];

/// Why a datagram was not sent, or may not have arrived. A cast on the control lane may serve instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DatagramError {
    /// No control link to the node stood yet.
    #[error("node {0} has no key for datagrams yet")]
    NoKey(NodeId),
    /// It was sent, but the node says that it receives none: UDP seems blocked on the way.
    #[error("datagrams to node {0} seem to be blocked; open the node port for UDP")]
    Blocked(NodeId),
    /// It is longer than [`PAYLOAD_MAX`].
    #[error("a datagram of {0} bytes is over the limit of {PAYLOAD_MAX}")]
    TooLong(usize),
    /// The socket did not take it.
    #[error("the datagram to node {0} was not taken by the socket")]
    Socket(NodeId),
}

/// What a peer last said of the datagrams that it received.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Report {
    /// How many it accepted.
    pub(crate) heard: u64,
    /// How many such words there were.
    pub(crate) pongs: u64,
}

/// Whether what is sent arrives.
#[derive(Default)]
struct Arrival {
    heard: u64,
    since_pong: u64,
    unheard: u64,
}

impl Arrival {
    /// Notes one more that is sent; false when none seem to arrive.
    fn sent(&mut self, report: Report) -> bool {
        if report.heard != self.heard || self.unheard == 0 {
            *self = Self { heard: report.heard, since_pong: report.pongs, unheard: 0 };
        }
        self.unheard += 1;
        self.unheard <= UNHEARD_MAX || report.pongs < self.since_pong + UNHEARD_PONGS
    }
}

struct SendKey {
    name: u64,
    address: SocketAddr,
    cipher: ChaCha20Poly1305,
    counter: AtomicU64,
    arrival: Mutex<Arrival>,
}

impl SendKey {
    fn seal(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let head = head(self.name, counter);
        let sealed = self.cipher.encrypt(&nonce(counter), Payload { msg: payload, aad: &head }).ok()?;
        Some([head.as_slice(), &sealed].concat())
    }
}

struct ReceiveKey {
    from: NodeId,
    cipher: ChaCha20Poly1305,
    window: Mutex<Window>,
    received: Arc<AtomicU64>,
}

/// The newest counters that were accepted: the highest, and which of the 128 up to it.
#[derive(Default)]
struct Window {
    next: u64,
    seen: u128,
}

impl Window {
    /// Whether `counter` is new, without noting it.
    fn is_new(&self, counter: u64) -> bool {
        match self.next.checked_sub(counter) {
            None | Some(0) => true,
            Some(back) => back <= 128 && self.seen >> (back - 1) & 1 == 0,
        }
    }
    /// Notes `counter`; false when it came before, or is too old to tell.
    fn accept(&mut self, counter: u64) -> bool {
        if !self.is_new(counter) {
            return false;
        }
        if counter >= self.next {
            let ahead = counter - self.next + 1;
            self.seen = if ahead < 128 { self.seen << ahead | 1 } else { 1 };
            self.next = counter.saturating_add(1);
        } else {
            self.seen |= 1 << (self.next - counter - 1);
        }
        true
    }
}

fn head(name: u64, counter: u64) -> [u8; HEAD_BYTES] {
    let mut head = [VERSION; HEAD_BYTES];
    head[1..9].copy_from_slice(&name.to_le_bytes());
    head[9..].copy_from_slice(&counter.to_le_bytes());
    head
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

fn split(exported: &Exported) -> (u64, ChaCha20Poly1305) {
    let (mut key, mut name) = ([0; 32], [0; 8]);
    key.copy_from_slice(&exported[..32]);
    name.copy_from_slice(&exported[32..]);
    (u64::from_le_bytes(name), ChaCha20Poly1305::new(&Key::from(key)))
}

/// The keys that came of control links.
#[derive(Default)]
pub(crate) struct Keyring {
    sending: RwLock<HashMap<NodeId, Arc<SendKey>>>,
    receiving: RwLock<Receiving>,
}

#[derive(Default)]
struct Receiving {
    by_name: HashMap<u64, Arc<ReceiveKey>>,
    /// Names of a peer's keys, oldest first, and how many datagrams of it were accepted.
    of_peer: HashMap<NodeId, (Vec<u64>, Arc<AtomicU64>)>,
}

impl Keyring {
    /// What is sent to `to` goes to `address` under this key from now on.
    pub(crate) fn send_with(&self, to: NodeId, address: SocketAddr, exported: Exported) {
        let (name, cipher) = split(&exported);
        let key = SendKey { name, address, cipher, counter: AtomicU64::new(0), arrival: Mutex::default() };
        self.sending.write().unwrap_or_else(PoisonError::into_inner).insert(to, Arc::new(key));
    }

    /// What comes under this key is from `from`.
    pub(crate) fn receive_with(&self, from: NodeId, exported: Exported) {
        let (name, cipher) = split(&exported);
        let mut receiving = self.receiving.write().unwrap_or_else(PoisonError::into_inner);
        let (names, received) = receiving.of_peer.entry(from).or_default();
        let received = received.clone();
        names.push(name);
        let oldest = (names.len() > KEYS_PER_PEER_MAX).then(|| names.remove(0));
        if let Some(oldest) = oldest {
            receiving.by_name.remove(&oldest);
        }
        let key = ReceiveKey { from, cipher, window: Mutex::default(), received };
        receiving.by_name.insert(name, Arc::new(key));
    }

    /// Knows nothing of `node` any more.
    pub(crate) fn forget(&self, node: NodeId) {
        self.sending.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
        let mut receiving = self.receiving.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((names, _)) = receiving.of_peer.remove(&node) {
            names.iter().for_each(|name| drop(receiving.by_name.remove(name)));
        }
    }

    /// How many datagrams of `peer` were accepted.
    pub(crate) fn received_from(&self, peer: NodeId) -> u64 {
        let receiving = self.receiving.read().unwrap_or_else(PoisonError::into_inner);
        receiving.of_peer.get(&peer).map_or(0, |(_, received)| received.load(Ordering::Relaxed))
    }

    fn sender(&self, to: NodeId) -> Option<Arc<SendKey>> {
        self.sending.read().unwrap_or_else(PoisonError::into_inner).get(&to).cloned()
    }

    /// Opens what arrived; else the word for why not.
    fn open(&self, datagram: &[u8]) -> Result<(NodeId, Bytes), &'static str> {
        let (head, sealed) = datagram.split_first_chunk::<HEAD_BYTES>().ok_or("short")?;
        if head[0] != VERSION {
            return Err("version");
        }
        let (name, counter) = (crate::frame::long(head, 1), crate::frame::long(head, 9));
        let key = {
            let receiving = self.receiving.read().unwrap_or_else(PoisonError::into_inner);
            receiving.by_name.get(&name).cloned().ok_or("key")?
        };
        if !key.window.lock().unwrap_or_else(PoisonError::into_inner).is_new(counter) {
            return Err("replayed");
        }
        let opened = key.cipher.decrypt(&nonce(counter), Payload { msg: sealed, aad: head });
        let payload = opened.map_err(|_| "forged")?;
        if !key.window.lock().unwrap_or_else(PoisonError::into_inner).accept(counter) {
            return Err("replayed");
        }
        key.received.fetch_add(1, Ordering::Relaxed);
        Ok((key.from, payload.into()))
    }
}

/// The sockets for datagrams.
pub struct Datagrams {
    /// Weak: they close when the tasks that receive from them end.
    sockets: Vec<Weak<UdpSocket>>,
    keyring: Arc<Keyring>,
    counts: Counts,
    arriving: tokio::sync::Mutex<mpsc::Receiver<(NodeId, Bytes)>>,
}

impl Datagrams {
    /// Over these sockets. The tasks receive, and end when they are dropped.
    pub(crate) fn new(
        sockets: Vec<UdpSocket>,
        keyring: Arc<Keyring>,
        counts: Counts,
    ) -> (Self, Vec<BoxFuture<'static, ()>>) {
        let sockets: Vec<Arc<UdpSocket>> = sockets.into_iter().map(Arc::new).collect();
        let (queue, arriving) = mpsc::channel(QUEUE_MAX);
        let task = |socket: &Arc<UdpSocket>| -> BoxFuture<'static, ()> {
            Box::pin(receive(socket.clone(), keyring.clone(), counts.clone(), queue.clone()))
        };
        let tasks = sockets.iter().map(task).collect();
        let sockets = sockets.iter().map(Arc::downgrade).collect();
        (Self { sockets, keyring, counts, arriving: tokio::sync::Mutex::new(arriving) }, tasks)
    }

    /// Seals and sends; `report` is the peer's word on what it received, where its control link stands.
    pub(crate) fn send(
        &self,
        to: NodeId,
        payload: &[u8],
        report: Option<Report>,
    ) -> Result<(), DatagramError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(DatagramError::TooLong(payload.len()));
        }
        let key = self.keyring.sender(to).ok_or(DatagramError::NoKey(to))?;
        let sealed = key.seal(payload).ok_or(DatagramError::Socket(to))?;
        let (socket, address) = self.way(key.address).ok_or(DatagramError::Socket(to))?;
        socket.try_send_to(&sealed, address).map_err(|_| DatagramError::Socket(to))?;
        self.counts.datagrams_sent.inc();
        let arrives = |report| key.arrival.lock().unwrap_or_else(PoisonError::into_inner).sent(report);
        if report.is_none_or(arrives) { Ok(()) } else { Err(DatagramError::Blocked(to)) }
    }

    /// The socket for an address of its family; one for IPv6 also reaches IPv4.
    fn way(&self, address: SocketAddr) -> Option<(Arc<UdpSocket>, SocketAddr)> {
        let of = |v4: bool| {
            let fits = |socket: &Arc<UdpSocket>| socket.local_addr().is_ok_and(|own| own.is_ipv4() == v4);
            self.sockets.iter().filter_map(Weak::upgrade).find(fits)
        };
        if let Some(socket) = of(address.is_ipv4()) {
            return Some((socket, address));
        }
        match address {
            SocketAddr::V4(v4) => {
                Some((of(false)?, SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())))
            }
            SocketAddr::V6(_) => None,
        }
    }

    /// The next datagram that arrived, and who sent it. `None` once the links have stopped. One caller at a time.
    /// Cancel-safe.
    pub async fn receive(&self) -> Option<(NodeId, Bytes)> {
        self.arriving.lock().await.recv().await
    }
}

async fn receive(
    socket: Arc<UdpSocket>,
    keyring: Arc<Keyring>,
    counts: Counts,
    queue: mpsc::Sender<(NodeId, Bytes)>,
) {
    let mut buffer = [0; DATAGRAM_MAX + 1];
    let mut errors = 0;
    while errors < RECEIVE_ERRORS_MAX {
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else {
            errors += 1;
            continue;
        };
        errors = 0;
        match keyring.open(&buffer[..length]) {
            Err(reason) => counts.datagram_refused(reason),
            Ok(arrived) => match queue.try_send(arrived) {
                Ok(()) => drop(counts.datagrams_received.inc()),
                Err(_) => counts.datagram_refused("full"),
            },
        }
    }
    tracing::warn!("the socket for datagrams fails; links carry on without it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Arc<SendKey>, Keyring) {
        let (ours, theirs) = (Keyring::default(), Keyring::default());
        let exported = std::array::from_fn(|at| at as u8);
        ours.send_with(NodeId(2), "127.0.0.1:1".parse().unwrap(), exported);
        theirs.receive_with(NodeId(1), exported);
        (ours.sender(NodeId(2)).unwrap(), theirs)
    }

    #[test]
    fn a_datagram_is_opened_once_and_says_whom_it_is_from() {
        let (key, theirs) = pair();
        let sealed = key.seal(b"alive").unwrap();
        assert_eq!(theirs.open(&sealed), Ok((NodeId(1), Bytes::from_static(b"alive"))));
        assert_eq!(theirs.open(&sealed), Err("replayed"));
        assert_eq!(theirs.received_from(NodeId(1)), 1);
    }

    #[test]
    fn whatever_is_changed_is_refused_and_nothing_panics() {
        let (key, theirs) = pair();
        let sealed = key.seal(b"alive").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(theirs.open(&changed).is_err(), "byte {at}");
            assert!(theirs.open(&sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(theirs.open(&sealed).is_ok(), "refused ones leave no trace");
    }

    #[test]
    fn late_ones_are_taken_within_the_window_and_not_beyond() {
        let (key, theirs) = pair();
        let sealed: Vec<Vec<u8>> = (0..200).map(|_| key.seal(b"x").unwrap()).collect();
        assert!(theirs.open(&sealed[199]).is_ok());
        assert!(theirs.open(&sealed[72]).is_ok(), "127 behind");
        assert_eq!(theirs.open(&sealed[71]), Err("replayed"), "128 behind");
        assert!(sealed[73..199].iter().rev().all(|sealed| theirs.open(sealed).is_ok()));
        assert!(sealed.iter().all(|sealed| theirs.open(sealed).is_err()));
    }

    #[test]
    fn keys_of_the_newest_links_count_and_none_of_a_forgotten_node() {
        let (old, theirs) = pair();
        let renewed = |fill: u8| theirs.receive_with(NodeId(1), [fill; 40]);
        renewed(1);
        assert!(theirs.open(&old.seal(b"x").unwrap()).is_ok());
        renewed(2);
        assert_eq!(theirs.open(&old.seal(b"x").unwrap()), Err("key"));
        theirs.receive_with(NodeId(1), std::array::from_fn(|at| at as u8));
        theirs.forget(NodeId(1));
        assert_eq!(theirs.open(&old.seal(b"x").unwrap()), Err("key"));
    }

    #[test]
    fn udp_counts_as_blocked_when_the_peer_says_for_seconds_that_nothing_arrives() {
        let mut arrival = Arrival::default();
        let sends = |arrival: &mut Arrival, heard, pongs| arrival.sent(Report { heard, pongs });
        assert!((0..100).all(|_| sends(&mut arrival, 0, 1)), "a burst before the first word");
        assert!(!sends(&mut arrival, 0, 4));
        assert!(sends(&mut arrival, 50, 5), "some arrived");
        assert!((0..UNHEARD_MAX - 1).all(|_| sends(&mut arrival, 50, 60)), "few sent");
    }
}
