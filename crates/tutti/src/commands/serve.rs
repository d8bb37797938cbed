//! `tutti serve`: listeners, privileges, runtime, house, doors; then waits for the word to stop.

use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tutti_admin::{Admin, Listeners, Parts};
use tutti_front::listeners;
use tutti_process::privilege::{self, PrivilegeError};

use crate::build::{ClusterAddress, House};
use crate::cli::ServeArgs;
use crate::console::HouseConsole;
use crate::settings::{Caching, HTTP_PORT, LogFormat, Settings};

/// What is logged unless `TUTTI_LOG` says otherwise: consensus tells its every step, and we tell what came of it.
const USUAL_LOG: &str = "info,openraft=error";

/// Runs the server until it is told to stop.
pub(crate) fn run(args: &ServeArgs, data: Option<&Path>) -> anyhow::Result<()> {
    let mut settings = Settings::of(args, data)?;
    let sockets = sockets(&settings)?;
    make_folders(&settings)?;
    let (kept, no_cache) = give_up_root(&settings)?;
    start_logging(settings.log)?;
    if let Some(reason) = no_cache {
        tracing::error!(%reason, "results live in memory only: the cache directory cannot be used");
        settings.caching = Caching::InMemory;
    }
    if let Some(kept) = kept {
        tracing::info!(uid = settings.uid, ?kept, "started as root; runs as a user of its own");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("flow")
        .build()
        .context("no runtime")?;
    let stopped = runtime.block_on(serve(settings, sockets));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    stopped
}

async fn serve(settings: Settings, mut sockets: Vec<TcpListener>) -> anyhow::Result<()> {
    let house = Arc::new(House::build(settings).await?);
    if sockets.is_empty() {
        sockets.push(listeners::bind(default_address(&house))?);
    }
    let admin_config = tutti_admin::Config {
        address: Some(house.settings.admin),
        metrics: house.settings.metrics,
        ..Default::default()
    };
    admin_config.validate().map_err(anyhow::Error::msg)?;
    let admin_listeners = Listeners::open(&house.settings.data, &admin_config).await?;
    // Until what this node missed is known, nothing that it kept is served.
    house.flow.unsettle();
    let front = house.open_front(sockets)?;
    crate::console::answer_abroad(&house);
    let console = Arc::new(HouseConsole::new(&house, front.addresses(), &admin_listeners));
    let parts = Parts {
        console: Arc::<HouseConsole>::clone(&console),
        document: house.state.document.clone(),
        secrets: house.state.secrets.clone(),
        store: Arc::clone(&house.state.store),
        metrics: house.metrics.clone(),
    };
    let admin = Admin::new(parts, admin_listeners, &admin_config);
    let (stop_admin, stopped) = tokio::sync::oneshot::channel::<()>();
    let admin = tokio::spawn(admin.run(async move {
        // Either the word comes, or whoever could give it is gone.
        let _ = stopped.await;
    }));
    let follower = tokio::spawn(crate::console::follow_document(Arc::clone(&house)));
    // What this node missed while it was away is learned before it serves what it kept.
    let settled = house.flow.settle().await;
    tracing::debug!(?settled, "the purges of the others are known");
    tokio::spawn(Arc::clone(&house.flow).keep_in_step());
    tokio::spawn(house.flow.keep_waking());
    let counting = tokio::spawn(crate::console::count_answers(Arc::clone(&house)));
    let keeping = crate::console::keep_doors(Arc::clone(&house), front.doors(), front.addresses().to_vec());
    let keeping = tokio::spawn(keeping);
    let noting = tokio::spawn(crate::console::note_members(Arc::clone(&house)));
    front.mark_ready();
    console.mark_ready();
    let address = house.settings.cluster_address;
    let address = address.map(|address| ClusterAddress::start(address, &house, front.doors()));
    let poking = tokio::spawn(crate::console::follow_view(
        Arc::clone(&house),
        address.as_ref().map(ClusterAddress::poker),
    ));
    let told_to_stop = told_to_stop()?;
    welcome(&house, front.addresses());
    told_to_stop.await;
    tracing::info!("stopping: requests under way are finished");
    console.mark_draining();
    if let Some(address) = address {
        address.stop().await;
    }
    [follower, counting, keeping, noting, poking].iter().for_each(tokio::task::JoinHandle::abort);
    // The others give it nothing new from now on, and get what it has begun for them.
    house.member.nodes.leave();
    let drained = house.close(front).await;
    tracing::info!(open = drained.open, cut = drained.cut, "stopped");
    drop(stop_admin);
    let ended = admin.await.context("the administration ended badly");
    house.member.store.shutdown().await;
    house.member.links.stop().await;
    ended
}

/// Port 8080: on loopback only, unless URLs are signed.
fn default_address(house: &House) -> SocketAddr {
    let signed = house.cluster.tenants.values().any(|tenant| !tenant.keys.is_empty());
    let host: [u8; 4] = if signed { [0, 0, 0, 0] } else { [127, 0, 0, 1] };
    SocketAddr::from((host, HTTP_PORT))
}

/// Listening sockets that were passed to us, or the addresses that were asked for; bound while we may bind low ports.
fn sockets(settings: &Settings) -> anyhow::Result<Vec<TcpListener>> {
    let word = |name: &str| std::env::var(name).ok();
    let (pid, fds) = (word("LISTEN_PID"), word("LISTEN_FDS"));
    let inherited = listeners::inherited_count(std::process::id(), pid.as_deref(), fds.as_deref());
    if inherited > 0 {
        return Ok(listeners::adopt(listeners::FIRST_INHERITED, inherited)?);
    }
    settings.http.iter().map(|address| Ok(listeners::bind(*address)?)).collect()
}

fn make_folders(settings: &Settings) -> anyhow::Result<()> {
    tutti_store::disk::make_private_folder(&settings.data)?;
    // Without a cache directory results live in memory; the cache logs the reason, and `doctor` tells it.
    let _ = tutti_store::disk::make_private_folder(&settings.cache);
    let unnamed = &settings.originals[""];
    if unnamed.starts_with(&settings.data) {
        std::fs::create_dir_all(unnamed).with_context(|| format!("cannot make {}", unnamed.display()))?;
    }
    Ok(())
}

/// What was kept, where we were root; and why the cache directory cannot be ours, where it cannot. Then it must not be
/// used at all: what lies in it may be anybody's.
fn give_up_root(
    settings: &Settings,
) -> anyhow::Result<(Option<privilege::CapabilitySet>, Option<PrivilegeError>)> {
    if !privilege::is_root() {
        return Ok((None, None));
    }
    let drop_with =
        |own: &[&Path]| privilege::drop_to(settings.uid, settings.uid, privilege::SERVER_KEEPS, own);
    match drop_with(&[&settings.data, &settings.cache]) {
        Ok(kept) => Ok((Some(kept), None)),
        Err(PrivilegeError::Folder { folder, uid, reason }) if folder == settings.cache => {
            let kept = drop_with(&[&settings.data])?;
            Ok((Some(kept), Some(PrivilegeError::Folder { folder, uid, reason })))
        }
        Err(error) => Err(error.into()),
    }
}

fn start_logging(format: LogFormat) -> anyhow::Result<()> {
    let chosen = EnvFilter::try_from_env("TUTTI_LOG");
    // Whoever asks for details follows requests: each step is told as it begins and as it ends.
    let steps = if chosen.is_ok() { FmtSpan::NEW | FmtSpan::CLOSE } else { FmtSpan::NONE };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(chosen.unwrap_or_else(|_| USUAL_LOG.into()))
        .with_span_events(steps)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Human => logs.with_target(true).try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging could not be started: {error}"))
}

fn welcome(house: &House, addresses: &[SocketAddr]) {
    for address in addresses {
        eprintln!("tutti {} serves on http://{address}", env!("CARGO_PKG_VERSION"));
    }
    if let (Some(address), Some(first)) = (addresses.first(), first_picture(house)) {
        eprintln!("try   http://{address}/image/unsafe/rs:fit:512:512/plain/local:///{first}@webp");
    }
    eprintln!("data  {}", house.settings.data.display());
}

/// A picture of the unnamed folder, to try.
fn first_picture(house: &House) -> Option<String> {
    let listed = std::fs::read_dir(house.settings.originals.get("")?).ok()?;
    let mut names: Vec<String> =
        listed.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| [".jpg", ".png", ".webp"].iter().any(|end| name.ends_with(end)));
    names.sort_unstable();
    names.into_iter().next()
}

/// Completes at the word to stop. The word is heard from the call on, not only while this is awaited.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
