//! What the quorum means just now, and what to do: one sentence for people. Decides nothing.

use tutti_base::NodeId;

use crate::quorum::QuorumStatus;
use crate::voters::NodeFacts;

/// One sentence on `status`: who votes, what may be lost, and the way out where writes wait. `nodes` gives the names, and
/// who is down.
pub fn sentence(status: &QuorumStatus, nodes: &[NodeFacts]) -> String {
    let people = People { status, nodes };
    let (up, down) = (people.voters(Is::Up), people.voters(Is::Down));
    if status.voters.is_empty() {
        return "This node does not know yet who votes: it waits for its first word from the cluster.".into();
    }
    if up.len() < status.majority() {
        return people.lost(&up, &down);
    }
    if status.leader.is_none() {
        return format!(
            "The voters {} are electing a leader: writes wait a moment, requests go on.",
            list(&up)
        );
    }
    match status.voters.len() {
        1 => people.one_voter(&up[0]),
        _ => several(status.voters.len(), &up, &down),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Is {
    Up,
    Down,
}

struct People<'a> {
    status: &'a QuorumStatus,
    nodes: &'a [NodeFacts],
}

impl People<'_> {
    fn name(&self, id: NodeId) -> String {
        let found = self.nodes.iter().find(|node| node.id == id);
        found.map_or_else(|| format!("`{id}`"), |node| format!("`{}`", node.name))
    }

    fn is(&self, id: NodeId) -> Is {
        let node = self.nodes.iter().find(|node| node.id == id);
        if node.is_some_and(|node| node.down_for.is_some()) { Is::Down } else { Is::Up }
    }

    fn voters(&self, is: Is) -> Vec<String> {
        let voters = self.status.voters.iter().filter(|id| self.is(**id) == is);
        voters.map(|id| self.name(*id)).collect()
    }

    fn learners(&self, is: Is) -> Vec<String> {
        let learners = self.status.learners.iter().filter(|id| self.is(**id) == is);
        learners.map(|id| self.name(*id)).collect()
    }

    /// Without the marks, for a command to paste.
    fn to_promote(&self, up: &[String]) -> Option<String> {
        let learners = self.learners(Is::Up);
        let name = up.first().or(learners.first())?;
        Some(name.trim_matches('`').to_owned())
    }

    fn lost(&self, up: &[String], down: &[String]) -> String {
        let some = if up.is_empty() { "none".into() } else { format!("only {}", list(up)) };
        let missing = self.status.majority() - up.len();
        let one_of = if missing == down.len() { list(down) } else { format!("{missing} of {}", list(down)) };
        let returns = if missing == 1 { "returns" } else { "return" };
        let way_out = match self.to_promote(up) {
            Some(name) => format!(", or you run `tutti promote {name}`"),
            None => String::new(),
        };
        let voters = match self.status.voters.len() {
            1 => "the one voter does not answer".into(),
            some_voters => format!("of {some_voters} voters {some} answers"),
        };
        format!(
            "The quorum is lost: {voters}; writes wait until {one_of} {returns}{way_out}; requests go on."
        )
    }

    fn one_voter(&self, voter: &str) -> String {
        let learners: Vec<String> = [Is::Up, Is::Down].into_iter().flat_map(|is| self.learners(is)).collect();
        match learners.as_slice() {
            [] => format!(
                "One node, {voter}, is the whole cluster: if it stops, everything waits for it; with three nodes one \
                 may be lost."
            ),
            [other] => format!(
                "Two nodes, one voter ({voter}) and one learner ({other}): if {voter} stops, writes wait until it \
                 returns or you run `tutti promote {}`; requests go on.",
                other.trim_matches('`')
            ),
            [first, ..] => format!(
                "One voter ({voter}) and {} learners: if {voter} stops, writes wait until it returns or you run \
                 `tutti promote {}`; requests go on. Three vote by themselves as soon as three nodes with the role \
                 voter are in step.",
                learners.len(),
                first.trim_matches('`')
            ),
        }
    }
}

fn several(voters: usize, up: &[String], down: &[String]) -> String {
    let majority = voters / 2 + 1;
    let spare = up.len() - majority;
    match (down, spare) {
        ([], 0) => format!(
            "{voters} voters, {}: if either stops, writes wait until it returns; requests go on.",
            list(up)
        ),
        ([], 1) => format!("{voters} voters, {}: any one may stop, and writes go on.", list(up)),
        ([], _) => format!("{voters} voters, {}: any {spare} may stop, and writes go on.", list(up)),
        (_, 0) => format!(
            "{voters} voters, of which {} is down: writes go on, and wait if one more stops; a voter that is down for \
             a minute is replaced where another node with the role voter is in step.",
            list(down)
        ),
        (_, _) => format!(
            "{voters} voters, of which {} is down: writes go on, and {spare} more may stop.",
            list(down)
        ),
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{facts, voters};

    fn said(lead: Option<u64>, voting: &[u64], learning: &[u64], down: &[u64]) -> String {
        let mut status = voters(voting);
        status.leader = lead.map(NodeId);
        status.learners = learning.iter().map(|id| NodeId(*id)).collect();
        let nodes: Vec<NodeFacts> = (1..=5)
            .map(|id| NodeFacts {
                down_for: down.contains(&id).then_some(Duration::from_secs(1)),
                ..facts(id)
            })
            .collect();
        sentence(&status, &nodes)
    }

    #[test]
    fn golden_sentences() {
        for (text, expected) in [
            (
                said(Some(1), &[1], &[], &[]),
                "One node, `n1`, is the whole cluster: if it stops, everything waits for it; with three nodes one may be lost.",
            ),
            (
                said(Some(1), &[1], &[2], &[]),
                "Two nodes, one voter (`n1`) and one learner (`n2`): if `n1` stops, writes wait until it returns or you run `tutti promote n2`; requests go on.",
            ),
            (
                said(None, &[1], &[2], &[1]),
                "The quorum is lost: the one voter does not answer; writes wait until `n1` returns, or you run `tutti promote n2`; requests go on.",
            ),
            (
                said(Some(1), &[1, 2, 3], &[], &[]),
                "3 voters, `n1`, `n2` and `n3`: any one may stop, and writes go on.",
            ),
            (
                said(Some(1), &[1, 2, 3], &[], &[3]),
                "3 voters, of which `n3` is down: writes go on, and wait if one more stops; a voter that is down for a minute is replaced where another node with the role voter is in step.",
            ),
            (
                said(None, &[1, 2, 3], &[], &[3]),
                "The voters `n1` and `n2` are electing a leader: writes wait a moment, requests go on.",
            ),
            (
                said(None, &[1, 2, 3], &[], &[2, 3]),
                "The quorum is lost: of 3 voters only `n1` answers; writes wait until 1 of `n2` and `n3` returns, or you run `tutti promote n1`; requests go on.",
            ),
            (
                said(Some(1), &[1, 2, 3, 4, 5], &[], &[]),
                "5 voters, `n1`, `n2`, `n3`, `n4` and `n5`: any 2 may stop, and writes go on.",
            ),
            (
                said(None, &[], &[], &[]),
                "This node does not know yet who votes: it waits for its first word from the cluster.",
            ),
        ] {
            assert_eq!(text, expected);
        }
    }
}
