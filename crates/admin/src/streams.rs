//! Bodies between HTTP and the house's own form, piece by piece: never held whole, never over their limit.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as HttpBody, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::sync::Mutex;
use tutti_base::{Body, BodyError, FileBody, StreamBody};

/// How long the next piece of an arriving body may take.
pub(crate) const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest rest of a refused body that is read away, in bytes.
const REST_MAX: usize = 1 << 20;
/// How long that may take.
const REST_WITHIN: Duration = Duration::from_secs(2);
/// How much of a file is read at once.
const PIECE_BYTES: u64 = 256 << 10;

/// The length that the head announces.
pub(crate) fn announced(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// An arriving body of at most `most` bytes. It ends with an error when it is longer, breaks off, or stands still for
/// [`PIECE_TIMEOUT`].
pub(crate) fn arriving(body: HttpBody, len: Option<u64>, most: u64) -> (Body, Rest) {
    let pieces = Arc::new(Mutex::new(body.into_data_stream()));
    let rest = Rest(Arc::clone(&pieces));
    let chunks = stream::unfold(Some((pieces, 0u64)), move |state| async move {
        let (pieces, seen) = state?;
        let next = async { pieces.lock().await.next().await };
        let piece = match tokio::time::timeout(PIECE_TIMEOUT, next).await {
            Err(_) => return Some((Err(BodyError::Timeout), None)),
            Ok(None) => return None,
            Ok(Some(Err(error))) => return Some((Err(BodyError::Broken(error.to_string())), None)),
            Ok(Some(Ok(piece))) => piece,
        };
        let seen = seen + piece.len() as u64;
        if seen > most {
            return Some((Err(BodyError::TooLong { limit: most }), None));
        }
        Some((Ok(piece), Some((pieces, seen))))
    });
    (Body::Stream(StreamBody { len, hash: None, chunks: Box::pin(chunks) }), rest)
}

/// What was not taken of a body on its way in.
pub(crate) struct Rest(Arc<Mutex<BodyDataStream>>);

impl Rest {
    /// Reads a short rest away, so that whoever sends it gets to read why it was refused.
    pub(crate) async fn read_away(self) {
        let reading = async {
            let (mut pieces, mut read) = (self.0.lock().await, 0);
            while read < REST_MAX
                && let Some(Ok(piece)) = pieces.next().await
            {
                read += piece.len();
            }
        };
        // A rest that is longer or slower is cut off.
        let _ = tokio::time::timeout(REST_WITHIN, reading).await;
    }
}

/// A body on its way out.
pub(crate) fn leaving(body: Body) -> HttpBody {
    match body {
        Body::Whole(bytes) => HttpBody::from(bytes),
        Body::Stream(stream) => HttpBody::from_stream(stream.chunks),
        Body::File(FileBody { file, offset, len }) => {
            let pieces = stream::unfold((offset, offset + len), move |(at, end)| {
                let file = Arc::clone(&file);
                async move {
                    let count = (end - at).min(PIECE_BYTES);
                    if count == 0 {
                        return None;
                    }
                    match read(file, at, count).await {
                        Ok(piece) => Some((Ok(piece), (at + count, end))),
                        Err(error) => Some((Err(error), (end, end))),
                    }
                }
            });
            HttpBody::from_stream(pieces)
        }
    }
}

async fn read(file: Arc<File>, at: u64, count: u64) -> io::Result<Bytes> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; count as usize];
        file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
    });
    reading.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(body: Body) -> Result<Vec<u8>, BodyError> {
        let Body::Stream(mut stream) = body else { panic!("a stream") };
        let mut all = Vec::new();
        while let Some(piece) = stream.chunks.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_body_at_its_limit_arrives_and_one_over_it_ends_with_an_error() {
        let sent = |count: usize| {
            HttpBody::from_stream(stream::iter(
                (0..count).map(|_| Ok::<_, io::Error>(Bytes::from_static(b"ab"))),
            ))
        };
        assert_eq!(collect(arriving(sent(2), None, 4).0).await.unwrap(), b"abab");
        let over = collect(arriving(sent(3), None, 4).0).await.unwrap_err();
        assert!(matches!(over, BodyError::TooLong { limit: 4 }), "{over}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up() {
        let still = HttpBody::from_stream(stream::pending::<Result<Bytes, io::Error>>());
        assert!(matches!(collect(arriving(still, None, 4).0).await.unwrap_err(), BodyError::Timeout));
    }

    #[tokio::test]
    async fn a_part_of_a_file_leaves_whole() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..600_000u32).map(|at| at as u8).collect();
        std::fs::write(path.path(), &bytes).unwrap();
        let file = Arc::new(File::open(path.path()).unwrap());
        let body = leaving(Body::File(FileBody { file, offset: 3, len: 599_990 }));
        let left = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert!(left == bytes[3..599_993]);
    }
}
