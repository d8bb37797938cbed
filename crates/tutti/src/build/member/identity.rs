//! Who this node is: kept from before, founded, or joined with a token; and its certificate, renewed in time.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tutti_base::{Clock, Wall};
use tutti_cluster::token::AuthorityHash;
use tutti_cluster::{Authority, Config, Identity, Links, Token};
use tutti_control::joining::Renewed;
use tutti_control::renewing::Bearer;
use tutti_control::{JoinRequest, entry};
use tutti_store::RealDisk;

use crate::settings::Settings;

/// Joining takes at most this long.
const JOIN_WITHIN: Duration = Duration::from_secs(15);
/// What a machine that joins another cluster puts aside.
const STATE_FILES: [&str; 4] = ["store.redb", "local.redb", "secret.key", "node.identity"];

/// How this node came to be what it is.
pub(crate) enum Origin {
    /// It was a member before.
    Kept,
    /// It founds a cluster, with this authority.
    Founded(Box<Authority>),
    /// It has just joined.
    Joined,
}

/// The settings of the node port.
pub(super) fn node_port(settings: &Settings) -> anyhow::Result<Config> {
    let mut listen = settings.node;
    if listen.port() == 0 {
        // Others have to be told the number before the port is opened.
        listen = TcpListener::bind(listen).and_then(|free| free.local_addr()).context("--node")?;
    }
    let advertise = match &settings.advertise[..] {
        [] if listen.ip().is_unspecified() => vec![SocketAddr::new(own_address(listen.ip()), listen.port())],
        [] => vec![listen],
        given => given.to_vec(),
    };
    Ok(Config { listen: vec![listen], advertise, ..Config::default() })
}

/// The address by which this machine reaches others, as the kernel would choose it; no packet is sent. Loopback where
/// there is no way to anywhere.
fn own_address(any: IpAddr) -> IpAddr {
    let (from, to) = match any {
        IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let chosen = UdpSocket::bind(from).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    chosen.map_or_else(|_| IpAddr::from([127, 0, 0, 1]), |address| address.ip())
}

/// The identity to run with, saved.
pub(super) async fn become_somebody(
    settings: &Settings,
    disk: &RealDisk,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Identity, Origin)> {
    let now = clock.wall();
    let kept = Identity::load(disk).context("the identity of this node")?;
    let (member, begun) = match kept {
        Some(identity) if identity.certificate().is_some() => (Some(identity), None),
        begun => (None, begun),
    };
    let Some(token) = &settings.joining.token else {
        return match member {
            Some(identity) => Ok((identity, Origin::Kept)),
            None => found(settings, disk, now),
        };
    };
    let token: Token = token.parse().map_err(|error| anyhow::anyhow!("--join: {error}"))?;
    let Some(member) = member else {
        // Kept before it is shown: cut short, it is the same machine that asks again.
        let identity =
            begun.filter(|begun| begun.name() == settings.name).map_or_else(|| fresh(settings), Ok)?;
        identity.save(disk)?;
        let identity = join(settings, identity, &token, config, clock).await?;
        identity.save(disk)?;
        return Ok((identity, Origin::Joined));
    };
    let is_same = member.authorities().iter().any(|der| AuthorityHash::of(der) == token.authority);
    if is_same && settings.joining.replace.is_none() {
        tracing::info!("this machine is a member of that cluster already; the token is not used");
        return Ok((member, Origin::Kept));
    }
    if !settings.joining.replace_state {
        bail!(
            "this machine has a cluster of its own in {}; to put its small state aside and join, add \
             `--replace-state` (caches and folders stay)",
            settings.data.display()
        );
    }
    // Let in first: a token that is refused leaves everything as it was.
    let identity = join(settings, fresh(settings)?, &token, config, clock).await?;
    put_aside(&settings.data, now)?;
    identity.save(disk)?;
    Ok((identity, Origin::Joined))
}

/// A node without a cluster yet.
fn fresh(settings: &Settings) -> anyhow::Result<Identity> {
    Identity::new(&settings.name)
        .with_context(|| format!("`{}` cannot name this node; give another with --name", settings.name))
}

fn found(settings: &Settings, disk: &RealDisk, now: Wall) -> anyhow::Result<(Identity, Origin)> {
    let (identity, authority) = Identity::found(&settings.name, now)
        .with_context(|| format!("`{}` cannot name this node; give another with --name", settings.name))?;
    identity.save(disk)?;
    Ok((identity, Origin::Founded(Box::new(authority))))
}

/// A new authority for a cluster whose founding was cut short, and this node's certificate of it.
pub(super) fn certify_myself(identity: &mut Identity, now: Wall) -> anyhow::Result<Authority> {
    let authority = Authority::create(identity.cluster(), now)?;
    let certificate = authority.sign(&identity.request()?, identity.node(), identity.name(), now)?;
    identity.admit(authority.cluster(), certificate, vec![authority.certificate().to_vec()]);
    Ok(authority)
}

async fn join(
    settings: &Settings,
    mut identity: Identity,
    token: &Token,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Identity> {
    let request = JoinRequest {
        replace: settings.joining.replace.clone(),
        roles: settings.roles,
        addresses: config.advertise.clone(),
        ..entry::request(&identity, token, env!("CARGO_PKG_VERSION"))?
    };
    let answer = entry::enter(clock, token, request, JOIN_WITHIN).await.context("joining failed")?;
    entry::admit(&mut identity, answer);
    Ok(identity)
}

/// Moves the small state of a machine that ran alone into a folder of its own.
fn put_aside(data: &Path, now: Wall) -> anyhow::Result<()> {
    let archive = data.join(format!("replaced-{}", now.secs()));
    tutti_store::disk::make_private_folder(&archive)?;
    let listed = std::fs::read_dir(data)?.flatten();
    for entry in listed {
        let name = entry.file_name().to_string_lossy().into_owned();
        if STATE_FILES.contains(&name.as_str()) {
            std::fs::rename(entry.path(), archive.join(&name))?;
        }
    }
    eprintln!("tutti: the state of this machine was put aside in {}", archive.display());
    Ok(())
}

/// This node's identity, on the disk and on the links.
pub(super) struct Bearing {
    pub(super) identity: Arc<Mutex<Identity>>,
    pub(super) links: Arc<Links>,
    pub(super) disk: Arc<RealDisk>,
}

impl Bearing {
    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bearer for Bearing {
    fn renew_at(&self) -> Wall {
        self.identity().renew_at()
    }
    fn request(&self) -> Result<Vec<u8>, String> {
        self.identity().request().map_err(|error| error.to_string())
    }
    fn admit(&self, renewed: Renewed) -> Result<(), String> {
        let mut identity = self.identity();
        let cluster = identity.cluster();
        identity.admit(cluster, renewed.certificate, renewed.authorities);
        identity.save(&*self.disk).map_err(|error| error.to_string())?;
        self.links.set_identity(&identity).map_err(|error| error.to_string())
    }
}
