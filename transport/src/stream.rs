//! Frames on anything that carries bytes: QUIC streams, and the socket between an agent and its cells.
//!
//! Owns the buffers between bytes and messages. Never retries, never closes a connection. Its one surprise: both
//! halves may be cancelled at any point and used again; what was half read or half written stays where it is.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tepui_proto::frame::{self, Decoder, FrameError};
use tepui_proto::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one read; on the stack, so that a stream that waits holds no buffer.
const READ_BYTES: usize = 16 * 1024;
/// Beyond this, what waits to be written leaves before more is added.
const WRITE_BYTES: usize = 64 * 1024;
/// A buffer that grew beyond this is given back once it is empty.
const KEEP_BYTES: usize = limits::BLOB_CHUNK_BYTES;

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// What came is not a frame, or what was to be sent is too large for one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No whole frame came in time.
    #[error("no whole frame came within {} ms", .0.as_millis())]
    Silent(Duration),
    /// It broke: reset, or its connection is gone.
    #[error("the stream broke")]
    Io(#[from] io::Error),
}

impl StreamError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        crate::CloseCode::from(self).code()
    }
}

/// Reads frames. Holds at most one frame and what came with it.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    decoder: Decoder,
    /// Bytes taken in since the decoder was last empty; how large its buffer may be.
    taken: usize,
    /// Bytes after a bad frame cannot be trusted, so it is all that is ever read again.
    failed: Option<FrameError>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from the start of a frame on.
    pub fn new(inner: R) -> Self {
        Self { inner, decoder: Decoder::default(), taken: 0, failed: None }
    }

    /// The next message; none if the stream ended after a whole frame. May be cancelled and called again.
    ///
    /// # Errors
    /// A bad frame (for good), an end within a frame, a broken stream.
    pub async fn read<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.pop()? {
                return Ok(Some(message));
            }
            if poll_fn(|context| self.poll_fill(context)).await? == 0 {
                return if self.decoder.is_whole() {
                    Ok(None)
                } else {
                    Err(FrameError::Cut.into())
                };
            }
        }
    }

    /// As [`Self::read`], but not for longer than `limit`.
    ///
    /// Use it for the first frame of a stream that a peer opened: a peer that opens streams and sends half a frame, or
    /// nothing, would otherwise hold a task here for as long as it keeps its connection.
    ///
    /// # Errors
    /// [`StreamError::Silent`], and what [`Self::read`] says.
    pub async fn read_within<T: DeserializeOwned>(
        &mut self,
        limit: Duration,
    ) -> Result<Option<T>, StreamError> {
        match tokio::time::timeout(limit, self.read()).await {
            Ok(read) => read,
            Err(_) => Err(StreamError::Silent(limit)),
        }
    }

    /// A message that is here already, without waiting; so that one turn of a loop takes all that came.
    ///
    /// # Errors
    /// A bad frame, for good.
    pub fn pop<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        let popped = self.decoder.pop();
        if let Err(error) = &popped {
            self.failed = Some(error.clone());
            self.decoder = Decoder::default();
        } else if self.decoder.is_whole() {
            if self.taken > KEEP_BYTES {
                self.decoder = Decoder::default();
            }
            self.taken = 0;
        }
        Ok(popped?)
    }

    /// What it reads from.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// What it reads from, for instance to stop a QUIC stream.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Takes what has come, in the same poll that read it: nothing is lost if the future is dropped.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.decoder.push(buffer.filled());
                self.taken = self.taken.saturating_add(buffer.filled().len());
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }
}

/// Writes frames, as many as there are in one write.
#[derive(Debug)]
pub struct FrameWriter<W> {
    inner: W,
    waiting: Vec<u8>,
    /// Of what is in `waiting`, how much has left.
    written: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes from the start of a frame on.
    pub fn new(inner: W) -> Self {
        Self { inner, waiting: Vec::new(), written: 0 }
    }

    /// Sends one message. If it is cancelled, the message may still leave, whole, with the next write.
    ///
    /// # Errors
    /// A message that is too large (nothing of it is sent, and the stream can be used), or a broken stream.
    pub async fn write<T: Serialize>(&mut self, message: &T) -> Result<(), StreamError> {
        self.write_all(std::slice::from_ref(message)).await
    }

    /// Sends messages in order, in as few writes as can be. If it is cancelled, each of them has left whole, or may
    /// still leave whole with the next write, or is not sent at all; an earlier one never less than a later one.
    ///
    /// # Errors
    /// A message that is too large (those before it are sent), or a broken stream.
    pub async fn write_all<T: Serialize>(&mut self, messages: &[T]) -> Result<(), StreamError> {
        let mut outcome = Ok(());
        for message in messages {
            if self.waiting.len() - self.written >= WRITE_BYTES {
                self.flush().await?;
            }
            if let Err(error) = frame::encode_into(message, &mut self.waiting) {
                outcome = Err(error.into());
                break;
            }
        }
        self.flush().await?;
        outcome
    }

    /// Sends what a cancelled write has left behind; else nothing.
    ///
    /// # Errors
    /// A broken stream.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        poll_fn(|context| self.poll_send(context)).await?;
        self.waiting.clear();
        self.written = 0;
        if self.waiting.capacity() > KEEP_BYTES {
            self.waiting = Vec::new();
        }
        poll_fn(|context| Pin::new(&mut self.inner).poll_flush(context)).await?;
        Ok(())
    }

    /// Says that no more will come; the peer reads `None` after the last message.
    ///
    /// # Errors
    /// A broken stream.
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        self.flush().await?;
        poll_fn(|context| Pin::new(&mut self.inner).poll_shutdown(context)).await?;
        Ok(())
    }

    /// What it writes to.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// What it writes to, for instance to reset a QUIC stream or set its priority.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.inner).poll_write(context, rest) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn messages_come_out_as_they_went_in_through_a_narrow_pipe() {
        let (near, far) = tokio::io::duplex(7);
        let sent: Vec<String> = (0..200).map(|i| "x".repeat(i)).collect();
        let copy = sent.clone();
        let writer = tokio::spawn(async move {
            let mut writer = FrameWriter::new(near);
            writer.write_all(&copy).await.unwrap();
            writer.finish().await.unwrap();
        });
        let mut reader = FrameReader::new(far);
        for message in sent {
            assert_eq!(reader.read::<String>().await.unwrap(), Some(message));
        }
        assert_eq!(reader.read::<String>().await.unwrap(), None);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_cancelled_write_and_a_cancelled_read_lose_nothing() {
        let (near, far) = tokio::io::duplex(16);
        let mut writer = FrameWriter::new(near);
        let mut reader = FrameReader::new(far);
        let long = "y".repeat(100);
        // Polled once: fills the pipe, then waits.
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Box::pin(writer.write(&long)).as_mut().poll(&mut context).is_pending());
        assert!(Box::pin(reader.read::<String>()).as_mut().poll(&mut context).is_pending());
        let next = "z".to_owned();
        let (wrote, read) = tokio::join!(writer.write(&next), reader.read::<String>());
        wrote.unwrap();
        assert_eq!(read.unwrap(), Some(long));
        assert_eq!(reader.read::<String>().await.unwrap(), Some(next));
    }

    #[tokio::test]
    async fn a_bad_frame_is_refused_for_good() {
        for (bytes, code) in [
            (&[0xff_u8, 0xff, 0xff, 0xff][..], "frame-too-large"),
            (&[2, 0, 0, 0, 9, 1], "wire-version"),
            (&[3, 0, 0, 0, limits::WIRE_VERSION, 1, 2], "frame-invalid"),
            (&[3, 0, 0, 0, limits::WIRE_VERSION], "frame-cut"),
        ] {
            let (mut near, far) = tokio::io::duplex(64);
            let mut reader = FrameReader::new(far);
            near.write_all(bytes).await.unwrap();
            near.shutdown().await.unwrap();
            assert_eq!(reader.read::<u8>().await.unwrap_err().code(), code);
            assert_eq!(reader.read::<u8>().await.unwrap_err().code(), code);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_frame_and_silence_ends_in_time() {
        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(&[9, 0, 0]).await.unwrap();
        let mut reader = FrameReader::new(far);
        let read = reader.read_within::<u8>(Duration::from_secs(5)).await;
        assert_eq!(read.unwrap_err().code(), "stream-silent");
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_sent_and_the_next_is() {
        let (near, far) = tokio::io::duplex(64);
        let mut writer = FrameWriter::new(near);
        let refused = writer.write(&vec![0_u8; limits::FRAME_BYTES]).await;
        assert_eq!(refused.unwrap_err().code(), "frame-too-large");
        writer.write(&7_u8).await.unwrap();
        assert_eq!(FrameReader::new(far).read::<u8>().await.unwrap(), Some(7));
    }
}
