//! `tepui blob put|get|ls`.
//!
//! Its one surprise: `get` checks the digest as the bytes come, and leaves no file behind that does not match.

use crate::client::Client;
use crate::error::CliError;
use crate::framework::checked;
use crate::out::{self, Format};
use crate::upload::{hash_all, upload_all};
use clap::Subcommand;
use futures_util::StreamExt as _;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tepui_proto::Digest;
use tepui_proto::api::BlobView;
use tepui_proto::resources::Bytes;
use tepui_proto::tasks::Blob;

/// `tepui blob …`
#[derive(Debug, Subcommand)]
pub(crate) enum BlobCommand {
    /// Upload files; prints their digests.
    Put {
        /// Regular files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Fetch a blob.
    Get {
        /// `sha256:HEX`, or the name of a framework's blob as `FRAMEWORK/NAME`.
        blob: String,
        /// Where to; standard output without it.
        file: Option<PathBuf>,
    },
    /// List blobs; those of a framework by name.
    Ls {
        /// The named blobs and results of this framework.
        #[arg(long)]
        framework: Option<String>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Does what was asked.
///
/// # Errors
/// Whatever the cluster refuses, and files that cannot be read or written.
pub(crate) async fn blob(client: &Client, command: BlobCommand) -> Result<(), CliError> {
    match command {
        BlobCommand::Put { files, output } => {
            let uploads = hash_all(files).await?;
            upload_all(client, &uploads).await?;
            let view =
                |digest: Digest, size_bytes| BlobView { digest: digest.to_string(), size_bytes };
            let items: Vec<BlobView> =
                uploads.iter().map(|upload| view(upload.digest, upload.size_bytes)).collect();
            print(output, &items)
        }
        BlobCommand::Get { blob, file } => {
            let digest = resolve(client, &blob).await?;
            fetch(client, digest, file.as_deref()).await
        }
        BlobCommand::Ls { framework: Some(name), output } => {
            let items: Vec<Blob> =
                client.list(&["frameworks", checked(&name)?, "blobs"], &[]).await?;
            out::listing(output, &items, &["NAME", "SIZE", "DIGEST"], |item| {
                vec![item.name.clone(), Bytes(item.size_bytes).to_string(), item.digest.to_string()]
            })
        }
        BlobCommand::Ls { framework: None, output } => {
            print(output, &client.list::<BlobView>(&["blobs"], &[]).await?)
        }
    }
}

fn print(output: Format, items: &[BlobView]) -> Result<(), CliError> {
    out::listing(output, items, &["DIGEST", "SIZE"], |item| {
        vec![item.digest.clone(), Bytes(item.size_bytes).to_string()]
    })
}

async fn resolve(client: &Client, blob: &str) -> Result<Digest, CliError> {
    if let Ok(digest) = blob.parse() {
        return Ok(digest);
    }
    let wrong = || {
        CliError::usage(format!("`{blob}` is not a blob: it is `sha256:HEX` or FRAMEWORK/NAME"))
            .hint("see `tepui blob ls`")
    };
    let (framework, name) = blob.split_once('/').ok_or_else(wrong)?;
    let items: Vec<Blob> = client.list(&["frameworks", checked(framework)?, "blobs"], &[]).await?;
    let unknown = || {
        let hint = format!("see `tepui blob ls --framework {framework}`");
        CliError::failed(format!("framework `{framework}` has no blob `{name}`")).hint(hint)
    };
    items.into_iter().find(|item| item.name == name).map(|item| item.digest).ok_or_else(unknown)
}

/// Fetches a blob into a file, or to standard output.
///
/// # Errors
/// When it is not there, does not match its digest, or cannot be written.
pub(crate) async fn fetch(
    client: &Client,
    digest: Digest,
    file: Option<&Path>,
) -> Result<(), CliError> {
    let Some(path) = file else {
        return stream(client, digest, out::data).await;
    };
    let failed = |error: std::io::Error| CliError::file("write", path, &error);
    let target = Target::find(path).map_err(failed)?;
    if target.is_stream {
        // A device or a pipe is written to; it is not replaced by a file.
        let mut file = File::options().write(true).open(path).map_err(failed)?;
        return stream(client, digest, |bytes| file.write_all(bytes).map_err(failed)).await;
    }
    let mut draft = tempfile::NamedTempFile::new_in(target.folder()).map_err(failed)?;
    stream(client, digest, |bytes| draft.as_file_mut().write_all(bytes).map_err(failed)).await?;
    let mode = std::fs::Permissions::from_mode(target.mode);
    draft.as_file().set_permissions(mode).map_err(failed)?;
    draft.persist(&target.path).map(drop).map_err(|error| failed(error.error))
}

/// Where a blob is to be written.
#[derive(Debug)]
pub(crate) struct Target {
    /// Behind all links.
    path: PathBuf,
    mode: u32,
    /// It is there, and no file.
    is_stream: bool,
}

impl Target {
    /// What stands there now, or may.
    ///
    /// # Errors
    /// If no file can be there: a folder is, or there is none to put it into.
    pub(crate) fn find(path: &Path) -> std::io::Result<Self> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
                // It points to what is not there yet.
                let folder = path.parent().unwrap_or_else(|| Path::new(""));
                return Self::find(&folder.join(std::fs::read_link(path)?));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A temporary file is its owner's alone; what a person asked for is as other files.
                let target = Self { path: path.to_owned(), mode: 0o644, is_stream: false };
                let has_name = path.file_name().is_some() && !path.as_os_str().is_empty();
                if !has_name || !std::fs::metadata(target.folder())?.is_dir() {
                    return Err(error);
                }
                return Ok(target);
            }
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let (mode, is_stream) = (metadata.permissions().mode() & 0o777, !metadata.is_file());
        Ok(Self { path: std::fs::canonicalize(path)?, mode, is_stream })
    }

    fn folder(&self) -> &Path {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or_else(|| Path::new("."))
    }
}

async fn stream(
    client: &Client,
    digest: Digest,
    mut sink: impl FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let response =
        client.send(client.request(Method::GET, &["blobs", &digest.to_string()])).await?;
    let bar = out::byte_bar(response.content_length().unwrap_or(0), "fetching");
    let mut hash = Sha256::new();
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| client.unreached(&error))?;
        hash.update(&piece);
        bar.inc(piece.len() as u64);
        sink(&piece)?;
    }
    bar.finish_and_clear();
    let found = Digest(hash.finalize().into());
    if found == digest {
        return Ok(());
    }
    Err(CliError::failed(format!("the blob {digest} came as {found}"))
        .hint("fetch it again; if that does not help, upload it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_written_behind_links_and_into_streams_and_never_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::fs::set_permissions(at("file"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        let link = Target::find(&at("link")).unwrap();
        assert_eq!((link.path.file_name(), link.mode), (at("file").file_name(), 0o600));
        std::os::unix::fs::symlink("later", at("dangling")).unwrap();
        assert_eq!(Target::find(&at("dangling")).unwrap().path, at("later"));
        std::os::unix::fs::symlink("round", at("round")).unwrap();
        assert!(Target::find(&at("round")).is_err());
        let new = Target::find(&at("new")).unwrap();
        assert_eq!((new.path, new.mode, new.is_stream), (at("new"), 0o644, false));
        assert!(Target::find(Path::new("/dev/null")).unwrap().is_stream);
        for bad in [at("no/file"), at("file/below"), folder.path().to_owned(), PathBuf::new()] {
            assert!(Target::find(&bad).is_err(), "{}", bad.display());
        }
    }
}
