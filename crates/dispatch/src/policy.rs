//! The registry of policies: their names, and for each how it picks among open nodes. Keeps no state of its own.

use std::fmt;
use std::str::FromStr;

use tutti_base::NodeId;
use tutti_base::rng::Rng;

use crate::book::Book;
use crate::choose;
use crate::estimate::{Estimate, Scene};
use crate::explained::Reason;
use crate::job::JobAsk;

/// How a node is chosen. Any job may name another; nothing has to be restarted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Policy {
    /// The node that is expected to finish first.
    #[default]
    Predicted,
    /// The node with the largest part free, by percent used and free.
    LeastLoaded,
    /// The less busy of two nodes drawn at random (Mitzenmacher 2001).
    P2c,
    /// Each node in turn, by capacity.
    WeightedRoundRobin,
    /// By lot, with more tickets for shorter queues (Fox et al., SOSP 1997).
    Lottery,
    /// The owner of the job's key, unless it has more than its share (Mirrokni, Thorup, Zadimoghaddam 2018).
    Hash,
}

/// With `hash`, no node has more than this many times its share.
pub const BOUND: f64 = 1.25;
/// Nodes whose used parts differ by less than this are equally loaded to `least-loaded`.
const EQUAL_PART: f64 = 0.02;

impl Policy {
    /// All policies, the default first.
    pub const ALL: [Policy; 6] = [
        Policy::Predicted,
        Policy::LeastLoaded,
        Policy::P2c,
        Policy::WeightedRoundRobin,
        Policy::Lottery,
        Policy::Hash,
    ];

    /// Its name in configurations.
    pub const fn word(self) -> &'static str {
        match self {
            Policy::Predicted => "predicted",
            Policy::LeastLoaded => "least-loaded",
            Policy::P2c => "p2c",
            Policy::WeightedRoundRobin => "weighted-round-robin",
            Policy::Lottery => "lottery",
            Policy::Hash => "hash",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A name that no policy has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown policy `{name}`; did you mean `{nearest}`? policies are {}", Policy::ALL.map(Policy::word).join(", "))]
pub struct UnknownPolicy {
    /// What was asked for.
    pub name: String,
    /// The policy whose name is most like it.
    pub nearest: Policy,
}

impl FromStr for Policy {
    type Err = UnknownPolicy;
    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let exact = Policy::ALL.into_iter().find(|policy| policy.word() == name);
        exact.ok_or_else(|| {
            let far = |policy: &Policy| edits(policy.word(), name);
            let nearest = Policy::ALL.into_iter().min_by_key(far).unwrap_or_default();
            UnknownPolicy { name: name.chars().take(40).collect(), nearest }
        })
    }
}

/// Levenshtein distance, of at most the first 40 characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(40).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

/// What a policy says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Pick {
    /// The node at this place of the scene.
    Take(usize, Reason),
    /// None yet: waiting is better, or there is no place.
    Wait,
    /// There is no node that may ever have it.
    Nowhere,
}

/// Picks a node for `job`. `room_ms` is how long the jobs that wait before it will keep places busy.
pub(crate) fn pick(job: &JobAsk, scene: &Scene, room_ms: f64, book: &mut Book, rng: &mut dyn Rng) -> Pick {
    if !scene.nodes.iter().any(Estimate::is_usable) {
        return Pick::Nowhere;
    }
    let open: Vec<usize> = (0..scene.nodes.len()).filter(|at| scene.nodes[*at].is_open()).collect();
    let (nodes, open) = (&scene.nodes[..], &open[..]);
    let picked = match (job.policy, open) {
        (_, []) => None,
        (Policy::Predicted, _) => choose::predicted(job.size(), nodes, open, room_ms, rng),
        (_, [only]) => Some((*only, Reason::Only)),
        (Policy::LeastLoaded, _) => Some((least_loaded(nodes, open, rng), Reason::MostFree)),
        (Policy::P2c, _) => Some((better_of_two(nodes, open, rng), Reason::BetterOfTwo)),
        (Policy::WeightedRoundRobin, _) => Some((next_in_turn(nodes, open, book), Reason::Turn)),
        (Policy::Lottery, _) => Some((draw(open, |at| tickets(&nodes[at]), rng), Reason::Drawn)),
        (Policy::Hash, _) => Some(owner(job.key, nodes, open)),
    };
    let panic = |reason| if scene.panic { Reason::Panic } else { reason };
    picked.map_or(Pick::Wait, |(at, reason)| Pick::Take(at, panic(reason)))
}

fn least_loaded(nodes: &[Estimate], open: &[usize], rng: &mut dyn Rng) -> usize {
    let least = open.iter().map(|at| nodes[*at].used).fold(f64::INFINITY, f64::min);
    let equal: Vec<usize> = open.iter().copied().filter(|at| nodes[*at].used <= least + EQUAL_PART).collect();
    draw(&equal, |at| nodes[at].free.max(nodes[at].capacity / 100.0), rng)
}

fn better_of_two(nodes: &[Estimate], open: &[usize], rng: &mut dyn Rng) -> usize {
    let first = draw(open, |at| nodes[at].capacity, rng);
    let rest: Vec<usize> = open.iter().copied().filter(|at| *at != first).collect();
    let second = draw(&rest, |at| nodes[at].capacity, rng);
    let busy = |at: usize| nodes[at].jobs / nodes[at].capacity.max(0.01);
    if busy(second) < busy(first) { second } else { first }
}

/// Smooth weighted round robin, as nginx has it: all gain their weight, the richest pays what all gained.
fn next_in_turn(nodes: &[Estimate], open: &[usize], book: &mut Book) -> usize {
    let total: f64 = open.iter().map(|at| nodes[*at].capacity).sum();
    let mut richest = (open[0], f64::NEG_INFINITY);
    for at in open {
        let Some(account) = book.account_mut(nodes[*at].node) else { continue };
        account.turn = (account.turn + nodes[*at].capacity).clamp(-2.0 * total, 2.0 * total);
        if account.turn > richest.1 {
            richest = (*at, account.turn);
        }
    }
    if let Some(account) = book.account_mut(nodes[richest.0].node) {
        account.turn -= total;
    }
    richest.0
}

/// Tickets of a node in the lottery: the inverse of its estimated queue.
fn tickets(node: &Estimate) -> f64 {
    node.capacity / (node.jobs / node.capacity.max(0.01) + 1.0)
}

/// The first node in the order of the key that would not have more than its share with the job.
fn owner(key: u64, nodes: &[Estimate], open: &[usize]) -> (usize, Reason) {
    let usable: Vec<usize> = (0..nodes.len()).filter(|at| nodes[*at].is_usable()).collect();
    let jobs: f64 = usable.iter().map(|at| nodes[*at].jobs).sum();
    let capacity: f64 = usable.iter().map(|at| nodes[*at].capacity).sum();
    let bound = |at: usize| (BOUND * (jobs + 1.0) * nodes[at].capacity / capacity.max(0.01)).ceil();
    let score = |at: &usize| rank(key, nodes[*at].node, nodes[*at].capacity);
    let mut order = usable.clone();
    order.sort_unstable_by(|a, b| score(b).total_cmp(&score(a)));
    let fits = order.iter().position(|at| nodes[*at].is_open() && nodes[*at].jobs + 1.0 <= bound(*at));
    let first_open = || order.iter().position(|at| nodes[*at].is_open()).unwrap_or(0);
    let place = fits.unwrap_or_else(first_open);
    let reason = if place == 0 { Reason::Owner } else { Reason::Spilled };
    (order.get(place).copied().unwrap_or(open[0]), reason)
}

/// Weighted rendezvous rank of a node for a key (as `placement`, but it need not be equal on two machines).
fn rank(key: u64, node: NodeId, weight: f64) -> f64 {
    let mut z = key ^ node.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let unit = ((z >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    weight / -unit.ln()
}

/// Draws one of `open`, each as likely as its weight is large. All are equally likely where no weight is above 0.
pub(crate) fn draw(open: &[usize], weight: impl Fn(usize) -> f64, rng: &mut dyn Rng) -> usize {
    let total: f64 = open.iter().map(|at| weight(*at).max(0.0)).sum();
    if total <= 0.0 {
        return open[rng.below(open.len() as u64) as usize];
    }
    let mut left = unit(rng) * total;
    for at in open {
        left -= weight(*at).max(0.0);
        if left < 0.0 {
            return *at;
        }
    }
    open[open.len() - 1]
}

/// A number in [0, 1).
pub(crate) fn unit(rng: &mut dyn Rng) -> f64 {
    (rng.next() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
