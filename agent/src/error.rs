//! Why an agent cannot go on.

use std::io;
use std::path::{Path, PathBuf};

/// Why an agent did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A setting makes no sense.
    #[error("the setting `{setting}` is wrong: {what}")]
    Config {
        /// Which.
        setting: &'static str,
        /// Why.
        what: String,
    },
    /// A file or folder cannot be used.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its certificate, key or authority cannot be used.
    #[error("cannot use the identity")]
    Identity(#[from] tepui_transport::IdentityError),
    /// The certificate is not an agent's of this name.
    #[error("the certificate is for {found}, and the agent is `{wanted}`")]
    Name {
        /// What it says.
        found: String,
        /// What it should say.
        wanted: String,
    },
    /// No connection can be made from here.
    #[error("cannot make connections")]
    Endpoint(#[from] tepui_transport::EndpointError),
    /// The journal failed. What it holds can be told by starting again.
    #[error("the journal failed")]
    Journal(#[from] tepui_journal::JournalError),
    /// A record in the journal cannot be read.
    #[error("the journal holds something that cannot be read")]
    Record(#[from] tepui_agent_core::RecordError),
    /// A master does not want this agent, now or later.
    #[error("the master refused this agent ({code}): {message}")]
    Refused {
        /// Stable.
        code: String,
        /// For people.
        message: String,
    },
}

impl AgentError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "agent-config",
            Self::File { .. } => "agent-io",
            Self::Identity(_) | Self::Name { .. } => "identity",
            Self::Endpoint(_) => "endpoint",
            Self::Journal(error) => error.code(),
            Self::Record(_) => "journal-record",
            Self::Refused { .. } => "agent-refused",
        }
    }

    /// Makes an error of an `io::Error` at a path.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
