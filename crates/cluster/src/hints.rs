//! What nodes say of themselves, and to whom how often: versioned records and short deltas. A pure machine; it opens no
//! socket and reads no clock.

mod pace;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tutti_base::envelope::{self, EnvelopeError, Versioned};
use tutti_base::rng::Rng;
use tutti_base::{Load, NodeId, Report, Tick};

use pace::Pace;
pub use pace::{FAR_EVERY, NEAR_EVERY, NEAR_MAX};
use record::{Ask, Delta, Folders, Whole};
pub use record::{DELTA_MAX, FOLDERS_MAX, VERSION_MAX, WHOLE_MAX};

/// Every peer gets the whole record this often, give or take a tenth.
pub const WHOLE_EVERY: Duration = Duration::from_secs(10);
/// A peer gets the whole record for its asking at most this often, and is asked for it at most this often.
pub const ASK_EVERY: Duration = Duration::from_secs(1);
/// Changes of digests go to all peers at once, but at most this often.
pub const DIGEST_EVERY: Duration = Duration::from_millis(100);
/// Bytes a second that hints ahead of their time may take, framing included; what is over waits for its turn.
pub const AHEAD_RATE: u64 = 1500;
/// How many such bytes may be saved up: a purge reaches 255 peers at once.
pub const AHEAD_BURST: u64 = 32 * 1024;
/// Framing, encryption and headers of one message on a link, in bytes, as the budget counts them.
pub const FRAMING: u64 = 60;

/// What a peer said of itself last.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its load.
    pub load: Arc<Load>,
    /// The version that it runs.
    pub version: Arc<str>,
    /// When it was heard.
    pub at: Tick,
    /// How many of its folders its record had no room for, and are not known here yet.
    pub left_off: u16,
}

/// What a hint changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// A newer load of the peer.
    Load,
    /// Nothing: it is older than what is known, or the peer only asked.
    Nothing,
}

/// Why a hint was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HintError {
    /// It is no hint, damaged, or of an unknown version.
    #[error("a hint cannot be read: {0}")]
    Malformed(#[from] EnvelopeError),
    /// Its sender is not a member.
    #[error("node {0} is not a member")]
    Stranger(NodeId),
}

/// What a peer has of this node.
#[derive(Debug)]
struct Outgoing {
    due: Tick,
    whole_due: Tick,
    base: Option<Arc<Load>>,
    wholes: Tick,
}

/// What this node has of a peer.
#[derive(Debug)]
struct Incoming {
    run: u64,
    base: Arc<Load>,
    heard: Heard,
    /// All its folders and their digest, where its record had no room for them.
    folders: Option<(u32, Vec<String>)>,
    wanted: u32,
}

/// Purge, folders, revision and epoch: a change of these does not wait.
#[derive(Clone, PartialEq, Debug, Default)]
struct Digests(u64, Vec<String>, u64, u32);

impl Digests {
    fn of(load: &Load) -> Self {
        Self(load.purge, load.folders.clone(), load.revision, load.epoch)
    }
}

/// The hints of one node.
pub struct Hints {
    run: u64,
    version: String,
    rng: Box<dyn Rng>,
    own: Arc<Load>,
    told: Digests,
    told_at: Tick,
    peers: BTreeMap<NodeId, Outgoing>,
    incoming: BTreeMap<NodeId, Incoming>,
    members: BTreeSet<NodeId>,
    asked: BTreeMap<NodeId, Tick>,
    pace: Pace,
    ahead: u64,
    ahead_at: Tick,
    sends: Vec<(NodeId, Bytes)>,
}

impl Hints {
    /// The hints of a node that runs `version`, in its run `run`.
    pub fn new(run: u64, version: &str, rng: Box<dyn Rng>, now: Tick) -> Self {
        Self {
            run,
            version: version.into(),
            rng,
            own: Arc::new(Load::default()),
            told: Digests::default(),
            told_at: now,
            peers: BTreeMap::new(),
            incoming: BTreeMap::new(),
            members: BTreeSet::new(),
            asked: BTreeMap::new(),
            pace: Pace::new(now),
            ahead: AHEAD_BURST,
            ahead_at: now,
            sends: Vec::new(),
        }
    }

    /// Says who is a member beside this node, and which of them are reachable: only these are told anything.
    pub fn set_members(&mut self, now: Tick, members: BTreeSet<NodeId>, reachable: &BTreeSet<NodeId>) {
        self.incoming.retain(|id, _| members.contains(id));
        self.asked.retain(|id, _| members.contains(id));
        self.members = members;
        self.peers.retain(|id, _| reachable.contains(id));
        for id in reachable {
            self.peers.entry(*id).or_insert_with(|| Outgoing::new(now));
        }
        self.pace.set_peers(now, reachable);
    }

    /// Makes `load` what this node says; gives it the next sequence.
    pub fn set_own(&mut self, load: Load) {
        if self.own.sequence == 0 {
            // The first whole records say it all.
            self.told = Digests::of(&load);
        }
        self.own = Arc::new(Load { sequence: self.own.sequence + 1, ..load });
    }

    /// What this node says.
    pub fn own(&self) -> &Arc<Load> {
        &self.own
    }

    /// Counts work exchanged with `node`.
    pub fn exchanged(&mut self, node: NodeId, count: u64) {
        self.pace.exchanged(node, count);
    }

    /// A new connection to `node` stands: it gets the whole record at the next tick.
    pub fn connected(&mut self, now: Tick, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            *peer = Outgoing::new(now);
        }
    }

    /// Takes a hint of `from`.
    pub fn hear(&mut self, now: Tick, from: NodeId, sealed: &[u8]) -> Result<News, HintError> {
        if !self.members.contains(&from) {
            return Err(HintError::Stranger(from));
        }
        match sealed.first() {
            Some(&Whole::KIND) => Ok(self.hear_whole(now, from, envelope::open(sealed)?)),
            Some(&Ask::KIND) => {
                let _: Ask = envelope::open(sealed)?;
                self.give_whole(now, from);
                Ok(News::Nothing)
            }
            _ => Ok(self.hear_delta(now, from, &envelope::open(sealed)?)),
        }
    }

    /// The newest sequence of a run wins. Another run wins always: the link is the node's own, so what it says now is of
    /// now. The same sequence again makes nothing younger: a source that stands still ages.
    fn hear_whole(&mut self, now: Tick, from: NodeId, whole: Whole) -> News {
        let known = self.incoming.get(&from);
        let is_old = known
            .is_some_and(|known| known.run == whole.run && known.heard.load.sequence > whole.load.sequence);
        if is_old {
            return News::Nothing;
        }
        let kept =
            known.and_then(|known| known.folders.clone()).filter(|(digest, _)| *digest == whole.digest);
        let mut load = whole.load;
        let (mut left_off, mut wanted) = (whole.left_off, whole.digest);
        if let Some((_, folders)) = &kept {
            load.folders.clone_from(folders);
            (left_off, wanted) = (0, 0);
        }
        let base = Arc::new(load);
        let version = match known {
            Some(known) if *known.heard.version == *whole.version => known.heard.version.clone(),
            _ => whole.version.into(),
        };
        let same = known.filter(|known| known.run == whole.run && known.heard.load.sequence == base.sequence);
        let at = same.map_or(now, |known| known.heard.at);
        let heard = Heard { load: base.clone(), version, at, left_off };
        self.incoming.insert(from, Incoming { run: whole.run, base, heard, folders: kept, wanted });
        News::Load
    }

    fn hear_delta(&mut self, now: Tick, from: NodeId, delta: &Delta) -> News {
        let known = self.incoming.get_mut(&from);
        let known = known.filter(|known| known.run as u16 == delta.run && known.base.sequence == delta.base);
        let Some(known) = known else {
            self.ask(now, from);
            return News::Nothing;
        };
        if known.heard.load.sequence >= delta.base.saturating_add(delta.step) {
            return News::Nothing;
        }
        known.heard.load = Arc::new(delta.apply(&known.base));
        known.heard.at = now;
        News::Load
    }

    /// Takes what came along with an answer of `from`, if it is newer than what is known of that run.
    pub fn hear_report(&mut self, now: Tick, from: NodeId, report: Report) -> News {
        let Some(known) = self.incoming.get_mut(&from) else { return News::Nothing };
        if known.heard.load.sequence >= report.sequence {
            return News::Nothing;
        }
        let Report { sequence, jobs, backlog_ms } = report;
        known.heard.load = Arc::new(Load { sequence, jobs, backlog_ms, ..Load::clone(&known.heard.load) });
        known.heard.at = now;
        News::Load
    }

    /// The peers whose records had no room for all their folders: to be asked for them with a call of [`Hints::question`].
    /// Each is named once for every change.
    pub fn take_wanted(&mut self) -> Vec<NodeId> {
        let wanted = self.incoming.iter_mut().filter(|(_, known)| known.wanted != 0);
        wanted.map(|(id, known)| (*id, std::mem::take(&mut known.wanted))).map(|(id, _)| id).collect()
    }

    /// What asks a peer for all its folders.
    pub fn question() -> Bytes {
        envelope::seal(&Ask).into()
    }

    /// The answer to such a question; as many folders as fit into [`FOLDERS_MAX`].
    pub fn answer(&self, question: &[u8]) -> Result<Bytes, HintError> {
        let _: Ask = envelope::open(question)?;
        Ok(envelope::seal(&Folders::of(&self.own.folders)).into())
    }

    /// Takes the answer of `from`.
    pub fn hear_folders(&mut self, from: NodeId, answer: &[u8]) -> Result<News, HintError> {
        let Folders(folders) = envelope::open(answer)?;
        let known = self.incoming.get_mut(&from).ok_or(HintError::Stranger(from))?;
        let complete = |load: &Load| Arc::new(Load { folders: folders.clone(), ..load.clone() });
        (known.base, known.heard.load) = (complete(&known.base), complete(&known.heard.load));
        known.heard.left_off = 0;
        known.folders = Some((Folders::digest(&folders), folders));
        Ok(News::Load)
    }

    fn ask(&mut self, now: Tick, from: NodeId) {
        let last = self.asked.get(&from);
        if last.is_none_or(|last| now.since(*last) >= ASK_EVERY) {
            self.asked.insert(from, now);
            self.sends.push((from, envelope::seal(&Ask).into()));
        }
    }

    fn give_whole(&mut self, now: Tick, to: NodeId) {
        let peer = self.peers.get_mut(&to);
        if let Some(peer) = peer.filter(|peer| peer.base.is_none() || now.since(peer.wholes) >= ASK_EVERY) {
            peer.whole_due = now;
            peer.due = now;
        }
    }

    /// Sends what is due; nothing before [`Self::set_own`] was called.
    pub fn tick(&mut self, now: Tick) {
        self.pace.tick(now);
        if self.own.sequence == 0 {
            // A node that is still starting knows nothing of itself. Said all the same it would pass for a node without folders
            // and without room, and its first real record would wait for its turn.
            return;
        }
        self.hurry_digests(now);
        let due: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| now >= peer.due).map(|(id, _)| *id).collect();
        for id in due {
            self.tell(now, id);
        }
    }

    /// Changed digests do not wait for their turn, as far as the budget goes.
    fn hurry_digests(&mut self, now: Tick) {
        let gained = now.since(self.ahead_at).as_millis() as u64 * AHEAD_RATE / 1000;
        if gained > 0 {
            self.ahead = (self.ahead + gained).min(AHEAD_BURST);
            self.ahead_at = now;
        }
        let digests = Digests::of(&self.own);
        if digests == self.told || now.since(self.told_at) < DIGEST_EVERY {
            return;
        }
        let price = if digests.1 == self.told.1 { DELTA_MAX } else { WHOLE_MAX } as u64 + FRAMING;
        for peer in self.peers.values_mut().filter(|peer| peer.due > now) {
            if self.ahead < price {
                break;
            }
            self.ahead -= price;
            peer.due = now;
        }
        (self.told, self.told_at) = (digests, now);
    }

    fn tell(&mut self, now: Tick, to: NodeId) {
        let tenth = WHOLE_EVERY.as_nanos() as u64 / 10;
        let jitter = Duration::from_nanos(self.rng.below(2 * tenth));
        let every = self.pace.every(to);
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let base = peer.base.clone().filter(|_| now < peer.whole_due);
        let delta = base.and_then(|base| Delta::seal(self.run, &base, &self.own));
        let bytes = delta.unwrap_or_else(|| {
            peer.base = Some(self.own.clone());
            peer.wholes = now;
            peer.whole_due = now + WHOLE_EVERY - Duration::from_nanos(tenth) + jitter;
            Whole::seal(self.run, &self.version, &self.own)
        });
        // The next turn counts from the last one, unless that was long ago or this one came ahead of it.
        let kept = peer.due + every;
        peer.due = if kept > now && kept <= now + every { kept } else { now + every };
        self.sends.push((to, bytes.into()));
    }

    /// What `node` said last.
    pub fn heard(&self, node: NodeId) -> Option<&Heard> {
        self.incoming.get(&node).map(|known| &known.heard)
    }

    /// What is to be sent since the last call: casts on the control lane.
    pub fn take_sends(&mut self) -> Vec<(NodeId, Bytes)> {
        std::mem::take(&mut self.sends)
    }
}

impl Outgoing {
    fn new(now: Tick) -> Self {
        Self { due: now, whole_due: now, base: None, wholes: now }
    }
}

#[cfg(test)]
mod tests;
