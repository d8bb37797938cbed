//! Every route of the administration, in tables by part, from which the router and the OpenAPI description are made.

mod assets;
mod backup;
mod cluster;
mod document;
mod machine;
mod store;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::handler::Handler;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tutti_base::{Kind, Problem};

use crate::config::BODY_MAX;
use crate::problem::Refusal;
use crate::serve::Office;

pub(crate) use assets::ASSETS_PAGE_MAX;
pub(crate) use backup::RESTORE_BYTES_MAX;

pub use document::{ApplyCall, CallTerms, DocumentAnswer, RollbackCall, SetCall, UnsetCall};

/// What handlers share.
pub(crate) type Shared = State<Arc<Office>>;
type Answer = Result<Response, Refusal>;

/// One route with one method.
pub(crate) struct Route {
    /// In upper case.
    pub(crate) method: &'static str,
    /// As axum writes it.
    pub(crate) path: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// The query's parameters: name and meaning.
    pub(crate) query: &'static [(&'static str, &'static str)],
    /// The schema of the JSON body, if there is one; [`BYTES`] for a raw body.
    pub(crate) body: Option<&'static str>,
    /// The schema of the answer; empty for one that is not JSON.
    pub(crate) answer: &'static str,
    handler: MethodRouter<Arc<Office>>,
}

/// The name of a body that is not JSON.
pub(crate) const BYTES: &str = "bytes";

impl Route {
    fn get<H, T>(path: &'static str, summary: &'static str, answer: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Office>>,
        T: 'static,
    {
        let handler = routing::get(handler);
        Self { method: "GET", path, summary, query: &[], body: None, answer, handler }
    }
    fn post<H, T>(path: &'static str, summary: &'static str, answer: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Office>>,
        T: 'static,
    {
        let handler = routing::post(handler);
        Self { method: "POST", path, summary, query: &[], body: None, answer, handler }
    }
    fn put<H, T>(path: &'static str, summary: &'static str, answer: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Office>>,
        T: 'static,
    {
        let handler = routing::put(handler);
        Self { method: "PUT", path, summary, query: &[], body: Some(BYTES), answer, handler }
    }
    fn delete<H, T>(path: &'static str, summary: &'static str, answer: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Office>>,
        T: 'static,
    {
        let handler = routing::delete(handler);
        Self { method: "DELETE", path, summary, query: &[], body: None, answer, handler }
    }
    fn query(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Self { query, ..self }
    }
    fn body(self, body: &'static str) -> Self {
        Self { body: Some(body), ..self }
    }
    /// The path as OpenAPI writes it.
    pub(crate) fn template(&self) -> String {
        self.path.replace("{*", "{")
    }
}

/// All routes.
pub(crate) fn routes() -> Vec<Route> {
    let parts = [
        machine::routes(),
        document::routes(),
        cluster::routes(),
        assets::routes(),
        store::routes(),
        backup::routes(),
    ];
    parts.into_iter().flatten().collect()
}

/// The router of all routes, with problems for everything else.
pub(crate) fn router(office: Arc<Office>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        router = router.route(route.path, route.handler);
    }
    router.fallback(unknown).method_not_allowed_fallback(wrong_method).with_state(office)
}

fn unprintable(error: impl ToString) -> Problem {
    Problem::new(Kind::Internal, "the answer cannot be written out").because(error)
}

fn bad(text: String) -> Problem {
    Problem::new(Kind::BadRequest, text)
}

fn named<T>(name: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    let Path(name) = name.map_err(|_| bad("the name in the path is not UTF-8".into()))?;
    Ok(name)
}

async fn unknown(uri: Uri) -> Refusal {
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
    read_json_of(body, BODY_MAX).await
}

async fn read_json_of<T: DeserializeOwned>(body: Body, most: usize) -> Result<T, Problem> {
    let over = |_| bad(format!("the body broke off, or is over {most} bytes"));
    let bytes = to_bytes(body, most).await.map_err(over)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Problem::new(Kind::BadRequest, format!("the body is not what this call takes: {error}")).about("body")
    })
}

fn json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(unprintable)?;
    let fields = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, fields, text).into_response())
}

fn done() -> Answer {
    json(&serde_json::json!({ "done": true }))
}
