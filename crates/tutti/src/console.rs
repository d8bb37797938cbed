//! What the administration sees of the house, and how a changed document reaches it.

mod checks;
mod follow;
mod purging;
mod routing;
mod urls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tutti_admin::console::{
    CacheHoldings, CacheStats, DoctorReport, Explanation, Port, PortList, PurgeReport, PurgeRequest,
    ServiceStatus, Status, Step, UrlAnswer, UrlRequest,
};
use tutti_admin::{Console, Listeners, Readiness};
use tutti_base::{BoxFuture, Problem, Tick, Wall};
use tutti_cache::Stats;

use crate::build::House;

pub(crate) use follow::follow_document;

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// The house, as its administration sees it.
pub(crate) struct HouseConsole {
    house: Arc<House>,
    ports: Vec<Port>,
    state: AtomicU8,
    started: Wall,
    started_tick: Tick,
}

impl HouseConsole {
    /// A console of `house`, whose doors are at these addresses.
    pub(crate) fn new(house: &Arc<House>, http: &[SocketAddr], admin: &Listeners) -> Self {
        let port = |name: &str, address: Option<SocketAddr>, text: &str| Port {
            name: name.into(),
            address,
            path: None,
            text: text.into(),
        };
        let mut ports: Vec<Port> = http
            .iter()
            .map(|address| port("http", Some(*address), "clients: pictures and services"))
            .collect();
        ports.extend(
            admin
                .admin_address()
                .map(|at| port("admin", Some(at), "administrators on this machine: reading")),
        );
        ports.extend(
            admin.metrics_address().map(|at| port("metrics", Some(at), "monitoring: /metrics and /healthz")),
        );
        let mut socket = port("admin", None, "the command line: everything");
        socket.path = Some(admin.socket_path().display().to_string());
        ports.push(socket);
        Self {
            started: house.clock.wall(),
            started_tick: house.clock.now(),
            house: Arc::clone(house),
            ports,
            state: AtomicU8::new(STARTING),
        }
    }

    /// From now on it says "ready".
    pub(crate) fn mark_ready(&self) {
        self.state.store(READY, Ordering::Release);
    }

    /// From now on it says "draining".
    pub(crate) fn mark_draining(&self) {
        self.state.store(DRAINING, Ordering::Release);
    }

    fn word(&self) -> &'static str {
        match self.state.load(Ordering::Acquire) {
            STARTING => "starting",
            READY => "ready",
            _ => "draining",
        }
    }

    fn status_now(&self) -> Result<Status, Problem> {
        let house = &self.house;
        let text = house.metrics.text();
        let services = house.registry().iter().map(|(_, service)| {
            let description = service.describe();
            ServiceStatus {
                name: description.name.into(),
                summary: description.summary.into(),
                mounts: description.mounts.iter().map(|mount| mount.prefix.clone()).collect(),
            }
        });
        let (wait, mean, jobs, bytes) = house.flow.load();
        let mut more = serde_json::Map::new();
        more.insert("admission_wait_ms".into(), (wait.as_millis() as u64).into());
        more.insert("admission_mean_wait_ms".into(), (mean.as_millis() as u64).into());
        more.insert("admitted_jobs".into(), jobs.into());
        more.insert("admitted_bytes".into(), bytes.into());
        Ok(Status {
            node: house.settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            state: self.word().into(),
            started: self.started,
            uptime_s: house.clock.now().since(self.started_tick).as_secs(),
            pid: std::process::id(),
            data: house.settings.data.display().to_string(),
            document_revision: house.state.document.current()?.revision,
            services: services.collect(),
            requests: sum(&text, "tutti_front_requests_total", ""),
            hits: sum(&text, "tutti_front_requests_total", "cache=\"hit\""),
            renders: sum(&text, "tutti_render_total", ""),
            engines: sum(&text, "tutti_engines", ""),
            more,
        })
    }

    async fn explain_url(&self, url: String) -> Result<Explanation, Problem> {
        let (service, planned) = match routing::plan(&self.house, &url) {
            Ok(planned) => planned,
            Err(problem) => return Ok(refused(url, &problem)),
        };
        let lines = self.house.flow.explain(&planned).await;
        let mut steps: Vec<Step> = Vec::new();
        for (section, name, value) in lines {
            match steps.last_mut() {
                Some(step) if step.stage == section => {
                    step.text.push_str(&format!("; {name}: {value}"));
                    step.values[&name] = value.into();
                }
                _ => steps.push(Step {
                    stage: section.into(),
                    text: format!("{name}: {value}"),
                    values: serde_json::json!({ name: value }),
                }),
            }
        }
        Ok(Explanation { url, service: Some(service), status: None, steps })
    }
}

fn refused(url: String, problem: &Problem) -> Explanation {
    let step = Step { stage: "plan".into(), text: problem.detail.to_string(), values: Default::default() };
    Explanation { url, service: None, status: Some(problem.kind.status()), steps: vec![step] }
}

/// The sum of a metric over its label sets that contain `label`.
fn sum(text: &str, name: &str, label: &str) -> u64 {
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

fn holdings(stats: Stats) -> CacheHoldings {
    CacheHoldings {
        resident: stats.resident,
        resident_bytes: stats.resident_bytes,
        kept: stats.kept,
        kept_bytes: stats.kept_bytes,
        disk_limit_bytes: stats.disk_limit,
        disk_ok: stats.disk_ok,
    }
}

impl Console for HouseConsole {
    fn readiness(&self) -> Readiness {
        match self.word() {
            "ready" => Readiness::Ready,
            word => Readiness::Not(word.into()),
        }
    }
    fn status(&self) -> BoxFuture<'_, Result<Status, Problem>> {
        Box::pin(async { self.status_now() })
    }
    fn cache_stats(&self) -> BoxFuture<'_, Result<CacheStats, Problem>> {
        let caches = &self.house.caches;
        let (results, originals) = (holdings(caches.results.stats()), holdings(caches.originals.stats()));
        Box::pin(async { Ok(CacheStats { results, originals }) })
    }
    fn purge(&self, request: PurgeRequest) -> BoxFuture<'_, Result<PurgeReport, Problem>> {
        Box::pin(purging::purge(&self.house, request))
    }
    fn explain(&self, url: String) -> BoxFuture<'_, Result<Explanation, Problem>> {
        Box::pin(self.explain_url(url))
    }
    fn url(&self, request: UrlRequest) -> BoxFuture<'_, Result<UrlAnswer, Problem>> {
        let first = self.ports.iter().find(|port| port.name == "http").and_then(|port| port.address);
        Box::pin(async move { urls::make(&self.house, first, &request) })
    }
    fn doctor(&self) -> BoxFuture<'_, Result<DoctorReport, Problem>> {
        let house = Arc::clone(&self.house);
        Box::pin(async move {
            let checks = tokio::task::spawn_blocking(move || checks::all(&house)).await;
            checks.map(|checks| DoctorReport { checks }).map_err(|error| {
                Problem::new(tutti_base::Kind::Internal, "the checks did not end").because(error)
            })
        })
    }
    fn ports(&self) -> BoxFuture<'_, Result<PortList, Problem>> {
        let ports = self.ports.clone();
        Box::pin(async { Ok(PortList { ports }) })
    }
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn metrics_are_summed_over_the_label_sets_that_fit() {
        let text = "a_total{cache=\"hit\"} 3\na_total{cache=\"miss\"} 4\na_total_more 9\na_total 1\n";
        assert_eq!(sum(text, "a_total", ""), 8);
        assert_eq!(sum(text, "a_total", "cache=\"hit\""), 3);
    }
}
