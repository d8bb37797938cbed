//! The seam between nodes: calls with a deadline and one-way casts, each on a lane. Sockets, encryption and identity are
//! behind it (`cluster`), or a simulated network (`lab`).

use std::time::Duration;

use bytes::Bytes;

use crate::{Body, BoxFuture, NodeId, Problem};

/// Which of the connections between two nodes carries a message; none waits behind another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Membership, hints, consensus, purges: survives a saturated link.
    Control,
    /// Look-ups and answers of up to [`SMALL_MAX`].
    Small,
    /// Originals and everything larger.
    Bulk,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Small, Lane::Bulk];
}

/// The longest answer that travels whole, and the longest body on any lane but bulk, in bytes.
pub const SMALL_MAX: usize = 1 << 20;

/// What a call is about: who answers it. Numbers are append-only; N and N-1 talk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Topic(pub u8);

impl Topic {
    /// Consensus, and writes on their way to the leader (`store`).
    pub const STORE: Topic = Topic(1);
    /// Membership where datagrams do not arrive (`cluster`).
    pub const GOSSIP: Topic = Topic(2);
    /// Hints (`cluster`).
    pub const HINT: Topic = Topic(3);
    /// The journey: look-ups at owners, jobs, originals, copies, purges (`flow`).
    pub const FLOW: Topic = Topic(4);
    /// Joining, certificates, leaving (`control`).
    pub const ROSTER: Topic = Topic(5);
    /// The administration of another node (`admin`).
    pub const ADMIN: Topic = Topic(6);
}

/// One call to a peer.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who answers it.
    pub topic: Topic,
    /// On which lane. The answer comes back on it.
    pub lane: Lane,
    /// What is asked: an envelope of the topic's own kinds.
    pub head: Bytes,
    /// Bytes that go with it.
    pub body: Bytes,
    /// How long the caller waits; travels along, so that the peer does not work for nobody.
    pub within: Duration,
}

/// A peer's answer. A body of up to [`SMALL_MAX`] is whole and has been checked; a longer one is a stream.
#[derive(Debug)]
pub struct Reply {
    /// What is answered: an envelope of the topic's own kinds.
    pub head: Bytes,
    /// Bytes that go with it.
    pub body: Body,
}

impl Reply {
    /// An answer without a body.
    pub fn of(head: impl Into<Bytes>) -> Self {
        Self { head: head.into(), body: Body::empty() }
    }
}

/// Why a call has no answer.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum CallError {
    /// The peer was never asked: there is no connection. Anything may be tried elsewhere.
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    /// The connection broke under way; the peer may have done it. Idempotent work may be tried elsewhere.
    #[error("the connection to node {0} broke")]
    Broken(NodeId),
    /// The peer neither acknowledged nor sent anything for [`SILENT_AFTER`], while this node's own timer was on time.
    #[error("node {0} is silent")]
    Silent(NodeId),
    /// The caller's time is over.
    #[error("node {0} did not answer in time")]
    Late(NodeId),
    /// The peer answered that it cannot.
    #[error("node {0} refused: {1}")]
    Refused(NodeId, Box<Problem>),
}

impl CallError {
    /// Whether the peer, or the way to it, is to blame rather than what was asked.
    pub fn blames_peer(&self) -> bool {
        !matches!(self, CallError::Refused(..) | CallError::Late(_))
    }
}

/// A peer that sends no frame at all for this long while it owes an answer is silent.
pub const SILENT_AFTER: Duration = Duration::from_millis(100);
/// While it works on a call, a peer says that it lives this often.
pub const BEAT_EVERY: Duration = Duration::from_millis(50);

/// Asks peers.
pub trait Peers: Send + Sync {
    /// Asks `to`. The peer acknowledges at once and beats every [`BEAT_EVERY`] until it answers. Cancel-safe: a dropped
    /// call is cancelled at the peer.
    fn call(&self, to: NodeId, call: Call) -> BoxFuture<'_, Result<Reply, CallError>>;
    /// Tells `to` something on the control lane, without an answer. It may be lost; never waits.
    fn cast(&self, to: NodeId, topic: Topic, head: Bytes);
}

/// Answers peers on one topic.
pub trait Serve: Send + Sync {
    /// Answers a call of `from`. Dropped when the caller has gone or its time is over.
    fn serve(&self, from: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>>;
    /// Hears a cast of `from`. Must not block.
    fn hear(&self, _from: NodeId, _head: Bytes) {}
}
