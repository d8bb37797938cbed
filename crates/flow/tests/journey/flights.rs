//! Single flight: one render however many ask, each with a deadline of its own.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;

use crate::world::{Said, World};

fn slow(world: &World, secs: u64) {
    *world.engine.takes.lock().unwrap() = Duration::from_secs(secs);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_at_once_are_one_render_and_one_fetch() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    slow(&world, 1);
    let answers = join_all((0..100).map(|_| world.ask("/cat"))).await;
    assert!(answers.iter().all(|said| said.ok().1 == "MIAU!"));
    assert_eq!(answers.iter().filter(|said| said.1 == "collapsed").count(), 99);
    assert_eq!((world.runs(), world.fetches()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_leaves_at_its_own_deadline_and_the_others_get_their_answer() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    slow(&world, 5);
    let (hasty, patient) = tokio::join!(world.ask_within("/cat", Duration::from_secs(1)), world.ask("/cat"));
    assert_eq!(hasty.0, 503);
    assert_eq!(patient.ok().1, "MIAU!");
    assert_eq!(world.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_joins_late_extends_the_flight_to_a_deadline_of_its_own() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    slow(&world, 14);
    let late = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.ask("/cat").await
    };
    let (first, late) = tokio::join!(world.ask("/cat"), late);
    assert_eq!(first.0, 503);
    assert_eq!(late.ok().1, "MIAU!");
    assert_eq!(world.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_is_cancelled_when_the_last_waiter_has_gone_and_not_before() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    slow(&world, 5);
    let cancelled = || world.engine.cancelled.load(Ordering::SeqCst);
    let impatient = tokio::time::timeout(Duration::from_secs(1), world.ask("/cat"));
    let second = tokio::time::timeout(Duration::from_secs(2), world.ask("/cat"));
    let watch = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        cancelled()
    };
    let (one, two, in_between) = tokio::join!(impatient, second, watch);
    assert!(one.is_err() && two.is_err());
    assert_eq!((in_between, cancelled()), (0, 1));
    slow(&world, 0);
    assert_eq!(world.ask("/cat").await.ok(), ("stored", "MIAU!"), "the next one begins anew");
}

#[tokio::test(start_paused = true)]
async fn the_lead_is_handed_over_when_its_maker_dies() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    slow(&world, 1);
    world.engine.panics.store(true, Ordering::SeqCst);
    let answers = join_all((0..5).map(|_| world.ask("/cat"))).await;
    assert!(answers.iter().all(|said| said.ok().1 == "MIAU!"), "{answers:?}");
    assert_eq!(world.runs(), 2, "one that died, and one for all who were left");
}

#[tokio::test(start_paused = true)]
async fn the_first_time_out_in_the_engine_may_be_tried_again_and_the_second_is_remembered() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    slow(&world, 1000);
    assert_eq!(world.ask("/cat").await.0, 503);
    assert_eq!(world.ask("/cat").await.0, 503);
    let Said(status, _, detail) = world.ask("/cat").await;
    assert_eq!((status, world.runs()), (422, 2), "{detail}");
    world.pass(3700.0).await;
    slow(&world, 0);
    assert_eq!(world.ask("/cat").await.ok().1, "MIAU!", "an hour later it is tried again");
}
