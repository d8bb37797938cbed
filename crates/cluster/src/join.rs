//! How a machine that has no certificate asks a cluster: it sees the proof of the token's authority before it says a word.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use tutti_base::{Clock, Lane, NodeId, Problem, Tick, Topic};

use crate::frame::{ANONYMOUS_FRAME_MAX, CallFrame, FRAME_MAX, FrameKind, FrameReader, Hello, ReplyFrame};
use crate::frame::{ReplyBody, read_failed};
use crate::link::{Ended, Wire};
use crate::links::{DialError, reach, welcome};
use crate::tls;
use crate::token::{AuthorityHash, Token};

/// The longest question.
pub const QUESTION_MAX: usize = ANONYMOUS_FRAME_MAX - 1024;

/// Why nothing was learned. For people.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// None of the addresses answers.
    #[error(
        "none of {addresses:?} can be reached ({reason}); check the addresses, the port and the firewall, or create the token with `--address`"
    )]
    Unreachable {
        /// The addresses in the token.
        addresses: Vec<SocketAddr>,
        /// What happened at the last one.
        reason: String,
    },
    /// Someone answers who is not of the cluster that made the token. The secret was not sent.
    #[error(
        "{0} belongs to another cluster than the token (the token's secret was not sent); create a new token there"
    )]
    WrongCluster(SocketAddr),
    /// The cluster answered that it does not want this machine.
    #[error("the cluster refused: {}", .0.detail)]
    Refused(Box<Problem>),
    /// No answer in time.
    #[error("the cluster did not answer within {within:?}")]
    Late {
        /// How long it was waited for.
        within: Duration,
    },
    /// Something answers that is no node, or of an incompatible version.
    #[error("{address} does not speak as a node does: {reason}")]
    Protocol {
        /// Which one.
        address: SocketAddr,
        /// What is wrong.
        reason: String,
    },
    /// The question is longer than allowed.
    #[error("a question of {0} bytes is over the limit of {QUESTION_MAX}")]
    TooLong(usize),
}

/// Asks the cluster of `token` on [`Topic::ROSTER`] and hands back the answer's head. The node that is asked must prove that
/// the token's authority signed its certificate before anything is sent. Cancel-safe.
pub async fn ask(
    clock: &Arc<dyn Clock>,
    token: &Token,
    head: Bytes,
    within: Duration,
) -> Result<Bytes, JoinError> {
    if head.len() > QUESTION_MAX {
        return Err(JoinError::TooLong(head.len()));
    }
    let deadline = clock.now() + within;
    let asking = std::pin::pin!(ask_each(clock, token, &head, deadline));
    match select(asking, clock.sleep_until(deadline)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => Err(JoinError::Late { within }),
    }
}

/// Asks at one address after the other until one has taken the question: it may be asked once only.
async fn ask_each(
    clock: &Arc<dyn Clock>,
    token: &Token,
    head: &Bytes,
    deadline: Tick,
) -> Result<Bytes, JoinError> {
    let mut reason = JoinError::Unreachable { addresses: Vec::new(), reason: "the token has none".into() };
    for address in &token.addresses {
        match open(clock, token, *address).await {
            Ok(wire) => return question(wire, *address, head, deadline.since(clock.now())).await,
            Err(JoinError::Unreachable { reason: why, .. }) => {
                let addresses = token.addresses.clone();
                reason = JoinError::Unreachable { addresses, reason: why };
            }
            Err(other) => reason = other,
        }
    }
    Err(reason)
}

/// Connects, and returns once the other side has proven itself and said hello.
pub(crate) async fn open(
    clock: &Arc<dyn Clock>,
    token: &Token,
    address: SocketAddr,
) -> Result<(Wire, FrameReader), JoinError> {
    greet(clock, token, address, Hello::of(NodeId(0), Lane::Control)).await
}

/// As [`open`], with another first word.
pub(crate) async fn greet(
    clock: &Arc<dyn Clock>,
    token: &Token,
    address: SocketAddr,
    hello: Hello,
) -> Result<(Wire, FrameReader), JoinError> {
    let proof = Arc::new(ProofOfCluster { wanted: token.authority, missed: AtomicBool::new(false) });
    let unreachable = |error: &dyn fmt::Display| JoinError::Unreachable {
        addresses: vec![address],
        reason: error.to_string(),
    };
    let socket = reach(&**clock, &[address]).await.map_err(|error| unreachable(&error))?;
    let name = ServerName::try_from("join.tutti.internal").map_err(|error| unreachable(&error))?;
    let config = config(clock, proof.clone()).map_err(|error| unreachable(&error))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
    let (socket, session) = match connected {
        Ok(stream) => stream.into_inner(),
        Err(_) if proof.missed.load(Ordering::Relaxed) => return Err(JoinError::WrongCluster(address)),
        Err(error) => return Err(JoinError::Protocol { address, reason: error.to_string() }),
    };
    let mut wire = Wire::new(socket, session);
    let mut reader = FrameReader::new(FRAME_MAX);
    let greeted = async {
        wire.send(hello.frame()).await?;
        welcome(&mut wire, &mut reader).await
    };
    match greeted.await {
        Ok(_) => Ok((wire, reader)),
        Err(DialError::Hello(Ended::Refused(problem))) => Err(JoinError::Refused(Box::new(problem))),
        Err(error) => Err(JoinError::Protocol { address, reason: error.to_string() }),
    }
}

async fn question(
    (mut wire, mut reader): (Wire, FrameReader),
    address: SocketAddr,
    head: &Bytes,
    within: Duration,
) -> Result<Bytes, JoinError> {
    let broken = |reason: String| JoinError::Protocol { address, reason };
    let frame = CallFrame::frame(Topic::ROSTER.0, 1, within, head, &Bytes::new());
    wire.send(frame).await.map_err(|error| broken(error.to_string()))?;
    loop {
        let frame = wire.receive(&mut reader).await.map_err(|error| broken(error.to_string()))?;
        match frame.kind {
            FrameKind::Reply => {
                let reply = ReplyFrame::read(frame.payload).map_err(|error| broken(error.to_string()))?;
                return match reply.body {
                    ReplyBody::Whole(_) => Ok(reply.head),
                    ReplyBody::Pieces { .. } => Err(broken("its answer comes in pieces".into())),
                };
            }
            FrameKind::Failed => {
                let problem = read_failed(&frame.payload).map_err(|error| broken(error.to_string()))?;
                return Err(JoinError::Refused(Box::new(problem)));
            }
            _ => {}
        }
    }
}

fn config(clock: &Arc<dyn Clock>, proof: Arc<ProofOfCluster>) -> Result<ClientConfig, rustls::Error> {
    let time = Arc::new(tls::CertificateTime(clock.clone()));
    let mut config = ClientConfig::builder_with_details(tls::provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(proof)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Accepts a chain that holds the authority of the token, whatever node it is of.
#[derive(Debug)]
struct ProofOfCluster {
    wanted: AuthorityHash,
    /// Whether the chain of another cluster was shown.
    missed: AtomicBool,
}

impl ServerCertVerifier for ProofOfCluster {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = intermediates.iter().find(|shown| AuthorityHash::of(shown) == self.wanted)
        else {
            self.missed.store(true, Ordering::Relaxed);
            return Err(rustls::CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let algorithms = tls::provider().signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken between nodes".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &tls::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
