//! The cluster's authority: one ECDSA P-256 key that signs the certificate of every agent and master.
//!
//! Owns `ca.pem` and `ca-key.pem`. Never talks to anyone. Its one surprise: its certificates do not run out, so a
//! peer is shut out by making a new authority, not by waiting.

use crate::files::{self, Mode};
use crate::identity::{Identity, IdentityError, PeerIdentity, PeerRole};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// The DNS name in every master's certificate; dialers ask for it, whatever address they dial.
pub const MASTER_NAME: &str = "tepui-master";

const CA_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";

/// Signs certificates. Its `Debug` does not show the key.
pub struct Authority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// If there are no random numbers to be had.
    pub fn create() -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("tepui authority");
        // It signs leaves only: a leaked leaf can never sign another.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = params.self_signed(&key)?.pem();
        Ok(Self { ca_pem, issuer: Issuer::new(params, key) })
    }

    /// Reads `ca.pem` and `ca-key.pem` of a folder.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn load(folder: &Path) -> Result<Self, IdentityError> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| IdentityError::file(&path, source))
        };
        let ca_pem = read(CA_FILE)?;
        let key = KeyPair::from_pem(&read(KEY_FILE)?)?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key)?;
        Ok(Self { ca_pem, issuer })
    }

    /// Writes `ca.pem` and `ca-key.pem` (mode 0600) into a folder, which it makes if need be.
    ///
    /// # Errors
    /// If one of them cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| IdentityError::file(folder, source))?;
        let key_pem = self.issuer.key().serialize_pem();
        for (name, text, mode) in
            [(KEY_FILE, &key_pem, Mode::Secret), (CA_FILE, &self.ca_pem, Mode::Public)]
        {
            let path = folder.join(name);
            files::write(&path, text.as_bytes(), mode)
                .map_err(|source| IdentityError::file(&path, source))?;
        }
        Ok(())
    }

    /// Its certificate, for whoever is to trust what it signs.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Makes a certificate and its key for a peer.
    ///
    /// It is valid for `localhost`, `127.0.0.1`, `::1`, and `hosts` (addresses or DNS names); a master's also for
    /// [`MASTER_NAME`]. An agent's can only be used to dial, a master's to listen too.
    ///
    /// # Errors
    /// If `name` is not a name, or a host is not one.
    pub fn issue(
        &self,
        role: PeerRole,
        name: &str,
        hosts: &[String],
    ) -> Result<Identity, IdentityError> {
        tepui_proto::names::check_name(name)
            .map_err(|source| IdentityError::Name { name: name.to_owned(), source })?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("tepui {role} {name}"));
        params.subject_alt_names = alternative_names(role, name, hosts)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role == PeerRole::Master {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.ca_pem.clone(),
        })
    }
}

fn alternative_names(
    role: PeerRole,
    name: &str,
    hosts: &[String],
) -> Result<Vec<SanType>, IdentityError> {
    let peer = PeerIdentity { role, name: name.to_owned() };
    let mut names = vec![
        SanType::URI(Ia5String::try_from(peer.uri())?),
        SanType::DnsName(Ia5String::try_from("localhost")?),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    if role == PeerRole::Master {
        names.push(SanType::DnsName(Ia5String::try_from(MASTER_NAME)?));
    }
    for host in hosts {
        let host = match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(Ia5String::try_from(host.as_str())?),
        };
        if !names.contains(&host) {
            names.push(host);
        }
    }
    Ok(names)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut whole = DistinguishedName::new();
    whole.push(DnType::CommonName, name);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_loaded_authority_signs_for_the_same_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("authority");
        let made = Authority::create().unwrap();
        made.save(&folder).unwrap();
        let mode = fs::metadata(folder.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = Authority::load(&folder).unwrap();
        assert_eq!(loaded.ca_pem(), made.ca_pem());
        let identity =
            loaded.issue(PeerRole::Master, "master-0", &["10.0.0.1".to_owned()]).unwrap();
        assert_eq!(identity.peer().unwrap().role, PeerRole::Master);
    }

    #[test]
    fn a_name_cannot_smuggle_another_path_into_a_certificate() {
        let authority = Authority::create().unwrap();
        for name in ["", "a/b", "../master/x", "a b"] {
            assert!(
                matches!(
                    authority.issue(PeerRole::Agent, name, &[]),
                    Err(IdentityError::Name { .. })
                ),
                "{name}"
            );
        }
    }
}
