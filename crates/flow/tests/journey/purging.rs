//! Purges: by URL, source, tag, all; and renders that a purge overtakes.

use std::time::Duration;

use tutti_flow::What;

use crate::world::World;

async fn stored(world: &World) {
    world.outdoors.put("cat", "miau");
    world.outdoors.put("dog", "wuff");
    for url in ["/cat", "/cat?big", "/dog"] {
        assert_eq!(world.ask(url).await.1, "stored");
    }
}

async fn check(what: impl Fn(&World) -> What, survive: [bool; 3]) {
    let world = World::new();
    world.outdoors.answer.lock().unwrap().tags = vec!["pets".into()];
    stored(&world).await;
    world.flow.purge(what(&world)).await.expect("kept");
    assert_eq!(["/cat", "/cat?big", "/dog"].map(|url| world.hits(url)), survive);
    for url in ["/cat", "/cat?big", "/dog"] {
        assert_ne!(world.ask(url).await.ok().0, "stale", "what was purged is not served at all");
        assert!(world.hits(url), "{url} is stored again");
    }
}

#[tokio::test(start_paused = true)]
async fn each_purge_takes_what_it_names_and_nothing_else() {
    let key = |world: &World, url: &str| world.plan(url).key.expect("stored under a key");
    check(|world| What::Requests(vec![key(world, "/cat")]), [false, true, true]).await;
    check(|world| What::Source(world.plan("/cat").sources[0].0), [false, false, true]).await;
    check(|_| What::Tag("pets".into()), [false; 3]).await;
    check(|_| What::Tag("loud".into()), [false; 3]).await;
    check(|_| What::Tag("other".into()), [true; 3]).await;
    check(|_| What::All, [false; 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_purged_original_is_fetched_again() {
    let world = World::new();
    stored(&world).await;
    world.outdoors.put("cat", "purr");
    let source = world.plan("/cat").sources[0].0;
    world.flow.purge(What::Source(source)).await.expect("kept");
    assert_eq!(world.ask("/cat").await.ok().1, "PURR!");
}

#[tokio::test(start_paused = true)]
async fn a_render_begun_before_a_purge_does_not_survive_it() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    *world.engine.takes.lock().unwrap() = Duration::from_secs(2);
    let purge = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.outdoors.put("cat", "purr");
        world.flow.purge(What::Source(world.plan("/cat").sources[0].0)).await.expect("kept");
    };
    let (said, ()) = tokio::join!(world.ask("/cat"), purge);
    assert_eq!(said.ok().1, "PURR!");
    assert_eq!(world.ask("/cat").await.ok(), ("hit", "PURR!"));
    assert_eq!(world.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_made_before_is_not_bound_anew_over_a_purge_that_came_meanwhile() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.ask("/cat").await;
    // Expired for good; the original is asked for and has not changed, which takes two seconds.
    world.pass(160.0).await;
    *world.outdoors.takes.lock().unwrap() = Duration::from_secs(2);
    let purge = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.flow.purge(What::Tag("loud".into())).await.expect("kept");
    };
    let (said, ()) = tokio::join!(world.ask("/cat"), purge);
    assert_eq!(said.ok().1, "MIAU!");
    assert!(world.hits("/cat"), "what was answered counts as made after the purge");
    assert!(world.metrics.text().contains("tutti_flow_purged_midway_total 1"));
}

#[tokio::test(start_paused = true)]
async fn nothing_kept_is_served_before_it_has_been_settled_and_a_dropped_settling_ends_the_wait() {
    let world = World::new();
    stored(&world).await;
    world.flow.unsettle();
    assert!(!world.hits("/cat"));
    let asked = world.ask("/cat");
    let settle = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(world.flow.settle());
        assert!(!world.hits("/cat"), "it has not begun");
        let settling = tokio::time::timeout(Duration::ZERO, world.flow.settle());
        drop(settling.await);
    };
    let (said, ()) = tokio::join!(asked, settle);
    assert_eq!(said.ok(), ("hit", "MIAU!"));
}
