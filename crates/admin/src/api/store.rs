//! The users' store: read, write, watch, lease. Its table and quota are `user_store`'s.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;
use tutti_base::{Kind, Problem};
use tutti_store::LeaseId;
use tutti_store::store::PAGE_ENTRIES_MAX;

use super::{Answer, Route, Shared, bad, checked, done, json, read_json, read_json_of};
use crate::config::STORE_BODY_MAX;
use crate::patience::Patience;
use crate::user_store::{GrantCall, PutCall, TxnCall};

const READ: &[(&str, &str)] = &[
    ("key", "One key"),
    ("prefix", "Instead of `key`: all keys that begin with this"),
    ("after", "With `prefix`: only keys after this one"),
    ("limit", "With `prefix`: at most this many, up to 1000"),
    ("linearizable", "`true`: show every write that was acknowledged before, anywhere"),
];
const WATCH: &[(&str, &str)] = &[
    ("prefix", "Only keys that begin with this"),
    ("after", "Only changes after this revision; from now on if absent"),
    ("wait_ms", "How long to wait for the first change; not at all if absent"),
];

/// The routes of this part.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/store", "Keys of the users", "StorePage", read).query(READ),
        Route::post("/api/v1/store/put", "Write a key", "TxnAnswer", put).body("PutCall"),
        Route::post("/api/v1/store/txn", "A conditional transaction", "TxnAnswer", txn).body("TxnCall"),
        Route::get("/api/v1/store/watch", "Changes of the users' keys", "WatchPage", watch).query(WATCH),
        Route::post("/api/v1/store/leases", "A lease for keys", "Lease", grant).body("GrantCall"),
        Route::post("/api/v1/store/leases/{id}", "Keep a lease alive", "Done", keep_alive),
        Route::delete("/api/v1/store/leases/{id}", "End a lease; its keys go with it", "Done", revoke),
    ]
}

#[derive(Deserialize)]
struct ReadCall {
    key: Option<String>,
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    linearizable: bool,
}

async fn read(State(office): Shared, call: Result<Query<ReadCall>, QueryRejection>) -> Answer {
    let call = checked(call)?;
    if call.linearizable {
        office.parts.console.linearize().await?;
    }
    match (call.key, call.prefix) {
        (Some(key), None) => json(&office.users.get(&key).await?),
        (None, Some(prefix)) => {
            let limit = call.limit.unwrap_or(PAGE_ENTRIES_MAX).clamp(1, PAGE_ENTRIES_MAX);
            json(&office.users.list(&prefix, call.after.as_deref(), limit).await?)
        }
        _ => Err(bad("give one of `key` and `prefix`; an empty prefix is every key".into()).into()),
    }
}

async fn put(State(office): Shared, body: Body) -> Answer {
    let call: PutCall = read_json_of(body, STORE_BODY_MAX).await?;
    let answer = office.users.commit(call.txn()?).await?;
    if answer.done {
        return json(&answer);
    }
    let text = match answer.found {
        Some(found) => {
            format!("`{}` was last written at revision {found}, so it is not written now", call.key)
        }
        None => format!("`{}` does not exist, so it is not written", call.key),
    };
    Err(Problem::new(Kind::Conflict, text).about("key").into())
}

async fn txn(State(office): Shared, body: Body) -> Answer {
    let call: TxnCall = read_json_of(body, STORE_BODY_MAX).await?;
    json(&office.users.commit(call.txn()?).await?)
}

#[derive(Deserialize)]
struct WatchCall {
    #[serde(default)]
    prefix: String,
    after: Option<u64>,
    #[serde(default)]
    wait_ms: u64,
}

async fn watch(
    State(office): Shared,
    Extension(patience): Extension<Patience>,
    call: Result<Query<WatchCall>, QueryRejection>,
) -> Answer {
    let WatchCall { prefix, after, wait_ms } = checked(call)?;
    let wait = patience.over(Duration::from_millis(wait_ms));
    json(&office.users.watch(&prefix, after, wait).await?)
}

async fn grant(State(office): Shared, body: Body) -> Answer {
    let GrantCall { ttl_ms } = read_json(body).await?;
    json(&office.users.grant(Duration::from_millis(ttl_ms)).await?)
}

async fn keep_alive(State(office): Shared, id: Result<Path<u64>, PathRejection>) -> Answer {
    office.users.keep_alive(lease(id)?).await?;
    done()
}

async fn revoke(State(office): Shared, id: Result<Path<u64>, PathRejection>) -> Answer {
    office.users.revoke(lease(id)?).await?;
    done()
}

fn lease(id: Result<Path<u64>, PathRejection>) -> Result<LeaseId, Problem> {
    match id {
        Ok(Path(id)) => Ok(LeaseId(id)),
        Err(_) => Err(bad("a lease is named by its number".into())),
    }
}
