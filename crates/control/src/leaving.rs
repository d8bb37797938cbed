//! Draining, resuming and removing nodes, as people ask for it. A removal first takes the vote, then the membership, then
//! the secrets; it says which secrets must be changed.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tutti_base::{Clock, Kind, NodeState, Nodes, Problem};
use tutti_store::{SecretError, Secrets};

use crate::journal::Journal;
use crate::quorum::Quorum;
use crate::roster::{NodeRecord, Roster, RosterError, Standing};

/// The most that a leaving voter may take to give up its vote.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(15);
/// The longest reason, in bytes.
pub const WHY_MAX: usize = 512;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether a node that does not answer may be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    /// It must answer.
    No,
    /// It is lost and never comes back.
    Yes,
}

/// Why a node stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaveError {
    /// The roster.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The secrets.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It would be nobody's cluster.
    #[error("`{0}` is the only node of the cluster; stop it instead of removing it")]
    Last(String),
    /// It does not answer.
    #[error("node `{0}` does not answer; if it never comes back, use `tutti node remove --force {0}`")]
    Down(String),
    /// It could not give up its vote.
    #[error(
        "node `{0}` still votes, and no other node could take its vote within {LEAVE_WITHIN:?}; see `tutti status`, \
         give another node the role voter, and try again"
    )]
    StillVotes(String),
    /// The reason is too long.
    #[error("the reason has {0} bytes; it may have {WHY_MAX}")]
    Why(usize),
}

impl From<LeaveError> for Problem {
    fn from(error: LeaveError) -> Self {
        let kind = match error {
            LeaveError::Roster(roster) => return roster.into(),
            LeaveError::Secret(secret) => return secret.into(),
            LeaveError::Last(_) | LeaveError::Down(_) => Kind::Conflict,
            LeaveError::StillVotes(_) => Kind::Unavailable,
            LeaveError::Why(_) => Kind::BadRequest,
        };
        Problem::new(kind, error.to_string())
    }
}

/// A node that was removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removal {
    /// Its record, as it is now.
    pub node: NodeRecord,
    /// The secrets that it could read: change them where it may have fallen into other hands.
    pub rotate: Vec<String>,
}

/// What leaving acts on.
pub struct Leaving {
    /// Who belongs to the cluster.
    pub roster: Arc<Roster>,
    /// What is sealed to nodes.
    pub secrets: Secrets,
    /// Who votes.
    pub quorum: Arc<dyn Quorum>,
    /// Who answers.
    pub nodes: Arc<dyn Nodes>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it is told.
    pub journal: Journal,
}

impl Leaving {
    /// Lets the node `name` finish what it has and take nothing new, because of `why`. Again with another reason it
    /// takes that.
    pub async fn drain(&self, name: &str, why: &str) -> Result<NodeRecord, LeaveError> {
        if why.len() > WHY_MAX {
            return Err(LeaveError::Why(why.len()));
        }
        let standing = Standing::Draining { why: why.into(), since: self.clock.wall() };
        let node = self.roster.set_standing(name, standing).await?;
        self.journal.note(format!("node `{name}` drains"), why);
        Ok(node)
    }

    /// Lets the node `name` take part again. One that was removed cannot.
    pub async fn resume(&self, name: &str, why: &str) -> Result<NodeRecord, LeaveError> {
        let node = self.roster.set_standing(name, Standing::Active).await?;
        self.journal.note(format!("node `{name}` takes part again"), why);
        Ok(node)
    }

    /// Removes the node `name` for good. Where it votes and answers, another takes its vote first; then its certificate is
    /// refused everywhere, and every secret is sealed anew without it. When it fails on the way the node is as it was.
    /// Not cancel-safe: dropped, the node may be left leaving, which a second try or [`Self::resume`] ends.
    pub async fn remove(&self, name: &str, force: Force, why: &str) -> Result<Removal, LeaveError> {
        let found = self.roster.by_name(name)?;
        let others = |node: &&NodeRecord| node.id != found.id && !node.standing.is_removed();
        if !self.roster.list()?.iter().any(|node| others(&node)) {
            return Err(LeaveError::Last(name.into()));
        }
        // Before it gives up its vote: from then on nothing of the cluster's is sealed to it any more.
        let rotate = self.secrets.readable_by(found.id)?;
        match (self.is_down(&found), force) {
            (true, Force::No) => return Err(LeaveError::Down(name.into())),
            // Its vote is taken by the reconciler: it is one of the dead, with or without its record.
            (true, Force::Yes) => {}
            (false, _) => self.take_vote(&found).await?,
        }
        let node = self.roster.set_standing(name, Standing::Removed { since: self.clock.wall() }).await?;
        self.journal.note(format!("node `{name}` was removed"), why);
        let resealed = self.secrets.reseal().await;
        if let Err(error) = &resealed {
            tracing::warn!(%error, "the secrets are still sealed to the removed node; it is tried again");
        }
        Ok(Removal { node, rotate })
    }

    fn is_down(&self, node: &NodeRecord) -> bool {
        let view = self.nodes.view();
        node.id != view.me && view.get(node.id).is_none_or(|member| member.state == NodeState::Down)
    }

    /// Marks it as leaving, which moves the planner, and waits until it votes no more.
    async fn take_vote(&self, node: &NodeRecord) -> Result<(), LeaveError> {
        let votes = || self.quorum.status().voters.contains(&node.id);
        self.roster.set_standing(&node.name, Standing::Leaving { since: self.clock.wall() }).await?;
        let until = self.clock.now() + LEAVE_WITHIN;
        while votes() && self.clock.now() < until {
            self.clock.sleep_until(self.clock.now() + LOOK_EVERY).await;
        }
        if votes() {
            self.roster.set_standing(&node.name, node.standing.clone()).await?;
            return Err(LeaveError::StillVotes(node.name.clone()));
        }
        Ok(())
    }
}
