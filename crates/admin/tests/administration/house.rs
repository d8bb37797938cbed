//! A running administration over a store on a simulated disk, and plain requests to it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tutti_admin::client::{CallTerms, SetCall};
use tutti_admin::{Admin, Client, Config, Listeners, Parts};
use tutti_store::document::{Consequence, Invalid};
use tutti_store::simulated::{ManualClock, SimDisk};
use tutti_store::{Document, RedbStore, Secrets, Validate};
use tutti_telemetry::Metrics;

use crate::fake::Fake;

struct Rules;

impl Validate for Rules {
    fn validate(&self, doc: &toml::Table) -> Result<Vec<Consequence>, Vec<Invalid>> {
        match doc.keys().find(|key| *key != "image") {
            Some(key) => Err(vec![Invalid { path: key.clone(), message: format!("unknown key `{key}`") }]),
            None => Ok(vec![]),
        }
    }
}

/// A running administration.
pub(crate) struct House {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) disk: SimDisk,
    pub(crate) client: Client,
    pub(crate) admin: SocketAddr,
    pub(crate) scrape: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) console: Arc<Fake>,
    pub(crate) store: Arc<RedbStore>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) running: JoinHandle<()>,
}

pub(crate) fn on_any_port() -> Config {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Config { address: any, metrics: any, ..Config::default() }
}

pub(crate) async fn house() -> House {
    house_with(on_any_port(), None).await
}

pub(crate) async fn house_with(config: Config, uids: Option<Vec<u32>>) -> House {
    config.validate().expect("a valid configuration");
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, clock, metrics) = (SimDisk::default(), Arc::new(ManualClock::default()), Metrics::default());
    let store_config = tutti_store::Config::default();
    let store = RedbStore::open(&disk, clock.clone(), &metrics, &store_config).expect("a store");
    let document = Document::open(store.clone(), clock.clone(), Arc::new(Rules));
    let secrets = Secrets::open(store.clone(), &disk, clock).expect("secrets");
    let console = Arc::new(Fake::default());
    let parts =
        Parts { console: console.clone(), document, secrets, store: store.clone(), metrics: metrics.clone() };
    let listeners = Listeners::open(folder.path(), &config).await.expect("listeners");
    let admin = match uids {
        Some(uids) => Admin::for_users(parts, listeners, &config, uids),
        None => Admin::new(parts, listeners, &config),
    };
    let address = admin.listeners().admin_address().expect("an address");
    let scrape = admin.listeners().metrics_address().expect("an address");
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(admin.run(async {
        let _ = stopped.await;
    }));
    let client = Client::new(folder.path());
    House { folder, disk, client, admin: address, scrape, metrics, console, store, stop, running }
}

pub(crate) fn terms() -> CallTerms {
    CallTerms { why: "because".into(), ..CallTerms::default() }
}

pub(crate) fn set(path: &str, value: &str) -> SetCall {
    SetCall { path: path.into(), value: value.into(), terms: terms() }
}

/// Sends `request` and reads the answer to its end, which `Connection: close` brings.
pub(crate) async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn head(method: &str, path: &str, host: &str, len: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n")
}

pub(crate) async fn over_tcp(address: SocketAddr, request: &str) -> String {
    talk(TcpStream::connect(address).await.expect("a connection"), request.as_bytes()).await
}

pub(crate) async fn over_socket(house: &House, request: &str) -> String {
    let path = house.folder.path().join("admin.sock");
    talk(UnixStream::connect(path).await.expect("a connection"), request.as_bytes()).await
}

pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}
