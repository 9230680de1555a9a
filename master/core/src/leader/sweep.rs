//! Blobs and modules that nothing refers to any more are swept: no framework, no live task, no kept name, for an hour.

use super::deadlines::Deadline;
use super::{Leader, Step};
use crate::effect::Effect;
use crate::entry::EntryKind;
use std::collections::BTreeSet;
use tepui_proto::{Digest, DurationMs, limits};

/// How often the whole state is looked through.
pub(super) const EVERY: DurationMs = DurationMs(limits::BLOB_GRACE_MS / 6);

impl Leader {
    pub(super) fn sweep_blobs(&mut self, step: &mut Step<'_>) {
        self.mind.deadlines.set(step.now.after(EVERY), Deadline::Sweep);
        let referenced = self.referenced_blobs();
        let old = self.state.blobs.iter().filter(|(digest, record)| {
            step.now.since(record.at).0 > limits::BLOB_GRACE_MS && !referenced.contains(digest)
        });
        let unreferenced: Vec<Digest> = old.map(|(digest, _)| *digest).collect();
        if !unreferenced.is_empty() {
            self.propose(step, EntryKind::BlobsForgotten(unreferenced.clone()));
            step.fx.orders.push(Effect::ForgetBlobs(unreferenced));
        }
    }

    fn referenced_blobs(&self) -> BTreeSet<Digest> {
        let mut referenced = BTreeSet::new();
        for framework in self.state.frameworks.values() {
            referenced.extend(framework.results().iter().map(|blob| blob.digest));
            if framework.has_ended() {
                continue;
            }
            referenced.insert(framework.submission.scheduler);
            referenced.extend(framework.submission.modules.iter().map(|(_, digest)| *digest));
            referenced.extend(framework.blobs.values().map(|kept| kept.digest));
            for live in framework.tasks.values().filter_map(|task| task.live.as_ref()) {
                referenced.insert(live.module);
                referenced.extend(live.inputs.iter().copied());
            }
        }
        let pending = self.mind.checks.keys().map(|(digest, _)| *digest);
        referenced.extend(pending);
        referenced
    }
}
