//! Failing origins, inputs and operations: what is answered, what is remembered and for how long.

use std::time::Duration;

use tutti_base::{Kind, Problem};

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn an_expired_original_is_used_when_its_origin_fails() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.ask("/cat").await;
    world.pass(300.0).await;
    *world.outdoors.failing.lock().unwrap() = Some(Kind::OriginBroken);
    assert_eq!(world.ask("/cat?new").await.ok().1, "MIAU!new");
}

#[tokio::test(start_paused = true)]
async fn an_origins_failures_are_remembered_briefly() {
    for (kind, status, secs) in [
        (Kind::OriginStatus(404), 404, 10.0),
        (Kind::OriginBroken, 502, 1.0),
        (Kind::OriginTimeout, 504, 1.0),
    ] {
        let world = World::new();
        world.outdoors.put("cat", "miau");
        *world.outdoors.failing.lock().unwrap() = Some(kind);
        assert_eq!(world.ask("/cat").await.0, status);
        world.pass(secs - 0.2).await;
        assert_eq!((world.ask("/cat").await.0, world.fetches()), (status, 1), "{kind:?} is remembered");
        world.pass(0.3).await;
        *world.outdoors.failing.lock().unwrap() = None;
        assert_eq!(world.ask("/cat").await.0, 200, "{kind:?} is forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_bytes_are_remembered_for_every_request_that_needs_them() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.outdoors.put("copy", "miau");
    let malformed = Problem::new(Kind::Unprocessable, "not a cat").of_input();
    *world.engine.fails.lock().unwrap() = Some(malformed);
    assert_eq!(world.ask("/cat").await.0, 422);
    assert_eq!(world.ask("/cat?other").await.0, 422);
    assert_eq!(world.ask("/copy").await.0, 422, "the same bytes under another name");
    assert_eq!(world.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_the_operations_is_remembered_for_them_alone() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    *world.engine.fails.lock().unwrap() = Some(Problem::new(Kind::Unprocessable, "too big a cat"));
    assert_eq!(world.ask("/cat?huge").await.0, 422);
    *world.engine.fails.lock().unwrap() = None;
    assert_eq!(world.ask("/cat?huge").await.0, 422);
    assert_eq!(world.ask("/cat?small").await.0, 200);
    assert_eq!(world.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_expired_answer_stands_in_when_everything_else_fails() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.ask("/cat").await;
    world.pass(400.0).await;
    world.outdoors.put("cat", "purr");
    *world.engine.fails.lock().unwrap() = Some(Problem::new(Kind::Internal, "engines are broken"));
    assert_eq!(world.ask("/cat").await.ok(), ("stale", "MIAU!"));
    *world.outdoors.failing.lock().unwrap() = Some(Kind::OriginStatus(410));
    world.pass(61.0).await;
    assert_eq!(world.ask("/cat").await.0, 410, "gone is gone: an origin's 4xx is passed on");
}

#[tokio::test(start_paused = true)]
async fn what_an_origin_wants_revalidated_does_not_stand_in_once_it_has_expired() {
    let world = World::new();
    {
        let mut answer = world.outdoors.answer.lock().unwrap();
        (answer.fresh_for, answer.stale_if_error) = (Some(Duration::from_secs(7)), Some(Duration::ZERO));
    }
    world.outdoors.put("cat", "miau");
    world.ask("/cat").await;
    *world.outdoors.failing.lock().unwrap() = Some(Kind::OriginBroken);
    assert_eq!(world.ask("/cat").await.0, 200, "it is fresh");
    world.pass(8.0).await;
    assert_eq!(world.ask("/cat").await.0, 502);
}
