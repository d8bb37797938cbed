//! Tests of `predicted`: which term decides, what is random, what is explored.

use std::time::Duration;

use tutti_base::rng::SplitMix;
use tutti_base::{NodeId, NodeState, Tick};

use crate::candidate::Candidate;
use crate::candidate::tests::candidate;
use crate::{Dispatcher, Explained, JobAsk, Outcome, Reason};

fn at(ms: u64) -> Tick {
    Tick(0) + Duration::from_millis(10_000 + ms)
}

fn heavy() -> JobAsk {
    JobAsk::new("resize", 40.0, at(60_000))
}

/// Who gets `job` most often of a hundred times, and how often.
fn usual(dispatcher: &Dispatcher, job: &JobAsk, candidates: &[Candidate]) -> (u64, usize) {
    let mut rng = SplitMix::new(3);
    let chosen: Vec<u64> = (0..100)
        .filter_map(|_| dispatcher.explain(job, candidates, at(0), &mut rng).chosen)
        .map(|node| node.0)
        .collect();
    let count = |node: u64| chosen.iter().filter(|chosen| **chosen == node).count();
    candidates.iter().map(|c| (c.node.0, count(c.node.0))).max_by_key(|(_, count)| *count).unwrap()
}

fn explain(job: &JobAsk, candidates: &[Candidate]) -> Explained {
    Dispatcher::new().explain(job, candidates, at(0), &mut SplitMix::new(3))
}

#[test]
fn equal_nodes_get_equal_parts() {
    let (_, most) = usual(&Dispatcher::new(), &heavy(), &[candidate(1, 0), candidate(2, 0)]);
    assert!(most < 65, "{most}");
}

#[test]
fn each_term_decides_when_all_else_is_equal() {
    let better = candidate(2, 0);
    let far = Candidate { rtt: Duration::from_millis(30), ..candidate(1, 0) };
    let narrow = Candidate { bytes_per_ms: 100.0, ..candidate(1, 0) };
    let job = JobAsk { bytes: 20_000, original_ms: 50.0, ..heavy() };
    let near_original = Candidate { has_original: 1.0, ..candidate(2, 0) };
    for (worse, better) in
        [(far, &better), (narrow, &better), (candidate(1, 0), &near_original), (candidate(1, 4), &better)]
    {
        let (node, often) = usual(&Dispatcher::new(), &job, &[worse.clone(), better.clone()]);
        assert!(node == 2 && often >= 97, "{node} got {often} against {worse:?}");
    }
}

#[test]
fn terms_carry_their_names_and_add_up() {
    let job = JobAsk { bytes: 125_000, original_ms: 8.0, ..heavy() };
    let there = Candidate { rtt: Duration::from_millis(2), has_original: 0.75, ..candidate(1, 4) };
    let seen = explain(&job, &[there]).considered[0];
    let terms: Vec<(&str, f64)> = seen.terms.named().to_vec();
    assert_eq!(terms[0], ("heuristics", 40.0));
    assert_eq!(terms[2], ("network congestion", 3.0));
    assert_eq!(terms[3], ("missing original", 2.0));
    assert!((seen.terms.wait_ms - 12.5).abs() < 0.1, "a quarter of 50 ms: {}", seen.terms.wait_ms);
    assert!((terms.iter().map(|(_, ms)| ms).sum::<f64>() - seen.total_ms).abs() < 1e-9);
}

#[test]
fn a_job_waits_for_a_fast_node_rather_than_start_on_a_slow_one() {
    let mut dispatcher = Dispatcher::new();
    let nodes = [candidate(1, 5), candidate(2, 0)];
    for _ in 0..30 {
        let sent = dispatcher.started(&heavy(), NodeId(2), at(0));
        dispatcher.ended(sent, Outcome::Done { measured_ms: 1600.0 }, at(0));
    }
    let found = dispatcher.explain(&heavy(), &nodes, at(0), &mut SplitMix::new(3));
    assert_eq!((found.chosen, found.reason), (None, Reason::Wait));
    assert_eq!(explain(&heavy(), &nodes).chosen, Some(NodeId(2)), "unless nobody knows that it is slow");
}

#[test]
fn an_old_report_is_taken_for_the_mean() {
    let old = |node, jobs| Candidate { age: Duration::from_secs(30), ..candidate(node, jobs) };
    let seen = explain(&heavy(), &[old(1, 4), old(2, 0)]).considered;
    assert!((seen[0].total_ms - seen[1].total_ms).abs() < 0.01, "{seen:?}");
}

#[test]
fn suspects_get_nothing_but_when_there_is_nobody_else() {
    let suspect = Candidate { state: NodeState::Suspect, ..candidate(1, 0) };
    let (node, often) = usual(&Dispatcher::new(), &heavy(), &[suspect.clone(), candidate(2, 3)]);
    assert_eq!((node, often), (2, 100));
    let found = explain(&heavy(), &[suspect]);
    assert_eq!((found.chosen, found.reason), (Some(NodeId(1)), Reason::Panic));
}

#[test]
fn a_node_left_alone_for_long_is_explored_now_and_then() {
    let far = Candidate { rtt: Duration::from_millis(40), ..candidate(1, 0) };
    let (dispatcher, mut rng) = (Dispatcher::new(), SplitMix::new(9));
    let explored = (0..20_000)
        .filter(|_| {
            let found = dispatcher.explain(&heavy(), &[far.clone(), candidate(2, 0)], at(0), &mut rng);
            found.chosen == Some(NodeId(1)) && found.reason == Reason::Explored
        })
        .count();
    // One in a hundred, halved because it takes twice as long.
    assert!((60..140).contains(&explored), "{explored}");
}
