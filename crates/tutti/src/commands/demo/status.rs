//! What the nodes say of the cluster: asks their administration, and reads of it what the demo shows. Tolerates what is
//! missing.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::net::UnixStream;
use tutti_base::Clock;

use super::http::{self, Answer};
use super::load::within;

/// How long a node may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The cluster as one node sees it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Seen {
    /// The nodes by name, with their state.
    pub nodes: Vec<SeenNode>,
    /// The leader's name.
    pub leader: Option<String>,
    /// The name of the holder of the cluster address.
    pub holder: Option<String>,
}

/// One node as another sees it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct SeenNode {
    pub name: String,
    pub up: bool,
    /// None where nothing is said of it.
    pub voter: Option<bool>,
    pub used_pct: Option<f64>,
}

impl Seen {
    /// Reads a status.
    pub(super) fn of(status: &Value) -> Self {
        let rows = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_leader = |row: &&Value| row["leader"] == Value::Bool(true);
        let leader = name(&status["leader"]).or_else(|| name(rows.iter().find(is_leader)?));
        let holds = |row: &&Value| row["holds_address"] == Value::Bool(true);
        let holder = name(&status["cluster_address"]["holder"]).or_else(|| name(rows.iter().find(holds)?));
        Self { nodes: rows.iter().map(node).collect(), leader, holder }
    }

    /// How many are up.
    pub(super) fn up(&self) -> usize {
        self.nodes.iter().filter(|node| node.up).count()
    }

    /// The mean load of those that are up, in percent.
    pub(super) fn used_pct(&self) -> Option<f64> {
        let used: Vec<f64> =
            self.nodes.iter().filter(|node| node.up).filter_map(|node| node.used_pct).collect();
        (!used.is_empty()).then(|| used.iter().sum::<f64>() / used.len() as f64)
    }

    /// Whether all `nodes` are up, one leads, and as many vote as can be used (3 at most), as far as is said.
    pub(super) fn is_in_step(&self, nodes: usize) -> bool {
        let voters = self.nodes.iter().filter(|node| node.up && node.voter != Some(false)).count();
        let wanted = if nodes < 3 { 1 } else { 3 };
        self.up() >= nodes && self.leader.is_some() && voters >= wanted
    }
}

fn node(row: &Value) -> SeenNode {
    let voter = match &row["voter"] {
        Value::String(word) => Some(word == "voter"),
        Value::Bool(votes) => Some(*votes),
        _ => None,
    };
    SeenNode {
        name: name(row).unwrap_or_default(),
        up: row["state"] == "up",
        voter,
        used_pct: row["used_pct"].as_f64(),
    }
}

/// A name, or the name of an object that has one.
fn name(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["name"].as_str()).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Asks the node behind `socket` how the cluster is.
///
/// Errors: it does not answer within [`ANSWER_WITHIN`], or not with a status.
pub(super) async fn ask(clock: &dyn Clock, socket: &Path) -> anyhow::Result<Seen> {
    let answer = call(clock, socket, &http::get("localhost", "/api/v1/status")).await?;
    Ok(Seen::of(&serde_json::from_slice(&answer.body)?))
}

/// Asks the node behind `socket` for what the next node joins with.
///
/// Errors: as [`ask`]; the reason that the node gives.
pub(super) async fn token(clock: &dyn Clock, socket: &Path) -> anyhow::Result<String> {
    let answer = call(clock, socket, &http::post("localhost", "/api/v1/tokens", "{}")).await?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    answer["token"].as_str().map(str::to_owned).context("the answer to a call for a token has none")
}

async fn call(clock: &dyn Clock, socket: &Path, request: &[u8]) -> anyhow::Result<Answer> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        http::exchange(&mut stream, request).await
    };
    let answer = within(clock, ANSWER_WITHIN, exchange).await.context("no answer in time")??;
    if !(200..300).contains(&answer.status) {
        let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        bail!("status {}: {}", answer.status, problem["detail"].as_str().unwrap_or("no reason given"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_read_and_what_is_missing_is_unknown() {
        let status = json!({
            "leader": "two",
            "cluster_address": { "address": "127.0.0.10:8080", "holder": "one" },
            "nodes": [
                { "name": "one", "state": "up", "voter": "voter", "used_pct": 20 },
                { "name": "two", "state": "up", "voter": "voter", "used_pct": 40.0 },
                { "name": "three", "state": "suspect", "voter": "learner", "used_pct": 90 },
            ],
        });
        let seen = Seen::of(&status);
        assert_eq!((seen.up(), seen.used_pct()), (2, Some(30.0)));
        assert_eq!((seen.leader.as_deref(), seen.holder.as_deref()), (Some("two"), Some("one")));
        assert!(!seen.is_in_step(3));
        assert_eq!(Seen::of(&json!({ "name": "alone" })), Seen::default());
        assert_eq!(Seen::default().used_pct(), None);
    }

    #[test]
    fn duties_are_found_at_the_nodes_too() {
        let node =
            |name: &str, duty: &str| json!({ "name": name, "state": "up", "voter": "voter", duty: true });
        let status =
            json!({ "nodes": [node("one", "leader"), node("two", "holds_address"), node("three", "x")] });
        let seen = Seen::of(&status);
        assert_eq!((seen.leader.as_deref(), seen.holder.as_deref()), (Some("one"), Some("two")));
        assert!(seen.is_in_step(3) && !seen.is_in_step(4));
    }
}
