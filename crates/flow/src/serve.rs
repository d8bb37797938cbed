//! Answering other nodes: look-ups as the owner, jobs as a worker, originals, copies and purges. Each is the journey's own
//! work, done for a peer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tracing::Instrument;
use tutti_base::context::RequestId;
use tutti_base::envelope;
use tutti_base::{
    Body, BoxFuture, Call, Context, Deadline, Kind, NodeId, Problem, Reply, RequestKey, ResultKey, Roles,
    Serve, TenantId,
};
use tutti_cache::{Binding, Entry, ResultMeta};
use tutti_service::OwnedInput;

use crate::journey::Turn;
use crate::make::PASSED_BYTES_MAX;
use crate::meter::Meter;
use crate::originals::{Original, Wanted};
use crate::purge::Vector;
use crate::seams::Task;
use crate::wire::{Ask, Classes, Told, Which, WireInput, WireLook, WireRan, WireRun, stranger};
use crate::{Answer, CacheNote, Flow, Made, Planned, Timing};

/// Inputs of one job from a peer; it does one with more itself.
pub const INPUTS_MAX: usize = 32;

/// The journey as peers see it.
pub struct Answering(pub Arc<Flow>);

impl Serve for Answering {
    fn serve(&self, from: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
        let flow = Arc::clone(&self.0);
        Box::pin(async move {
            let ask: Ask =
                envelope::open(&call.head).map_err(|error| stranger("call", &error.to_string()))?;
            let deadline = Deadline::after(flow.outside.clock.now(), call.within);
            let (told, body) = flow.answer_peer(from, ask, call.body, deadline).await?;
            Ok(Reply { head: envelope::seal(&told).into(), body })
        })
    }
}

impl Flow {
    async fn answer_peer(
        self: &Arc<Self>,
        from: NodeId,
        ask: Ask,
        body: Bytes,
        deadline: Deadline,
    ) -> Result<(Told, Body), Problem> {
        match ask {
            Ask::Look(look) => self.look_for_peer(*look, deadline).await,
            Ask::Run(run) => {
                let span = tracing::debug_span!("flow.run_for_peer", id = format_args!("{:016x}", run.id));
                self.run_for_peer(from, *run, deadline).instrument(span).await
            }
            Ask::Original(original) => {
                let (found, body) =
                    self.desk.give(original, self.config.original_bytes_max, deadline).await?;
                Ok((Told::Original(Box::new(found)), body))
            }
            Ask::Stat(stat) => Ok((Told::Stat(self.desk.stat(stat, deadline).await), Body::empty())),
            Ask::Keep(keep) => {
                self.keep_copy(*keep, body);
                Ok((Told::Done, Body::empty()))
            }
            Ask::Copy(copy) => {
                self.desk.copy(from, *copy, self.config.original_bytes_max, deadline).await?;
                Ok((Told::Done, Body::empty()))
            }
            Ask::Purges(purges) => {
                self.take_purges(from, purges).await?;
                Ok((Told::Done, Body::empty()))
            }
            Ask::Peek(key) => Ok(self.peeked(&key).await),
            Ask::Missing(vector) => Ok((Told::Missing(self.missing_of(&vector)), Body::empty())),
            Ask::Shelf(ask) => {
                let shelved = self.shelve(*ask, body.into()).await?;
                Ok((Told::Shelf(Box::new(shelved)), Body::empty()))
            }
        }
    }

    async fn look_for_peer(
        self: &Arc<Self>,
        look: WireLook,
        deadline: Deadline,
    ) -> Result<(Told, Body), Problem> {
        let vector = self.purges.vector();
        let (service, _) =
            self.registry.find(&look.service).ok_or_else(|| stranger("service", &look.service))?;
        let plan = look.plan.plan(&Classes::of(&self.registry, &look.service))?;
        let planned = Arc::new(Planned::new(service, &look.service, look.tenant.clone(), plan));
        let context = self.context_of(look.id, look.tenant, deadline);
        let span = tracing::debug_span!("flow.answer_peer", id = %context.id, service = look.service);
        match self.answer_job(planned, context, Turn::Here).instrument(span).await {
            Answer::Kept(kept) => {
                let found = Self::tell(&kept.entry, kept.cache, &kept.timing, &kept.whence, vector);
                Ok((Told::Found(Box::new(found)), kept.entry.body.clone().into()))
            }
            Answer::Made(made) => self.tell_unshared(made, vector).await,
            Answer::Problem(problem, ..) => Err(problem),
        }
    }

    /// What is kept under `key`, where it is fresh.
    async fn peeked(&self, key: &RequestKey) -> (Told, Body) {
        let vector = self.purges.vector();
        let now = self.outside.clock.wall();
        let is_good = |entry: &Arc<Entry>| now < entry.binding.fresh_until && self.purges.spares(entry, key);
        match self.outside.results.find(key).await.filter(is_good) {
            Some(entry) if self.purges.is_settled(self.outside.clock.now()) => {
                let (timing, whence) = (Timing::default(), self.whence_of(&entry));
                let found = Self::tell(&entry, CacheNote::Hit, &timing, &whence, vector);
                (Told::Found(Box::new(found)), entry.body.clone().into())
            }
            _ => (Told::Done, Body::empty()),
        }
    }

    /// What belongs to one request alone, as the peer that asked for it is told.
    async fn tell_unshared(&self, made: Made, vector: Vector) -> Result<(Told, Body), Problem> {
        let unreadable = |error| Problem::new(Kind::Internal, "an answer could not be read").because(error);
        let bytes =
            self.outside.copies.read(made.body, self.config.original_bytes_max).await.map_err(unreadable)?;
        let now = self.outside.clock.wall();
        let hash = tutti_base::ContentHash::of(&bytes);
        let binding = Binding {
            result: ResultKey::from_bytes(*hash.as_bytes()),
            originals: Vec::new(),
            stored_at: now,
            fresh_until: now,
            revalidate_until: now,
            error_until: now,
            tags: Vec::new(),
            purge_seen: self.purges.newest(),
            degraded: None,
        };
        let meta = ResultMeta {
            content_type: made.content_type,
            hash,
            len: bytes.len() as u64,
            fields: made.fields,
            cpu_ms: 0.0,
            maker: made.whence.maker.as_deref().map(Into::into),
        };
        let entry = Entry::new(binding, meta, tutti_base::KeptBody::Whole(bytes.clone()));
        let mut found = Self::tell(&entry, made.cache, &made.timing, &made.whence, vector);
        found.shared = false;
        Ok((Told::Found(Box::new(found)), Body::Whole(bytes)))
    }

    async fn run_for_peer(
        self: &Arc<Self>,
        from: NodeId,
        run: WireRun,
        deadline: Deadline,
    ) -> Result<(Told, Body), Problem> {
        let (service, _) =
            self.registry.find(&run.service).ok_or_else(|| stranger("service", &run.service))?;
        if !self.mesh.view().myself().is_some_and(|me| me.roles.has(Roles::WORKER)) {
            return Err(Problem::new(Kind::Unavailable, "this node has not the role worker"));
        }
        self.bounded(&run.inputs)?;
        let job = run.refined(&Classes::of(&self.registry, &run.service))?;
        let place =
            self.seats.intake(f64::from(run.cost.cpu_ms), run.cost.bytes, self.outside.work.capacity())?;
        let getting = run.inputs.iter().map(|input| self.input_for(from, input, &run.tenant, deadline));
        let inputs = try_join_all(getting).await?;
        if inputs.iter().any(|(_, moved)| *moved == Moved::Yes) {
            Meter::count(&self.meter.originals, "moved");
        }
        let owned = inputs.into_iter().zip(&run.inputs).map(|((original, _), input)| OwnedInput {
            file: Arc::clone(&original.body.file),
            len: original.body.len,
            facts: input.facts.clone(),
        });
        let task = Task {
            service,
            job,
            inputs: owned.collect(),
            context: self.context_of(run.id, run.tenant, deadline),
            started: Arc::new(AtomicBool::new(false)),
        };
        let output = self.outside.work.run(task).await?;
        drop(place);
        let ran = WireRan {
            report: self.mesh.report(&self.seats.accepted()),
            content_type: output.content_type,
            fields: output.fields,
            cpu_ms: output.cpu_ms,
        };
        Ok((Told::Ran(ran), output.body))
    }

    /// What a peer says of its job's inputs is within this node's own limits, or the job is for another node: not for this
    /// one later, hence no `Unavailable`.
    fn bounded(&self, inputs: &[WireInput]) -> Result<(), Problem> {
        let unfit = |detail: String| Problem::new(Kind::Internal, detail);
        if inputs.len() > INPUTS_MAX {
            return Err(unfit(format!("a job has {} inputs; this node takes {INPUTS_MAX}", inputs.len())));
        }
        let most = |input: &WireInput| match input.source {
            Some(_) => self.config.original_bytes_max,
            None => PASSED_BYTES_MAX,
        };
        match inputs.iter().find(|input| input.len > most(input)) {
            Some(long) => {
                Err(unfit(format!("an input has {} bytes; this node takes {}", long.len, most(long))))
            }
            None => Ok(()),
        }
    }

    /// One input of a peer's job: kept here, in a folder here, or from the one who asks.
    async fn input_for(
        self: &Arc<Self>,
        from: NodeId,
        input: &WireInput,
        tenant: &TenantId,
        deadline: Deadline,
    ) -> Result<(Original, Moved), Problem> {
        let source = input.source.clone().unwrap_or_else(|| nameless(input));
        let key = source.key(tenant);
        let wanted = Wanted { key, source, tenant: tenant.clone(), bytes_max: input.len };
        if let Some(at_hand) = self.desk.at_hand(&wanted, &input.hash, deadline).await {
            return Ok((at_hand, Moved::No));
        }
        let pulled = self.desk.pull(from, &wanted, Which::These(input.hash), None, deadline).await;
        let gone = |error: tutti_base::CallError| {
            Problem::new(Kind::Unavailable, "the original of this job could not be had").because(error)
        };
        pulled.map(|original| (original, Moved::Yes)).map_err(gone)
    }

    fn context_of(&self, id: u64, tenant: TenantId, deadline: Deadline) -> Context {
        Context { id: RequestId(id), tenant, arrived: self.outside.clock.now(), deadline }
    }
}

/// Whether an input had to be moved first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Yes,
    No,
}

/// A name for the answer of another plan: it is what its bytes are.
fn nameless(input: &WireInput) -> tutti_base::Source {
    tutti_base::Source::Local { folder: "-".into(), path: input.hash.hex() }
}
