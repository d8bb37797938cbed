//! What journeys say to one another: calls and answers between nodes, each in a version envelope. Carries, decides nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use tutti_base::envelope::Versioned;
use tutti_base::http::Field;
use tutti_base::{ContentHash, Kind, NodeId, Problem, Report, RequestKey, Source, TenantId, Wall};
use tutti_cache::{Binding, OriginalRecord, ResultMeta};
use tutti_service::plan::Cost;
use tutti_service::{
    Action, CachePolicy, Facts, Gather, Input, JobPlan, Lifetime, Plan, Refined, Registry, Response, Rung,
};

use crate::purge::{Purge, Vector};

/// The most words that peers may have used for rungs.
const WORDS_MAX: usize = 256;
/// The longest such word, in bytes.
const WORD_LEN_MAX: usize = 32;
/// The deepest that plans from peers are nested.
const DEPTH_MAX: usize = 8;

/// What one journey asks of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The answer to a plan, from the owner of its original.
    Look(Box<WireLook>),
    /// A job, on a node that has been chosen for it.
    Run(Box<WireRun>),
    /// An original by its content, from a node that has it at hand, or by its name from its owner.
    Original(WireOriginal),
    /// How a folder's file is on the node that is asked.
    Stat(WireStat),
    /// Keep a second copy of a result; the body goes along.
    Keep(Box<WireKeep>),
    /// Keep a second copy of an original; fetch it from the node that asks.
    Copy(Box<WireCopy>),
    /// Purges that the one who asks has and the other may not have.
    Purges(Vec<Purge>),
    /// Which purges are missing here, by what is here; a page of them.
    Missing(WireBehind),
    /// The answer that is kept under a key, where it is fresh; nothing is made for it.
    Peek(RequestKey),
    /// Something of the folders of the one who is asked; the body is the file's to write.
    Shelf(Box<WireShelf>),
}

impl Versioned for Ask {
    const KIND: u8 = 90;
    const VERSION: u16 = 1;
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// To [`Ask::Look`], and to [`Ask::Peek`] where there is one; the body is the answer's.
    Found(Box<WireFound>),
    /// To [`Ask::Run`]; the body is the result's.
    Ran(WireRan),
    /// To [`Ask::Original`]; the body is the original's.
    Original(Box<WireOriginalFound>),
    /// To [`Ask::Stat`]: none where there is no such file.
    Stat(Option<WireStamp>),
    /// To [`Ask::Keep`], [`Ask::Copy`], [`Ask::Purges`]: done, or not wanted. To [`Ask::Peek`]: there is none.
    Done,
    /// To [`Ask::Missing`].
    Missing(WireMissing),
    /// To [`Ask::Shelf`].
    Shelf(Box<WireShelved>),
}

impl Versioned for Told {
    const KIND: u8 = 91;
    const VERSION: u16 = 1;
}

/// A look-up at an owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireLook {
    pub(crate) id: u64,
    pub(crate) service: String,
    pub(crate) tenant: TenantId,
    pub(crate) plan: WirePlan,
}

/// What an owner found or had made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireFound {
    pub(crate) binding: Binding,
    pub(crate) meta: ResultMeta,
    pub(crate) note: String,
    pub(crate) timing: Vec<(String, Duration)>,
    pub(crate) shared: bool,
    pub(crate) maker: Option<String>,
    pub(crate) why: Option<String>,
    /// The purges that it has survived.
    pub(crate) vector: Vector,
}

/// A job with its inputs by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireRun {
    pub(crate) id: u64,
    pub(crate) service: String,
    pub(crate) tenant: TenantId,
    pub(crate) class: String,
    pub(crate) params: Bytes,
    pub(crate) cost: Cost,
    pub(crate) inputs: Vec<WireInput>,
}

/// One input: what it is called, what it is, and what the probe found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireInput {
    /// None for the answer of another plan.
    pub(crate) source: Option<Source>,
    pub(crate) hash: ContentHash,
    pub(crate) len: u64,
    pub(crate) facts: Facts,
}

/// What a job made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireRan {
    pub(crate) content_type: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) cpu_ms: f32,
    /// What the node has now.
    pub(crate) report: Report,
}

/// An original to get.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireOriginal {
    pub(crate) source: Option<Source>,
    pub(crate) tenant: TenantId,
    pub(crate) bytes_max: u64,
    /// Which bytes are wanted.
    pub(crate) which: Which,
    /// What the one who asks has already: with these bytes no body comes back.
    pub(crate) have: Option<ContentHash>,
}

/// Which bytes of an original are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Which {
    /// Whatever the source is now, from wherever the one who is asked gets it.
    Current,
    /// What is in the folder of the one who is asked.
    InFolder,
    /// Exactly these bytes, which are at hand there.
    These(ContentHash),
}

/// An original that was got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireOriginalFound {
    pub(crate) hash: ContentHash,
    pub(crate) len: u64,
    pub(crate) tags: Vec<String>,
    pub(crate) fresh_until: Option<Wall>,
    pub(crate) shared: bool,
    pub(crate) stale: bool,
    pub(crate) strict: bool,
    /// Of originals from outside, where they may be kept.
    pub(crate) record: Option<OriginalRecord>,
    pub(crate) vector: Vector,
}

/// A folder's file to look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireStat {
    pub(crate) source: Source,
    pub(crate) tenant: TenantId,
}

/// How a folder's file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WireStamp {
    pub(crate) modified_ns: i128,
    pub(crate) len: u64,
    /// Its content, where that is known already.
    pub(crate) hash: Option<ContentHash>,
}

/// A result to keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireKeep {
    pub(crate) key: RequestKey,
    pub(crate) binding: Binding,
    pub(crate) meta: ResultMeta,
    pub(crate) vector: Vector,
}

/// An original to keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireCopy {
    pub(crate) source: Source,
    pub(crate) tenant: TenantId,
    pub(crate) record: OriginalRecord,
    pub(crate) vector: Vector,
}

/// How far the one who asks knows everyone's purges.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct WireBehind {
    pub(crate) vector: Vector,
    /// Up to which place of the other's order the deletions that a gap hides have come already.
    pub(crate) deletions_upto: u64,
}

/// Purges that were missing, a page of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct WireMissing {
    pub(crate) purges: Vec<Purge>,
    /// Deletions of files that a gap hides.
    pub(crate) deletions: Vec<Purge>,
    /// As in [`WireBehind`], with this page.
    pub(crate) deletions_upto: u64,
    /// Whose logs begin after what is missing: everything kept has to count as purged.
    pub(crate) gaps: Vec<NodeId>,
    /// How far these go, and the one who answers itself.
    pub(crate) vector: Vector,
    /// Whether there is more: ask again, with what is known then.
    pub(crate) more: bool,
}

/// What is wanted of a node's folders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum WireShelf {
    /// A page of a folder's files.
    List { folder: String, prefix: String, after: String, limit: u32 },
    /// Write the body as this file, dated `at_least` or later.
    Put { folder: String, path: String, at_least: Wall },
    /// Remove this file if it was last changed at `at` or before.
    Remove { folder: String, path: String, at: Wall },
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum WireShelved {
    /// The page, and whether there is more after it.
    Page { files: Vec<WireFile>, more: bool },
    /// The file that was written.
    Written(WireFile),
    /// The file is not there any more; or it stays, because it was changed later.
    Removed { stays: bool },
}

/// One file of a folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WireFile {
    pub(crate) path: String,
    pub(crate) stamp: WireStamp,
}

/// A plan on its way: what the owner needs of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WirePlan {
    action: WireAction,
    lifetime: WireLifetime,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    tags: Vec<String>,
    ladder: Vec<WireRung>,
    placeholder: Option<Box<WireJob>>,
    expires: Option<Wall>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum WireAction {
    Respond {
        status: u16,
        content_type: String,
        body: Bytes,
    },
    Job(WireJob),
    Gather {
        parts: Vec<(String, Nested)>,
        within: Duration,
        at_least: u32,
        content_type: String,
        missing: Bytes,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireJob {
    class: String,
    params: Bytes,
    inputs: Vec<WirePlanInput>,
    cost: Cost,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum WirePlanInput {
    Original(Source),
    Plan(Nested),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum WireRung {
    Stale,
    Cheaper(String, WireJob),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum WireLifetime {
    Never,
    OfOriginals(Duration),
    Fixed(Duration),
}

impl WirePlan {
    /// What an owner needs of `plan`. Header fields stay with the node that answers the client.
    pub(crate) fn of(plan: &Plan) -> Self {
        Self {
            action: match &plan.action {
                Action::Respond(response) => WireAction::Respond {
                    status: response.status,
                    content_type: response.content_type.clone(),
                    body: response.body.clone(),
                },
                Action::Job(job) => WireAction::Job(WireJob::of(job)),
                Action::Gather(gather) => WireAction::Gather {
                    parts: gather
                        .parts
                        .iter()
                        .map(|part| (part.name.clone(), Nested::of(&part.plan)))
                        .collect(),
                    within: gather.within,
                    at_least: gather.at_least as u32,
                    content_type: gather.content_type.clone(),
                    missing: gather.missing.clone(),
                },
            },
            lifetime: match plan.cache.lifetime {
                Lifetime::Never => WireLifetime::Never,
                Lifetime::OfOriginals { default } => WireLifetime::OfOriginals(default),
                Lifetime::Fixed(fixed) => WireLifetime::Fixed(fixed),
            },
            stale_while_revalidate: plan.cache.stale_while_revalidate,
            stale_if_error: plan.cache.stale_if_error,
            tags: plan.cache.tags.clone(),
            ladder: plan.ladder.iter().map(WireRung::of).collect(),
            placeholder: plan.placeholder.as_ref().map(|job| Box::new(WireJob::of(job))),
            expires: plan.expires,
        }
    }

    /// The plan again, for `service`.
    pub(crate) fn plan(self, classes: &Classes<'_>) -> Result<Plan, Problem> {
        let action = match self.action {
            WireAction::Respond { status, content_type, body } => {
                Action::Respond(Response { status, content_type, body })
            }
            WireAction::Job(job) => Action::Job(job.job(classes)?),
            WireAction::Gather { parts, within, at_least, content_type, missing } => {
                let parts = parts
                    .into_iter()
                    .map(|(name, plan)| Ok(tutti_service::Part { name, plan: plan.0.plan(classes)? }));
                let parts = parts.collect::<Result<_, Problem>>()?;
                Action::Gather(Gather { parts, within, at_least: at_least as usize, content_type, missing })
            }
        };
        let lifetime = match self.lifetime {
            WireLifetime::Never => Lifetime::Never,
            WireLifetime::OfOriginals(default) => Lifetime::OfOriginals { default },
            WireLifetime::Fixed(fixed) => Lifetime::Fixed(fixed),
        };
        Ok(Plan {
            cache: CachePolicy {
                lifetime,
                stale_while_revalidate: self.stale_while_revalidate,
                stale_if_error: self.stale_if_error,
                tags: self.tags,
            },
            ladder: self.ladder.into_iter().map(|rung| rung.rung(classes)).collect::<Result<_, _>>()?,
            placeholder: self.placeholder.map(|job| job.job(classes).map(Box::new)).transpose()?,
            expires: self.expires,
            ..Plan::of(action)
        })
    }
}

impl WireJob {
    fn of(job: &JobPlan) -> Self {
        let input = |input: &Input| match input {
            Input::Original(source) => WirePlanInput::Original(source.clone()),
            Input::Plan(plan) => WirePlanInput::Plan(Nested::of(plan)),
        };
        Self {
            class: job.class.into(),
            params: job.params.clone(),
            inputs: job.inputs.iter().map(input).collect(),
            cost: job.cost,
        }
    }

    fn job(self, classes: &Classes<'_>) -> Result<JobPlan, Problem> {
        let input = |input| {
            Ok(match input {
                WirePlanInput::Original(source) => Input::Original(source),
                WirePlanInput::Plan(plan) => Input::Plan(Box::new(plan.0.plan(classes)?)),
            })
        };
        Ok(JobPlan {
            class: classes.class(&self.class)?,
            params: self.params,
            inputs: self.inputs.into_iter().map(input).collect::<Result<_, Problem>>()?,
            cost: self.cost,
        })
    }
}

impl WireRung {
    fn of(rung: &Rung) -> Self {
        match rung {
            Rung::Stale => WireRung::Stale,
            Rung::Cheaper { word, job } => WireRung::Cheaper((*word).into(), WireJob::of(job)),
        }
    }

    fn rung(self, classes: &Classes<'_>) -> Result<Rung, Problem> {
        Ok(match self {
            WireRung::Stale => Rung::Stale,
            WireRung::Cheaper(word, job) => Rung::Cheaper { word: known(&word), job: job.job(classes)? },
        })
    }
}

impl WireRun {
    /// The job as the worker takes it.
    pub(crate) fn refined(&self, classes: &Classes<'_>) -> Result<Refined, Problem> {
        Ok(Refined {
            class: classes.class(&self.class)?,
            params: self.params.clone(),
            cost: self.cost,
            pass_through: None,
        })
    }
}

/// The job classes of one service, by which words from the wire become this build's own.
pub(crate) struct Classes<'a> {
    registry: &'a Registry,
    service: &'a str,
}

impl<'a> Classes<'a> {
    /// Those of the service `service`.
    pub(crate) fn of(registry: &'a Registry, service: &'a str) -> Self {
        Self { registry, service }
    }

    fn class(&self, name: &str) -> Result<&'static str, Problem> {
        let found = self.registry.find(self.service).and_then(|(_, service)| {
            service.describe().classes.iter().find(|class| class.name == name).map(|class| class.name)
        });
        found.ok_or_else(|| stranger("job class", &format!("{}/{name}", self.service)))
    }
}

/// A problem for what a newer peer says and this build does not know: the peer goes on elsewhere.
pub(crate) fn stranger(what: &str, name: &str) -> Problem {
    Problem::new(Kind::Unavailable, format!("this node does not know the {what} `{name}`"))
}

/// The word of a rung as one that lives as long as the process; they are few and come from our own services. What is none
/// of theirs, or comes once there are too many, is `other`.
pub(crate) fn known(word: &str) -> &'static str {
    static WORDS: Mutex<BTreeMap<String, &'static str>> = Mutex::new(BTreeMap::new());
    let is_word = word.len() <= WORD_LEN_MAX
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(word) {
        return known;
    }
    if !is_word || words.len() >= WORDS_MAX {
        return "other";
    }
    let kept: &'static str = Box::leak(word.to_owned().into_boxed_str());
    words.insert(word.to_owned(), kept);
    kept
}

/// A part of the journey whose time is told, as this build names it.
pub(crate) fn part_of_journey(name: &str) -> Option<&'static str> {
    ["original", "engine", "hash", "store", "look-up"].into_iter().find(|part| *part == name)
}

/// A plan within a plan. Reading it ends at a depth of [`DEPTH_MAX`]: what a peer sends must not exhaust the stack.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Nested(Box<WirePlan>);

impl Nested {
    fn of(plan: &Plan) -> Self {
        Self(Box::new(WirePlan::of(plan)))
    }
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let depth = DEPTH.get();
        if depth >= DEPTH_MAX {
            return Err(D::Error::custom(format!("plans are nested deeper than {DEPTH_MAX}")));
        }
        DEPTH.set(depth + 1);
        let plan = WirePlan::deserialize(from);
        DEPTH.set(depth);
        plan.map(|plan| Self(Box::new(plan)))
    }
}

#[cfg(test)]
mod tests {
    use tutti_base::envelope;

    use super::*;

    fn nested(depth: usize) -> Plan {
        let inner = match depth {
            0 => Input::Original(Source::Local { folder: String::new(), path: "a".into() }),
            depth => Input::Plan(Box::new(nested(depth - 1))),
        };
        let cost = Cost::default();
        Plan::of(Action::Job(JobPlan { class: "any", params: Bytes::new(), inputs: vec![inner], cost }))
    }

    fn look(depth: usize) -> Vec<u8> {
        envelope::seal(&Ask::Look(Box::new(WireLook {
            id: 1,
            service: "any".into(),
            tenant: TenantId::default(),
            plan: WirePlan::of(&nested(depth)),
        })))
    }

    #[test]
    fn plans_are_read_to_a_depth_and_no_deeper() {
        assert!(envelope::open::<Ask>(&look(DEPTH_MAX)).is_ok());
        for _ in 0..2 {
            assert!(envelope::open::<Ask>(&look(DEPTH_MAX + 1)).is_err());
        }
        assert!(envelope::open::<Ask>(&look(1)).is_ok(), "a refusal leaves no trace");
    }

    #[test]
    fn words_of_peers_are_few_and_short() {
        assert_eq!((known("effort"), known("EFFORT"), known(&"a".repeat(40))), ("effort", "other", "other"));
        (0..2 * WORDS_MAX).for_each(|n| assert!(!known(&format!("w{n}")).is_empty()));
        assert_eq!(known("one-more"), "other");
        assert_eq!(known("effort"), "effort");
    }
}
