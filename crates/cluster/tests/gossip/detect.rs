//! How fast losses are seen, and that nothing else is seen as one.

use tutti_base::{Evidence, NodeState};
use tutti_cluster::membership::Why;

use crate::sim::{Sim, Weather, id, ms};

const SEEDS: u64 = 20;

/// The slowest of all seeds until all others see the victim suspect and down, in ms.
fn slowest(size: u64, strike: impl Fn(&mut Sim)) -> (u64, u64) {
    let mut slowest = (0, 0);
    for seed in 0..SEEDS {
        let mut sim = Sim::settled(seed, size, Weather::default());
        let victim = id(2);
        let start = sim.now;
        strike(&mut sim);
        let not_up =
            |sim: &Sim| sim.all_see(victim, NodeState::Suspect) || sim.all_see(victim, NodeState::Down);
        let suspect = sim.run_until(ms(10_000), not_up);
        sim.run_until(ms(10_000), |sim| sim.all_see(victim, NodeState::Down)).expect("down in 10 s");
        let down = sim.now.since(start);
        slowest.0 = slowest.0.max(suspect.expect("suspect in 10 s").as_millis() as u64);
        slowest.1 = slowest.1.max(down.as_millis() as u64);
        assert_eq!(sim.seen(NodeState::Down, &[victim]), 0, "seed {seed}: {:?}", sim.log);
        assert_eq!(sim.seen(NodeState::Suspect, &[victim]), 0, "seed {seed}: {:?}", sim.log);
    }
    slowest
}

#[test]
fn all_are_up_at_once_after_a_cold_start() {
    for (size, links) in [(1, true), (2, true), (5, true), (5, false), (16, false)] {
        let mut sim = Sim::new(size, size, Weather { links, ..Weather::default() });
        let took = sim.run_until(ms(5000), Sim::all_up);
        println!("cold start of {size} nodes, links {links}: {took:?}");
        assert!(took.is_some_and(|took| took <= ms(if links { 100 } else { 2000 })), "{took:?}");
    }
}

#[test]
fn a_killed_node_is_suspect_at_once_and_down_within_two_seconds() {
    for size in [2, 3, 5, 16] {
        let (suspect, down) = slowest(size, |sim| sim.kill(id(2)));
        println!("killed, {size} nodes: suspect after at most {suspect} ms, down after {down} ms");
        assert!(suspect <= 5 && down <= 2000, "{size} nodes: {suspect}, {down}");
    }
}

#[test]
fn a_silent_node_is_suspect_within_one_second_and_down_within_three() {
    // In a larger cluster it can take a little longer until somebody's turn to probe comes to it.
    for (size, within) in [(2, 1000), (3, 1000), (5, 1000), (16, 1400)] {
        let (suspect, down) = slowest(size, |sim| sim.vanish(id(2)));
        println!("silent, {size} nodes: suspect after at most {suspect} ms, down after {down} ms");
        assert!(suspect <= within && down <= 3000, "{size} nodes: {suspect}, {down}");
    }
}

#[test]
fn a_stopped_process_is_found_as_a_silent_node_is_and_comes_back_when_it_goes_on() {
    let (suspect, down) = slowest(5, |sim| sim.pause(id(2)));
    assert!(suspect <= 1000 && down <= 3000, "{suspect}, {down}");
    for seed in 0..SEEDS {
        let mut sim = Sim::settled(seed, 5, Weather::default());
        sim.pause(id(2));
        sim.run(ms(6000));
        sim.log.clear();
        sim.resume(id(2));
        let back = sim.run_until(ms(5000), Sim::all_up);
        assert!(back.is_some_and(|back| back <= ms(2000)), "seed {seed}: {back:?} {:?}", sim.log);
        sim.run(ms(5000));
        let accused: Vec<_> = sim
            .log
            .iter()
            .filter(|(_, observer, event)| *observer == id(2) && event.to != Some(NodeState::Up))
            .collect();
        assert!(accused.is_empty(), "seed {seed}: the stalled observer accuses nobody: {accused:?}");
    }
}

#[test]
fn an_observer_that_stalls_again_and_again_accuses_nobody() {
    for seed in 0..SEEDS {
        let mut sim = Sim::settled(seed, 5, Weather::default());
        for stall in 0..30 {
            sim.pause(id(3));
            sim.run(ms(100 + stall * 20));
            for other in [1, 2, 4, 5] {
                // Its calls timed out while it stood still, and it hears of that before its own timer runs.
                sim.with(id(3), |node, now| node.membership.note(now, id(other), Evidence::Failed));
            }
            sim.resume(id(3));
            sim.run(ms(130));
        }
        let by_it = sim
            .log
            .iter()
            .filter(|(_, observer, event)| *observer == id(3) && event.to != Some(NodeState::Up));
        assert_eq!(by_it.count(), 0, "seed {seed}: {:?}", sim.log);
        assert!(sim.nodes[&id(3)].membership.discounted().0 > 0);
    }
}

#[test]
fn failed_calls_count_at_once_for_at_most_half_of_the_others_and_wear_off() {
    let mut sim = Sim::settled(1, 5, Weather::default());
    for other in [2, 3, 4, 5] {
        sim.with(id(1), |node, now| node.membership.note(now, id(other), Evidence::Failed));
    }
    let suspects =
        |sim: &Sim| (2..=5).filter(|other| sim.state(id(1), id(*other)) == Some(NodeState::Suspect)).count();
    assert_eq!(suspects(&sim), 2);
    assert!(sim.log.iter().all(|(_, observer, event)| *observer == id(1) && event.why == Why::Failed));
    assert!(sim.run_until(ms(900), Sim::all_up).is_none(), "not before the hold is over");
    assert!(sim.run_until(ms(1500), Sim::all_up).is_some());
}

#[test]
fn who_leaves_is_down_at_once_everywhere_and_known_to_have_left() {
    let mut sim = Sim::settled(4, 8, Weather::default());
    sim.with(id(5), |node, now| node.membership.leave(now));
    sim.vanish(id(5));
    sim.log.clear();
    // Its last words were sent before it vanished.
    let took = sim.run_until(ms(100), |sim| sim.all_see(id(5), NodeState::Down));
    assert!(took.is_some(), "{:?}", sim.log);
    assert!(
        sim.log.iter().all(|(_, _, event)| event.node == id(5) && event.why == Why::Left),
        "{:?}",
        sim.log
    );
}
