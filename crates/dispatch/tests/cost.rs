//! What a decision among 64 nodes costs; prints it, and fails only where it is out of all proportion.

use std::time::{Duration, Instant};

use tutti_base::rng::SplitMix;
use tutti_base::{NodeId, NodeState, Tick};
use tutti_dispatch::{Candidate, Dispatcher, JobAsk, Offer, Outcome};

fn candidate(node: u64, round: u64) -> Candidate {
    Candidate {
        node: NodeId(node + 1),
        is_me: node == 0,
        state: NodeState::Up,
        sequence: round / 100 + 1,
        age: Duration::from_millis(round % 100),
        cpu: 8000.0,
        permits: 8,
        jobs: (node % 5) as u16,
        backlog_ms: (node % 5) as f64 * 30.0,
        used_pct: 50,
        rtt: Duration::from_micros(300),
        bytes_per_ms: 125_000.0,
        has_original: 0.5,
        joined_for: Duration::MAX,
        weight: 1.0,
    }
}

#[test]
fn a_decision_among_64_nodes_takes_microseconds() {
    let (mut dispatcher, mut rng, mut flying) = (Dispatcher::new(), SplitMix::new(1), Vec::new());
    let rounds = 20_000_u64;
    let (mut spent, mut sent_now) = (Duration::ZERO, 0);
    for round in 0..rounds {
        let now = Tick(1_000_000_000 + round * 1_000_000);
        let candidates: Vec<Candidate> = (0..64).map(|node| candidate(node, round)).collect();
        let job = JobAsk::new("resize", 40.0, now + Duration::from_secs(10));
        let start = Instant::now();
        let offer = dispatcher.offer(job, &candidates, now, &mut rng);
        spent += start.elapsed();
        if let Offer::Send { sent, .. } = offer {
            flying.push(sent);
            sent_now += 1;
        }
        if flying.len() > 150 {
            dispatcher.ended(flying.swap_remove(0), Outcome::Done { measured_ms: 41.0 }, now);
        }
    }
    let each = spent.as_secs_f64() / rounds as f64 * 1e6;
    println!("a decision among 64 nodes with 150 jobs under way: {each:.1} us");
    assert_eq!(sent_now, rounds);
    assert!(each < 1000.0, "{each} us");
}
