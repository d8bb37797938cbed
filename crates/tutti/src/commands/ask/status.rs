//! `tutti status` and `tutti nodes` as text for people.

use tutti_admin::console::{NodeStatus, Status};

use super::print::table;

/// `tutti status`: a summary, and the sentence of the quorum.
pub(crate) fn status(status: &Status) -> String {
    let mut rows: Vec<(&str, String)> = vec![
        ("node", status.node.clone()),
        ("state", status.state.clone()),
        ("version", status.version.clone()),
        ("up for", format!("{} s (pid {})", status.uptime_s, status.pid)),
        ("data", status.data.clone()),
    ];
    rows.extend(cluster(status));
    let services: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
    rows.extend([
        ("document", format!("revision {}", status.document_revision)),
        ("services", services.join(", ")),
        ("requests", format!("{}, {} of them from the results (render cache)", status.requests, status.hits)),
        ("renders", format!("{} by {} engines", status.renders, status.engines)),
    ]);
    let more = status.more.iter().map(|(name, value)| vec![name.replace('_', " "), value.to_string()]);
    let rows: Vec<_> =
        rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).chain(more).collect();
    let mut text = table(&rows);
    for sentence in [&status.quorum].into_iter().filter(|sentence| !sentence.is_empty()) {
        text.push_str(&format!("\n\n{sentence}"));
    }
    for alert in &status.alerts {
        text.push_str(&format!("\nALERT: {alert}"));
    }
    text
}

/// What there is to say of the cluster.
fn cluster(status: &Status) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if !status.nodes.is_empty() {
        let count = |state: &str| status.nodes.iter().filter(|node| node.state.word() == state).count();
        let states = ["up", "draining", "suspect", "down"].map(|state| (count(state), state));
        let words =
            states.iter().filter(|(count, _)| *count > 0).map(|(count, state)| format!("{count} {state}"));
        rows.push(("nodes", words.collect::<Vec<_>>().join(", ")));
        let used: u64 = status.nodes.iter().map(|node| u64::from(node.used_pct)).sum();
        let used = used / status.nodes.len() as u64;
        rows.push(("load", format!("{used} % used, {} % free", 100u64.saturating_sub(used))));
    }
    if !status.topology.is_empty() {
        rows.push(("topology", status.topology.clone()));
    }
    if let Some(leader) = &status.leader {
        rows.push(("leader", leader.clone()));
    }
    if let Some(address) = &status.cluster_address {
        let holder = address.holder.as_deref().unwrap_or("nobody");
        rows.push(("cluster address", format!("{}, held by {holder} (the master)", address.address)));
    }
    rows
}

/// `tutti nodes`: one a line.
pub(crate) fn nodes(nodes: &[NodeStatus]) -> String {
    let head = [
        "node", "state", "roles", "store", "used", "free", "jobs", "backlog", "requests", "hits", "cache",
        "heard", "version", "duties",
    ];
    let rows = nodes.iter().map(node);
    table(&[head.map(Into::into).to_vec()].into_iter().chain(rows).collect::<Vec<_>>())
}

fn node(node: &NodeStatus) -> Vec<String> {
    let duties =
        [(node.is_me, "asked"), (node.leader, "leader"), (node.holds_address, "cluster address (master)")];
    let duties: Vec<&str> = duties.iter().filter(|(has, _)| *has).map(|(_, duty)| *duty).collect();
    vec![
        node.name.clone(),
        node.state.word().to_owned(),
        node.roles.join(","),
        node.voter.clone(),
        format!("{} %", node.used_pct),
        format!("{} %", node.free_pct),
        node.jobs.to_string(),
        format!("{} ms", node.backlog_ms),
        node.requests.to_string(),
        format!("{} %", node.hit_pct),
        format!("{} MiB", node.cache_mib),
        if node.is_me { "-".to_owned() } else { format!("{} ms ago", node.heard_ms_ago) },
        node.version.clone(),
        duties.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use tutti_admin::console::ClusterAddress;

    use super::*;

    fn shown() -> Status {
        let node = |name: &str, used| NodeStatus {
            name: name.into(),
            used_pct: used,
            free_pct: 100 - used,
            ..NodeStatus::default()
        };
        let nodes = vec![
            NodeStatus { leader: true, is_me: true, ..node("one", 20) },
            NodeStatus { holds_address: true, ..node("two", 40) },
        ];
        Status {
            nodes,
            leader: Some("one".into()),
            topology: "master-slave".into(),
            quorum: "One sentence.".into(),
            cluster_address: Some(ClusterAddress {
                address: "127.0.0.10:8080".into(),
                holder: Some("two".into()),
            }),
            alerts: vec!["look here".into()],
            ..Status::default()
        }
    }

    #[test]
    fn a_cluster_is_summed_up_and_its_sentence_said() {
        let text = status(&shown());
        for words in [
            "2 up",
            "30 % used, 70 % free",
            "master-slave",
            "held by two",
            "\n\nOne sentence.\nALERT: look here",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn nodes_stand_in_a_table_with_their_duties() {
        let text = nodes(&shown().nodes);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].contains("asked, leader") && lines[2].contains("master"), "{text}");
    }
}
