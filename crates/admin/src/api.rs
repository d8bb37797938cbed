//! Every route of the administration in one table, from which the router and the OpenAPI description are made.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tutti_base::{Kind, Problem};
use tutti_store::document::{Edit, Others, Restart, Run, Terms};
use tutti_store::secrets::SECRET_MAX;
use tutti_store::{Secret, Snapshot};

use crate::access::Lane;
use crate::config::BODY_MAX;
use crate::console::{PurgeRequest, Readiness};
use crate::problem::Refusal;
use crate::serve::Parts;
use crate::{openapi, page};

/// What handlers share.
pub(crate) type Shared = State<Arc<Parts>>;
type Answer = Result<Response, Refusal>;

/// One route with one method.
pub(crate) struct Route {
    /// In upper case.
    pub(crate) method: &'static str,
    /// As axum and OpenAPI both write it.
    pub(crate) path: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// The query's parameters: name and meaning.
    pub(crate) query: &'static [(&'static str, &'static str)],
    /// The schema of the JSON body, if there is one; `bytes` for a raw body.
    pub(crate) body: Option<&'static str>,
    /// The schema of the answer; empty for one that is not JSON.
    pub(crate) answer: &'static str,
    handler: MethodRouter<Arc<Parts>>,
}

const CONFIG_GET: &[(&str, &str)] = &[("path", "A dotted path; without it the whole document")];
const DIFF: &[(&str, &str)] =
    &[("from", "A revision; the one before `to` if absent"), ("to", "A revision; the current one if absent")];
const EXPLAIN: &[(&str, &str)] = &[("url", "The URL or path to explain")];

/// All routes.
pub(crate) fn routes() -> Vec<Route> {
    let mut all = Vec::new();
    let mut add = |method, path, summary, query, body, answer, handler| {
        all.push(Route { method, path, summary, query, body, answer, handler });
    };
    add("GET", "/", "A page for people", &[], None, "", get(index));
    add("GET", "/healthz", "Whether the process answers", &[], None, "", get(healthz));
    add("GET", "/readyz", "Whether requests are taken", &[], None, "", get(readyz));
    add("GET", "/metrics", "OpenMetrics text", &[], None, "", get(metrics));
    add("GET", "/api/v1/openapi.json", "This description", &[], None, "Any", get(describe));
    add("GET", "/api/v1/status", "How the server is", &[], None, "Status", get(status));
    add("GET", "/api/v1/config", "The cluster document", CONFIG_GET, None, "Document", get(config_get));
    add("POST", "/api/v1/config/set", "Set a key", &[], Some("SetCall"), "Plan", post(config_set));
    add("POST", "/api/v1/config/unset", "Remove a key", &[], Some("UnsetCall"), "Plan", post(config_unset));
    add("POST", "/api/v1/config/apply", "Apply a file", &[], Some("ApplyCall"), "Plan", post(config_apply));
    add(
        "POST",
        "/api/v1/config/rollback",
        "Go back",
        &[],
        Some("RollbackCall"),
        "Plan",
        post(config_rollback),
    );
    add("GET", "/api/v1/config/history", "Who changed what", &[], None, "History", get(config_history));
    add("GET", "/api/v1/config/diff", "Between revisions", DIFF, None, "Differences", get(config_diff));
    add("GET", "/api/v1/secrets", "The names of the secrets", &[], None, "Secrets", get(secrets_list));
    add("PUT", "/api/v1/secrets/{name}", "Set a secret", &[], Some("bytes"), "Done", put(secret_set));
    add("DELETE", "/api/v1/secrets/{name}", "Remove a secret", &[], None, "Done", delete(secret_remove));
    add("GET", "/api/v1/cache", "What the caches hold", &[], None, "CacheStats", get(cache_stats));
    let purge = post(cache_purge);
    add("POST", "/api/v1/cache/purge", "Forget", &[], Some("PurgeRequest"), "PurgeReport", purge);
    add("GET", "/api/v1/explain", "What a URL would do", EXPLAIN, None, "Explanation", get(explain));
    add("POST", "/api/v1/url", "An image URL", &[], Some("UrlRequest"), "UrlAnswer", post(url));
    add("GET", "/api/v1/doctor", "Check this machine", &[], None, "DoctorReport", get(doctor));
    add("GET", "/api/v1/ports", "What listens where", &[], None, "PortList", get(ports));
    all
}

/// The router of all routes, with problems for everything else.
pub(crate) fn router(parts: Arc<Parts>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        router = router.route(route.path, route.handler);
    }
    router.fallback(unknown).method_not_allowed_fallback(wrong_method).with_state(parts)
}

/// Terms of a change, as a call carries them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CallTerms {
    /// Why; for the history.
    pub why: String,
    /// Only if the document has this revision.
    pub if_revision: Option<u64>,
    /// Plan only.
    pub dry_run: bool,
    /// Keep it even if it holds from the next start only.
    pub accept_restart: bool,
}

impl CallTerms {
    fn by(self, lane: &Lane) -> Terms {
        Terms {
            who: lane.who(),
            why: self.why,
            if_revision: self.if_revision,
            run: if self.dry_run { Run::Dry } else { Run::Real },
            restart: if self.accept_restart { Restart::Accept } else { Restart::Refuse },
        }
    }
}

/// Sets a key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SetCall {
    /// Dotted.
    pub path: String,
    /// As a person types it: TOML if it is TOML, otherwise text.
    pub value: String,
    /// The terms.
    #[serde(flatten)]
    pub terms: CallTerms,
}

/// Removes a key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UnsetCall {
    /// Dotted.
    pub path: String,
    /// The terms.
    #[serde(flatten)]
    pub terms: CallTerms,
}

/// Applies a file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ApplyCall {
    /// The file's text.
    pub text: String,
    /// Delete keys that the file does not have.
    #[serde(default)]
    pub replace: bool,
    /// The terms.
    #[serde(flatten)]
    pub terms: CallTerms,
}

/// Goes back to a document of the history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RollbackCall {
    /// Its revision.
    pub to: u64,
    /// The terms.
    #[serde(flatten)]
    pub terms: CallTerms,
}

/// The cluster document, or one value of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DocumentAnswer {
    /// Its revision.
    pub revision: u64,
    /// As TOML.
    pub text: String,
    /// As JSON.
    pub value: Value,
}

async fn index(State(parts): Shared) -> Answer {
    let status = parts.console.status().await?;
    let caches = parts.console.cache_stats().await?;
    let mut response = page::status(&status, &caches).into_response();
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    fields.insert("content-security-policy", HeaderValue::from_static(policy));
    Ok(response)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(parts): Shared) -> Answer {
    match parts.console.readiness() {
        Readiness::Ready => Ok("ready\n".into_response()),
        Readiness::Not(why) => Err(Problem::new(Kind::Unavailable, why).into()),
    }
}

async fn metrics(State(parts): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], parts.metrics.text()).into_response()
}

async fn describe() -> Response {
    Json(openapi::description()).into_response()
}

async fn status(State(parts): Shared) -> Answer {
    json(&parts.console.status().await?)
}

#[derive(Deserialize)]
struct PathQuery {
    path: Option<String>,
}

async fn config_get(State(parts): Shared, query: Result<Query<PathQuery>, QueryRejection>) -> Answer {
    let path = checked(query)?.path;
    let Snapshot { revision, text, table, .. } = parts.document.current()?;
    let Some(path) = path else {
        let value = serde_json::to_value(&table).map_err(unprintable)?;
        return json(&DocumentAnswer { revision, text, value });
    };
    let missing = || Problem::new(Kind::NotFound, format!("`{path}` is not set in the cluster document"));
    let value = parts.document.get(&path)?.ok_or_else(missing)?;
    let text = match &value {
        toml::Value::Table(table) => toml::to_string_pretty(table).map_err(unprintable)?,
        other => other.to_string(),
    };
    let value = serde_json::to_value(&value).map_err(unprintable)?;
    json(&DocumentAnswer { revision, text, value })
}

fn unprintable(error: impl ToString) -> Problem {
    Problem::new(Kind::Internal, "the document cannot be written out").because(error)
}

async fn config_set(State(parts): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let SetCall { path, value, terms } = read_json(body).await?;
    let value = tutti_store::document::parse_value(&value);
    change(&parts, &Edit::Set { path, value }, &terms.by(&lane)).await
}

async fn config_unset(State(parts): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let UnsetCall { path, terms } = read_json(body).await?;
    change(&parts, &Edit::Unset { path }, &terms.by(&lane)).await
}

async fn config_apply(State(parts): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let ApplyCall { text, replace, terms } = read_json(body).await?;
    let others = if replace { Others::Delete } else { Others::Keep };
    change(&parts, &Edit::Apply { text, others }, &terms.by(&lane)).await
}

async fn config_rollback(State(parts): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let RollbackCall { to, terms } = read_json(body).await?;
    change(&parts, &Edit::Rollback { to }, &terms.by(&lane)).await
}

/// A change goes on when its caller goes away: half of it is never made, and all of it is in the history.
async fn change(parts: &Parts, edit: &Edit, terms: &Terms) -> Answer {
    let plan = parts.document.change(edit, terms).await?;
    if plan.applied {
        tracing::info!(
            revision = plan.revision,
            who = terms.who,
            keys = plan.changes.len(),
            "document changed"
        );
    }
    json(&plan)
}

async fn config_history(State(parts): Shared) -> Answer {
    json(&parts.document.history()?)
}

#[derive(Deserialize)]
struct DiffQuery {
    from: Option<u64>,
    to: Option<u64>,
}

async fn config_diff(State(parts): Shared, query: Result<Query<DiffQuery>, QueryRejection>) -> Answer {
    let DiffQuery { from, to } = checked(query)?;
    json(&parts.document.diff(from, to)?)
}

async fn secrets_list(State(parts): Shared) -> Answer {
    json(&parts.secrets.list()?)
}

async fn secret_set(
    State(parts): Shared,
    Extension(lane): Extension<Lane>,
    name: Result<Path<String>, PathRejection>,
    body: Body,
) -> Answer {
    let Path(name) = named(name)?;
    let bytes = to_bytes(body, SECRET_MAX).await.map_err(|_| {
        Problem::new(Kind::BadRequest, format!("a secret has at most {SECRET_MAX} bytes")).about("body")
    })?;
    let value = Secret::new(bytes.into());
    parts.secrets.set(&name, &value).await?;
    tracing::info!(name, who = lane.who(), "secret set");
    json(&json!({ "done": true }))
}

async fn secret_remove(
    State(parts): Shared,
    Extension(lane): Extension<Lane>,
    name: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(name) = named(name)?;
    parts.secrets.remove(&name).await?;
    tracing::info!(name, who = lane.who(), "secret removed");
    json(&json!({ "done": true }))
}

fn named(name: Result<Path<String>, PathRejection>) -> Result<Path<String>, Problem> {
    name.map_err(|_| Problem::new(Kind::BadRequest, "the name in the path is not UTF-8"))
}

async fn cache_stats(State(parts): Shared) -> Answer {
    json(&parts.console.cache_stats().await?)
}

async fn cache_purge(State(parts): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
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
    json(&parts.console.purge(request).await?)
}

#[derive(Deserialize)]
struct UrlQuery {
    url: String,
}

async fn url(State(parts): Shared, body: Body) -> Answer {
    json(&parts.console.url(read_json(body).await?).await?)
}

async fn explain(State(parts): Shared, query: Result<Query<UrlQuery>, QueryRejection>) -> Answer {
    json(&parts.console.explain(checked(query)?.url).await?)
}

async fn doctor(State(parts): Shared) -> Answer {
    json(&parts.console.doctor().await?)
}

async fn ports(State(parts): Shared) -> Answer {
    json(&parts.console.ports().await?)
}

async fn unknown(uri: axum::http::Uri) -> Refusal {
    let shown: String = uri.path().chars().take(200).collect();
    let text = format!("there is no `{shown}` here; /api/v1/openapi.json lists what there is");
    Problem::new(Kind::NotFound, text).into()
}

async fn wrong_method(method: axum::http::Method) -> Refusal {
    Problem::new(Kind::MethodNotAllowed, format!("this resource has no method {method}")).into()
}

fn checked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Problem::new(Kind::BadRequest, rejection.body_text()).about("query")),
    }
}

async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let over = |_| Problem::new(Kind::BadRequest, format!("the body broke off, or is over {BODY_MAX} bytes"));
    let bytes = to_bytes(body, BODY_MAX).await.map_err(over)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Problem::new(Kind::BadRequest, format!("the body is not what this call takes: {error}")).about("body")
    })
}

fn json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(unprintable)?;
    let fields = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, fields, text).into_response())
}
