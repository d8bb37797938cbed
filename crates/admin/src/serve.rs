//! Accepts connections and serves them within limits, until told to stop. Who may do what is decided in `access`.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tutti_base::{Kind, Problem};
use tutti_store::{Document, Secrets, Store};
use tutti_telemetry::Metrics;

use crate::access::{Lane, Rules};
use crate::api;
use crate::config::{CLOSE_GRACE, CONNECTION_MAX, Config, HEAD_MAX, NEWS_WAIT_MAX, UPLOAD_TIMEOUT};
use crate::console::Console;
use crate::counts::Counts;
use crate::listen::Listeners;
use crate::patience::Patience;
use crate::problem::Refusal;
use crate::user_store::UserStore;

/// How long to wait when the kernel has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the administration shows and changes.
pub struct Parts {
    /// The server.
    pub console: Arc<dyn Console>,
    /// The cluster document.
    pub document: Document,
    /// The secrets.
    pub secrets: Secrets,
    /// The store; users get a table of it.
    pub store: Arc<dyn Store>,
    /// The metrics.
    pub metrics: Metrics,
}

/// What all handlers share.
pub(crate) struct Office {
    pub(crate) parts: Parts,
    pub(crate) users: UserStore,
}

/// The administration, ready to serve.
pub struct Admin {
    listeners: Listeners,
    desk: Arc<Desk>,
    connections: usize,
}

/// What every connection needs.
struct Desk {
    router: Router,
    rules: Rules,
    counts: Counts,
    head_timeout: Duration,
    call_timeout: Duration,
}

impl Admin {
    /// Puts `parts` behind `listeners`. Registers its metrics; call once.
    pub fn new(parts: Parts, listeners: Listeners, config: &Config) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let mut uids = vec![0, own];
        uids.dedup();
        Self::for_users(parts, listeners, config, uids)
    }

    /// As [`Self::new`], with the socket open to these users alone instead of root and the server's own.
    pub fn for_users(parts: Parts, listeners: Listeners, config: &Config, uids: Vec<u32>) -> Self {
        let counts = Counts::register(&parts.metrics, config);
        let socket = listeners.socket_path().display().to_string();
        let rules = Rules { uids, hosts: config.hosts.clone(), socket };
        let users = UserStore::new(parts.store.clone(), &parts.metrics);
        let router = api::router(Arc::new(Office { parts, users }));
        let desk = Arc::new(Desk {
            router,
            rules,
            counts,
            head_timeout: Duration::from_millis(config.head_timeout_ms),
            call_timeout: Duration::from_millis(config.call_timeout_ms),
        });
        Self { listeners, desk, connections: config.connections }
    }

    /// Where it listens.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Serves until `stop` completes; then lets calls end for a few seconds, and removes the socket.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let Listeners { socket, admin, metrics, file } = self.listeners;
        let (closing, closed) = watch::channel(());
        let mut lanes = JoinSet::new();
        let lane = |desk: &Arc<Desk>| Serving {
            desk: desk.clone(),
            free: Arc::new(Semaphore::new(self.connections)),
            closed: closed.clone(),
        };
        lanes.spawn(lane(&self.desk).socket(socket));
        if let Some(listener) = admin {
            lanes.spawn(lane(&self.desk).tcp(listener, TcpKind::Admin));
        }
        if let Some(listener) = metrics {
            lanes.spawn(lane(&self.desk).tcp(listener, TcpKind::Metrics));
        }
        drop(closed);
        stop.await;
        drop(file);
        drop(closing);
        while lanes.join_next().await.is_some() {}
    }
}

#[derive(Clone, Copy)]
enum TcpKind {
    Admin,
    Metrics,
}

/// One listener at work.
struct Serving {
    desk: Arc<Desk>,
    free: Arc<Semaphore>,
    /// Ends when the server stops.
    closed: watch::Receiver<()>,
}

impl Serving {
    async fn socket(mut self, listener: UnixListener) {
        let mut open = JoinSet::new();
        while let Some(accepted) = self.next(&mut open, listener.accept()).await {
            let Some((stream, _)) = accepted else { continue };
            match stream.peer_cred() {
                Ok(peer) => self.start(&mut open, stream, Lane::Socket { uid: peer.uid() }),
                Err(error) => tracing::warn!(%error, "a peer of the admin socket has no credentials"),
            }
        }
        drain(open).await;
    }

    async fn tcp(mut self, listener: TcpListener, kind: TcpKind) {
        let mut open = JoinSet::new();
        while let Some(accepted) = self.next(&mut open, listener.accept()).await {
            let Some((stream, _)) = accepted else { continue };
            let lane = match (kind, stream.local_addr()) {
                (TcpKind::Admin, Ok(local)) => Lane::Tcp { local: local.ip() },
                (TcpKind::Metrics, _) => Lane::Metrics,
                (TcpKind::Admin, Err(_)) => continue,
            };
            let _ = stream.set_nodelay(true);
            self.start(&mut open, stream, lane);
        }
        drain(open).await;
    }

    /// The next connection; none at the end. Reaps connections that ended meanwhile.
    async fn next<T>(
        &mut self,
        open: &mut JoinSet<()>,
        accept: impl Future<Output = io::Result<T>>,
    ) -> Option<Option<T>> {
        tokio::select! {
            _ = self.closed.changed() => None,
            _ = reap(open) => Some(None),
            accepted = accept => match accepted {
                Ok(accepted) => Some(Some(accepted)),
                Err(error) => {
                    tracing::warn!(%error, "the administration could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    Some(None)
                }
            },
        }
    }

    /// Serves `stream` in a task, or closes it when there are too many.
    fn start<S>(&self, open: &mut JoinSet<()>, stream: S, lane: Lane)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Ok(permit) = self.free.clone().try_acquire_owned() else {
            self.desk.counts.refused(&lane, "connections");
            return;
        };
        let (desk, closed) = (self.desk.clone(), self.closed.clone());
        open.spawn(async move {
            desk.counts.connections.inc();
            serve(&desk, stream, lane, closed).await;
            desk.counts.connections.dec();
            drop(permit);
        });
    }
}

/// Waits for one connection to end; forever if there is none.
async fn reap(open: &mut JoinSet<()>) {
    if open.join_next().await.is_none() {
        pending::<()>().await;
    }
}

async fn drain(mut open: JoinSet<()>) {
    while open.join_next().await.is_some() {}
}

async fn serve<S>(desk: &Arc<Desk>, stream: S, lane: Lane, mut closed: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let answering = desk.clone();
    let patience = Patience::new(NEWS_WAIT_MAX.min(desk.call_timeout / 2), closed.clone());
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (desk, lane, patience) = (answering.clone(), lane.clone(), patience.clone());
        async move {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(patience);
            Ok::<_, std::convert::Infallible>(desk.answer(lane, request).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(desk.head_timeout)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closed.changed() => {}
        () = tokio::time::sleep(CONNECTION_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    // Whoever does not end by then is cut off.
    let _ = tokio::time::timeout(CLOSE_GRACE, connection).await;
}

impl Desk {
    async fn answer(&self, lane: Lane, request: Request) -> Response {
        let checked = self.rules.check(&lane, request.method(), request.uri(), request.headers());
        let mut response = match checked {
            Ok(()) => self.call(&lane, request).await,
            Err(problem) => {
                self.counts.refused(&lane, problem.kind.word());
                closing(problem)
            }
        };
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.counts.request(&lane, response.status().as_u16());
        response
    }

    /// Runs the call in a task of its own, so that a change goes on when its connection breaks.
    async fn call(&self, lane: &Lane, mut request: Request) -> Response {
        request.extensions_mut().insert(lane.clone());
        let limit = if is_upload(&request) { UPLOAD_TIMEOUT } else { self.call_timeout };
        let router = TowerToHyperService::new(self.router.clone());
        let call = tokio::spawn(async move { hyper::service::Service::call(&router, request).await });
        let abort = call.abort_handle();
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(panic)) => {
                let problem = Problem::new(Kind::Internal, "the call failed; the server's log says why");
                Refusal(problem.because(panic)).into_response()
            }
            Err(_) => {
                abort.abort();
                self.counts.refused(lane, "timeout");
                let text = format!("the call did not end within {limit:?}");
                closing(Problem::new(Kind::Timeout, text))
            }
        }
    }
}

/// Whether the body is a file, which takes its time.
fn is_upload(request: &Request) -> bool {
    let path = request.uri().path();
    path.starts_with("/api/v1/assets/") || path == "/api/v1/restore"
}

/// Answers and closes: what the request still sends is not read.
fn closing(problem: Problem) -> Response {
    let mut response = Refusal(problem).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
