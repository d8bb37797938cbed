//! Dials peers, runs what was dialled, and keeps the control link standing. Decides nothing about members.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::{Either, select};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tutti_base::{Clock, Lane, Tick};

use super::book::{Peer, Standing};
use super::{CONNECT_WITHIN, Core, Counted, HANDSHAKE_WITHIN, REDIAL_MAX, REDIAL_MIN};
use crate::datagram::EXPORT_LABEL;
use crate::frame::{FRAME_MAX, FrameError, FrameKind, FrameReader, Hello, PROTOCOL, read_failed};
use crate::link::{Ended, Link, Pump, Side, Wire};
use crate::tls;

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no address is known")]
    NoAddress,
    #[error("{0}: nothing listens there")]
    Refused(SocketAddr),
    #[error("{0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("{0} did not answer in time")]
    Late(SocketAddr),
    #[error("the handshake: {0}")]
    Tls(std::io::Error),
    #[error("the first words: {0}")]
    Hello(#[from] Ended),
    #[error(
        "it speaks generation {theirs} of the protocol, this node {PROTOCOL}; upgrade one release at a time"
    )]
    Protocol { theirs: u16 },
}

impl DialError {
    fn word(&self) -> &'static str {
        match self {
            DialError::NoAddress => "no-address",
            DialError::Refused(_) => "refused",
            DialError::Connect(..) => "unreachable",
            DialError::Late(_) => "late",
            DialError::Tls(_) => "tls",
            DialError::Hello(_) => "hello",
            DialError::Protocol { .. } => "protocol",
        }
    }
}

impl Core {
    /// Dials `lane` in a task of its own, unless that is under way or was tried just now.
    pub(super) fn dial(self: &Arc<Self>, peer: &Arc<Peer>, lane: Lane, now: Tick) {
        if peer.claim_dial(lane, now) {
            self.spawn("cluster.dial", self.clone().run_dialled(peer.clone(), lane, now));
        }
    }

    async fn run_dialled(self: Arc<Self>, peer: Arc<Peer>, lane: Lane, now: Tick) {
        let tried = Some(now);
        match self.connect(&peer, lane).await {
            Ok(pump) => {
                self.home.counts.dialled("connected");
                let link = pump.link().clone();
                peer.set(lane, Standing::Open(link.clone()));
                if *peer.gone.borrow() {
                    link.cut();
                }
                let control = lane == Lane::Control;
                if control {
                    self.home.tell(|events| events.connected(peer.id));
                }
                let counted = Counted::new(&self.home);
                pump.await;
                drop(counted);
                peer.set(lane, Standing::Idle { tried, failures: 0 });
                if control {
                    self.home.tell(|events| events.broken(peer.id));
                }
            }
            Err(error) => {
                self.home.counts.dialled(error.word());
                let failures = peer.failures(lane) + 1;
                if failures == 1 {
                    tracing::info!(peer = %peer.id, ?lane, "cannot connect: {error}");
                }
                peer.set(lane, Standing::Idle { tried, failures });
                if matches!(error, DialError::Refused(_)) && lane == Lane::Control {
                    self.home.tell(|events| events.refused(peer.id));
                }
            }
        }
    }

    /// Keeps the control link to `peer` until it leaves the book.
    pub(super) async fn keep(self: Arc<Self>, peer: Arc<Peer>) {
        let mut gone = peer.gone.subscribe();
        let left = gone.wait_for(|gone| *gone);
        let keeping = self.keep_dialling(&peer);
        tokio::pin!(left, keeping);
        select(left, keeping).await;
    }

    async fn keep_dialling(self: &Arc<Self>, peer: &Arc<Peer>) {
        let mut standing = peer.lane(Lane::Control).subscribe();
        loop {
            self.dial(peer, Lane::Control, self.home.clock.now());
            if standing.wait_for(|standing| matches!(standing, Standing::Idle { .. })).await.is_err() {
                return;
            }
            let doublings = peer.failures(Lane::Control).saturating_sub(1).min(10);
            let full = (REDIAL_MIN * (1 << doublings)).min(REDIAL_MAX);
            // Half of the least wait would be refused as too soon.
            let wait = self.jittered(full).max(REDIAL_MIN);
            self.home.clock.sleep_until(self.home.clock.now() + wait).await;
        }
    }

    async fn connect(&self, peer: &Peer, lane: Lane) -> Result<Pump, DialError> {
        let socket = reach(&*self.home.clock, &peer.addresses()).await?;
        let address = socket.peer_addr().map_err(DialError::Tls)?;
        let opening = std::pin::pin!(self.open(peer, lane, socket));
        let late = self.home.clock.sleep_until(self.home.clock.now() + HANDSHAKE_WITHIN);
        match select(opening, late).await {
            Either::Left((opened, _)) => {
                let pump = opened?;
                peer.prefer(address);
                Ok(pump)
            }
            Either::Right(_) => Err(DialError::Late(address)),
        }
    }

    /// TLS, hello each way, and for the control lane the keys of the datagrams.
    async fn open(&self, peer: &Peer, lane: Lane, socket: TcpStream) -> Result<Pump, DialError> {
        let address = socket.peer_addr().map_err(DialError::Tls)?;
        let tls = self.tls.load_full();
        let name = tls::server_name(tls.cluster, peer.id);
        let stream =
            TlsConnector::from(tls.client.clone()).connect(name, socket).await.map_err(DialError::Tls)?;
        let (socket, session) = stream.into_inner();
        let mut wire = Wire::new(socket, session);
        let mut reader = FrameReader::new(FRAME_MAX);
        wire.send(Hello::of(self.home.me, lane).frame()).await?;
        let hello = welcome(&mut wire, &mut reader).await?;
        if hello.node != peer.id {
            return Err(Ended::from(FrameError::Malformed("its hello names another node")).into());
        }
        if lane == Lane::Control {
            self.keyring.send_with(peer.id, address, wire.export(EXPORT_LABEL)?);
        }
        let link = Link::new(self.home.clone(), Side::Dialled, lane, hello);
        Ok(Pump::new(link, wire, reader))
    }
}

/// Connects to the first address that answers.
pub(crate) async fn reach(clock: &dyn Clock, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut failed = DialError::NoAddress;
    for address in addresses {
        let connecting = std::pin::pin!(TcpStream::connect(address));
        failed = match select(connecting, clock.sleep_until(clock.now() + CONNECT_WITHIN)).await {
            Either::Left((Ok(socket), _)) => {
                // Without it a call would wait for the acknowledgement of the one before.
                socket.set_nodelay(true).map_err(DialError::Tls)?;
                return Ok(socket);
            }
            Either::Left((Err(error), _)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                DialError::Refused(*address)
            }
            Either::Left((Err(error), _)) => DialError::Connect(*address, error),
            Either::Right(_) => DialError::Late(*address),
        };
    }
    Err(failed)
}

/// The first word of the one that was dialled: its hello, or why it wants nothing of this node.
pub(crate) async fn welcome(wire: &mut Wire, reader: &mut FrameReader) -> Result<Hello, DialError> {
    let frame = wire.receive(reader).await?;
    if frame.kind == FrameKind::Failed {
        let problem = read_failed(&frame.payload).map_err(Ended::from)?;
        return Err(Ended::Refused(problem).into());
    }
    let hello = Hello::read(&frame).map_err(Ended::from)?;
    if hello.protocol != PROTOCOL {
        return Err(DialError::Protocol { theirs: hello.protocol });
    }
    Ok(hello)
}
