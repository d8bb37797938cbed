//! The roster: who belongs to the cluster, under which name, with which roles. Every change is one conditional
//! transaction over the whole of it; it does not know who is reachable.

mod record;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tutti_base::{Clock, Kind, NodeId, Problem, Roles, envelope};
use tutti_store::{Check, Commit, Key, Op, Page, Revision, Scan, Store, StoreError, Txn, WatchError};

use record::Stamp;
pub use record::{ClusterRecord, NodeRecord, Standing};

/// The table of the nodes.
pub const TABLE: &str = "nodes";
/// The table of what there is one of in a cluster.
pub const CLUSTER_TABLE: &str = "cluster";
/// The most nodes that were not removed.
pub const NODES_MAX: usize = 128;
/// The most records, those of removed nodes among them.
pub const RECORDS_MAX: usize = 1000;
/// The longest name of a node, in bytes.
pub const NAME_MAX: usize = 63;
/// The most addresses of a node.
pub const ADDRESSES_MAX: usize = 8;
/// The most labels of a node, and the longest of their keys and values in bytes.
pub const LABELS_MAX: usize = 32;
/// The record of a removed node is kept this long, well beyond its certificate.
pub const REMOVED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often a change that another writer got in between is tried again.
pub const EDIT_TRIES: u32 = 8;

/// Between two tries: this long, once more with every try.
pub(crate) const EDIT_PAUSE: Duration = Duration::from_millis(20);
// One page of a range shows them all.
const _: () = assert!(RECORDS_MAX <= tutti_store::store::PAGE_ENTRIES_MAX);
const IDENTITY: &str = "identity";
const STAMP: &str = "roster";

/// The roster as a list, in the order of the ids.
pub type Nodes = Vec<NodeRecord>;

/// Why the roster was not changed, or could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RosterError {
    /// The name does not fit.
    #[error("`{0}` cannot name a node; use 1 to {NAME_MAX} letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// Another node has the name.
    #[error(
        "the name `{0}` belongs to a node already; choose another with `--name`, or take it over with `--replace {0}`"
    )]
    Taken(String),
    /// There is no node of this name.
    #[error("there is no node `{0}`; `tutti nodes` lists them")]
    Unknown(String),
    /// The node was removed.
    #[error("node `{0}` was removed from the cluster; join it again with a new token")]
    Removed(String),
    /// There are as many as there may be.
    #[error("there are {NODES_MAX} nodes already; remove one with `tutti node remove NAME`")]
    TooMany,
    /// Something of the record does not fit.
    #[error("{0}")]
    Invalid(String),
    /// Others kept changing it.
    #[error("the list of nodes was changed by others at the same time; try again")]
    Contended,
    /// There is no cluster yet.
    #[error(
        "this node belongs to no cluster yet; start it once, or join one with `tutti serve --join TOKEN`"
    )]
    NoCluster,
    /// A stored record cannot be read.
    #[error(
        "the record `{0}` in the table of nodes is damaged ({1}); restore it from a backup, or delete the key"
    )]
    Damaged(String, String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RosterError> for Problem {
    fn from(error: RosterError) -> Self {
        let kind = match &error {
            RosterError::Store(store) => return store.clone().into(),
            RosterError::Name(_) | RosterError::Invalid(_) => Kind::BadRequest,
            RosterError::Taken(_) | RosterError::Contended | RosterError::Removed(_) => Kind::Conflict,
            RosterError::Unknown(_) => Kind::NotFound,
            RosterError::TooMany => Kind::Unprocessable,
            RosterError::NoCluster => Kind::Unavailable,
            RosterError::Damaged(..) => Kind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}

/// Reads and changes the roster. Share it in an `Arc`.
pub struct Roster {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    shown: watch::Sender<Arc<Nodes>>,
}

/// What an edit adds to its transaction beside the records that it changed.
#[derive(Default)]
pub(crate) struct Also {
    pub(crate) checks: Vec<Check>,
    pub(crate) ops: Vec<Op>,
}

impl Roster {
    /// The roster in `store`, as it is now. Spawn [`Self::follow`] beside it.
    pub fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, RosterError> {
        let nodes = read(&*store)?.nodes;
        Ok(Arc::new(Self { store, clock, shown: watch::Sender::new(Arc::new(nodes)) }))
    }

    /// Keeps what is shown in step with the store, until the store is closed. Cancel-safe.
    pub async fn follow(self: Arc<Self>) {
        let mut after = Revision(0);
        loop {
            match self.refresh() {
                Ok(revision) => after = revision,
                Err(error) => tracing::error!(%error, "the list of nodes is shown as it was before"),
            }
            let Ok(mut changes) = self.store.watch(TABLE, b"", after) else { return };
            loop {
                match changes.next().await {
                    Ok(change) if change.revision <= after => {}
                    Ok(_) | Err(WatchError::Behind { .. }) => break,
                    Err(WatchError::Closed) => return,
                }
            }
        }
    }

    /// Reads the roster anew and shows it.
    fn refresh(&self) -> Result<Revision, RosterError> {
        let found = read(&*self.store)?;
        self.show(found.nodes);
        Ok(found.revision)
    }

    fn show(&self, nodes: Nodes) {
        self.shown.send_if_modified(|shown| {
            let is_other = **shown != nodes;
            if is_other {
                *shown = Arc::new(nodes);
            }
            is_other
        });
    }

    /// All records as last followed, removed nodes among them, by id. Cheap: a shared value.
    pub fn nodes(&self) -> Arc<Nodes> {
        self.shown.borrow().clone()
    }

    /// The records, and word of every change of them.
    pub fn watch(&self) -> watch::Receiver<Arc<Nodes>> {
        self.shown.subscribe()
    }

    /// All records in the local store, by id.
    pub fn list(&self) -> Result<Nodes, RosterError> {
        Ok(read(&*self.store)?.nodes)
    }

    /// The record of `id`, if there is one.
    pub fn get(&self, id: NodeId) -> Result<Option<NodeRecord>, RosterError> {
        Ok(self.list()?.into_iter().find(|node| node.id == id))
    }

    /// The node of this name that was not removed.
    pub fn by_name(&self, name: &str) -> Result<NodeRecord, RosterError> {
        find(&self.list()?, name).cloned()
    }

    /// What there is one of: the cluster's identity. `NoCluster` before the founding.
    pub fn cluster(&self) -> Result<ClusterRecord, RosterError> {
        let found = self.store.get(&identity_key())?.ok_or(RosterError::NoCluster)?;
        envelope::open(&found.value).map_err(|error| damaged(IDENTITY, &error))
    }

    /// Adds `node`.
    pub async fn add(&self, node: NodeRecord) -> Result<Revision, RosterError> {
        self.edit(|nodes| {
            nodes.push(node.clone());
            Ok::<_, RosterError>(Also::default())
        })
        .await
    }

    /// Sets how the node `name` stands, and hands its record back. Removed is for good.
    pub async fn set_standing(&self, name: &str, standing: Standing) -> Result<NodeRecord, RosterError> {
        self.change(name, |node| node.standing = standing.clone()).await
    }

    /// Sets the roles of the node `name`, live.
    pub async fn set_roles(&self, name: &str, roles: Roles) -> Result<NodeRecord, RosterError> {
        self.change(name, |node| node.roles = roles).await
    }

    /// Sets where the node `name` is to be reached.
    pub async fn set_addresses(
        &self,
        name: &str,
        addresses: Vec<SocketAddr>,
    ) -> Result<NodeRecord, RosterError> {
        self.change(name, |node| node.addresses.clone_from(&addresses)).await
    }

    async fn change(&self, name: &str, how: impl Fn(&mut NodeRecord)) -> Result<NodeRecord, RosterError> {
        let mut changed = None;
        self.edit(|nodes| {
            let id = find(nodes, name)?.id;
            let node = nodes.iter_mut().find(|node| node.id == id);
            let node = node.ok_or_else(|| RosterError::Unknown(name.into()))?;
            how(node);
            changed = Some(node.clone());
            Ok::<_, RosterError>(Also::default())
        })
        .await?;
        changed.ok_or_else(|| RosterError::Unknown(name.into()))
    }

    /// Forgets nodes that were removed more than [`REMOVED_KEPT`] ago. How many.
    pub async fn forget_removed(&self) -> Result<usize, RosterError> {
        let now = self.clock.wall();
        let is_old = |node: &NodeRecord| matches!(node.standing, Standing::Removed { since } if now.since(since) > REMOVED_KEPT);
        if !self.nodes().iter().any(is_old) {
            return Ok(0);
        }
        let mut forgotten = 0;
        self.edit(|nodes| {
            let before = nodes.len();
            nodes.retain(|node| !is_old(node));
            forgotten = before - nodes.len();
            Ok::<_, RosterError>(Also::default())
        })
        .await?;
        Ok(forgotten)
    }

    /// Changes the roster by `how`, which may run again on a newer state and says what else goes into the transaction;
    /// then the whole of it is checked and written, or nothing is. Not cancel-safe: a dropped future leaves open whether
    /// it was applied.
    pub(crate) async fn edit<E: From<RosterError>>(
        &self,
        mut how: impl FnMut(&mut Nodes) -> Result<Also, E>,
    ) -> Result<Revision, E> {
        for tried in 0..EDIT_TRIES {
            let before = read(&*self.store)?;
            let mut nodes = before.nodes.clone();
            let also = how(&mut nodes)?;
            nodes.sort_by_key(|node| node.id);
            check(&nodes)?;
            let done =
                self.store.commit(before.transaction(&nodes, also)).await.map_err(RosterError::from)?;
            if let Commit::Done(revision) = done {
                self.show(nodes);
                return Ok(revision);
            }
            self.clock.sleep_until(self.clock.now() + EDIT_PAUSE * (tried + 1)).await;
        }
        Err(RosterError::Contended.into())
    }
}

/// The roster as it was read, and what a change of it must find unchanged.
struct Found {
    nodes: Nodes,
    stamp: Option<(Stamp, Revision)>,
    revision: Revision,
}

impl Found {
    fn transaction(&self, nodes: &[NodeRecord], also: Also) -> Txn {
        let at = Key::new(CLUSTER_TABLE, STAMP);
        let (check, changes) = match &self.stamp {
            Some((stamp, revision)) => (Check::Modified(at.clone(), *revision), stamp.changes + 1),
            None => (Check::Absent(at.clone()), 1),
        };
        let mut txn = Txn::of([Op::put(at, envelope::seal(&Stamp { changes }))]).when(check);
        let is_same = |node: &NodeRecord, list: &[NodeRecord]| list.iter().any(|other| other == node);
        let written = nodes.iter().filter(|node| !is_same(node, &self.nodes));
        txn.then.extend(written.map(|node| Op::put(node_key(node.id), envelope::seal(node))));
        let is_gone = |node: &&NodeRecord| !nodes.iter().any(|other| other.id == node.id);
        txn.then.extend(self.nodes.iter().filter(is_gone).map(|node| Op::delete(node_key(node.id))));
        txn.when.extend(also.checks);
        txn.then.extend(also.ops);
        txn
    }
}

fn read(store: &dyn Store) -> Result<Found, RosterError> {
    // The stamp first: a change between the two readings makes the commit fail, never pass.
    let stamp = match store.get(&Key::new(CLUSTER_TABLE, STAMP))? {
        Some(found) => {
            let stamp = envelope::open(&found.value).map_err(|error| damaged(STAMP, &error))?;
            Some((stamp, found.modified))
        }
        None => None,
    };
    let Page { revision, entries, .. } = store.range(&Scan::prefix(TABLE, b""))?;
    let open = |(key, entry): &(Vec<u8>, tutti_store::Entry)| {
        let name = || key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        envelope::open(&entry.value).map_err(|error| damaged(&name(), &error))
    };
    let nodes = entries.iter().map(open).collect::<Result<_, _>>()?;
    Ok(Found { nodes, stamp, revision })
}

fn damaged(what: &str, error: &envelope::EnvelopeError) -> RosterError {
    RosterError::Damaged(what.into(), error.to_string())
}

pub(crate) fn identity_key() -> Key {
    Key::new(CLUSTER_TABLE, IDENTITY)
}

fn node_key(id: NodeId) -> Key {
    Key::new(TABLE, id.0.to_be_bytes())
}

/// Where each node other than `me` is reached that was not removed: what links dial.
pub fn peers(nodes: &[NodeRecord], me: NodeId) -> Vec<(NodeId, Vec<SocketAddr>)> {
    let others = nodes.iter().filter(|node| node.id != me && !node.standing.is_removed());
    others.map(|node| (node.id, node.addresses.clone())).collect()
}

/// The nodes that were removed: whose certificates are refused.
pub fn removed(nodes: &[NodeRecord]) -> impl Iterator<Item = NodeId> {
    nodes.iter().filter(|node| node.standing.is_removed()).map(|node| node.id)
}

/// The node of this name that was not removed.
pub(crate) fn find<'a>(nodes: &'a [NodeRecord], name: &str) -> Result<&'a NodeRecord, RosterError> {
    let mut named = nodes.iter().filter(|node| node.name == name);
    if let Some(node) = named.clone().find(|node| !node.standing.is_removed()) {
        return Ok(node);
    }
    match named.next() {
        Some(_) => Err(RosterError::Removed(name.into())),
        None => Err(RosterError::Unknown(name.into())),
    }
}

/// Whether the whole roster may be: names are unique among the nodes that were not removed, and all limits hold.
fn check(nodes: &[NodeRecord]) -> Result<(), RosterError> {
    let present = || nodes.iter().filter(|node| !node.standing.is_removed());
    if present().count() > NODES_MAX || nodes.len() > RECORDS_MAX {
        return Err(RosterError::TooMany);
    }
    let mut names: Vec<&str> = present().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(RosterError::Taken(pair[0].into()));
    }
    if let Some(pair) = nodes.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(RosterError::Invalid(format!("two nodes have the id {}", pair[0].id)));
    }
    present().try_for_each(NodeRecord::check)
}
