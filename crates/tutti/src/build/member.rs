//! This node as a member of its cluster: identity, links, membership, the replicated store and the roster. Knows no
//! requests.

mod identity;
mod roster;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use tutti_base::{Clock, Nodes, Peers, Roles, Topic, Wall};
use tutti_cluster::{Authority, Identity, Links};
use tutti_control::{
    ByRoles, ClusterRecord, Joining, Journal, Leaving, NodeRecord, Quorum, Readers, Reconciler, Roster,
    RosterError, SealingKey, Standing, Tokens,
};
use tutti_store::replicated::{self, ReplicaHealth, ReplicatedStore, Writing};
use tutti_store::secrets::KeyFile;
use tutti_store::{RealDisk, Secret, Secrets, Store, StoreError};
use tutti_telemetry::Metrics;

use super::state::Keys;
use crate::settings::Settings;
use crate::world::Chance;

pub(crate) use identity::Origin;

/// A node that has joined waits this long for its copy of the store.
const COPY_WITHIN: Duration = Duration::from_secs(30);
/// A repair of the store that failed is tried again after this.
const REPAIR_AGAIN: Duration = Duration::from_secs(5);
/// A start waits this long to show the newest state; then it goes on with what it has.
const NEWEST_WITHIN: Duration = Duration::from_secs(1);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// This node among others.
pub(crate) struct Member {
    /// Who it is.
    pub identity: Arc<Mutex<Identity>>,
    /// Its connections.
    pub links: Arc<Links>,
    /// Who is there.
    pub nodes: Arc<tutti_cluster::node::Cluster>,
    /// The replicated store.
    pub store: Arc<ReplicatedStore>,
    /// Who belongs to the cluster.
    pub roster: Arc<Roster>,
    /// What lets machines in.
    pub tokens: Tokens,
    /// The secrets that this node can read.
    pub secrets: Secrets,
    /// Drains, resumes, removes.
    pub leaving: Leaving,
    /// Who votes.
    pub quorum: Arc<dyn Quorum>,
    /// Keeps the right number of voters.
    pub reconciler: Arc<Reconciler>,
    /// What happened here.
    pub journal: Journal,
    /// What control counts.
    pub counts: tutti_control::Counts,
}

impl Member {
    /// Becomes a member: again, by founding a cluster of one, or by joining. Runs inside the runtime.
    pub(crate) async fn build(
        settings: &Settings,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let disk = Arc::new(RealDisk::at(&settings.data));
        let config = identity::node_port(settings)?;
        let (mut identity, origin) = identity::become_somebody(settings, &disk, &config, clock).await?;
        let outside = tutti_cluster::Outside {
            clock: Arc::clone(clock),
            rng: Box::new(Chance::seeded()),
            metrics: metrics.clone(),
        };
        let links = Links::start(config, &identity, outside).await?;
        let known = identity.peers().iter().map(|peer| (peer.id, peer.addresses.clone()));
        links.set_peers(known.collect());
        let store = open_store(settings, &disk, &identity, &links, clock, metrics).await?;
        let nodes = start_membership(&identity, &links, clock, metrics);
        let shared: Arc<dyn Store> = Arc::<ReplicatedStore>::clone(&store);
        let roster = Roster::open(Arc::clone(&shared), Arc::clone(clock))?;
        let guard = Arc::new(ByRoles(Arc::clone(&roster)));
        links.register(Topic::STORE, store.guarded_service(guard));
        let quorum: Arc<dyn Quorum> = Arc::<ReplicatedStore>::clone(&store);
        let secrets = open_secrets(&disk, &identity, &shared, &roster, &quorum, clock)?;
        let journal = Journal::new(identity.node(), Arc::clone(clock));
        if let Some(authority) = to_found(origin, &mut identity, &roster, &disk, &links, clock)? {
            store.found().await?;
            let key = Secret::new(authority.secret().to_vec());
            let first = record(&identity, settings, links.advertised(), clock.wall());
            let cluster = cluster_record(&identity, clock.wall());
            tutti_control::founding::found(&roster, &secrets, &cluster, &first, &key).await?;
            journal.note("a cluster was founded", "this machine started for the first time");
        }
        wait_for_copy(&roster, &identity, clock).await?;
        // After a crash the copy may trail for a moment; without a leader it is read as it is.
        let _ = tokio::time::timeout(NEWEST_WITHIN, store.linearize()).await;
        let members: Arc<dyn Nodes> = Arc::<tutti_cluster::node::Cluster>::clone(&nodes);
        let counts = tutti_control::Counts::register(metrics);
        let member = Self {
            tokens: Tokens::open(Arc::clone(&shared), Arc::clone(clock)),
            leaving: Leaving {
                roster: Arc::clone(&roster),
                secrets: secrets.clone(),
                quorum: Arc::clone(&quorum),
                nodes: Arc::clone(&members),
                clock: Arc::clone(clock),
                journal: journal.clone(),
            },
            reconciler: reconciler(&roster, &quorum, members, clock, &journal, &counts),
            identity: Arc::new(Mutex::new(identity)),
            links,
            nodes,
            store,
            roster,
            secrets,
            quorum,
            journal,
            counts,
        };
        member.start(settings, &disk, clock).await?;
        Ok(member)
    }

    /// Starts what goes on as long as the node lives.
    async fn start(
        &self,
        settings: &Settings,
        disk: &Arc<RealDisk>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<()> {
        let joining = Joining::new(
            tutti_control::joining::Outside {
                roster: Arc::clone(&self.roster),
                tokens: self.tokens.clone(),
                secrets: self.secrets.clone(),
                quorum: Arc::clone(&self.quorum),
                nodes: Arc::<tutti_cluster::node::Cluster>::clone(&self.nodes),
                peers: Arc::<Links>::clone(&self.links),
                clock: Arc::clone(clock),
                journal: self.journal.clone(),
            },
            self.counts.clone(),
        );
        self.links.register(Topic::ROSTER, joining.service());
        tokio::spawn(Arc::clone(&self.roster).follow());
        tokio::spawn(Arc::clone(&self.reconciler).run());
        tokio::spawn(tutti_control::resealing::run(
            self.secrets.clone(),
            Arc::clone(&self.roster),
            Arc::<tutti_cluster::node::Cluster>::clone(&self.nodes),
            Arc::clone(clock),
            self.journal.clone(),
        ));
        tokio::spawn(keep_sound(
            Arc::clone(&self.store),
            Arc::clone(&self.roster),
            Arc::clone(clock),
            self.journal.clone(),
        ));
        roster::apply(self, disk);
        tokio::spawn(roster::follow(roster::Following::of(self, disk)));
        let bearing = identity::Bearing {
            identity: Arc::clone(&self.identity),
            links: Arc::clone(&self.links),
            disk: Arc::clone(disk),
        };
        let journal = self.journal.clone();
        tokio::spawn(tutti_control::renewing::run(joining, Arc::new(bearing), Arc::clone(clock), journal));
        self.say_where(settings).await
    }

    /// Brings this node's record up to date with where the machine is reached.
    async fn say_where(&self, settings: &Settings) -> anyhow::Result<()> {
        let me = self.links_id();
        let Some(mine) = self.roster.get(me)? else { return Ok(()) };
        let addresses = self.links.advertised();
        if mine.addresses != addresses
            && let Err(error) = self.roster.set_addresses(&mine.name, addresses).await
        {
            tracing::warn!(%error, "the addresses of this node could not be told to the others");
        }
        if let Some(roles) = settings.roles.filter(|roles| *roles != mine.roles) {
            // A node does not give itself more than its token did: people change roles, on any node that serves them.
            let (name, now) = (&mine.name, mine.roles);
            tracing::warn!(
                "`--roles {roles}` is not in force: `{name}` has the roles {now}; change them with \
                 `tutti node roles {name} {roles}`"
            );
        }
        Ok(())
    }

    fn links_id(&self) -> tutti_base::NodeId {
        self.quorum.status().me
    }

    /// Whether its roles need the tenants' keys.
    pub(crate) fn keys(&self) -> anyhow::Result<Keys> {
        let mine = self.roster.get(self.links_id())?;
        let is_front = mine.is_some_and(|mine| mine.roles.has(Roles::FRONT));
        Ok(if is_front { Keys::Needed } else { Keys::NotNeeded })
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        self.identity.lock().unwrap_or_else(std::sync::PoisonError::into_inner).name().to_owned()
    }
}

/// The authority of a cluster that is to be founded now: at the first start, and where the founding was cut short before
/// anything of it was kept.
fn to_found(
    origin: Origin,
    identity: &mut Identity,
    roster: &Roster,
    disk: &RealDisk,
    links: &Links,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<Box<Authority>>> {
    match origin {
        Origin::Founded(authority) => Ok(Some(authority)),
        Origin::Joined => Ok(None),
        Origin::Kept => match roster.cluster() {
            Err(RosterError::NoCluster) if identity.peers().is_empty() => {
                let authority = identity::certify_myself(identity, clock.wall())?;
                identity.save(disk)?;
                links.set_identity(identity)?;
                Ok(Some(Box::new(authority)))
            }
            _ => Ok(None),
        },
    }
}

/// Opens the store. A damaged file of a node that has peers is put aside: they have a copy, and this node comes back as a
/// learner. Alone, it is refused, with the way out.
async fn open_store(
    settings: &Settings,
    disk: &Arc<RealDisk>,
    identity: &Identity,
    links: &Arc<Links>,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> anyhow::Result<Arc<ReplicatedStore>> {
    let peers: Arc<dyn Peers> = Arc::<Links>::clone(links);
    let outside = || replicated::Outside {
        clock: Arc::clone(clock),
        rng: Box::new(Chance::seeded()),
        writing: Writing::OnItsThread,
    };
    let config = Default::default();
    let open = || {
        let (disk, peers) = (Arc::<RealDisk>::clone(disk), Arc::clone(&peers));
        ReplicatedStore::open(disk, identity.node(), peers, outside(), metrics, &config)
    };
    let opened = match super::state::patiently(clock, open).await {
        Err(StoreError::Open(reason)) if reason.contains(REPAIRABLE) && !identity.peers().is_empty() => {
            let aside = format!("{}.damaged-{}", tutti_store::FILE, clock.wall().secs());
            std::fs::rename(settings.data.join(tutti_store::FILE), settings.data.join(&aside))?;
            tracing::error!(
                reason,
                aside,
                "ALERT: the store's file is damaged; it was put aside, and a copy comes from a peer"
            );
            open().await
        }
        opened => opened,
    };
    opened.context("the store in the data directory could not be opened")
}

/// What the store says of a file that a peer's copy can replace.
const REPAIRABLE: &str = "repair it from a peer";

/// Makes this node's copy of the store anew from its peers whenever it turns out to be damaged, for ever.
async fn keep_sound(
    store: Arc<ReplicatedStore>,
    roster: Arc<Roster>,
    clock: Arc<dyn Clock>,
    journal: Journal,
) {
    let mut status = store.status();
    loop {
        let now = Arc::clone(&status.borrow_and_update());
        if let ReplicaHealth::Damaged(reason) = &now.health {
            let peers: Vec<_> =
                roster.nodes().iter().map(|node| node.id).filter(|id| *id != now.me).collect();
            journal.note("the store of this node is damaged; a copy is fetched from a peer", reason.clone());
            if let Err(error) = store.repair(&peers).await {
                tracing::error!(%error, "the store of this node could not be repaired; it is tried again");
                clock.sleep_until(clock.now() + REPAIR_AGAIN).await;
                continue;
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn start_membership(
    identity: &Identity,
    links: &Arc<Links>,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Arc<tutti_cluster::node::Cluster> {
    let me = tutti_cluster::node::Me { id: identity.node(), version: env!("CARGO_PKG_VERSION").into() };
    tutti_cluster::node::Cluster::over(
        links,
        Arc::clone(clock),
        Box::new(Chance::seeded()),
        metrics.clone(),
        me,
    )
}

fn open_secrets(
    disk: &Arc<RealDisk>,
    identity: &Identity,
    store: &Arc<dyn Store>,
    roster: &Arc<Roster>,
    quorum: &Arc<dyn Quorum>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Secrets> {
    let sealing = Arc::new(SealingKey::new(identity.node(), identity.sealing_key()));
    let readers = Arc::new(Readers::new(Arc::clone(roster), Arc::clone(quorum)));
    let old = KeyFile::load(&**disk)?;
    Ok(Secrets::open_shared(Arc::clone(store), sealing, readers, old, Arc::clone(clock)))
}

fn reconciler(
    roster: &Arc<Roster>,
    quorum: &Arc<dyn Quorum>,
    nodes: Arc<dyn Nodes>,
    clock: &Arc<dyn Clock>,
    journal: &Journal,
    counts: &tutti_control::Counts,
) -> Arc<Reconciler> {
    let outside = tutti_control::reconcile::Outside {
        roster: Arc::clone(roster),
        quorum: Arc::clone(quorum),
        nodes,
        clock: Arc::clone(clock),
        journal: journal.clone(),
    };
    Reconciler::new(outside, Default::default(), counts.clone())
}

fn cluster_record(identity: &Identity, founded: Wall) -> ClusterRecord {
    ClusterRecord { id: identity.cluster(), authorities: identity.authorities().to_vec(), founded }
}

/// The record of the first node.
fn record(
    identity: &Identity,
    settings: &Settings,
    addresses: Vec<std::net::SocketAddr>,
    now: Wall,
) -> NodeRecord {
    NodeRecord {
        id: identity.node(),
        name: identity.name().into(),
        roles: settings.roles.unwrap_or(Roles::ALL),
        addresses,
        sealing_key: identity.sealing_public(),
        standing: Standing::Active,
        joined: now,
        labels: Default::default(),
    }
}

/// Waits until the local copy of the store knows this node: a new member gets it from the leader.
async fn wait_for_copy(
    roster: &Arc<Roster>,
    identity: &Identity,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let until = clock.now() + COPY_WITHIN;
    loop {
        match roster.get(identity.node()) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the roster cannot be read yet"),
        }
        if clock.now() >= until {
            anyhow::bail!(
                "no copy of the cluster's state came within {COPY_WITHIN:?}; see `tutti status` on another node, whether \
                 it has a leader and reaches this one at its `--node` or `--advertise` address"
            );
        }
        clock.sleep_until(clock.now() + LOOK_EVERY).await;
    }
}
