//! Figures over what a simulation yielded. Runs nothing.

use crate::world::{Answer, Outcomes};

pub(crate) const SEEDS: [u64; 6] = [1, 2, 3, 4, 5, 6];

/// The quantile of `values` by nearest rank.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, q: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let rank = ((values.len() as f64 * q).ceil() as usize).clamp(1, values.len().max(1));
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Median and worst (largest) of one figure over seeds.
pub(crate) fn median_and_worst(figures: &[f64]) -> (f64, f64) {
    (quantile(figures.iter().copied(), 0.5), quantile(figures.iter().copied(), 1.0))
}

pub(crate) fn p99(answers: impl Iterator<Item = Answer>) -> f64 {
    quantile(answers.map(|answer| answer.took_ms), 0.99)
}

impl Outcomes {
    /// Answers to what arrived in this span of time.
    pub(crate) fn between(&self, from: f64, to: f64) -> impl Iterator<Item = Answer> + Clone + '_ {
        self.answers.iter().copied().filter(move |answer| (from..to).contains(&answer.arrived))
    }

    /// Work done by each of `nodes` nodes for what arrived in this span of time, in ms of a standard core.
    pub(crate) fn work(&self, nodes: usize, from: f64, to: f64) -> Vec<f64> {
        let mut work = vec![0.0; nodes];
        self.between(from, to).for_each(|answer| work[answer.node] += answer.true_ms);
        work
    }

    /// The part of all that was sent in this span of time that went to `node`.
    pub(crate) fn sent_to(&self, node: usize, from: f64, to: f64) -> f64 {
        let sent = self.sent.iter().filter(|(when, _)| (from..to).contains(when));
        let (all, there) =
            sent.fold((0, 0), |(all, there), (_, to)| (all + 1, there + usize::from(*to == node)));
        f64::from(there as u32) / f64::from((all as u32).max(1))
    }
}

/// The largest by the smallest.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let (most, least) =
        (values.iter().copied().fold(0.0, f64::max), values.iter().copied().fold(f64::MAX, f64::min));
    most / least.max(f64::MIN_POSITIVE)
}
