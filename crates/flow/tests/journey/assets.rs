//! Originals managed from any node: what is put is seen on all, what is removed stays removed, and the newest wins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tutti_base::{Body, Clock, Kind, Problem, Wall};
use tutti_fetch::ShelfQuery;
use tutti_flow::assets::{Held, HeldPage, MOVING_MAX, Removal, Written};

use crate::town::{Town, count};

impl Town {
    async fn put(&self, at: usize, path: &str, text: &'static str) -> Result<Written, Problem> {
        self.nodes[at].assets.put("", path, Bytes::from_static(text.as_bytes()).into()).await
    }
    async fn remove(&self, at: usize, path: &str) -> Result<Removal, Problem> {
        self.nodes[at].assets.remove("", path).await
    }
    async fn list(&self, at: usize) -> Result<HeldPage, Problem> {
        let query = ShelfQuery { limit: 100, ..ShelfQuery::default() };
        self.nodes[at].assets.list(query).await
    }
    async fn only(&self, at: usize) -> Held {
        let page = self.list(at).await.expect("listed");
        assert_eq!(page.files.len(), 1, "{page:?}");
        page.files.into_iter().next().expect("it has one")
    }
    /// What every node says to `/folder/PATH`.
    async fn all_say(&self, path: &str) -> Vec<String> {
        let url = format!("/folder/{path}");
        let said = join_all((0..self.nodes.len()).map(|at| self.ask(at, &url))).await;
        said.into_iter().map(|said| if said.0 == 200 { said.2 } else { said.0.to_string() }).collect()
    }
    fn keep_in_step(&self) {
        for node in &self.nodes {
            tokio::spawn(Arc::clone(&node.flow).keep_in_step());
        }
    }
    fn wall(&self) -> Wall {
        self.nodes[0].clock.wall()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_put_on_any_node_is_seen_on_all_at_once() {
    for at in 0..3 {
        let town = Town::of(3);
        town.open_folders(&[1]);
        assert_eq!(town.all_say("cat").await, ["404", "404", "404"]);
        let written = town.put(at, "cat", "miau").await.expect("written");
        assert_eq!((written.node.as_str(), written.bytes, written.not_reached.len()), ("two", 4, 0));
        assert_eq!(town.all_say("cat").await, ["MIAU!", "MIAU!", "MIAU!"], "put at {at}");
        town.put(at, "cat", "mew").await.expect("written");
        assert_eq!(town.all_say("cat").await, ["MEW!", "MEW!", "MEW!"], "put at {at}");
        let held = town.only(at).await;
        assert_eq!((held.nodes, held.bytes, held.conflict), (vec!["two".to_owned()], 3, false));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_stays_removed_when_a_holder_returns_with_its_file() {
    let town = Town::of(3);
    town.open_folders(&[1, 2]);
    town.keep_in_step();
    let old = town.wall();
    (1..3).for_each(|at| town.nodes[at].shelf.lay("cat", "miau", old));
    town.nodes[0].pass(1.0).await;
    assert_eq!(town.all_say("cat").await, ["MIAU!"; 3]);
    town.kill(2);
    let removal = town.remove(0, "cat").await.expect("removed");
    assert_eq!((removal.nodes, removal.not_reached), (vec!["two".to_owned()], vec!["three".to_owned()]));
    assert!(!town.nodes[1].shelf.has("cat") && town.nodes[2].shelf.has("cat"));
    assert!((0..2).all(|at| !town.nodes[at].hits("/folder/cat")));
    assert_ne!(town.ask(0, "/folder/cat").await.0, 200, "no copy of it stands in");
    town.revive(2);
    // Before it has been asked for anything, and after it has learned of the deletion.
    town.nodes[0].pass(1.0).await;
    assert_eq!(town.all_say("cat").await, ["404"; 3]);
    assert!(!town.nodes[2].shelf.has("cat"), "its copy is gone");
    assert_eq!(town.list(0).await.expect("listed").files, []);
    assert_eq!(town.remove(1, "cat").await.expect_err("it is gone").kind, Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_is_put_after_its_removal_is_seen_whatever_the_clocks_say() {
    for (remover, putter) in [(0, 1), (1, 0), (2, 0), (0, 2)] {
        let town = Town::of(3);
        town.open_folders(&[1]);
        // One of them is a minute ahead of the others.
        town.nodes[remover].clock.ahead_ms.store(60_000, Ordering::SeqCst);
        town.put(putter, "cat", "miau").await.expect("written");
        town.remove(remover, "cat").await.expect("removed");
        assert_eq!(town.all_say("cat").await, ["404"; 3]);
        town.put(putter, "cat", "mew").await.expect("written again");
        assert_eq!(town.all_say("cat").await, ["MEW!"; 3], "removed at {remover}, put at {putter}");
        // The other way round: what was dated in the future is removed all the same.
        town.put(remover, "dog", "wuff").await.expect("written");
        town.remove(putter, "dog").await.expect("removed");
        assert_eq!(town.all_say("dog").await, ["404"; 3]);
        assert!(!town.nodes[1].shelf.has("dog"));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_contents_the_newest_wins_everywhere_and_it_is_told() {
    let town = Town::of(3);
    town.open_folders(&[0, 1]);
    town.nodes[0].shelf.lay("cat", "old", Wall(1_000));
    town.nodes[1].shelf.lay("cat", "newer", Wall(2_000));
    assert_eq!(town.all_say("cat").await, ["NEWER!"; 3]);
    let told: u64 =
        town.nodes.iter().map(|node| count(&node.metrics.text(), "tutti_flow_conflicts_total")).sum();
    assert!(told > 0);
    for at in 0..3 {
        let held = town.only(at).await;
        assert_eq!((held.conflict, held.bytes, held.modified), (true, 5, Wall(2_000)));
        assert_eq!(held.nodes, ["one", "two"]);
    }
    // What is put over it is the newest, though its holder had the older one and its clock is behind.
    town.nodes[1].shelf.lay("cat", "newer", town.wall() + Duration::from_secs(3600));
    town.put(0, "cat", "newest").await.expect("written");
    assert_eq!(town.all_say("cat").await, ["NEWEST!"; 3]);
    // Equal contents are none.
    town.nodes[1].shelf.lay("cat", "newest", Wall(3_000));
    assert!(!town.only(2).await.conflict);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_holds_it_the_answer_says_what_there_is_and_who_is_away() {
    let town = Town::of(3);
    let nobody = town.put(0, "cat", "miau").await.expect_err("no folder");
    assert_eq!(nobody.kind, Kind::NotFound);
    town.open_folders(&[1, 2]);
    let other = town.nodes[0].assets.remove("shop", "cat").await.expect_err("no such folder");
    assert!(other.detail.contains("`shop`") && other.detail.contains("unnamed"), "{other}");
    assert_eq!(town.remove(0, "cat").await.expect_err("no such file").kind, Kind::NotFound);
    town.nodes[2].shelf.lay("dog", "wuff", town.wall());
    town.kill(2);
    let absent = town.remove(0, "dog").await.expect_err("its holder is away");
    assert!(absent.kind == Kind::NotFound && absent.detail.contains("three"), "{absent}");
    assert_eq!(town.list(0).await.expect("listed").absent, ["three"]);
    assert_eq!(town.put(0, "cat", "miau").await.expect("written").node, "two");
    town.kill(1);
    let away = [
        town.remove(0, "dog").await.map(drop),
        town.list(0).await.map(drop),
        town.put(0, "cat", "mew").await.map(drop),
    ];
    for away in away {
        let away = away.expect_err("all holders are away");
        assert_eq!(away.kind, Kind::Unavailable, "{away}");
        assert!(away.detail.contains("two"), "{away}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_dies_while_it_is_written_to_is_passed_over() {
    let town = Town::of(3);
    town.open_folders(&[1, 2]);
    *town.nodes[1].shelf.takes.lock().unwrap() = Duration::from_secs(5);
    let kill = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        town.kill(1);
    };
    let (written, ()) = tokio::join!(town.put(0, "cat", "miau"), kill);
    assert_eq!(written.expect("written").node, "three");
    assert_eq!(town.ask(0, "/folder/cat").await.ok().1, "MIAU!");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_removed_is_hidden_and_that_is_told() {
    let town = Town::of(3);
    town.open_folders(&[1]);
    town.put(0, "cat", "miau").await.expect("written");
    town.nodes[1].shelf.is_stuck.store(true, Ordering::SeqCst);
    let removal = town.remove(0, "cat").await.expect("it counts as removed");
    assert_eq!(removal.nodes, Vec::<String>::new());
    assert!(removal.hidden[0].0 == "two" && removal.hidden[0].1.contains("read-only"), "{removal:?}");
    assert!(town.nodes[1].shelf.has("cat"));
    assert_eq!(town.all_say("cat").await, ["404"; 3]);
    assert_eq!(town.list(2).await.expect("listed").files, []);
    town.nodes[1].shelf.is_stuck.store(false, Ordering::SeqCst);
    town.list(2).await.expect("listed");
    assert!(!town.nodes[1].shelf.has("cat"), "a list finds what was left over");
}

#[tokio::test(start_paused = true)]
async fn one_original_more_than_may_be_on_their_way_is_refused_at_once() {
    let town = Town::of(2);
    town.open_folders(&[1]);
    *town.nodes[1].shelf.takes.lock().unwrap() = Duration::from_secs(1);
    let names: Vec<String> = (0..=MOVING_MAX).map(|number| number.to_string()).collect();
    let all = join_all(names.iter().map(|name| town.put(0, name, "miau"))).await;
    let refused: Vec<_> = all.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].kind, Kind::Overloaded);
    town.put(0, "later", "miau").await.expect("there is room again");
    let long = vec![7; town.nodes[0].assets.bytes_max() as usize + 1];
    for at in 0..2 {
        let put = town.nodes[at].assets.put("", "long", Body::Whole(long.clone().into())).await;
        assert_eq!(put.expect_err("too long").kind, Kind::Unprocessable, "put at {at}");
    }
    let text = town.nodes[0].metrics.text();
    assert!(text.contains(&format!("tutti_limit_flow_assets_moving {MOVING_MAX}")));
    assert!(text.contains("tutti_flow_assets_total{reason=\"written\"} 5"), "{text}");
}
