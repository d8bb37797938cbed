//! What control counts, and the limits it shows.

use tutti_store::secrets::READERS_MAX;
use tutti_telemetry::{Counter, Family, Gauge, Metrics};

use crate::voters::Change;
use crate::{duty, joining, journal, leaving, reconcile, roster, tokens};

type ByWord = Family<[(&'static str, &'static str); 1], Counter>;

/// The metrics of control. Cloning shares them.
#[derive(Clone)]
pub struct Counts {
    asks: ByWord,
    steps: ByWord,
    failed_steps: ByWord,
    /// Asks being answered.
    pub(crate) asking: Gauge,
    /// Duties held by this node.
    pub(crate) held: Gauge,
    /// Times that a duty was taken.
    pub(crate) taken: Counter,
    /// Times that a duty was let go because its lease could not be confirmed in time.
    pub(crate) ran_out: Counter,
}

impl Counts {
    /// Registers them; once a registry.
    pub fn register(metrics: &Metrics) -> Self {
        let limits = [
            ("control_nodes", "Most nodes of the cluster", roster::NODES_MAX),
            ("control_node_records", "Most records of nodes, removed ones too", roster::RECORDS_MAX),
            ("control_edit_tries", "Most tries of a change of the roster", roster::EDIT_TRIES as usize),
            ("control_tokens", "Most join tokens kept", tokens::TOKENS_MAX),
            ("control_asks", "Most asks of other nodes answered at once", joining::ASKS_MAX),
            ("control_ask_bytes", "Longest ask of another node", joining::ASK_MAX),
            ("control_steps", "Most steps of the voters in a row", reconcile::STEPS_MAX),
            ("control_events", "Most events kept", journal::EVENTS_MAX),
            (
                "control_leave_ms",
                "Longest wait for a leaving voter",
                leaving::LEAVE_WITHIN.as_millis() as usize,
            ),
            ("control_duty_ttl_ms", "Longest lease of a duty", duty::TTL_MAX.as_millis() as usize),
            ("store_secret_readers", "Most nodes that one secret is sealed to", READERS_MAX),
        ];
        for (name, help, value) in limits {
            metrics.limit(name, help, value as u64);
        }
        let by_word = |name, help| metrics.register(name, help, ByWord::default());
        Self {
            asks: by_word("control_asks", "Asks of other nodes, by outcome"),
            steps: by_word("control_steps", "Changes of the voters, by kind"),
            failed_steps: by_word("control_steps_failed", "Changes of the voters that failed, by kind"),
            asking: metrics.gauge("control_asking", "Asks of other nodes being answered"),
            held: metrics.gauge("control_duties_held", "Duties that this node holds"),
            taken: metrics.counter("control_duties_taken", "Times that this node took a duty"),
            ran_out: metrics.counter(
                "control_duties_ran_out",
                "Times that this node let a duty go because its lease was not confirmed in time",
            ),
        }
    }

    pub(crate) fn ask(&self, outcome: &'static str) {
        self.asks.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(crate) fn step(&self, change: &Change) {
        self.steps.get_or_create(&[("kind", kind(change))]).inc();
    }

    pub(crate) fn step_failed(&self, change: &Change) {
        self.failed_steps.get_or_create(&[("kind", kind(change))]).inc();
    }
}

fn kind(change: &Change) -> &'static str {
    match change {
        Change::AddLearner(_) => "learner",
        Change::SetVoters(_) => "voters",
        Change::Remove(_) => "remove",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_shown_and_outcomes_are_counted_by_their_word() {
        let metrics = Metrics::default();
        let counts = Counts::register(&metrics);
        counts.ask("done");
        counts.step(&Change::SetVoters(Vec::new()));
        let text = metrics.text();
        for line in [
            "tutti_limit_control_nodes 128",
            "tutti_limit_control_tokens 200",
            "tutti_limit_control_asks 32",
            "tutti_limit_store_secret_readers 256",
            "tutti_control_asks_total{outcome=\"done\"} 1",
            "tutti_control_steps_total{kind=\"voters\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
