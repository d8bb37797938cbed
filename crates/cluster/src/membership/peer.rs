//! How foca names a node: its id and its run. Carries nothing that the roster already says.

use std::convert::Infallible;

use rand_core::TryRng;
use tutti_base::NodeId;
use tutti_base::rng::Rng;

/// The most that one renewal adds to a run, in the run's unit (milliseconds): about 34 years.
const STEP_MAX: u64 = 1 << 40;

/// One run of a node, as the gossip knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The node.
    pub(crate) id: NodeId,
    /// Its incarnation: a later run has a larger number.
    pub(crate) run: u64,
    /// What the next renewal adds. It doubles, so that a node whose calendar went back overtakes its earlier run within
    /// 40 renewals. Not sent.
    step: u64,
}

impl Peer {
    pub(crate) const fn new(id: NodeId, run: u64) -> Self {
        Self { id, run, step: 1 }
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.run) == (other.id, other.run)
    }
}
impl Eq for Peer {}

impl foca::Identity for Peer {
    type Addr = NodeId;
    fn renew(&self) -> Option<Self> {
        let run = self.run.saturating_add(self.step);
        Some(Self { id: self.id, run, step: (self.step * 2).min(STEP_MAX) })
    }
    fn addr(&self) -> NodeId {
        self.id
    }
    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.run > adversary.run
    }
}

/// Our randomness as foca wants it.
pub(crate) struct Dice(pub(crate) Box<dyn Rng>);

impl TryRng for Dice {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next() >> 32) as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next())
    }
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        for chunk in into.chunks_mut(8) {
            let bytes = self.0.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity;

    use super::*;

    #[test]
    fn a_renewed_run_wins_and_overtakes_a_calendar_that_went_back_a_year() {
        let before = Peer::new(NodeId(1), 1_800_000_000_000);
        let mut now = Peer::new(NodeId(1), before.run - 365 * 86_400_000);
        let mut renewals = 0;
        while !now.win_addr_conflict(&before) {
            let next = now.renew().unwrap();
            assert!(next.win_addr_conflict(&now));
            now = next;
            renewals += 1;
        }
        assert!(renewals <= 40, "{renewals}");
    }
}
