//! One job under way: what a service is handed while it runs, and how it reaches an engine.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::Instrument;
use tutti_base::{Body, BoxFuture, Context, Kind, Problem};
use tutti_process::{CallError, Reply};
use tutti_service::{JobContext, Output, OwnedInput, Refined};

use crate::count::End;
use crate::pool::{Lease, NoEngine, Pool, Which};
use crate::reply;
use crate::worker::Hands;

/// When a client whose job ran out of time may try again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Job<'a> {
    pub(crate) request: Context,
    pub(crate) pool: Option<&'a Arc<Pool>>,
    pub(crate) hands: &'a Hands,
    /// Told when an engine begins: what passed before was queueing, and not the job's fault.
    pub(crate) started: Arc<AtomicBool>,
    /// A permit is for one core, so that a job uses one engine at a time, however it asks.
    pub(crate) turn: Mutex<()>,
}

impl JobContext for Job<'_> {
    fn request(&self) -> &Context {
        &self.request
    }

    fn engine(&self, job: Refined, inputs: Vec<OwnedInput>) -> BoxFuture<'_, Result<Output, Problem>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let pool = self.pool.ok_or_else(|| Problem::new(Kind::Internal, "this service has no engine"))?;
            self.engine_job(pool, &job, inputs).await
        })
    }
}

/// What one try came to.
enum Try {
    Done(Result<Output, Problem>),
    Crashed(CallError),
}

impl Job<'_> {
    async fn engine_job(
        &self,
        pool: &Arc<Pool>,
        job: &Refined,
        inputs: Vec<OwnedInput>,
    ) -> Result<Output, Problem> {
        check_inputs(pool, &inputs)?;
        let files: Vec<_> = inputs.into_iter().map(|input| (input.file, input.len)).collect();
        let lease = pool.take(&self.request.tenant, Which::Any).await.map_err(no_engine)?;
        let first = match self.attempt(pool, lease, &job.params, &files).await {
            Try::Done(result) => return result,
            Try::Crashed(error) => error,
        };
        tracing::warn!(request = %self.request.id, service = pool.service, error = %first, "an engine crashed; trying again");
        pool.counts.retries.inc();
        let lease = pool.take(&self.request.tenant, Which::Unused).await.map_err(no_engine)?;
        match self.attempt(pool, lease, &job.params, &files).await {
            Try::Done(result) => result,
            Try::Crashed(second) => Err(crashed_twice(&first, &second)),
        }
    }

    async fn attempt(&self, pool: &Pool, mut lease: Lease, params: &[u8], files: &[(Arc<File>, u64)]) -> Try {
        self.started.store(true, Ordering::Release);
        let before = lease.engine().rss_bytes();
        let span = tracing::debug_span!("worker.engine", service = pool.service);
        // The deadline is the job's clock's and not the engine's; dropping the call kills the engine.
        let called = tokio::select! {
            biased;
            called = lease.engine().call(params, files, None).instrument(span) => called,
            () = self.hands.clock.sleep_until(self.request.deadline.0) => Err(CallError::TimedOut),
        };
        pool.counts.resized(before, lease.engine().rss_bytes());
        let outcome = self.settle(pool, &mut lease, called);
        let word = match &outcome {
            Try::Crashed(_) => "crash",
            Try::Done(Ok(_)) => "ok",
            Try::Done(Err(problem)) => problem.kind.word(),
        };
        pool.counts.jobs.get_or_create(&[("service", pool.service), ("outcome", word)]).inc();
        outcome
    }

    fn settle(&self, pool: &Pool, lease: &mut Lease, called: Result<Reply, CallError>) -> Try {
        match called {
            Ok(reply) => {
                pool.counts.cpu_seconds.inc_by(f64::from(reply.cpu_ms) / 1000.0);
                match reply::decode(&reply.header) {
                    Ok(said) => Try::Done(said.map_err(reply::problem).map(|said| {
                        pool.counts.render.get_or_create(&[("service", pool.service)]).inc();
                        Output {
                            content_type: said.content_type,
                            body: Body::Whole(reply.output),
                            fields: said.fields,
                            cpu_ms: reply.cpu_ms,
                        }
                    })),
                    Err(reason) => {
                        lease.ends_by(End::Protocol);
                        Try::Crashed(CallError::Protocol(reason.into()))
                    }
                }
            }
            Err(error @ CallError::Crashed { .. }) => {
                lease.ends_by(End::Crash);
                Try::Crashed(error)
            }
            Err(error @ CallError::Protocol(_)) => {
                lease.ends_by(End::Protocol);
                Try::Crashed(error)
            }
            Err(CallError::TimedOut) => {
                lease.ends_by(End::Deadline);
                Try::Done(Err(out_of_time()))
            }
            Err(CallError::OutputTooLong { len, limit }) => Try::Done(Err(too_long(len, limit))),
            Err(error @ (CallError::Rejected(_) | CallError::Spawn(_))) => {
                Try::Done(Err(Problem::new(Kind::Internal, "the work could not be started").because(error)))
            }
        }
    }
}

pub(crate) fn out_of_time() -> Problem {
    Problem::new(Kind::Timeout, "the work did not end before its deadline; try again, or ask for less")
        .retry_after(TRY_AGAIN)
}

fn check_inputs(pool: &Pool, inputs: &[OwnedInput]) -> Result<(), Problem> {
    let total = inputs.iter().fold(0_u64, |sum, input| sum.saturating_add(input.len));
    let limit = pool.spec.limits.input_bytes;
    if total <= limit {
        return Ok(());
    }
    let words = format!("the input has {total} bytes; the limit is {limit}");
    Err(Problem::new(Kind::Unprocessable, words).about("engine_input_bytes").of_input())
}

fn no_engine(none: NoEngine) -> Problem {
    Problem::new(Kind::Internal, "no engine could be started for this work")
        .retry_after(none.wait.max(TRY_AGAIN))
        .because(none.reason)
}

fn crashed_twice(first: &CallError, second: &CallError) -> Problem {
    Problem::new(
        Kind::Unprocessable,
        "this input cannot be processed with these options: the engine failed on it twice; try other options",
    )
    .because(format!("first: {first}; second: {second}"))
}

fn too_long(len: u64, limit: u64) -> Problem {
    let words = format!("the result has {len} bytes; the limit is {limit}; ask for a smaller one");
    Problem::new(Kind::Unprocessable, words).about("engine_output_bytes")
}
