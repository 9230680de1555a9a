//! Blobs on a stream, in chunks, with bounded memory at both ends.
//!
//! Owns the order of [`BlobChunk`]s and the size limit. Never checks a digest and never names a file: the receiver
//! hashes what it is handed.

use crate::stream::{FrameReader, FrameWriter, StreamError};
use std::io;
use tepui_proto::control::BlobChunk;
use tepui_proto::frame::FrameError;
use tepui_proto::limits;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Why a blob did not go over.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The stream failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// What is to be sent cannot be read.
    #[error("the blob cannot be read")]
    Read(#[source] io::Error),
    /// What was received cannot be written.
    #[error("the blob cannot be written")]
    Write(#[source] io::Error),
    /// The sender does not have it, for the reason it gives.
    #[error("the blob cannot be had: {0}")]
    Missing(String),
    /// More bytes than were allowed.
    #[error("the blob is larger than {max} bytes")]
    TooLarge {
        /// What is allowed.
        max: u64,
    },
    /// A chunk with more bytes than one may have.
    #[error("a chunk of {0} bytes; {max} are allowed", max = limits::BLOB_CHUNK_BYTES)]
    Chunk(usize),
}

impl BlobError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stream(error) => error.code(),
            Self::Read(_) | Self::Write(_) => "blob-io",
            Self::Missing(_) => "blob-missing",
            Self::TooLarge { .. } => "blob-too-large",
            Self::Chunk(_) => "blob-chunk",
        }
    }
}

/// Sends all of `source` as chunks and the end mark; says how many bytes. Does not finish the stream. If the source
/// fails, the receiver is told so.
///
/// # Errors
/// If the source cannot be read, or the stream failed.
pub async fn send<R, W>(source: &mut R, writer: &mut FrameWriter<W>) -> Result<u64, BlobError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut total = 0_u64;
    loop {
        let mut bytes = Vec::with_capacity(limits::BLOB_CHUNK_BYTES);
        let read =
            (&mut *source).take(limits::BLOB_CHUNK_BYTES as u64).read_to_end(&mut bytes).await;
        if let Err(error) = read {
            writer.write(&BlobChunk::Missing("it cannot be read".to_owned())).await?;
            return Err(BlobError::Read(error));
        }
        if bytes.is_empty() {
            writer.write(&BlobChunk::End).await?;
            return Ok(total);
        }
        total += bytes.len() as u64;
        writer.write(&BlobChunk::Bytes(bytes)).await?;
    }
}

/// Takes chunks of one blob until its end mark.
#[derive(Debug)]
pub struct BlobReader<'a, R> {
    reader: &'a mut FrameReader<R>,
    max: u64,
    total: u64,
    ended: bool,
}

impl<'a, R: AsyncRead + Unpin> BlobReader<'a, R> {
    /// Takes at most `max` bytes in all.
    pub fn new(reader: &'a mut FrameReader<R>, max: u64) -> Self {
        Self { reader, max, total: 0, ended: false }
    }

    /// The next bytes; none at the end mark. May be cancelled.
    ///
    /// # Errors
    /// If the sender does not have it, sends too much, or the stream failed or ended before the end mark.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, BlobError> {
        if self.ended {
            return Ok(None);
        }
        match self.reader.read().await? {
            Some(BlobChunk::Bytes(bytes)) if bytes.len() > limits::BLOB_CHUNK_BYTES => {
                Err(BlobError::Chunk(bytes.len()))
            }
            Some(BlobChunk::Bytes(bytes)) => {
                self.total = self.total.saturating_add(bytes.len() as u64);
                if self.total > self.max {
                    Err(BlobError::TooLarge { max: self.max })
                } else {
                    Ok(Some(bytes))
                }
            }
            Some(BlobChunk::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(BlobChunk::Missing(reason)) => Err(BlobError::Missing(reason)),
            None => Err(StreamError::Frame(FrameError::Cut).into()),
        }
    }

    /// Bytes so far.
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// Receives a blob of at most `max` bytes into `target`, and flushes it; says how many bytes.
///
/// # Errors
/// What [`BlobReader::next`] says, and if the target cannot be written. The target may then hold a part.
pub async fn receive<R, W>(
    reader: &mut FrameReader<R>,
    target: &mut W,
    max: u64,
) -> Result<u64, BlobError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunks = BlobReader::new(reader, max);
    while let Some(bytes) = chunks.next().await? {
        target.write_all(&bytes).await.map_err(BlobError::Write)?;
    }
    target.flush().await.map_err(BlobError::Write)?;
    Ok(chunks.total())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn transfer(size: usize, max: u64) -> Result<Vec<u8>, BlobError> {
        let blob: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let (near, far) = tokio::io::duplex(4_096);
        let sender =
            tokio::spawn(async move { send(&mut &blob[..], &mut FrameWriter::new(near)).await });
        let mut got = Vec::new();
        let received = receive(&mut FrameReader::new(far), &mut got, max).await;
        let sent = sender.await.unwrap();
        received.map(|count| {
            assert_eq!((count, sent.unwrap()), (size as u64, size as u64));
            got
        })
    }

    #[tokio::test]
    async fn a_blob_of_any_size_goes_over() {
        for size in [0, 1, limits::BLOB_CHUNK_BYTES, limits::BLOB_CHUNK_BYTES * 2 + 1] {
            let got = transfer(size, size as u64).await.unwrap();
            assert_eq!(got.len(), size);
            assert!(got.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i % 251));
        }
    }

    #[tokio::test]
    async fn too_much_and_too_little_are_told_apart() {
        assert_eq!(transfer(11, 10).await.unwrap_err().code(), "blob-too-large");
        let (near, far) = tokio::io::duplex(4_096);
        let mut writer = FrameWriter::new(near);
        writer.write(&BlobChunk::Bytes(vec![1])).await.unwrap();
        writer.finish().await.unwrap();
        let cut = receive(&mut FrameReader::new(far), &mut Vec::new(), 10).await;
        assert_eq!(cut.unwrap_err().code(), "frame-cut");
    }
}
