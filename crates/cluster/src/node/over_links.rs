//! The node over the real links: what they offer and what they tell, wired up. Decides nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tutti_base::rng::Rng;
use tutti_base::{Clock, NodeId};
use tutti_telemetry::Metrics;

use super::{Cluster, Fabric, Me, Outside};
use crate::links::{LinkEvents, Links};
use crate::membership::LinkChange;

impl Fabric for Links {
    fn datagram(&self, to: NodeId, payload: Bytes) -> bool {
        self.send_datagram(to, &payload).is_ok()
    }
    fn rtt(&self, node: NodeId) -> Option<Duration> {
        Links::rtt(self, node)
    }
    fn set_peers(&self, peers: Vec<(NodeId, Vec<SocketAddr>)>) {
        Links::set_peers(self, peers);
    }
    fn forbid(&self, node: NodeId) {
        Links::forbid(self, node);
    }
}

/// Hears of links. Weak, since the cluster holds the links.
struct LinkEar(Weak<Cluster>);

impl LinkEar {
    fn tell(&self, node: NodeId, change: LinkChange) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.link(node, change);
        }
    }
}

impl LinkEvents for LinkEar {
    fn connected(&self, node: NodeId) {
        self.tell(node, LinkChange::Connected);
    }
    fn broken(&self, node: NodeId) {
        self.tell(node, LinkChange::Broken);
    }
    fn refused(&self, node: NodeId) {
        self.tell(node, LinkChange::Refused);
    }
    fn heard(&self, node: NodeId) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.heard(node);
        }
    }
}

impl Cluster {
    /// Starts `me` over `links`: answers their gossip and hints, hears their events and datagrams. Once for any links.
    pub fn over(
        links: &Arc<Links>,
        clock: Arc<dyn Clock>,
        rng: Box<dyn Rng>,
        metrics: Metrics,
        me: Me,
    ) -> Arc<Self> {
        let outside = Outside { peers: links.clone(), fabric: links.clone(), clock, rng, metrics };
        let cluster = Self::start(outside, me);
        for (topic, ear) in cluster.ears() {
            links.register(topic, ear);
        }
        links.set_events(Arc::new(LinkEar(Arc::downgrade(&cluster))));
        let (links, weak) = (links.clone(), Arc::downgrade(&cluster));
        cluster.add_task("datagrams", Box::pin(datagrams(links, weak)));
        cluster
    }
}

async fn datagrams(links: Arc<Links>, cluster: Weak<Cluster>) {
    while let Some((from, payload)) = links.datagrams().receive().await {
        let Some(cluster) = cluster.upgrade() else { return };
        cluster.hear_datagram(from, &payload);
    }
}
