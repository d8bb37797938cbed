//! Tests of the policies: names, and what each does on given nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use tutti_base::Tick;
use tutti_base::rng::SplitMix;

use super::*;
use crate::candidate::Candidate;
use crate::candidate::tests::candidate;
use crate::estimate::judge;

fn at(ms: u64) -> Tick {
    Tick(0) + Duration::from_millis(10_000 + ms)
}

fn ask(policy: Policy) -> JobAsk {
    JobAsk { policy, ..JobAsk::new("resize", 40.0, at(60_000)) }
}

/// How often each node is picked of 1000 times, none of which is sent.
fn picked(job: &JobAsk, candidates: &[Candidate]) -> BTreeMap<u64, usize> {
    let (mut book, mut rng, mut found) = (Book::new(), SplitMix::new(5), BTreeMap::new());
    book.look(candidates, at(0));
    for _ in 0..1000 {
        let scene = judge(job, candidates, &book, at(0));
        if let Pick::Take(place, _) = pick(job, &scene, 0.0, &mut book, &mut rng) {
            *found.entry(scene.nodes[place].node.0).or_default() += 1;
        }
    }
    found
}

#[test]
fn names_are_read_as_they_are_written_and_a_wrong_one_shows_the_nearest() {
    for policy in Policy::ALL {
        assert_eq!(policy.word().parse(), Ok(policy));
    }
    let error = "leastloaded".parse::<Policy>().unwrap_err();
    assert_eq!(error.nearest, Policy::LeastLoaded);
    assert!(error.to_string().contains("did you mean `least-loaded`"), "{error}");
    assert_eq!("wheighted-round-robin".parse::<Policy>().unwrap_err().nearest, Policy::WeightedRoundRobin);
    assert!("x".repeat(100_000).parse::<Policy>().unwrap_err().to_string().len() < 200);
}

#[test]
fn least_loaded_takes_the_node_with_the_largest_part_free() {
    let found = picked(&ask(Policy::LeastLoaded), &[candidate(1, 3), candidate(2, 1), candidate(3, 2)]);
    assert_eq!(found, BTreeMap::from([(2, 1000)]));
}

#[test]
fn of_two_at_random_the_less_busy_is_taken_and_the_busiest_never() {
    let found = picked(&ask(Policy::P2c), &[candidate(1, 3), candidate(2, 1), candidate(3, 2)]);
    assert!(!found.contains_key(&1) && found[&2] > 600 && found[&3] > 250, "{found:?}");
}

#[test]
fn turns_are_taken_by_weight() {
    let heavy = Candidate { weight: 3.0, ..candidate(1, 0) };
    let found = picked(&ask(Policy::WeightedRoundRobin), &[heavy, candidate(2, 0)]);
    assert_eq!(found, BTreeMap::from([(1, 750), (2, 250)]));
}

#[test]
fn tickets_are_the_inverse_of_queues() {
    let found = picked(&ask(Policy::Lottery), &[candidate(1, 4), candidate(2, 0)]);
    assert!((300..370).contains(&found[&1]), "{found:?}");
}

#[test]
fn a_key_has_one_owner_until_that_has_more_than_its_share() {
    let job = JobAsk { key: 7, ..ask(Policy::Hash) };
    let nodes = |jobs: [u16; 3]| [candidate(1, jobs[0]), candidate(2, jobs[1]), candidate(3, jobs[2])];
    let found = picked(&job, &nodes([1, 1, 1]));
    assert_eq!(found.len(), 1);
    let owner = *found.keys().next().unwrap();
    let mut jobs = [0, 0, 0];
    jobs[owner as usize - 1] = 3;
    let spilled = picked(&job, &nodes(jobs));
    assert!(spilled.len() == 1 && !spilled.contains_key(&owner), "{spilled:?}");
    let others =
        (0..64).map(|key| *picked(&JobAsk { key, ..job.clone() }, &nodes([1; 3])).keys().next().unwrap());
    assert_eq!(others.collect::<std::collections::BTreeSet<_>>().len(), 3, "keys are spread");
}

#[test]
fn every_policy_waits_for_full_nodes_and_gives_up_without_any() {
    let full = [candidate(1, 5), candidate(2, 5)];
    for policy in Policy::ALL {
        let (job, mut book, mut rng) = (ask(policy), Book::new(), SplitMix::new(1));
        book.look(&full, at(0));
        let scene = judge(&job, &full, &book, at(0));
        assert_eq!(pick(&job, &scene, 0.0, &mut book, &mut rng), Pick::Wait, "{policy}");
        let none = judge(&job, &[], &book, at(0));
        assert_eq!(pick(&job, &none, 0.0, &mut book, &mut rng), Pick::Nowhere, "{policy}");
    }
}
