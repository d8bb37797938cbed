//! The server's answers as text for people.

use tutti_admin::console::{CacheHoldings, CacheStats, DoctorReport, Explanation, PortList, Status, Verdict};
use tutti_store::SecretInfo;

use super::print::{bytes, table};

/// `tutti status`.
pub(crate) fn status(status: &Status) -> String {
    let services: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
    let rows = [
        ("node", status.node.clone()),
        ("state", status.state.clone()),
        ("version", status.version.clone()),
        ("up for", format!("{} s (pid {})", status.uptime_s, status.pid)),
        ("data", status.data.clone()),
        ("document", format!("revision {}", status.document_revision)),
        ("services", services.join(", ")),
        ("requests", format!("{}, {} of them from the results (render cache)", status.requests, status.hits)),
        ("renders", format!("{} by {} engines", status.renders, status.engines)),
    ];
    let more = status.more.iter().map(|(name, value)| vec![name.replace('_', " "), value.to_string()]);
    let rows: Vec<_> =
        rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).chain(more).collect();
    table(&rows)
}

/// `tutti explain`.
pub(crate) fn explanation(explanation: &Explanation) -> String {
    let mut rows = Vec::new();
    if let Some(status) = explanation.status {
        rows.push(vec!["answer".to_owned(), status.to_string()]);
    }
    for step in &explanation.steps {
        for (at, part) in step.text.split("; ").enumerate() {
            rows.push(vec![if at == 0 { step.stage.clone() } else { String::new() }, part.to_owned()]);
        }
    }
    table(&rows)
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
    use tutti_base::Wall;

    #[test]
    fn times_are_readable() {
        assert_eq!(super::time(Wall(0)), "1970-01-01 00:00:00Z");
        assert_eq!(super::time(Wall(1_795_546_059_000)), "2026-11-24 18:47:39Z");
        assert_eq!(super::time(Wall(951_782_400_000)), "2000-02-29 00:00:00Z");
    }
}
