//! The folder that a task sees: made before it starts, with its inputs in it.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tepui_agent_core::Refused;
use tepui_proto::control::Launch;
use tepui_proto::tasks::Input;
use tepui_proto::{Digest, Reason, limits, names};

use crate::blobs::{Blobs, LocalBlob};
use crate::room;

/// Makes the folder and puts the inputs in. On failure the folder is gone again.
pub(crate) async fn make(path: &str, launch: &Launch, blobs: &Blobs) -> Result<(), Refused> {
    let root = PathBuf::from(path);
    let made = fill(&root, launch, blobs).await;
    if made.is_err()
        && let Err(error) = tokio::fs::remove_dir_all(&root).await
    {
        tracing::warn!(path, %error, "cannot remove a sandbox");
    }
    made
}

async fn fill(root: &Path, launch: &Launch, blobs: &Blobs) -> Result<(), Refused> {
    make_folder(root).map_err(|error| failed(format!("cannot make the sandbox: {error}")))?;
    let mut left = launch.spec.resources.disk_bytes;
    if launch.inputs.len() != launch.spec.inputs.len() {
        return Err(refused(
            Reason::InputUnavailable,
            "the digests of its inputs were not told".to_owned(),
        ));
    }
    for (input, digest) in launch.spec.inputs.iter().zip(&launch.inputs) {
        left = put(root, input, *digest, left, blobs).await?;
    }
    Ok(())
}

/// Puts one input in. Says how much of the disk is left.
async fn put(
    root: &Path,
    input: &Input,
    digest: Digest,
    left: u64,
    blobs: &Blobs,
) -> Result<u64, Refused> {
    let path = &input.path;
    if let Err(error) = names::check_sandbox_path(path) {
        return Err(refused(Reason::InvalidTask, format!("input path `{path}`: {error}")));
    }
    let blob = match blobs.want(digest).await {
        Some(Ok(blob)) => blob,
        Some(Err(error)) => {
            return Err(refused(Reason::InputUnavailable, format!("input `{path}`: {error}")));
        }
        None => return Err(failed("the agent stops".to_owned())),
    };
    let (first, length) = input.range.unwrap_or((0, blob.size_bytes));
    if first.checked_add(length).is_none_or(|end| end > blob.size_bytes) {
        let message = format!(
            "input `{path}`: bytes {first} to {first}+{length} of a blob of {} bytes",
            blob.size_bytes
        );
        return Err(refused(Reason::InputUnavailable, message));
    }
    let Some(left) = left.checked_sub(length) else {
        return Err(refused(
            Reason::DiskExceeded,
            format!("its inputs do not fit into its disk; `{path}` has {length} bytes"),
        ));
    };
    let target = root.join(path);
    let copied = tokio::task::spawn_blocking(move || copy(&blob, first, length, &target)).await;
    match copied {
        Ok(Ok(())) => Ok(left),
        Ok(Err(error)) => Err(failed(format!("cannot write input `{path}`: {error}"))),
        Err(error) => Err(failed(format!("cannot write input `{path}`: {error}"))),
    }
}

/// The sandbox is new and no guest has seen it, so there is no link in it to follow.
fn copy(blob: &LocalBlob, first: u64, length: u64, target: &Path) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        make_folder(parent)?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let mut buffer = vec![0; limits::BLOB_CHUNK_BYTES];
    let mut done = 0;
    while done < length {
        let want = usize::try_from(length - done).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..want) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        room::check(target)?;
        blob.file.read_exact_at(part, first + done)?;
        file.write_all_at(part, done)?;
        done += want as u64;
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn refused(reason: Reason, message: String) -> Refused {
    Refused { reason, message }
}

fn failed(message: String) -> Refused {
    refused(Reason::AgentFailed, message)
}
