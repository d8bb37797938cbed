//! The cluster document and the secrets: shown, changed, compared. Their rules are the store's.

use axum::body::{Body, to_bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tutti_base::{Kind, Problem};
use tutti_store::document::{Edit, Others, Restart, Run, Terms};
use tutti_store::secrets::SECRET_MAX;
use tutti_store::{Secret, Snapshot};

use super::{Answer, BYTES, Route, Shared, checked, done, json, named, read_json, unprintable};
use crate::access::Lane;
use crate::serve::Office;

const GET: &[(&str, &str)] = &[("path", "A dotted path; without it the whole document")];
const DIFF: &[(&str, &str)] =
    &[("from", "A revision; the one before `to` if absent"), ("to", "A revision; the current one if absent")];

/// The routes of this part.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/config", "The cluster document", "Document", config_get).query(GET),
        Route::post("/api/v1/config/set", "Set a key", "Plan", config_set).body("SetCall"),
        Route::post("/api/v1/config/unset", "Remove a key", "Plan", config_unset).body("UnsetCall"),
        Route::post("/api/v1/config/apply", "Apply a file", "Plan", config_apply).body("ApplyCall"),
        Route::post("/api/v1/config/rollback", "Go back", "Plan", config_rollback).body("RollbackCall"),
        Route::get("/api/v1/config/history", "Who changed what", "History", config_history),
        Route::get("/api/v1/config/diff", "Between revisions", "Differences", config_diff).query(DIFF),
        Route::get("/api/v1/secrets", "The names of the secrets", "Secrets", secrets_list),
        Route::put("/api/v1/secrets/{name}", "Set a secret", "Done", secret_set).body(BYTES),
        Route::delete("/api/v1/secrets/{name}", "Remove a secret", "Done", secret_remove),
    ]
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

#[derive(Deserialize)]
struct PathQuery {
    path: Option<String>,
}

async fn config_get(State(office): Shared, query: Result<Query<PathQuery>, QueryRejection>) -> Answer {
    let path = checked(query)?.path;
    let Snapshot { revision, text, table, .. } = office.parts.document.current()?;
    let Some(path) = path else {
        let value = serde_json::to_value(&table).map_err(unprintable)?;
        return json(&DocumentAnswer { revision, text, value });
    };
    let missing = || Problem::new(Kind::NotFound, format!("`{path}` is not set in the cluster document"));
    let value = office.parts.document.get(&path)?.ok_or_else(missing)?;
    let text = match &value {
        toml::Value::Table(table) => toml::to_string_pretty(table).map_err(unprintable)?,
        other => other.to_string(),
    };
    let value = serde_json::to_value(&value).map_err(unprintable)?;
    json(&DocumentAnswer { revision, text, value })
}

async fn config_set(State(office): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let SetCall { path, value, terms } = read_json(body).await?;
    let value = tutti_store::document::parse_value(&value);
    change(&office, &Edit::Set { path, value }, &terms.by(&lane)).await
}

async fn config_unset(State(office): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let UnsetCall { path, terms } = read_json(body).await?;
    change(&office, &Edit::Unset { path }, &terms.by(&lane)).await
}

async fn config_apply(State(office): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let ApplyCall { text, replace, terms } = read_json(body).await?;
    let others = if replace { Others::Delete } else { Others::Keep };
    change(&office, &Edit::Apply { text, others }, &terms.by(&lane)).await
}

async fn config_rollback(State(office): Shared, Extension(lane): Extension<Lane>, body: Body) -> Answer {
    let RollbackCall { to, terms } = read_json(body).await?;
    change(&office, &Edit::Rollback { to }, &terms.by(&lane)).await
}

/// A change goes on when its caller goes away: half of it is never made, and all of it is in the history.
async fn change(office: &Office, edit: &Edit, terms: &Terms) -> Answer {
    let plan = office.parts.document.change(edit, terms).await?;
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

async fn config_history(State(office): Shared) -> Answer {
    json(&office.parts.document.history()?)
}

#[derive(Deserialize)]
struct DiffQuery {
    from: Option<u64>,
    to: Option<u64>,
}

async fn config_diff(State(office): Shared, query: Result<Query<DiffQuery>, QueryRejection>) -> Answer {
    let DiffQuery { from, to } = checked(query)?;
    json(&office.parts.document.diff(from, to)?)
}

async fn secrets_list(State(office): Shared) -> Answer {
    let mut secrets = office.parts.secrets.list()?;
    secrets.retain(|secret| !is_reserved(&secret.name));
    json(&secrets)
}

async fn secret_set(
    State(office): Shared,
    Extension(lane): Extension<Lane>,
    name: Result<Path<String>, PathRejection>,
    body: Body,
) -> Answer {
    let name = unreserved(named(name)?)?;
    let bytes = to_bytes(body, SECRET_MAX).await.map_err(|_| {
        Problem::new(Kind::BadRequest, format!("a secret has at most {SECRET_MAX} bytes")).about("body")
    })?;
    let value = Secret::new(bytes.into());
    office.parts.secrets.set(&name, &value).await?;
    tracing::info!(name, who = lane.who(), "secret set");
    done()
}

async fn secret_remove(
    State(office): Shared,
    Extension(lane): Extension<Lane>,
    name: Result<Path<String>, PathRejection>,
) -> Answer {
    let name = unreserved(named(name)?)?;
    office.parts.secrets.remove(&name).await?;
    tracing::info!(name, who = lane.who(), "secret removed");
    done()
}

/// Whether a secret is the cluster's own: neither shown nor touched by people.
fn is_reserved(name: &str) -> bool {
    name.starts_with("cluster.")
}

fn unreserved(name: String) -> Result<String, Problem> {
    if is_reserved(&name) {
        let text =
            format!("`{name}` is the cluster's own; choose a name that does not begin with `cluster.`");
        return Err(Problem::new(Kind::Forbidden, text).about("name"));
    }
    Ok(name)
}
