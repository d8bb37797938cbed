//! Where jobs run: asks the dispatcher for a node, waits for a place, and says how it ended. Sends nothing itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use tutti_base::rng::SplitMix;
use tutti_base::{Clock, ContentHash, Deadline, Kind, NodeId, Problem, Roles, View};
use tutti_dispatch::job::SMALL_MS;
use tutti_dispatch::{Candidate, Dispatcher, Explained, JobAsk, NoPlace, Offer, Outcome, SentId, WaitTicket};
use tutti_telemetry::metrics::EncodeLabelSet;
use tutti_telemetry::{Counter, Family, Gauge, Histogram, Metrics};

use crate::dispatching::Dispatching;
use crate::mesh::Mesh;
use crate::owner::out_of_time;
use crate::seams::Capacity;

/// Heavy jobs of peers that are accepted beyond the permits; the rest are told that there is no place, and wait where they
/// came from, so that a better node can still have them.
pub const HEAVY_BESIDES: usize = 1;
/// Small jobs that are accepted beyond the permits: they have a lane of their own.
pub const SMALL_BESIDES: usize = 4;
/// How often places are looked for beside the ends of jobs.
const WAKE_EVERY: Duration = Duration::from_millis(50);
/// An output crosses the network as about this many bytes, as long as nothing better is known.
const OUTPUT_BYTES: u64 = 64 << 10;

/// The labels of `tutti_dispatch_choices_total`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Choice {
    node: String,
    reason: &'static str,
}

/// Places for jobs, here and elsewhere.
pub struct Seats {
    mesh: Arc<Mesh>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    intake: Arc<Mutex<Intake>>,
    dispatching: ArcSwap<Dispatching>,
    choices: Family<Choice, Counter>,
    waiting: Gauge,
    error: Histogram,
}

struct State {
    dispatcher: Dispatcher,
    rng: SplitMix,
    waiting: HashMap<WaitTicket, (oneshot::Sender<Seat>, f64)>,
    /// Predicted CPU ms of this node's jobs that are on others.
    away_ms: HashMap<NodeId, f64>,
}

/// What this node has accepted, from itself and from others.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Intake {
    /// Heavy jobs.
    pub heavy: usize,
    /// Small jobs.
    pub small: usize,
    /// Their predicted CPU time in ms.
    pub backlog_ms: f64,
    /// Their estimated bytes.
    pub bytes: u64,
}

impl Intake {
    /// All jobs.
    pub fn jobs(&self) -> usize {
        self.heavy + self.small
    }

    fn lane(&mut self, cpu_ms: f64) -> &mut usize {
        if cpu_ms < SMALL_MS { &mut self.small } else { &mut self.heavy }
    }
}

/// A job's place among what this node has accepted; given back when it is dropped.
pub(crate) struct IntakePlace {
    intake: Arc<Mutex<Intake>>,
    cpu_ms: f64,
    bytes: u64,
}

impl Drop for IntakePlace {
    fn drop(&mut self) {
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = intake.lane(self.cpu_ms);
        *lane = lane.saturating_sub(1);
        intake.bytes = intake.bytes.saturating_sub(self.bytes);
        intake.backlog_ms = if intake.jobs() == 0 { 0.0 } else { (intake.backlog_ms - self.cpu_ms).max(0.0) };
    }
}

/// A job that wants a place.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Whose job it is.
    pub(crate) service: &'static str,
    /// Its class.
    pub(crate) class: &'static str,
    /// Predicted CPU time in ms.
    pub(crate) cpu_ms: f64,
    /// Estimated bytes in memory.
    pub(crate) bytes: u64,
    /// Its originals.
    pub(crate) inputs: Vec<(ContentHash, u64)>,
    /// Until when.
    pub(crate) deadline: Deadline,
    /// Nodes that failed it.
    pub(crate) tried: Vec<NodeId>,
}

/// A place for one job. Dropped without a word it counts as cancelled.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    /// The node, none for this one.
    pub(crate) node: Option<NodeId>,
    /// Why that one; none where there was no choice.
    pub(crate) explained: Option<Explained>,
    sent: Option<SentId>,
    cpu_ms: f64,
    _intake: Option<IntakePlace>,
}

impl Seat {
    /// Says how the job ended.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    /// Why this node, in a few words for people.
    pub(crate) fn why(&self) -> Option<String> {
        let explained = self.explained.as_ref()?;
        let expected =
            explained.expected_ms().map(|ms| format!(", expected in {ms:.0} ms")).unwrap_or_default();
        Some(format!("{}{expected}", explained.reason.word()))
    }

    /// The CPU time that the chosen node was expected to take.
    fn expected_cpu_ms(&self) -> Option<f64> {
        let explained = self.explained.as_ref()?;
        let chosen = explained.chosen?;
        let seen = explained.considered.iter().find(|seen| seen.node == chosen)?;
        Some(seen.terms.heuristics_ms + seen.terms.history_ms).filter(|ms| *ms > 0.0)
    }

    fn finish(&mut self, outcome: Outcome) {
        let Some(sent) = self.sent.take() else { return };
        if let Outcome::Done { measured_ms } = outcome
            && let Some(expected_ms) = self.expected_cpu_ms()
        {
            self.seats.error.observe(measured_ms / expected_ms);
        }
        let now = self.seats.clock.now();
        {
            let mut state = self.seats.state();
            state.dispatcher.ended(sent, outcome, now);
            if let Some(node) = self.node
                && let Some(away) = state.away_ms.get_mut(&node)
            {
                *away = (*away - self.cpu_ms).max(0.0);
            }
        }
        self.seats.wake();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.finish(Outcome::Cancelled);
    }
}

/// A ticket that is handed back when nobody waits for it any more.
struct Waiting<'a>(&'a Seats, WaitTicket);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.waiting.remove(&self.1).is_some() {
            state.dispatcher.cancel(self.1);
        }
        self.0.waiting.set(state.dispatcher.waiting() as i64);
    }
}

impl Seats {
    pub(crate) fn new(mesh: Arc<Mesh>, clock: Arc<dyn Clock>, seed: u64, metrics: &Metrics) -> Self {
        let state = State {
            dispatcher: Dispatcher::new(),
            rng: SplitMix::new(seed),
            waiting: HashMap::new(),
            away_ms: HashMap::new(),
        };
        let limits = [
            ("flow_intake_heavy", "Heavy jobs of peers accepted beyond the permits", HEAVY_BESIDES),
            ("flow_intake_small", "Small jobs of peers accepted beyond the permits", SMALL_BESIDES),
            ("dispatch_waiting", "Jobs that may wait for a node", tutti_dispatch::waiting::WAITING_MAX),
            ("dispatch_nodes", "Nodes whose accounts are kept", tutti_dispatch::book::NODES_MAX),
            ("dispatch_classes", "Job classes learned for each node", tutti_dispatch::history::CLASSES_MAX),
        ];
        limits.iter().for_each(|(name, help, limit)| metrics.limit(name, help, *limit as u64));
        let choices = Family::default();
        Self {
            mesh,
            clock,
            state: Mutex::new(state),
            intake: Arc::default(),
            dispatching: ArcSwap::default(),
            choices: metrics.register("dispatch_choices", "Jobs by the node that got them, and why", choices),
            waiting: metrics.gauge("dispatch_waiting_jobs", "Jobs that wait for a node"),
            error: metrics.register(
                "dispatch_prediction_ratio",
                "Measured by predicted CPU time of jobs, as the chosen node's history expected it",
                Histogram::new([0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 4.0]),
            ),
        }
    }

    /// Changes how nodes are chosen, from the next job on.
    pub fn set_dispatching(&self, dispatching: Dispatching) {
        self.dispatching.store(Arc::new(dispatching));
    }

    /// Whether this node gives nothing to others: off-load is off for it.
    pub fn stays_here(&self) -> bool {
        let dispatching = self.dispatching.load();
        !dispatching.no_offload.is_empty()
            && dispatching.no_offload.contains(self.name_of_me(&self.mesh.view()))
    }

    /// Whether `service` does no work on the node `name`.
    pub(crate) fn is_off(&self, service: &str, name: &str) -> bool {
        self.dispatching.load().off.get(service).is_some_and(|off| off.contains(name))
    }

    /// What this node has accepted.
    pub fn accepted(&self) -> Intake {
        *self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the others give to jobs, in cores, and the work that they have from others than this node, in CPU ms.
    pub fn others(&self) -> (f64, f64) {
        let view = self.mesh.view();
        if view.is_alone() || self.dispatching.load().no_offload.contains(self.name_of_me(&view)) {
            return (0.0, 0.0);
        }
        let state = self.state();
        let workers = view.others().filter(|member| member.is_up() && member.roles.has(Roles::WORKER));
        workers.fold((0.0, 0.0), |(cpu, backlog), member| {
            let ours = state.away_ms.get(&member.id).copied().unwrap_or(0.0);
            let theirs = (f64::from(member.load.backlog_ms) - ours).max(0.0);
            (cpu + f64::from(member.load.cpu) / 1000.0, backlog + theirs)
        })
    }

    /// Accepts a job of a peer, or says that there is no place.
    pub(crate) fn intake(&self, cpu_ms: f64, bytes: u64, capacity: Capacity) -> Result<IntakePlace, Problem> {
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        let besides = if cpu_ms < SMALL_MS { SMALL_BESIDES } else { HEAVY_BESIDES };
        let is_full = *intake.lane(cpu_ms) >= capacity.permits + besides
            || intake.bytes.saturating_add(bytes) > capacity.bytes;
        if is_full {
            return Err(
                Problem::new(Kind::Overloaded, "this node has all the jobs it should have").about("intake")
            );
        }
        *intake.lane(cpu_ms) += 1;
        intake.backlog_ms += cpu_ms;
        intake.bytes += bytes;
        Ok(IntakePlace { intake: Arc::clone(&self.intake), cpu_ms, bytes })
    }

    /// A place for a job: at once, or as soon as a node has one. Cancel-safe.
    ///
    /// Errors: nobody has a place before the deadline, or too many wait.
    pub(crate) async fn take(self: &Arc<Self>, wish: &Wish) -> Result<Seat, Problem> {
        let view = self.mesh.view();
        let candidates = self.candidates(wish, &view);
        let only_here = candidates.iter().all(|candidate| candidate.is_me);
        if only_here {
            return Ok(self.here(wish));
        }
        let ask = self.job_ask(wish, &view);
        let (ticket, receiver) = {
            let mut state = self.state();
            let State { dispatcher, rng, .. } = &mut *state;
            match dispatcher.offer(ask, &candidates, self.clock.now(), rng) {
                Offer::Send { sent, explained } => {
                    return Ok(self.seat(&mut state, wish.cpu_ms, sent, explained));
                }
                // Whoever asks gets an answer: this node makes it when no other is left.
                Offer::Nowhere(NoPlace::NoNode) => return Ok(self.here(wish)),
                Offer::Nowhere(NoPlace::Late) => return Err(out_of_time()),
                Offer::Nowhere(NoPlace::RoomFull) => return Err(room_full()),
                Offer::Wait(ticket) => {
                    let (sender, receiver) = oneshot::channel();
                    state.waiting.insert(ticket, (sender, wish.cpu_ms));
                    self.waiting.set(state.dispatcher.waiting() as i64);
                    (ticket, receiver)
                }
            }
        };
        let _waiting = Waiting(self, ticket);
        match select(receiver, self.clock.sleep_until(wish.deadline.0)).await {
            Either::Left((Ok(seat), _)) => Ok(seat),
            // Its sender was dropped: no node is left, or its time is over.
            Either::Left((Err(_), _)) if !wish.deadline.passed(self.clock.now()) => Ok(self.here(wish)),
            Either::Left((Err(_), _)) | Either::Right(_) => Err(out_of_time()),
        }
    }

    /// Looks for places for those who wait, for ever: reports of other nodes come at any time.
    pub async fn keep_waking(self: Arc<Self>) {
        loop {
            self.clock.sleep_until(self.clock.now() + WAKE_EVERY).await;
            self.wake();
        }
    }

    /// Finds places for those who wait. Called when work has ended, and when reports have come.
    pub fn wake(self: &Arc<Self>) {
        let mut state = self.state();
        if state.waiting.is_empty() {
            return;
        }
        let view = self.mesh.view();
        let now = self.clock.now();
        let candidates: Vec<_> = self.workers(&view, |_| 0.0).collect();
        let State { dispatcher, rng, .. } = &mut *state;
        let woken = dispatcher.wake(&candidates, now, rng);
        let mut unwanted = Vec::new();
        for (ticket, offer) in woken {
            let waiter = state.waiting.remove(&ticket);
            if let Offer::Send { sent, explained } = offer {
                let cpu_ms = waiter.as_ref().map_or(0.0, |(_, cpu_ms)| *cpu_ms);
                let seat = self.seat(&mut state, cpu_ms, sent, explained);
                unwanted.extend(match waiter {
                    Some((waiter, _)) => waiter.send(seat).err(),
                    None => Some(seat),
                });
            }
        }
        self.waiting.set(state.dispatcher.waiting() as i64);
        drop(state);
        // Whoever waited has just gone; the places go back outside the lock.
        drop(unwanted);
    }

    /// Whether a job that failed on a node may be tried on another: retries have a budget, so that they do not keep an
    /// overload alive.
    pub(crate) fn may_retry(&self) -> bool {
        self.state().dispatcher.may_retry(self.clock.now())
    }

    /// Who would get a job, without any effect; none where there is no choice.
    pub(crate) fn explain(&self, wish: &Wish) -> Option<Explained> {
        let view = self.mesh.view();
        let candidates = self.candidates(wish, &view);
        if candidates.iter().all(|candidate| candidate.is_me) {
            return None;
        }
        let ask = self.job_ask(wish, &view);
        let mut rng = SplitMix::new(0);
        Some(self.state().dispatcher.explain(&ask, &candidates, self.clock.now(), &mut rng))
    }

    /// A place on this node, whatever it has.
    pub(crate) fn here(self: &Arc<Self>, wish: &Wish) -> Seat {
        let _intake = Some(self.note_here(wish.cpu_ms, wish.bytes));
        Seat {
            seats: Arc::clone(self),
            node: None,
            explained: None,
            sent: None,
            cpu_ms: wish.cpu_ms,
            _intake,
        }
    }

    fn seat(self: &Arc<Self>, state: &mut State, cpu_ms: f64, sent: SentId, explained: Explained) -> Seat {
        let view = self.mesh.view();
        let node = explained.chosen.filter(|node| *node != view.me);
        let name = self.mesh.name(explained.chosen.unwrap_or(view.me)).to_string();
        tracing::debug!(node = name, reason = explained.reason.word(), terms = ?explained.considered, "a node was chosen");
        self.choices.get_or_create(&Choice { node: name, reason: explained.reason.word() }).inc();
        let _intake = match node {
            Some(node) => {
                *state.away_ms.entry(node).or_insert(0.0) += cpu_ms;
                None
            }
            None => Some(self.note_here(cpu_ms, 0)),
        };
        Seat { seats: Arc::clone(self), node, explained: Some(explained), sent: Some(sent), cpu_ms, _intake }
    }

    fn note_here(&self, cpu_ms: f64, bytes: u64) -> IntakePlace {
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        *intake.lane(cpu_ms) += 1;
        intake.backlog_ms += cpu_ms;
        intake.bytes += bytes;
        IntakePlace { intake: Arc::clone(&self.intake), cpu_ms, bytes }
    }

    fn job_ask(&self, wish: &Wish, view: &View) -> JobAsk {
        let dispatching = self.dispatching.load();
        let policy = dispatching.policies.get(wish.service).copied().unwrap_or(dispatching.policy);
        let moved: u64 = wish.inputs.iter().map(|(_, len)| *len).sum();
        let off = dispatching.off.get(wish.service);
        let is_off = |name: &str| off.is_some_and(|off| off.contains(name));
        let off = view.members.iter().filter(|member| is_off(&member.name)).map(|member| member.id);
        JobAsk {
            policy,
            bytes: OUTPUT_BYTES,
            original_ms: moved as f64 / tutti_dispatch::candidate::BYTES_PER_MS,
            key: wish.inputs.first().map_or(0, |(hash, _)| hash.prefix()),
            tried: wish.tried.iter().copied().chain(off).collect(),
            ..JobAsk::new(wish.class, wish.cpu_ms, wish.deadline.0)
        }
    }

    fn candidates(&self, wish: &Wish, view: &View) -> Vec<Candidate> {
        if view.is_alone() || self.dispatching.load().no_offload.contains(self.name_of_me(view)) {
            return Vec::new();
        }
        let has = |node| {
            let known = wish.inputs.iter().filter(|(hash, _)| self.mesh.has(node, hash)).count();
            if wish.inputs.is_empty() { 1.0 } else { known as f64 / wish.inputs.len() as f64 }
        };
        self.workers(view, has).collect()
    }

    /// The workers as candidates; this node with what it has accepted as of now.
    fn workers<'a>(
        &'a self,
        view: &'a View,
        has_original: impl Fn(NodeId) -> f64 + 'a,
    ) -> impl Iterator<Item = Candidate> + 'a {
        let now = self.clock.now();
        let dispatching = self.dispatching.load_full();
        let accepted = self.accepted();
        view.members.iter().filter(|member| member.roles.has(Roles::WORKER)).map(move |member| {
            let weight = dispatching.weights.get(&*member.name).copied().unwrap_or(1.0);
            let seen = Candidate { weight, ..Candidate::of(member, view.me, now) };
            if !seen.is_me {
                return Candidate { has_original: has_original(member.id), ..seen };
            }
            Candidate {
                has_original: 1.0,
                age: Duration::ZERO,
                jobs: accepted.jobs().min(usize::from(u16::MAX)) as u16,
                backlog_ms: accepted.backlog_ms,
                ..seen
            }
        })
    }

    fn name_of_me<'a>(&self, view: &'a View) -> &'a str {
        view.myself().map_or("", |member| &member.name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn room_full() -> Problem {
    Problem::new(Kind::Overloaded, "no capacity: too many jobs wait for a node; try again later")
        .about("waiting")
        .retry_after(Duration::from_secs(1))
}
