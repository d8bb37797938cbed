//! Learns what jobs really cost: the ratio of measured to predicted CPU time, by job class and by what was known of the
//! job when it was predicted.

use std::collections::BTreeMap;

/// Weight of the newest job in the moving average.
const NEWEST: f64 = 0.05;
/// The ratio stays between these, whatever is measured.
const RATIO_MIN: f64 = 0.1;
const RATIO_MAX: f64 = 20.0;

/// What was known of a job when its cost was predicted. Guesses of one kind are biased alike, so each kind is learned
/// apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Known {
    /// The request alone.
    Request,
    /// The facts of its inputs as well.
    Facts,
}

/// One ratio a job class and kind of guess, as an exponentially weighted moving average in log space, so that a job ten times as slow and
/// one ten times as fast cancel out.
#[derive(Clone, Debug, Default)]
pub struct CostModel {
    log_ratio: BTreeMap<(&'static str, Known), f64>,
}

impl CostModel {
    /// The CPU time to expect of a job of `class` whose features predict `predicted_ms`, in ms.
    pub fn expect(&self, class: &'static str, known: Known, predicted_ms: f32) -> f32 {
        let ratio = self.log_ratio.get(&(class, known)).copied().unwrap_or(0.0).exp();
        predicted_ms * ratio as f32
    }

    /// Learns that a job of `class` that was predicted to take `predicted_ms` took `measured_ms`.
    pub fn learn(&mut self, class: &'static str, known: Known, predicted_ms: f32, measured_ms: f32) {
        if predicted_ms <= 0.0 || measured_ms <= 0.0 {
            return;
        }
        let seen = f64::from(measured_ms / predicted_ms).clamp(RATIO_MIN, RATIO_MAX).ln();
        let average = self.log_ratio.entry((class, known)).or_insert(seen);
        *average += NEWEST * (seen - *average);
    }

    /// The learned ratio of every class.
    pub fn ratios(&self) -> impl Iterator<Item = (&'static str, Known, f64)> {
        self.log_ratio.iter().map(|((class, known), log)| (*class, *known, log.exp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_class_is_taken_at_its_word() {
        assert_eq!(CostModel::default().expect("resize", Known::Request, 20.0), 20.0);
    }

    #[test]
    fn predictions_approach_what_is_measured_and_outliers_are_bounded() {
        let mut model = CostModel::default();
        (0..200).for_each(|_| model.learn("resize", Known::Facts, 10.0, 30.0));
        assert!((model.expect("resize", Known::Facts, 10.0) - 30.0).abs() < 0.5);
        model.learn("resize", Known::Facts, 10.0, 1e9);
        assert!(model.expect("resize", Known::Facts, 10.0) < 40.0, "one outlier must not move the mean far");
        assert_eq!(
            model.expect("resize", Known::Request, 10.0),
            10.0,
            "the other kind of guess is learned apart"
        );
    }
}
