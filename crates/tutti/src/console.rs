//! What the administration sees of the house, and how a changed document reaches it.

mod abroad;
mod assets;
mod checks;
mod follow;
mod governing;
mod members;
mod purging;
mod routing;
mod urls;
mod watching;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tutti_admin::console::{
    AssetDone, AssetName, AssetPage, AssetQuery, CacheHoldings, CacheStats, Candidate, DoctorReport,
    EventPage, EventQuery, Explanation, NewToken, NodeDone, NodeOrder, Port, PortList, Promoted, PurgeReport,
    PurgeRequest, RestoreDone, ServiceStatus, Status, Step, TokenInfo, TokenTerms, UrlAnswer, UrlRequest,
};
use tutti_admin::{Console, Listeners, Readiness};
use tutti_base::{Body, BoxFuture, Problem, Tick, Wall};
use tutti_cache::Stats;
use tutti_flow::Assets;

use crate::build::House;

pub(crate) use abroad::answer_abroad;
pub(crate) use follow::follow_document;
pub(crate) use governing::note_members;
pub(crate) use watching::{count_answers, follow_view, keep_doors};

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// The house, as its administration sees it.
pub(crate) struct HouseConsole {
    house: Arc<House>,
    assets: Assets,
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
        for address in house.member.links.addresses() {
            ports.push(port(
                "node",
                Some(*address),
                "other nodes: TCP with mutual TLS, and UDP of the same number",
            ));
        }
        let mut socket = port("admin", None, "the command line: everything");
        socket.path = Some(admin.socket_path().display().to_string());
        ports.push(socket);
        Self {
            started: house.clock.wall(),
            started_tick: house.clock.now(),
            house: Arc::clone(house),
            assets: Assets::new(Arc::clone(&house.flow), &house.metrics),
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
        let cluster = members::cluster(house);
        Ok(Status {
            nodes: cluster.nodes,
            leader: cluster.leader,
            topology: cluster.topology,
            quorum: cluster.quorum,
            cluster_address: cluster.cluster_address,
            alerts: cluster.alerts,
            choices: cluster.choices,
            revision: house.state.store.revision().0,
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
            engines: sum(&text, "tutti_engine_engines", ""),
            more,
        })
    }

    async fn explain_url(&self, url: String) -> Result<Explanation, Problem> {
        let (service, planned) = match routing::plan(&self.house, &url) {
            Ok(planned) => planned,
            Err(problem) => return Ok(refused(url, &problem)),
        };
        let lines = self.house.flow.explain(&planned).await;
        let choice = self.house.flow.choice(&planned);
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
        steps.extend(choice.map(chosen));
        Ok(Explanation { url, service: Some(service), status: None, steps })
    }
}

/// The choice of a node, with every term by the name that people know it by.
fn chosen(choice: tutti_flow::explain::Choice) -> Step {
    let is_chosen = |name: &String| choice.chosen.as_ref() == Some(name);
    let candidate = |(name, seen, standing): &(String, tutti_dispatch::Considered, &'static str)| {
        let terms = &seen.terms;
        let heuristics = terms.heuristics_ms.max(f64::MIN_POSITIVE);
        Candidate {
            node: name.clone(),
            availability_ms: terms.wait_ms + terms.failures_ms,
            heuristics_ms: terms.heuristics_ms,
            history_ratio: (terms.heuristics_ms + terms.history_ms) / heuristics,
            congestion_ms: terms.network_ms,
            original_ms: terms.original_ms,
            total_ms: seen.total_ms,
            chosen: is_chosen(name),
            why: if is_chosen(name) { choice.reason.into() } else { (*standing).into() },
        }
    };
    let candidates: Vec<Candidate> = choice.nodes.iter().map(candidate).collect();
    let text = match &choice.chosen {
        Some(node) => format!("policy {}: `{node}`, because {}", choice.policy, choice.reason),
        None => format!("policy {}: it would wait for a node ({})", choice.policy, choice.reason),
    };
    let values = serde_json::json!({ "policy": choice.policy, "candidates": candidates });
    Step { stage: "choose".into(), text, values }
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
    fn token_create(&self, terms: TokenTerms) -> BoxFuture<'_, Result<NewToken, Problem>> {
        Box::pin(governing::token_create(&self.house.member, terms))
    }
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenInfo>, Problem>> {
        Box::pin(async { governing::tokens(&self.house) })
    }
    fn token_revoke(&self, id: String) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(governing::token_revoke(&self.house.member, id))
    }
    fn node(&self, order: NodeOrder) -> BoxFuture<'_, Result<NodeDone, Problem>> {
        Box::pin(governing::node(&self.house.member, order))
    }
    fn promote(&self, name: String, who: String) -> BoxFuture<'_, Result<Promoted, Problem>> {
        Box::pin(abroad::promote(&self.house, name, who))
    }
    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<EventPage, Problem>> {
        Box::pin(abroad::events(&self.house, query))
    }
    fn assets(&self, query: AssetQuery) -> BoxFuture<'_, Result<AssetPage, Problem>> {
        Box::pin(assets::list(&self.assets, query))
    }
    fn asset_bytes_max(&self) -> u64 {
        self.assets.bytes_max()
    }
    fn asset_put(&self, name: AssetName, body: Body) -> BoxFuture<'_, Result<AssetDone, Problem>> {
        Box::pin(assets::put(&self.assets, name, body))
    }
    fn asset_remove(&self, name: AssetName) -> BoxFuture<'_, Result<AssetDone, Problem>> {
        Box::pin(assets::remove(&self.assets, name))
    }
    fn linearize(&self) -> BoxFuture<'_, Result<tutti_store::Revision, Problem>> {
        Box::pin(governing::linearize(&self.house.member))
    }
    fn backup(&self) -> BoxFuture<'_, Result<tutti_base::Body, Problem>> {
        Box::pin(governing::backup(&self.house.member))
    }
    fn restore(&self, body: tutti_base::Body, who: String) -> BoxFuture<'_, Result<RestoreDone, Problem>> {
        Box::pin(governing::restore(&self.house.member, body, who))
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
