//! Accepts connections at the node port: peers by their certificate, others only to join. Decides nothing about members.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tutti_base::{Kind, Lane, NodeId, Problem};

use super::{Core, Counted, HANDSHAKE_WITHIN};
use crate::datagram::EXPORT_LABEL;
use crate::frame::{ANONYMOUS_FRAME_MAX, FRAME_MAX, FrameReader, Hello, PROTOCOL, failed, lane_of};
use crate::link::{Ended, Link, Pump, Side, Wire, socket_error};
use crate::tls;

/// How long to wait when the kernel has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A peer whose kernel acknowledges nothing for this long is gone, in milliseconds.
const UNACKNOWLEDGED_MAX_MS: u32 = 10_000;

/// A connection that is not taken, and the word for it in the metrics.
struct Turned {
    reason: &'static str,
    why: Ended,
}

impl Turned {
    fn away(reason: &'static str) -> impl FnOnce(Ended) -> Self {
        move |why| Self { reason, why }
    }
}

impl Core {
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => self.admit(socket),
                Err(error) => {
                    tracing::warn!("cannot accept other nodes: {error}");
                    self.home.clock.sleep_until(self.home.clock.now() + ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, socket: TcpStream) {
        let Ok(place) = self.connections.clone().try_acquire_owned() else {
            return self.home.counts.refused("connections");
        };
        let Ok(handshake) = self.handshakes.clone().try_acquire_owned() else {
            return self.home.counts.refused("handshakes");
        };
        let core = self.clone();
        self.spawn("cluster.accepted", async move {
            let _place = place;
            let late = core.home.clock.sleep_until(core.home.clock.now() + HANDSHAKE_WITHIN);
            let opening = std::pin::pin!(core.welcome(socket));
            let opened = match select(opening, late).await {
                Either::Left((opened, _)) => opened,
                Either::Right(_) => Err(Turned { reason: "handshake-late", why: Ended::Silent }),
            };
            drop(handshake);
            match opened {
                Ok(pump) => core.run_accepted(pump).await,
                Err(turned) => {
                    core.home.counts.refused(turned.reason);
                    tracing::debug!(reason = turned.reason, "connection refused: {}", turned.why);
                }
            }
        });
    }

    async fn run_accepted(&self, pump: Pump) {
        let link = pump.link().clone();
        if link.side == Side::Anonymous {
            let Ok(_place) = self.anonymous.try_acquire() else {
                return self.home.counts.refused("anonymous-full");
            };
            pump.await;
            return;
        }
        if self.book.accept(&link) {
            let counted = Counted::new(&self.home);
            pump.await;
            drop(counted);
            self.book.ended(&link);
        }
    }

    async fn welcome(&self, socket: TcpStream) -> Result<Pump, Turned> {
        let prepared = socket.set_nodelay(true);
        prepared.map_err(|error| Turned { reason: "socket", why: socket_error(error) })?;
        rustix::net::sockopt::set_tcp_user_timeout(&socket, UNACKNOWLEDGED_MAX_MS)
            .map_err(|error| Turned { reason: "socket", why: socket_error(error) })?;
        let tls = self.tls.load_full();
        let stream = TlsAcceptor::from(tls.server.clone()).accept(socket).await;
        let (socket, session) =
            stream.map_err(|error| Turned { reason: "tls", why: socket_error(error) })?.into_inner();
        let mut wire = Wire::new(socket, session);
        let mut reader = FrameReader::new(ANONYMOUS_FRAME_MAX);
        let first = wire.receive(&mut reader).await.map_err(Turned::away("hello"))?;
        let hello = Hello::read(&first).map_err(|error| Turned { reason: "hello", why: error.into() })?;
        match self.judge(&wire, &hello) {
            Ok((side, lane)) => self.open_accepted(wire, reader, hello, side, lane).await,
            Err((reason, problem)) => {
                let why = Ended::Refused(problem.clone());
                wire.send(failed(0, problem)).await.map_err(Turned::away(reason))?;
                Err(Turned { reason, why })
            }
        }
    }

    async fn open_accepted(
        &self,
        mut wire: Wire,
        mut reader: FrameReader,
        hello: Hello,
        side: Side,
        lane: Lane,
    ) -> Result<Pump, Turned> {
        wire.send(Hello::of(self.home.me, lane).frame()).await.map_err(Turned::away("hello"))?;
        if side == Side::Accepted {
            reader.set_limit(FRAME_MAX);
            if lane == Lane::Control {
                let key = wire.export(EXPORT_LABEL).map_err(Turned::away("export"))?;
                self.keyring.receive_with(hello.node, key);
            }
        }
        Ok(Pump::new(Link::new(self.home.clone(), side, lane, hello), wire, reader))
    }

    /// Who it is by certificate and hello, and on which lane; or why it is not wanted.
    fn judge(&self, wire: &Wire, hello: &Hello) -> Result<(Side, Lane), (&'static str, Problem)> {
        if hello.protocol != PROTOCOL {
            let detail = format!(
                "generation {} of the protocol is not spoken here ({PROTOCOL} is); upgrade one release at a time",
                hello.protocol
            );
            return Err(("protocol", Problem::new(Kind::BadRequest, detail)));
        }
        let Some(lane) = lane_of(hello.lane) else {
            return Err((
                "lane",
                Problem::new(Kind::BadRequest, format!("lane {} is unknown here", hello.lane)),
            ));
        };
        let Some(certificate) = wire.peer_certificate() else {
            if hello.node == NodeId(0) {
                return Ok((Side::Anonymous, lane));
            }
            let detail = "a node needs a certificate of this cluster; join it with a token";
            return Err(("no-certificate", Problem::new(Kind::Forbidden, detail)));
        };
        if !tls::names(certificate, self.tls.load().cluster, hello.node) {
            let detail = format!("the certificate is not node {}'s", hello.node);
            return Err(("name", Problem::new(Kind::Forbidden, detail)));
        }
        if self.book.is_forbidden(hello.node) || hello.node == self.home.me {
            let detail = format!("node {} was removed from the cluster; join again with a token", hello.node);
            return Err(("forbidden", Problem::new(Kind::Forbidden, detail)));
        }
        Ok((Side::Accepted, lane))
    }
}
