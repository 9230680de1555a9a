//! What nothing refers to any more is swept: blobs and modules that no framework, no live task, no kept name and no durable
//! key has named for an hour; agents that have been away for a week, with nothing on them and nothing set for them.

use super::deadlines::Deadline;
use super::{Leader, Step};
use crate::effect::Effect;
use crate::entry::EntryKind;
use crate::state::Agent;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{AgentId, Digest, DurationMs, limits};

/// How often the whole state is looked through.
pub(super) const EVERY: DurationMs = DurationMs(limits::BLOB_GRACE_MS / 6);

impl Leader {
    pub(super) fn sweep_blobs(&mut self, step: &mut Step<'_>) {
        self.mind.deadlines.set(step.now.after(EVERY), Deadline::Sweep);
        self.forget_agents(step);
        let referenced = self.referenced_blobs();
        let old = self.state.blobs.iter().filter(|(digest, record)| {
            step.now.since(record.at).0 > limits::BLOB_GRACE_MS && !referenced.contains(digest)
        });
        let unreferenced: Vec<Digest> = old.map(|(digest, _)| *digest).collect();
        if unreferenced.is_empty() && !self.state.ended_with_old_keys(step.now).is_empty() {
            self.propose(step, EntryKind::BlobsForgotten(Vec::new()));
        }
        for some in unreferenced.chunks(limits::MOVES) {
            self.propose(step, EntryKind::BlobsForgotten(some.to_vec()));
            step.fx.orders.push(Effect::ForgetBlobs(some.to_vec()));
        }
    }

    /// Somebody asked for a blob and was told that it is here: it stays for as long as one that was just added.
    pub(super) fn renew_blob(&mut self, step: &mut Step<'_>, digest: Digest) {
        let Some(record) = self.state.blobs.get(&digest).copied() else { return };
        if step.now.since(record.at) > EVERY {
            self.propose(step, EntryKind::BlobAdded { digest, size_bytes: record.size_bytes });
        }
    }

    fn forget_agents(&mut self, step: &mut Step<'_>) {
        let away = DurationMs(limits::AGENT_FORGOTTEN_MS);
        let old = self.idle_agents().filter(|(_, agent)| step.now.since(agent.away_since) > away);
        let old: Vec<AgentId> = old.map(|(id, _)| id).take(limits::MOVES).collect();
        for id in old {
            self.forget_agent(step, id);
        }
    }

    /// Makes room for an agent where there are as many as may be. False if none can be forgotten.
    pub(super) fn forget_oldest_agent(&mut self, step: &mut Step<'_>) -> bool {
        let oldest = self.idle_agents().min_by_key(|(_, agent)| agent.away_since);
        let Some(id) = oldest.map(|(id, _)| id) else { return false };
        self.forget_agent(step, id);
        true
    }

    /// Agents that are away, with nothing on them and nothing set for them.
    fn idle_agents(&self) -> impl Iterator<Item = (AgentId, &Agent)> {
        let is_idle = |(id, agent): &(&AgentId, &Agent)| {
            !agent.reachable
                && agent.launches.is_empty()
                && self.state.provision(**id).is_none()
                && !self.mind.sessions.contains_key(*id)
        };
        self.state.agents.iter().filter(is_idle).map(|(id, agent)| (*id, agent))
    }

    fn forget_agent(&mut self, step: &mut Step<'_>, id: AgentId) {
        self.propose(step, EntryKind::AgentForgotten(id));
        self.mind.allocator.remove_site(id);
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
            referenced.extend(kept_by_keys(&framework.keys));
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

/// Blobs that a framework keeps by durable keys: `keep/sha256:HEX`, or below that.
fn kept_by_keys(keys: &BTreeMap<String, Vec<u8>>) -> impl Iterator<Item = Digest> {
    const PREFIX: &str = "keep/sha256:";
    let from = keys.range(PREFIX.to_owned()..).map(|(key, _)| key.as_str());
    let own = from.map_while(|key| key.strip_prefix(PREFIX));
    own.filter_map(|rest| rest.split('/').next()?.parse().ok())
}
