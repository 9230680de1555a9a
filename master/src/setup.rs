//! What a cluster needs before its first master starts: an authority, a master's identity, a token.
//!
//! Owns the layout of a cluster's folder: `authority/`, `master/identity.pem`, `token`. Never replaces what is there, so
//! it may be called again, and a start that was cut off goes on where it was.

use rand::TryRngCore as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tepui_transport::{Authority, Identity, IdentityError, PeerRole};

/// Random bytes of a token; as many as a key of 256 bits.
const TOKEN_BYTES: usize = 32;
/// The name of the one master that there is for now.
const MASTER: &str = "master";

/// Why a cluster cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file or folder.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The authority or the master's identity.
    #[error("cannot make the cluster's certificates")]
    Identity(#[from] IdentityError),
    /// There are no random numbers to be had.
    #[error("the system gives no random numbers")]
    Random(#[source] rand::rand_core::OsError),
}

/// What a cluster has, once it is set up.
#[derive(Debug)]
pub struct Cluster {
    /// Signs identities of agents.
    pub authority: Authority,
    /// The authority's certificate, for clients.
    pub ca: PathBuf,
    /// The master's folder.
    pub master: PathBuf,
    /// The master's certificate and key.
    pub identity: PathBuf,
    /// The file of the token.
    pub token_file: PathBuf,
    /// The token.
    pub token: String,
}

/// Makes what a cluster needs in a folder, as far as it is not there. The folder is its owner's alone.
///
/// # Errors
/// If something cannot be made or read.
pub fn init_cluster(folder: &Path) -> Result<Cluster, SetupError> {
    make_folder(folder)?;
    let authority_folder = folder.join("authority");
    make_folder(&authority_folder)?;
    let ca = authority_folder.join("ca.pem");
    let authority = if ca.exists() {
        Authority::load(&authority_folder)?
    } else {
        // The certificate is written last: if it is there, so is the key.
        let authority = Authority::create()?;
        authority.save(&authority_folder)?;
        authority
    };
    let master = folder.join(MASTER);
    make_folder(&master)?;
    let identity = master.join("identity.pem");
    if identity.exists() {
        drop(Identity::load(&identity)?);
    } else {
        authority.issue(PeerRole::Master, MASTER, &[])?.save(&identity)?;
    }
    let token_file = folder.join("token");
    let token = token(&token_file)?;
    Ok(Cluster { authority, ca, master, identity, token_file, token })
}

fn make_folder(folder: &Path) -> Result<(), SetupError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| SetupError::File { path: folder.to_owned(), source })
}

/// Reads the token, or makes one: 64 hexadecimal digits, for its owner's eyes alone.
fn token(path: &Path) -> Result<String, SetupError> {
    let failed = |source| SetupError::File { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut bytes = [0; TOKEN_BYTES];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(SetupError::Random)?;
    let token = hex::encode(bytes);
    write_secret(path, &token).map_err(failed)?;
    Ok(token)
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    // `create_new`, so that the mode holds from the first byte.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("cluster");
        let first = init_cluster(&folder).unwrap();
        let second = init_cluster(&folder).unwrap();
        assert_eq!(first.token, second.token);
        assert_eq!(first.authority.ca_pem(), second.authority.ca_pem());
        assert_eq!(first.token.len(), 2 * TOKEN_BYTES);
        assert_eq!(Identity::load(&first.identity).unwrap().peer().unwrap().role, PeerRole::Master);
    }

    #[test]
    fn secrets_are_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = init_cluster(folder.path()).unwrap();
        for secret in [&cluster.token_file, &cluster.identity] {
            assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
