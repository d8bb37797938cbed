//! What the links tell this node: packets, hints, and their own coming and going. Each ear is one line into the cluster.

use std::sync::Weak;

use bytes::Bytes;
use tutti_base::{BoxFuture, Call, Kind, NodeId, Problem, Reply, Serve, Topic};

use super::Cluster;

/// Hears one topic of the cluster's own.
pub(crate) struct Ear {
    pub(crate) topic: Topic,
    pub(crate) cluster: Weak<Cluster>,
}

impl Serve for Ear {
    /// Folders that a hint has no room for are asked for; nothing else is.
    fn serve(&self, _from: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
        let cluster = self.cluster.upgrade().filter(|_| self.topic == Topic::HINT);
        let answer = cluster.and_then(|cluster| cluster.answer(&call.head));
        let refusal = || Problem::new(Kind::BadRequest, "gossip and hints are told, not asked for");
        Box::pin(std::future::ready(answer.map(Reply::of).ok_or_else(refusal)))
    }

    fn hear(&self, from: NodeId, head: Bytes) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        match self.topic {
            Topic::GOSSIP => cluster.hear_cast(from, &head),
            _ => cluster.hear_hint(from, &head),
        }
    }
}
