//! Kills the master again and again, and measures how long the address is silent each time. The killing itself is the
//! house's.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tutti_base::{Clock, Tick};

use super::load::{Client, within};

/// Longest wait for all nodes to be in step before a kill.
pub(super) const IN_STEP_WITHIN: Duration = Duration::from_secs(120);
/// Longest silence of the address that is measured.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Between two questions to a silent address.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// How far the kills have come.
pub(super) struct Kills {
    wanted: u32,
    gaps: Vec<Duration>,
    waiting_since: Tick,
    probe: Option<JoinHandle<Option<Duration>>>,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Kill as soon as all are in step.
    Kill,
    /// The address is silent, or was when last asked.
    Wait,
    /// All kills are done.
    Done,
    /// It goes no further.
    Stuck(&'static str),
}

/// The silences of the address, in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Gaps {
    /// How many.
    pub kills: usize,
    /// The median.
    pub median_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// Each, in order.
    pub each_ms: Vec<u64>,
}

impl Kills {
    /// `wanted` kills, the first from `now` on.
    pub(super) fn new(wanted: u32, now: Tick) -> Self {
        Self { wanted, gaps: Vec::new(), waiting_since: now, probe: None }
    }

    /// The same, waiting from `now` on.
    pub(super) fn waiting_from(self, now: Tick) -> Self {
        Self { waiting_since: now, ..self }
    }

    /// Looks how far it is.
    pub(super) async fn look(&mut self, now: Tick) -> Next {
        if let Some(probe) = self.probe.take_if(|probe| probe.is_finished()) {
            match probe.await {
                Ok(Some(gap)) => self.gaps.push(gap),
                _ => return Next::Stuck("the address did not answer again within a minute"),
            }
            self.waiting_since = now;
        }
        match (&self.probe, self.gaps.len() as u32) {
            (Some(_), _) => Next::Wait,
            (None, done) if done >= self.wanted => Next::Done,
            _ if now.since(self.waiting_since) > IN_STEP_WITHIN => {
                Next::Stuck("the nodes did not get in step")
            }
            _ => Next::Kill,
        }
    }

    /// Begins to measure: the master was killed at `killed`. `client` asks the address.
    pub(super) fn begin(&mut self, client: Client, clock: Arc<dyn Clock>, killed: Tick) {
        self.probe = Some(tokio::spawn(async move { silence(&client, &*clock, killed).await }));
    }

    /// The last silence that was measured.
    pub(super) fn last(&self) -> Option<Duration> {
        self.gaps.last().copied()
    }

    /// The silences so far.
    pub(super) fn gaps(&self) -> Gaps {
        let each_ms: Vec<u64> = self.gaps.iter().map(|gap| gap.as_millis() as u64).collect();
        let mut sorted = each_ms.clone();
        sorted.sort_unstable();
        let at = |at: usize| sorted.get(at).copied().unwrap_or(0);
        let median_ms = (at(sorted.len() / 2) + at(sorted.len().saturating_sub(1) / 2)) / 2;
        Gaps { kills: each_ms.len(), median_ms, max_ms: sorted.last().copied().unwrap_or(0), each_ms }
    }
}

/// From `begin` to the first 200.
async fn silence(client: &Client, clock: &dyn Clock, begin: Tick) -> Option<Duration> {
    while clock.now().since(begin) < SILENCE_MAX {
        let asked = within(clock, ANSWER_WITHIN, client.get("/readyz")).await;
        if asked.is_some_and(|answer| answer.is_ok_and(|answer| answer.status == 200)) {
            return Some(clock.now().since(begin));
        }
        clock.sleep_until(clock.now() + ASK_EVERY).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn kills_are_counted_and_a_cluster_that_is_never_in_step_ends_them() {
        let mut kills = Kills::new(2, Tick(0));
        assert_eq!(kills.look(Tick(0)).await, Next::Kill);
        for ms in [900, 1300] {
            let handle = tokio::spawn(async move { Some(Duration::from_millis(ms)) });
            kills.probe = Some(handle);
            while kills.look(Tick(1)).await == Next::Wait {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(kills.look(Tick(1)).await, Next::Done);
        let gaps = Gaps { kills: 2, median_ms: 1100, max_ms: 1300, each_ms: vec![900, 1300] };
        assert_eq!(kills.gaps(), gaps);
        let mut kills = Kills::new(1, Tick(0));
        let late = Tick(0) + IN_STEP_WITHIN + Duration::from_millis(1);
        assert!(matches!(kills.look(late).await, Next::Stuck(_)));
    }
}
