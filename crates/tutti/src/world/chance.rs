//! Randomness for choices among equals, seeded by the kernel. Not for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

use tutti_base::rng::{Rng, SplitMix};

/// Random numbers of this process.
pub(crate) struct Chance(SplitMix);

impl Chance {
    /// Seeded anew; the standard library seeds its hashers from the kernel.
    pub(crate) fn seeded() -> Self {
        Self(SplitMix::new(Self::seed()))
    }

    /// A seed.
    pub(crate) fn seed() -> u64 {
        RandomState::new().build_hasher().finish()
    }
}

impl Rng for Chance {
    fn next(&mut self) -> u64 {
        self.0.next()
    }
}
