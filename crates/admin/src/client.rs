//! Calls a server's administration over the socket in its data directory; what the `tutti` command is made of.

mod cluster;
mod exchange;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tutti_store::Secret;
use tutti_store::document::{Difference, Plan, Revised};
use tutti_store::secrets::SecretInfo;

pub use store::Freshness;

pub use crate::api::{ApplyCall, CallTerms, DocumentAnswer, RollbackCall, SetCall, UnsetCall};
use crate::config::SOCKET_NAME;
use crate::console::{
    CacheStats, DoctorReport, Explanation, PortList, PurgeReport, PurgeRequest, Status, UrlAnswer, UrlRequest,
};
use crate::problem::ProblemBody;
use exchange::{Outgoing, exchange, whole};

/// How long an answer may take. Longer than the server's own limit, so that its reason is heard.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// As [`ANSWER_TIMEOUT`], for a call with a file.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(330);
const SAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a call was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server is there.
    #[error("no server runs with data directory {}; start it with `tutti serve`, or name another with --data", .0.display())]
    NoServer(PathBuf),
    /// The socket belongs to somebody else.
    #[error("the socket {} belongs to another user; run the command as root or as the server's user", .0.display())]
    NotYours(PathBuf),
    /// The server refused.
    #[error("{}", .0.detail)]
    Refused(ProblemBody),
    /// The connection failed.
    #[error("the call to the server broke off: {0}")]
    Broken(String),
    /// No answer came in time.
    #[error("the server did not answer within {} s; its log may say why", .0.as_secs())]
    Silent(Duration),
    /// A file of this machine cannot be read or written.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The answer makes no sense to this build.
    #[error("the server's answer is not understood ({0}); are command and server of the same version?")]
    Strange(String),
}

/// What a request carries.
enum Carried<'a> {
    /// A body in memory, of this media type.
    Whole { kind: &'a str },
    /// The content of a file, of this length.
    File { len: u64 },
}

/// A server, by its data directory. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    folder: PathBuf,
}

impl Client {
    /// The server that runs with the data directory `folder`. Connects at the first call.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The data directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the server is.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/api/v1/status").await
    }
    /// The cluster document, or the value at a dotted path.
    pub async fn config(&self, path: Option<&str>) -> Result<DocumentAnswer, ClientError> {
        let query = path.map(|path| format!("?path={}", escape(path))).unwrap_or_default();
        self.get(&format!("/api/v1/config{query}")).await
    }
    /// Sets a key.
    pub async fn config_set(&self, call: &SetCall) -> Result<Plan, ClientError> {
        self.post("/api/v1/config/set", call).await
    }
    /// Removes a key.
    pub async fn config_unset(&self, call: &UnsetCall) -> Result<Plan, ClientError> {
        self.post("/api/v1/config/unset", call).await
    }
    /// Applies a file.
    pub async fn config_apply(&self, call: &ApplyCall) -> Result<Plan, ClientError> {
        self.post("/api/v1/config/apply", call).await
    }
    /// Goes back.
    pub async fn config_rollback(&self, call: &RollbackCall) -> Result<Plan, ClientError> {
        self.post("/api/v1/config/rollback", call).await
    }
    /// The document's history, newest first.
    pub async fn config_history(&self) -> Result<Vec<Revised>, ClientError> {
        self.get("/api/v1/config/history").await
    }
    /// What differs between two revisions: from the one before `to` unless given, to the current one unless given.
    pub async fn config_diff(
        &self,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<Vec<Difference>, ClientError> {
        let named = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
        let query: Vec<_> = [named("from", from), named("to", to)].into_iter().flatten().collect();
        self.get(&format!("/api/v1/config/diff?{}", query.join("&"))).await
    }
    /// The secrets' names and times.
    pub async fn secrets(&self) -> Result<Vec<SecretInfo>, ClientError> {
        self.get("/api/v1/secrets").await
    }
    /// Sets a secret.
    pub async fn secret_set(&self, name: &str, value: &Secret) -> Result<(), ClientError> {
        let path = format!("/api/v1/secrets/{}", escape(name));
        let body = Bytes::copy_from_slice(value.expose());
        self.call(Method::PUT, &path, "application/octet-stream", body).await.map(|_| ())
    }
    /// Removes a secret.
    pub async fn secret_remove(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/api/v1/secrets/{}", escape(name));
        self.call(Method::DELETE, &path, "application/json", Bytes::new()).await.map(|_| ())
    }
    /// What the caches hold.
    pub async fn cache_stats(&self) -> Result<CacheStats, ClientError> {
        self.get("/api/v1/cache").await
    }
    /// Forgets what matches.
    pub async fn cache_purge(&self, request: &PurgeRequest) -> Result<PurgeReport, ClientError> {
        self.post("/api/v1/cache/purge", request).await
    }
    /// What would happen to a request for `url`.
    pub async fn explain(&self, url: &str) -> Result<Explanation, ClientError> {
        self.get(&format!("/api/v1/explain?url={}", escape(url))).await
    }
    /// An image URL, signed where the server has a key.
    pub async fn url(&self, request: &UrlRequest) -> Result<UrlAnswer, ClientError> {
        self.post("/api/v1/url", request).await
    }
    /// Checks of the server's machine.
    pub async fn doctor(&self) -> Result<DoctorReport, ClientError> {
        self.get("/api/v1/doctor").await
    }
    /// What listens where.
    pub async fn ports(&self) -> Result<PortList, ClientError> {
        self.get("/api/v1/ports").await
    }

    /// A GET of any path, as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(&self.call(Method::GET, path, "application/json", Bytes::new()).await?)
    }
    /// A POST of any path, as JSON.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Strange(error.to_string()))?;
        parse(&self.call(Method::POST, path, "application/json", body.into()).await?)
    }
    /// A GET of any path, as text (`/metrics`).
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = self.call(Method::GET, path, "text/plain", Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn upload(
        &self,
        method: Method,
        path: &str,
        body: Outgoing,
        len: u64,
    ) -> Result<Bytes, ClientError> {
        self.send(method, path, Carried::File { len }, body, UPLOAD_TIMEOUT).await
    }
    async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(&self.call(Method::DELETE, path, "application/json", Bytes::new()).await?)
    }

    async fn call(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        self.send(method, path, Carried::Whole { kind }, whole(body), ANSWER_TIMEOUT).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        carried: Carried<'_>,
        body: Outgoing,
        within: Duration,
    ) -> Result<Bytes, ClientError> {
        let stream = self.connect().await?;
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let request = match carried {
            Carried::Whole { kind } => request.header(CONTENT_TYPE, kind),
            Carried::File { len } => {
                request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, len)
            }
        };
        let request = request.body(body).map_err(|error| ClientError::Broken(error.to_string()))?;
        match tokio::time::timeout(within, exchange(stream, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Silent(within)),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let path = self.folder.join(SOCKET_NAME);
        UnixStream::connect(&path).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoServer(self.folder.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::NotYours(path),
            _ => ClientError::Broken(format!("{}: {error}", path.display())),
        })
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Strange(error.to_string()))
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, SAFE).to_string()
}
