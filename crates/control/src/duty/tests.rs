//! Duties on a store that is far away, cut off or behind a paused process, by seed and in paused time.

use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use tokio::task::JoinHandle;
use tutti_base::BoxFuture;
use tutti_base::rng::SplitMix;
use tutti_store::simulated::SimDisk;
use tutti_store::{Commit, Entry, Lease, Page, Scan};

use super::*;
use crate::testing::{AtOnce, TokioClock, counts};

const TTL: Duration = Duration::from_millis(400);
const TICK: Duration = Duration::from_millis(5);
/// The longest way to the store, there or back.
const WAY_MAX: Duration = Duration::from_millis(15);

/// The store as a node reaches it: over a way that takes time and can be cut, each direction for itself.
struct FarStore {
    store: Arc<AtOnce>,
    rng: Mutex<SplitMix>,
    cut_there: AtomicBool,
    cut_back: AtomicBool,
}

impl FarStore {
    async fn way(&self, cut: &AtomicBool) {
        let nanos = self.rng.lock().unwrap().below(WAY_MAX.as_nanos() as u64);
        tokio::time::sleep(Duration::from_nanos(nanos)).await;
        if cut.load(Ordering::SeqCst) {
            // What is lost is answered by nobody; the caller's patience ends first.
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    async fn ask<T>(&self, what: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.way(&self.cut_there).await;
        if self.cut_there.load(Ordering::SeqCst) {
            return Err(StoreError::Busy { limit: 0 });
        }
        let answer = what.await;
        self.way(&self.cut_back).await;
        answer
    }
}

impl Store for FarStore {
    fn get(&self, at: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(at)
    }
    fn range(&self, scan: &Scan) -> Result<Page, StoreError> {
        self.store.range(scan)
    }
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>> {
        Box::pin(self.ask(async move { self.store.commit(txn).await }))
    }
    fn watch(&self, table: &str, prefix: &[u8], after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.store.watch(table, prefix, after)
    }
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(self.ask(async move { self.store.grant(ttl).await }))
    }
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(async move { self.store.keep_alive(lease).await }))
    }
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(async move { self.store.revoke(lease).await }))
    }
    fn revision(&self) -> Revision {
        self.store.revision()
    }
}

/// Stops a task as SIGSTOP stops a process.
#[derive(Default)]
struct Gate {
    is_shut: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Gate {
    fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
    }
    fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
        if let Some(waker) = self.waiting.lock().unwrap().take() {
            waker.wake();
        }
    }
    fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::SeqCst)
    }
}

struct Gated<F>(Pin<Box<F>>, Arc<Gate>);

impl<F: Future> Future for Gated<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.1.is_shut() {
            *self.1.waiting.lock().unwrap() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.0.as_mut().poll(cx)
    }
}

/// The thing itself, as a node has it.
struct Thing {
    is_fit: AtomicBool,
    is_on: AtomicBool,
    takes: AtomicU64,
    highest: Arc<AtomicU64>,
}

impl Holder for Thing {
    fn may_hold(&self) -> bool {
        self.is_fit.load(Ordering::SeqCst)
    }
    fn take(&self, token: u64) -> Result<(), String> {
        assert!(self.highest.fetch_max(token, Ordering::SeqCst) < token, "a later holder has a higher token");
        assert!(!self.is_on.swap(true, Ordering::SeqCst), "it is taken once");
        self.takes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn release(&self) {
        assert!(self.is_on.swap(false, Ordering::SeqCst), "it is released once");
    }
}

struct Node {
    duty: Arc<Duty>,
    thing: Arc<Thing>,
    far: Arc<FarStore>,
    gate: Arc<Gate>,
    task: JoinHandle<()>,
}

struct World {
    nodes: Vec<Node>,
    store: Arc<AtOnce>,
    clock: Arc<TokioClock>,
    seed: u64,
    /// When leases were last ended.
    expired: Tick,
}

impl World {
    fn new(seed: u64, nodes: u64) -> Self {
        let clock = TokioClock::start();
        let store = AtOnce::on(&SimDisk::default(), clock.clone());
        let highest = Arc::new(AtomicU64::new(0));
        let nodes = (1..=nodes).map(|id| node(id, seed, &store, &clock, &highest)).collect();
        Self { nodes, store, clock, seed, expired: Tick(0) }
    }

    /// Lets time pass, tick by tick; at each at most one holds the duty.
    async fn pass(&mut self, time: Duration) {
        let until = self.clock.now() + time;
        while self.clock.now() < until {
            tokio::time::sleep(TICK).await;
            if self.clock.now().since(self.expired) >= TICK * 2 {
                self.expired = self.clock.now();
                // Every write ends the leases that are due.
                self.store.commit(Txn::default()).await.expect("the store works");
            }
            self.check();
        }
    }

    fn check(&self) {
        let believe = self.nodes.iter().filter(|node| node.duty.token().is_some()).count();
        assert!(believe <= 1, "seed {}: {believe} believe to hold it", self.seed);
        let running = self.nodes.iter().filter(|node| !node.gate.is_shut());
        let on = running.filter(|node| node.thing.is_on.load(Ordering::SeqCst)).count();
        assert!(on <= 1, "seed {}: {on} that run have it on", self.seed);
    }

    fn holder(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.duty.token().is_some())
    }

    /// Until a node other than `than` holds it; how long that took.
    async fn until_held(&mut self, than: Option<usize>) -> Duration {
        let start = self.clock.now();
        while self.holder().is_none_or(|holder| Some(holder) == than) {
            self.pass(TICK).await;
            assert!(self.clock.now().since(start) < TTL * 10, "seed {}: nobody takes it", self.seed);
        }
        self.clock.now().since(start)
    }

    fn do_something(&self, rng: &mut SplitMix) {
        let node = &self.nodes[rng.below(self.nodes.len() as u64) as usize];
        let far = &node.far;
        match rng.below(10) {
            0 | 1 => node.gate.shut(),
            2..=4 => node.gate.open(),
            5 => far.cut_there.store(true, Ordering::SeqCst),
            6 => far.cut_back.store(true, Ordering::SeqCst),
            7 => heal(far),
            _ => {
                node.thing.is_fit.store(rng.below(2) == 0, Ordering::SeqCst);
                node.duty.poke();
            }
        }
    }

    fn repair(&self) {
        for node in &self.nodes {
            heal(&node.far);
            node.thing.is_fit.store(true, Ordering::SeqCst);
            node.gate.open();
        }
    }

    fn end(self) {
        for node in &self.nodes {
            node.task.abort();
        }
    }
}

fn heal(far: &FarStore) {
    far.cut_there.store(false, Ordering::SeqCst);
    far.cut_back.store(false, Ordering::SeqCst);
}

fn node(id: u64, seed: u64, store: &Arc<AtOnce>, clock: &Arc<TokioClock>, highest: &Arc<AtomicU64>) -> Node {
    let far = Arc::new(FarStore {
        store: store.clone(),
        rng: Mutex::new(SplitMix::new(seed ^ (id << 32))),
        cut_there: AtomicBool::new(false),
        cut_back: AtomicBool::new(false),
    });
    let outside = Outside {
        me: NodeId(id),
        store: far.clone(),
        clock: clock.clone(),
        rng: Box::new(SplitMix::new(seed.wrapping_mul(31) + id)),
        counts: counts(),
        journal: Journal::new(NodeId(id), clock.clone()),
    };
    let duty = Duty::new("address", TTL, outside);
    let thing = Arc::new(Thing {
        is_fit: AtomicBool::new(true),
        is_on: AtomicBool::new(false),
        takes: AtomicU64::new(0),
        highest: highest.clone(),
    });
    let gate = Arc::new(Gate::default());
    let task = tokio::spawn(Gated(Box::pin(duty.clone().run(thing.clone())), gate.clone()));
    Node { duty, thing, far, gate, task }
}

#[tokio::test(start_paused = true)]
async fn never_do_two_hold_it_whatever_is_paused_and_cut() {
    let mut taken = 0;
    for seed in 0..100 {
        let mut world = World::new(seed, 3);
        let mut rng = SplitMix::new(seed);
        for _ in 0..40 {
            world.do_something(&mut rng);
            world.pass(Duration::from_millis(rng.below(400))).await;
        }
        world.repair();
        world.until_held(None).await;
        taken += world.nodes.iter().map(|node| node.thing.takes.load(Ordering::SeqCst)).sum::<u64>();
        world.end();
    }
    assert!(taken > 100 * 3, "it went round: {taken}");
}

#[tokio::test(start_paused = true)]
async fn the_duty_of_a_dead_node_is_taken_within_a_lease_and_a_little() {
    let mut longest = Duration::ZERO;
    for seed in 0..40 {
        let mut world = World::new(seed, 3);
        world.until_held(None).await;
        world.pass(Duration::from_millis(500 + seed * 7)).await;
        let dead = world.holder().expect("a sound holder keeps it");
        world.nodes[dead].gate.shut();
        longest = longest.max(world.until_held(Some(dead)).await);
        world.end();
    }
    println!("duty of a dead node taken after at most {longest:?} with a lease of {TTL:?}");
    // The lease, the ways of a grant and of a write, the jitter, and a tick of each that looks.
    assert!(longest <= TTL + WAY_MAX * 5 + TTL / JITTER + TICK * 4, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_has_let_go_a_third_of_the_lease_before_another_takes_it() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        world.until_held(None).await;
        let cut = world.holder().expect("it is held");
        world.nodes[cut].far.cut_back.store(true, Ordering::SeqCst);
        let is_on = |world: &World| world.nodes[cut].thing.is_on.load(Ordering::SeqCst);
        while is_on(&world) {
            world.pass(TICK).await;
        }
        let gap = world.until_held(Some(cut)).await;
        assert!(gap + TICK * 2 >= TTL / 3, "seed {seed}: {gap:?}");
        world.end();
    }
}

#[tokio::test(start_paused = true)]
async fn who_stops_or_drains_gives_it_back_at_once() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        world.until_held(None).await;
        let drained = world.holder().expect("it is held");
        world.nodes[drained].thing.is_fit.store(false, Ordering::SeqCst);
        world.nodes[drained].duty.poke();
        let gap = world.until_held(Some(drained)).await;
        assert!(gap < TTL / 2, "seed {seed}: {gap:?}");
        world.nodes[drained].thing.is_fit.store(true, Ordering::SeqCst);
        let stopped = world.holder().expect("it is held");
        world.nodes[stopped].duty.stop();
        let gap = world.until_held(Some(stopped)).await;
        assert!(gap < TTL / 2, "seed {seed}: {gap:?}");
        assert!(world.nodes[stopped].task.is_finished(), "it has come to its end");
        world.end();
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_a_person_deletes_ends_the_duty() {
    let mut world = World::new(1, 1);
    world.until_held(None).await;
    let token = world.nodes[0].duty.token();
    let (record, shown) = world.nodes[0].duty.holder().unwrap().expect("a holder");
    assert_eq!((record.node, Some(shown)), (NodeId(1), token));
    let fenced =
        Txn::of([Op::put(Key::new("shop", "a"), "1")]).when(world.nodes[0].duty.fence().expect("held"));
    assert!(world.store.commit(fenced.clone()).await.unwrap().done().is_some());
    world.store.commit(Txn::of([Op::delete(key("address"))])).await.unwrap();
    while world.nodes[0].duty.token() == token {
        world.pass(TICK).await;
    }
    world.until_held(None).await;
    assert!(world.nodes[0].duty.token() > token);
    assert!(world.store.commit(fenced).await.unwrap().done().is_none(), "the old holder's is not applied");
    world.end();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_duty_releases() {
    let mut world = World::new(1, 1);
    world.until_held(None).await;
    world.nodes[0].task.abort();
    world.pass(TICK).await;
    assert!(!world.nodes[0].thing.is_on.load(Ordering::SeqCst));
    world.end();
}
