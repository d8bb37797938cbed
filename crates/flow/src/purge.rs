//! The purge log: numbered, bounded, checked lazily. What was fetched before a matching purge is neither served nor kept.
//!
//! Each node numbers its own purges; every node keeps those of all in one log, in the order in which it learned of them.
//! An entry remembers the last purge of this order that it was checked against, so that a hit compares two numbers. What
//! comes from a peer names, by node, the purges it has survived there. A gap past a log's beginning makes everything
//! that it may concern stale for good. Nobody knows a node's numbers better than that node: what others say of them is
//! corrected by its own word.

mod journal;
mod kept;
#[cfg(test)]
mod tests;
mod what;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tutti_base::envelope::{EnvelopeError, Versioned};
use tutti_base::{Clock, Kind, NodeId, Problem, RequestKey, SourceKey, Tick, Wall};
use tutti_cache::{Binding, Entry};
use tutti_telemetry::Metrics;

use crate::purge::journal::Journal;
use crate::purge::kept::{Kept, Take};
pub use crate::purge::what::{What, named_tag, source_tag};
use crate::wire::{WireBehind, WireMissing};
use crate::{PurgeKeeper, Spawn};

/// How many purges the log holds; what was fetched before the oldest of them counts as purged.
pub const LOG_LEN_MAX: usize = 4096;
/// How many deletions of files are remembered, apart from the log; the oldest go first.
pub const DELETIONS_MAX: usize = 65_536;
/// The most requests that one purge names.
pub const KEYS_MAX: usize = 256;
/// The longest tag, and the longest name of a folder, that a purge names, in bytes.
pub const TAG_LEN_MAX: usize = 1024;
/// The longest path that a deletion names, in bytes.
pub const PATH_LEN_MAX: usize = 4096;
/// Nodes that are no members, or not any more, of which purges are known; no purges of more of them are taken.
pub const STRANGERS_MAX: usize = 64;
/// By how much a node's number may be ahead of what is known of it. More is taken for a lie.
pub const STEP_MAX: u64 = 1 << 32;
/// Purges that are in force and not written yet; then no more are taken.
pub const UNWRITTEN_MAX: usize = 4096;
/// The most bytes of purges in one answer to a node that was away; it asks again for the rest.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// The most pages that are asked of one node at a time; the rest comes with the next comparison.
pub const PAGES_MAX: usize = 4096;

/// A node whose beat is this late was stopped or cut short, and may have missed what others told it meanwhile.
pub const PAUSE_MAX: Duration = Duration::from_millis(600);

/// The node that stands for purges of before there were nodes; they concern this node alone.
pub const NOBODY: NodeId = NodeId(0);

/// By node, the number up to which its purges are known, without gaps.
pub type Vector = BTreeMap<NodeId, u64>;

/// One purge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Purge {
    /// Its place in this node's order; it only grows. Means nothing to other nodes.
    pub sequence: u64,
    /// Whose purge it is.
    pub origin: NodeId,
    /// Its number there, 1 for the first; without gaps, unless that node lost its log.
    pub number: u64,
    /// What it takes away.
    pub what: What,
}

/// Version 1, from before there were nodes.
#[derive(Deserialize)]
struct PurgeOfOne {
    sequence: u64,
    what: What,
}

impl Versioned for Purge {
    const KIND: u8 = 4;
    const VERSION: u16 = 2;
    fn migrate(version: u16, payload: &[u8]) -> Result<Self, EnvelopeError> {
        if version != 1 {
            return Err(EnvelopeError::Version { kind: Self::KIND, found: version, newest: Self::VERSION });
        }
        let old: PurgeOfOne = tutti_base::envelope::payload(Self::KIND, payload)?;
        Ok(Self { sequence: old.sequence, origin: NOBODY, number: old.sequence, what: old.what })
    }
}

/// How far the purges of everyone are known, as it is stored beside them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownPurges(pub Vector);

impl Versioned for KnownPurges {
    const KIND: u8 = 92;
    const VERSION: u16 = 1;
}

/// The log as its keeper has it.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The purges, in their order.
    pub purges: Vec<Purge>,
    /// How far the purges of everyone are known; none where a version that did not keep it wrote the log.
    pub vector: Option<Vector>,
    /// Deletions of files, each a purge with [`What::Deleted`].
    pub deletions: Vec<Purge>,
    /// Places in the order where a purge was that cannot be read.
    pub damaged: Vec<u64>,
    /// Whether all of it could be read.
    pub reading: Reading,
}

/// How the reading of a log went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reading {
    /// All that was kept is known.
    #[default]
    Whole,
    /// Something was lost: everything kept counts as purged.
    Lost,
}

/// What is to be kept together, whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Write {
    /// New purges, in their order.
    pub purges: Vec<Purge>,
    /// Places in the order whose purges are to be let go.
    pub forgotten: Vec<u64>,
    /// By file, the purge that deleted it last; none where that is to be let go. No file twice.
    pub deletions: Vec<(SourceKey, Option<Purge>)>,
    /// How far the purges of everyone are known with these.
    pub vector: Vector,
}

/// This node's log of everyone's purges.
pub struct PurgeLog {
    me: NodeId,
    newest: AtomicU64,
    kept: RwLock<Kept>,
    journal: Arc<Journal>,
    unsettled: AtomicBool,
    settled: Notify,
    /// The tick of the last beat; 0: none is expected.
    beat: AtomicU64,
}

/// Some purges before those that a peer told of are missing here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap;

/// What became of a peer's answer to what is missing here.
#[derive(Default)]
pub(crate) struct Caught {
    /// The purges in force from now on that were not before.
    pub(crate) taken: Vec<Purge>,
    /// Whose purges were not taken: strangers beyond [`STRANGERS_MAX`], and numbers beyond [`STEP_MAX`].
    pub(crate) refused: Vec<NodeId>,
}

impl PurgeLog {
    /// Reads the log as it was kept, for the node `me`. Where something was lost, everything kept counts as purged, and
    /// this node's numbers go on from the seconds since 1970: further than a purge a second could have come.
    pub fn load(
        keeper: Arc<dyn PurgeKeeper>,
        spawn: Arc<dyn Spawn>,
        me: NodeId,
        now: Wall,
        metrics: &Metrics,
    ) -> Self {
        let stored = keeper.load();
        let is_lost = stored.reading == Reading::Lost || !stored.damaged.is_empty();
        let (mut kept, steps) = Kept::of(stored);
        let journal = Arc::new(Journal::new(keeper, spawn, kept.newest(), kept.vector.clone(), metrics));
        steps.into_iter().for_each(|step| journal.push(step));
        if is_lost {
            let own = kept.vector.get(&me).copied().unwrap_or(0);
            kept.vector.insert(me, own.max(now.0 / 1000));
            kept.skip_to(now.0);
            journal.push(kept.note(Purge { sequence: 0, origin: NOBODY, number: 0, what: What::All }));
            journal.push(kept.note_vector());
        }
        journal.begin();
        Self::limits(metrics);
        let newest = AtomicU64::new(kept.newest());
        let kept = RwLock::new(kept);
        let (unsettled, settled, beat) = (AtomicBool::new(false), Notify::new(), AtomicU64::new(0));
        Self { me, newest, kept, journal, unsettled, settled, beat }
    }

    fn limits(metrics: &Metrics) {
        let limits = [
            ("purges", "Purges that the log holds", LOG_LEN_MAX as u64),
            ("purge_deletions", "Deletions of files that are remembered", DELETIONS_MAX as u64),
            ("purge_keys", "Requests that one purge names", KEYS_MAX as u64),
            ("purge_tag_bytes", "Longest tag that a purge names", TAG_LEN_MAX as u64),
            ("purge_strangers", "Nodes that are no members whose purges are known", STRANGERS_MAX as u64),
            ("purges_unwritten", "Purges in force and not written yet", UNWRITTEN_MAX as u64),
            ("purge_page_bytes", "Bytes of purges in one answer", PAGE_BYTES_MAX as u64),
            ("purge_pages", "Answers that are asked for in a row", PAGES_MAX as u64),
        ];
        limits.into_iter().for_each(|(name, help, most)| metrics.limit(name, help, most));
    }

    /// The place of the newest purge in this node's order; 0 when there was none.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// The number of this node's own newest purge that is on stable storage: what others may be told of.
    pub fn own(&self) -> u64 {
        self.journal.written().vector.get(&self.me).copied().unwrap_or(0)
    }

    /// What is known of everyone's purges.
    pub fn vector(&self) -> Vector {
        self.read().vector.clone()
    }

    /// Purges `what`: in force for every look-up here that begins after this returns, and after a restart. What peers
    /// are to be told. Cancel-safe: once in force it is kept, whether this is dropped or not.
    ///
    /// Errors: `BadRequest` beyond a limit, `Overloaded` beyond [`UNWRITTEN_MAX`]; the keeper's own, and then it is in
    /// force until a restart and written with the next one.
    pub async fn purge(&self, what: What) -> Result<Purge, Problem> {
        what.check()?;
        let purge = {
            let mut kept = self.write()?;
            let number = kept.vector.get(&self.me).copied().unwrap_or(0).saturating_add(1);
            self.note(&mut kept, Purge { sequence: 0, origin: self.me, number, what })
        };
        self.until_written().await?;
        Ok(purge)
    }

    /// Takes what `from` says that it has purged, in force from now on; or some before them are missing here. They are
    /// kept once [`Self::until_written`] completes.
    ///
    /// Errors: `BadRequest` for purges of others than `from`, and beyond a limit; `Overloaded` beyond [`UNWRITTEN_MAX`].
    pub(crate) fn receive(
        &self,
        from: NodeId,
        purges: Vec<Purge>,
        is_member: &dyn Fn(NodeId) -> bool,
    ) -> Result<Result<(), Gap>, Problem> {
        let is_own = |purge: &Purge| purge.origin == from && from != self.me && from != NOBODY;
        if !purges.iter().all(is_own) {
            return Err(Problem::new(Kind::BadRequest, "a node tells of its own purges only"));
        }
        purges.iter().try_for_each(|purge| purge.what.check())?;
        let mut kept = self.write()?;
        let mut told = Ok(());
        for purge in purges {
            match kept.take(&purge, self.me, is_member) {
                Take::New => drop(self.note(&mut kept, purge)),
                // Under this number something else is known here, from others: its own word counts besides.
                Take::Known if !kept.holds(&purge) => {
                    let number = kept.vector.get(&from).copied().unwrap_or(purge.number);
                    self.note(&mut kept, Purge { number, ..purge });
                }
                Take::Known => {}
                Take::Ahead => told = Err(Gap),
                Take::Refused => {
                    return Err(Problem::new(Kind::Unavailable, "too many strangers have purged"));
                }
            }
        }
        Ok(told)
    }

    /// What a peer that says how far it is behind is missing, a page of it.
    pub(crate) fn missing(&self, behind: &WireBehind) -> WireMissing {
        let kept = self.read();
        kept.missing(self.me, behind, &self.journal.written())
    }

    /// Takes what `from` said to be missing here, when `known` was known. For each log whose beginning is gone, and when
    /// `from` has come less far itself than was thought here, everything counts as purged. In force from now on, and
    /// kept once [`Self::until_written`] completes.
    ///
    /// Errors: `Overloaded` beyond [`UNWRITTEN_MAX`].
    pub(crate) fn catch_up(
        &self,
        from: NodeId,
        known: &Vector,
        missing: WireMissing,
        is_member: &dyn Fn(NodeId) -> bool,
    ) -> Result<Caught, Problem> {
        let mut kept = self.write()?;
        let mut caught = Caught::default();
        for deletion in missing.deletions.into_iter().filter(|purge| purge.what.check().is_ok()) {
            if let Some((purge, step)) = kept.note_deletion(deletion) {
                self.journal.push(step);
                caught.taken.push(purge);
            }
        }
        if let Some(stand_in) = kept.correction(from, known, &missing.vector) {
            tracing::warn!(node = %from, number = stand_in.number, "a node's purges were known further than they go");
            caught.taken.push(self.note(&mut kept, stand_in));
        }
        for origin in missing.gaps.into_iter().filter(|origin| *origin != self.me && *origin != NOBODY) {
            let number = missing.vector.get(&origin).copied().unwrap_or(0);
            let stand_in = Purge { sequence: 0, origin, number, what: What::All };
            match kept.take(&stand_in, self.me, is_member) {
                Take::New | Take::Ahead => caught.taken.push(self.note(&mut kept, stand_in)),
                Take::Known => {}
                Take::Refused => caught.refused.push(origin),
            }
        }
        for purge in missing.purges.into_iter().filter(|purge| purge.what.check().is_ok()) {
            match kept.take(&purge, self.me, is_member) {
                Take::New => caught.taken.push(self.note(&mut kept, purge)),
                Take::Known => {}
                Take::Ahead | Take::Refused => caught.refused.push(purge.origin),
            }
        }
        Ok(caught)
    }

    fn note(&self, kept: &mut Kept, purge: Purge) -> Purge {
        let step = kept.note(purge);
        let purge = step.purge.clone().expect("a step of the ring has its purge");
        self.journal.push(step);
        self.newest.store(purge.sequence, Ordering::Release);
        purge
    }

    /// Completes once everything noted so far is on stable storage. Cancel-safe: the writing goes on.
    ///
    /// Errors: the keeper's; what was not written is tried again with the next purge.
    pub(crate) async fn until_written(&self) -> Result<(), Problem> {
        self.journal.until_written(self.journal.queued()).await
    }

    /// Tries again to write what could not be written.
    pub(crate) fn write_again(&self) {
        self.journal.begin();
    }

    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, Kept>, Problem> {
        let kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if self.journal.is_full() {
            let detail = "more purges wait to be written than may; try again";
            return Err(Problem::new(Kind::Overloaded, detail));
        }
        Ok(kept)
    }

    /// From now on nothing kept is served at once: what this node missed has to be learned first.
    pub fn unsettle(&self) {
        self.unsettled.store(true, Ordering::Release);
    }

    /// Everything missed is known, or nobody can tell: what is kept may be served.
    pub fn settle(&self) {
        self.unsettled.store(false, Ordering::Release);
        self.settled.notify_waiters();
    }

    /// Notes that this node runs at `now`, several times within [`PAUSE_MAX`]. Where it has not run for longer, nothing kept
    /// is served until it is settled again; whether that is so.
    pub fn beat(&self, now: Tick) -> bool {
        let was_paused = self.was_paused(now);
        if was_paused {
            self.unsettle();
        }
        self.beat.store(now.0.max(1), Ordering::Release);
        was_paused
    }

    /// No beat is expected from now on: there is nobody whose purges could be missed.
    pub fn rest(&self) {
        self.beat.store(0, Ordering::Release);
    }

    fn was_paused(&self, now: Tick) -> bool {
        let last = self.beat.load(Ordering::Acquire);
        last != 0 && now.since(Tick(last)) > PAUSE_MAX
    }

    /// Whether what is kept may be served at once, at `now`. A node that was stopped knows by its clock that it was, before
    /// any task of its has run.
    pub fn is_settled(&self, now: Tick) -> bool {
        !self.unsettled.load(Ordering::Acquire) && !self.was_paused(now)
    }

    /// Completes once [`Self::is_settled`]. Cancel-safe.
    pub async fn until_settled(&self, clock: &dyn Clock) {
        loop {
            let settled = self.settled.notified();
            if self.is_settled(clock.now()) {
                return;
            }
            settled.await;
        }
    }

    /// Whether what has survived, at a peer, the purges of `vector` has survived all that are known here as well: `Ok`
    /// with the place in this node's order up to which that holds.
    pub fn check_foreign(
        &self,
        vector: &Vector,
        tags: &[String],
        key: Option<&RequestKey>,
    ) -> Result<u64, Purged> {
        let kept = self.read();
        if kept.concerns_since(vector, tags, key) { Err(Purged) } else { Ok(kept.newest()) }
    }

    /// Deletions of a folder's file that are on record: the newest time before which no copy of it counts.
    pub fn deleted(&self, source: &SourceKey) -> Option<Wall> {
        self.read().deleted(source)
    }

    /// Whether nothing purged since `checked` concerns these tags and this key: `Ok` with the number up to which that
    /// holds.
    pub fn check(&self, checked: u64, tags: &[String], key: Option<&RequestKey>) -> Result<u64, Purged> {
        let newest = self.newest();
        if checked >= newest {
            return Ok(newest);
        }
        self.read().check(checked, tags, key)
    }

    /// Whether `entry`, kept under `key`, has survived all purges; noted on the entry, so that the next check is short.
    pub fn spares(&self, entry: &Entry, key: &RequestKey) -> bool {
        if entry.purge_checked() >= self.newest() {
            return true;
        }
        let checked = self.check(entry.purge_checked(), &entry.binding.tags, Some(key));
        checked.is_ok_and(|upto| {
            entry.note_purge_checked(upto);
            true
        })
    }

    /// Whether what `binding` says has survived all purges since its fetch began.
    pub fn spares_binding(&self, binding: &Binding, key: Option<&RequestKey>) -> bool {
        self.check(binding.purge_seen, &binding.tags, key).is_ok()
    }
}

/// It was purged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purged;
