//! One call on one connection: a request with its body, and the answer whole or piece by piece. Knows no route.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::ClientError;

/// The longest answer that is taken whole, in bytes.
const ANSWER_MAX: usize = 64 << 20;
/// How much of a file is read at once.
const PIECE_BYTES: usize = 256 << 10;

/// A body on its way to the server.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body that is all there.
pub(super) fn whole(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The content of a file, read as it is sent, with its length.
pub(super) async fn file(path: &Path) -> Result<(Outgoing, u64), ClientError> {
    let failed = |error| ClientError::File { path: path.into(), error };
    let file = File::open(path).await.map_err(failed)?;
    let found = file.metadata().await.map_err(failed)?;
    if !found.is_file() {
        return Err(failed(std::io::Error::other("this is no file")));
    }
    let pieces = stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        match (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Frame::data(Bytes::from(piece))), Some(file))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok((StreamBody::new(pieces).boxed_unsync(), found.len()))
}

/// Sends `request` and takes the answer whole.
pub(super) async fn exchange(stream: UnixStream, request: Request<Outgoing>) -> Result<Bytes, ClientError> {
    converse(stream, request, async |response: Response<Incoming>| whole_of(response).await).await
}

/// Sends `request` and hands a good answer to `take`.
pub(super) async fn converse<T>(
    stream: UnixStream,
    request: Request<Outgoing>,
    take: impl AsyncFnOnce(Response<Incoming>) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status.is_success() {
            return take(response).await;
        }
        match serde_json::from_slice(&whole_of(response).await?) {
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(_) => Err(ClientError::Strange(format!("status {status} without a reason"))),
        }
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection's own end: the answer, if there is one, is in the sender's hands already.
        _ = connection => answer.await,
    }
}

async fn whole_of(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| ClientError::Broken(error.to_string()))
}

/// What broke, with its cause: hyper's own words say little.
pub(super) fn broken(error: hyper::Error) -> ClientError {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    ClientError::Broken(format!("{error}{cause}"))
}
