//! Draws from distributions by seed. Knows nothing of what is drawn.

use tutti_base::rng::{Rng, SplitMix};

pub(crate) fn unit(rng: &mut SplitMix) -> f64 {
    ((rng.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

pub(crate) fn exponential(mean: f64, rng: &mut SplitMix) -> f64 {
    -unit(rng).ln() * mean
}

/// A factor whose logarithm is normal with this deviation; its mean is 1.
pub(crate) fn log_normal(sigma: f64, rng: &mut SplitMix) -> f64 {
    let normal = (-2.0 * unit(rng).ln()).sqrt() * (std::f64::consts::TAU * unit(rng)).cos();
    (sigma * normal - sigma * sigma / 2.0).exp()
}
