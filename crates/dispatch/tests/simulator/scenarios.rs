//! The promised figures of dispatch, one scenario each. What is simulated and how stands in `world`.

use tutti_base::rng::SplitMix;
use tutti_dispatch::Policy;

use crate::draw::{log_normal, unit};
use crate::figures::{SEEDS, median_and_worst, p99, quantile, spread};
use crate::front::Chooser;
use crate::oracle;
use crate::world::{Scenario, World};

/// Pictures: 30 ms on average, some ten times that.
fn pictures(rng: &mut SplitMix) -> (&'static str, f64) {
    ("resize", (30.0 * log_normal(0.8, rng)).clamp(1.0, 1000.0))
}

/// Three classes of very different cost.
fn mixed(rng: &mut SplitMix) -> (&'static str, f64) {
    match unit(rng) {
        u if u < 0.6 => ("thumb", 5.0 * log_normal(0.3, rng)),
        u if u < 0.95 => ("resize", 40.0 * log_normal(0.5, rng)),
        _ => ("avif", 300.0 * log_normal(0.5, rng)),
    }
}

fn bimodal(rng: &mut SplitMix) -> (&'static str, f64) {
    if unit(rng) < 0.95 { ("thumb", 5.0) } else { ("avif", 500.0) }
}

fn even(_: &mut SplitMix) -> (&'static str, f64) {
    ("resize", 25.0)
}

fn even_small(_: &mut SplitMix) -> (&'static str, f64) {
    ("thumb", 10.0)
}

fn equal(count: usize, permits: usize) -> Vec<(usize, f64, f64)> {
    vec![(permits, 1.0, 0.0); count]
}

/// Runs `figure` for each seed, prints and returns median and worst.
fn over_seeds(name: &str, figure: impl Fn(u64) -> f64) -> (f64, f64) {
    let figures: Vec<f64> = SEEDS.iter().map(|seed| figure(*seed)).collect();
    let (median, worst) = median_and_worst(&figures);
    println!("{name}: median {median:.3}, worst {worst:.3} of {} seeds", SEEDS.len());
    (median, worst)
}

#[test]
fn with_two_nodes_sixteen_times_slower_the_p99_is_near_that_of_an_oracle() {
    let mut nodes = equal(14, 4);
    nodes.extend([(4, 16.0, 0.0); 2]);
    let scenario = Scenario::of(nodes, pictures).loaded(0.7);
    let (_, worst) = over_seeds("p99 by the oracle's p99, 16 nodes, two 16 x slower", |seed| {
        let outcomes = World::new(scenario.clone(), seed).run();
        assert_eq!(outcomes.failed, 0);
        let ours = p99(outcomes.between(20_000.0, 60_000.0));
        let best = oracle::p99(&scenario, seed, 20_000.0);
        let slow = outcomes.sent_to(14, 20_000.0, 60_000.0) + outcomes.sent_to(15, 20_000.0, 60_000.0);
        println!(
            "  seed {seed}: {ours:.1} ms, oracle {best:.1} ms, slow nodes {:.3} %, bounced {}",
            slow * 100.0,
            outcomes.bounced
        );
        ours / best
    });
    assert!(worst <= 1.15, "{worst}");
}

#[test]
fn equal_nodes_do_equal_work_and_none_starves() {
    for (load, end) in [(0.7, 60_000.0), (0.1, 240_000.0)] {
        let mut scenario = Scenario::of(equal(5, 4), mixed).loaded(load);
        scenario.end_ms = end;
        let (_, worst) = over_seeds(&format!("max/min work of 5 equal nodes at load {load}"), |seed| {
            let outcomes = World::new(scenario.clone(), seed).run();
            assert_eq!(outcomes.failed, 0);
            spread(&outcomes.work(5, 5_000.0, end))
        });
        assert!(worst <= 1.1, "{worst}");
    }
}

#[test]
fn small_jobs_do_not_wait_for_big_ones() {
    let scenario = Scenario::of(equal(8, 4), bimodal).loaded(0.8);
    let unloaded = 5.0 + scenario.rtt_ms;
    let (_, worst) = over_seeds("small-job p99 by unloaded, bimodal at load 0.8", |seed| {
        let outcomes = World::new(scenario.clone(), seed).run();
        assert_eq!(outcomes.failed, 0);
        let small = p99(outcomes.between(5_000.0, 60_000.0).filter(|answer| answer.small));
        let big = p99(outcomes.between(5_000.0, 60_000.0).filter(|answer| !answer.small));
        println!("  seed {seed}: small {small:.2} ms, big {big:.0} ms, bounced {}", outcomes.bounced);
        small / unloaded
    });
    assert!(worst <= 2.0, "{worst}");
}

#[test]
fn a_node_that_fails_fast_gets_next_to_nothing_after_a_second() {
    let mut scenario = Scenario::of(equal(5, 4), pictures).loaded(0.6);
    scenario.failing = Some((2, 10_000.0));
    let (_, worst) = over_seeds("traffic to a fast-failing node after 1 s", |seed| {
        let outcomes = World::new(scenario.clone(), seed).run();
        assert_eq!(outcomes.failed, 0, "what fails is retried elsewhere");
        let first = outcomes.sent_to(2, 10_000.0, 11_000.0);
        println!("  seed {seed}: first second {:.2} %", first * 100.0);
        let each_second =
            (11..60).map(|s| outcomes.sent_to(2, f64::from(s) * 1000.0, f64::from(s + 1) * 1000.0));
        each_second.fold(0.0, f64::max)
    });
    assert!(worst <= 0.02, "{worst}");
}

#[test]
fn a_burst_between_two_reports_is_split_by_what_is_free() {
    const BUSY: [usize; 5] = [4, 12, 20, 28, 32];
    for (name, draw) in [("heavy", even as crate::world::Draw), ("small", even_small)] {
        let mut scenario = Scenario::of(equal(5, 40), draw);
        (scenario.fronts, scenario.end_ms, scenario.piggyback) = (1, 3_000.0, false);
        let (_, worst) =
            over_seeds(&format!("max/min of share by free, 500 {name} requests in 38 ms"), |seed| {
                let mut world = World::new(scenario.clone(), seed);
                world.nodes.iter_mut().zip(BUSY).for_each(|(node, busy)| node.busy = busy);
                // The fifth node reports at 1,180 ms, the first at 1,220.
                world.burst(500, 1_181.0, 38.0);
                let outcomes = world.run();
                assert_eq!(outcomes.failed, 0);
                let share =
                    |node: usize| outcomes.answers.iter().filter(|answer| answer.node == node).count() as f64;
                let by_free: Vec<f64> = (0..5).map(|node| share(node) / (40 - BUSY[node]) as f64).collect();
                spread(&by_free)
            });
        assert!(worst <= 1.3, "{worst}");
    }
}

/// How far the queues of the nodes lie apart, on average over time.
fn swing(scenario: &Scenario, seed: u64) -> f64 {
    let outcomes = World::new(scenario.clone(), seed).run();
    let late = &outcomes.queues[50..];
    let variance = |queues: &Vec<usize>| {
        let mean = queues.iter().sum::<usize>() as f64 / queues.len() as f64;
        queues.iter().map(|jobs| (*jobs as f64 - mean).powi(2)).sum::<f64>() / queues.len() as f64
    };
    late.iter().map(variance).sum::<f64>() / late.len() as f64
}

#[test]
fn with_hints_of_two_seconds_queues_swing_without_own_estimates_and_not_with_them() {
    let mut scenario = Scenario::of(equal(4, 4), pictures).loaded(0.7);
    (scenario.hint_ms, scenario.piggyback, scenario.fronts) = (2_000.0, false, 1);
    let mut naive = scenario.clone();
    naive.chooser = Chooser::LastReports;
    let (_, worst) = over_seeds("variance of queues with own estimates by without, 2 s hints", |seed| {
        let (with, without) = (swing(&scenario, seed), swing(&naive, seed));
        println!("  seed {seed}: with {with:.2}, without {without:.1}");
        with / without
    });
    assert!(worst <= 0.2, "{worst}");
}

#[test]
fn a_new_node_eases_in() {
    let mut nodes = equal(4, 4);
    nodes.push((4, 1.0, 20_000.0));
    let scenario = Scenario::of(nodes, pictures).loaded(0.6);
    let (_, worst) = over_seeds("p99 in the 10 s after a node joined by the p99 before", |seed| {
        let outcomes = World::new(scenario.clone(), seed).run();
        assert_eq!(outcomes.failed, 0);
        let share = |from: f64, to: f64| outcomes.sent_to(4, from, to);
        let shares = [share(20_000.0, 21_000.0), share(24_000.0, 26_000.0), share(40_000.0, 60_000.0)];
        println!(
            "  seed {seed}: share in the first second {:.3}, at 5 s {:.3}, later {:.3}",
            shares[0], shares[1], shares[2]
        );
        assert!(shares[0] < 0.1 && shares[0] > 0.0, "it begins with a little");
        assert!((0.17..0.23).contains(&shares[2]), "it ends with its share");
        p99(outcomes.between(20_000.0, 30_000.0)) / p99(outcomes.between(10_000.0, 20_000.0))
    });
    assert!(worst <= 1.1, "{worst}");
}

#[test]
fn without_any_report_for_half_a_minute_nothing_fails_and_work_stays_even() {
    let mut scenario = Scenario::of(equal(5, 4), pictures).loaded(0.7);
    scenario.frozen = (10_000.0, 40_000.0);
    let (_, worst) = over_seeds("max/min work while reports are frozen for 30 s", |seed| {
        let outcomes = World::new(scenario.clone(), seed).run();
        assert_eq!(outcomes.failed, 0);
        let slower = p99(outcomes.between(10_000.0, 40_000.0)) / p99(outcomes.between(40_500.0, 60_000.0));
        println!("  seed {seed}: p99 frozen by p99 after {slower:.2}");
        spread(&outcomes.work(5, 10_000.0, 40_000.0))
    });
    assert!(worst <= 1.2, "{worst}");
}

#[test]
fn every_policy_serves_everything_on_equal_nodes() {
    for policy in Policy::ALL {
        let mut scenario = Scenario::of(equal(5, 4), pictures).loaded(0.6);
        (scenario.chooser, scenario.end_ms) = (Chooser::Tutti(policy), 20_000.0);
        let outcomes = World::new(scenario, 1).run();
        let took = |q| quantile(outcomes.answers.iter().map(|answer| answer.took_ms), q);
        println!(
            "{policy}: median {:.1} ms, p99 {:.1} ms, max/min work {:.2}",
            took(0.5),
            took(0.99),
            spread(&outcomes.work(5, 0.0, 2e4))
        );
        assert_eq!(outcomes.failed, 0, "{policy}");
        assert!(spread(&outcomes.work(5, 0.0, 20_000.0)) < 1.5, "{policy}");
    }
}
