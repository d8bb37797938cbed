//! A house for this package's tests: one store, a clock of paused time, a quorum and a view that do as they are told.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use tokio::time::Instant;
use tutti_base::{
    BoxFuture, Call, CallError, Clock, Evidence, Member, NodeId, NodeState, Nodes, Peers, Reply, Roles,
    Serve, Tick, Topic, View, Wall,
};
use tutti_cluster::{Authority, ClusterId, Identity};
use tutti_store::simulated::{ManualClock, SimDisk};
use tutti_store::{
    Commit, Config, Entry, Key, Lease, LeaseId, Page, RedbStore, Revision, Scan, Secret, Secrets, Store,
    StoreError, Txn, Watch,
};
use tutti_telemetry::Metrics;
use x25519_dalek::StaticSecret;

use crate::boxes::SealingKey;
use crate::counts::Counts;
use crate::founding::found;
use crate::journal::Journal;
use crate::quorum::{Quorum, QuorumStatus};
use crate::readers::Readers;
use crate::roster::{ClusterRecord, NodeRecord, Roster, Standing};
use crate::voters::NodeFacts;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// Time that passes when everybody waits. Only the runtime's own thread knows paused time; others, such as a store's
/// writer, see the moment at which that thread looked last.
pub(crate) struct TokioClock {
    start: Instant,
    thread: std::thread::ThreadId,
    seen: AtomicU64,
}

impl TokioClock {
    pub(crate) fn start() -> Arc<Self> {
        let thread = std::thread::current().id();
        Arc::new(Self { start: Instant::now(), thread, seen: AtomicU64::new(0) })
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Tick {
        if std::thread::current().id() == self.thread {
            self.seen.store(self.start.elapsed().as_nanos() as u64, Ordering::SeqCst);
        }
        Tick(self.seen.load(Ordering::SeqCst))
    }
    fn wall(&self) -> Wall {
        ManualClock::WALL_START + self.now().since(Tick(0))
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.start + Duration::from_nanos(until.0)))
    }
}

/// A store whose writes take no simulated time: paused time must not pass while the writing thread works.
pub(crate) struct AtOnce {
    store: Arc<RedbStore>,
    clock: Arc<TokioClock>,
}

impl AtOnce {
    pub(crate) fn on(disk: &SimDisk, clock: Arc<TokioClock>) -> Arc<Self> {
        let store = RedbStore::open(disk, clock.clone(), &Metrics::default(), &Config::default());
        Arc::new(Self { store: store.expect("a store"), clock })
    }

    fn now<'a, T>(&'a self, what: BoxFuture<'a, T>) -> BoxFuture<'a, T>
    where
        T: Send + 'a,
    {
        Box::pin(async move {
            // Shows the writing thread the time.
            self.clock.now();
            block_on(what)
        })
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for `future` with this thread, so that paused time stands still.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl Store for AtOnce {
    fn get(&self, at: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(at)
    }
    fn range(&self, scan: &Scan) -> Result<Page, StoreError> {
        self.store.range(scan)
    }
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>> {
        self.now(self.store.commit(txn))
    }
    fn watch(&self, table: &str, prefix: &[u8], after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.store.watch(table, prefix, after)
    }
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        self.now(self.store.grant(ttl))
    }
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.now(self.store.keep_alive(lease))
    }
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.now(self.store.revoke(lease))
    }
    fn revision(&self) -> Revision {
        self.store.revision()
    }
}

/// A quorum that does what it is asked at once, or fails.
pub(crate) struct FakeQuorum {
    pub(crate) status: Mutex<QuorumStatus>,
    pub(crate) fails: Mutex<bool>,
}

impl FakeQuorum {
    fn change(&self, how: impl FnOnce(&mut QuorumStatus)) -> BoxFuture<'_, Result<(), StoreError>> {
        let fails = *self.fails.lock().unwrap();
        if !fails {
            let mut status = self.status.lock().unwrap();
            how(&mut status);
            status.lag = status.learners.iter().map(|id| (*id, 0)).collect();
        }
        Box::pin(async move { if fails { Err(StoreError::Closed) } else { Ok(()) } })
    }
}

impl Quorum for FakeQuorum {
    fn status(&self) -> QuorumStatus {
        self.status.lock().unwrap().clone()
    }
    fn add_learner(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.change(|status| status.learners.push(node))
    }
    fn set_voters(&self, voters: Vec<NodeId>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.change(|status| {
            let before = std::mem::replace(&mut status.voters, voters);
            status.learners.extend(before);
            let QuorumStatus { voters, learners, .. } = status;
            learners.retain(|id| !voters.contains(id));
        })
    }
    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.change(|status| status.learners.retain(|id| *id != node))
    }
}

/// A view in which nodes are up that were said to be.
pub(crate) struct FakeView(Mutex<Arc<View>>);

impl FakeView {
    pub(crate) fn of(me: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arc::new(View { me: NodeId(me), ..View::default() }))))
    }
    pub(crate) fn set(&self, id: u64, state: NodeState) {
        let mut view = self.0.lock().unwrap();
        let mut members = view.members.clone();
        members.retain(|member| member.id != NodeId(id));
        members.push(Member {
            id: NodeId(id),
            name: format!("n{id}").into(),
            roles: Roles::ALL,
            state,
            version: "1".into(),
            load: Arc::default(),
            heard: Tick(0),
            rtt: Duration::ZERO,
        });
        members.sort_by_key(|member| member.id);
        *view = Arc::new(View { me: view.me, generation: view.generation + 1, members });
    }
}

impl Nodes for FakeView {
    fn view(&self) -> Arc<View> {
        self.0.lock().unwrap().clone()
    }
    fn note(&self, _node: NodeId, _evidence: Evidence) {}
}

/// Peers of one node that answer by what serves there.
#[derive(Default)]
pub(crate) struct FakePeers {
    me: NodeId,
    services: Mutex<HashMap<NodeId, Arc<dyn Serve>>>,
}

impl FakePeers {
    pub(crate) fn of(me: u64) -> Arc<Self> {
        Arc::new(Self { me: NodeId(me), services: Mutex::default() })
    }
    pub(crate) fn serve(&self, id: u64, service: Arc<dyn Serve>) {
        self.services.lock().unwrap().insert(NodeId(id), service);
    }
}

impl Peers for FakePeers {
    fn call(&self, to: NodeId, call: Call) -> BoxFuture<'_, Result<Reply, CallError>> {
        let service = self.services.lock().unwrap().get(&to).cloned();
        Box::pin(async move {
            let service = service.ok_or(CallError::Unreachable(to))?;
            let answer = service.serve(self.me, call).await;
            answer.map_err(|problem| CallError::Refused(to, Box::new(problem)))
        })
    }
    fn cast(&self, _to: NodeId, _topic: Topic, _head: bytes::Bytes) {}
}

/// One store and what stands on it; node 1 is the one that acts.
pub(crate) struct House {
    pub(crate) store: Arc<AtOnce>,
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) quorum: Arc<FakeQuorum>,
    pub(crate) view: Arc<FakeView>,
    pub(crate) authority: Authority,
}

impl House {
    /// A store with nothing in it. Needs paused time.
    pub(crate) fn new() -> Self {
        let clock = TokioClock::start();
        let store = AtOnce::on(&SimDisk::default(), clock.clone());
        let roster = Roster::open(store.clone(), clock.clone()).expect("a roster");
        let quorum = Arc::new(FakeQuorum { status: Mutex::new(voters(&[1])), fails: Mutex::new(false) });
        let view = FakeView::of(1);
        view.set(1, NodeState::Up);
        let authority = Authority::create(CLUSTER, clock.wall()).expect("an authority");
        Self { store, clock, roster, quorum, view, authority }
    }

    /// A cluster of node `one`.
    pub(crate) async fn founded() -> Self {
        let house = Self::new();
        let authority = Secret::new(house.authority.secret().to_vec());
        let secrets = house.secrets(1);
        found(&house.roster, &secrets, &house.cluster(), &first(), &authority).await.expect("a cluster");
        house
    }

    pub(crate) fn cluster(&self) -> ClusterRecord {
        let authorities = vec![self.authority.certificate().to_vec()];
        ClusterRecord { id: CLUSTER, authorities, founded: self.clock.wall() }
    }

    /// The secrets as node `id` sees them.
    pub(crate) fn secrets(&self, id: u64) -> Secrets {
        let readers = Arc::new(Readers::new(self.roster.clone(), self.quorum.clone()));
        let sealing = Arc::new(sealing_key(id));
        Secrets::open_shared(self.store.clone(), sealing, readers, None, self.clock.clone())
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::new(NodeId(1), self.clock.clone())
    }

    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

pub(crate) fn counts() -> Counts {
    Counts::register(&Metrics::default())
}

/// What needs the tenants' keys and not the cluster's.
pub(crate) fn worker() -> Roles {
    Roles::WORKER.with(Roles::FRONT)
}

pub(crate) fn sealing_key(id: u64) -> SealingKey {
    SealingKey::new(NodeId(id), StaticSecret::from([id as u8; 32]))
}

/// The identity of a machine that has chosen this id.
pub(crate) fn identity(id: u64, name: &str) -> Identity {
    let mut identity = Identity::new(name).expect("an identity");
    identity.set_node(NodeId(id));
    identity
}

pub(crate) fn record_of(id: u64, name: &str, roles: Roles, key: &SealingKey) -> NodeRecord {
    NodeRecord {
        id: NodeId(id),
        name: name.into(),
        roles,
        addresses: vec![([127, 0, 0, 1], id as u16).into()],
        sealing_key: key.public(),
        standing: Standing::Active,
        joined: ManualClock::WALL_START,
        labels: BTreeMap::new(),
    }
}

pub(crate) fn record(id: u64, roles: Roles) -> NodeRecord {
    record_of(id, &format!("n{id}"), roles, &sealing_key(id))
}

pub(crate) fn first() -> NodeRecord {
    record_of(1, "one", Roles::ALL, &sealing_key(1))
}

/// These vote, the first of them leads, and node 1 looks at it.
pub(crate) fn voters(ids: &[u64]) -> QuorumStatus {
    QuorumStatus {
        me: NodeId(1),
        leader: ids.first().map(|id| NodeId(*id)),
        term: 1,
        voters: ids.iter().map(|id| NodeId(*id)).collect(),
        ..QuorumStatus::default()
    }
}

pub(crate) fn facts(id: u64) -> NodeFacts {
    NodeFacts {
        id: NodeId(id),
        name: format!("n{id}"),
        roles: Roles::ALL,
        standing: Standing::Active,
        down_for: None,
        is_learner: false,
        lag: None,
    }
}
