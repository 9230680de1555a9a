//! The store through a folder of its own.

use super::{Blobs, PART_BYTES, Uploader};
use crate::descriptors::Shares;
use crate::places::Owner;
use crate::room::Room;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tepui_proto::{Digest, limits};

fn pieces(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin + use<> {
    let pieces: Vec<_> =
        bytes.chunks(70_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

fn open(folder: &Path) -> Blobs {
    let room = Room::without_reserve(folder);
    let shares = Shares { strangers: 1, known: 1, uploads: 2, readers: 1, fetches: 1 };
    Blobs::open(folder, room, shares).unwrap()
}

fn person() -> Uploader {
    Uploader::Person(Owner::named("somebody"))
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(files(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names
}

#[tokio::test]
async fn a_blob_comes_back_as_it_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    for bytes in [vec![], vec![7; 10], vec![9; 3 * PART_BYTES + 1]] {
        let digest = digest(&bytes);
        let stored =
            blobs.put(person(), &digest, limits::BLOB_BYTES, pieces(&bytes)).await.unwrap();
        assert_eq!(stored.size_bytes, bytes.len() as u64);
        let (size, chunks) = blobs.get(&digest).await.unwrap();
        let got: Vec<Bytes> = chunks.try_collect().await.unwrap();
        assert_eq!((size, got.concat()), (bytes.len() as u64, bytes.clone()));
        assert_eq!(blobs.read(&digest, u64::MAX).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let other = digest(b"other");
    let refused = blobs.put(person(), &other, 100, pieces(b"bytes")).await.unwrap_err();
    assert_eq!(refused.code(), "digest-mismatch");
    let large = vec![1; 2 * PART_BYTES];
    let refused = blobs
        .put(person(), &digest(&large), 2 * PART_BYTES as u64 - 1, pieces(&large))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "blob-too-large");
    let cut = stream::iter([Ok(Bytes::from_static(b"by")), Err("gone")]);
    assert_eq!(blobs.put(person(), &other, 100, cut).await.unwrap_err().code(), "upload-cut");
    assert_eq!(files(folder.path()), Vec::<String>::new());
    assert_eq!(blobs.get(&other).await.err().map(|error| error.code()), Some("blob-unknown"));
}

/// A source that never ends: so many bytes each second.
fn trickle(bytes: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin {
    let drops = stream::repeat(()).then(move |()| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Bytes::from(vec![0; bytes]))
    });
    Box::pin(drops)
}

#[tokio::test(start_paused = true)]
async fn a_slow_sender_is_cut_and_a_steady_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let rate = usize::try_from(limits::UPLOAD_BYTES_PER_S).unwrap();
    let max = 100 * limits::UPLOAD_BYTES_PER_S;
    let slow = blobs.put(person(), &digest(b""), max, trickle(rate / 2)).await;
    assert_eq!(slow.unwrap_err().code(), "upload-slow");
    let none = digest(b"");
    let silent = blobs.put(person(), &none, max, stream::pending::<Result<_, Infallible>>());
    assert_eq!(silent.await.unwrap_err().code(), "upload-slow");
    // It goes on until it has sent too much.
    let steady = blobs.put(person(), &digest(b""), max, trickle(2 * rate)).await;
    assert_eq!(steady.unwrap_err().code(), "blob-too-large");
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn peoples_uploads_never_stop_outputs_and_who_has_the_most_loses_one() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let stuck = |blobs: Blobs| {
        tokio::spawn(async move {
            let silence = stream::pending::<Result<Bytes, Infallible>>();
            blobs.put(person(), &digest(b"stuck"), 100, silence).await.map(drop)
        })
    };
    let stuck = [stuck(blobs.clone()), stuck(blobs.clone())];
    while files(folder.path()).len() < 2 {
        tokio::task::yield_now().await;
    }
    let out = digest(b"out");
    let output = blobs.put(Uploader::Agent, &out, 100, pieces(b"out"));
    drop(output.await.unwrap());
    assert!(stuck.iter().all(|upload| !upload.is_finished()));
    let other = Uploader::Person(Owner::named("other"));
    drop(blobs.put(other, &digest(b"in"), 100, pieces(b"in")).await.unwrap());
    let [first, second] = stuck;
    let (ended, goes_on) = if first.is_finished() { (first, second) } else { (second, first) };
    assert_eq!(ended.await.unwrap().unwrap_err().code(), "too-many-requests");
    goes_on.abort();
}

#[tokio::test]
async fn removed_blobs_are_unknown_and_removing_them_again_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let digest = digest(b"bytes");
    drop(blobs.put(person(), &digest, 100, pieces(b"bytes")).await.unwrap());
    let held = blobs.hold().await;
    blobs.remove(&digest, &held).await.unwrap();
    blobs.remove(&digest, &held).await.unwrap();
    assert_eq!(blobs.read(&digest, 100).await.unwrap_err().code(), "blob-unknown");
}

#[test]
fn what_a_crash_cut_off_is_swept_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("sha256/aa/bb");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("aabb#1"), b"half").unwrap();
    fs::write(deep.join("aabb"), b"whole").unwrap();
    open(folder.path());
    assert_eq!(files(folder.path()), ["aabb"]);
}
