//! What is on disk as far as memory knows, and what waits to be changed there. Bounded; does no I/O, so that callers on
//! any thread may ask.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::blobs::Incoming;
use super::index::Name;
use crate::metrics::{Dropped, ShelfMetrics, gauge_value};

/// Names that wait to be forgotten. Beyond that, which takes a disk that failed for long, everything on disk is
/// forgotten once it works again: what was to be forgotten must not come back.
const FORGETS_MAX: usize = 65_536;

/// The ledger of one disk cache. `L` is what a caller gets while the disk does not have it yet.
pub(crate) struct Ledger<L> {
    state: Mutex<State<L>>,
    /// Told when there is something to do.
    work: Condvar,
    /// Told when the disk was opened, or could not be.
    opened: Condvar,
    bytes_max: u64,
    keeps_max: usize,
    metrics: ShelfMetrics,
}

struct State<L> {
    waiting: HashMap<Name, Waiting<L>>,
    /// Those of `waiting` that nobody is working on, in the order in which they came.
    order: VecDeque<Name>,
    bytes: u64,
    keeps: usize,
    next: u64,
    clear: bool,
    closing: bool,
    poked: bool,
    disk: Disk,
    /// The first eight bytes of every name on disk.
    names: HashSet<u64>,
    /// Those that were used since they were last looked at for eviction.
    visited: HashSet<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disk {
    /// Nobody has looked yet.
    Unopened,
    /// In use.
    Open,
    /// Not to be written to; perhaps still read.
    Failed,
}

struct Waiting<L> {
    number: u64,
    op: Op<L>,
    bytes: u64,
    taken: bool,
}

/// A change that waits.
pub(crate) enum Op<L> {
    /// Keep this.
    Keep(L, Option<Arc<Incoming>>),
    /// Forget the name.
    Forget,
    /// Forget the name if it still leads to this target and its file is not there.
    ForgetIfGone(Name),
}

/// What the ledger knows of a name.
pub(crate) enum Standing<L> {
    /// It waits to be written.
    Waiting(L),
    /// It may be on disk.
    Perhaps,
    /// It is not.
    Absent,
}

/// What keeping something over the bound does to what is kept under that name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Overflow {
    /// It is forgotten: it is not what was to be kept.
    ForgetBefore,
    /// It stays: it is older, but right.
    LeaveBefore,
}

/// A change that the writer works on.
pub(crate) struct Taken<L> {
    pub(crate) name: Name,
    number: u64,
    pub(crate) op: Op<L>,
}

/// What the writer is woken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    /// Look what there is to do.
    Work,
    /// Do what there is to do and end.
    Close,
}

impl<L: Clone> Ledger<L> {
    /// An empty ledger in which at most `keeps_max` things of together `bytes_max` bytes wait.
    pub(crate) fn new(bytes_max: u64, keeps_max: usize, metrics: ShelfMetrics) -> Self {
        let state = State {
            waiting: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            keeps: 0,
            next: 0,
            clear: false,
            closing: false,
            poked: false,
            disk: Disk::Unopened,
            names: HashSet::new(),
            visited: HashSet::new(),
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            opened: Condvar::new(),
            bytes_max,
            keeps_max,
            metrics,
        }
    }

    /// What is known of `name`.
    pub(crate) fn standing(&self, name: &Name) -> Standing<L> {
        let state = self.lock();
        match state.waiting.get(name).map(|waiting| &waiting.op) {
            Some(Op::Keep(live, _)) => Standing::Waiting(live.clone()),
            Some(Op::Forget | Op::ForgetIfGone(_)) => Standing::Absent,
            None if !state.clear && state.names.contains(&short(name)) => Standing::Perhaps,
            None => Standing::Absent,
        }
    }

    /// Whether what is read from disk is still to be served: not while everything waits to be forgotten.
    pub(crate) fn may_read(&self) -> bool {
        !self.lock().clear
    }

    /// Whether new files may be written.
    pub(crate) fn may_write(&self) -> bool {
        let state = self.lock();
        state.disk == Disk::Open && !state.closing
    }

    /// Notes that `name` was used.
    pub(crate) fn visit(&self, name: &Name) {
        let state = &mut *self.lock();
        if state.names.contains(&short(name)) {
            state.visited.insert(short(name));
        }
    }

    /// Queues `live` of `bytes` bytes to be kept; false when it was dropped, which is counted.
    pub(crate) fn keep(
        &self,
        name: Name,
        live: L,
        incoming: Option<Arc<Incoming>>,
        bytes: u64,
        overflow: Overflow,
    ) -> bool {
        let mut state = self.lock();
        match self.room_for(&state, &name, bytes) {
            Ok(()) => state.put(name, Op::Keep(live, incoming), bytes),
            Err(reason) => {
                self.metrics.dropped(reason, 1);
                if overflow == Overflow::ForgetBefore && state.knows(&name) {
                    state.put(name, Op::Forget, 0);
                }
                drop(state);
                return false;
            }
        }
        self.changed(state);
        true
    }

    fn room_for(&self, state: &State<L>, name: &Name, bytes: u64) -> Result<(), Dropped> {
        if state.disk == Disk::Failed || state.closing {
            return Err(Dropped::Failed);
        }
        let (mut keeps, mut held) = (state.keeps, state.bytes);
        if let Some(Waiting { op: Op::Keep(..), bytes, .. }) = state.waiting.get(name) {
            keeps -= 1;
            held -= bytes;
        }
        let fits = keeps < self.keeps_max && held.saturating_add(bytes) <= self.bytes_max;
        if fits { Ok(()) } else { Err(Dropped::Queue) }
    }

    /// Changes what waits to be kept under `name`, where `change` agrees; false when nothing waits or it does not.
    pub(crate) fn amend(&self, name: &Name, change: impl FnOnce(&L) -> Option<L>) -> bool {
        let mut state = self.lock();
        let Some(Waiting { op: Op::Keep(live, incoming), bytes, .. }) = state.waiting.get(name) else {
            return false;
        };
        let Some(changed) = change(live) else { return false };
        let (op, bytes) = (Op::Keep(changed, incoming.clone()), *bytes);
        state.put(*name, op, bytes);
        self.changed(state);
        true
    }

    /// Queues `name` to be forgotten, where it may be on disk.
    pub(crate) fn forget(&self, name: &Name) {
        let mut state = self.lock();
        if state.knows(name) {
            state.put(*name, Op::Forget, 0);
            if state.waiting.len() - state.keeps > FORGETS_MAX {
                state.clear_all();
            }
            self.changed(state);
        }
    }

    /// Queues `name` to be forgotten if it still leads to `target`, whose file was not there.
    pub(crate) fn forget_if_gone(&self, name: &Name, target: Name) {
        let mut state = self.lock();
        if !state.waiting.contains_key(name) && state.waiting.len() - state.keeps < FORGETS_MAX {
            state.put(*name, Op::ForgetIfGone(target), 0);
            self.changed(state);
        }
    }

    /// Queues everything to be forgotten.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.clear_all();
        self.changed(state);
    }

    /// Tells the writer to end once it has done what waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.changed(state);
    }

    /// Tells the writer to look.
    pub(crate) fn poke(&self) {
        let mut state = self.lock();
        state.poked = true;
        self.changed(state);
    }

    /// Names on disk.
    pub(crate) fn names(&self) -> u64 {
        self.lock().names.len() as u64
    }

    /// Returns once the disk has been opened or has failed, or after `patience`.
    pub(crate) fn wait_until_opened(&self, patience: Duration) {
        let waits = |state: &mut State<L>| state.disk == Disk::Unopened;
        // Whether it was opened in time does not matter: it is used from when it is.
        let _ = self.opened.wait_timeout_while(self.lock(), patience, waits);
    }

    fn changed(&self, state: MutexGuard<'_, State<L>>) {
        self.metrics.queue_bytes.set(gauge_value(state.bytes));
        self.metrics.queue_entries.set(gauge_value(state.waiting.len() as u64));
        drop(state);
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<L>> {
        // No code panics while it holds the lock; were it to, then counts may be off, which is no reason to end.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's side.
impl<L: Clone> Ledger<L> {
    /// Returns when there is something to do, or after `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Call {
        let idle = |state: &mut State<L>| {
            let work = state.disk == Disk::Open && (state.clear || !state.order.is_empty());
            !work && !state.closing && !std::mem::take(&mut state.poked)
        };
        let (state, _) =
            self.work.wait_timeout_while(self.lock(), patience, idle).unwrap_or_else(PoisonError::into_inner);
        if state.closing { Call::Close } else { Call::Work }
    }

    /// Takes up to `count` changes of together about `bytes` bytes; they keep waiting until they are settled.
    pub(crate) fn take(&self, count: usize, bytes: u64) -> Vec<Taken<L>> {
        let state = &mut *self.lock();
        let (mut taken, mut size) = (vec![], 0);
        while taken.len() < count && size < bytes {
            let Some(name) = state.order.pop_front() else { break };
            let Some(waiting) = state.waiting.get_mut(&name) else { continue };
            waiting.taken = true;
            size += waiting.bytes;
            taken.push(Taken { name, number: waiting.number, op: waiting.op.clone() });
        }
        taken
    }

    /// Notes that `taken` is done: the names in `kept` are on disk now, those in `gone` are not.
    pub(crate) fn settle(&self, taken: &[Taken<L>], kept: &[Name], gone: &[Name]) {
        let mut state = self.lock();
        for name in gone {
            state.names.remove(&short(name));
            state.visited.remove(&short(name));
        }
        state.names.extend(kept.iter().map(short));
        for one in taken {
            if state.waiting.get(&one.name).is_some_and(|waiting| waiting.number == one.number) {
                // It was taken, so it has no place in the order.
                state.remove(&one.name);
            }
        }
        self.changed(state);
    }

    /// Whether everything waits to be forgotten.
    pub(crate) fn clear_waits(&self) -> bool {
        self.lock().clear
    }

    /// Notes that everything was forgotten.
    pub(crate) fn cleared(&self) {
        let state = &mut *self.lock();
        state.clear = false;
        state.names.clear();
        state.visited.clear();
    }

    /// Whether nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && !state.clear
    }

    /// Whether `name` was used since this was last asked.
    pub(crate) fn take_visit(&self, name: &Name) -> bool {
        self.lock().visited.remove(&short(name))
    }

    /// Notes that the disk holds these names and may be used.
    pub(crate) fn open(&self, names: HashSet<u64>) {
        let mut state = self.lock();
        state.names = names;
        state.visited.clear();
        state.disk = Disk::Open;
        self.opened.notify_all();
        self.changed(state);
    }

    /// Notes that the disk may be written again.
    pub(crate) fn resume(&self) {
        let mut state = self.lock();
        state.disk = Disk::Open;
        self.changed(state);
    }

    /// Notes that the disk failed: what waits to be kept is dropped, and counted; what waits to be forgotten waits on.
    pub(crate) fn fail(&self) {
        let mut state = self.lock();
        state.disk = Disk::Failed;
        let kept = |waiting: &Waiting<L>| matches!(waiting.op, Op::Keep(..));
        let keeps: Vec<Name> =
            state.waiting.iter().filter(|(_, waiting)| kept(waiting)).map(|(name, _)| *name).collect();
        self.metrics.dropped(Dropped::Failed, keeps.len() as u64);
        for name in keeps {
            state.remove(&name);
            // What is on disk under that name is older than what was to be kept.
            if state.names.contains(&short(&name)) {
                state.put(name, Op::Forget, 0);
            }
        }
        state.requeue();
        self.opened.notify_all();
        self.changed(state);
    }
}

impl<L> State<L> {
    /// Whether `name` may be on disk, or on its way there.
    fn knows(&self, name: &Name) -> bool {
        self.disk == Disk::Unopened || self.waiting.contains_key(name) || self.names.contains(&short(name))
    }

    fn put(&mut self, name: Name, op: Op<L>, bytes: u64) {
        self.next += 1;
        let queued = self.remove(&name);
        if matches!(op, Op::Keep(..)) {
            self.keeps += 1;
            self.bytes += bytes;
        }
        self.waiting.insert(name, Waiting { number: self.next, op, bytes, taken: false });
        if !queued {
            self.order.push_back(name);
        }
    }

    /// Removes what waits under `name`; says whether it has a place in the order.
    fn remove(&mut self, name: &Name) -> bool {
        let Some(before) = self.waiting.remove(name) else { return false };
        if matches!(before.op, Op::Keep(..)) {
            self.keeps -= 1;
            self.bytes -= before.bytes;
        }
        !before.taken
    }

    fn requeue(&mut self) {
        self.order.clear();
        for (name, waiting) in &mut self.waiting {
            waiting.taken = false;
            self.order.push_back(*name);
        }
    }

    fn clear_all(&mut self) {
        self.waiting.clear();
        self.order.clear();
        (self.bytes, self.keeps, self.clear) = (0, 0, true);
    }
}

impl<L: Clone> Clone for Op<L> {
    fn clone(&self) -> Self {
        match self {
            Op::Keep(live, incoming) => Op::Keep(live.clone(), incoming.clone()),
            Op::Forget => Op::Forget,
            Op::ForgetIfGone(target) => Op::ForgetIfGone(*target),
        }
    }
}

/// The first eight bytes of a name. Names are hashes: two that share them are a look-up on disk too many, no more.
pub(crate) fn short(name: &Name) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *name;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use tutti_telemetry::Metrics;

    use super::*;
    use crate::metrics::CacheMetrics;

    fn ledger(bytes_max: u64, keeps_max: usize) -> (Ledger<u32>, Metrics) {
        let metrics = Metrics::default();
        let ledger = Ledger::new(bytes_max, keeps_max, CacheMetrics::new(&metrics).shelf("results"));
        ledger.open(HashSet::new());
        (ledger, metrics)
    }

    fn keep(ledger: &Ledger<u32>, name: u8, live: u32, bytes: u64) -> bool {
        ledger.keep([name; 32], live, None, bytes, Overflow::ForgetBefore)
    }

    fn waits(ledger: &Ledger<u32>, name: u8) -> Option<u32> {
        match ledger.standing(&[name; 32]) {
            Standing::Waiting(live) => Some(live),
            Standing::Perhaps | Standing::Absent => None,
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (ledger, metrics) = ledger(100, 3);
        assert!(keep(&ledger, 1, 1, 60) && keep(&ledger, 2, 2, 40));
        assert!(!keep(&ledger, 3, 3, 1), "the bytes are used up");
        assert!(keep(&ledger, 1, 11, 50), "what is replaced makes room");
        assert!(keep(&ledger, 3, 3, 1));
        assert!(!keep(&ledger, 4, 4, 0), "the places are used up");
        assert_eq!((waits(&ledger, 1), waits(&ledger, 3), waits(&ledger, 4)), (Some(11), Some(3), None));
        let text = metrics.text();
        assert!(
            text.contains("cache_disk_dropped_writes_total{kind=\"results\",reason=\"queue\"} 2"),
            "{text}"
        );
    }

    #[test]
    fn a_change_that_comes_while_one_is_in_work_is_not_lost() {
        let (ledger, _metrics) = ledger(100, 10);
        keep(&ledger, 1, 1, 1);
        let taken = ledger.take(10, 100);
        assert_eq!(waits(&ledger, 1), Some(1), "what is in work still answers");
        ledger.forget(&[1; 32]);
        ledger.settle(&taken, &[[1; 32]], &[]);
        assert!(matches!(ledger.standing(&[1; 32]), Standing::Absent), "it is to be forgotten");
        let taken = ledger.take(10, 100);
        assert!(matches!(taken[..], [Taken { op: Op::Forget, .. }]));
        ledger.settle(&taken, &[], &[[1; 32]]);
        assert!(ledger.is_idle() && matches!(ledger.standing(&[1; 32]), Standing::Absent));
    }

    #[test]
    fn replacing_does_not_lengthen_the_queue() {
        let (ledger, _metrics) = ledger(100, 10);
        for live in 0..1000 {
            keep(&ledger, 1, live, 1);
        }
        assert_eq!(ledger.lock().order.len(), 1);
        let taken = ledger.take(10, 100);
        assert!(matches!(taken[..], [Taken { op: Op::Keep(999, _), .. }]));
    }

    #[test]
    fn a_failed_disk_drops_what_waits_but_forgets_what_it_must() {
        let (ledger, _metrics) = ledger(100, 10);
        keep(&ledger, 1, 1, 1);
        let taken = ledger.take(10, 100);
        ledger.settle(&taken, &[[1; 32]], &[]);
        keep(&ledger, 1, 2, 1);
        keep(&ledger, 2, 2, 1);
        ledger.fail();
        assert!(matches!(ledger.standing(&[1; 32]), Standing::Absent), "the older one is not served");
        assert!(!keep(&ledger, 3, 3, 1));
        ledger.forget(&[2; 32]);
        ledger.resume();
        let taken = ledger.take(10, 100);
        assert!(
            matches!(taken[..], [Taken { name: [1, ..], op: Op::Forget, .. }]),
            "and 2 never was on disk"
        );
    }

    #[test]
    fn too_much_to_forget_is_everything_to_forget() {
        let (ledger, _metrics) = ledger(100, 10);
        let name = |number: usize| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_le_bytes());
            name
        };
        ledger.open((0..=FORGETS_MAX as u64).collect());
        for number in 0..FORGETS_MAX {
            ledger.forget(&name(number));
        }
        assert!(!ledger.clear_waits());
        assert!(matches!(ledger.standing(&name(FORGETS_MAX)), Standing::Perhaps));
        ledger.forget(&name(FORGETS_MAX));
        assert!(ledger.clear_waits());
        assert!(ledger.lock().waiting.is_empty(), "which takes no memory");
        assert!(!ledger.may_read());
    }

    #[test]
    fn a_name_is_forgotten_even_before_the_disk_was_opened() {
        let metrics = Metrics::default();
        let ledger = Ledger::<u32>::new(100, 10, CacheMetrics::new(&metrics).shelf("results"));
        ledger.forget(&[1; 32]);
        ledger.open([short(&[1; 32])].into());
        assert!(matches!(ledger.standing(&[1; 32]), Standing::Absent));
        assert_eq!(ledger.take(10, 100).len(), 1);
    }
}
