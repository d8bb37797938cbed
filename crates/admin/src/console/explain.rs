//! What would happen to a request, and why: steps, and the nodes that were weighed. Values only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What would happen to a request, and why.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// The URL.
    pub url: String,
    /// The service that answers, if one does.
    pub service: Option<String>,
    /// The status it would be answered with, as far as that is known without doing it.
    pub status: Option<u16>,
    /// One step a line, in order.
    pub steps: Vec<Step>,
}

/// One step of an explanation.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Step {
    /// Where: `route`, `plan`, `look up`, `admission`, and so on.
    pub stage: String,
    /// What was found, for people.
    pub text: String,
    /// The values behind it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub values: Value,
}

impl Step {
    /// The nodes that were weighed in this step: its values' `candidates`, where it has them.
    pub fn candidates(&self) -> Vec<Candidate> {
        let found = self.values.get("candidates").cloned().unwrap_or_default();
        serde_json::from_value(found).unwrap_or_default()
    }
}

/// A node that a job might have gone to. The terms are named as people know them, and are milliseconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// Its name.
    pub node: String,
    /// How long it has work already: the wait (*availability*).
    pub availability_ms: f64,
    /// What such work costs by its features on this machine (*heuristics*).
    pub heuristics_ms: f64,
    /// How its own past weighs on that: 1 as predicted, 2 twice as slow (*performance history*).
    pub history_ratio: f64,
    /// What moving bytes adds (*network congestion*).
    pub congestion_ms: f64,
    /// What getting the original adds where it does not lie there.
    pub original_ms: f64,
    /// The sum: when it would be finished.
    pub total_ms: f64,
    /// Whether it is the one.
    pub chosen: bool,
    /// Why, or why not.
    pub why: String,
}
