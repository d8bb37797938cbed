//! Connecting to an origin: resolve once, check every address, connect to one that was checked, then TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tutti_base::{Clock, Tick};

use crate::failure::{Failure, Step};
use crate::names::Names;
use crate::target::{Host, OriginId, Scheme};
use crate::{Network, guard, wait};

/// The most addresses of one origin that are tried for one connection.
const DIALS_MAX: usize = 6;
/// An attempt that has brought nothing after this long gets company from the next address (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// A byte stream to an origin, plain or TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What dialling needs of the outside.
pub(crate) struct Dialer {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// One connection wanted.
pub(crate) struct Dial<'a> {
    pub(crate) origin: &'a OriginId,
    /// Exceptions from the guard.
    pub(crate) networks: &'a [Network],
    pub(crate) tls: &'a Arc<rustls::ClientConfig>,
    /// Each step's own time.
    pub(crate) timeout: Duration,
    /// When all of it must be done.
    pub(crate) deadline: Tick,
}

impl Dialer {
    /// Connects; the address that was connected to goes along. Cancel-safe: a dropped attempt leaves nothing open.
    pub(crate) async fn dial(&self, wanted: &Dial<'_>) -> Result<(Box<dyn Wire>, IpAddr), Failure> {
        let addresses = checked(self.resolve(wanted).await?, wanted.networks)?;
        let (until, limit) = self.end(wanted);
        let timeout = || Failure::Timeout { step: Step::Connect, limit };
        let (stream, peer) = self.race(addresses, wanted.origin.port, until).await?.ok_or_else(timeout)?;
        match wanted.origin.scheme {
            Scheme::Http => Ok((Box::new(stream), peer)),
            Scheme::Https => {
                let handshake =
                    TlsConnector::from(wanted.tls.clone()).connect(server_name(wanted.origin)?, stream);
                let shaken = wait::until(&*self.clock, until, handshake).await.ok_or_else(timeout)?;
                Ok((Box::new(shaken.map_err(|error| Failure::Tls(error.to_string()))?), peer))
            }
        }
    }

    async fn resolve(&self, wanted: &Dial<'_>) -> Result<Vec<IpAddr>, Failure> {
        let name = match &wanted.origin.host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let (until, limit) = self.end(wanted);
        let found = wait::until(&*self.clock, until, self.names.resolve(name)).await;
        let found = found.ok_or(Failure::Timeout { step: Step::Resolve, limit })?;
        found.map_err(|error| Failure::Name(error.to_string()))
    }

    /// When the step that begins now must end, and how long that is.
    fn end(&self, wanted: &Dial<'_>) -> (Tick, Duration) {
        let now = self.clock.now();
        let until = wanted.deadline.min(now + wanted.timeout);
        (until, until.since(now))
    }

    /// The first connection that stands; none when `until` comes first.
    async fn race(
        &self,
        addresses: Vec<IpAddr>,
        port: u16,
        until: Tick,
    ) -> Result<Option<(TcpStream, IpAddr)>, Failure> {
        let mut attempts = FuturesUnordered::new();
        let mut waiting = addresses.into_iter().take(DIALS_MAX);
        let mut last_error = None;
        loop {
            let pause = match waiting.next() {
                Some(address) => {
                    attempts.push(connect(address, port));
                    until.min(self.clock.now() + STAGGER)
                }
                None if attempts.is_empty() => {
                    return Err(last_error.unwrap_or_else(|| Failure::Name("no address".into())));
                }
                None => until,
            };
            match wait::until(&*self.clock, pause, attempts.next()).await {
                Some(Some(Ok(connected))) => return Ok(Some(connected)),
                Some(Some(Err((address, error)))) => {
                    last_error = Some(Failure::Connect(format!("{address}: {error}")))
                }
                Some(None) => {}
                None if self.clock.now() >= until => return Ok(None),
                None => {}
            }
        }
    }
}

async fn connect(address: IpAddr, port: u16) -> Result<(TcpStream, IpAddr), (IpAddr, io::Error)> {
    let stream =
        TcpStream::connect(SocketAddr::new(address, port)).await.map_err(|error| (address, error))?;
    stream.set_nodelay(true).map_err(|error| (address, error))?;
    Ok((stream, address))
}

/// The addresses that may be connected to; an error when there is none.
fn checked(found: Vec<IpAddr>, networks: &[Network]) -> Result<Vec<IpAddr>, Failure> {
    let mut denied = None;
    let permitted: Vec<IpAddr> = found
        .into_iter()
        .filter(|address| match guard::check(*address, networks) {
            Ok(()) => true,
            Err(reason) => {
                denied.get_or_insert(reason);
                false
            }
        })
        .collect();
    match denied {
        Some(reason) if permitted.is_empty() => Err(Failure::Address(reason)),
        _ => Ok(permitted),
    }
}

/// What the certificate must be for: the host of the URL.
fn server_name(origin: &OriginId) -> Result<ServerName<'static>, Failure> {
    match &origin.host {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|error| Failure::Tls(error.to_string()))
        }
    }
}
