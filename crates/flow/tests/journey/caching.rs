//! What is stored, for how long it is fresh, and what happens when it no longer is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn a_second_request_is_a_hit_without_engine_or_origin() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    assert_eq!(world.ask("/cat").await.ok(), ("stored", "MIAU!"));
    assert!(world.hits("/cat"));
    assert_eq!(world.ask("/cat").await.ok(), ("hit", "MIAU!"));
    assert_eq!((world.runs(), world.fetches()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn variants_of_one_original_fetch_it_once() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    assert_eq!(world.ask("/cat?a").await.ok(), ("stored", "MIAU!a"));
    assert_eq!(world.ask("/cat?b").await.ok(), ("stored", "MIAU!b"));
    assert_eq!((world.runs(), world.fetches()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_served_while_it_is_made_anew_and_an_unchanged_original_costs_no_render() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.ask("/cat").await;
    world.pass(120.0).await;
    assert!(!world.hits("/cat"));
    assert_eq!(world.ask("/cat").await.ok(), ("stale", "MIAU!"));
    world.pass(1.0).await;
    assert_eq!(world.ask("/cat").await.ok(), ("hit", "MIAU!"));
    assert_eq!((world.runs(), world.outdoors.not_modified.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn past_its_revalidation_time_it_is_made_anew_before_it_is_answered() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.ask("/cat").await;
    world.outdoors.put("cat", "purr");
    world.pass(200.0).await;
    assert_eq!(world.ask("/cat").await.ok(), ("renewed", "PURR!"));
    assert_eq!(world.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_origins_lifetime_counts_and_the_default_is_for_those_who_say_none() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.outdoors.answer.lock().unwrap().fresh_for = Some(Duration::from_secs(7));
    world.ask("/cat").await;
    world.pass(6.0).await;
    assert!(world.hits("/cat"));
    world.pass(2.0).await;
    assert!(!world.hits("/cat"));
}

#[tokio::test(start_paused = true)]
async fn a_private_answer_is_made_for_each_and_stored_for_none() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.outdoors.answer.lock().unwrap().shared = false;
    *world.engine.takes.lock().unwrap() = Duration::from_millis(100);
    let (one, two) = tokio::join!(world.ask("/cat"), world.ask("/cat"));
    assert_eq!((one.ok(), two.ok()), (("miss", "MIAU!"), ("miss", "MIAU!")));
    assert_eq!(world.runs(), 2);
    assert!(!world.hits("/cat"));
    assert!(world.kept.entries.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_seen_within_a_second_and_an_unchanged_one_is_looked_at_once_a_second() {
    let world = World::new();
    world.outdoors.put("folder/cat", "miau");
    assert_eq!(world.ask("/folder/cat").await.ok(), ("stored", "MIAU!"));
    let looks = || world.outdoors.stats.load(Ordering::SeqCst);
    let before = looks();
    for _ in 0..20 {
        world.pass(0.5).await;
        assert_eq!(world.ask("/folder/cat").await.ok(), ("hit", "MIAU!"));
    }
    assert!((looks() - before) <= 10, "{} looks in 10 s", looks() - before);
    world.outdoors.put("folder/cat", "purr");
    world.pass(1.1).await;
    assert!(!world.hits("/folder/cat"));
    assert_eq!(world.ask("/folder/cat").await.ok(), ("renewed", "PURR!"));
    assert_eq!(world.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_gather_puts_its_parts_in_order_and_notes_what_is_missing() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.outdoors.put("dog", "wuff");
    assert_eq!(world.ask("/gather/cat,dog").await.ok(), ("bypass", "MIAU!WUFF!"));
    assert_eq!(world.ask("/gather/dog,fish").await.ok(), ("bypass", "WUFF![missing]"));
    assert_eq!(world.ask("/gather/fish,ant").await.0, 503);
    assert_eq!(world.ask("/now").await.ok(), ("bypass", "at once"));
}
