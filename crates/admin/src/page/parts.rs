//! The parts of the page, from top to bottom. Each makes markup from values; what is empty is left away.

use tutti_base::html::escape;

use super::words::{bytes, clock, number, span};
use crate::console::{CacheHoldings, CacheStats, Choice, Event, NodeStatus, Status};

/// Name, state and the sentence of the quorum.
pub(super) fn heading(status: &Status) -> String {
    let node = escape(&status.node);
    let state = escape(&status.state);
    let shape = match status.topology.as_str() {
        "" => String::new(),
        topology => format!(" · {}", escape(topology)),
    };
    let quorum = match status.quorum.as_str() {
        "" => String::new(),
        quorum => format!("<p>{}</p>", escape(quorum)),
    };
    format!(
        "<h1>Tutti: {node}</h1><p class=dim>{state} · version {} · up {}{shape}</p>{quorum}",
        escape(&status.version),
        span(status.uptime_s)
    )
}

/// What somebody should look at.
pub(super) fn alerts(status: &Status) -> String {
    status.alerts.iter().map(|alert| format!("<p class=alert role=alert>{}</p>", escape(alert))).collect()
}

/// The figures of the cluster at a glance.
pub(super) fn figures(status: &Status) -> String {
    let mut figures = Vec::new();
    let mut figure = |value: String, name: &str| {
        figures.push(format!("<div><b>{value}</b><span>{name}</span></div>"));
    };
    if !status.nodes.is_empty() {
        let up = status.nodes.iter().filter(|node| node.state.word() == "up").count();
        figure(format!("{up} of {}", status.nodes.len()), "nodes up");
    }
    if let Some(leader) = &status.leader {
        figure(escape(leader), "leader");
    }
    if let Some(address) = &status.cluster_address {
        let holder = address.holder.as_deref().map_or("nobody".into(), escape);
        figure(holder, &format!("holds {} (master)", escape(&address.address)));
    }
    figure(number(status.requests), "requests here");
    let hits = (status.hits * 100).checked_div(status.requests).unwrap_or(0);
    figure(format!("{hits} %"), "from results (render cache)");
    figure(number(status.renders), &format!("renders here, {} engines", status.engines));
    figure(number(status.document_revision), "document revision");
    format!("<div class=figures>{}</div>", figures.concat())
}

/// The nodes with their load.
pub(super) fn nodes(status: &Status) -> String {
    let head = [
        ("", "node"),
        ("", "state"),
        ("", "roles"),
        ("", "load"),
        (" class=n", "free"),
        (" class=n", "jobs"),
        (" class=n", "backlog"),
        (" class=n", "requests"),
        (" class=n", "hits"),
        (" class=n", "cache"),
        (" class=n", "heard"),
        (" class=n", "way there"),
        ("", "version"),
    ];
    table("Nodes", &head, status.nodes.iter().map(node))
}

fn node(node: &NodeStatus) -> String {
    let tags = [
        (node.is_me, "this one"),
        (node.leader, "leader"),
        (node.holds_address, "master"),
        (node.voter == "voter", "voter"),
        (node.voter == "learner", "learner"),
    ];
    let tags: String =
        tags.iter().filter(|(has, _)| *has).map(|(_, tag)| format!("<span class=tag>{tag}</span>")).collect();
    let state = node.state.word();
    let used = node.used_pct.min(100);
    let (heard, way) = if node.is_me {
        ("–".into(), "–".into())
    } else {
        (format!("{} ms ago", number(node.heard_ms_ago)), format!("{:.1} ms", node.rtt_us as f64 / 1000.0))
    };
    format!(
        "<tr><td>{}{tags}<td class={state}>{state}<td>{}<td><meter min=0 max=100 high=85 value={used} \
         aria-label=\"load\"></meter> {used} %<td class=n>{} %<td class=n>{}<td class=n>{} ms<td class=n>{}\
         <td class=n>{} %<td class=n>{} MiB<td class=n>{heard}<td class=n>{way}<td>{}",
        escape(&node.name),
        escape(&node.roles.join(", ")),
        node.free_pct,
        number(node.jobs),
        number(node.backlog_ms),
        number(node.requests),
        node.hit_pct,
        number(node.cache_mib),
        escape(&node.version),
    )
}

/// Which node got how much, and why.
pub(super) fn choices(status: &Status) -> String {
    let all: u64 = status.choices.iter().map(|choice| choice.count).sum();
    let head = [("", "node"), ("", "why"), (" class=n", "jobs"), ("", "share")];
    let row = |choice: &Choice| {
        let share = choice.count as f64 * 100.0 / all.max(1) as f64;
        format!(
            "<tr><td>{}<td>{}<td class=n>{}<td><meter min=0 max=100 value={share:.0} aria-label=\"share\">\
             </meter> {share:.0} %",
            escape(&choice.node),
            escape(&choice.reason),
            number(choice.count)
        )
    };
    table("Choices: where this node sent work", &head, status.choices.iter().map(row))
}

/// What the caches of this node hold.
pub(super) fn caches(caches: &CacheStats) -> String {
    let head = [
        ("", "cache of this node"),
        (" class=n", "in memory"),
        (" class=n", "on disk"),
        ("", "of the disk"),
        ("", ""),
    ];
    let row = |name: &str, held: &CacheHoldings| {
        let share = held.kept_bytes as f64 * 100.0 / held.disk_limit_bytes.max(1) as f64;
        format!(
            "<tr><td>{name}<td class=n>{} ({})<td class=n>{} ({})<td><meter min=0 max=100 value={share:.0} \
             aria-label=\"share of the disk\"></meter> of {}<td>{}",
            number(held.resident),
            bytes(held.resident_bytes),
            number(held.kept),
            bytes(held.kept_bytes),
            bytes(held.disk_limit_bytes),
            if held.disk_ok { "" } else { "<span class=down>disk not in use</span>" }
        )
    };
    let rows =
        [row("Results (render cache)", &caches.results), row("Originals (asset cache)", &caches.originals)];
    table("Caches", &head, rows.into_iter())
}

/// What happened last, the newest first.
pub(super) fn events(events: &[Event]) -> String {
    let head = [("", "when (UTC)"), ("", "node"), ("", "what"), ("", "why")];
    let row = |event: &Event| {
        format!(
            "<tr><td>{}<td>{}<td class=w>{}<td class=w>{}",
            clock(event.when),
            escape(&event.node),
            escape(&event.what),
            escape(&event.why)
        )
    };
    table("Events", &head, events.iter().rev().map(row))
}

/// The services and where they answer.
pub(super) fn services(status: &Status) -> String {
    let head = [("", "service"), ("", "answers at"), ("", "")];
    let rows = status.services.iter().map(|service| {
        format!(
            "<tr><td>{}<td class=w>{}<td class=w>{}",
            escape(&service.name),
            escape(&service.mounts.join(" ")),
            escape(&service.summary)
        )
    });
    table("Services", &head, rows)
}

/// A table under a heading; nothing without rows.
fn table(title: &str, head: &[(&str, &str)], rows: impl Iterator<Item = String>) -> String {
    let rows: String = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let head: String = head.iter().map(|(class, name)| format!("<th{class}>{name}")).collect();
    format!("<h2>{title}</h2><div class=wide><table><tr>{head}{rows}</table></div>")
}
