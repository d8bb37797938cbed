//! Orders to nodes, promotion, the journal and restoring: what is asked, and what was done. Values only.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tutti_base::{Roles, Wall};

/// The most events of one page.
pub const EVENTS_MAX: usize = 1000;

/// What a node is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeOrder {
    /// Its name, or its id.
    pub name: String,
    /// What to do.
    pub action: NodeAction,
    /// Who says so.
    pub who: String,
}

/// What a node is told, as a call carries it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum NodeAction {
    /// Finish what it has and take nothing new.
    Drain {
        /// Why; for the journal.
        #[serde(default)]
        why: String,
    },
    /// Take work again.
    Resume {},
    /// Leave the cluster for good; its certificate is refused from then on.
    Remove {
        /// Also if it does not answer.
        #[serde(default)]
        force: bool,
    },
    /// Have these roles and no others.
    Roles {
        /// Their words.
        roles: Vec<String>,
    },
}

impl NodeAction {
    /// What is wrong with it, where something is.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            NodeAction::Roles { roles } => parse_roles(roles).map(|_| ()),
            _ => Ok(()),
        }
    }
    /// The roles of `Roles`, if it is that and they make sense.
    pub fn roles(&self) -> Option<Roles> {
        match self {
            NodeAction::Roles { roles } => parse_roles(roles).ok(),
            _ => None,
        }
    }
}

fn parse_roles(words: &[String]) -> Result<Roles, String> {
    let roles: Roles = words.join(",").parse()?;
    if roles == Roles::default() {
        return Err("a node needs a role; roles are front, worker, voter and cache".into());
    }
    Ok(roles)
}

/// What became of an order to a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeDone {
    /// The node's name.
    pub name: String,
    /// One sentence for people.
    pub text: String,
    /// The names of the secrets that a removed node could read: rotate them.
    #[serde(default)]
    pub rotate: Vec<String>,
}

/// Makes a node the one voter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteCall {
    /// Its name.
    pub name: String,
    /// Its name once more.
    pub confirm: String,
}

/// What became of a promotion.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Promoted {
    /// The node's name.
    pub name: String,
    /// The new epoch; nodes of an older one are refused.
    pub epoch: u64,
    /// What it means and what happens to late writes, for people.
    pub text: String,
}

/// One entry of the journal.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub when: Wall,
    /// The node that it concerns, by name.
    pub node: String,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Which part of the journal is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventQuery {
    /// Only what came after this cursor; the newest events without one.
    pub after: Option<String>,
    /// At most this many, 1 to [`EVENTS_MAX`].
    pub limit: usize,
    /// How long to wait where there is nothing yet; zero for not at all.
    pub wait: Duration,
}

/// A part of the journal.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EventPage {
    /// Oldest first.
    pub events: Vec<Event>,
    /// What to ask after next. Means nothing to anybody but the server.
    pub cursor: String,
    /// Whether events between the cursor that was asked after and these are forgotten.
    #[serde(default)]
    pub missed: bool,
}

/// What a restore did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RestoreDone {
    /// Entries that were written.
    pub entries: u64,
    /// The revision that holds them.
    pub revision: u64,
    /// One sentence for people.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_written_as_people_would() {
        for (json, action) in [
            (r#"{"drain":{"why":"disk"}}"#, NodeAction::Drain { why: "disk".into() }),
            (r#"{"drain":{}}"#, NodeAction::Drain { why: String::new() }),
            (r#"{"resume":{}}"#, NodeAction::Resume {}),
            (r#"{"remove":{"force":true}}"#, NodeAction::Remove { force: true }),
            (r#"{"roles":{"roles":["front"]}}"#, NodeAction::Roles { roles: vec!["front".into()] }),
        ] {
            assert_eq!(serde_json::from_str::<NodeAction>(json).unwrap(), action);
            assert_eq!(action.validate(), Ok(()));
        }
        let none = NodeAction::Roles { roles: vec![] };
        assert!(none.validate().unwrap_err().contains("needs a role"));
        assert!(serde_json::from_str::<NodeAction>(r#"{"remove":{"froce":true}}"#).is_err());
    }
}
