//! Originals over the cluster: what a purge overtakes is got anew, what is private stays so, what is away is not missing,
//! and a peer's word goes no further than this node's own limits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, Versioned};
use tutti_base::{
    Call, ContentHash, Kind, Lane, NodeId, Problem, Reply, Roles, Serve, Source, TenantId, Topic, Wall,
};
use tutti_cache::Originals;
use tutti_flow::{Answering, Config, What};

use crate::town::{Town, count};
use crate::world::World;

/// What a purge takes away that says that an original has changed.
fn source(world: &World, url: &str) -> What {
    What::Source(world.plan(url).sources[0].0)
}

async fn has(world: &World, url: &str) -> bool {
    world.originals.find(&world.plan(url).sources[0].0).await.is_some()
}

/// Names whose first owner is `owner`.
fn owned_by(town: &Town, owner: usize, folder: &str, wanted: usize) -> Vec<String> {
    let names = (0..10_000).map(|n| format!("{folder}cat{n}"));
    names.filter(|name| town.owners(&format!("/{name}"))[0] == owner).take(wanted).collect()
}

#[tokio::test(start_paused = true)]
async fn an_original_that_was_on_its_way_when_a_purge_was_acknowledged_is_not_good_for_who_comes_later() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    *world.outdoors.sends.lock().unwrap() = Duration::from_secs(2);
    let later = async {
        world.pass(1.0).await;
        world.outdoors.put("cat", "purr");
        world.flow.purge(source(&world, "/cat")).await.expect("kept");
        world.ask("/cat?big").await
    };
    let (_, later) = tokio::join!(world.ask("/cat"), later);
    assert_eq!(later.ok().1, "PURR!big");
    assert_eq!(world.ask("/cat?big").await.ok(), ("hit", "PURR!big"));
    assert_eq!(world.ask("/cat").await.ok().1, "PURR!");
}

#[tokio::test(start_paused = true)]
async fn an_owner_gives_nobody_what_was_on_its_way_to_it_when_a_purge_was_acknowledged() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    *town.outdoors.sends.lock().unwrap() = Duration::from_secs(2);
    let owners = town.owners("/cat");
    let front = (0..3).find(|at| !owners.contains(at)).expect("two of three own it");
    town.cut(front, owners[0]);
    let later = async {
        town.nodes[front].pass(1.0).await;
        town.outdoors.put("cat", "purr");
        town.nodes[owners[1]].flow.purge(source(&town.nodes[0], "/cat")).await.expect("kept");
        // The first owner cannot be asked from here: the second makes it, and gets the original from the first.
        town.ask(front, "/cat?big").await
    };
    let (_, later) = tokio::join!(town.ask(owners[0], "/cat"), later);
    assert_eq!(later.ok().1, "PURR!big");
    assert_eq!(town.ask(owners[1], "/cat?big").await.ok().1, "PURR!big");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_has_not_learned_of_a_purge_is_passed_over() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    let owners = town.owners("/cat");
    town.ask(owners[0], "/cat").await;
    town.isolate(owners[0]);
    town.outdoors.put("cat", "purr");
    let reached = town.nodes[owners[1]].flow.purge(source(&town.nodes[0], "/cat")).await.expect("kept");
    assert_eq!(reached.not_reached.len(), 1, "{reached:?}");
    town.heal();
    assert_eq!(town.ask(owners[1], "/cat?big").await.ok().1, "PURR!big");
    assert_eq!(town.ask(owners[1], "/cat").await.ok().1, "PURR!");
}

#[tokio::test(start_paused = true)]
async fn a_worker_keeps_a_jobs_original_only_where_the_one_who_lent_it_may() {
    for shared in [true, false] {
        let town = Town::with_roles(&[Roles::FRONT.with(Roles::CACHE), Roles::WORKER]);
        town.outdoors.put("cat", "miau");
        town.outdoors.answer.lock().unwrap().shared = shared;
        assert_eq!(town.ask(0, "/cat").await.ok().1, "MIAU!");
        assert_eq!(town.nodes[1].runs(), 1, "the worker did it");
        town.nodes[0].pass(0.1).await;
        assert_eq!(has(&town.nodes[1], "/cat").await, shared, "shared: {shared}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_takes_a_jobs_original_from_its_own_folder() {
    let town = Town::with_roles(&[Roles::FRONT.with(Roles::CACHE), Roles::WORKER]);
    town.hold_folder(1);
    town.outdoors.put("folder/cat", "miau");
    assert_eq!(town.ask(0, "/folder/cat").await.ok().1, "MIAU!");
    assert_eq!(town.nodes[1].runs(), 1, "the worker did it");
    let moved = count(&town.nodes[1].metrics.text(), "tutti_flow_originals_total{reason=\"moved\"}");
    assert_eq!(moved, 0, "the file came from there");
}

#[tokio::test(start_paused = true)]
async fn a_file_of_an_absent_node_is_no_404_on_a_node_that_holds_the_same_folder() {
    let town = Town::of(2);
    town.open_folders(&[0, 1]);
    let url = format!("/{}", owned_by(&town, 0, "folder/", 1).remove(0));
    town.nodes[1].shelf.lay(url.trim_start_matches("/folder/"), "miau", Wall(1));
    assert_eq!(town.ask(0, &url).await.ok().1, "MIAU!");
    town.kill(1);
    for _ in 0..2 {
        town.nodes[0].pass(2.0).await;
        let absent = town.ask(0, "/folder/dog").await;
        assert_eq!(absent.0, 503, "{absent:?}");
        assert!(absent.2.contains("two"), "{absent:?}");
    }
    let said = town.ask(0, &format!("{url}?other")).await;
    assert_eq!(said.ok().1, "MIAU!other", "the copy stands in");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_since_this_one_started_may_hold_any_file() {
    let town = Town::of(2);
    town.open_folders(&[0]);
    town.never_heard_of(1);
    let absent = town.ask(0, "/folder/dog").await;
    assert_eq!(absent.0, 503, "{absent:?}");
    assert!(absent.2.contains("two"), "{absent:?}");
}

#[tokio::test(start_paused = true)]
async fn copies_of_files_that_one_node_alone_holds_are_made_in_the_end_however_many_are_read_at_once() {
    let patient = Config { target_wait: Duration::from_secs(10), ..Config::default() };
    let town = Town::with(&[(Roles::ALL, patient); 3]);
    town.hold_folder(1);
    let mut lacking = owned_by(&town, 1, "folder/", 48);
    lacking.iter().for_each(|name| town.outdoors.put(name, name));
    let mut rounds = 0;
    while !lacking.is_empty() {
        assert!(rounds < 8, "these have no copy: {lacking:?}");
        let urls: Vec<String> = lacking.iter().map(|name| format!("/{name}?{rounds}")).collect();
        let answers = join_all(urls.iter().map(|url| town.ask(1, url))).await;
        assert!(answers.iter().all(|said| said.0 == 200), "{answers:?}");
        town.nodes[1].pass(5.0).await;
        assert_eq!(count(&town.nodes[1].metrics.text(), "tutti_flow_copying"), 0);
        for (name, url) in std::mem::take(&mut lacking).into_iter().zip(urls) {
            if !has(&town.nodes[town.owners(&url)[1]], &url).await {
                lacking.push(name);
            }
        }
        rounds += 1;
    }
    assert!(rounds > 1, "more were read at once than are copied at once");
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_takes_a_copy_away_has_it_made_again() {
    let town = Town::of(3);
    town.hold_folder(1);
    let name = owned_by(&town, 1, "folder/", 1).remove(0);
    let url = format!("/{name}");
    town.outdoors.put(&name, "miau");
    let other = town.owners(&url)[1];
    for _ in 0..2 {
        town.ask(1, &url).await;
        town.nodes[1].pass(0.5).await;
        assert!(has(&town.nodes[other], &url).await);
        town.nodes[1].flow.purge(source(&town.nodes[1], &url)).await.expect("kept");
        assert!(!has(&town.nodes[other], &url).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_want_to_know_where_a_file_is_look_once() {
    let town = Town::of(3);
    [1, 2].iter().for_each(|at| town.hold_folder(*at));
    town.outdoors.put("folder/cat", "miau");
    let owner = town.owners("/folder/cat")[0];
    town.ask(owner, "/folder/cat").await;
    town.nodes[owner].pass(1.5).await;
    let before = town.outdoors.stats.load(Ordering::SeqCst);
    let answers = join_all((0..1000).map(|_| town.ask(owner, "/folder/cat"))).await;
    assert!(answers.iter().all(|said| said.ok().1 == "MIAU!"));
    let looks = town.outdoors.stats.load(Ordering::SeqCst) - before;
    assert!(looks <= 6, "{looks} looks into folders");
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_a_smaller_limit_leaves_a_jobs_long_original_to_others() {
    let small = Config { original_bytes_max: 3, ..Config::default() };
    let front = Roles::FRONT.with(Roles::CACHE);
    let town = Town::with(&[(front, Config::default()), (Roles::WORKER, small)]);
    town.outdoors.put("cat", "miau");
    town.outdoors.put("dog", "wuf");
    assert_eq!(town.ask(0, "/cat").await.ok().1, "MIAU!");
    assert_eq!(town.nodes[1].runs(), 0, "four bytes are too many there");
    assert_eq!(town.ask(0, "/dog").await.ok().1, "WUF!");
    assert_eq!(town.nodes[1].runs(), 1);
}

/// Calls as any peer can make them: of [`tutti_flow`]'s own by number and shape.
#[derive(Serialize, Deserialize)]
enum Raw {
    Look,
    Run,
    Original(RawOriginal),
    Stat { source: Source, tenant: TenantId },
}

#[derive(Serialize, Deserialize)]
struct RawOriginal {
    source: Option<Source>,
    tenant: TenantId,
    bytes_max: u64,
    which: RawWhich,
    have: Option<ContentHash>,
}

#[derive(Serialize, Deserialize)]
enum RawWhich {
    Current,
    InFolder,
}

impl Versioned for Raw {
    const KIND: u8 = 90;
    const VERSION: u16 = 1;
}

async fn call(world: &World, raw: &Raw) -> Result<Reply, Problem> {
    let (head, within) = (envelope::seal(raw).into(), Duration::from_secs(5));
    let call = Call { topic: Topic::FLOW, lane: Lane::Small, head, body: Default::default(), within };
    Answering(Arc::clone(&world.flow)).serve(NodeId(9), call).await
}

fn cat() -> Source {
    Source::Http { url: "http://origin/cat".into() }
}

fn wanted(bytes_max: u64, which: RawWhich) -> Raw {
    Raw::Original(RawOriginal {
        source: Some(cat()),
        tenant: TenantId::default(),
        bytes_max,
        which,
        have: None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_peers_look_at_a_folder_asks_no_origin() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    call(&world, &Raw::Stat { source: cat(), tenant: TenantId::default() })
        .await
        .expect("there is no such file");
    let refused = call(&world, &wanted(100, RawWhich::InFolder)).await.map(|_| ()).unwrap_err();
    assert_eq!((refused.kind, world.fetches()), (Kind::BadRequest, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_wants_at_most_moves_no_limit_of_this_node() {
    let world = World::with(Config { original_bytes_max: 4, ..Config::default() });
    world.outdoors.put("cat", "much too long");
    let refused = call(&world, &wanted(u64::MAX, RawWhich::Current)).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind, Kind::Unprocessable);
    assert!(!has(&world, "/cat").await, "{refused:?}");
    // Nor does a peer that wants less spoil it for those who wait for the same.
    world.outdoors.put("cat", "miau");
    *world.outdoors.sends.lock().unwrap() = Duration::from_millis(100);
    let little = wanted(1, RawWhich::Current);
    let own = async {
        world.pass(0.01).await;
        world.ask("/cat").await
    };
    let (refused, own) = tokio::join!(call(&world, &little), own);
    assert_eq!(refused.map(|_| ()).unwrap_err().kind, Kind::Unprocessable);
    assert_eq!(own.ok().1, "MIAU!");
}
