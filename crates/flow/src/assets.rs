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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use tutti_base::{
    Body, CallError, Deadline, Fault, Kind, Lane, NodeId, Problem, Source, SourceKey, TenantId, Wall,
};
use tutti_fetch::{Gone, Removed, ShelfFile, ShelfQuery};
use tutti_telemetry::{Counter, Family, Gauge, Metrics};

use crate::mesh::Holders;
use crate::meter::{Counted, Meter, Reason};
use crate::purge::Purge;
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
        self.flow.desk.forget_look(&key);
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
        let most = self.bytes_max().min(MOVED_BYTES_MAX);
        let bytes = self.flow.outside.copies.read(body, most).await.map_err(|error| {
            let detail =
                format!("the original is longer than {most} bytes, or did not arrive whole: {error}");
            Problem::new(Kind::Unprocessable, detail).about("body")
        })?;
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

impl Flow {
    /// Does to this node's own folders what is asked, here or by a peer.
    pub(crate) async fn shelve(&self, ask: WireShelf, body: Body) -> Result<WireShelved, Problem> {
        let shelf = &self.outside.shelf;
        match ask {
            WireShelf::List { folder, prefix, after, limit } => {
                let gone = self.gone_from(&folder);
                let query = ShelfQuery { folder: folder.clone(), prefix, after, limit: limit as usize };
                let page = shelf.list(query, gone).await?;
                let files = page.files.into_iter().map(|file| self.wire_file(&folder, file));
                Ok(WireShelved::Page { files: files.collect(), more: page.more })
            }
            WireShelf::Put { folder, path, at_least } => {
                let (purges, clock) = (Arc::clone(&self.purges), Arc::clone(&self.outside.clock));
                let key = key_of(&folder, &path);
                let dated = move || {
                    let deleted = purges.deleted(&key).map_or(Wall(0), |at| Wall(at.0 + 1));
                    clock.wall().max(deleted).max(at_least)
                };
                let most = self.config.original_bytes_max;
                let file = shelf.put(&folder, &path, body, most, Box::new(dated)).await?;
                self.desk.forget_look(&key);
                Ok(WireShelved::Written(self.wire_file(&folder, file)))
            }
            WireShelf::Remove { folder, path, at } => {
                let removed = shelf.remove(&folder, &path, at).await?;
                Ok(WireShelved::Removed { stays: removed == Removed::Newer })
            }
        }
    }

    /// Where the newest file of a name was may not be where it is now: a purge of an original says that it has changed.
    pub(crate) fn forget_looks(&self, purges: &[Purge]) {
        for purge in purges {
            if let What::Source(source) = &purge.what {
                self.desk.forget_look(source);
            }
        }
    }

    /// Which files of `folder` are deleted, and only are not removed yet: a crash came between, or they could not be. It is
    /// tried again.
    fn gone_from(&self, folder: &str) -> Gone {
        let (purges, shelf) = (Arc::clone(&self.purges), Arc::clone(&self.outside.shelf));
        let folder = folder.to_owned();
        Arc::new(move |path, modified_ns| {
            let deleted = purges.deleted(&key_of(&folder, path));
            let gone = deleted.filter(|at| modified_ns.div_euclid(MS) <= i128::from(at.0));
            if let Some(at) = gone {
                shelf.remove_older(&folder, path, at);
            }
            gone.is_some()
        })
    }

    fn wire_file(&self, folder: &str, file: ShelfFile) -> WireFile {
        let known = self.desk.known(&key_of(folder, &file.path));
        let hash = known.filter(|(stamp, _)| *stamp == file.stamp).map(|(_, hash)| hash);
        let stamp = WireStamp { modified_ns: file.stamp.modified_ns, len: file.stamp.len, hash };
        WireFile { path: file.path, stamp }
    }
}

fn key_of(folder: &str, path: &str) -> SourceKey {
    Source::Local { folder: folder.into(), path: path.into() }.key(&TenantId::default())
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

/// The holders' pages as one of at most `limit`, and whether there is more. Beyond the end of a page that has more after
/// it nothing is known of that holder, so the whole ends at the first such end.
fn merge(pages: Vec<(String, Vec<WireFile>, bool)>, limit: usize) -> (Vec<Held>, bool) {
    let cut = pages.iter().filter(|(_, _, more)| *more);
    let end = cut.filter_map(|(_, files, _)| files.last().map(|file| file.path.clone())).min();
    let mut by_path: BTreeMap<String, Vec<(String, WireStamp)>> = BTreeMap::new();
    for (node, files, _) in pages {
        for file in files {
            by_path.entry(file.path).or_default().push((node.clone(), file.stamp));
        }
    }
    let all = by_path.len();
    let within = |path: &String| end.as_ref().is_none_or(|end| path <= end);
    let taken = by_path.into_iter().take_while(|(path, _)| within(path)).take(limit);
    let files: Vec<Held> = taken.map(|(path, copies)| held(path, copies)).collect();
    let more = end.is_some() || files.len() < all;
    (files, more)
}

fn held(path: String, copies: Vec<(String, WireStamp)>) -> Held {
    let newest = copies.iter().map(|(_, stamp)| *stamp).max_by_key(|stamp| (stamp.modified_ns, stamp.hash));
    let newest = newest.expect("a path is listed by whoever holds it");
    let differs = |stamp: &WireStamp| {
        let by_hash = matches!((stamp.hash, newest.hash), (Some(one), Some(other)) if one != other);
        stamp.len != newest.len || by_hash
    };
    let conflict = copies.iter().any(|(_, stamp)| differs(stamp));
    let mut nodes: Vec<String> = copies.into_iter().map(|(node, _)| node).collect();
    nodes.sort();
    Held { path, bytes: newest.len, modified: wall(newest.modified_ns), nodes, conflict }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(node: &str, files: &[(&str, i128, u64)], more: bool) -> (String, Vec<WireFile>, bool) {
        let file = |(path, modified_ms, len): &(&str, i128, u64)| WireFile {
            path: (*path).into(),
            stamp: WireStamp { modified_ns: modified_ms * MS, len: *len, hash: None },
        };
        (node.into(), files.iter().map(file).collect(), more)
    }

    fn paths(files: &[Held]) -> Vec<&str> {
        files.iter().map(|held| held.path.as_str()).collect()
    }

    #[test]
    fn what_all_hold_is_one_and_the_newest_counts() {
        let pages = vec![
            page("two", &[("a", 1, 5), ("b", 1, 5)], false),
            page("one", &[("a", 2, 5), ("b", 3, 6)], false),
        ];
        let (files, more) = merge(pages, 10);
        assert!(!more);
        assert_eq!(paths(&files), ["a", "b"]);
        assert_eq!(
            (files[0].nodes.join(","), files[0].modified, files[0].conflict),
            ("one,two".into(), Wall(2), false)
        );
        assert_eq!((files[1].bytes, files[1].conflict), (6, true));
    }

    #[test]
    fn a_list_ends_where_the_shortest_page_does() {
        let pages = || {
            vec![
                page("one", &[("a", 1, 1), ("c", 1, 1)], true),
                page("two", &[("b", 1, 1), ("d", 1, 1)], false),
            ]
        };
        let (files, more) = merge(pages(), 10);
        assert_eq!(
            (paths(&files), more),
            (vec!["a", "b", "c"], true),
            "one may hold something between c and d"
        );
        let (files, more) = merge(pages(), 2);
        assert_eq!((paths(&files), more), (vec!["a", "b"], true));
        let (files, more) = merge(vec![page("one", &[("a", 1, 1)], false)], 1);
        assert_eq!((paths(&files), more), (vec!["a"], false));
    }
}
