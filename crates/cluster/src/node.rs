//! This node in its cluster: membership, hints and the view put together over the links. Decides nothing itself; the
//! machines in `membership` and `hints` do.

mod counts;
mod ears;
mod over_links;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, broadcast, watch};
use tutti_base::rng::{Rng, SplitMix};
use tutti_base::{
    BoxFuture, Call, Clock, Evidence, Lane, Load, NodeId, NodeState, Nodes, Peers, Report, Roles, Serve,
    Tick, Topic, View,
};
use tutti_telemetry::Metrics;

use crate::hints::{Hints, News};
use crate::membership::{Duty, LinkChange, Membership, MembershipEvent, RosterTooLong, Send as Packet, Way};
use crate::view::{Board, Entry, Parts};
use counts::Counts;
use ears::Ear;
use tasks::Tasks;

/// How many changes are kept for a follower of [`Cluster::events`] that is slow.
pub const EVENTS_MAX: usize = 1024;
/// How often this node's load is read, and hints that are due are sent.
pub const HINTS_EVERY: Duration = Duration::from_millis(50);
/// How long a peer may take to send all its folders.
const FOLDERS_WITHIN: Duration = Duration::from_secs(2);

/// One node of the roster, as the store has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterEntry {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub roles: Roles,
    /// Where others reach it.
    pub addresses: Vec<SocketAddr>,
    /// Whether it takes nothing new.
    pub draining: bool,
}

/// This node.
#[derive(Clone, Debug)]
pub struct Me {
    /// Its id.
    pub id: NodeId,
    /// The version that it runs.
    pub version: Arc<str>,
}

/// What the links offer beside calls and casts.
pub trait Fabric: Send + Sync {
    /// Sends a datagram to `to`; `false` when none can be sent now. Never waits.
    fn datagram(&self, to: NodeId, payload: Bytes) -> bool;
    /// The round-trip time to `node`, once it was measured.
    fn rtt(&self, node: NodeId) -> Option<Duration>;
    /// Makes these the peers to keep links to.
    fn set_peers(&self, peers: Vec<(NodeId, Vec<SocketAddr>)>);
    /// Cuts the links to a removed node and refuses it from now on.
    fn forbid(&self, node: NodeId);
}

/// What a node needs of the world.
pub struct Outside {
    /// Casts to peers.
    pub peers: Arc<dyn Peers>,
    /// Datagrams, and who the peers are.
    pub fabric: Arc<dyn Fabric>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Box<dyn Rng>,
    /// Where to count.
    pub metrics: Metrics,
}

/// Reads this node's load.
pub type LoadSource = Box<dyn Fn() -> Load + Send + Sync>;

/// This node in its cluster. Dropping it ends its tasks.
pub struct Cluster {
    me: Me,
    peers: Arc<dyn Peers>,
    fabric: Arc<dyn Fabric>,
    clock: Arc<dyn Clock>,
    counts: Counts,
    state: Mutex<State>,
    exchanged: Mutex<BTreeMap<NodeId, u64>>,
    source: OnceLock<LoadSource>,
    board: Board,
    events: broadcast::Sender<MembershipEvent>,
    hurry_hints: Arc<Notify>,
    news_of_loads: Arc<Notify>,
    folders_wanted: Arc<Notify>,
    tasks: Tasks,
}

struct State {
    membership: Membership,
    hints: Hints,
    roster: BTreeMap<NodeId, Entry>,
}

impl Cluster {
    /// Starts `me` as a cluster of one; [`Cluster::set_roster`] says who the others are. Hand [`Cluster::ears`] and the
    /// links' events to it. Call within a tokio runtime.
    pub fn start(outside: Outside, me: Me) -> Arc<Self> {
        let Outside { peers, fabric, clock, mut rng, metrics } = outside;
        let now = clock.now();
        let run = clock.wall().0;
        let mut seeded = || Box::new(SplitMix::new(rng.next()));
        let state = State {
            membership: Membership::new(me.id, run, seeded(), now),
            hints: Hints::new(run, &me.version, seeded(), now),
            roster: BTreeMap::new(),
        };
        let cluster = Arc::new(Self {
            board: Board::new(me.id),
            me,
            peers,
            fabric,
            counts: Counts::register(&metrics),
            state: Mutex::new(state),
            exchanged: Mutex::default(),
            source: OnceLock::new(),
            events: broadcast::channel(EVENTS_MAX).0,
            hurry_hints: Arc::default(),
            news_of_loads: Arc::default(),
            folders_wanted: Arc::default(),
            tasks: Tasks::new(),
            clock: clock.clone(),
        });
        cluster.tasks.start(&cluster, &clock);
        cluster
    }

    fn add_task(&self, name: &'static str, work: BoxFuture<'static, ()>) {
        self.tasks.add(name, work);
    }

    /// What answers [`Topic::GOSSIP`] and [`Topic::HINT`] at the links.
    pub fn ears(self: &Arc<Self>) -> [(Topic, Arc<dyn Serve>); 2] {
        [Topic::GOSSIP, Topic::HINT].map(|topic| {
            let ear: Arc<dyn Serve> = Arc::new(Ear { topic, cluster: Arc::downgrade(self) });
            (topic, ear)
        })
    }

    /// Makes `roster` the members; the links keep to them. A node that is missing now and was there before is refused
    /// from now on. Idempotent.
    ///
    /// # Errors
    /// When it is longer than [`crate::membership::MEMBERS_MAX`]; then nothing changes.
    pub fn set_roster(&self, roster: Vec<RosterEntry>) -> Result<(), RosterTooLong> {
        let duty = |entry: &RosterEntry| if entry.draining { Duty::Draining } else { Duty::Serving };
        let duties = roster.iter().map(|entry| (entry.id, duty(entry))).collect();
        let shown = |entry: &RosterEntry| Entry { name: entry.name.clone(), roles: entry.roles };
        let entries: BTreeMap<NodeId, Entry> = roster.iter().map(|entry| (entry.id, shown(entry))).collect();
        let removed = self.with(|state, now| {
            state.membership.set_roster(now, &duties)?;
            let before = std::mem::replace(&mut state.roster, entries);
            self.settle(state, now);
            self.show(state, now);
            Ok(before.into_keys().filter(|id| !state.roster.contains_key(id)).collect::<Vec<_>>())
        })?;
        let others = roster.into_iter().filter(|entry| entry.id != self.me.id);
        self.fabric.set_peers(others.map(|entry| (entry.id, entry.addresses)).collect());
        removed.into_iter().for_each(|id| self.fabric.forbid(id));
        Ok(())
    }

    /// Says this node's load now; a change of a digest goes out at once.
    pub fn set_own_load(&self, load: Load) {
        self.lock().hints.set_own(load);
        self.hurry_hints.notify_one();
        self.news_of_loads.notify_one();
    }

    /// Reads this node's load from `source` before hints are sent, every [`HINTS_EVERY`]. It must be quick. Once only.
    pub fn read_own_load(&self, source: LoadSource) {
        if self.source.set(source).is_err() {
            tracing::error!("the load of this node has a source already");
        }
    }

    /// Counts work exchanged with `node`: those with most hear this node more often.
    pub fn note_exchange(&self, node: NodeId) {
        *self.exchanged.lock().unwrap_or_else(PoisonError::into_inner).entry(node).or_insert(0) += 1;
    }

    /// Follows the changes of members' states.
    pub fn events(&self) -> broadcast::Receiver<MembershipEvent> {
        self.events.subscribe()
    }

    /// Follows the generation of the view: it moves with members, states, roles and names, not with loads.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.board.changed()
    }

    /// How late this node's own timer ran last, and by how much its time-outs are widened for it (1 to 9).
    pub fn own_lag(&self) -> (Duration, u32) {
        self.lock().membership.lag()
    }

    /// How many folders of `node` are not known here yet: its record had no room for them.
    pub fn folders_left_off(&self, node: NodeId) -> u16 {
        self.lock().hints.heard(node).map_or(0, |heard| heard.left_off)
    }

    /// Tells all members that this node leaves, and stops. Others see it down at once, without suspicion.
    pub fn leave(&self) {
        self.with(|state, now| state.membership.leave(now));
        self.tasks.stop();
    }

    /// Takes a change of the control link to `node`.
    pub fn link(&self, node: NodeId, change: LinkChange) {
        self.with(|state, now| {
            state.membership.link(now, node, change);
            if change == LinkChange::Connected {
                self.settle(state, now);
                state.hints.connected(now, node);
            }
        });
        self.hurry_hints.notify_one();
    }

    /// Notes that `node` was heard on a link. Cheap while it is up.
    pub fn heard(&self, node: NodeId) {
        if !self.is_up(node) {
            self.with(|state, now| state.membership.heard(now, node));
        }
    }

    /// Takes a datagram of `from`, as the links proved.
    pub fn hear_datagram(&self, from: NodeId, bytes: &[u8]) {
        self.hear_gossip(from, Way::Datagram, bytes);
    }

    fn hear_cast(&self, from: NodeId, bytes: &[u8]) {
        self.hear_gossip(from, Way::Link, bytes);
    }

    fn hear_gossip(&self, from: NodeId, way: Way, bytes: &[u8]) {
        if let Err(error) = self.with(|state, now| state.membership.packet(now, from, way, bytes)) {
            self.counts.gossip_refused.inc();
            tracing::debug!(%from, %error, "refused a packet of the gossip");
        }
    }

    /// The answer to a question for this node's folders.
    fn answer(&self, question: &[u8]) -> Option<Bytes> {
        self.lock().hints.answer(question).ok()
    }

    /// Asks the peers whose records had no room for all their folders. Who does not answer is asked again with its next
    /// whole record.
    async fn ask_for_folders(&self) {
        let wanted = self.lock().hints.take_wanted();
        for node in wanted {
            let (head, body) = (Hints::question(), Bytes::new());
            let call = Call { topic: Topic::HINT, lane: Lane::Small, head, body, within: FOLDERS_WITHIN };
            let Ok(reply) = self.peers.call(node, call).await else { continue };
            if self.lock().hints.hear_folders(node, &reply.head).is_ok() {
                self.news_of_loads.notify_one();
            }
        }
    }

    fn hear_hint(&self, from: NodeId, bytes: &[u8]) {
        let heard = self.with(|state, now| state.hints.hear(now, from, bytes));
        match heard {
            Ok(News::Load) => {
                self.counts.hints_heard.inc();
                self.news_of_loads.notify_one();
                if self.lock().hints.heard(from).is_some_and(|heard| heard.left_off > 0) {
                    self.folders_wanted.notify_one();
                }
            }
            Ok(News::Nothing) => {}
            Err(error) => {
                self.counts.hints_refused.inc();
                tracing::debug!(%from, %error, "refused a hint");
            }
        }
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.board.view().get(node).is_some_and(|member| member.state == NodeState::Up)
    }

    /// One tick of the membership; when the next is due.
    fn tick(&self) -> Tick {
        self.with(|state, now| {
            let next = state.membership.tick(now);
            self.counts.ticked(&state.membership);
            next
        })
    }

    /// One tick of the hints; when the next is due.
    fn tick_hints(&self) -> Tick {
        let load = self.source.get().map(|source| source());
        let exchanged = std::mem::take(&mut *self.exchanged.lock().unwrap_or_else(PoisonError::into_inner));
        self.with(|state, now| {
            if let Some(load) = load {
                state.hints.set_own(load);
                self.news_of_loads.notify_one();
            }
            exchanged.into_iter().for_each(|(node, count)| state.hints.exchanged(node, count));
            state.hints.tick(now);
            now + HINTS_EVERY
        })
    }

    /// Shows the newest loads; the time now.
    fn show_loads(&self) -> Tick {
        let state = self.lock();
        let now = self.clock.now();
        self.show(&state, now);
        now
    }

    /// Runs one step under the lock, shows what it changed, and sends what it wants sent after the lock is gone.
    fn with<R>(&self, work: impl FnOnce(&mut State, Tick) -> R) -> R {
        let (packets, hints, result) = {
            let mut state = self.lock();
            // Read under the lock, so that time does not go back from one step to the next.
            let now = self.clock.now();
            let result = work(&mut state, now);
            self.settle(&mut state, now);
            (state.membership.take_sends(), state.hints.take_sends(), result)
        };
        packets.into_iter().for_each(|packet| self.post(packet));
        for (to, bytes) in hints {
            self.counts.hint(bytes.len());
            self.peers.cast(to, Topic::HINT, bytes);
        }
        result
    }

    /// Tells the hints and the view of changed members.
    fn settle(&self, state: &mut State, now: Tick) {
        let events = state.membership.take_events();
        if events.is_empty() {
            return;
        }
        let others: BTreeSet<NodeId> = state.roster.keys().copied().filter(|id| *id != self.me.id).collect();
        let is_reachable = |id: &&NodeId| state.membership.state(**id) != Some(NodeState::Down);
        let reachable = others.iter().filter(is_reachable).copied().collect();
        state.hints.set_members(now, others, &reachable);
        self.show(state, now);
        for event in events {
            self.counts.changes.inc();
            tracing::info!(node = %event.node, to = event.to.map_or("removed", NodeState::word), why = event.why.words(), "member");
            // Nobody may follow.
            let _ = self.events.send(event);
        }
    }

    fn show(&self, state: &State, now: Tick) {
        let rtt = |node| self.fabric.rtt(node).unwrap_or_default();
        self.board.show(&Parts {
            me: self.me.id,
            now,
            version: &self.me.version,
            roster: &state.roster,
            membership: &state.membership,
            hints: &state.hints,
            rtt: &rtt,
        });
        self.counts.shown(&self.board.view());
    }

    /// Sends a packet. Where datagrams cannot be sent, the control lane takes it.
    fn post(&self, packet: Packet) {
        let Packet { to, bytes, way } = packet;
        let len = bytes.len();
        let sent = way != Way::Link && self.fabric.datagram(to, bytes.clone());
        if sent {
            self.counts.gossip(Way::Datagram, len);
        }
        if !sent || way == Way::Both {
            self.counts.gossip(Way::Link, len);
            self.peers.cast(to, Topic::GOSSIP, bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes for Cluster {
    fn view(&self) -> Arc<View> {
        self.board.view()
    }

    fn note(&self, node: NodeId, evidence: Evidence) {
        if evidence == Evidence::Failed || !self.is_up(node) {
            self.with(|state, now| state.membership.note(now, node, evidence));
        }
    }

    fn reported(&self) -> u64 {
        self.lock().hints.own().sequence
    }

    fn hear(&self, node: NodeId, report: Report) {
        let heard = self.with(|state, now| state.hints.hear_report(now, node, report));
        if matches!(heard, News::Load) {
            self.note_exchange(node);
            self.news_of_loads.notify_one();
        }
    }
}
