//! What the purge log remembers: the latest purges, how far everyone's are known, and which files were deleted. Decides
//! what is new, missing and purged; writes nothing and asks nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tutti_base::{NodeId, RequestKey, SourceKey, Wall};

use super::journal::{Step, Written};
use super::{
    DELETIONS_MAX, LOG_LEN_MAX, NOBODY, PAGE_BYTES_MAX, Purge, Purged, STEP_MAX, STRANGERS_MAX, Stored,
    Vector, What,
};
use crate::wire::{WireBehind, WireMissing};

/// What a purge weighs beside what it takes away, in bytes.
const PURGE_WEIGHT: usize = 32;

/// The log in memory.
#[derive(Default)]
pub(super) struct Kept {
    purges: VecDeque<Purge>,
    /// Purges up to this place are not in the log any more.
    gone_upto: u64,
    /// The place of the last purge or deletion.
    last: u64,
    pub(super) vector: Vector,
    deletions: Deletions,
}

/// What a purge of another node is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Take {
    /// The next of its node.
    New,
    /// Its number is known.
    Known,
    /// Some before it are missing.
    Ahead,
    /// Of this node, of a stranger too many, or with a number out of reach.
    Refused,
}

impl Kept {
    /// The log as it was kept, and what is to be let go of it.
    pub(super) fn of(stored: Stored) -> (Self, Vec<Step>) {
        let mut purges: VecDeque<Purge> = stored.purges.into();
        let mut vector = Vector::new();
        for purge in purges.iter().filter(|purge| purge.origin != NOBODY) {
            vector.insert(purge.origin, purge.number);
        }
        vector.extend(stored.vector.into_iter().flatten());
        let gone_upto = purges.front().map_or(0, |first| first.sequence.saturating_sub(1));
        let surplus = purges.len().saturating_sub(LOG_LEN_MAX);
        let surplus: Vec<u64> = purges.drain(..surplus).map(|purge| purge.sequence).collect();
        let gone_upto = surplus.last().copied().unwrap_or(gone_upto);
        let last = purges.back().map_or(0, |purge| purge.sequence);
        let mut kept = Self { purges, gone_upto, last, vector, deletions: Deletions::default() };
        let mut steps: Vec<Step> = surplus.into_iter().chain(stored.damaged).map(Step::forgetting).collect();
        let from_log: Vec<Purge> = kept.purges.iter().cloned().collect();
        let mut deletions = stored.deletions;
        deletions.sort_unstable_by_key(|purge| purge.sequence);
        for purge in deletions {
            kept.last = kept.last.max(purge.sequence);
            kept.deletions.keep(&purge);
        }
        // Where a version that did not keep them apart wrote the log.
        for purge in from_log {
            if let Some(undeleted) = kept.deletions.keep(&purge) {
                steps.push(Step { deletion: Some(purge), undeleted, ..Step::default() });
            }
        }
        (kept, steps)
    }

    /// The place of the newest purge; 0 when there was none.
    pub(super) fn newest(&self) -> u64 {
        self.purges.back().map_or(0, |purge| purge.sequence)
    }

    /// The next place is not before `place`.
    pub(super) fn skip_to(&mut self, place: u64) {
        self.last = self.last.max(place);
    }

    /// What `purge`, of another node, is here.
    pub(super) fn take(&self, purge: &Purge, me: NodeId, is_member: &dyn Fn(NodeId) -> bool) -> Take {
        let origin = purge.origin;
        let known = self.vector.get(&origin).copied();
        let is_stranger = |node: &NodeId| *node != me && !is_member(*node);
        let has_room = || {
            is_member(origin) || self.vector.keys().filter(|node| is_stranger(node)).count() < STRANGERS_MAX
        };
        if origin == me || origin == NOBODY || (known.is_none() && !has_room()) {
            return Take::Refused;
        }
        let known = known.unwrap_or(0);
        match purge.number.checked_sub(known) {
            None | Some(0) => Take::Known,
            Some(1) => Take::New,
            Some(2..=STEP_MAX) => Take::Ahead,
            Some(_) => Take::Refused,
        }
    }

    /// Whether this very purge is in the log.
    pub(super) fn holds(&self, purge: &Purge) -> bool {
        let is_it = |held: &Purge| {
            held.origin == purge.origin && held.number == purge.number && held.what == purge.what
        };
        self.purges.iter().any(is_it)
    }

    /// Puts `purge` at the end of the log.
    pub(super) fn note(&mut self, purge: Purge) -> Step {
        self.last += 1;
        let purge = Purge { sequence: self.last, ..purge };
        if purge.origin != NOBODY {
            self.vector.insert(purge.origin, purge.number);
        }
        self.purges.push_back(purge.clone());
        let forgotten = if self.purges.len() > LOG_LEN_MAX { self.purges.pop_front() } else { None };
        let forgotten = forgotten.map(|purge| purge.sequence);
        self.gone_upto = forgotten.unwrap_or(self.gone_upto);
        let kept = self.deletions.keep(&purge);
        let deletion = kept.is_some().then(|| purge.clone());
        Step { purge: Some(purge), forgotten, deletion, undeleted: kept.flatten(), vector: None }
    }

    /// Remembers a deletion from before a gap, which the log itself has not; none where it says nothing new.
    pub(super) fn note_deletion(&mut self, purge: Purge) -> Option<(Purge, Step)> {
        let purge = Purge { sequence: self.last + 1, ..purge };
        let undeleted = self.deletions.keep(&purge)?;
        self.last += 1;
        let step = Step { deletion: Some(purge.clone()), undeleted, ..Step::default() };
        Some((purge, step))
    }

    /// That the vector is kept as it is now.
    pub(super) fn note_vector(&self) -> Step {
        Step { vector: Some(self.vector.clone()), ..Step::default() }
    }

    /// What stands in where `from` itself, which was asked when `known` was known, has come less far than that.
    pub(super) fn correction(&self, from: NodeId, known: &Vector, theirs: &Vector) -> Option<Purge> {
        let (number, thought) = (*theirs.get(&from)?, *known.get(&from)?);
        let is_wrong = number < thought && self.vector.get(&from).is_some_and(|now| *now >= thought);
        is_wrong.then_some(Purge { sequence: 0, origin: from, number, what: What::All })
    }

    /// Whether a purge that `vector` does not know concerns these tags and this key, as far as can be told.
    pub(super) fn concerns_since(&self, vector: &Vector, tags: &[String], key: Option<&RequestKey>) -> bool {
        let known = |origin: &NodeId| vector.get(origin).copied().unwrap_or(0);
        let mut behind = self.vector.iter().filter(|(origin, ours)| **ours > known(origin)).peekable();
        if behind.peek().is_none() {
            return false;
        }
        let first =
            |origin| self.purges.iter().find(|purge| purge.origin == origin).map(|purge| purge.number);
        let mut behind = behind.map(|(origin, _)| *origin);
        if behind.any(|origin| first(origin).is_none_or(|first| first > known(&origin) + 1)) {
            return true;
        }
        let mut news =
            self.purges.iter().filter(|purge| purge.origin != NOBODY && purge.number > known(&purge.origin));
        news.any(|purge| purge.what.concerns(tags, key))
    }

    /// Whether nothing after the place `checked` concerns these tags and this key: `Ok` with the newest place.
    pub(super) fn check(
        &self,
        checked: u64,
        tags: &[String],
        key: Option<&RequestKey>,
    ) -> Result<u64, Purged> {
        if checked < self.gone_upto {
            return Err(Purged);
        }
        let since = self.purges.partition_point(|purge| purge.sequence <= checked);
        let concerned = self.purges.iter().skip(since).any(|purge| purge.what.concerns(tags, key));
        if concerned { Err(Purged) } else { Ok(self.newest().max(checked)) }
    }

    /// The newest time before which no copy of this file counts.
    pub(super) fn deleted(&self, source: &SourceKey) -> Option<Wall> {
        self.deletions.by_source.get(source).map(|(at, _)| *at)
    }

    /// What a peer that is so far `behind` is missing of what is `written` here. Deletions that a gap hides come first,
    /// then gaps and purges; [`PAGE_BYTES_MAX`] ends a page.
    pub(super) fn missing(&self, me: NodeId, behind: &WireBehind, written: &Written) -> WireMissing {
        let known = |origin: &NodeId| behind.vector.get(origin).copied().unwrap_or(0);
        let own = written.vector.get(&me).copied().unwrap_or(0);
        let mut page = WireMissing { vector: Vector::from([(me, own)]), ..WireMissing::default() };
        let ahead: Vector = written
            .vector
            .iter()
            .filter(|(origin, ours)| **ours > known(origin))
            .map(|(o, n)| (*o, *n))
            .collect();
        if ahead.is_empty() {
            return page;
        }
        let news = || {
            let is_new = |purge: &&Purge| {
                purge.sequence <= written.sequence
                    && ahead.contains_key(&purge.origin)
                    && purge.number > known(&purge.origin)
            };
            self.purges.iter().filter(is_new)
        };
        let gaps = gaps(&ahead, known, news());
        let mut room = Room(PAGE_BYTES_MAX);
        let hidden = self.deletions.after(behind.deletions_upto);
        let is_hidden = |purge: &&Purge| {
            purge.sequence <= written.sequence
                && gaps.contains(&purge.origin)
                && purge.number > known(&purge.origin)
        };
        for deletion in hidden.filter(is_hidden) {
            if !room.takes(deletion) {
                page.more = true;
                return page;
            }
            page.deletions_upto = deletion.sequence;
            page.deletions.push(deletion.clone());
        }
        page.deletions_upto = page.deletions_upto.max(behind.deletions_upto);
        for purge in news().filter(|purge| !gaps.contains(&purge.origin)) {
            if !room.takes(purge) {
                page.more = true;
                break;
            }
            page.purges.push(purge.clone());
        }
        page.vector.extend(gaps.iter().filter_map(|gap| Some((*gap, *ahead.get(gap)?))));
        page.gaps = gaps.into_iter().collect();
        page
    }
}

/// Whose purges do not all follow one another in `news`, from the one after the `known` up to the last in `ahead`.
fn gaps<'a>(
    ahead: &Vector,
    known: impl Fn(&NodeId) -> u64,
    news: impl Iterator<Item = &'a Purge>,
) -> BTreeSet<NodeId> {
    let mut upto: BTreeMap<NodeId, u64> = ahead.keys().map(|origin| (*origin, known(origin))).collect();
    let mut gaps = BTreeSet::new();
    for purge in news {
        let Some(upto) = upto.get_mut(&purge.origin) else { continue };
        match purge.number.checked_sub(*upto) {
            Some(0) => {}
            Some(1) => *upto = purge.number,
            _ => drop(gaps.insert(purge.origin)),
        }
    }
    gaps.extend(
        ahead.iter().filter(|(origin, last)| upto.get(origin) != Some(last)).map(|(origin, _)| *origin),
    );
    gaps
}

/// What is left of a page.
struct Room(usize);

impl Room {
    /// Whether it holds one more; the first always fits.
    fn takes(&mut self, purge: &Purge) -> bool {
        let weight = PURGE_WEIGHT + purge.what.weight();
        let fits = weight <= self.0;
        self.0 = self.0.saturating_sub(weight);
        fits
    }
}

/// Which files were deleted, apart from the log: it forgets sooner than folders do.
#[derive(Default)]
struct Deletions {
    by_source: HashMap<SourceKey, (Wall, u64)>,
    by_place: BTreeMap<u64, Purge>,
}

impl Deletions {
    /// Remembers `purge`, if it deletes a file later than is known. Where it does: the file whose deletion went for it,
    /// which is the oldest beyond [`DELETIONS_MAX`].
    fn keep(&mut self, purge: &Purge) -> Option<Option<SourceKey>> {
        let What::Deleted { source, at, .. } = &purge.what else { return None };
        match self.by_source.get(source) {
            Some((known, _)) if known >= at => return None,
            Some((_, place)) => drop(self.by_place.remove(place)),
            None => {}
        }
        self.by_source.insert(*source, (*at, purge.sequence));
        self.by_place.insert(purge.sequence, purge.clone());
        if self.by_place.len() <= DELETIONS_MAX {
            return Some(None);
        }
        let (_, oldest) = self.by_place.pop_first()?;
        let What::Deleted { source, .. } = oldest.what else { return Some(None) };
        self.by_source.remove(&source);
        Some(Some(source))
    }

    /// Those after the place `upto`, in order.
    fn after(&self, upto: u64) -> impl Iterator<Item = &Purge> {
        self.by_place.range(upto.saturating_add(1)..).map(|(_, purge)| purge)
    }
}
