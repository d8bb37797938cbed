//! What must be true after every fault: views are equal, each key has one owner, no acknowledged write is lost, no request
//! is stuck. And the writer whose writes are looked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tutti_base::clock::MachineTime;

use crate::load::target;
use crate::machine::{Machine, eventually};

const KEY: &str = "lab";
const WRITE_PAUSE: Duration = Duration::from_millis(100);
/// Keys whose owners are compared.
const KEYS: u64 = 12;

/// Writes number after number while it lives, and remembers what was acknowledged.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) acknowledged: AtomicU64,
    longest_gap_ms: AtomicU64,
    stop: AtomicBool,
}

impl Writer {
    /// Writes on `machine` from the number after `from` on, until it is told to stop.
    pub(crate) fn run(&self, machine: &Machine, from: u64, time: &MachineTime) {
        let mut last = time.now();
        let mut number = from;
        while !self.stop.load(Ordering::SeqCst) {
            number += 1;
            if machine.tutti(&["store", "put", KEY, &number.to_string()]).is_ok() {
                self.acknowledged.store(number, Ordering::SeqCst);
                let gap = time.now().since(last).as_millis();
                self.longest_gap_ms.fetch_max(u64::try_from(gap).unwrap_or(u64::MAX), Ordering::SeqCst);
                last = time.now();
            }
            std::thread::sleep(WRITE_PAUSE);
        }
    }

    pub(crate) fn stop(self: &Arc<Self>) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// The longest time without an acknowledged write.
    pub(crate) fn longest_gap(&self) -> Duration {
        Duration::from_millis(self.longest_gap_ms.load(Ordering::SeqCst))
    }
}

/// Waits until every machine sees every machine up, one leader and three voters.
///
/// Errors: they do not agree within a minute.
pub(crate) fn settled(machines: &[Machine]) -> anyhow::Result<()> {
    eventually("every node has the same view, in which all are up and three vote", || {
        let views: Option<Vec<Value>> = machines.iter().map(view).collect();
        let views = views?;
        let first = views.first()?;
        // A node that weighs nothing has not told of itself yet.
        let good =
            |node: &Value| node["state"] == "up" && node["cache_mib"].as_u64().is_some_and(|room| room > 0);
        let nodes = first["nodes"].as_array()?;
        let voters = nodes.iter().filter(|node| node["voter"] == "voter").count();
        let complete = nodes.len() == machines.len() && nodes.iter().all(good) && voters == 3;
        (complete && first["leader"].is_string() && views.iter().all(|view| view == first)).then_some(())
    })
}

/// What a machine sees, as far as others must see the same.
fn view(machine: &Machine) -> Option<Value> {
    let status = machine.json(&["status"]).ok()?;
    let mut nodes: Vec<Value> = Vec::new();
    for node in status["nodes"].as_array()? {
        let same = ["name", "state", "roles", "voter", "leader", "cache_mib"];
        nodes.push(
            same.iter()
                .map(|key| ((*key).to_owned(), node[*key].clone()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        );
    }
    nodes.sort_by_key(|node| node["name"].as_str().map(str::to_owned));
    Some(serde_json::json!({ "leader": status["leader"], "nodes": nodes }))
}

/// What is wrong after a fault, one sentence each.
pub(crate) fn complaints(machines: &[Machine], acknowledged: u64) -> Vec<String> {
    let mut found = Vec::new();
    if let Err(error) = settled(machines) {
        found.push(format!("{error:#}"));
    }
    for url in (0..KEYS).map(target) {
        let owners =
            || -> Vec<Option<String>> { machines.iter().map(|machine| owner(machine, &url)).collect() };
        let agree = |owners: &[Option<String>]| owners.iter().all(|one| one.is_some() && *one == owners[0]);
        // Views are equal by now; what nodes weigh travels with hints, and may be a moment later.
        if eventually("one owner", || agree(&owners()).then_some(())).is_err() {
            found.push(format!("the nodes name different owners of {url}: {:?}", owners()));
        }
    }
    for machine in machines {
        match machine.tutti(&["store", "get", KEY, "--linearizable"]) {
            Ok(text) if text.trim().parse::<u64>().is_ok_and(|number| number >= acknowledged) => {}
            Ok(text) => {
                found.push(format!("`{}` has {}, acknowledged was {acknowledged}", machine.name, text.trim()))
            }
            Err(error) => found.push(format!("{error:#}")),
        }
        for metric in ["tutti_flow_flights", "tutti_worker_busy"] {
            let idle =
                eventually("nothing is under way", || (machine.metric(metric).ok()? == 0.0).then_some(()));
            if idle.is_err() {
                found.push(format!(
                    "`{}`: something is stuck: {metric} {:?}",
                    machine.name,
                    machine.metric(metric)
                ));
            }
        }
    }
    found
}

/// The owner of what a URL names, as `machine` has it: the first in the order in which it would ask.
fn owner(machine: &Machine, url: &str) -> Option<String> {
    let told = machine.json(&["explain", url]).ok()?;
    let step = told["steps"].as_array()?.iter().find(|step| step["stage"] == "owner")?.clone();
    step["values"]["nodes"].as_str()?.split(", ").next().map(Into::into)
}
