//! Blobs under a framework's names for them: submitted with it, and put out by its tasks. A name is written once.

use super::weight::name_weight;
use super::{Framework, State};
use crate::entry::Submission;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;
use tepui_proto::Digest;
use tepui_proto::tasks::Blob;

/// A blob under a framework's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBlob {
    /// Which.
    pub digest: Digest,
    /// How many bytes.
    pub size_bytes: u64,
}

impl Framework {
    /// Blobs as its scheduler is told.
    pub fn blob_list(&self) -> Vec<Blob> {
        self.blobs_after(None).collect()
    }

    /// Those whose name comes after this one.
    pub fn blobs_after(&self, name: Option<&str>) -> impl Iterator<Item = Blob> {
        let start = name.map_or(Bound::Unbounded, Bound::Excluded);
        let blobs = self.blobs.range::<str, _>((start, Bound::Unbounded));
        blobs.map(|(name, kept)| Blob {
            name: name.clone(),
            digest: kept.digest,
            size_bytes: kept.size_bytes,
        })
    }

    /// The results that it named, as far as they exist.
    pub fn results(&self) -> Vec<Blob> {
        let names = self.completed.iter().flat_map(|completed| &completed.results);
        let blob = |name: &String| {
            let kept = self.blobs.get(name)?;
            Some(Blob { name: name.clone(), digest: kept.digest, size_bytes: kept.size_bytes })
        };
        names.filter_map(blob).collect()
    }

    /// Names outputs. A name that is taken keeps its blob; beyond the bound the oldest output's name is forgotten.
    pub(super) fn keep_outputs(&mut self, outputs: Vec<Blob>, bound: usize) {
        for blob in outputs {
            if self.blobs.contains_key(&blob.name) {
                continue;
            }
            let kept = KeptBlob { digest: blob.digest, size_bytes: blob.size_bytes };
            self.outputs.push_back(blob.name.clone());
            self.texts_bytes += name_weight(&blob.name);
            self.blobs.insert(blob.name, kept);
            if self.outputs.len() > bound
                && let Some(oldest) = self.outputs.pop_front()
                && self.blobs.remove(&oldest).is_some()
            {
                self.texts_bytes -= name_weight(&oldest);
            }
        }
    }
}

impl State {
    pub(super) fn named_blobs(&self, submission: &Submission) -> BTreeMap<String, KeptBlob> {
        let kept = |digest: &Digest| {
            let size_bytes = self.blobs.get(digest).map_or(0, |record| record.size_bytes);
            KeptBlob { digest: *digest, size_bytes }
        };
        submission.blobs.iter().map(|(name, digest)| (name.clone(), kept(digest))).collect()
    }
}
