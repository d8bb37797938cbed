//! The server's answers as text for people.

use tutti_admin::console::{
    CacheHoldings, CacheStats, Candidate, DoctorReport, Explanation, PortList, PurgeReport, Verdict,
};
use tutti_store::SecretInfo;

use super::print::{bytes, table};

/// `tutti explain`.
pub(crate) fn explanation(explanation: &Explanation) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    if let Some(status) = explanation.status {
        rows.push(vec!["answer".to_owned(), status.to_string()]);
    }
    for step in &explanation.steps {
        for (at, part) in step.text.split("; ").enumerate() {
            rows.push(vec![if at == 0 { step.stage.clone() } else { String::new() }, part.to_owned()]);
        }
        let candidates = step.candidates();
        if !candidates.is_empty() {
            parts.push(table(&std::mem::take(&mut rows)));
            parts.push(weighed(&candidates));
        }
    }
    parts.push(table(&rows));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// The nodes that were weighed, in milliseconds, the chosen one marked.
fn weighed(candidates: &[Candidate]) -> String {
    let head = [
        "",
        "node",
        "availability",
        "heuristics",
        "performance history",
        "network congestion",
        "original",
        "total ms",
        "why",
    ];
    let row = |node: &Candidate| {
        let ms = |value: f64| format!("{value:.1}");
        vec![
            if node.chosen { "  ->" } else { "" }.to_owned(),
            node.node.clone(),
            ms(node.availability_ms),
            ms(node.heuristics_ms),
            format!("x {:.2}", node.history_ratio),
            ms(node.congestion_ms),
            ms(node.original_ms),
            ms(node.total_ms),
            node.why.clone(),
        ]
    };
    let rows = candidates.iter().map(row);
    table(&[head.map(Into::into).to_vec()].into_iter().chain(rows).collect::<Vec<_>>())
}

/// `tutti cache purge`.
pub(crate) fn purged(report: &PurgeReport) -> String {
    let mut text = format!("purged {} (purge {})", report.text, report.sequence);
    if !report.reached.is_empty() {
        text.push_str(&format!("\nreached: {}", report.reached.join(", ")));
    }
    if !report.not_reached.is_empty() {
        let names = report.not_reached.join(", ");
        text.push_str(&format!(
            "\nNOT yet reached: {names}; what they missed is replayed before they use their caches again"
        ));
    }
    text
}

/// `tutti ports`.
pub(crate) fn ports(ports: &PortList) -> String {
    let head = ["port", "address", "for"].map(Into::into).to_vec();
    let rows = ports.ports.iter().map(|port| {
        let address = port.address.map(|address| address.to_string()).or_else(|| port.path.clone());
        vec![port.name.clone(), address.unwrap_or_default(), port.text.clone()]
    });
    table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

/// `tutti doctor`.
pub(crate) fn doctor(report: &DoctorReport) -> String {
    let rows = report.checks.iter().map(|check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        vec![verdict.to_owned(), check.name.clone(), check.text.clone()]
    });
    table(&rows.collect::<Vec<_>>())
}

/// `tutti cache stats`.
pub(crate) fn caches(stats: &CacheStats) -> String {
    let head = ["cache", "in memory", "", "on disk", "", "limit", "disk"].map(Into::into).to_vec();
    let row = |name: &str, held: &CacheHoldings| {
        vec![
            name.to_owned(),
            held.resident.to_string(),
            bytes(held.resident_bytes),
            held.kept.to_string(),
            bytes(held.kept_bytes),
            bytes(held.disk_limit_bytes),
            if held.disk_ok { "in use" } else { "not in use" }.to_owned(),
        ]
    };
    table(&[
        head,
        row("results (render cache)", &stats.results),
        row("originals (asset cache)", &stats.originals),
    ])
}

/// `tutti secret list`.
pub(crate) fn secrets(secrets: &[SecretInfo]) -> String {
    if secrets.is_empty() {
        return "no secrets".into();
    }
    let head = ["name", "created", "changed"].map(Into::into).to_vec();
    let rows =
        secrets.iter().map(|secret| vec![secret.name.clone(), time(secret.created), time(secret.changed)]);
    table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

/// A calendar time in UTC, to the second.
pub(crate) fn time(at: tutti_base::Wall) -> String {
    let (days, secs) = (at.secs() / 86_400, at.secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", secs / 3600, secs / 60 % 60, secs % 60)
}

/// Days since 1970 to year, month and day (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use tutti_admin::console::{Explanation, PurgeReport, Step};
    use tutti_base::Wall;

    #[test]
    fn the_nodes_that_were_weighed_stand_in_a_table_under_their_step() {
        let candidates = serde_json::json!({ "candidates": [
            { "node": "one", "availability_ms": 12.34, "total_ms": 30, "why": "busy" },
            { "node": "two", "history_ratio": 0.5, "total_ms": 9.96, "chosen": true, "why": "soonest" }
        ]});
        let step = |stage: &str, values| Step { stage: stage.into(), text: "a: b; c: d".into(), values };
        let steps = vec![
            step("plan", Default::default()),
            step("choose", candidates),
            step("cost", Default::default()),
        ];
        let shown = super::explanation(&Explanation { steps, ..Explanation::default() });
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 9, "{shown}");
        assert!(
            lines[4].contains("performance history") && lines[4].contains("network congestion"),
            "{shown}"
        );
        assert!(
            lines[5].contains("12.3") && lines[5].contains("busy") && !lines[5].contains("->"),
            "{shown}"
        );
        assert!(
            lines[6].contains("-> ") && lines[6].contains("x 0.50") && lines[6].contains("10.0"),
            "{shown}"
        );
    }

    #[test]
    fn a_purge_names_who_has_not_got_it() {
        let report = PurgeReport {
            reached: vec!["one".into()],
            not_reached: vec!["two".into()],
            ..Default::default()
        };
        let shown = super::purged(&report);
        assert!(shown.contains("reached: one") && shown.contains("NOT yet reached: two"), "{shown}");
        assert_eq!(super::purged(&PurgeReport::default()).lines().count(), 1);
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(super::time(Wall(0)), "1970-01-01 00:00:00Z");
        assert_eq!(super::time(Wall(1_795_546_059_000)), "2026-11-24 18:47:39Z");
        assert_eq!(super::time(Wall(951_782_400_000)), "2000-02-29 00:00:00Z");
    }
}
