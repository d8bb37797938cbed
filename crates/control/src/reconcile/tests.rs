//! The loop over a quorum and a view that do as they are told.

use super::*;
use crate::testing::{House, counts, record};

fn reconciler(house: &House) -> Arc<Reconciler> {
    let outside = Outside {
        roster: house.roster.clone(),
        quorum: house.quorum.clone(),
        nodes: house.view.clone(),
        clock: house.clock.clone(),
        journal: house.journal(),
    };
    Reconciler::new(outside, Rules::default(), counts())
}

async fn grow(house: &House, ids: &[u64]) {
    for id in ids {
        house.roster.add(record(*id, Roles::ALL)).await.unwrap();
        house.view.set(*id, NodeState::Up);
    }
}

/// Takes steps until there are none; what they were.
async fn settle(reconciler: &Reconciler) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Turn::Did(step) = reconciler.turn().await {
        changes.push(step.change);
    }
    assert_eq!(reconciler.turn().await, Turn::Settled, "twice is as good as once");
    changes
}

fn ids(of: &[u64]) -> Vec<NodeId> {
    of.iter().map(|id| NodeId(*id)).collect()
}

#[tokio::test(start_paused = true)]
async fn one_voter_becomes_three_and_never_two() {
    let house = House::founded().await;
    let reconciler = reconciler(&house);
    assert_eq!(settle(&reconciler).await, []);
    grow(&house, &[2]).await;
    assert_eq!(settle(&reconciler).await, [Change::AddLearner(NodeId(2))]);
    assert!(reconciler.sentence().contains("Two nodes, one voter (`one`) and one learner (`n2`)"));
    grow(&house, &[3, 4]).await;
    let learners = [Change::AddLearner(NodeId(3)), Change::AddLearner(NodeId(4))];
    let steps = settle(&reconciler).await;
    assert_eq!(steps[..2], learners);
    assert_eq!(steps[2..], [Change::SetVoters(ids(&[1, 2, 3]))]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_voter_is_replaced_after_a_minute_and_not_before() {
    let house = House::founded().await;
    let reconciler = reconciler(&house);
    grow(&house, &[2, 3, 4]).await;
    settle(&reconciler).await;
    house.view.set(2, NodeState::Down);
    assert_eq!(settle(&reconciler).await, []);
    house.pass(Duration::from_secs(30)).await;
    house.view.set(2, NodeState::Up);
    assert_eq!(settle(&reconciler).await, []);
    house.view.set(2, NodeState::Down);
    assert_eq!(settle(&reconciler).await, []);
    house.pass(Duration::from_secs(59)).await;
    assert_eq!(settle(&reconciler).await, [], "it came back in between: its minute began anew");
    house.pass(Duration::from_secs(1)).await;
    assert_eq!(settle(&reconciler).await, [Change::SetVoters(ids(&[1, 3, 4]))]);
    let told = reconciler.outside.journal.list(0, 100).pop().unwrap();
    assert_eq!(told.what, "the voters are `one`, `n3`, `n4`");
    assert_eq!(told.why, "`n4` in place of `n2` (down for 60 s)");
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_acts_and_only_once_the_roster_names_it() {
    let house = House::new();
    let reconciler = reconciler(&house);
    grow(&house, &[2]).await;
    assert_eq!(reconciler.turn().await, Turn::NotMine, "the roster does not name this node");
    house.roster.add(record(1, Roles::ALL)).await.unwrap();
    house.quorum.status.lock().unwrap().leader = Some(NodeId(2));
    assert_eq!(reconciler.turn().await, Turn::NotMine);
    house.quorum.status.lock().unwrap().leader = Some(NodeId(1));
    assert!(matches!(reconciler.turn().await, Turn::Did(_)));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_is_planned_anew_and_the_loop_goes_on() {
    let house = House::founded().await;
    let reconciler = reconciler(&house);
    *house.quorum.fails.lock().unwrap() = true;
    grow(&house, &[2, 3]).await;
    assert!(matches!(reconciler.turn().await, Turn::Failed(..)));
    let running = tokio::spawn(reconciler.clone().run());
    house.pass(WAKE_EVERY * 3).await;
    assert_eq!(house.quorum.status().voters, ids(&[1]));
    *house.quorum.fails.lock().unwrap() = false;
    reconciler.poke();
    house.pass(WAKE_EVERY * 2).await;
    assert_eq!(house.quorum.status().voters, ids(&[1, 2, 3]));
    grow(&house, &[4]).await;
    house.pass(Duration::from_millis(1)).await;
    assert!(house.quorum.status().learners.contains(&NodeId(4)), "a change of the roster wakes it");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn more_steps_than_a_row_may_have_go_on_after_a_pause() {
    let house = House::founded().await;
    let reconciler = reconciler(&house);
    let many: Vec<u64> = (2..=STEPS_MAX as u64 + 5).collect();
    grow(&house, &many).await;
    let running = tokio::spawn(reconciler.clone().run());
    house.pass(Duration::from_millis(1)).await;
    assert_eq!(house.quorum.status().learners.len(), STEPS_MAX);
    house.pass(WAKE_EVERY * 2).await;
    assert_eq!(house.quorum.status().voters.len(), 3);
    running.abort();
}
