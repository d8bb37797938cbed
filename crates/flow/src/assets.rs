//! Originals in folders, managed from any node: listed over all holders, written at one, removed at all of them for good.
//! Reaches folders over `Shelf` and other nodes over the mesh alone.
//!
//! What is assumed of clocks. Which of two files is the newer one, and whether a file is older than its deletion, is
//! decided by modification times, and each node dates by its own clock. So that clocks that differ neither hide a file nor
//! bring one back, nothing is dated by the clock alone: a file is dated later than every deletion of its name on record,
//! at the node that asks and at the one that writes, and later than the copies of all holders that answer; a deletion is
//! dated no earlier than the newest copy that a holder showed. Left to the clocks is a holder that is away at that very
//! moment: what it has counts as older if its clock said so when it was written, so clocks must differ by less than the
//! time between that change and the order given here. NTP keeps them within milliseconds. A file that people copy into a
//! folder with its old date (`cp -p`) after its deletion is a deleted one.

mod merge;
mod own;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use tutti_base::{Body, CallError, Deadline, Fault, Kind, Lane, NodeId, Problem, Source, TenantId, Wall};
use tutti_fetch::ShelfQuery;
use tutti_telemetry::{Counter, Family, Gauge, Metrics};

use self::merge::merge;
use crate::mesh::Holders;
use crate::meter::{Counted, Meter, Reason};
use crate::wire::{Ask, Told, WireFile, WireShelf, WireShelved, WireStamp, WireStat};
use crate::{Flow, What};

/// Originals on their way to another node at once; each is held in memory.
pub const MOVING_MAX: i64 = 4;
/// The longest original that is written at another node, in bytes: what a call takes along.
pub const MOVED_BYTES_MAX: u64 = 128 << 20;
/// A holder that has not said what it has after this long counts as away.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// A holder lists a page within this.
const LIST_WITHIN: Duration = Duration::from_secs(20);
/// A holder writes an original within this.
const WRITE_WITHIN: Duration = Duration::from_secs(60);
/// A holder removes an original within this; later it does so by itself.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);
/// Nanoseconds of a millisecond.
const MS: i128 = 1_000_000;

/// One original and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its path in the folder.
    pub path: String,
    /// The length of the newest, in bytes.
    pub bytes: u64,
    /// When the newest was last changed.
    pub modified: Wall,
    /// The names of the nodes that hold it.
    pub nodes: Vec<String>,
    /// Whether they hold different contents; the newest is served.
    pub conflict: bool,
}

/// A page of originals.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeldPage {
    /// In the order of the bytes of their paths.
    pub files: Vec<Held>,
    /// Whether there are more after the last.
    pub more: bool,
    /// Holders of the folder that did not answer; what only they hold is missing.
    pub absent: Vec<String>,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Its length in bytes.
    pub bytes: u64,
    /// How it is dated.
    pub modified: Wall,
    /// The node that holds it.
    pub node: String,
    /// Nodes that do not know of it yet, and may serve what they kept of an older one until they are back.
    pub not_reached: Vec<String>,
}

/// What was removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removal {
    /// The holders that removed it.
    pub nodes: Vec<String>,
    /// Holders that hide it and could not remove it, and why.
    pub hidden: Vec<(String, String)>,
    /// Nodes that remove theirs when they are back.
    pub not_reached: Vec<String>,
}

/// The originals of all nodes, as administrators manage them.
pub struct Assets {
    flow: Arc<Flow>,
    done: Family<Reason, Counter>,
    moving: Gauge,
}

impl Assets {
    /// Those of `flow`'s cluster. Registers its metrics, so make one a process.
    pub fn new(flow: Arc<Flow>, metrics: &Metrics) -> Self {
        metrics.limit(
            "flow_assets_moving",
            "Originals on their way to another node at once",
            MOVING_MAX as u64,
        );
        let help = "Originals listed, written and removed over the cluster, or failed to be";
        Self {
            flow,
            done: metrics.register("flow_assets", help, Family::default()),
            moving: metrics.gauge("flow_assets_moving", "Originals on their way to another node"),
        }
    }

    /// The longest original, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.flow.config.original_bytes_max
    }

    /// A page of a folder, of all nodes that hold it. Cancel-safe.
    ///
    /// Errors: `NotFound` where no node holds the folder; `Unavailable`, naming them, where all holders are away.
    pub async fn list(&self, query: ShelfQuery) -> Result<HeldPage, Problem> {
        self.counted("listed", self.list_all(query).await)
    }

    /// Writes an original at a node that holds the folder: at this one if it does. It is the newest everywhere, and
    /// everything made of an older one is gone, on all nodes but those that the answer names. Dropped, it may or may not
    /// have been written.
    ///
    /// Errors: `NotFound` where no node holds the folder; `Unavailable` where all holders are away; `Overloaded` when
    /// [`MOVING_MAX`] are on their way already; those of the folder.
    pub async fn put(&self, folder: &str, path: &str, body: Body) -> Result<Written, Problem> {
        self.counted("written", self.put_at_holder(folder, path, body).await)
    }

    /// Removes an original from every node that holds it, and everything made of it; a node that is away removes its copy
    /// when it is back. Dropped, it may or may not have been removed.
    ///
    /// Errors: `NotFound` where no holder has it, or there is no such folder; `Unavailable` where all holders are away.
    pub async fn remove(&self, folder: &str, path: &str) -> Result<Removal, Problem> {
        self.counted("removed", self.remove_from_all(folder, path).await)
    }

    fn counted<T>(&self, what: &'static str, outcome: Result<T, Problem>) -> Result<T, Problem> {
        Meter::count(&self.done, if outcome.is_ok() { what } else { "failed" });
        outcome
    }

    async fn list_all(&self, query: ShelfQuery) -> Result<HeldPage, Problem> {
        let holders = self.holders(&query.folder)?;
        let limit = query.limit.clamp(1, tutti_fetch::shelf::PAGE_MAX);
        let ask = WireShelf::List {
            folder: query.folder,
            prefix: query.prefix,
            after: query.after,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        let asked = self.all_of(&holders).map(|node| {
            let ask = ask.clone();
            async move { (node, self.ask(node, ask, Body::empty(), LIST_WITHIN).await) }
        });
        let (mut pages, mut absent) = (Vec::new(), holders.away.clone());
        for (node, told) in join_all(asked).await {
            match told {
                Ok(WireShelved::Page { files, more }) => pages.push((self.name(node), files, more)),
                Err(CallError::Refused(_, problem)) if problem.kind.fault() == Fault::Client => {
                    return Err(*problem);
                }
                Ok(_) | Err(_) => absent.push(self.name(node)),
            }
        }
        if pages.is_empty() {
            return Err(all_away(&absent));
        }
        let (files, more) = merge(pages, limit);
        Ok(HeldPage { files, more, absent })
    }

    async fn put_at_holder(&self, folder: &str, path: &str, body: Body) -> Result<Written, Problem> {
        let holders = self.holders(folder)?;
        let source = Source::Local { folder: folder.into(), path: path.into() };
        let (stamps, _) = self.stamps(&source, &holders).await;
        let newest = stamps.iter().map(|(_, stamp)| after(stamp.modified_ns)).max();
        let key = source.key(&TenantId::default());
        let deleted = self.flow.purges.deleted(&key).map(|at| Wall(at.0 + 1));
        let at_least = newest.max(deleted).unwrap_or_default();
        let ask = WireShelf::Put { folder: folder.into(), path: path.into(), at_least };
        let (node, file) = if holders.me {
            let me = self.flow.mesh.view().me;
            (me, written(self.flow.shelve(ask, body).await?)?)
        } else {
            self.put_elsewhere(&holders, ask, body).await?
        };
        let reached = self.flow.purge(What::Source(key)).await?;
        Ok(Written {
            bytes: file.stamp.len,
            modified: wall(file.stamp.modified_ns),
            node: self.name(node),
            not_reached: reached.not_reached,
        })
    }

    /// Writes at the first holder that takes it: those that are up before those that drain, each by their ids.
    async fn put_elsewhere(
        &self,
        holders: &Holders,
        ask: WireShelf,
        body: Body,
    ) -> Result<(NodeId, WireFile), Problem> {
        let Some(_counted) = Counted::one_of(&self.moving, MOVING_MAX) else {
            let detail = format!("{MOVING_MAX} originals are on their way to other nodes already; try again");
            return Err(Problem::new(Kind::Overloaded, detail).retry_after(Duration::from_secs(1)));
        };
        let bytes = self.in_memory(body).await?;
        let view = self.flow.mesh.view();
        let mut nodes = holders.others.clone();
        nodes.sort_by_key(|node| (!view.get(*node).is_some_and(tutti_base::Member::is_up), *node));
        let mut failure = all_away(&holders.away);
        for node in nodes {
            match self.ask(node, ask.clone(), bytes.clone().into(), WRITE_WITHIN).await {
                Ok(told) => return written(told).map(|file| (node, file)),
                Err(CallError::Refused(_, problem)) if problem.kind.fault() == Fault::Client => {
                    return Err(*problem);
                }
                Err(CallError::Refused(_, problem)) => failure = *problem,
                Err(error) => {
                    let detail = format!("`{}`, which holds the folder, does not answer", self.name(node));
                    failure = Problem::new(Kind::Unavailable, detail).because(error);
                }
            }
        }
        Err(failure.retry_after(Duration::from_secs(5)))
    }

    /// All of `body`, for a call to take along.
    async fn in_memory(&self, body: Body) -> Result<Bytes, Problem> {
        let most = self.bytes_max().min(MOVED_BYTES_MAX);
        let problem = |text: String| Problem::new(Kind::Unprocessable, text).about("body");
        if body.len().is_some_and(|len| len > most) {
            return Err(problem(format!(
                "an original of more than {most} bytes cannot be sent to its holder"
            )));
        }
        let read = self.flow.outside.copies.read(body, most).await;
        read.map_err(|error| {
            problem(format!("the original has more than {most} bytes, or did not arrive whole: {error}"))
        })
    }

    async fn remove_from_all(&self, folder: &str, path: &str) -> Result<Removal, Problem> {
        let holders = self.holders(folder)?;
        let source = Source::Local { folder: folder.into(), path: path.into() };
        let (stamps, absent) = self.stamps(&source, &holders).await;
        let newest = stamps.iter().map(|(_, stamp)| wall(stamp.modified_ns)).max();
        let Some(newest) = newest else {
            return Err(self.not_there(&source, &holders, &absent));
        };
        let at = self.flow.outside.clock.wall().max(newest);
        let (folder, path) = (folder.to_owned(), path.to_owned());
        let key = source.key(&TenantId::default());
        let what = What::Deleted { source: key, folder: folder.clone(), path: path.clone(), at };
        let reached = self.flow.purge(what).await?;
        let ask = WireShelf::Remove { folder, path, at };
        let removing = stamps.iter().map(|(node, _)| {
            let ask = ask.clone();
            async move { (self.name(*node), self.ask(*node, ask, Body::empty(), REMOVE_WITHIN).await) }
        });
        let (mut nodes, mut hidden) = (Vec::new(), Vec::new());
        for (name, told) in join_all(removing).await {
            match told {
                Ok(_) => nodes.push(name),
                Err(CallError::Refused(_, problem)) => hidden.push((name, problem.detail.into_owned())),
                // It was told of the purge, or is named as not reached.
                Err(error) => tracing::debug!(%error, "a holder did not say that it has removed an original"),
            }
        }
        Ok(Removal { nodes, hidden, not_reached: reached.not_reached })
    }

    /// Nobody who answered has it: it is not there, unless nobody could answer.
    fn not_there(&self, source: &Source, holders: &Holders, absent: &[String]) -> Problem {
        let asked = holders.others.len() + usize::from(holders.me) + holders.away.len();
        if absent.len() >= asked {
            return all_away(absent);
        }
        let away = match absent {
            [] => String::new(),
            absent => format!("; these hold the folder and are away: {}", absent.join(", ")),
        };
        Problem::new(Kind::NotFound, format!("there is no original at {source}{away}")).about("path")
    }

    /// Who holds `folder`; a problem that names those that there are where nobody does.
    fn holders(&self, folder: &str) -> Result<Holders, Problem> {
        let own = self.flow.outside.shelf.folders();
        let mut holders = self.flow.mesh.holders(folder);
        holders.me = own.iter().any(|held| held == folder);
        if holders.me || !holders.others.is_empty() || !holders.away.is_empty() {
            return Ok(holders);
        }
        let view = self.flow.mesh.view();
        let others = view.others().flat_map(|member| member.load.folders.iter().cloned());
        let mut folders: Vec<String> = own.into_iter().chain(others).collect();
        folders.sort();
        folders.dedup();
        Err(Problem::new(Kind::NotFound, tutti_fetch::shelf::no_folder(folder, &folders)).about("folder"))
    }

    /// How `source` is at each holder that has it, and the names of holders that could not say.
    async fn stamps(&self, source: &Source, holders: &Holders) -> (Vec<(NodeId, WireStamp)>, Vec<String>) {
        let stat = WireStat { source: source.clone(), tenant: TenantId::default() };
        let ask = Ask::Stat(stat.clone());
        let others = holders.others.iter().map(|node| async {
            (*node, self.flow.mesh.ask(*node, Lane::Small, &ask, Bytes::new(), LOOK_WITHIN).await)
        });
        let deadline = Deadline::after(self.flow.outside.clock.now(), LOOK_WITHIN);
        let here = async {
            match holders.me {
                true => self.flow.desk.stat(stat, deadline).await,
                false => None,
            }
        };
        let (others, here) = join(join_all(others), here).await;
        let me = self.flow.mesh.view().me;
        let mut stamps: Vec<_> = here.map(|stamp| (me, stamp)).into_iter().collect();
        let mut absent = holders.away.clone();
        for (node, told) in others {
            match told {
                Ok((Told::Stat(stamp), _)) => stamps.extend(stamp.map(|stamp| (node, stamp))),
                Ok(_) | Err(_) => absent.push(self.name(node)),
            }
        }
        (stamps, absent)
    }

    fn all_of<'a>(&self, holders: &'a Holders) -> impl Iterator<Item = NodeId> + use<'a> {
        let me = holders.me.then(|| self.flow.mesh.view().me);
        me.into_iter().chain(holders.others.iter().copied())
    }

    /// Asks `node` for something of its folders; this node without a call.
    async fn ask(
        &self,
        node: NodeId,
        ask: WireShelf,
        body: Body,
        within: Duration,
    ) -> Result<WireShelved, CallError> {
        let refused = |problem| CallError::Refused(node, Box::new(problem));
        if node == self.flow.mesh.view().me {
            return self.flow.shelve(ask, body).await.map_err(refused);
        }
        let body = match body {
            Body::Whole(bytes) => bytes,
            Body::File(_) | Body::Stream(_) => Bytes::new(),
        };
        let lane = if matches!(ask, WireShelf::Put { .. }) { Lane::Bulk } else { Lane::Small };
        match self.flow.mesh.ask(node, lane, &Ask::Shelf(Box::new(ask)), body, within).await? {
            (Told::Shelf(shelved), _) => Ok(*shelved),
            _ => Err(refused(something_else())),
        }
    }

    fn name(&self, node: NodeId) -> String {
        if node == self.flow.mesh.view().me {
            return self.flow.me.to_string();
        }
        self.flow.mesh.name(node).to_string()
    }
}

fn wall(modified_ns: i128) -> Wall {
    Wall(u64::try_from(modified_ns.div_euclid(MS)).unwrap_or(0))
}

/// The first ms that counts as later than a file of this time.
fn after(modified_ns: i128) -> Wall {
    Wall(wall(modified_ns).0.saturating_add(1))
}

fn written(told: WireShelved) -> Result<WireFile, Problem> {
    match told {
        WireShelved::Written(file) => Ok(file),
        _ => Err(something_else()),
    }
}

fn something_else() -> Problem {
    Problem::new(Kind::Unavailable, "a peer answered something else")
}

fn all_away(names: &[String]) -> Problem {
    let names = names.join(", ");
    let detail = format!("the nodes that hold this folder are away: {names}; try again when they are back");
    Problem::new(Kind::Unavailable, detail).about("folder").retry_after(Duration::from_secs(5))
}
