//! Identifiers and times, a type for each.
//!
//! Numbers are counters that the leader hands out; text identifiers are checked by [`crate::names`].

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub $inner);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl $name {
            /// The number after this one; stays at the end of the range rather than wrap.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
    )*};
}

number! {
    /// An agent as the state knows it, whatever its life. A counter.
    AgentId(u32);
    /// Short for an agent within one incarnation of one scheduler.
    AgentHandle(u32);
    /// A framework. A counter.
    FrameworkId(u64);
    /// The leader's term in the upper 24 bits, a counter in the lower 40, so it never names another offer.
    OfferId(u64);
    /// Rises per agent; the agent never starts a number at or below its mark.
    LaunchNumber(u64);
    /// One leadership.
    Term(u64);
    /// Counts the instances of one scheduler.
    Incarnation(u64);
    /// Counts the committed turns of one framework.
    TurnNumber(u64);
    /// One storage of an agent: a new disk or a reboot begins another.
    Life(u64);
    /// An agent's report, in the order in which it was written down.
    ReportSeq(u64);
    /// A waiting HTTP request to a framework; ends with the leader's term.
    RequestId(u64);
    /// Milliseconds since the Unix epoch as the leader tells them; never goes back.
    Timestamp(u64);
    /// A span in milliseconds.
    DurationMs(u64);
}

impl Timestamp {
    /// This time and a span; stays at the end of the range rather than wrap.
    #[must_use]
    pub fn after(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }
    /// The span since an earlier time; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

impl OfferId {
    /// The offer that a leader of this term makes with this count.
    #[must_use]
    pub fn new(term: Term, count: u64) -> Self {
        Self((term.0 << 40) | (count & ((1 << 40) - 1)))
    }
    /// The term whose leader made this offer.
    #[must_use]
    pub fn term(self) -> Term {
        Term(self.0 >> 40)
    }
}

macro_rules! text {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        /// So that maps can be asked with plain text; order and hash are those of the text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text! {
    /// Who uploads. Checked by [`crate::names::check_name`].
    Tenant;
    /// A role path such as `acme/web`. Checked by [`crate::names::check_role`].
    Role;
    /// A task, unique within its framework among live and retained ones. Chosen by the scheduler.
    TaskId;
}

/// A task anywhere in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// Whose task it is.
    pub framework: FrameworkId,
    /// Its name within the framework.
    pub task: TaskId,
}

/// The SHA-256 of a blob or module. Hexadecimal where people read it, 32 bytes elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

/// What is wrong with a text that should be a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct DigestError;

impl std::str::FromStr for Digest {
    type Err = DigestError;

    /// Takes 64 hexadecimal digits, with or without `sha256:` before them.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if hex.len() != 64 {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |at: usize| {
                let digit = pair.get(at).and_then(|c| char::from(*c).to_digit(16));
                digit.and_then(|d| u8::try_from(d).ok()).ok_or(DigestError)
            };
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_of_one_term_is_never_that_of_another() {
        assert_ne!(OfferId::new(Term(1), 7), OfferId::new(Term(2), 7));
        assert_eq!(OfferId::new(Term(3), 7).term(), Term(3));
    }

    #[test]
    fn a_digest_reads_what_it_prints() {
        let digest = Digest([0xa7; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(format!("{digest:?}").parse(), Ok(digest));
        assert_eq!("a7".parse::<Digest>(), Err(DigestError));
        assert_eq!("é".repeat(32).parse::<Digest>(), Err(DigestError));
    }
}
