//! Who a process is: its certificate and key, and what a peer's certificate says.
//!
//! A role and a name stand in one SAN URI, `tepui://cluster/<role>/<name>`. Never decides whether a role may do
//! something; only reads it.

use crate::files;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// What stands before the role in a certificate's URI.
const URI_START: &str = "tepui://cluster/";

/// What a certificate's holder is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRole {
    /// Runs tasks and schedulers; dials masters.
    Agent,
    /// Listens for agents.
    Master,
}

impl PeerRole {
    /// As it stands in a certificate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Master => "master",
        }
    }
}

impl fmt::Display for PeerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a verified certificate says that the peer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    /// What it is.
    pub role: PeerRole,
    /// Unique among its role; checked by [`tepui_proto::names::check_name`].
    pub name: String,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.role, self.name)
    }
}

/// Why a certificate names no peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peer sent none.
    #[error("the peer has no certificate")]
    Missing,
    /// It is no X.509 certificate.
    #[error("the peer's certificate cannot be read")]
    Unreadable,
    /// There is no `tepui://cluster/...` in it, or more than one.
    #[error("the peer's certificate has {0} names of this cluster; it must have one")]
    Names(usize),
    /// A role that is not known here.
    #[error("the peer's certificate is for the unknown role `{0}`")]
    Role(String),
    /// A name that no one may have.
    #[error("the name in the peer's certificate is not allowed")]
    Name(#[source] tepui_proto::names::NameError),
}

impl PeerIdentity {
    /// The URI that stands for it in a certificate.
    pub fn uri(&self) -> String {
        format!("{URI_START}{}/{}", self.role, self.name)
    }

    /// Reads it from a certificate (DER) that TLS has verified.
    ///
    /// # Errors
    /// If the certificate does not name exactly one peer of a known role.
    pub fn from_certificate(der: &[u8]) -> Result<Self, PeerError> {
        let Ok((_, certificate)) = parse_x509_certificate(der) else {
            return Err(PeerError::Unreadable);
        };
        let Ok(names) = certificate.subject_alternative_name() else {
            return Err(PeerError::Unreadable);
        };
        let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(
            |name| match name {
                GeneralName::URI(uri) => uri.strip_prefix(URI_START),
                _ => None,
            },
        );
        match (uris.next(), uris.count()) {
            (Some(uri), 0) => Self::parse(uri),
            (first, more) => Err(PeerError::Names(more + usize::from(first.is_some()))),
        }
    }

    fn parse(rest: &str) -> Result<Self, PeerError> {
        let (role, name) = rest.split_once('/').unwrap_or((rest, ""));
        let role = match role {
            "agent" => PeerRole::Agent,
            "master" => PeerRole::Master,
            other => return Err(PeerError::Role(other.chars().take(64).collect())),
        };
        tepui_proto::names::check_name(name).map_err(PeerError::Name)?;
        Ok(Self { role, name: name.to_owned() })
    }
}

/// Why an identity or an authority cannot be made, read, or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or text is not what it should be.
    #[error("there is no usable {what} in it")]
    Pem {
        /// What is missing.
        what: &'static str,
        /// What is wrong with it; none if it is not there at all.
        #[source]
        source: Option<pem::Error>,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// A name that no one may have.
    #[error("`{name}` cannot be the name of a peer")]
    Name {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: tepui_proto::names::NameError,
    },
}

impl IdentityError {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    fn pem(what: &'static str, source: pem::Error) -> Self {
        Self::Pem { what, source: Some(source) }
    }
}

/// A certificate, its key, and the authority that it and its peers trust. Its `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "each says what form it has")]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// Its key; secret.
    pub key_pem: String,
    /// The authority's certificate.
    pub ca_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads `identity.pem`: certificate, key, and the authority's certificate.
    ///
    /// # Errors
    /// If the file cannot be read, or lacks one of the three.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| IdentityError::file(path, source))?;
        Self::from_pem(&text)
    }

    /// Writes `identity.pem` with mode 0600, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let text = format!("{}{}{}", line(&self.cert_pem), line(&self.key_pem), line(&self.ca_pem));
        files::write(path, text.as_bytes(), files::Mode::Secret)
            .map_err(|source| IdentityError::file(path, source))
    }

    /// Who it is.
    ///
    /// # Errors
    /// If its certificate names no peer.
    pub fn peer(&self) -> Result<PeerIdentity, PeerError> {
        match CertificateDer::from_pem_slice(self.cert_pem.as_bytes()) {
            Ok(der) => PeerIdentity::from_certificate(&der),
            Err(_) => Err(PeerError::Unreadable),
        }
    }

    fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let mut certificates = Vec::new();
        let mut key = None;
        for block in
            text.split_inclusive("-----END ").flat_map(|part| part.split("-----BEGIN ").skip(1))
        {
            let (label, body) = block.split_once("-----").unwrap_or((block, ""));
            let body = body.trim_end_matches("-----END ");
            let pem = format!("-----BEGIN {label}-----{body}-----END {label}-----\n");
            match label {
                "CERTIFICATE" => certificates.push(pem),
                _ if label.ends_with("PRIVATE KEY") => key = Some(pem),
                _ => {}
            }
        }
        let mut certificates = certificates.into_iter();
        let cert_pem =
            certificates.next().ok_or(IdentityError::Pem { what: "certificate", source: None })?;
        let key_pem = key.ok_or(IdentityError::Pem { what: "private key", source: None })?;
        let ca_pem = certificates
            .next()
            .ok_or(IdentityError::Pem { what: "authority's certificate", source: None })?;
        let identity = Self { cert_pem, key_pem, ca_pem };
        identity.certificate()?;
        identity.key()?;
        identity.authority()?;
        Ok(identity)
    }

    pub(crate) fn certificate(&self) -> Result<CertificateDer<'static>, IdentityError> {
        CertificateDer::from_pem_slice(self.cert_pem.as_bytes())
            .map_err(|source| IdentityError::pem("certificate", source))
    }

    pub(crate) fn authority(&self) -> Result<CertificateDer<'static>, IdentityError> {
        CertificateDer::from_pem_slice(self.ca_pem.as_bytes())
            .map_err(|source| IdentityError::pem("authority's certificate", source))
    }

    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|source| IdentityError::pem("private key", source))
    }
}

fn line(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    #[test]
    fn an_identity_comes_back_from_its_file_and_only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        let identity = Authority::create().unwrap().issue(PeerRole::Agent, "agent-1", &[]).unwrap();
        identity.save(&path).unwrap();
        identity.save(&path).unwrap();
        let loaded = Identity::load(&path).unwrap();
        assert_eq!(loaded.certificate().unwrap(), identity.certificate().unwrap());
        assert_eq!(loaded.key().unwrap(), identity.key().unwrap());
        assert_eq!(loaded.authority().unwrap(), identity.authority().unwrap());
        assert_eq!(
            loaded.peer().unwrap(),
            PeerIdentity { role: PeerRole::Agent, name: "agent-1".to_owned() }
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{loaded:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        assert!(matches!(Identity::from_pem("-----BEGIN "), Err(IdentityError::Pem { .. })));
        assert!(matches!(PeerIdentity::from_certificate(b"garbage"), Err(PeerError::Unreadable)));
        assert!(matches!(PeerIdentity::parse("tenant/a"), Err(PeerError::Role(_))));
        assert!(matches!(PeerIdentity::parse("agent/a/b"), Err(PeerError::Name(_))));
        assert!(matches!(PeerIdentity::parse("agent"), Err(PeerError::Name(_))));
    }
}
