//! The smallest HTTP/1 client: one request, one answer, over any stream. Knows lengths, not chunks; follows nothing.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 << 10;
/// Longest body of an answer, in bytes.
const BODY_MAX: usize = 64 << 20;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub status: u16,
    head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the field `name`.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Whether the connection takes another request.
    pub(super) fn keeps(&self) -> bool {
        self.field("content-length").is_some() && self.field("connection") != Some("close")
    }
}

/// A GET of `path`.
pub(super) fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tutti-demo\r\n\r\n").into_bytes()
}

/// A POST of `json` to `path`.
pub(super) fn post(host: &str, path: &str, json: &str) -> Vec<u8> {
    let len = json.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{json}"
    )
    .into_bytes()
}

/// Sends `request` and reads the answer. Not cancel-safe: afterwards the stream is of no use.
///
/// Errors: the stream broke or ended before the answer did; the answer is none.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
) -> io::Result<Answer> {
    stream.write_all(request).await?;
    let mut bytes = Vec::with_capacity(4096);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD_MAX {
            return Err(wrong("a head without end"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let status =
        head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| wrong("no status"))?;
    let mut answer = Answer { status, head, body };
    read_body(stream, &mut answer).await?;
    Ok(answer)
}

async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, answer: &mut Answer) -> io::Result<()> {
    if matches!(answer.status, 100..200 | 204 | 304) {
        return Ok(());
    }
    let length = answer.field("content-length").map(str::parse::<usize>);
    let rest = match length {
        Some(Ok(length)) if length <= BODY_MAX => length.saturating_sub(answer.body.len()),
        Some(_) => return Err(wrong("a length beyond reason")),
        None if answer.field("transfer-encoding").is_some() => return Err(wrong("a body in chunks")),
        None => BODY_MAX,
    };
    stream.take(rest as u64).read_to_end(&mut answer.body).await?;
    match length {
        Some(Ok(length)) if answer.body.len() < length => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer has {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(bytes: &[u8]) -> io::Result<Answer> {
        let (mut near, mut far) = tokio::io::duplex(4096);
        far.write_all(bytes).await.unwrap();
        // What is asked must fit the pipe, as nobody reads it.
        let asked = exchange(&mut near, b"GET / HTTP/1.1\r\n\r\n");
        drop(far.shutdown().await);
        asked.await
    }

    #[tokio::test]
    async fn an_answer_has_its_status_fields_and_body() {
        let whole = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Status: tutti; hit\r\n\r\nabc")
            .await
            .unwrap();
        assert_eq!((whole.status, &whole.body[..], whole.keeps()), (200, &b"abc"[..], true));
        assert_eq!(whole.field("cache-status"), Some("tutti; hit"));
        let last =
            answer(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
        assert_eq!((last.status, last.keeps()), (503, false));
    }

    #[tokio::test]
    async fn what_breaks_off_is_no_answer() {
        for bytes in
            [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"]
        {
            assert_eq!(answer(bytes).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
