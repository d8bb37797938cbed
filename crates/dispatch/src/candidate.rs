//! What a dispatcher knows of a node that may take a job: its last report, how old that is, and the way to it.

use std::time::Duration;

use tutti_base::{Member, NodeId, NodeState, Tick};

/// One node where the service is on. Made anew for each decision from what the cluster shows.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Whether it is this node: nothing crosses the network then.
    pub is_me: bool,
    /// How it is. Down and draining nodes get nothing, suspect ones nothing as long as there are others.
    pub state: NodeState,
    /// Grows with every report of one run of the node; 0 as long as there was none.
    pub sequence: u64,
    /// How long ago its last report was heard.
    pub age: Duration,
    /// CPU milliseconds a second that its jobs get.
    pub cpu: f64,
    /// Jobs that it runs at once.
    pub permits: u16,
    /// Jobs that it had accepted from anyone by its last report, running or waiting.
    pub jobs: u16,
    /// What these still needed, in CPU ms of that node.
    pub backlog_ms: f64,
    /// How much of its CPU was used, 0 to 100.
    pub used_pct: u8,
    /// Round-trip time to it.
    pub rtt: Duration,
    /// What the way to it carries, in bytes a ms.
    pub bytes_per_ms: f64,
    /// The probability that it has the original, 0 to 1.
    pub has_original: f64,
    /// How long it has been a member. A dispatcher also sees by itself when a node is new.
    pub joined_for: Duration,
    /// Its weight by configuration: 1 unless somebody wants otherwise. The policies that divide by capacity multiply it.
    pub weight: f64,
}

/// What a way between two nodes carries unless it was measured, in bytes a ms: 1 Gbit/s.
pub const BYTES_PER_MS: f64 = 125_000.0;

impl Candidate {
    /// What the view shows of `member` at `now`, seen from the node `me`. It is taken to lack originals and to have been
    /// there for ever; correct the fields that are known better.
    pub fn of(member: &Member, me: NodeId, now: Tick) -> Self {
        let load = &member.load;
        Self {
            node: member.id,
            is_me: member.id == me,
            state: member.state,
            sequence: load.sequence,
            age: now.since(member.heard),
            cpu: f64::from(load.cpu),
            permits: load.permits,
            jobs: load.jobs,
            backlog_ms: f64::from(load.backlog_ms),
            used_pct: load.used_pct,
            rtt: member.rtt,
            bytes_per_ms: BYTES_PER_MS,
            has_original: 0.0,
            joined_for: Duration::MAX,
            weight: 1.0,
        }
    }

    /// Cores that its jobs get; never 0, since a node that has not reported yet must not look infinitely slow.
    pub(crate) fn cores(&self) -> f64 {
        (self.cpu / 1000.0).max(0.01)
    }
    /// Jobs that it runs at once; a node that has not reported runs one.
    pub(crate) fn permits(&self) -> f64 {
        f64::from(self.permits.max(1))
    }
    /// Its capacity in the eyes of the policies that divide by capacity.
    pub(crate) fn capacity(&self) -> f64 {
        self.cores() * self.weight.max(0.0)
    }
    /// When the node wrote its last report.
    pub(crate) fn reported(&self, now: Tick) -> Tick {
        now - (self.age + self.rtt / 2)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use tutti_base::{Load, Roles};

    use super::*;

    /// A node of four cores that reported this many jobs just now, each with 50 ms to go.
    pub(crate) fn candidate(node: u64, jobs: u16) -> Candidate {
        let load = Load {
            sequence: 1,
            cpu: 4000,
            permits: 4,
            jobs,
            backlog_ms: u32::from(jobs) * 50,
            ..Load::default()
        };
        let member = Member {
            id: NodeId(node),
            name: "n".into(),
            roles: Roles::ALL,
            state: NodeState::Up,
            version: "1".into(),
            load: Arc::new(load),
            heard: Tick(1),
            rtt: Duration::ZERO,
        };
        Candidate::of(&member, NodeId(99), Tick(1))
    }

    #[test]
    fn a_node_that_never_reported_looks_neither_endless_nor_empty() {
        let silent = Candidate { cpu: 0.0, permits: 0, ..candidate(1, 0) };
        assert!(silent.cores() > 0.0 && silent.permits() == 1.0);
        assert_eq!(candidate(1, 0).capacity(), 4.0);
        assert_eq!(candidate(1, 2).backlog_ms, 100.0);
    }
}
