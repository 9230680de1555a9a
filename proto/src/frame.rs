//! Frames: 4 bytes of length (little-endian), 1 byte of [`limits::WIRE_VERSION`], then postcard.
//!
//! The length counts the version byte and the body. It is checked before anything is allocated, and a body must be
//! used up to its last byte. Postcard never reserves more than its input can hold.

use crate::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes before a frame's body.
pub const HEADER_BYTES: usize = 5;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length says more than is allowed, or nothing at all.
    #[error("a frame of {length} bytes; 1 to {max} are allowed")]
    Length {
        /// What it says.
        length: u64,
        /// What may be.
        max: usize,
    },
    /// A version that is not spoken here.
    #[error("wire version {0}; version {ours} is spoken here", ours = limits::WIRE_VERSION)]
    Version(u8),
    /// The body is not what it should be.
    #[error("the body of a frame cannot be read")]
    Body,
    /// Bytes after the end of the body.
    #[error("{0} bytes follow the end of a frame's body")]
    Trailing(usize),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
}

impl FrameError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "frame-too-large",
            Self::Version(_) => "wire-version",
            Self::Body | Self::Trailing(_) => "frame-invalid",
            Self::Cut => "frame-cut",
        }
    }
}

/// Encodes one message as a frame.
///
/// # Errors
/// [`FrameError::Length`] if it is larger than [`limits::FRAME_BYTES`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::with_capacity(128);
    encode_into(message, &mut bytes)?;
    Ok(bytes)
}

/// Appends one message as a frame, so that several leave in one write.
///
/// # Errors
/// [`FrameError::Length`] if it is larger than [`limits::FRAME_BYTES`]; `bytes` is then as before. [`FrameError::Body`] if
/// its serialiser fails, which that of no type of this crate does; `bytes` is then empty.
pub fn encode_into<T: Serialize>(message: &T, bytes: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0, 0, 0, 0, limits::WIRE_VERSION]);
    let Ok(mut whole) = postcard::to_extend(message, std::mem::take(bytes)) else {
        return Err(FrameError::Body);
    };
    let length = whole.len() - start - 4;
    let header =
        u32::try_from(length).ok().filter(|_| length <= limits::FRAME_BYTES).map(u32::to_le_bytes);
    let Some(header) = header else {
        whole.truncate(start);
        *bytes = whole;
        return Err(FrameError::Length { length: length as u64, max: limits::FRAME_BYTES });
    };
    if let Some(place) = whole.get_mut(start..start + 4) {
        place.copy_from_slice(&header);
    }
    *bytes = whole;
    Ok(())
}

/// Decodes the part of a frame that follows its length: version and body.
///
/// # Errors
/// Another version, a body that cannot be read, or bytes left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    match bytes.split_first() {
        None => Err(FrameError::Length { length: 0, max: limits::FRAME_BYTES }),
        Some((&limits::WIRE_VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            Ok((_, rest)) => Err(FrameError::Trailing(rest.len())),
            Err(_) => Err(FrameError::Body),
        },
        Some((version, _)) => Err(FrameError::Version(*version)),
    }
}

/// Reads the length of a frame.
///
/// # Errors
/// [`FrameError::Length`] if it is 0 or more than `max`.
pub fn check_length(header: [u8; 4], max: usize) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header);
    match usize::try_from(length) {
        Ok(fits) if fits > 0 && fits <= max => Ok(fits),
        _ => Err(FrameError::Length { length: u64::from(length), max }),
    }
}

/// Cuts a run of bytes into frames. Holds at most one frame and what came with it.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Of what is in `bytes`, how much was handed out.
    read: usize,
}

impl Decoder {
    /// Takes bytes in as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 && (self.read == self.bytes.len() || self.read > limits::BLOB_CHUNK_BYTES)
        {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame; none if more bytes are needed.
    ///
    /// # Errors
    /// What [`check_length`] and [`decode`] refuse. The bytes after it cannot be trusted.
    pub fn pop<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let waiting = self.bytes.get(self.read..).unwrap_or_default();
        let Some((header, rest)) = waiting.split_first_chunk::<4>() else { return Ok(None) };
        let length = check_length(*header, limits::FRAME_BYTES)?;
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let message = decode(frame)?;
        self.read += 4 + length;
        Ok(Some(message))
    }

    /// Whether the bytes so far end at the end of a frame.
    pub fn is_whole(&self) -> bool {
        self.read == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut bytes = encode(&vec![1u32, 2]).unwrap();
        encode_into(&vec![3u32], &mut bytes).unwrap();
        for step in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut got: Vec<Vec<u32>> = Vec::new();
            for piece in bytes.chunks(step) {
                decoder.push(piece);
                while let Some(frame) = decoder.pop().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, [vec![1, 2], vec![3]]);
            assert!(decoder.is_whole());
        }
    }

    #[test]
    fn a_frame_of_four_gibibytes_is_refused_before_it_is_read() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.pop::<u8>().unwrap_err().code(), "frame-too-large");
        assert_eq!(check_length([0; 4], 10).unwrap_err().code(), "frame-too-large");
    }

    #[test]
    fn garbage_versions_and_leftovers_are_told_apart() {
        assert_eq!(decode::<u8>(&[9, 1]), Err(FrameError::Version(9)));
        assert_eq!(decode::<String>(&[limits::WIRE_VERSION, 200, 1]), Err(FrameError::Body));
        assert_eq!(decode::<u8>(&[limits::WIRE_VERSION, 1, 2]), Err(FrameError::Trailing(1)));
    }

    #[test]
    fn a_length_inside_the_body_reserves_nothing_that_is_not_there() {
        let mut body = vec![limits::WIRE_VERSION];
        body.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(decode::<Vec<u64>>(&body), Err(FrameError::Body));
    }

    #[test]
    fn what_is_too_large_to_send_leaves_the_buffer_alone() {
        let mut bytes = vec![7];
        assert!(encode_into(&vec![0u8; limits::FRAME_BYTES + 1], &mut bytes).is_err());
        assert_eq!(bytes, [7]);
    }
}
