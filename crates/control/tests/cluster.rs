//! Machines that become one cluster by pasted tokens, over real links and the replicated store, and what they may read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tutti_base::clock::MachineTime;
use tutti_base::rng::SplitMix;
use tutti_base::{
    BoxFuture, Call, CallError, Clock, Evidence, Lane, Member, NodeId, NodeState, Nodes, Peers, Roles, Tick,
    Topic, View, Wall, envelope,
};
use tutti_cluster::links::{self, Links};
use tutti_cluster::{Identity, Token};
use tutti_control::joining::{self, Joining};
use tutti_control::leaving::{Force, Leaving};
use tutti_control::readers::AUTHORITY;
use tutti_control::reconcile::{self, Reconciler};
use tutti_control::roster::{self, ClusterRecord, NodeRecord, Roster, Standing};
use tutti_control::voters::Rules;
use tutti_control::{
    ByRoles, Counts, Journal, Quorum, Readers, SealingKey, Tokens, entry, founding, resealing,
};
use tutti_store::replicated::{Outside, RaftConfig, ReplicatedStore, Writing};
use tutti_store::simulated::SimDisk;
use tutti_store::{Key, Op, Secret, SecretError, Secrets, Store, StoreError, Txn};
use tutti_telemetry::Metrics;

const PATIENCE: Duration = Duration::from_secs(60);

struct RealClock(MachineTime);

impl Clock for RealClock {
    fn now(&self) -> Tick {
        self.0.now()
    }
    fn wall(&self) -> Wall {
        self.0.wall()
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.0.instant(until).into()))
    }
}

/// Everybody in the roster is up but those that were said to be dead.
struct Watched {
    me: NodeId,
    roster: Arc<Roster>,
    dead: Arc<Mutex<Vec<NodeId>>>,
}

impl Nodes for Watched {
    fn view(&self) -> Arc<View> {
        let dead = self.dead.lock().expect("nobody panics with it").clone();
        let member = |node: &NodeRecord| Member {
            id: node.id,
            name: node.name.as_str().into(),
            roles: node.roles,
            state: if dead.contains(&node.id) { NodeState::Down } else { NodeState::Up },
            version: "test".into(),
            load: Arc::default(),
            heard: Tick(0),
            rtt: Duration::ZERO,
        };
        let members = self.roster.nodes().iter().map(member).collect();
        Arc::new(View { me: self.me, generation: 0, members })
    }
    fn note(&self, _node: NodeId, _evidence: Evidence) {}
}

struct Node {
    id: NodeId,
    links: Arc<Links>,
    store: Arc<ReplicatedStore>,
    roster: Arc<Roster>,
    secrets: Secrets,
    tokens: Tokens,
    leaving: Leaving,
    tasks: Vec<JoinHandle<()>>,
}

struct World {
    clock: Arc<dyn Clock>,
    dead: Arc<Mutex<Vec<NodeId>>>,
}

impl World {
    async fn start(&self, identity: &Identity, address: SocketAddr) -> Node {
        let (id, clock) = (identity.node(), self.clock.clone());
        let config = tutti_cluster::Config { listen: vec![address], ..Default::default() };
        let rng = Box::new(SplitMix::new(id.0));
        let outside = links::Outside { clock: clock.clone(), rng, metrics: Metrics::default() };
        let links = Links::start(config, identity, outside).await.expect("links");
        links.set_peers(identity.peers().iter().map(|peer| (peer.id, peer.addresses.clone())).collect());
        let rng = Box::new(SplitMix::new(!id.0));
        let outside = Outside { clock: clock.clone(), rng, writing: Writing::default() };
        // Slow timers: two busy cores must not look like a dead leader.
        let raft = RaftConfig {
            heartbeat_ms: 150,
            election_min_ms: 600,
            election_max_ms: 1200,
            ..Default::default()
        };
        let disk = Arc::new(SimDisk::default());
        let store = ReplicatedStore::open(disk, id, links.clone(), outside, &Metrics::default(), &raft).await;
        let store = store.expect("a store");
        let roster = Roster::open(store.clone(), clock.clone()).expect("a roster");
        links.register(Topic::STORE, store.guarded_service(Arc::new(ByRoles(roster.clone()))));
        let readers = Arc::new(Readers::new(roster.clone(), store.clone()));
        let sealing = Arc::new(SealingKey::of(identity));
        let secrets = Secrets::open_shared(store.clone(), sealing, readers, None, clock.clone());
        self.control(id, links, store, roster, secrets)
    }

    fn control(
        &self,
        id: NodeId,
        links: Arc<Links>,
        store: Arc<ReplicatedStore>,
        roster: Arc<Roster>,
        secrets: Secrets,
    ) -> Node {
        let (clock, counts) = (self.clock.clone(), Counts::register(&Metrics::default()));
        let nodes: Arc<dyn Nodes> =
            Arc::new(Watched { me: id, roster: roster.clone(), dead: self.dead.clone() });
        let journal = Journal::new(id, clock.clone());
        let tokens = Tokens::open(store.clone(), clock.clone());
        let outside = joining::Outside {
            roster: roster.clone(),
            tokens: tokens.clone(),
            secrets: secrets.clone(),
            quorum: store.clone(),
            nodes: nodes.clone(),
            peers: links.clone(),
            clock: clock.clone(),
            journal: journal.clone(),
        };
        links.register(Topic::ROSTER, Joining::new(outside, counts.clone()).service());
        let outside = reconcile::Outside {
            roster: roster.clone(),
            quorum: store.clone(),
            nodes: nodes.clone(),
            clock: clock.clone(),
            journal: journal.clone(),
        };
        let reconciler = Reconciler::new(outside, Rules::default(), counts);
        let leaving = Leaving {
            roster: roster.clone(),
            secrets: secrets.clone(),
            quorum: store.clone(),
            nodes: nodes.clone(),
            clock: clock.clone(),
            journal: journal.clone(),
        };
        let tasks = vec![
            tokio::spawn(roster.clone().follow()),
            tokio::spawn(reconciler.run()),
            tokio::spawn(resealing::run(secrets.clone(), roster.clone(), nodes, clock, journal)),
            tokio::spawn(keep_links(links.clone(), roster.clone(), id)),
        ];
        Node { id, links, store, roster, secrets, tokens, leaving, tasks }
    }

    /// A machine joins by a token that `by` made.
    async fn join(&self, by: &Node, name: &str, roles: Roles) -> Node {
        let minted = by.tokens.create(roles, Duration::from_secs(600)).await.expect("a token");
        let cluster = by.roster.cluster().expect("a cluster");
        let doors = entry::doors(&by.roster.nodes(), &by.store_status());
        let token = Token::of(doors, &cluster.authorities[0], minted.record.id, *minted.secret);
        let pasted: Token = token.line().expect("a line").parse().expect("a token");
        let (mut identity, address) = (Identity::new(name).expect("an identity"), free_address());
        let mut request = entry::request(&identity, &pasted, "test").expect("a request");
        request.addresses = vec![address];
        let answer = entry::enter(&self.clock, &pasted, request, PATIENCE).await.expect("let in");
        entry::admit(&mut identity, answer);
        self.start(&identity, address).await
    }
}

impl Node {
    fn store_status(&self) -> tutti_control::QuorumStatus {
        Quorum::status(&*self.store)
    }
    fn voters(&self) -> usize {
        self.store_status().voters.len()
    }
    async fn die(self) {
        for task in self.tasks {
            task.abort();
        }
        self.store.shutdown().await;
        self.links.stop().await;
    }
}

/// Dials who belongs to the cluster, and refuses who was removed.
async fn keep_links(links: Arc<Links>, roster: Arc<Roster>, me: NodeId) {
    let mut changes = roster.watch();
    loop {
        let nodes = changes.borrow_and_update().clone();
        if !nodes.is_empty() {
            roster::removed(&nodes).for_each(|id| links.forbid(id));
            links.set_peers(roster::peers(&nodes, me));
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn free_address() -> SocketAddr {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    std::net::TcpListener::bind(any).and_then(|listener| listener.local_addr()).expect("a free port")
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn found(world: &World) -> Node {
    let now = world.clock.wall();
    let (identity, authority) = Identity::found("one", now).expect("an identity");
    let address = free_address();
    let node = world.start(&identity, address).await;
    node.store.found().await.expect("a store of one");
    let cluster = ClusterRecord {
        id: identity.cluster(),
        authorities: vec![authority.certificate().to_vec()],
        founded: now,
    };
    let first = NodeRecord {
        id: identity.node(),
        name: "one".into(),
        roles: Roles::ALL,
        addresses: vec![address],
        sealing_key: identity.sealing_public(),
        standing: Standing::Active,
        joined: now,
        labels: Default::default(),
    };
    let secret = Secret::new(authority.secret().to_vec());
    founding::found(&node.roster, &node.secrets, &cluster, &first, &secret).await.expect("a cluster");
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_become_one_cluster_and_its_authority_outlives_the_first() {
    let clock: Arc<dyn Clock> = Arc::new(RealClock(MachineTime::start()));
    let world = World { clock, dead: Arc::default() };
    let one = found(&world).await;
    one.secrets.set("img", &Secret::new(b"salt".to_vec())).await.expect("a secret");

    let two = world.join(&one, "two", Roles::ALL).await;
    until("the second node reads what it needs", || two.secrets.get("img").is_ok()).await;
    assert_eq!(one.voters(), 1, "two nodes: one voter and one learner");
    let three = world.join(&one, "three", Roles::ALL).await;
    until("three vote", || three.voters() == 3 && two.voters() == 3 && one.voters() == 3).await;

    // Asked at a voter that does not lead; a worker has the whole store, and not the authority.
    let worker = world.join(&two, "four", Roles::WORKER).await;
    let not_for_me = || Some(SecretError::NotForMe("img".into()));
    until("the worker has its copy, and no key of URLs", || worker.secrets.get("img").err() == not_for_me())
        .await;
    assert_eq!(worker.secrets.get(AUTHORITY).err(), Some(SecretError::NotForMe(AUTHORITY.into())));
    // Taken over, it cannot make itself a voter either, to whom the authority would be sealed.
    let mut mine = worker.roster.by_name("four").expect("it knows itself");
    mine.roles = Roles::ALL;
    let op = Op::put(Key::new("nodes", worker.id.0.to_be_bytes()), envelope::seal(&mine));
    let refused = worker.store.commit(Txn::of([op])).await;
    assert!(matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("role")), "{refused:?}");
    let (worker_id, one_id) = (worker.id, one.id);
    let removal = two.leaving.remove("four", Force::No, "it was stolen").await.expect("removed");
    assert!(removal.rotate.is_empty(), "it could read none");
    until("a removed node is refused", || !one.links.is_connected(worker_id)).await;
    let call = Call {
        topic: Topic::ROSTER,
        lane: Lane::Small,
        head: bytes::Bytes::new(),
        body: bytes::Bytes::new(),
        within: Duration::from_secs(5),
    };
    let refused = worker.links.call(one_id, call).await;
    assert!(!matches!(refused, Ok(_) | Err(CallError::Refused(..))), "it is not even answered: {refused:?}");
    worker.die().await;

    world.dead.lock().unwrap().push(one_id);
    one.die().await;
    until("another leads", || two.store_status().leader.is_some_and(|leader| leader != one_id)).await;
    let five = world.join(&three, "five", Roles::ALL).await;
    until("the cluster lives on and knows its newest", || two.roster.by_name("five").is_ok()).await;
    until("the newest reads what it needs", || five.secrets.get("img").is_ok()).await;
    for node in [two, three, five] {
        node.die().await;
    }
}
