//! Which peers hear this node often: those with which it exchanges most work. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tutti_base::{NodeId, Tick};

/// How many peers hear a node at the fast pace.
pub const NEAR_MAX: usize = 16;
/// The fast pace.
pub const NEAR_EVERY: Duration = Duration::from_millis(200);
/// The pace of all others.
pub const FAR_EVERY: Duration = Duration::from_secs(1);
/// How often the ranking is made anew; what was exchanged before then counts half.
const RANK_EVERY: Duration = Duration::from_secs(5);

/// The ranking of peers.
#[derive(Debug)]
pub(crate) struct Pace {
    exchanged: BTreeMap<NodeId, u64>,
    near: BTreeSet<NodeId>,
    rank: Tick,
}

impl Pace {
    pub(crate) fn new(now: Tick) -> Self {
        Self { exchanged: BTreeMap::new(), near: BTreeSet::new(), rank: now }
    }

    /// Counts work exchanged with `node`.
    pub(crate) fn exchanged(&mut self, node: NodeId, count: u64) {
        if let Some(sum) = self.exchanged.get_mut(&node) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Makes `peers` the ones to rank.
    pub(crate) fn set_peers(&mut self, now: Tick, peers: &BTreeSet<NodeId>) {
        self.exchanged.retain(|id, _| peers.contains(id));
        for id in peers {
            self.exchanged.entry(*id).or_insert(0);
        }
        self.rank(now);
    }

    /// Ranks anew when it is time.
    pub(crate) fn tick(&mut self, now: Tick) {
        if now >= self.rank {
            self.rank(now);
            for sum in self.exchanged.values_mut() {
                *sum /= 2;
            }
        }
    }

    fn rank(&mut self, now: Tick) {
        self.rank = now + RANK_EVERY;
        let mut order: Vec<(u64, NodeId)> = self.exchanged.iter().map(|(id, sum)| (*sum, *id)).collect();
        order.sort_by(|a, b| b.cmp(a));
        self.near = order.into_iter().take(NEAR_MAX).map(|(_, id)| id).collect();
    }

    /// How often `node` hears this one.
    pub(crate) fn every(&self, node: NodeId) -> Duration {
        if self.near.contains(&node) { NEAR_EVERY } else { FAR_EVERY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixteen_peers_with_most_exchange_are_near_and_others_take_their_place_in_time() {
        let peers: BTreeSet<NodeId> = (1..=40).map(NodeId).collect();
        let mut pace = Pace::new(Tick(0));
        pace.set_peers(Tick(0), &peers);
        let near = |pace: &Pace| peers.iter().filter(|id| pace.every(**id) == NEAR_EVERY).count();
        assert_eq!(near(&pace), NEAR_MAX, "with no work yet too");
        (1..=16).for_each(|id| pace.exchanged(NodeId(id), 1000));
        pace.tick(Tick(0) + RANK_EVERY);
        assert!((1..=16).all(|id| pace.every(NodeId(id)) == NEAR_EVERY) && near(&pace) == NEAR_MAX);
        for round in 2..8 {
            (21..=36).for_each(|id| pace.exchanged(NodeId(id), 400));
            pace.tick(Tick(0) + RANK_EVERY * round);
        }
        assert!((21..=36).all(|id| pace.every(NodeId(id)) == NEAR_EVERY));
    }
}
