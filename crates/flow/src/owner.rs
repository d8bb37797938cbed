//! Owners: who owns an original answers for everything that is made of it, and has it made once in the whole cluster. The
//! asking side, and the second copies. What an owner does when it is asked is the journey itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tutti_base::{Body, CallError, Context, KeptBody, Kind, Lane, NodeId, Problem, RequestKey};
use tutti_cache::{Binding, Entry, ResultMeta};

use crate::flight::Until;
use crate::journey::Landed;
use crate::mesh::COPYING_MAX;
use crate::meter::{Counted, Meter};
use crate::purge::Vector;
use crate::wire::{Ask, Told, WireFound, WireKeep, WireLook, WirePlan, part_of_journey};
use crate::{CacheNote, Flow, Planned, Timing, Whence};

/// A result that comes from a peer has at most this many bytes in memory.
const FOUND_BYTES_MAX: u64 = 64 << 20;
/// A look at what the other owner has takes at most this long: it is only to save work.
const PEEK_WITHIN: Duration = Duration::from_millis(200);
/// A second copy takes at most this long.
const KEEP_WITHIN: Duration = Duration::from_secs(10);

/// Whether an answer from a peer is kept here too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Once it has been asked for often.
    IfWantedOften,
    /// At once: this node owns it.
    Always,
}

/// Why an owner gave no answer.
enum Unanswered {
    /// It is to be passed over: the next may know.
    PassOver,
    /// Its answer is this.
    Problem(Problem),
}

impl Flow {
    /// Who answers for `planned`, the first to be asked first; empty where this node does: it is the first of them, or the
    /// answer may not be shared.
    pub(crate) fn owners_of(&self, planned: &Planned) -> Vec<NodeId> {
        let Some(key) = &planned.key else { return Vec::new() };
        if self.seats.stays_here() {
            return Vec::new();
        }
        let name = planned.sources.first().map_or(key.prefix(), |(source, _)| source.prefix());
        let owners = self.mesh.owners(name);
        if owners.first() == Some(&self.mesh.view().me) { Vec::new() } else { owners }
    }

    /// The answer as the owners have it, or make it. Owners that are silent are passed over, and that is counted; when
    /// none of them answers, this node makes it.
    pub(crate) async fn ask_owners(
        self: Arc<Self>,
        planned: Arc<Planned>,
        key: RequestKey,
        owners: Vec<NodeId>,
        until: Until,
        context: Context,
    ) -> Result<Landed, Problem> {
        let me = self.mesh.view().me;
        for owner in owners.into_iter().take_while(|owner| *owner != me) {
            match self.ask_owner(&planned, key, owner, &until, &context).await {
                Ok(landed) => return Ok(landed),
                Err(Unanswered::Problem(problem)) => return Err(problem),
                Err(Unanswered::PassOver) => {
                    self.meter.passed_over.inc();
                }
            }
        }
        self.make_once(planned, key, until, context).await
    }

    async fn ask_owner(
        self: &Arc<Self>,
        planned: &Arc<Planned>,
        key: RequestKey,
        owner: NodeId,
        until: &Until,
        context: &Context,
    ) -> Result<Landed, Unanswered> {
        let ask = Ask::Look(Box::new(WireLook {
            id: context.id.0,
            service: self.registry.get(planned.service).describe().name.into(),
            tenant: planned.tenant.clone(),
            plan: WirePlan::of(&planned.plan),
        }));
        loop {
            let left = until.deadline().left(self.outside.clock.now());
            if left.is_zero() {
                return Err(Unanswered::Problem(out_of_time()));
            }
            match self.mesh.ask(owner, Lane::Small, &ask, Bytes::new(), left).await {
                Ok((Told::Found(found), body)) => {
                    return self.landed_from(key, owner, *found, body, Keep::IfWantedOften).await;
                }
                Ok(_) => return Err(Unanswered::PassOver),
                // Who joined meanwhile may wait longer: the owner is asked again for their sake.
                Err(CallError::Late(_)) => {}
                Err(CallError::Refused(_, problem)) if problem.kind == Kind::Timeout => {
                    if until.deadline().passed(self.outside.clock.now()) {
                        return Err(Unanswered::Problem(*problem));
                    }
                }
                Err(CallError::Refused(_, problem)) if problem.kind != Kind::Unavailable => {
                    return Err(Unanswered::Problem(*problem));
                }
                Err(_) => return Err(Unanswered::PassOver),
            }
        }
    }

    async fn landed_from(
        self: &Arc<Self>,
        key: RequestKey,
        owner: NodeId,
        found: WireFound,
        body: Body,
        keep: Keep,
    ) -> Result<Landed, Unanswered> {
        Meter::count(
            &self.meter.peer_answers,
            CacheNote::from_word(&found.note).map_or("other", CacheNote::word),
        );
        let is_large = !matches!(body, Body::Whole(_));
        let bytes =
            self.outside.copies.read(body, FOUND_BYTES_MAX).await.map_err(|_| Unanswered::PassOver)?;
        if is_large && tutti_base::ContentHash::of(&bytes) != found.meta.hash {
            return Err(Unanswered::PassOver);
        }
        let lookup = Some(&key).filter(|_| found.shared);
        // What this node knows to be purged it does not serve, though the owner did not know it yet.
        let purge_seen = self
            .purges
            .check_foreign(&found.vector, &found.binding.tags, lookup)
            .map_err(|_| Unanswered::PassOver)?;
        let whence = Whence {
            maker: found.meta.maker.as_deref().or(found.maker.as_deref()).map(Into::into),
            why: found.why.as_deref().map(Into::into),
            through: Some(self.mesh.name(owner)),
        };
        let note = CacheNote::from_word(&found.note).ok_or(Unanswered::PassOver)?;
        let timing = found.timing.iter().filter_map(|(part, took)| Some((part_of_journey(part)?, *took)));
        let timing = Timing(timing.collect());
        let binding = Binding { purge_seen, ..found.binding };
        let is_lasting = found.shared && binding.degraded.is_none();
        let is_kept = is_lasting && (keep == Keep::Always || self.mesh.is_wanted_often(&key));
        let entry = if is_kept {
            self.outside.results.put(key, binding, found.meta, bytes)
        } else {
            Arc::new(Entry::new(binding, found.meta, KeptBody::Whole(bytes)))
        };
        Ok(Landed { entry, note, timing, shared: found.shared, whence })
    }

    /// What the other owner has kept: this node may own the original only since a moment ago, or have lost what it kept.
    /// Kept here as well then. None where there is nothing, or one is here that has only expired.
    pub(crate) async fn peek(
        self: &Arc<Self>,
        planned: &Planned,
        key: RequestKey,
        has_old: bool,
        until: &Until,
    ) -> Option<Landed> {
        let (source, _) = planned.sources.first().filter(|_| !has_old)?;
        // A node that gives nothing away makes for itself what nobody has yet.
        if !self.seats.stays_here() && !self.mesh.is_unsteady(self.outside.clock.now()) {
            return None;
        }
        let me = self.mesh.view().me;
        let owners = self.mesh.owners(source.prefix());
        let other = owners.into_iter().find(|owner| *owner != me)?;
        let within = until.deadline().left(self.outside.clock.now()).min(PEEK_WITHIN);
        let asked = self.mesh.ask(other, Lane::Small, &Ask::Peek(key), Bytes::new(), within).await;
        let Ok((Told::Found(found), body)) = asked else { return None };
        let landed = self.landed_from(key, other, *found, body, Keep::Always).await.ok()?;
        let is_current = !planned.in_folders || self.is_current(planned, &landed.entry, until).await;
        is_current.then_some(landed)
    }

    /// Places a second copy of a result at the other owners, in the background.
    pub(crate) fn copy_result(self: &Arc<Self>, planned: &Planned, key: RequestKey, entry: &Arc<Entry>) {
        let Some((source, _)) = planned.sources.first() else { return };
        let me = self.mesh.view().me;
        let others: Vec<_> =
            self.mesh.owners(source.prefix()).into_iter().filter(|node| *node != me).collect();
        let KeptBody::Whole(bytes) = &entry.body else { return };
        if others.is_empty() || bytes.len() > tutti_base::net::SMALL_MAX {
            return;
        }
        let Some(counted) = Counted::one_of(&self.meter.copying_results, COPYING_MAX) else { return };
        let (binding, meta) = (entry.binding.clone(), entry.meta.clone());
        let vector = self.purges.vector();
        if !self.purges.spares(entry, &key) {
            return;
        }
        let ask = Ask::Keep(Box::new(WireKeep { key, binding, meta, vector }));
        let (flow, bytes) = (Arc::clone(self), bytes.clone());
        self.outside.spawn.spawn(
            "flow.copy",
            Box::pin(async move {
                let _counted = counted;
                for node in others {
                    let placed = flow.mesh.ask(node, Lane::Bulk, &ask, bytes.clone(), KEEP_WITHIN).await;
                    if let Err(error) = placed {
                        tracing::debug!(%error, "a second copy of a result could not be placed");
                    }
                }
            }),
        );
    }

    /// Keeps a copy that another owner sent, unless a purge that it did not know concerns it.
    pub(crate) fn keep_copy(&self, keep: WireKeep, bytes: Bytes) {
        let WireKeep { key, binding, meta, vector } = keep;
        if meta.hash != tutti_base::ContentHash::of(&bytes) || meta.len != bytes.len() as u64 {
            tracing::warn!("a copy of a result was not what it was said to be; it is not kept");
            return;
        }
        if let Ok(purge_seen) = self.purges.check_foreign(&vector, &binding.tags, Some(&key)) {
            self.outside.results.put(key, Binding { purge_seen, ..binding }, meta, bytes);
        }
    }

    /// What a peer is told of an answer, with the purges that it has survived.
    pub(crate) fn tell(
        entry: &Entry,
        note: CacheNote,
        timing: &Timing,
        whence: &Whence,
        vector: Vector,
    ) -> WireFound {
        WireFound {
            binding: entry.binding.clone(),
            meta: ResultMeta { fields: entry.meta.fields.clone(), ..entry.meta.clone() },
            note: note.full_word(),
            timing: timing.0.iter().map(|(part, took)| ((*part).into(), *took)).collect(),
            shared: true,
            maker: whence.maker.as_deref().map(Into::into),
            why: whence.why.as_deref().map(Into::into),
            vector,
        }
    }
}

/// The deadline of the last who waited has passed.
pub(crate) fn out_of_time() -> Problem {
    Problem::new(Kind::Timeout, "the answer was not ready before its deadline; try again later")
        .about("deadline")
        .retry_after(Duration::from_secs(1))
}
