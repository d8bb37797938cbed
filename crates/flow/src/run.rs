//! Running an engine's job for a flight: on this node or on the one that the dispatcher names, tried elsewhere unseen when
//! a node fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tracing::Instrument;
use tutti_base::{CallError, Clock, Deadline, FileBody, Kind, Lane, NodeId, Problem, ResultKey};
use tutti_dispatch::Outcome;
use tutti_service::{Facts, Output, OwnedInput, Refined};

use crate::failures::{Failed, Failures};
use crate::flight::Until;
use crate::gate::Place;
use crate::make::Making;
use crate::meter::Meter;
use crate::originals::Original;
use crate::owner::out_of_time;
use crate::seams::Task;
use crate::seats::Wish;
use crate::wire::{Ask, Told, WireInput, WireRan, WireRun};
use crate::{Flow, Whence};

/// No engine works longer on one job than this past the deadline that it began with, however many more wait for it.
const FOLLOWERS_ADD_MAX: Duration = Duration::from_secs(60);
/// A result that comes from another node has at most this many bytes.
const RESULT_BYTES_MAX: u64 = 64 << 20;
/// Nodes that one job is tried on before this node does it itself.
const TRIES_MAX: usize = 4;
/// Nodes that may have no place for a job after all before this node does it itself.
const FULLS_MAX: usize = 8;

/// A job that is ready for an engine.
pub(crate) struct Engine<'a> {
    pub(crate) refined: Refined,
    pub(crate) originals: &'a [Original],
    pub(crate) facts: Vec<Facts>,
    pub(crate) result: ResultKey,
}

/// How a node took a job.
enum There {
    /// It did it, and all of the result is here.
    Ran(WireRan, Bytes),
    /// It had no place.
    Full,
    /// It cannot do it, however often it is asked: it lacks the service, the role or the original.
    Cannot,
    /// It, or the way to it, failed.
    Failed(String),
    /// The job is to blame.
    Problem(Problem),
    /// Nobody waits any more; whether an engine had begun is not known.
    Late,
}

impl Flow {
    /// Runs the job where it is expected to be done first, and says where and why.
    pub(crate) async fn run(
        self: &Arc<Self>,
        making: &Making<'_>,
        engine: Engine<'_>,
        place: &Place,
    ) -> Result<(Output, Whence), Problem> {
        if let Some(media) = engine.refined.pass_through.clone() {
            return Ok((self.pass_through(engine.originals, media).await?, Whence::default()));
        }
        let mut wish = self.wish(making, &engine);
        let mut fulls = 0;
        loop {
            if wish.tried.len() >= TRIES_MAX || fulls >= FULLS_MAX {
                return self.run_for_want_of_others(making, &engine, place, &wish).await;
            }
            let seat = self.seats.take(&wish).await?;
            let why = seat.why();
            let Some(node) = seat.node else {
                let outcome = self.run_here(making, &engine, place).await;
                seat.end(ended(outcome.as_ref().map(|output| output.cpu_ms)));
                return Ok((outcome?, self.whence(None, why)));
            };
            match self.run_there(node, making, &engine).await {
                There::Ran(ran, bytes) => {
                    Meter::count(&self.meter.remote_runs, "done");
                    self.mesh.hear(node, ran.report);
                    seat.end(Outcome::Done { measured_ms: f64::from(ran.cpu_ms) });
                    place.learn(ran.cpu_ms);
                    engine.originals.iter().for_each(|original| self.mesh.note_placed(node, original.hash));
                    let WireRan { content_type, fields, cpu_ms, .. } = ran;
                    let output = Output { content_type, body: bytes.into(), fields, cpu_ms };
                    return Ok((output, self.whence(Some(node), why)));
                }
                There::Full => {
                    Meter::count(&self.meter.remote_runs, "refused");
                    seat.end(Outcome::Full);
                    fulls += 1;
                }
                There::Cannot => {
                    Meter::count(&self.meter.remote_runs, "refused");
                    seat.end(Outcome::Cancelled);
                    wish.tried.push(node);
                }
                There::Failed(error) => {
                    Meter::count(&self.meter.remote_runs, "failed");
                    tracing::debug!(error, "a job is tried elsewhere");
                    seat.end(Outcome::Failed { retry_after: None });
                    wish.tried.push(node);
                    if !self.seats.may_retry() {
                        return self.run_for_want_of_others(making, &engine, place, &wish).await;
                    }
                }
                There::Late => {
                    Meter::count(&self.meter.remote_runs, "late");
                    seat.end(Outcome::Cancelled);
                    return Err(out_of_time());
                }
                There::Problem(problem) => {
                    seat.end(Outcome::Cancelled);
                    if problem.kind == Kind::Timeout {
                        self.failures.note_time_out(engine.result, self.outside.clock.now());
                        return Err(problem);
                    }
                    return Err(self.note_failure(making, &engine, problem));
                }
            }
        }
    }

    /// Runs the job here because no other node is left for it.
    async fn run_for_want_of_others(
        self: &Arc<Self>,
        making: &Making<'_>,
        engine: &Engine<'_>,
        place: &Place,
        wish: &Wish,
    ) -> Result<(Output, Whence), Problem> {
        let seat = self.seats.here(wish);
        let output = self.run_here(making, engine, place).await?;
        drop(seat);
        Ok((output, self.whence(None, None)))
    }

    fn wish(&self, making: &Making<'_>, engine: &Engine<'_>) -> Wish {
        let refined = &engine.refined;
        Wish {
            service: self.registry.get(making.planned.service).describe().name,
            class: refined.class,
            cpu_ms: f64::from(self.gate.expect_refined_ms(refined.class, &refined.cost)),
            bytes: refined.cost.bytes,
            inputs: engine.originals.iter().map(|original| (original.hash, original.body.len)).collect(),
            deadline: making.until.deadline(),
            tried: Vec::new(),
        }
    }

    fn whence(&self, node: Option<NodeId>, why: Option<String>) -> Whence {
        let maker = node.map_or_else(|| Arc::clone(&self.me), |node| self.mesh.name(node));
        Whence { maker: Some(maker), why: why.map(Into::into), through: None }
    }

    async fn run_here(
        self: &Arc<Self>,
        making: &Making<'_>,
        engine: &Engine<'_>,
        place: &Place,
    ) -> Result<Output, Problem> {
        let inputs = engine.originals.iter().zip(&engine.facts);
        let started = Arc::new(AtomicBool::new(false));
        let mut context = making.context.clone();
        // Who joins later may extend the flight; it is cancelled when the last of them has gone.
        context.deadline = Deadline(making.until.deadline().0 + FOLLOWERS_ADD_MAX);
        let task = Task {
            service: making.planned.service,
            job: engine.refined.clone(),
            inputs: inputs.map(|(original, facts)| input(&original.body, facts.clone())).collect(),
            context,
            started: Arc::clone(&started),
        };
        let mut guard = self.time_out_guard(making, &started, engine.result);
        let outcome = self.outside.work.run(task).instrument(tracing::debug_span!("flow.work")).await;
        guard.end = match &outcome {
            Err(problem) if problem.kind == Kind::Timeout => End::TimedOut,
            _ => End::Done,
        };
        drop(guard);
        match outcome {
            Ok(output) => {
                place.learn(output.cpu_ms);
                Ok(output)
            }
            Err(problem) => Err(self.note_failure(making, engine, problem)),
        }
    }

    /// Lets `node` run the job; it gets the originals from here where it lacks them.
    async fn run_there(self: &Arc<Self>, node: NodeId, making: &Making<'_>, engine: &Engine<'_>) -> There {
        let sources = &making.planned.sources;
        // Only where the job's inputs are originals and nothing else do names and inputs go together.
        let named = sources.len() == engine.originals.len();
        let inputs = engine.originals.iter().zip(&engine.facts).enumerate();
        let run = WireRun {
            id: making.context.id.0,
            service: self.registry.get(making.planned.service).describe().name.into(),
            tenant: making.planned.tenant.clone(),
            class: engine.refined.class.into(),
            params: engine.refined.params.clone(),
            cost: engine.refined.cost,
            inputs: inputs
                .map(|(at, (original, facts))| WireInput {
                    source: named.then(|| sources[at].1.clone()),
                    hash: original.hash,
                    len: original.body.len,
                    facts: facts.clone(),
                })
                .collect(),
        };
        let _loans: Vec<_> = engine.originals.iter().map(|original| self.mesh.lend(original)).collect();
        let span = tracing::debug_span!("flow.work", node = %node);
        self.call_run(node, making, &Ask::Run(Box::new(run))).instrument(span).await
    }

    async fn call_run(self: &Arc<Self>, node: NodeId, making: &Making<'_>, ask: &Ask) -> There {
        loop {
            let left = making.until.deadline().left(self.outside.clock.now());
            if left.is_zero() {
                return There::Late;
            }
            // Who joins later may extend the flight; the call is cancelled with it when the last of them has gone.
            let within = left + FOLLOWERS_ADD_MAX;
            let refused = match self.mesh.ask(node, Lane::Small, ask, Bytes::new(), within).await {
                Ok((Told::Ran(ran), body)) => {
                    return match self.outside.copies.read(body, RESULT_BYTES_MAX).await {
                        Ok(bytes) => There::Ran(ran, bytes),
                        Err(error) => There::Failed(format!("its result broke off: {error}")),
                    };
                }
                Ok(_) => return There::Full,
                Err(CallError::Late(_)) => continue,
                Err(CallError::Refused(_, problem)) => *problem,
                Err(error) => return There::Failed(error.to_string()),
            };
            return match refused.kind {
                Kind::Overloaded => There::Full,
                Kind::Unavailable => There::Cannot,
                // Its defect and not the job's: another node may do better.
                Kind::Internal => There::Failed(refused.to_string()),
                _ => There::Problem(refused),
            };
        }
    }

    fn note_failure(&self, making: &Making<'_>, engine: &Engine<'_>, problem: Problem) -> Problem {
        if problem.of_input {
            return self.note_input(problem, engine.originals, making);
        }
        self.failures.note(Failed::Result(engine.result), &problem, self.outside.clock.now());
        problem
    }

    fn time_out_guard<'a>(
        &'a self,
        making: &Making<'a>,
        started: &'a AtomicBool,
        result: ResultKey,
    ) -> TimeOutGuard<'a> {
        let (failures, clock) = (&*self.failures, &*self.outside.clock);
        TimeOutGuard { failures, clock, until: making.until, started, result, end: End::Dropped }
    }
}

fn ended(outcome: Result<f32, &Problem>) -> Outcome {
    match outcome {
        Ok(cpu_ms) => Outcome::Done { measured_ms: f64::from(cpu_ms) },
        // A node that fails fast must not look fast.
        Err(problem) if problem.kind == Kind::Internal => Outcome::Failed { retry_after: None },
        Err(_) => Outcome::Cancelled,
    }
}

/// Notes a time-out in the engine when the last waiter's deadline ended a run, whether the worker said so or the flight
/// was dropped.
struct TimeOutGuard<'a> {
    failures: &'a Failures,
    clock: &'a dyn Clock,
    until: &'a Until,
    started: &'a AtomicBool,
    result: ResultKey,
    end: End,
}

/// How a run ended.
enum End {
    /// It said something else than that it timed out.
    Done,
    /// The worker ended it.
    TimedOut,
    /// Nobody waited any more.
    Dropped,
}

impl Drop for TimeOutGuard<'_> {
    fn drop(&mut self) {
        let now = self.clock.now();
        let too_late = match self.end {
            End::Done => false,
            End::TimedOut => true,
            End::Dropped => self.until.deadline().passed(now),
        };
        if too_late && self.started.load(Ordering::Acquire) {
            self.failures.note_time_out(self.result, now);
        }
    }
}

fn input(body: &FileBody, facts: Facts) -> OwnedInput {
    OwnedInput { file: Arc::clone(&body.file), len: body.len, facts }
}
