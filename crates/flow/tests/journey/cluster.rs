//! Many nodes, one server: each thing is made once, whoever is asked; nodes die unseen; purges reach everyone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tutti_base::Roles;
use tutti_flow::purge::TAG_LEN_MAX;
use tutti_flow::spread::{COMPARE_EVERY, SETTLE_WITHIN};
use tutti_flow::{Settled, What};

use tutti_cache::Results;

use crate::town::Town;
use crate::world::World;

fn slow(town: &Town, millis: u64) {
    town.nodes.iter().for_each(|node| *node.engine.takes.lock().unwrap() = Duration::from_millis(millis));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_clients_of_any_front_and_one_cold_key_are_one_render_and_one_fetch() {
    for name in ["cat", "dog", "cow", "owl", "fox"] {
        let town = Town::of(3);
        town.outdoors.put(name, "miau");
        slow(&town, 300);
        let url = format!("/{name}");
        let answers = join_all((0..1000).map(|client| town.ask(client % 3, &url))).await;
        assert!(answers.iter().all(|said| said.ok().1 == "MIAU!"));
        assert_eq!((town.runs(), town.passed_over()), (1, 0), "{name}");
        assert_eq!(town.outdoors.fetches.load(Ordering::SeqCst), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_node_made_is_a_hit_on_every_other_and_local_from_the_third_ask_on() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    town.ask(0, "/cat").await;
    let owners = town.owners("/cat");
    let stranger = (0..3).find(|at| !owners.contains(at)).expect("two of three own it");
    town.nodes[0].pass(0.1).await;
    assert!(owners.iter().all(|owner| town.nodes[*owner].hits("/cat")), "both owners have a copy");
    for ask in 1..=3 {
        assert!(!town.nodes[stranger].hits("/cat"), "before ask {ask}");
        assert_eq!(town.ask(stranger, "/cat").await.ok(), ("hit", "MIAU!"));
        if stranger == 0 && ask == 2 {
            break;
        }
    }
    assert!(town.nodes[stranger].hits("/cat"));
    assert_eq!(town.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_dies_with_a_flight_is_passed_over_unseen() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    slow(&town, 500);
    let owner = town.owners("/cat")[0];
    let fronts: Vec<_> = (0..3).filter(|at| *at != owner).collect();
    let kill = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        town.kill(owner);
    };
    let asks = join_all((0..20).map(|client| town.ask(fronts[client % 2], "/cat")));
    let (answers, ()) = tokio::join!(asks, kill);
    assert!(answers.iter().all(|said| said.ok().1 == "MIAU!"));
    assert_eq!(town.runs(), 2, "the one that died and one more");
    assert_eq!(town.passed_over(), 2, "each of the others noticed once");
}

#[tokio::test(start_paused = true)]
async fn a_silent_owner_costs_a_tenth_of_a_second_and_nobody_an_answer() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    let owner = town.owners("/cat")[0];
    town.isolate(owner);
    let front = (0..3).find(|at| *at != owner).expect("there are three");
    let began = tokio::time::Instant::now();
    assert_eq!(town.ask(front, "/cat").await.ok().1, "MIAU!");
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    // Cut off itself, it still answers.
    assert_eq!(town.ask(owner, "/cat").await.ok().1, "MIAU!");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_with_a_job_costs_nobody_an_answer() {
    for victim in 0..3 {
        let town = Town::of(3);
        slow(&town, 200);
        let names: Vec<String> = (0..30).map(|n| format!("cat{n}")).collect();
        names.iter().for_each(|name| town.outdoors.put(name, "miau"));
        let fronts: Vec<_> = (0..3).filter(|at| *at != victim).collect();
        let kill = async {
            tokio::time::sleep(Duration::from_millis(250)).await;
            town.kill(victim);
        };
        let urls: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
        let asks = join_all(urls.iter().enumerate().map(|(at, url)| town.ask(fronts[at % 2], url)));
        let (answers, ()) = tokio::join!(asks, kill);
        assert!(answers.iter().all(|said| said.0 == 200), "{answers:?}");
        assert!(town.nodes[victim].runs() > 0, "the victim had work");
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_run_on_workers_alone_and_a_front_without_that_role_runs_none() {
    let front = Roles::FRONT.with(Roles::CACHE);
    let town = Town::with_roles(&[front, Roles::WORKER, Roles::WORKER]);
    slow(&town, 50);
    let names: Vec<String> = (0..20).map(|n| format!("cat{n}")).collect();
    names.iter().for_each(|name| town.outdoors.put(name, "miau"));
    let urls: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    let answers = join_all(urls.iter().map(|url| town.ask(0, url))).await;
    assert!(answers.iter().all(|said| said.0 == 200), "{answers:?}");
    assert_eq!(town.nodes[0].runs(), 0);
    let share = town.nodes[1].runs();
    assert!((8..=12).contains(&share), "equal workers get equal shares: {share} of 20");
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_in_force_on_every_node_that_its_answer_names() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    for at in [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2] {
        town.ask(at, "/cat").await;
    }
    assert!(town.nodes.iter().all(|node| node.hits("/cat")));
    let reached = town.nodes[1].flow.purge(What::Tag("loud".into())).await.expect("kept");
    assert_eq!((reached.reached.len(), reached.not_reached.len()), (3, 0), "{reached:?}");
    assert!(town.nodes.iter().all(|node| !node.hits("/cat")));
    assert_eq!(town.ask(2, "/cat").await.ok().1, "MIAU!");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_replays_the_purges_it_missed_before_it_serves_what_it_kept() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    for at in [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2] {
        town.ask(at, "/cat").await;
    }
    for node in &town.nodes {
        tokio::spawn(std::sync::Arc::clone(&node.flow).keep_in_step());
    }
    town.isolate(2);
    let reached = town.nodes[0].flow.purge(What::All).await.expect("kept");
    assert_eq!(reached.not_reached, ["three"]);
    assert!(town.nodes[2].hits("/cat"), "cut off, it serves what it has");
    town.nodes[2].pass(0.5).await;
    town.heal();
    town.nodes[2].pass(1.0).await;
    assert!(!town.nodes[2].hits("/cat"), "it has learned of the purge");
}

#[tokio::test(start_paused = true)]
async fn a_folder_of_one_node_is_everyones_and_its_absence_is_no_404() {
    let town = Town::of(3);
    town.hold_folder(1);
    town.outdoors.put("folder/cat", "miau");
    for at in 0..3 {
        assert_eq!(town.ask(at, "/folder/cat").await.ok().1, "MIAU!", "asked at {at}");
    }
    assert_eq!(town.ask(0, "/folder/nothing").await.0, 404);
    town.kill(1);
    let front = (0..3).find(|at| *at != 1).expect("there are three");
    // Both owners have a copy of the original by now: another rendering of it needs no holder.
    town.nodes[front].pass(2.0).await;
    assert_eq!(town.ask(front, "/folder/cat?other").await.ok().1, "MIAU!other");
    let absent = town.ask(front, "/folder/dog").await;
    assert_eq!(absent.0, 503, "{absent:?}");
    assert!(absent.2.contains("two"), "the absent node is named: {absent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_private_answer_is_made_for_each_who_asks_on_any_node() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    town.outdoors.answer.lock().unwrap().shared = false;
    for at in 0..3 {
        assert_eq!(town.ask(at, "/cat").await.ok(), ("miss", "MIAU!"));
    }
    assert_eq!(town.runs(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_has_lost_what_it_kept_gets_it_from_the_other_and_makes_nothing() {
    let town = Town::of(3);
    town.outdoors.put("cat", "miau");
    let owner = town.owners("/cat")[0];
    town.ask(owner, "/cat").await;
    town.nodes[owner].pass(0.1).await;
    town.nodes[owner].kept.clear();
    assert_eq!(town.ask(owner, "/cat").await.ok(), ("hit", "MIAU!"));
    assert!(town.nodes[owner].hits("/cat"), "and keeps it again");
    assert_eq!(town.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_goes_to_others_while_this_node_is_busy_and_small_work_stays() {
    let town = Town::of(3);
    slow(&town, 100);
    let names: Vec<String> = (0..60).map(|n| format!("cat{n}")).collect();
    names.iter().for_each(|name| town.outdoors.put(name, "miau"));
    let urls: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    let answers = join_all(urls.iter().map(|url| town.ask(0, url))).await;
    assert!(answers.iter().all(|said| said.0 == 200));
    let shares: Vec<usize> = town.nodes.iter().map(World::runs).collect();
    assert_eq!(shares.iter().sum::<usize>(), 60);
    assert!(shares.iter().all(|share| (14..=26).contains(share)), "each node has its share: {shares:?}");
}

/// A town where every node has kept the answer to `/cat`.
async fn well_known(count: usize) -> Town {
    let town = Town::of(count);
    town.outdoors.put("cat", "miau");
    for at in (0..4 * count).map(|ask| ask % count) {
        town.ask(at, "/cat").await;
    }
    assert!(town.nodes.iter().all(|node| node.hits("/cat")));
    town
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_not_called_in_force_where_those_before_it_are_missing_and_cannot_be_had() {
    let town = well_known(2).await;
    town.isolate(1);
    let missed = town.nodes[0].flow.purge(What::Tag("loud".into())).await.expect("kept");
    assert_eq!(missed.not_reached, ["two"]);
    town.heal();
    // The first is heard, and cannot be asked.
    town.kill(0);
    let told = town.nodes[0].flow.purge(What::Tag("other".into())).await.expect("kept");
    assert_eq!(told.not_reached, ["two"]);
    town.revive(0);
    let told = town.nodes[0].flow.purge(What::Tag("other".into())).await.expect("kept");
    assert_eq!(told.reached, ["one", "two"]);
    assert!(!town.nodes[1].hits("/cat"), "it has learned of the first as well");
}

#[tokio::test(start_paused = true)]
async fn a_start_asks_all_who_are_there_which_purges_it_missed() {
    let town = well_known(3).await;
    town.isolate(2);
    town.cut(0, 1);
    let purged = town.nodes[1].flow.purge(What::All).await.expect("kept");
    assert_eq!(purged.reached, ["two"]);
    town.heal();
    town.nodes[2].flow.unsettle();
    assert_eq!(town.nodes[2].flow.settle().await, Settled::With("one, two".into()));
    assert!(!town.nodes[2].hits("/cat"), "the first of them did not know of it");
}

#[tokio::test(start_paused = true)]
async fn a_start_without_anybody_serves_after_five_seconds() {
    let town = well_known(3).await;
    town.isolate(2);
    town.nodes[2].flow.unsettle();
    let began = tokio::time::Instant::now();
    let (settled, said) = tokio::join!(town.nodes[2].flow.settle(), town.ask(2, "/cat"));
    assert_eq!((settled, said.ok().0), (Settled::Unasked, "hit"));
    assert!(began.elapsed() <= SETTLE_WITHIN + Duration::from_millis(100), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_one_half_purged_the_other_learns_though_the_one_that_purged_has_died() {
    let town = well_known(4).await;
    for node in &town.nodes {
        tokio::spawn(std::sync::Arc::clone(&node.flow).keep_in_step());
    }
    town.nodes[0].pass(1.0).await;
    for (left, right) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        town.cut(left, right);
    }
    let purged = town.nodes[0].flow.purge(What::All).await.expect("kept");
    assert_eq!(purged.reached, ["one", "two"]);
    town.kill(0);
    town.heal();
    town.nodes[3].pass(2.0 * COMPARE_EVERY.as_secs_f64()).await;
    assert!([2, 3].iter().all(|at| !town.nodes[*at].hits("/cat")), "they have learned it from the second");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_missed_thousands_of_purges_learns_them_page_by_page() {
    let town = well_known(2).await;
    town.isolate(1);
    let tags = (0..1000).map(|n| What::Tag(format!("{n}-{}", "x".repeat(TAG_LEN_MAX - 8))));
    let purges = join_all(tags.map(|what| town.nodes[0].flow.purge(what))).await;
    assert!(purges.iter().all(|told| told.as_ref().is_ok_and(|told| told.not_reached == ["two"])));
    town.heal();
    let calls = town.net.calls.load(Ordering::SeqCst);
    town.nodes[1].flow.settle().await;
    let pages = town.net.calls.load(Ordering::SeqCst) - calls;
    assert!((4..=6).contains(&pages), "a megabyte in pages of a quarter each: {pages}");
    assert!(town.nodes[1].hits("/cat"), "none of them concerned it");
    let told = town.nodes[0].flow.purge(What::All).await.expect("kept");
    assert_eq!(told.reached, ["one", "two"]);
}
