//! The cluster address: one address that clients know, on which the node that holds a lease listens. The kernel refuses a
//! second bind, so that two holders on one machine are impossible.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tutti_base::{NodeState, Nodes, Roles};
use tutti_control::Duty;
use tutti_control::duty::{Holder, Outside};
use tutti_front::{Doors, listeners};

use crate::build::House;
use crate::world::Chance;

/// The duty's name in the store.
pub(crate) const ADDRESS_DUTY: &str = "address";
/// The lease of the holder.
const TTL: Duration = Duration::from_millis(400);
/// Giving the address back at a stop takes at most this long.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// This node's try for the cluster address, and its hold on it.
pub(crate) struct ClusterAddress {
    duty: Arc<Duty>,
    task: JoinHandle<()>,
}

struct Listening {
    address: SocketAddr,
    doors: Doors,
    nodes: Arc<dyn Nodes>,
    runtime: Handle,
    is_open: AtomicBool,
}

impl Holder for Listening {
    fn may_hold(&self) -> bool {
        let view = self.nodes.view();
        let is_front = |member: &tutti_base::Member| {
            member.roles.has(Roles::FRONT) && member.state != NodeState::Draining
        };
        view.myself().is_some_and(is_front)
    }

    fn take(&self, token: u64) -> Result<(), String> {
        let listener = listeners::bind(self.address).map_err(|error| error.to_string())?;
        self.doors.open(listener).map_err(|error| error.to_string())?;
        self.is_open.store(true, Ordering::SeqCst);
        tracing::info!(address = %self.address, token, "this node answers on the cluster address");
        Ok(())
    }

    fn release(&self) {
        if !self.is_open.swap(false, Ordering::SeqCst) {
            return;
        }
        let (doors, address) = (self.doors.clone(), self.address);
        self.runtime.spawn(async move {
            if let Err(error) = doors.close(address).await {
                tracing::warn!(%address, %error, "the cluster address could not be closed");
            }
        });
        tracing::info!(address = %self.address, "this node answers on the cluster address no longer");
    }
}

impl ClusterAddress {
    /// Begins to try for `address`, with the front's doors.
    pub(crate) fn start(address: SocketAddr, house: &House, doors: Doors) -> Self {
        let member = &house.member;
        let outside = Outside {
            me: member.quorum.status().me,
            store: Arc::clone(&house.state.store),
            clock: Arc::clone(&house.clock),
            rng: Box::new(Chance::seeded()),
            counts: member.counts.clone(),
            journal: member.journal.clone(),
        };
        let duty = Duty::new(ADDRESS_DUTY, TTL, outside);
        let holder = Arc::new(Listening {
            address,
            doors,
            nodes: Arc::<tutti_cluster::node::Cluster>::clone(&member.nodes),
            runtime: Handle::current(),
            is_open: AtomicBool::new(false),
        });
        let task = tokio::spawn(Arc::clone(&duty).run(holder));
        Self { duty, task }
    }

    /// Gives the address back, so that another node answers on it at once.
    pub(crate) async fn stop(self) {
        self.duty.stop();
        if tokio::time::timeout(STOP_WITHIN, self.task).await.is_err() {
            tracing::warn!("the cluster address was not given back in time; its lease runs out");
        }
    }

    /// Makes it look again whether this node may hold it.
    pub(crate) fn poker(&self) -> impl Fn() + Send + Sync + use<> {
        let duty = Arc::clone(&self.duty);
        move || duty.poke()
    }
}
