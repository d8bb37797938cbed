//! The purge log: numbered, bounded, checked lazily. What was fetched before a matching purge is neither served nor kept.
//!
//! Each node numbers its own purges; every node keeps those of all in one log, in the order in which it learned of them.
//! An entry remembers the last purge of this order that it was checked against, so that a hit compares two numbers. What
//! comes from a peer names, by node, the purges it has survived there. A gap past a log's beginning makes everything
//! that it may concern stale for good.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tutti_base::envelope::{EnvelopeError, Versioned};
use tutti_base::{Clock, NodeId, Problem, RequestKey, SourceKey, Tick, Wall};
use tutti_cache::{Binding, Entry};

use crate::PurgeKeeper;

/// How many purges the log holds; what was fetched before the oldest of them counts as purged.
pub const LOG_LEN_MAX: usize = 4096;

/// A node whose beat is this late was stopped or cut short, and may have missed what others told it meanwhile.
pub const PAUSE_MAX: Duration = Duration::from_millis(600);

/// The node that stands for purges of before there were nodes; they concern this node alone.
pub const NOBODY: NodeId = NodeId(0);

/// By node, the number up to which its purges are known, without gaps.
pub type Vector = BTreeMap<NodeId, u64>;

/// One purge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Purge {
    /// Its place in this node's order, 1 for the first; without gaps. Means nothing to other nodes.
    pub sequence: u64,
    /// Whose purge it is.
    pub origin: NodeId,
    /// Its number there, 1 for the first; without gaps.
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

/// What a purge takes away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum What {
    /// The answers to these requests: one URL in all its variants.
    Requests(Vec<RequestKey>),
    /// Everything made of one original, and the original.
    Source(SourceKey),
    /// Everything that carries this tag.
    Tag(String),
    /// Everything.
    All,
    /// A file of a folder, deleted for good: every copy of it that was last changed before `at`, on every node, and
    /// everything made of it.
    Deleted {
        /// Its name.
        source: SourceKey,
        /// The folder's name.
        folder: String,
        /// The path in it.
        path: String,
        /// When.
        at: Wall,
    },
}

/// The name under which a binding carries one of its originals among its tags.
pub fn source_tag(source: &SourceKey) -> String {
    format!("source:{}", source.hex())
}

/// The name under which a binding carries a tag of a service or an origin.
pub fn named_tag(tag: &str) -> String {
    format!("tag:{tag}")
}

impl What {
    /// Whether it takes away what has these tags, and answers `key` where it is an answer.
    fn concerns(&self, tags: &[String], key: Option<&RequestKey>) -> bool {
        match self {
            What::All => true,
            What::Requests(keys) => key.is_some_and(|key| keys.contains(key)),
            What::Source(source) => tags.contains(&source_tag(source)),
            What::Tag(tag) => tags.contains(&named_tag(tag)),
            What::Deleted { source, .. } => tags.contains(&source_tag(source)),
        }
    }
}

/// This node's log of everyone's purges.
pub struct PurgeLog {
    me: NodeId,
    newest: AtomicU64,
    kept: RwLock<Kept>,
    keeper: Arc<dyn PurgeKeeper>,
    unsettled: AtomicBool,
    settled: Notify,
    /// The tick of the last beat; 0: none is expected.
    beat: AtomicU64,
}

struct Kept {
    purges: VecDeque<Purge>,
    vector: Vector,
}

/// Why purges of a peer were not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap;

impl PurgeLog {
    /// Reads the log as it was kept, for the node `me`.
    pub fn load(keeper: Arc<dyn PurgeKeeper>, me: NodeId) -> Self {
        let mut purges: VecDeque<Purge> = keeper.load().into();
        let mut vector = Vector::new();
        for purge in purges.iter().filter(|purge| purge.origin != NOBODY) {
            let known = vector.entry(purge.origin).or_insert(0);
            *known = purge.number.max(*known);
        }
        let surplus = purges.len().saturating_sub(LOG_LEN_MAX);
        purges.drain(..surplus);
        let newest = AtomicU64::new(purges.back().map_or(0, |purge| purge.sequence));
        let kept = RwLock::new(Kept { purges, vector });
        let (unsettled, settled, beat) = (AtomicBool::new(false), Notify::new(), AtomicU64::new(0));
        Self { me, newest, kept, keeper, unsettled, settled, beat }
    }

    /// The place of the newest purge in this node's order; 0 when there was none.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// The number of this node's own newest purge.
    pub fn own(&self) -> u64 {
        self.read().vector.get(&self.me).copied().unwrap_or(0)
    }

    /// What is known of everyone's purges.
    pub fn vector(&self) -> Vector {
        self.read().vector.clone()
    }

    /// Purges `what`: in force for every look-up here that begins after this returns, and after a restart. What peers
    /// are to be told. Not cancel-safe only in that a dropped call may or may not have purged.
    pub async fn purge(&self, what: What) -> Result<Purge, Problem> {
        let purge = {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            let number = kept.vector.get(&self.me).copied().unwrap_or(0) + 1;
            self.note(&mut kept, Purge { sequence: 0, origin: self.me, number, what })
        };
        self.keeper.append(&purge).await?;
        Ok(purge)
    }

    /// Takes purges of peers over, in the order given. The new ones among them, in force from now on; or that some
    /// before them are missing here.
    pub async fn receive(&self, purges: Vec<Purge>) -> Result<Result<Vec<Purge>, Gap>, Problem> {
        let mut taken = Vec::new();
        let mut gap = false;
        {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            for purge in purges.into_iter().filter(|purge| purge.origin != NOBODY) {
                let known = kept.vector.get(&purge.origin).copied().unwrap_or(0);
                match purge.number.cmp(&(known + 1)) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => taken.push(self.note(&mut kept, purge)),
                    std::cmp::Ordering::Greater => gap = true,
                }
            }
        }
        self.keep_all(&taken).await?;
        Ok(if gap { Err(Gap) } else { Ok(taken) })
    }

    /// What a peer that knows `vector` is missing, and whose logs begin after it.
    pub fn missing(&self, vector: &Vector) -> (Vec<Purge>, Vec<NodeId>) {
        let kept = self.read();
        let known = |origin: &NodeId| vector.get(origin).copied().unwrap_or(0);
        let news: Vec<Purge> = kept
            .purges
            .iter()
            .filter(|purge| purge.origin != NOBODY && purge.number > known(&purge.origin))
            .cloned()
            .collect();
        let is_gap = |origin: &NodeId, newest: u64| {
            let first = news.iter().find(|purge| purge.origin == *origin).map(|purge| purge.number);
            newest > known(origin) && first != Some(known(origin) + 1)
        };
        let gaps = kept.vector.iter().filter(|(origin, newest)| is_gap(origin, **newest));
        let gaps = gaps.map(|(origin, _)| *origin).collect();
        (news, gaps)
    }

    /// Takes over what a peer said is missing here. For each log whose beginning is gone, everything counts as purged.
    pub async fn catch_up(
        &self,
        purges: Vec<Purge>,
        gaps: &[NodeId],
        theirs: &Vector,
    ) -> Result<Vec<Purge>, Problem> {
        let mut taken = Vec::new();
        for origin in gaps {
            let number = theirs.get(origin).copied().unwrap_or(0);
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            if number > kept.vector.get(origin).copied().unwrap_or(0) {
                let stand_in = Purge { sequence: 0, origin: *origin, number, what: What::All };
                taken.push(self.note(&mut kept, stand_in));
            }
        }
        self.keep_all(&taken).await?;
        if let Ok(more) = self.receive(purges).await? {
            taken.extend(more);
        }
        Ok(taken)
    }

    fn note(&self, kept: &mut Kept, purge: Purge) -> Purge {
        let purge = Purge { sequence: self.newest() + 1, ..purge };
        kept.vector.insert(purge.origin, purge.number);
        kept.purges.push_back(purge.clone());
        if kept.purges.len() > LOG_LEN_MAX {
            kept.purges.pop_front();
        }
        self.newest.store(purge.sequence, Ordering::Release);
        purge
    }

    async fn keep_all(&self, purges: &[Purge]) -> Result<(), Problem> {
        for purge in purges {
            self.keeper.append(purge).await?;
        }
        Ok(())
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
        let newest = self.newest();
        let known = |origin: &NodeId| vector.get(origin).copied().unwrap_or(0);
        for (origin, ours) in &kept.vector {
            let first = kept.purges.iter().find(|purge| purge.origin == *origin).map(|purge| purge.number);
            if *ours > known(origin) && first.is_none_or(|first| first > known(origin) + 1) {
                return Err(Purged);
            }
        }
        let news = kept.purges.iter().filter(|purge| purge.origin != NOBODY);
        let mut news = news.filter(|purge| purge.number > known(&purge.origin));
        if news.any(|purge| purge.what.concerns(tags, key)) { Err(Purged) } else { Ok(newest) }
    }

    /// Deletions of a folder's file that are on record: the newest time before which no copy of it counts.
    pub fn deleted(&self, source: &SourceKey) -> Option<Wall> {
        let at = |purge: &Purge| match &purge.what {
            What::Deleted { source: gone, at, .. } if gone == source => Some(*at),
            _ => None,
        };
        self.read().purges.iter().filter_map(at).max()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing purged since `checked` concerns these tags and this key: `Ok` with the number up to which that
    /// holds.
    pub fn check(&self, checked: u64, tags: &[String], key: Option<&RequestKey>) -> Result<u64, Purged> {
        let newest = self.newest();
        if checked >= newest {
            return Ok(newest);
        }
        let kept = &self.read().purges;
        let oldest = kept.front().map_or(u64::MAX, |purge| purge.sequence);
        if checked + 1 < oldest {
            return Err(Purged);
        }
        let since = kept.iter().skip_while(|purge| purge.sequence <= checked);
        let mut upto = checked;
        for purge in since {
            if purge.what.concerns(tags, key) {
                return Err(Purged);
            }
            upto = purge.sequence;
        }
        Ok(upto)
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use tutti_base::BoxFuture;

    use super::*;

    const ME: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);

    #[derive(Default)]
    struct Shelf(Mutex<Vec<Purge>>);
    impl PurgeKeeper for Shelf {
        fn load(&self) -> Vec<Purge> {
            self.0.lock().unwrap().clone()
        }
        fn append<'a>(&'a self, purge: &'a Purge) -> BoxFuture<'a, Result<(), Problem>> {
            self.0.lock().unwrap().push(purge.clone());
            Box::pin(async { Ok(()) })
        }
    }

    fn purge(log: &PurgeLog, what: What) -> u64 {
        log.purge(what).now_or_never().expect("the test keeper does not wait").expect("kept").sequence
    }

    #[test]
    fn a_node_that_was_stopped_serves_nothing_kept_until_it_is_settled() {
        let log = PurgeLog::load(Arc::new(Shelf::default()), ME);
        let after = |ms: u64| Tick(1) + Duration::from_millis(ms);
        assert!(log.is_settled(after(10_000)), "alone no beat is expected");
        assert!(!log.beat(after(0)) && !log.beat(after(600)) && log.is_settled(after(1200)));
        assert!(!log.is_settled(after(1201)), "its clock tells before any beat");
        assert!(log.beat(after(1300)) && !log.is_settled(after(1300)));
        log.settle();
        assert!(log.is_settled(after(1300)) && !log.beat(after(1400)));
        log.rest();
        assert!(log.is_settled(after(9999)));
    }

    #[test]
    fn a_purge_takes_what_it_names_and_spares_the_rest() {
        let log = PurgeLog::load(Arc::new(Shelf::default()), ME);
        let (a, b) = (RequestKey::of(&[b"a"]), RequestKey::of(&[b"b"]));
        let tags = vec![source_tag(&SourceKey::of(&[b"s"])), named_tag("cats")];
        purge(&log, What::Requests(vec![a]));
        assert_eq!(log.check(0, &tags, Some(&a)), Err(Purged));
        assert_eq!(log.check(0, &tags, Some(&b)), Ok(1));
        purge(&log, What::Tag("dogs".into()));
        assert_eq!(log.check(1, &tags, Some(&b)), Ok(2));
        purge(&log, What::Tag("cats".into()));
        assert_eq!(log.check(2, &tags, Some(&b)), Err(Purged));
        assert_eq!(log.check(3, &tags, Some(&b)), Ok(3), "made after the purge");
        purge(&log, What::Source(SourceKey::of(&[b"s"])));
        assert_eq!(log.check(3, &tags, None), Err(Purged));
        purge(&log, What::All);
        assert_eq!(log.check(4, &[], None), Err(Purged));
    }

    #[test]
    fn a_gap_past_the_logs_beginning_counts_as_purged() {
        let log = PurgeLog::load(Arc::new(Shelf::default()), ME);
        (0..LOG_LEN_MAX as u64 + 1).for_each(|n| assert_eq!(purge(&log, What::Tag("x".into())), n + 1));
        assert_eq!(log.check(0, &[], None), Err(Purged));
        assert_eq!(log.check(1, &[], None), Ok(LOG_LEN_MAX as u64 + 1));
    }

    #[test]
    fn the_log_goes_on_where_it_was_after_a_restart() {
        let keeper = Arc::new(Shelf::default());
        let before = PurgeLog::load(Arc::<Shelf>::clone(&keeper), ME);
        purge(&before, What::Tag("cats".into()));
        let after = PurgeLog::load(keeper, ME);
        assert_eq!(after.newest(), 1);
        assert_eq!(after.check(0, &[named_tag("cats")], None), Err(Purged));
        assert_eq!(purge(&after, What::All), 2);
    }

    fn log(me: NodeId) -> PurgeLog {
        PurgeLog::load(Arc::new(Shelf::default()), me)
    }

    fn now<T>(work: impl Future<Output = Result<T, Problem>>) -> T {
        work.now_or_never().expect("the test keeper does not wait").expect("kept")
    }

    #[test]
    fn purges_of_peers_are_taken_once_in_order_and_a_gap_is_told() {
        let (ours, theirs) = (log(ME), log(PEER));
        let first = now(theirs.purge(What::Tag("a".into())));
        let second = now(theirs.purge(What::Tag("b".into())));
        assert_eq!(now(ours.receive(vec![second.clone()])), Err(Gap));
        assert_eq!(ours.check(0, &[named_tag("b")], None), Ok(0), "what is out of order is not taken");
        assert_eq!(now(ours.receive(vec![first.clone(), second])).map(|new| new.len()), Ok(2));
        assert_eq!(ours.check(0, &[named_tag("b")], None), Err(Purged));
        assert_eq!(now(ours.receive(vec![first])).map(|new| new.len()), Ok(0));
        assert_eq!(ours.vector(), theirs.vector());
    }

    #[test]
    fn what_a_peer_missed_is_told_and_a_lost_beginning_counts_as_everything() {
        let (ours, theirs) = (log(ME), log(PEER));
        (0..3).for_each(|_| drop(now(theirs.purge(What::Tag("a".into())))));
        let (purges, gaps) = theirs.missing(&ours.vector());
        assert_eq!((purges.len(), gaps.len()), (3, 0));
        now(ours.catch_up(purges, &gaps, &theirs.vector()));
        assert_eq!(ours.vector(), theirs.vector());
        (0..=LOG_LEN_MAX).for_each(|_| drop(now(theirs.purge(What::Tag("a".into())))));
        let (purges, gaps) = theirs.missing(&ours.vector());
        assert_eq!(gaps, [PEER]);
        now(ours.catch_up(purges, &gaps, &theirs.vector()));
        assert_eq!(ours.vector(), theirs.vector());
        assert_eq!(ours.check(3, &[], None), Err(Purged), "everything counts as purged");
    }

    #[test]
    fn what_comes_from_a_peer_has_to_survive_the_purges_that_the_peer_did_not_know() {
        let (ours, theirs) = (log(ME), log(PEER));
        let before = theirs.vector();
        let told = now(theirs.purge(What::Tag("cats".into())));
        assert!(now(ours.receive(vec![told])).is_ok());
        assert_eq!(ours.check_foreign(&before, &[named_tag("cats")], None), Err(Purged));
        assert_eq!(ours.check_foreign(&before, &[named_tag("dogs")], None), Ok(1));
        assert_eq!(ours.check_foreign(&theirs.vector(), &[named_tag("cats")], None), Ok(1));
        now(ours.purge(What::All));
        assert_eq!(ours.check_foreign(&theirs.vector(), &[], None), Err(Purged));
    }

    #[test]
    fn a_log_of_one_machine_is_read_by_a_node_of_a_cluster() {
        #[derive(Serialize, Deserialize)]
        struct Old(u64, What);
        impl Versioned for Old {
            const KIND: u8 = 4;
            const VERSION: u16 = 1;
        }
        let sealed = tutti_base::envelope::seal(&Old(7, What::All));
        let read: Purge = tutti_base::envelope::open(&sealed).unwrap();
        assert_eq!(read, Purge { sequence: 7, origin: NOBODY, number: 7, what: What::All });
        let keeper = Arc::new(Shelf(Mutex::new(vec![read])));
        let log = PurgeLog::load(keeper, ME);
        assert!(log.vector().is_empty());
        assert_eq!(purge(&log, What::All), 8);
    }
}
