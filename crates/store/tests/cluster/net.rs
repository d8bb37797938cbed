//! A simulated network between stores: delays, cuts in one direction or both, pauses and dead nodes, drawn from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tutti_base::rng::{Rng, SplitMix};
use tutti_base::{BoxFuture, Call, CallError, Clock, NodeId, Peers, Reply, Serve, Tick, Topic, Wall};

/// After how long a link that was cut shows.
const SILENT: Duration = Duration::from_millis(100);

/// Time of tokio, which may be paused.
#[derive(Clone, Copy)]
pub(crate) struct TokioClock(tokio::time::Instant);

impl TokioClock {
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Tick {
        Tick(self.0.elapsed().as_nanos() as u64)
    }
    fn wall(&self) -> Wall {
        Wall(1_767_225_600_000 + self.0.elapsed().as_millis() as u64)
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        let until = self.0 + Duration::from_nanos(until.0);
        Box::pin(tokio::time::sleep_until(until))
    }
}

struct Links {
    rng: SplitMix,
    services: BTreeMap<NodeId, Arc<dyn Serve>>,
    cut: BTreeSet<(NodeId, NodeId)>,
    paused: BTreeSet<NodeId>,
    delay_us: (u64, u64),
}

/// The network.
#[derive(Clone)]
pub(crate) struct SimNet {
    links: Arc<Mutex<Links>>,
    changed: watch::Sender<()>,
}

impl SimNet {
    pub(crate) fn new(seed: u64) -> Self {
        let links = Links {
            rng: SplitMix::new(seed),
            services: BTreeMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            delay_us: (50, 1000),
        };
        Self { links: Arc::new(Mutex::new(links)), changed: watch::Sender::new(()) }
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().expect("nobody panics with the links")
    }

    /// The line of the node `me` to all others.
    pub(crate) fn peers(&self, me: NodeId) -> Arc<dyn Peers> {
        Arc::new(Line { net: self.clone(), me })
    }
    pub(crate) fn up(&self, node: NodeId, service: Arc<dyn Serve>) {
        self.links().services.insert(node, service);
    }
    pub(crate) fn down(&self, node: NodeId) {
        self.links().services.remove(&node);
        self.changed.send_replace(());
    }
    /// Loses everything from `from` to `to`.
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        self.links().cut.insert((from, to));
        self.changed.send_replace(());
    }
    /// Holds back everything from and to `node`.
    pub(crate) fn pause(&self, node: NodeId) {
        self.links().paused.insert(node);
    }
    /// Ends all cuts and pauses.
    pub(crate) fn heal(&self) {
        let mut links = self.links();
        links.cut.clear();
        links.paused.clear();
        drop(links);
        self.changed.send_replace(());
    }

    /// Brings a message from `from` to `to`; false if it is lost.
    async fn carry(&self, from: NodeId, to: NodeId) -> bool {
        let delay = {
            let mut links = self.links();
            let (least, most) = links.delay_us;
            Duration::from_micros(least + links.rng.below(most - least))
        };
        tokio::time::sleep(delay).await;
        let mut changed = self.changed.subscribe();
        loop {
            {
                let links = self.links();
                if links.cut.contains(&(from, to)) {
                    return false;
                }
                if !links.paused.contains(&from) && !links.paused.contains(&to) {
                    return true;
                }
            }
            if changed.changed().await.is_err() {
                return false;
            }
        }
    }

    async fn ask(&self, from: NodeId, to: NodeId, call: Call) -> Result<Reply, CallError> {
        if !self.carry(from, to).await {
            tokio::time::sleep(SILENT).await;
            return Err(CallError::Silent(to));
        }
        let service = self.links().services.get(&to).cloned();
        let Some(service) = service else { return Err(CallError::Unreachable(to)) };
        let reply =
            service.serve(from, call).await.map_err(|problem| CallError::Refused(to, Box::new(problem)))?;
        if !self.links().services.contains_key(&to) {
            return Err(CallError::Broken(to));
        }
        if !self.carry(to, from).await {
            tokio::time::sleep(SILENT).await;
            return Err(CallError::Silent(to));
        }
        Ok(reply)
    }
}

struct Line {
    net: SimNet,
    me: NodeId,
}

impl Peers for Line {
    fn call(&self, to: NodeId, call: Call) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            let within = call.within;
            let asked = tokio::time::timeout(within, self.net.ask(self.me, to, call));
            asked.await.unwrap_or(Err(CallError::Late(to)))
        })
    }
    fn cast(&self, _to: NodeId, _topic: Topic, _head: bytes::Bytes) {}
}
