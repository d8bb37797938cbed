//! When capacity is short: the ladder, its marks, and refusal.

use std::time::Duration;

use futures_util::future::join_all;

use crate::world::{Said, World};

/// 40 s of work at once for one core with a deadline of 10 s.
async fn flood(world: &World) -> Vec<Said> {
    (0..4000).for_each(|n| world.outdoors.put(&format!("cat{n}"), "purr"));
    *world.engine.takes.lock().unwrap() = Duration::from_secs(1);
    let urls: Vec<String> = (0..4000).map(|n| format!("/cat{n}")).collect();
    join_all(urls.iter().map(|url| world.ask(url))).await
}

fn count(answers: &[Said], status: u16, word: &str) -> usize {
    answers.iter().filter(|said| said.0 == status && said.1 == word).count()
}

#[tokio::test(start_paused = true)]
async fn refusals_come_at_once_and_what_is_admitted_is_answered() {
    let world = World::refusing();
    let answers = flood(&world).await;
    let full = count(&answers, 200, "stored");
    assert!((900..=1024).contains(&full), "{full} of 10 s at 10 ms a job, or the limit of jobs");
    assert_eq!(answers.len() - full, count(&answers, 503, "miss"));
    let text = world.metrics.text();
    assert!(text.contains("tutti_admission_shed_total"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_default_ladder_gives_cheaper_answers_that_are_marked_and_never_stored_under_the_full_key() {
    let world = World::new();
    world.outdoors.put("slow", "miau");
    world.outdoors.put("cat", "miau");
    *world.engine.takes.lock().unwrap() = Duration::from_secs(8);
    let shared = async {
        // 9,990 ms of a core are taken: within 9,995 ms, 10 more are too many and 1 is not.
        let mut jobs = Vec::new();
        (0..999).for_each(|n| world.outdoors.put(&format!("job{n}"), "x"));
        (0..999).for_each(|n| jobs.push(format!("/job{n}")));
        join_all(jobs.iter().map(|url| world.ask(url))).await
    };
    let late = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let said = world.ask_within("/cat", Duration::from_millis(9995)).await;
        (said, world.hits("/cat"))
    };
    let (_, (said, stored_as_full)) = tokio::join!(shared, late);
    assert_eq!(said.ok(), ("degraded", "MIAU!-cheap"));
    assert!(!stored_as_full);
    assert_eq!(world.ask("/cat").await.ok().1, "MIAU!", "the exact one after the load");
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_is_the_first_rung() {
    let world = World::new();
    world.outdoors.put("cat", "miau");
    world.ask("/cat").await;
    world.pass(400.0).await;
    let (answers, late) = tokio::join!(flood(&world), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.ask("/cat").await
    });
    assert!(count(&answers, 503, "miss") > 0);
    assert_eq!(late.ok(), ("stale", "MIAU!"));
}
