//! Unchanging copies in sealed memory files. Reads happen on the blocking pool.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tutti_base::id::ContentHasher;
use tutti_base::{Body, BoxFuture, ContentHash, FileBody};
use tutti_fetch::FolderFile;
use tutti_flow::Copies;
use tutti_process::memfd;

/// Copies in memory files.
pub(crate) struct MemoryCopies;

impl Copies for MemoryCopies {
    fn freeze<'a>(
        &'a self,
        file: &'a FolderFile,
        limit: u64,
    ) -> BoxFuture<'a, io::Result<(FileBody, ContentHash)>> {
        let from = Arc::clone(&file.file);
        Box::pin(blocking(move || {
            let mut reader = HashingReader { file: &from, offset: 0, hasher: ContentHasher::default() };
            let (file, len) = memfd::sealed(&mut reader, limit)?;
            Ok((FileBody { file: Arc::new(file), offset: 0, len }, reader.hasher.finish()))
        }))
    }

    fn file(&self, bytes: Bytes) -> BoxFuture<'_, io::Result<FileBody>> {
        Box::pin(blocking(move || {
            let file = Arc::new(memfd::sealed_bytes(&bytes)?);
            Ok(FileBody { file, offset: 0, len: bytes.len() as u64 })
        }))
    }

    fn read(&self, body: Body, limit: u64) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            match body {
                Body::Whole(bytes) => within(bytes.len() as u64, limit).map(|()| bytes),
                Body::File(file) => {
                    within(file.len, limit)?;
                    blocking(move || {
                        let mut bytes = vec![0; file.len as usize];
                        file.file.read_exact_at(&mut bytes, file.offset).map(|()| bytes.into())
                    })
                    .await
                }
                Body::Stream(mut stream) => {
                    let mut all = Vec::new();
                    while let Some(chunk) = stream.chunks.next().await {
                        all.extend_from_slice(&chunk.map_err(io::Error::other)?);
                        within(all.len() as u64, limit)?;
                    }
                    Ok(all.into())
                }
            }
        })
    }
}

fn within(len: u64, limit: u64) -> io::Result<()> {
    if len <= limit {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Reads a file by position and hashes what it gives.
struct HashingReader<'a> {
    file: &'a File,
    offset: u64,
    hasher: ContentHasher,
}

impl Read for HashingReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.offset)?;
        self.hasher.update(&into[..read]);
        self.offset += read as u64;
        Ok(read)
    }
}
