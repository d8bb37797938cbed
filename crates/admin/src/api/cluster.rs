//! The cluster's nodes: tokens, orders, promotion, the journal. Checks what is asked; the console does it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;

use super::{Answer, Route, Shared, bad, checked, done, json, named, read_json};
use crate::access::Lane;
use crate::console::{EVENTS_MAX, EventQuery, NodeAction, NodeOrder, PromoteCall, TokenCall};
use crate::patience::Patience;

const EVENTS: &[(&str, &str)] = &[
    ("after", "The cursor of the answer before; without it the newest events"),
    ("limit", "At most this many; 100 if absent"),
    ("wait_ms", "How long to wait where there is nothing new; not at all if absent"),
];
/// Events of an answer unless said otherwise.
const EVENTS_LIMIT: usize = 100;

/// The routes of this part.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/api/v1/tokens", "Make a token for one more machine", "NewToken", token_create)
            .body("TokenCall"),
        Route::get("/api/v1/tokens", "The tokens", "Tokens", tokens),
        Route::delete("/api/v1/tokens/{id}", "Revoke a token", "Done", token_revoke),
        Route::post("/api/v1/nodes/{name}", "Drain, resume, remove, change roles", "NodeDone", node)
            .body("NodeAction"),
        Route::post("/api/v1/promote", "Make a node the one voter", "Promoted", promote).body("PromoteCall"),
        Route::get("/api/v1/events", "The journal", "EventPage", events).query(EVENTS),
    ]
}

async fn token_create(State(office): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let call: TokenCall = read_json(body).await?;
    let terms = call.terms(lane.who()).map_err(bad)?;
    let token = office.parts.console.token_create(terms).await?;
    tracing::info!(id = token.id, who = lane.who(), "token made");
    json(&token)
}

async fn tokens(State(office): Shared) -> Answer {
    json(&office.parts.console.tokens().await?)
}

async fn token_revoke(
    State(office): Shared,
    Extension(lane): Extension<Lane>,
    id: Result<Path<String>, PathRejection>,
) -> Answer {
    let id = named(id)?;
    office.parts.console.token_revoke(id.clone()).await?;
    tracing::info!(id, who = lane.who(), "token revoked");
    done()
}

async fn node(
    State(office): Shared,
    Extension(lane): Extension<Lane>,
    name: Result<Path<String>, PathRejection>,
    body: Body,
) -> Answer {
    let name = named(name)?;
    let action: NodeAction = read_json(body).await?;
    action.validate().map_err(bad)?;
    tracing::info!(name, ?action, who = lane.who(), "order to a node");
    json(&office.parts.console.node(NodeOrder { name, action, who: lane.who() }).await?)
}

async fn promote(State(office): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let PromoteCall { name, confirm } = read_json(body).await?;
    if name.is_empty() || name != confirm {
        let text = format!(
            "promotion is not confirmed: the name is `{name}`, typed once more it is `{confirm}`; \
             both must be the name of the node that becomes the one voter"
        );
        return Err(bad(text).into());
    }
    tracing::warn!(name, who = lane.who(), "promotion");
    json(&office.parts.console.promote(name, lane.who()).await?)
}

#[derive(Deserialize)]
struct EventsCall {
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

async fn events(
    State(office): Shared,
    Extension(patience): Extension<Patience>,
    call: Result<Query<EventsCall>, QueryRejection>,
) -> Answer {
    let EventsCall { after, limit, wait_ms } = checked(call)?;
    let limit = limit.unwrap_or(EVENTS_LIMIT).clamp(1, EVENTS_MAX);
    let wait = patience.most(Duration::from_millis(wait_ms));
    let console = &office.parts.console;
    let query = EventQuery { after, limit, wait };
    let at_once = EventQuery { wait: Duration::ZERO, ..query.clone() };
    match patience.unless_closing(console.events(query)).await {
        Some(page) => json(&page?),
        None => json(&console.events(at_once).await?),
    }
}
