//! The policy `predicted`: the node that is expected to finish first. Adds up terms that others computed; measures nothing.
//!
//! # The formula
//!
//! For a job of class `k` and a node `i`, all in milliseconds, so that no term needs a weight (in brackets: the name in
//! `explain`):
//!
//! ```text
//! T_i = predicted_k                                     [heuristics]
//!     + predicted_k * (ratio_ik * stretch_i - 1)        [performance history]
//!     + rtt_i + bytes / throughput_i                    [network congestion]
//!     + (1 - P(i has the original)) * cost to get it    [missing original]
//!     + wait_i                                          [availability: wait]
//!     + P(i fails) * max(5 s, Retry-After)              [availability: failures]
//! ```
//!
//! **ratio** (`history`): mean of `ln(measured / predicted)` by node and class. Evidence halves in 30 s and counts for at
//! most 50 jobs; one job "as predicted" is the seed, so nothing is ever 0; without news the ratio halves its distance
//! to 1 every minute. Of the distance from the mean of all nodes, as much as may be chance, `0.5 / sqrt(evidence + 1)`, is
//! not believed. (Without this, five equal nodes at load 0.1 did work of max/min 1.57: who looked slow by bad luck was
//! left alone, and nothing put it right. It is how traefik#12306 starves servers.)
//!
//! **wait** (`estimate`): with `B` ms of work and `j` jobs on a node of `p` permits and `c` cores,
//! `B / c * max(0, j + 1 - p) / j`: of the work that is there, what lies before the first free permit; nothing while a
//! permit is free. What is overdue adds its lateness, by permit. Small jobs count only small ones, and the permits that
//! heavy ones leave, and one more (size-interval assignment: Harchol-Balter, Crovella, Murta 1998).
//!
//! **B and j** (`book`, `estimate`): `own + others`. *Own* is what this dispatcher sent and has not seen finished: exact
//! and never old. Fox et al. (SOSP 1997, 4.5) found that queues swing while a front end acts on reports alone, and that
//! they stop when it adds its own estimate of what it sent since. *Others* is the last report less what was ours in it,
//! and it alone grows old: `usual + (told - usual) * exp(-age / 500 ms)`, where *usual* is the mean over all nodes,
//! each as far as it is trusted, and over time. That is interpreting a report by its age (Dahlin, TPDS 2000): a fresh one
//! is believed, and a very old one says no more than that a node is like the others, so the choice becomes even instead of
//! sending everybody to whoever was idle once (Mitzenmacher, "How Useful Is Old Information?", TPDS 2000). Since the
//! other dispatchers read the same reports, what we sent more than usual since then they sent too, each by its share of
//! all work: `own_now - own_then` counts `1 / share` times, for as long as the report is trusted.
//!
//! # The choice
//!
//! 1. A node has `permits + 1` places for heavy jobs and `permits + 4` for small ones; the rest wait here, where a death
//!    or a better node costs nothing. A new node's places and weight grow from next to nothing to all in 10 s.
//! 2. If waiting for a full node is expected to end sooner (by a tenth) than the best open one, the job waits.
//! 3. 1 % of the jobs go to the node that was given nothing for longest, if a second lot allows it: the more rarely the
//!    longer it is expected to take. (A flat 1 % to nodes 16 times slower is just what a p99 sees.)
//! 4. Among those within a tenth of the best, two are drawn by what is free of them, and the better is taken: for a heavy
//!    job the one that was given less work lately, for a small one the one that is more free. Drawing breaks the herd; taking the lesser of two makes shares even (Mitzenmacher 2001). Prequal
//!    (Wydmuch et al., NSDI 2024) too chooses by latency among what is not hot, from probes; here the reports travel on the
//!    answers, since probing each request lost a quarter of the throughput on few CPU-bound nodes (reference/cluster.md, A2).
//!
//! **Failures**: linkerd records a failure as a latency of 5 s, or of Retry-After, so that a node that fails fast is slow
//! and not fast. Here that penalty is multiplied with the share of failures among recent outcomes (halving each second,
//! or each fifth of Retry-After), so that one broken connection among a thousand answers costs 5 ms and not a node. Three
//! failures in a row also open its breaker, for 1 s doubling to 30 s, after which one job is the trial.

use tutti_base::rng::Rng;

use crate::estimate::Estimate;
use crate::explained::Reason;
use crate::job::Size;
use crate::policy::{draw, unit};

/// Nodes within this factor of the best are as good: the choice among them is random.
pub const NEAR: f64 = 1.10;
/// The part of all jobs that may go to the node that was given nothing for longest.
pub const EXPLORE: f64 = 0.01;
/// The least weight of a node among the near-best, as a part of its cores.
const FREE_MIN: f64 = 0.1;

/// Picks the place of one of `open`, or none where waiting for a node that is full now ends sooner. `room_ms` is how
/// long the jobs that wait before this one keep places busy.
pub(crate) fn predicted(
    size: Size,
    nodes: &[Estimate],
    open: &[usize],
    room_ms: f64,
    rng: &mut dyn Rng,
) -> Option<(usize, Reason)> {
    let best = open.iter().map(|at| nodes[*at].total_ms).fold(f64::INFINITY, f64::min);
    let full = nodes.iter().filter(|node| node.is_usable() && !node.is_open());
    let later = full.map(|node| node.total_ms + room_ms).fold(f64::INFINITY, f64::min);
    if later * NEAR < best {
        return None;
    }
    if let Some(at) = explore(nodes, open, best, rng) {
        return Some((at, Reason::Explored));
    }
    let near: Vec<usize> = open.iter().copied().filter(|at| nodes[*at].total_ms <= best * NEAR).collect();
    match near[..] {
        [only] => Some((only, if open.len() == 1 { Reason::Only } else { Reason::Best })),
        _ => Some((among_equals(size, nodes, &near, rng), Reason::Near)),
    }
}

/// Two by lot, by what is free of them, and of these the better: random enough that the other dispatchers do not choose
/// the same, and more even than chance. Better for a small job is what is more free, since it hardly ever waits but for
/// another small one; for a heavy job, what was given less work lately.
fn among_equals(size: Size, nodes: &[Estimate], near: &[usize], rng: &mut dyn Rng) -> usize {
    let weight = |at: usize| nodes[at].free.max(nodes[at].capacity * FREE_MIN);
    let (first, second) = (draw(near, weight, rng), draw(near, weight, rng));
    let second_is_better = match size {
        Size::Small => nodes[second].free > nodes[first].free,
        Size::Heavy => matches!((nodes[first].given_ms, nodes[second].given_ms), (Some(a), Some(b)) if b < a),
    };
    if second_is_better { second } else { first }
}

/// Now and then the node that was given nothing for longest, the more rarely the longer it would take: looking must
/// not cost more than it may find.
fn explore(nodes: &[Estimate], open: &[usize], best: f64, rng: &mut dyn Rng) -> Option<usize> {
    if unit(rng) >= EXPLORE {
        return None;
    }
    let longest = open.iter().copied().min_by_key(|at| (nodes[*at].sampled, nodes[*at].node))?;
    let worth = best / nodes[longest].total_ms.max(best).max(f64::MIN_POSITIVE);
    (unit(rng) < worth).then_some(longest)
}

#[cfg(test)]
mod tests;
