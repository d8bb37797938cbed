//! What the administration asks of other nodes: to promote themselves, and for their journals. Any node manages all.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tutti_admin::console::{Event, EventPage, EventQuery, Promoted};
use tutti_base::envelope::{self, Versioned};
use tutti_base::{
    BoxFuture, Call, CallError, Kind, Lane, NodeId, NodeState, Nodes, Peers, Problem, Reply, Roles, Serve,
    Topic,
};

use super::governing;
use crate::build::House;

/// Another node's journal is waited for this long.
const JOURNAL_WITHIN: Duration = Duration::from_millis(500);
/// A promotion takes at most this long.
const PROMOTE_WITHIN: Duration = Duration::from_secs(15);
/// Who waits for events looks at the other nodes' journals again this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Serialize, Deserialize)]
enum Ask {
    /// Make yourself the one voter.
    Promote {
        /// Your name, as the one who asks knows it.
        name: String,
        /// Who says so.
        who: String,
    },
    /// Your journal after an event.
    Journal {
        /// Its number.
        after: u64,
    },
}

impl Versioned for Ask {
    const KIND: u8 = 130;
    const VERSION: u16 = 1;
}

/// What is answered.
#[derive(Serialize, Deserialize)]
enum Told {
    Promoted { epoch: u64, text: String },
    Journal(Vec<tutti_control::Event>),
}

impl Versioned for Told {
    const KIND: u8 = 131;
    const VERSION: u16 = 1;
}

/// Answers other nodes' administrations.
pub(crate) struct Abroad(pub Weak<House>);

impl Serve for Abroad {
    fn serve(&self, from: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
        let house = self.0.upgrade();
        Box::pin(async move {
            let house = house.ok_or_else(|| Problem::new(Kind::Unavailable, "this node is stopping"))?;
            may_order(&house, from)?;
            let ask: Ask = envelope::open(&call.head).map_err(|error| {
                Problem::new(Kind::Unavailable, "an order that this node does not know").because(error)
            })?;
            let told = match ask {
                Ask::Promote { name, who } => {
                    let done = governing::promote_here(&house.member, name, who).await?;
                    Told::Promoted { epoch: done.epoch, text: done.text }
                }
                Ask::Journal { after } => Told::Journal(house.member.journal.list(after, usize::MAX)),
            };
            Ok(Reply::of(envelope::seal(&told)))
        })
    }
}

/// Only nodes at which people are served or which vote may pass on what people order: a worker has no business here.
fn may_order(house: &House, from: NodeId) -> Result<(), Problem> {
    let nodes = house.member.roster.nodes();
    let node = nodes.iter().find(|node| node.id == from && node.standing.stays());
    match node {
        Some(node) if node.roles.has(Roles::FRONT) || node.roles.has(Roles::VOTER) => Ok(()),
        _ => Err(Problem::new(
            Kind::Forbidden,
            "this node passes on orders of nodes with the role front or voter alone",
        )),
    }
}

async fn ask(house: &House, node: NodeId, ask: &Ask, within: Duration) -> Result<Told, Problem> {
    let head = Bytes::from(envelope::seal(ask));
    let call = Call { topic: Topic::ADMIN, lane: Lane::Control, head, body: Bytes::new(), within };
    let reply = house.member.links.call(node, call).await.map_err(|error| match error {
        CallError::Refused(_, problem) => *problem,
        other => Problem::new(Kind::Unavailable, other.to_string()),
    })?;
    envelope::open(&reply.head)
        .map_err(|error| Problem::new(Kind::Unavailable, "a node's answer could not be read").because(error))
}

/// Makes the node `name` the one voter, wherever it is.
pub(super) async fn promote(house: &House, name: String, who: String) -> Result<Promoted, Problem> {
    let record = house.member.roster.by_name(&name)?;
    if record.id == house.member.quorum.status().me {
        return governing::promote_here(&house.member, name, who).await;
    }
    match ask(house, record.id, &Ask::Promote { name: name.clone(), who }, PROMOTE_WITHIN).await? {
        Told::Promoted { epoch, text } => Ok(Promoted { name, epoch, text }),
        Told::Journal(_) => Err(Problem::new(Kind::Internal, "the node answered something else")),
    }
}

/// Up to which event of each node's journal something was seen.
type Seen = BTreeMap<NodeId, u64>;

fn read_cursor(cursor: &str) -> Option<Seen> {
    let one = |part: &str| {
        let (node, number) = part.split_once(':')?;
        Some((node.parse().ok()?, number.parse().ok()?))
    };
    cursor.split(',').filter(|part| !part.is_empty()).map(one).collect()
}

fn write_cursor(seen: &Seen) -> String {
    seen.iter().map(|(node, number)| format!("{node}:{number}")).collect::<Vec<_>>().join(",")
}

/// The journals of all nodes that answer, after a cursor, in the order of time.
pub(super) async fn events(house: &House, query: EventQuery) -> Result<EventPage, Problem> {
    let mut seen = match &query.after {
        None => Seen::new(),
        Some(cursor) => read_cursor(cursor).ok_or_else(|| {
            Problem::new(Kind::BadRequest, format!("`{cursor}` is no cursor; leave it out"))
        })?,
    };
    let until = house.clock.now() + query.wait;
    loop {
        let before = seen.clone();
        let mut found = journals(house, &seen).await;
        found.sort_by_key(|event| (event.when, event.node, event.number));
        if found.is_empty() && house.clock.now() < until {
            house.clock.sleep_until(until.min(house.clock.now() + LOOK_EVERY)).await;
            continue;
        }
        let skipped = if query.after.is_none() { found.len().saturating_sub(query.limit) } else { 0 };
        let page: Vec<_> = found.drain(..(skipped + query.limit).min(found.len())).collect();
        let mut missed = false;
        for event in &page {
            let known = seen.insert(event.node, event.number);
            missed |= before.contains_key(&event.node) && known.is_some_and(|known| event.number > known + 1);
        }
        let events = page.into_iter().skip(skipped).map(|event| named(house, event)).collect();
        return Ok(EventPage { events, cursor: write_cursor(&seen), missed });
    }
}

async fn journals(house: &House, seen: &Seen) -> Vec<tutti_control::Event> {
    let view = house.member.nodes.view();
    let after = |node: NodeId| seen.get(&node).copied().unwrap_or(0);
    let others = view.others().filter(|member| member.state != NodeState::Down).map(|member| async {
        match ask(house, member.id, &Ask::Journal { after: after(member.id) }, JOURNAL_WITHIN).await {
            Ok(Told::Journal(events)) => events,
            Ok(Told::Promoted { .. }) | Err(_) => Vec::new(),
        }
    });
    let mut found = house.member.journal.list(after(view.me), usize::MAX);
    found.extend(join_all(others).await.into_iter().flatten());
    found
}

fn named(house: &House, event: tutti_control::Event) -> Event {
    let nodes = house.member.roster.nodes();
    let node = nodes.iter().find(|node| node.id == event.node);
    let node = node.map_or_else(|| event.node.to_string(), |node| node.name.clone());
    Event { when: event.when, node, what: event.what, why: event.why }
}

/// Begins to answer other nodes' administrations.
pub(crate) fn answer_abroad(house: &Arc<House>) {
    house.member.links.register(Topic::ADMIN, Arc::new(Abroad(Arc::downgrade(house))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let seen = Seen::from([(NodeId(7), 3), (NodeId(u64::MAX), 9)]);
        assert_eq!(read_cursor(&write_cursor(&seen)), Some(seen));
        assert_eq!(read_cursor(""), Some(Seen::new()));
        assert_eq!(read_cursor("7"), None);
    }
}
