//! Which keys are hot, and how many owners those get. Counts what it is told; asks nobody.
//!
//! The counting is Space-Saving (Metwally, Agrawal, El Abbadi 2005) over counts that halve with time: whatever has more
//! than one in [`HOT_KEYS_MAX`] of the recent asks is in the table, and what the table says of it errs downwards only.

use std::time::Duration;

use tutti_base::Tick;

/// Keys whose heat is counted at once.
pub const HOT_KEYS_MAX: usize = 128;
/// In this time a count loses half of its weight.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// A share is believed only after this many recent asks.
const ASKS_MIN: f64 = 100.0;

/// How many owners a key gets that has `share` (0 to 1) of all asks among `nodes` nodes: at least `copies`, and as many
/// as it takes until no owner has more than a fair share of it.
pub fn split(share: f64, nodes: usize, copies: usize) -> usize {
    let wanted = (share.clamp(0.0, 1.0) * nodes as f64).ceil() as usize;
    wanted.max(copies).min(nodes)
}

#[derive(Clone, Copy, Debug)]
struct Count {
    key: u64,
    asks: f64,
    /// How many of `asks` may belong to the key whose place this one took.
    doubt: f64,
}

/// Recent asks by key.
#[derive(Clone, Debug, Default)]
pub struct Heat {
    counts: Vec<Count>,
    total: f64,
    seen: Tick,
}

impl Heat {
    /// Counts one ask for `key` at `now`, and says which share (0 to 1) of the recent asks the key surely has. 0 as
    /// long as too little was seen.
    pub fn ask(&mut self, key: u64, now: Tick) -> f64 {
        self.cool(now);
        self.total += 1.0;
        if let Some(count) = self.counts.iter_mut().find(|count| count.key == key) {
            count.asks += 1.0;
        } else if self.counts.len() < HOT_KEYS_MAX {
            self.counts.push(Count { key, asks: 1.0, doubt: 0.0 });
        } else if let Some(coldest) = self.counts.iter_mut().min_by(|a, b| a.asks.total_cmp(&b.asks)) {
            *coldest = Count { key, asks: coldest.asks + 1.0, doubt: coldest.asks };
        }
        self.share(key)
    }

    /// The share (0 to 1) of the recent asks that `key` surely has.
    pub fn share(&self, key: u64) -> f64 {
        if self.total < ASKS_MIN {
            return 0.0;
        }
        let found = self.counts.iter().find(|count| count.key == key);
        found.map_or(0.0, |count| (count.asks - count.doubt).max(0.0) / self.total)
    }

    /// Keys that are counted now.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nothing was asked yet.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn cool(&mut self, now: Tick) {
        let passed = now.since(self.seen).as_secs_f64() / HALF_LIFE.as_secs_f64();
        // Not at every ask: a hundredth of a half-life is soon enough.
        if passed < 0.01 {
            return;
        }
        self.seen = now;
        let left = (-passed).exp2();
        self.total *= left;
        for count in &mut self.counts {
            count.asks *= left;
            count.doubt *= left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hot_key_gets_owners_until_none_has_more_than_a_fair_share() {
        assert_eq!(split(0.0, 5, 2), 2);
        assert_eq!(split(0.5, 5, 2), 3);
        assert_eq!(split(0.5, 16, 2), 8);
        assert_eq!(split(1.0, 5, 2), 5);
        assert_eq!(split(2.0, 1, 2), 1);
        assert_eq!(split(0.5, 0, 2), 0);
    }

    #[test]
    fn the_share_of_a_hot_key_is_found_among_many_cold_ones() {
        let mut heat = Heat::default();
        for ask in 0..20_000_u64 {
            heat.ask(if ask % 4 == 0 { 1 } else { 1000 + ask }, Tick(ask * 1000));
        }
        let share = heat.share(1);
        assert!((0.2..=0.25).contains(&share), "{share}");
        assert_eq!(heat.len(), HOT_KEYS_MAX, "the table is bounded");
        assert!(heat.share(1000 + 19_999) < 0.001, "a newcomer does not inherit the heat of its place");
    }

    #[test]
    fn heat_passes() {
        let mut heat = Heat::default();
        (0..1000).for_each(|_| _ = heat.ask(1, Tick(0)));
        let later = Tick(0) + HALF_LIFE * 4;
        (0..1000).for_each(|_| _ = heat.ask(2, later));
        assert!(heat.share(1) < 0.07 && heat.share(2) > 0.9);
    }

    #[test]
    fn nothing_is_hot_before_enough_was_seen() {
        let mut heat = Heat::default();
        assert!(heat.is_empty());
        assert_eq!(heat.ask(1, Tick(0)), 0.0);
    }
}
