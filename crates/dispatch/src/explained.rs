//! A choice with everything that led to it, for `explain`, traces and the sampled metric. Decides nothing.

use tutti_base::NodeId;

use crate::policy::Policy;

/// What a node would take, term by term, in ms. `predicted` adds them up; other policies only show them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Terms {
    /// Heuristics: the predicted cost.
    pub heuristics_ms: f64,
    /// Performance history: what this node takes longer than predicted; negative where it is faster.
    pub history_ms: f64,
    /// Network congestion: the round trip and the bytes on their way.
    pub network_ms: f64,
    /// The original, where it has to come first.
    pub original_ms: f64,
    /// Availability: the wait for the work that it has already.
    pub wait_ms: f64,
    /// Availability: what its recent failures make likely to be lost.
    pub failures_ms: f64,
}

impl Terms {
    /// The expected time until it has finished.
    pub fn total_ms(&self) -> f64 {
        self.heuristics_ms
            + self.history_ms
            + self.network_ms
            + self.original_ms
            + self.wait_ms
            + self.failures_ms
    }

    /// The terms with the names that people know them by.
    pub fn named(&self) -> [(&'static str, f64); 6] {
        [
            ("heuristics", self.heuristics_ms),
            ("performance history", self.history_ms),
            ("network congestion", self.network_ms),
            ("missing original", self.original_ms),
            ("availability: wait", self.wait_ms),
            ("availability: failures", self.failures_ms),
        ]
    }
}

/// Whether a node could be chosen, or why not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has a place.
    Open,
    /// It has all the jobs of this size that it should have.
    Full,
    /// It failed lately and is left alone for a while.
    Ejected,
    /// It did not answer lately, and others did.
    Suspect,
    /// It failed this job already.
    Tried,
    /// It finishes what it has and takes nothing new.
    Draining,
    /// It is lost.
    Down,
}

impl Standing {
    /// The word in output and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Full => "full",
            Standing::Ejected => "ejected",
            Standing::Suspect => "suspect",
            Standing::Tried => "tried",
            Standing::Draining => "draining",
            Standing::Down => "down",
        }
    }
}

/// One node that was looked at.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Considered {
    /// The node.
    pub node: NodeId,
    /// Its terms.
    pub terms: Terms,
    /// Their sum.
    pub total_ms: f64,
    /// How much of it is believed to be used now, 0 to 100; the rest is free.
    pub used_pct: f64,
    /// Whether it could be chosen.
    pub standing: Standing,
}

/// Why a node was chosen, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No other could be.
    Only,
    /// It is expected to finish first.
    Best,
    /// It is within a tenth of the best; among those the choice is random, by free capacity.
    Near,
    /// It was not heard of for long, and somebody has to try.
    Explored,
    /// The largest share of it is free.
    MostFree,
    /// The better of two drawn at random.
    BetterOfTwo,
    /// It was its turn.
    Turn,
    /// Its ticket was drawn.
    Drawn,
    /// It owns the key.
    Owner,
    /// The key's owners have more than their share.
    Spilled,
    /// All nodes are suspect or ejected, so they are used anyway.
    Panic,
    /// Waiting for a better node ends sooner than starting now.
    Wait,
    /// There is no node to send it to.
    Nowhere,
}

impl Reason {
    /// The word in output and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Only => "only",
            Reason::Best => "best",
            Reason::Near => "near-best",
            Reason::Explored => "explored",
            Reason::MostFree => "most-free",
            Reason::BetterOfTwo => "better-of-two",
            Reason::Turn => "turn",
            Reason::Drawn => "drawn",
            Reason::Owner => "owner",
            Reason::Spilled => "spilled",
            Reason::Panic => "panic",
            Reason::Wait => "wait",
            Reason::Nowhere => "nowhere",
        }
    }
}

/// A choice, and what led to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Explained {
    /// By which policy.
    pub policy: Policy,
    /// All candidates, in the order in which they were given.
    pub considered: Vec<Considered>,
    /// The one that was chosen.
    pub chosen: Option<NodeId>,
    /// Why.
    pub reason: Reason,
}

impl Explained {
    /// What was expected of the chosen node, in ms.
    pub fn expected_ms(&self) -> Option<f64> {
        let chosen = self.chosen?;
        self.considered.iter().find(|seen| seen.node == chosen).map(|seen| seen.total_ms)
    }
}
