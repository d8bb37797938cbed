//! The cluster as its administration sees it: nodes, leader, quorum, the address, what should be looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use tutti_admin::console::{Choice, ClusterAddress, NodeStatus};
use tutti_base::{Member, NodeState, Roles, View};
use tutti_control::QuorumStatus;

use crate::build::{ADDRESS_DUTY, House};

/// What the status says of the cluster.
pub(super) struct Cluster {
    pub(super) nodes: Vec<NodeStatus>,
    pub(super) leader: Option<String>,
    pub(super) topology: String,
    pub(super) quorum: String,
    pub(super) cluster_address: Option<ClusterAddress>,
    pub(super) alerts: Vec<String>,
    pub(super) choices: Vec<Choice>,
}

/// The cluster as this node sees it now. Reads local state alone: fast even with nodes down.
pub(super) fn cluster(house: &House) -> Cluster {
    let member = &house.member;
    let view = tutti_base::Nodes::view(&*member.nodes);
    let quorum = member.quorum.status();
    let holder = tutti_control::duty::holder(&*house.state.store, ADDRESS_DUTY).ok().flatten();
    let holder = holder.map(|(record, _)| record.node);
    let addresses: BTreeMap<_, _> =
        member.roster.nodes().iter().map(|node| (node.id, node.addresses.clone())).collect();
    let name = |id| view.get(id).map(|member| member.name.to_string());
    let nodes: Vec<NodeStatus> = view
        .members
        .iter()
        .map(|seen| NodeStatus {
            leader: quorum.leader == Some(seen.id),
            holds_address: holder == Some(seen.id),
            voter: vote(&quorum, seen).into(),
            addresses: addresses.get(&seen.id).into_iter().flatten().map(ToString::to_string).collect(),
            ..shown(house, &view, seen)
        })
        .collect();
    Cluster {
        leader: quorum.leader.and_then(name),
        topology: topology(&view).into(),
        quorum: member.reconciler.sentence(),
        cluster_address: house
            .settings
            .cluster_address
            .map(|address| ClusterAddress { address: address.to_string(), holder: holder.and_then(name) }),
        alerts: alerts(house, &view),
        choices: choices(&house.metrics.text()),
        nodes,
    }
}

fn shown(house: &House, view: &View, seen: &Member) -> NodeStatus {
    let is_me = seen.id == view.me;
    let heard = if is_me { Duration::ZERO } else { house.clock.now().since(seen.heard) };
    NodeStatus {
        id: seen.id.to_string(),
        name: seen.name.to_string(),
        state: seen.state,
        roles: seen.roles.words().map(Into::into).collect(),
        version: seen.version.to_string(),
        is_me,
        used_pct: seen.load.used_pct,
        free_pct: 100 - seen.load.used_pct.min(100),
        jobs: u64::from(seen.load.jobs),
        backlog_ms: u64::from(seen.load.backlog_ms),
        requests: seen.load.requests,
        hit_pct: seen.load.hit_pct,
        heard_ms_ago: heard.as_millis() as u64,
        rtt_us: seen.rtt.as_micros() as u64,
        cache_mib: u64::from(seen.load.cache_mib),
        ..NodeStatus::default()
    }
}

fn vote(quorum: &QuorumStatus, seen: &Member) -> &'static str {
    match () {
        () if quorum.voters.contains(&seen.id) => "voter",
        () if quorum.learners.contains(&seen.id) => "learner",
        () => "none",
    }
}

/// The shape that runs, by the roles of its nodes (`deploy/topologies`).
fn topology(view: &View) -> &'static str {
    let has = |member: &&Member, roles: Roles| member.roles.has(roles);
    let both = Roles::FRONT.with(Roles::WORKER);
    // Who neither answers clients nor works is a voter or a cache beside the shape.
    let beside = |member: &&Member| !has(member, Roles::FRONT) && !has(member, Roles::WORKER);
    let all = view.members.len() - view.members.iter().filter(beside).count();
    let fronts = view.members.iter().filter(|member| has(member, Roles::FRONT)).count();
    let pairs = view.members.iter().filter(|member| has(member, both)).count();
    let servers =
        view.members.iter().filter(|member| has(member, Roles::WORKER) && !has(member, Roles::FRONT)).count();
    match (fronts, pairs, servers) {
        _ if view.members.len() == 1 => "one machine",
        (fronts, pairs, _) if fronts == all && pairs == all => "master-master",
        (1, 1, servers) if servers == all - 1 => "master-slave",
        (2, 2, servers) if servers == all - 2 => "pair plus balancing nodes",
        (1, 0, servers) if servers == all - 1 => "one dispatcher",
        (fronts, 0, servers) if fronts > 1 && servers > 0 && fronts + servers == all => "many dispatchers",
        _ => "a mix of its own",
    }
}

fn alerts(house: &House, view: &View) -> Vec<String> {
    let member = &house.member;
    let mut alerts = Vec::new();
    for seen in view.others() {
        match seen.state {
            NodeState::Down => alerts.push(format!("node `{}` is down", seen.name)),
            NodeState::Suspect => alerts.push(format!("node `{}` does not answer", seen.name)),
            NodeState::Up | NodeState::Draining => {}
        }
    }
    if member.quorum.status().leader.is_none() {
        alerts.push("there is no leader: requests go on, changes wait".into());
    }
    let conflicts = super::sum(&house.metrics.text(), "tutti_flow_conflicts_total", "");
    if conflicts > 0 {
        alerts.push(
            "one path has different contents on several nodes; the log names it, the newest is served".into(),
        );
    }
    alerts
}

/// Where work was sent, from the metric.
fn choices(text: &str) -> Vec<Choice> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("tutti_dispatch_choices_total{"));
    let choice = |line: &str| {
        let (labels, count) = line.split_once("} ")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        Some(Choice {
            node: label("node")?,
            reason: label("reason")?,
            count: count.trim().parse::<f64>().ok()? as u64,
        })
    };
    lines.filter_map(choice).collect()
}
