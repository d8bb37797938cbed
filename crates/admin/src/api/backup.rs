//! Backup and restore of the cluster's small state: streams between the console and a file. Looks into neither.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;

use super::{Answer, BYTES, Route, Shared, json};
use crate::access::Lane;
use crate::streams;

/// The longest backup that is restored, in bytes.
pub(crate) const RESTORE_BYTES_MAX: u64 = 1 << 30;

/// The routes of this part.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/backup", "The cluster's small state, without secrets", "", backup),
        Route::post("/api/v1/restore", "Make a backup the state", "RestoreDone", restore).body(BYTES),
    ]
}

async fn backup(State(office): Shared, Extension(lane): Extension<Lane>) -> Answer {
    tracing::info!(who = lane.who(), "backup");
    let body = office.parts.console.backup().await?;
    let fields = [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "no-store")];
    Ok((fields, streams::leaving(body)).into_response())
}

async fn restore(
    State(office): Shared,
    Extension(lane): Extension<Lane>,
    fields: HeaderMap,
    body: Body,
) -> Answer {
    tracing::warn!(who = lane.who(), "restore");
    let (body, _) = streams::arriving(body, streams::announced(&fields), RESTORE_BYTES_MAX);
    json(&office.parts.console.restore(body, lane.who()).await?)
}
