//! Calls about the cluster: tokens, nodes, promotion, the journal, originals, backup.

use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::HOST;
use hyper::{Method, Request};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::exchange::{broken, converse, file, whole};
use super::{Client, ClientError, UPLOAD_TIMEOUT, escape, parse};
use crate::console::{
    AssetDone, AssetName, AssetPage, AssetQuery, EventPage, NewToken, NodeAction, NodeDone, PromoteCall,
    Promoted, RestoreDone, TokenCall, TokenInfo, UNNAMED_FOLDER,
};

impl Client {
    /// Makes a token for one more machine.
    pub async fn token_create(&self, call: &TokenCall) -> Result<NewToken, ClientError> {
        self.post("/api/v1/tokens", call).await
    }
    /// The tokens.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, ClientError> {
        self.get("/api/v1/tokens").await
    }
    /// Makes a token worthless.
    pub async fn token_revoke(&self, id: &str) -> Result<(), ClientError> {
        self.delete::<Value>(&format!("/api/v1/tokens/{}", escape(id))).await.map(|_| ())
    }
    /// Tells a node what to do.
    pub async fn node(&self, name: &str, action: &NodeAction) -> Result<NodeDone, ClientError> {
        self.post(&format!("/api/v1/nodes/{}", escape(name)), action).await
    }
    /// Makes a node the one voter.
    pub async fn promote(&self, call: &PromoteCall) -> Result<Promoted, ClientError> {
        self.post("/api/v1/promote", call).await
    }
    /// The journal after a cursor, at most `limit` events; waits for up to `wait` where there is nothing yet.
    pub async fn events(
        &self,
        after: Option<&str>,
        limit: usize,
        wait: Duration,
    ) -> Result<EventPage, ClientError> {
        let after = after.map(|after| format!("&after={}", escape(after))).unwrap_or_default();
        self.get(&format!("/api/v1/events?limit={limit}&wait_ms={}{after}", wait.as_millis())).await
    }

    /// A page of originals.
    pub async fn assets(&self, query: &AssetQuery) -> Result<AssetPage, ClientError> {
        let AssetQuery { folder, prefix, after, limit } = query;
        let [folder, prefix, after] = [folder, prefix, after].map(|text| escape(text));
        self.get(&format!("/api/v1/assets?folder={folder}&prefix={prefix}&after={after}&limit={limit}")).await
    }
    /// Writes the file at `path` as an original.
    pub async fn asset_put(&self, name: &AssetName, path: &Path) -> Result<AssetDone, ClientError> {
        let (body, len) = file(path).await?;
        parse(&self.upload(Method::PUT, &place(name), body, len).await?)
    }
    /// Removes an original everywhere.
    pub async fn asset_remove(&self, name: &AssetName) -> Result<AssetDone, ClientError> {
        self.delete(&place(name)).await
    }

    /// Writes a backup to `out`; its length. What was written of a backup that broke off is worthless.
    pub async fn backup(&self, out: &mut tokio::fs::File) -> Result<u64, ClientError> {
        let stream = self.connect().await?;
        let request = Request::builder().uri("/api/v1/backup").header(HOST, "localhost");
        let request = request.body(whole(Default::default()));
        let request = request.map_err(|error| ClientError::Broken(error.to_string()))?;
        let failed =
            |error: std::io::Error| ClientError::Broken(format!("the file could not be written: {error}"));
        let receive = converse(stream, request, async |response| {
            let mut body = response.into_body();
            let mut len = 0;
            while let Some(frame) = body.frame().await {
                if let Ok(piece) = frame.map_err(broken)?.into_data() {
                    out.write_all(&piece).await.map_err(failed)?;
                    len += piece.len() as u64;
                }
            }
            out.sync_all().await.map_err(failed)?;
            Ok(len)
        });
        match tokio::time::timeout(UPLOAD_TIMEOUT, receive).await {
            Ok(len) => len,
            Err(_) => Err(ClientError::Silent(UPLOAD_TIMEOUT)),
        }
    }
    /// Makes the backup at `path` the state.
    pub async fn restore(&self, path: &Path) -> Result<RestoreDone, ClientError> {
        let (body, len) = file(path).await?;
        parse(&self.upload(Method::POST, "/api/v1/restore", body, len).await?)
    }
}

/// Where an original stands in the API.
fn place(name: &AssetName) -> String {
    let folder = if name.folder.is_empty() { UNNAMED_FOLDER } else { &name.folder };
    let parts: Vec<_> = name.path.split('/').map(escape).collect();
    format!("/api/v1/assets/{}/{}", escape(folder), parts.join("/"))
}
