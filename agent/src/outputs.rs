//! Files of a sandbox that become blobs after a task has finished.
//!
//! A guest can have put links anywhere, so no part of a path is followed if it is one: each folder is opened from the
//! one above it.

use rustix::fs::{CWD, Mode, OFlags, openat};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use tepui_agent_core::Refused;
use tepui_proto::control::{AgentStream, StoreAnswer};
use tepui_proto::tasks::{Blob, Output};
use tepui_proto::{Digest, LaunchNumber, Reason, limits, names};
use tepui_transport::Connection;
use tepui_transport::blob;

use crate::fetch::{ATTEMPTS, Link, pause};

/// Hashes and uploads a task's outputs, in their order.
pub(crate) async fn store(
    sandbox: String,
    launch: LaunchNumber,
    outputs: Vec<Output>,
    mut link: Link,
) -> Result<Vec<Blob>, Refused> {
    let mut blobs = Vec::with_capacity(outputs.len());
    for output in outputs {
        let unavailable = |what: String| Refused {
            reason: Reason::OutputUnavailable,
            message: format!("output `{}`: {what}", output.path),
        };
        let (root, path) = (sandbox.clone(), output.path.clone());
        let hashed = tokio::task::spawn_blocking(move || open_and_hash(&root, &path)).await;
        let hashed = hashed.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (file, digest, size_bytes) = hashed.map_err(|error| unavailable(error.to_string()))?;
        let wanted = AgentStream::Store { launch, digest, size_bytes };
        upload(&file, &wanted, &mut link).await.map_err(unavailable)?;
        blobs.push(Blob { name: output.blob, digest, size_bytes });
    }
    Ok(blobs)
}

fn open_and_hash(root: &str, path: &str) -> io::Result<(File, Digest, u64)> {
    let mut file = open_beneath(root, path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if meta.len() > limits::BLOB_BYTES {
        return Err(io::Error::other(format!(
            "it has {} bytes, and a blob at most {}",
            meta.len(),
            limits::BLOB_BYTES
        )));
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; limits::BLOB_CHUNK_BYTES];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((file, Digest(hash.finalize().into()), size));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        size += count as u64;
    }
}

/// Opens a file without following a link anywhere below the root.
fn open_beneath(root: &str, path: &str) -> io::Result<File> {
    names::check_sandbox_path(path).map_err(io::Error::other)?;
    let folder_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = openat(CWD, root, folder_flags, Mode::empty())?;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_some() {
            folder = openat(&folder, part, folder_flags, Mode::empty())?;
            continue;
        }
        // Not blocking, in case it is something else than a file.
        let file_flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        return Ok(File::from(openat(&folder, part, file_flags, Mode::empty())?));
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Uploads a file, again if the connection breaks.
async fn upload(file: &File, wanted: &AgentStream, link: &mut Link) -> Result<(), String> {
    let mut last = "the agent stops".to_owned();
    for attempt in 0..ATTEMPTS {
        pause(attempt).await;
        let Some(connection) = link.connection().await else { break };
        match upload_once(&connection, file, wanted).await {
            Ok(StoreAnswer::Stored) => return Ok(()),
            Ok(StoreAnswer::Refused(why)) => return Err(format!("the master refused it: {why}")),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn upload_once(
    connection: &Connection,
    file: &File,
    wanted: &AgentStream,
) -> Result<StoreAnswer, String> {
    let mut file = file.try_clone().map_err(|error| error.to_string())?;
    file.rewind().map_err(|error| error.to_string())?;
    let (mut writer, mut reader) = connection.open().await.map_err(|error| error.to_string())?;
    writer.write(wanted).await.map_err(|error| error.to_string())?;
    let mut source = tokio::fs::File::from_std(file);
    let sent = blob::send(&mut source, &mut writer).await;
    if sent.is_ok() {
        writer.finish().await.map_err(|error| error.to_string())?;
    }
    // A master that has the blob already, or does not want it, may answer before it has read it all.
    match (reader.read::<StoreAnswer>().await, sent) {
        (Ok(Some(answer)), _) => Ok(answer),
        (_, Err(error)) => Err(error.to_string()),
        (Err(error), _) => Err(error.to_string()),
        (Ok(None), _) => Err("the master did not answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_leads_out_of_a_sandbox() {
        let folder =
            std::env::temp_dir().join(format!("tepui-outputs-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(folder.join("in/deep")).unwrap();
        std::fs::write(folder.join("secret"), "s").unwrap();
        std::fs::write(folder.join("in/deep/file"), "abc").unwrap();
        std::os::unix::fs::symlink("../secret", folder.join("in/link")).unwrap();
        std::os::unix::fs::symlink("..", folder.join("in/up")).unwrap();
        let root = folder.join("in");
        let root = root.to_str().unwrap();
        let (_, digest, size) = open_and_hash(root, "deep/file").unwrap();
        assert_eq!(size, 3);
        assert!(digest.to_string().starts_with("ba7816bf"));
        for bad in ["link", "up/secret", "deep", "none", "../secret"] {
            assert!(open_and_hash(root, bad).is_err(), "{bad}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
