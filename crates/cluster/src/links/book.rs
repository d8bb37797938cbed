//! The address book: who the peers are, where they are, and what stands on each lane to them. Dials nobody itself.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;
use tutti_base::{Lane, NodeId, Tick};

use super::{ACCEPTED_PER_LANE_MAX, REDIAL_MIN};
use crate::frame::lane_number;
use crate::link::Link;

/// What stands on one lane to one peer.
#[derive(Clone)]
pub(super) enum Standing {
    /// Nothing. `tried` is when the last dial began; `failures` counts those that failed since the last that did not.
    Idle { tried: Option<Tick>, failures: u32 },
    /// A dial is under way.
    Dialling { failures: u32 },
    /// A connection.
    Open(Arc<Link>),
}

impl Standing {
    /// Whether waiting is of no use: a connection stands, or none is on its way.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Standing::Idle { .. } => true,
            Standing::Dialling { .. } => false,
            // Its task is about to say so.
            Standing::Open(link) => !link.is_closed(),
        }
    }
}

/// One peer.
pub(super) struct Peer {
    pub(super) id: NodeId,
    addresses: Mutex<Vec<SocketAddr>>,
    lanes: [watch::Sender<Standing>; Lane::ALL.len()],
    /// Whether it was taken out of the book.
    pub(super) gone: watch::Sender<bool>,
}

impl Peer {
    fn new(id: NodeId, addresses: Vec<SocketAddr>) -> Arc<Self> {
        let idle = || watch::Sender::new(Standing::Idle { tried: None, failures: 0 });
        let lanes = [idle(), idle(), idle()];
        Arc::new(Self { id, addresses: Mutex::new(addresses), lanes, gone: watch::Sender::new(false) })
    }

    pub(super) fn lane(&self, lane: Lane) -> &watch::Sender<Standing> {
        &self.lanes[usize::from(lane_number(lane)) - 1]
    }

    /// The connection that stands on `lane`.
    pub(super) fn open(&self, lane: Lane) -> Option<Arc<Link>> {
        match &*self.lane(lane).borrow() {
            Standing::Open(link) if !link.is_closed() => Some(link.clone()),
            _ => None,
        }
    }

    /// Claims the dial of `lane`: true for one caller, when nothing stands and none was tried within [`REDIAL_MIN`].
    pub(super) fn claim_dial(&self, lane: Lane, now: Tick) -> bool {
        self.lane(lane).send_if_modified(|standing| match standing {
            Standing::Idle { tried, failures } if tried.is_none_or(|at| now.since(at) >= REDIAL_MIN) => {
                *standing = Standing::Dialling { failures: *failures };
                true
            }
            _ => false,
        })
    }

    pub(super) fn set(&self, lane: Lane, standing: Standing) {
        self.lane(lane).send_replace(standing);
    }

    /// Failures in a row on `lane`.
    pub(super) fn failures(&self, lane: Lane) -> u32 {
        match &*self.lane(lane).borrow() {
            Standing::Idle { failures, .. } | Standing::Dialling { failures } => *failures,
            Standing::Open(_) => 0,
        }
    }

    /// Where to dial, best first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Puts the address that answered first.
    pub(super) fn prefer(&self, address: SocketAddr) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = addresses.iter().position(|known| *known == address) {
            addresses[..=at].rotate_right(1);
        }
    }
    fn set_addresses(&self, new: Vec<SocketAddr>) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let same = addresses.len() == new.len() && new.iter().all(|address| addresses.contains(address));
        if !same {
            *addresses = new;
        }
    }

    fn leave(&self) {
        self.gone.send_replace(true);
        for lane in Lane::ALL {
            if let Some(link) = self.open(lane) {
                link.cut();
            }
        }
    }
}

/// All peers, the nodes that are refused, and the connections that peers made.
#[derive(Default)]
pub(super) struct Book {
    peers: RwLock<HashMap<NodeId, Arc<Peer>>>,
    forbidden: RwLock<HashSet<NodeId>>,
    accepted: Mutex<HashMap<NodeId, Vec<Arc<Link>>>>,
}

impl Book {
    pub(super) fn get(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Makes these the peers. Hands back those that are new.
    pub(super) fn set(&self, wanted: Vec<(NodeId, Vec<SocketAddr>)>) -> Vec<Arc<Peer>> {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let keep: HashSet<NodeId> = wanted.iter().map(|(id, _)| *id).collect();
        peers.extract_if(|id, _| !keep.contains(id)).for_each(|(_, peer)| peer.leave());
        let mut new = Vec::new();
        for (id, addresses) in wanted {
            if self.is_forbidden(id) {
                continue;
            }
            match peers.get(&id) {
                Some(peer) => peer.set_addresses(addresses),
                None => {
                    let peer = Peer::new(id, addresses);
                    peers.insert(id, peer.clone());
                    new.push(peer);
                }
            }
        }
        new
    }

    /// Refuses `id` from now on; cuts what stands.
    pub(super) fn forbid(&self, id: NodeId) {
        self.forbidden.write().unwrap_or_else(PoisonError::into_inner).insert(id);
        if let Some(peer) = self.peers.write().unwrap_or_else(PoisonError::into_inner).remove(&id) {
            peer.leave();
        }
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        accepted.into_iter().flatten().for_each(|link| link.cut());
    }

    pub(super) fn is_forbidden(&self, id: NodeId) -> bool {
        self.forbidden.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Notes a connection that a peer made; the oldest of too many on its lane is cut. False: it is refused by now.
    pub(super) fn accept(&self, link: &Arc<Link>) -> bool {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_forbidden(link.peer) {
            return false;
        }
        let of_peer = accepted.entry(link.peer).or_default();
        of_peer.push(link.clone());
        let of_lane = of_peer.iter().filter(|other| other.lane == link.lane);
        if of_lane.clone().count() > ACCEPTED_PER_LANE_MAX
            && let Some(oldest) = of_lane.into_iter().find(|other| !other.is_closed())
        {
            oldest.cut();
        }
        true
    }

    /// Forgets a connection that a peer made.
    pub(super) fn ended(&self, link: &Arc<Link>) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_peer) = accepted.get_mut(&link.peer) {
            of_peer.retain(|other| !Arc::ptr_eq(other, link));
            if of_peer.is_empty() {
                accepted.remove(&link.peer);
            }
        }
    }
}
