//! The oracle: one queue, exact sizes, exact backlogs, no delay of news. Each job goes to the permit that finishes it first.

use tutti_base::rng::SplitMix;

use crate::draw::{exponential, log_normal, unit};
use crate::figures::quantile;
use crate::world::Scenario;

/// The 99th percentile that the oracle reaches with the very arrivals and sizes of a seed, over what arrives after
/// `from`. Knowing everything when a job arrives is as good as binding late.
pub(crate) fn p99(scenario: &Scenario, seed: u64, from: f64) -> f64 {
    let mut rng = SplitMix::new(seed);
    let permits = |(permits, slow, _): &(usize, f64, f64)| vec![(0.0_f64, *slow); *permits];
    let mut free: Vec<(f64, f64)> = scenario.nodes.iter().flat_map(permits).collect();
    let (mut now, mut took) = (10.0, Vec::new());
    while now < scenario.end_ms {
        // The same draws as in the simulated world, in the same order.
        unit(&mut rng);
        let (_, true_ms) = (scenario.draw)(&mut rng);
        log_normal(scenario.error, &mut rng);
        let there = now + scenario.rtt_ms / 2.0;
        let finish = |(until, slow): &(f64, f64)| until.max(there) + true_ms * slow;
        let first =
            free.iter_mut().min_by(|a, b| finish(a).total_cmp(&finish(b))).expect("there are permits");
        first.0 = finish(first);
        if now >= from {
            took.push(first.0 + scenario.rtt_ms / 2.0 - now);
        }
        now += exponential(1000.0 / scenario.rate, &mut rng);
    }
    quantile(took, 0.99)
}
