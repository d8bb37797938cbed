//! Originals in named folders: listed, written, removed, from any node. Bodies pass through and are never held whole.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use tutti_base::{Kind, Problem};

use super::{Answer, Route, Shared, bad, checked, json, named};
use crate::access::Lane;
use crate::console::{AssetName, AssetQuery, UNNAMED_FOLDER, check_folder};
use crate::streams;

/// The most originals of one page.
pub(crate) const ASSETS_PAGE_MAX: usize = 1000;
const LIST: &[(&str, &str)] = &[
    ("folder", "The folder's name; the unnamed one if absent"),
    ("prefix", "Only paths that begin with this"),
    ("after", "Only paths after this one: the last of the page before"),
    ("limit", "At most this many, up to 1000"),
];

/// The routes of this part.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/assets", "Originals of a folder", "AssetPage", list).query(LIST),
        Route::put(
            "/api/v1/assets/{folder}/{*path}",
            "Write an original; `-` is the unnamed folder",
            "AssetDone",
            put,
        ),
        Route::delete(
            "/api/v1/assets/{folder}/{*path}",
            "Remove an original; `-` is the unnamed folder",
            "AssetDone",
            remove,
        ),
    ]
}

#[derive(Deserialize)]
#[serde(default)]
struct ListCall {
    folder: String,
    prefix: String,
    after: String,
    limit: usize,
}

impl Default for ListCall {
    fn default() -> Self {
        let none = String::new;
        Self { folder: none(), prefix: none(), after: none(), limit: ASSETS_PAGE_MAX }
    }
}

async fn list(State(office): Shared, call: Result<Query<ListCall>, QueryRejection>) -> Answer {
    let ListCall { folder, prefix, after, limit } = checked(call)?;
    check_folder(&folder).map_err(bad)?;
    let limit = limit.clamp(1, ASSETS_PAGE_MAX);
    json(&office.parts.console.assets(AssetQuery { folder, prefix, after, limit }).await?)
}

type Named = Result<Path<(String, String)>, PathRejection>;

fn asset(name: Named) -> Result<AssetName, Problem> {
    let (folder, path) = named(name)?;
    let folder = if folder == UNNAMED_FOLDER { String::new() } else { folder };
    let name = AssetName { folder, path };
    name.validate().map(|()| name).map_err(bad)
}

async fn put(
    State(office): Shared,
    Extension(lane): Extension<Lane>,
    name: Named,
    fields: HeaderMap,
    body: Body,
) -> Answer {
    let name = asset(name)?;
    let most = office.parts.console.asset_bytes_max();
    let len = streams::announced(&fields);
    if len.is_some_and(|len| len > most) {
        let text = format!("{name} would have {} bytes; an original may have {most}", len.unwrap_or(0));
        return Err(Problem::new(Kind::Unprocessable, text).about("body").into());
    }
    tracing::info!(%name, who = lane.who(), "original written");
    let (body, rest) = streams::arriving(body, len, most);
    let written = office.parts.console.asset_put(name, body).await;
    if written.is_err() {
        rest.read_away().await;
    }
    json(&written?)
}

async fn remove(State(office): Shared, Extension(lane): Extension<Lane>, name: Named) -> Answer {
    let name = asset(name)?;
    tracing::info!(%name, who = lane.who(), "original removed");
    json(&office.parts.console.asset_remove(name).await?)
}
