//! Why a connection was closed, in one number and one word that both sides know.

use crate::stream::StreamError;
use quinn::VarInt;
use tepui_proto::frame::FrameError;

/// The most bytes of a reason that are sent or kept; the rest of a packet is QUIC's.
const REASON_BYTES: usize = 256;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why this side closes a connection. Numbers and texts are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CloseCode {
            $($(#[$doc])* $name,)*
        }

        impl CloseCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number on the wire.
            pub fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* }
            }

            /// The stable text.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// All was said.
    Done = 0, "done";
    /// [`FrameError::Length`].
    FrameTooLarge = 1, "frame-too-large";
    /// [`FrameError::Version`].
    WireVersion = 2, "wire-version";
    /// [`FrameError::Body`] and [`FrameError::Trailing`].
    FrameInvalid = 3, "frame-invalid";
    /// [`FrameError::Cut`].
    FrameCut = 4, "frame-cut";
    /// A stream was opened and nothing whole came in time.
    StreamSilent = 5, "stream-silent";
    /// A stream broke.
    StreamLost = 6, "stream-lost";
    /// The certificate names no peer.
    PeerIdentity = 16, "peer-identity";
    /// The certificate is for another role.
    PeerRole = 17, "peer-role";
    /// The protocol is not the one that was agreed on.
    Protocol = 18, "protocol";
    /// There are too many connections.
    TooMany = 19, "too-many-connections";
    /// The same peer has come again.
    Superseded = 32, "superseded";
    /// This master does not lead.
    NotLeader = 33, "not-leader";
    /// The process stops.
    Stopping = 34, "stopping";
    /// Refused for a reason that was said before.
    Refused = 35, "refused";
    /// A message that makes no sense here.
    Unexpected = 36, "unexpected-message";
    /// This side failed.
    Internal = 37, "internal";
}

impl CloseCode {
    /// As QUIC carries it.
    pub fn to_var(self) -> VarInt {
        VarInt::from_u32(self.number())
    }

    /// From what QUIC carried; none if it is not known here.
    pub fn from_var(number: VarInt) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| u64::from(code.number()) == number.into_inner())
    }
}

impl From<&FrameError> for CloseCode {
    fn from(error: &FrameError) -> Self {
        match error {
            FrameError::Length { .. } => Self::FrameTooLarge,
            FrameError::Version(_) => Self::WireVersion,
            FrameError::Body | FrameError::Trailing(_) => Self::FrameInvalid,
            FrameError::Cut => Self::FrameCut,
        }
    }
}

impl From<&StreamError> for CloseCode {
    fn from(error: &StreamError) -> Self {
        match error {
            StreamError::Frame(error) => error.into(),
            StreamError::Silent(_) => Self::StreamSilent,
            StreamError::Io(_) => Self::StreamLost,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it.
    #[error("the peer closed the connection: {reason}")]
    Peer {
        /// None if the code is not known here.
        code: Option<CloseCode>,
        /// The stable text, and perhaps `: ` and words for people; at most 256 bytes, and not to be trusted.
        reason: String,
    },
    /// This side closed it.
    #[error("the connection was closed here")]
    Here,
    /// Nothing was heard for 15 seconds.
    #[error("the peer has not been heard of in time")]
    Idle,
    /// TLS refused it: certificate, authority, or protocol. The number is TLS's alert.
    #[error("the secure handshake failed: {reason}")]
    Tls {
        /// RFC 8446, section 6.
        alert: u8,
        /// What QUIC says.
        reason: String,
    },
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl CloseReason {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Peer { code: Some(code), .. } => code.code(),
            Self::Peer { code: None, .. } => "closed",
            Self::Here => "closed-here",
            Self::Idle => "connection-idle",
            Self::Tls { alert: 120, .. } => "protocol",
            Self::Tls { .. } => "tls-refused",
            Self::Broken(_) => "connection-lost",
        }
    }
}

impl From<quinn::ConnectionError> for CloseReason {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(closed) => {
                let reason = closed.reason.get(..REASON_BYTES).unwrap_or(&closed.reason);
                let reason = String::from_utf8_lossy(reason).into_owned();
                Self::Peer { code: CloseCode::from_var(closed.error_code), reason }
            }
            E::LocallyClosed => Self::Here,
            E::TimedOut => Self::Idle,
            E::ConnectionClosed(closed) => {
                tls_or_broken(u64::from(closed.error_code), closed.to_string())
            }
            E::TransportError(error) => tls_or_broken(u64::from(error.code), error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// QUIC carries TLS alerts as codes 0x100 to 0x1ff (RFC 9001, section 4.8).
fn tls_or_broken(code: u64, reason: String) -> CloseReason {
    match u8::try_from(code.wrapping_sub(0x100)) {
        Ok(alert) => CloseReason::Tls { alert, reason },
        Err(_) => CloseReason::Broken(reason),
    }
}

/// The bytes of a reason: the code's text, and words for people as far as they fit.
pub(crate) fn reason(code: CloseCode, message: &str) -> String {
    if message.is_empty() {
        return code.code().to_owned();
    }
    let mut text = format!("{}: {message}", code.code());
    text.truncate(text.floor_char_boundary(REASON_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_and_no_two_are_alike() {
        for (index, code) in CloseCode::ALL.iter().enumerate() {
            assert_eq!(CloseCode::from_var(code.to_var()), Some(*code));
            for other in &CloseCode::ALL[..index] {
                assert_ne!(other.code(), code.code());
            }
        }
        assert_eq!(CloseCode::from_var(VarInt::from_u32(999)), None);
    }

    #[test]
    fn frame_errors_keep_their_text() {
        for error in
            [FrameError::Cut, FrameError::Body, FrameError::Version(9), FrameError::Trailing(1)]
        {
            assert_eq!(CloseCode::from(&error).code(), error.code());
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let text = reason(CloseCode::Internal, &"é".repeat(1_000));
        assert!(text.len() <= REASON_BYTES && text.starts_with("internal: é"));
    }
}
