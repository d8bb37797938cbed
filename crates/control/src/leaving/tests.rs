//! Draining and removing, with the reconciler at work.

use tutti_base::{NodeId, Roles, Wall};
use tutti_store::Secret;

use super::*;
use crate::readers::AUTHORITY;
use crate::reconcile::{Outside, Reconciler};
use crate::testing::{House, counts, record};
use crate::voters::Rules;

fn leaving(house: &House) -> Leaving {
    Leaving {
        roster: house.roster.clone(),
        secrets: house.secrets(1),
        quorum: house.quorum.clone(),
        nodes: house.view.clone(),
        clock: house.clock.clone(),
        journal: house.journal(),
    }
}

/// A cluster of these nodes, all up, with the reconciler running and its work done.
async fn cluster(ids: &[u64]) -> (House, Leaving, tokio::task::JoinHandle<()>) {
    let house = House::founded().await;
    for id in ids {
        house.roster.add(record(*id, Roles::ALL)).await.unwrap();
        house.view.set(*id, NodeState::Up);
    }
    let outside = Outside {
        roster: house.roster.clone(),
        quorum: house.quorum.clone(),
        nodes: house.view.clone(),
        clock: house.clock.clone(),
        journal: house.journal(),
    };
    let running = tokio::spawn(Reconciler::new(outside, Rules::default(), counts()).run());
    house.pass(Duration::from_secs(3)).await;
    let leaving = leaving(&house);
    leaving.secrets.set("img", &Secret::new(b"salt".to_vec())).await.unwrap();
    leaving.secrets.reseal().await.unwrap();
    (house, leaving, running)
}

fn voters(house: &House) -> Vec<u64> {
    house.quorum.status().voters.iter().map(|id| id.0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_says_why_and_takes_part_again() {
    let (house, leaving, running) = cluster(&[2]).await;
    let drained = leaving.drain("n2", "new disk").await.unwrap();
    assert_eq!(drained.standing, Standing::Draining { why: "new disk".into(), since: house.clock.wall() });
    assert_eq!(leaving.resume("n2", "").await.unwrap().standing, Standing::Active);
    assert_eq!(leaving.drain("n2", &"x".repeat(WHY_MAX + 1)).await, Err(LeaveError::Why(WHY_MAX + 1)));
    assert!(matches!(leaving.drain("n9", "").await, Err(LeaveError::Roster(RosterError::Unknown(_)))));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_leaves_is_replaced_first_and_its_secrets_are_named_and_sealed_anew() {
    let (house, leaving, running) = cluster(&[2, 3, 4]).await;
    assert_eq!(voters(&house), [1, 2, 3]);
    let removal = leaving.remove("n2", Force::No, "sold").await.unwrap();
    assert_eq!(voters(&house), [1, 3, 4]);
    assert!(removal.node.standing.is_removed());
    assert_eq!(removal.rotate, [AUTHORITY, "img"]);
    assert!(house.secrets(2).get(AUTHORITY).is_err() && house.secrets(2).get("img").is_err());
    assert!(house.secrets(4).get(AUTHORITY).is_ok(), "its successor has the authority");
    house.pass(Duration::from_secs(2)).await;
    assert!(!house.quorum.status().learners.contains(&NodeId(2)), "it keeps no copy");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_removed_by_force_alone() {
    let (house, leaving, running) = cluster(&[2, 3]).await;
    house.view.set(3, NodeState::Down);
    assert_eq!(leaving.remove("n3", Force::No, "").await, Err(LeaveError::Down("n3".into())));
    leaving.remove("n3", Force::Yes, "burnt").await.unwrap();
    house.pass(Duration::from_secs(3)).await;
    assert_eq!(voters(&house), [1], "two nodes: one voter and one learner");
    assert!(house.secrets(2).get(AUTHORITY).is_ok(), "the learner may have to go on alone");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn the_last_node_and_the_last_voter_stay() {
    let (house, leaving, running) = cluster(&[]).await;
    assert_eq!(leaving.remove("one", Force::Yes, "").await, Err(LeaveError::Last("one".into())));
    house.roster.add(record(2, Roles::WORKER)).await.unwrap();
    house.view.set(2, NodeState::Up);
    assert_eq!(leaving.remove("one", Force::No, "").await, Err(LeaveError::StillVotes("one".into())));
    assert_eq!(house.roster.by_name("one").unwrap().standing, Standing::Active, "it is as it was");
    let removed = leaving.remove("n2", Force::No, "").await.unwrap();
    assert_eq!(removed.rotate, [""; 0], "nothing was sealed to it yet");
    assert!(removed.node.joined > Wall(0));
    running.abort();
}
