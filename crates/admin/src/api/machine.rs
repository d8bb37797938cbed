//! What concerns one machine and what it shows of the cluster: health, metrics, status, caches, explanations.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tutti_base::{Kind, Problem};

use super::{Answer, Route, Shared, checked, json, read_json};
use crate::access::Lane;
use crate::console::{Choice, EventQuery, PurgeRequest, Readiness, Status};
use crate::serve::Parts;
use crate::{openapi, page};

const EXPLAIN: &[(&str, &str)] = &[("url", "The URL or path to explain")];
/// The metric that counts where work went.
const CHOICES: &str = "tutti_dispatch_choices_total";

/// The routes of this part.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/", "A page for people", "", index),
        Route::get("/healthz", "Whether the process answers", "", healthz),
        Route::get("/readyz", "Whether requests are taken", "", readyz),
        Route::get("/metrics", "OpenMetrics text", "", metrics),
        Route::get("/api/v1/openapi.json", "This description", "Any", describe),
        Route::get("/api/v1/status", "How the server and its cluster are", "Status", status),
        Route::get("/api/v1/cache", "What the caches hold", "CacheStats", cache_stats),
        Route::post("/api/v1/cache/purge", "Forget", "PurgeReport", cache_purge).body("PurgeRequest"),
        Route::get("/api/v1/explain", "What a URL would do", "Explanation", explain).query(EXPLAIN),
        Route::post("/api/v1/url", "An image URL", "UrlAnswer", url).body("UrlRequest"),
        Route::get("/api/v1/doctor", "Check this machine", "DoctorReport", doctor),
        Route::get("/api/v1/ports", "What listens where", "PortList", ports),
    ]
}

async fn index(State(office): Shared) -> Answer {
    let console = &office.parts.console;
    let mut status = console.status().await?;
    fill_in(&mut status, &office.parts);
    let caches = console.cache_stats().await?;
    let query = EventQuery { after: None, limit: page::EVENTS_SHOWN, wait: Duration::ZERO };
    let events = console.events(query).await.map(|page| page.events).unwrap_or_default();
    let mut response = page::status(&status, &caches, &events).into_response();
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    Ok(response)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(office): Shared) -> Answer {
    match office.parts.console.readiness() {
        Readiness::Ready => Ok("ready\n".into_response()),
        Readiness::Not(why) => Err(Problem::new(Kind::Unavailable, why).into()),
    }
}

async fn metrics(State(office): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], office.parts.metrics.text()).into_response()
}

async fn describe() -> Response {
    Json(openapi::description()).into_response()
}

async fn status(State(office): Shared, Extension(lane): Extension<Lane>) -> Answer {
    let mut status = office.parts.console.status().await?;
    fill_in(&mut status, &office.parts);
    if !matches!(lane, Lane::Socket { .. }) {
        status.nodes.iter_mut().for_each(|node| node.addresses.clear());
    }
    json(&status)
}

/// What the administration knows by itself.
fn fill_in(status: &mut Status, parts: &Parts) {
    if status.choices.is_empty() {
        status.choices = counted_choices(&parts.metrics.text());
    }
}

/// Where work went and why, as the metrics count it; the most first.
fn counted_choices(text: &str) -> Vec<Choice> {
    let mut found: Vec<Choice> = text
        .lines()
        .filter_map(|line| {
            let (labels, count) = line.strip_prefix(CHOICES)?.strip_prefix('{')?.rsplit_once("} ")?;
            let value = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let count = count.parse::<f64>().ok()? as u64;
            Some(Choice { node: value("node")?, reason: value("reason").unwrap_or_default(), count })
        })
        .collect();
    found.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.node.cmp(&other.node)));
    found
}

async fn cache_stats(State(office): Shared) -> Answer {
    json(&office.parts.console.cache_stats().await?)
}

async fn cache_purge(State(office): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let request: PurgeRequest = read_json(body).await?;
    let empty = match &request {
        PurgeRequest::Url(text) | PurgeRequest::Source(text) | PurgeRequest::Tag(text) => text.is_empty(),
        PurgeRequest::All(all) => !*all,
    };
    if empty {
        let text = "name what to purge: one of url, source or tag with a text, or all with true";
        return Err(Problem::new(Kind::BadRequest, text).into());
    }
    tracing::info!(?request, who = lane.who(), "purge");
    json(&office.parts.console.purge(request).await?)
}

#[derive(Deserialize)]
struct UrlQuery {
    url: String,
}

async fn url(State(office): Shared, body: Body) -> Answer {
    json(&office.parts.console.url(read_json(body).await?).await?)
}

async fn explain(State(office): Shared, query: Result<Query<UrlQuery>, QueryRejection>) -> Answer {
    json(&office.parts.console.explain(checked(query)?.url).await?)
}

async fn doctor(State(office): Shared) -> Answer {
    json(&office.parts.console.doctor().await?)
}

async fn ports(State(office): Shared) -> Answer {
    json(&office.parts.console.ports().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_from_the_metrics() {
        let text = "tutti_dispatch_choices_total{node=\"b\",reason=\"only\"} 3\n\
                    tutti_dispatch_choices_total{reason=\"predicted\",node=\"a\"} 4\n\
                    tutti_dispatch_choices_total_more{node=\"x\"} 9\ntutti_other 1\n";
        let choice =
            |node: &str, reason: &str, count| Choice { node: node.into(), reason: reason.into(), count };
        assert_eq!(counted_choices(text), [choice("a", "predicted", 4), choice("b", "only", 3)]);
    }
}
