//! What `tutti doctor` looks at: folders, caches, engines and their sandbox, exceptions, limits.

use tutti_admin::console::{DoctorCheck, Verdict};
use tutti_process::{Layer, SandboxReport};
use tutti_worker::Warmed;

use crate::build::House;

/// Open descriptors below which a busy server runs short.
const DESCRIPTORS_WANTED: u64 = 4096;

/// All checks. Blocks on the file system.
pub(crate) fn all(house: &House) -> Vec<DoctorCheck> {
    let mut checks: Vec<DoctorCheck> = folders(house).collect();
    checks.push(caches(house));
    checks.extend(house.engines.iter().flat_map(engines));
    checks.extend(exceptions(house));
    checks.push(descriptors());
    checks.push(user());
    checks
}

fn check(name: &str, verdict: Verdict, text: impl Into<String>) -> DoctorCheck {
    DoctorCheck { name: name.into(), verdict, text: text.into() }
}

fn folders(house: &House) -> impl Iterator<Item = DoctorCheck> {
    house.sources.check_folders().into_iter().map(|report| {
        let verdict = if report.readable() { Verdict::Ok } else { Verdict::Failed };
        check("originals", verdict, report.to_string())
    })
}

fn caches(house: &House) -> DoctorCheck {
    let stats = house.caches.results.stats();
    let at = house.settings.cache.display();
    if stats.disk_ok {
        let text = format!("{at}: at most {} MB on disk for results", stats.disk_limit >> 20);
        return check("cache", Verdict::Ok, text);
    }
    let text = format!(
        "{at} cannot be used: results live in memory only, and serving goes on; see the log for the cause"
    );
    check("cache", Verdict::Warning, text)
}

fn engines(warmed: &Warmed) -> Vec<DoctorCheck> {
    let name = format!("engines of {}", warmed.service);
    match &warmed.engines {
        Err(reason) => vec![check(&name, Verdict::Failed, format!("none could be started: {reason}"))],
        Ok(report) => {
            let whole = report.seccomp == Layer::Full && report.landlock == Layer::Full;
            let verdict = if whole { Verdict::Ok } else { Verdict::Warning };
            vec![check(&name, verdict, layers(report))]
        }
    }
}

fn layers(report: &SandboxReport) -> String {
    let word = |layer: Layer| match layer {
        Layer::Full => "on",
        Layer::Partial => "in part (an older kernel)",
        Layer::Absent => "MISSING (the kernel does not have it)",
    };
    let own = if report.own_uid { "of its own" } else { "of the server" };
    let netns = if report.netns { "own and empty" } else { "the server's, closed by seccomp and landlock" };
    format!(
        "seccomp {}; landlock {}; network {netns}; uid {} {own}; nice {}",
        word(report.seccomp),
        word(report.landlock),
        report.uid,
        report.nice
    )
}

fn exceptions(house: &House) -> Vec<DoctorCheck> {
    let current = house.state.document.current().ok();
    let cluster = current.and_then(|snapshot| crate::cluster::Cluster::read(&snapshot.table).ok());
    let exceptions = cluster.map(|cluster| cluster.fetch.exceptions()).unwrap_or_default();
    if exceptions.is_empty() {
        return vec![check("address guard", Verdict::Ok, "no private or local address can be fetched from")];
    }
    exceptions.into_iter().map(|text| check("address guard", Verdict::Warning, text)).collect()
}

fn descriptors() -> DoctorCheck {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit >= DESCRIPTORS_WANTED {
        return check("open files", Verdict::Ok, format!("{limit} may be open at once"));
    }
    let text = format!(
        "only {limit} may be open at once: raise the limit (LimitNOFILE=, ulimit -n) to {DESCRIPTORS_WANTED} or more"
    );
    check("open files", Verdict::Warning, text)
}

fn user() -> DoctorCheck {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return check("user", Verdict::Failed, "the server runs as root");
    }
    check("user", Verdict::Ok, format!("runs as uid {}", uid.as_raw()))
}
