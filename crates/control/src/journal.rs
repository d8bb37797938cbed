//! What happened in the cluster and why, as this node saw it: a bounded ring in memory, and the log. Decides nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tutti_base::{Clock, NodeId, Wall};

/// The most events kept; the oldest go first.
pub const EVENTS_MAX: usize = 1000;
/// The longest text of an event, in bytes; more is cut off.
pub const TEXT_MAX: usize = 1024;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with every event of one run of the node.
    pub number: u64,
    /// When.
    pub when: Wall,
    /// Which node noted it.
    pub node: NodeId,
    /// What: one sentence.
    pub what: String,
    /// Why: the cause, or what the person gave as the reason. May be empty.
    pub why: String,
}

/// The events of this node. Cloning shares them.
#[derive(Clone)]
pub struct Journal {
    node: NodeId,
    clock: Arc<dyn Clock>,
    ring: Arc<Mutex<Ring>>,
    newest: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Event>,
    newest: u64,
}

impl Journal {
    /// An empty journal of `node`.
    pub fn new(node: NodeId, clock: Arc<dyn Clock>) -> Self {
        Self { node, clock, ring: Arc::default(), newest: Arc::new(watch::Sender::new(0)) }
    }

    /// Notes that `what` happened because of `why`. Never waits.
    pub fn note(&self, what: impl Into<String>, why: impl Into<String>) {
        let (what, why) = (cut(what.into()), cut(why.into()));
        tracing::info!(node = %self.node, why, "{what}");
        let when = self.clock.wall();
        let number = {
            let mut ring = self.ring();
            ring.newest += 1;
            let number = ring.newest;
            if ring.events.len() >= EVENTS_MAX {
                ring.events.pop_front();
            }
            ring.events.push_back(Event { number, when, node: self.node, what, why });
            number
        };
        self.newest.send_if_modified(|newest| {
            let is_newer = number > *newest;
            *newest = number.max(*newest);
            is_newer
        });
    }

    /// The events after number `after`, oldest first, at most `most`. The first number tells whether some are gone.
    pub fn list(&self, after: u64, most: usize) -> Vec<Event> {
        let ring = self.ring();
        ring.events.iter().filter(|event| event.number > after).take(most).cloned().collect()
    }

    /// The events from now on.
    pub fn follow(&self) -> Follow {
        self.follow_after(self.ring().newest)
    }

    /// The events after number `after`.
    pub fn follow_after(&self, after: u64) -> Follow {
        Follow { journal: self.clone(), after, newest: self.newest.subscribe() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader of events as they happen.
pub struct Follow {
    journal: Journal,
    after: u64,
    newest: watch::Receiver<u64>,
}

impl Follow {
    /// The next event; one that reads too slowly misses those that the ring has dropped, which the numbers tell.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Event {
        loop {
            self.newest.borrow_and_update();
            if let Some(event) = self.journal.list(self.after, 1).pop() {
                self.after = event.number;
                return event;
            }
            // The sender lives as long as the journal, which this holds.
            let _ = self.newest.changed().await;
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use tutti_store::simulated::ManualClock;

    use super::*;

    fn journal() -> Journal {
        Journal::new(NodeId(1), Arc::new(ManualClock::default()))
    }

    #[test]
    fn the_ring_keeps_the_newest_and_their_numbers_tell_what_is_gone() {
        let journal = journal();
        for number in 0..=EVENTS_MAX {
            journal.note(format!("event {number}"), "");
        }
        let events = journal.list(0, usize::MAX);
        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!((events[0].number, events[0].what.as_str()), (2, "event 1"));
        assert_eq!(journal.list(EVENTS_MAX as u64, 10).len(), 1);
        journal.note("é".repeat(TEXT_MAX), "");
        assert_eq!(journal.list(EVENTS_MAX as u64 + 1, 1)[0].what.len(), TEXT_MAX);
    }

    #[tokio::test]
    async fn who_follows_sees_every_event_once_and_in_order() {
        let journal = journal();
        journal.note("before", "");
        let mut follow = journal.follow();
        let other = journal.clone();
        let noting = tokio::spawn(async move {
            for number in 0..100 {
                other.note(format!("{number}"), "because");
                tokio::task::yield_now().await;
            }
        });
        for number in 0..100 {
            assert_eq!(follow.next().await.what, format!("{number}"));
        }
        noting.await.unwrap();
    }
}
