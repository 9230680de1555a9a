//! What people and tools see of the cluster: views of `/v1`, a page at a time, made from state and mind.

mod agents;
mod explain;
mod roles;

use crate::input::ConnectionId;
use crate::leader::Leader;
use crate::state::Task;
use roles::amount;
use std::collections::BTreeMap;
use std::ops::Bound;
use tepui_proto::api::{
    AgentView, BlobView, ClusterView, EventView, FrameworkView, Page, RoleView, TaskView,
};
use tepui_proto::control::ModuleKind;
use tepui_proto::tasks::Blob;
use tepui_proto::{Digest, FrameworkId, LaunchNumber, TaskId, TaskKey, Tenant, limits};

impl Leader {
    /// A tenant's frameworks by name, after this one.
    pub fn framework_views(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: usize,
    ) -> Page<FrameworkView> {
        let start = match after {
            Some(name) => Bound::Excluded((tenant.clone(), name.to_owned())),
            None => Bound::Included((tenant.clone(), String::new())),
        };
        let names = self
            .state
            .names
            .range((start, Bound::Unbounded))
            .take_while(|((of, _), _)| of == tenant);
        page(names.filter_map(|(_, id)| self.framework_view_of(*id)), limit, |view| {
            view.name.clone()
        })
    }

    /// A tenant's framework.
    pub fn framework_view(&self, tenant: &Tenant, name: &str) -> Option<FrameworkView> {
        let (id, _) = self.state.framework_named(tenant, name)?;
        self.framework_view_of(id)
    }

    pub(crate) fn framework_view_of(&self, id: FrameworkId) -> Option<FrameworkView> {
        let framework = self.state.frameworks.get(&id)?;
        // Of those that ended, also the ones that are not kept any more.
        let counts = framework.counts.iter().filter(|(_, count)| **count > 0);
        let tasks = counts.map(|(state, count)| (state.as_str().to_owned(), *count)).collect();
        let agent =
            framework.instance.as_ref().and_then(|instance| self.state.agents.get(&instance.agent));
        Some(FrameworkView {
            id: id.0,
            name: framework.submission.name.clone(),
            tenant: framework.submission.tenant.0.clone(),
            roles: framework.submission.roles.iter().map(|role| role.0.clone()).collect(),
            phase: framework.phase,
            // How it ended in its own words goes before how its last instance did.
            message: framework
                .completed
                .as_ref()
                .map_or_else(|| framework.message.clone(), |completed| completed.message.clone()),
            success: framework
                .completed
                .as_ref()
                .filter(|_| framework.has_ended())
                .map(|completed| completed.success),
            results: framework.results(),
            incarnation: framework.incarnation.0,
            turns: framework.turns.0,
            scheduler_fuel: framework.fuel,
            scheduler_agent: agent.map(|agent| agent.name.clone()),
            failures: framework.failures,
            tasks,
            used: framework.live_used.clone(),
            offers: self.open_offers(id) as u64,
            submitted_at: framework.submitted_at.0,
            ended_at: framework.ended_at.map(|at| at.0),
        })
    }

    /// A tenant's tasks by framework and identifier, after this one (`FRAMEWORK/ID`).
    pub fn task_views(
        &self,
        tenant: &Tenant,
        framework: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Page<TaskView> {
        let (after_framework, after_task) = after.and_then(|after| after.split_once('/')).unzip();
        let first = framework.or(after_framework).unwrap_or_default().to_owned();
        let names = self
            .state
            .names
            .range((tenant.clone(), first)..)
            .take_while(|((of, _), _)| of == tenant);
        let wanted =
            names.filter(|((_, name), _)| framework.is_none_or(|framework| framework == name));
        let views = wanted
            .filter_map(|((_, name), id)| Some((name, self.state.frameworks.get(id)?)))
            .flat_map(|(name, framework)| {
                let start = match after_task {
                    Some(task) if after_framework == Some(name.as_str()) => {
                        Bound::Excluded(TaskId(task.to_owned()))
                    }
                    _ => Bound::Unbounded,
                };
                framework
                    .tasks
                    .range((start, Bound::Unbounded))
                    .map(move |(id, task)| task_view(name, id, task))
            });
        page(views, limit, |view| view.id.clone())
    }

    /// A tenant's task.
    pub fn task_view(&self, tenant: &Tenant, framework: &str, task: &str) -> Option<TaskView> {
        let (_, record) = self.state.framework_named(tenant, framework)?;
        let id = TaskId(task.to_owned());
        record.tasks.get(&id).map(|task| task_view(framework, &id, task))
    }

    /// Where a task's logs are, while its agent is here.
    pub fn log_source(
        &self,
        tenant: &Tenant,
        framework: &str,
        task: &str,
    ) -> Option<(ConnectionId, LaunchNumber)> {
        let (id, _) = self.state.framework_named(tenant, framework)?;
        let task = self.state.task(&TaskKey { framework: id, task: TaskId(task.to_owned()) })?;
        Some((self.connection_of(task.agent?)?, task.launch))
    }

    /// Blobs by digest, after this one.
    pub fn blob_views(&self, after: Option<&str>, limit: usize) -> Page<BlobView> {
        let start = after
            .and_then(|hex| hex.parse::<Digest>().ok())
            .map_or(Bound::Unbounded, Bound::Excluded);
        let blobs = self.state.blobs.range((start, Bound::Unbounded));
        let views = blobs.map(|(digest, record)| BlobView {
            digest: digest.to_string(),
            size_bytes: record.size_bytes,
        });
        page(views, limit, |view| view.digest.clone())
    }

    /// What happened to a framework since then, as far as this leader knows.
    pub fn event_views(
        &self,
        tenant: &Tenant,
        name: &str,
        after: u64,
        limit: usize,
    ) -> Option<Page<EventView>> {
        let (id, _) = self.state.framework_named(tenant, name)?;
        let notes = self.notes(id).filter(|note| note.seq > after).cloned();
        Some(page(notes, limit, |note| note.seq.to_string()))
    }

    /// A framework's named blobs, after this name.
    pub fn framework_blobs(
        &self,
        tenant: &Tenant,
        name: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Option<Page<Blob>> {
        let (_, framework) = self.state.framework_named(tenant, name)?;
        Some(page(framework.blobs_after(after), limit, |blob| blob.name.clone()))
    }

    /// The size of a blob that the cluster has.
    pub fn has_blob(&self, digest: &Digest) -> Option<u64> {
        self.state.blobs.get(digest).map(|record| record.size_bytes)
    }

    /// How many blobs the cluster has.
    pub fn blob_count(&self) -> u64 {
        self.state.blobs.len() as u64
    }

    /// The bytes of the outputs that a framework has names for, each blob once.
    pub fn output_bytes(&self, framework: FrameworkId) -> u64 {
        let Some(framework) = self.state.frameworks.get(&framework) else { return 0 };
        let kept = framework.outputs.iter().filter_map(|name| framework.blobs.get(name));
        let blobs: BTreeMap<Digest, u64> =
            kept.map(|blob| (blob.digest, blob.size_bytes)).collect();
        blobs.values().fold(0, |bytes, size| bytes.saturating_add(*size))
    }

    /// What a module was accepted as.
    pub fn module_kind(&self, digest: &Digest) -> Vec<ModuleKind> {
        let kinds = [ModuleKind::Scheduler, ModuleKind::CommandP1, ModuleKind::CommandP2];
        kinds.into_iter().filter(|kind| self.state.modules.contains(&(*digest, *kind))).collect()
    }

    /// The cluster at a glance. The shell fills in the index.
    pub fn cluster_view(&self) -> ClusterView {
        ClusterView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            term: self.state.term().0,
            agents: self.connected_agents() as u64,
            index: 0,
            digest: format!("{:032x}", self.state.digest()),
        }
    }

    /// Figures for Prometheus: name, help, kind, value.
    pub fn metrics(&self) -> Vec<(String, &'static str, &'static str, u64)> {
        let live: usize = self.state.frameworks.values().map(|framework| framework.live).sum();
        let waiting: usize =
            self.state.frameworks.values().map(|framework| framework.queue.len()).sum();
        let turns: u64 = self.state.frameworks.values().map(|framework| framework.turns.0).sum();
        let active =
            self.state.frameworks.values().filter(|framework| framework.is_active()).count();
        let total = self.state.ledger.total();
        let gauge = |name: &str, help, value| (name.to_owned(), help, "gauge", value);
        vec![
            gauge("tepui_term", "The leader's term.", self.state.term().0),
            gauge(
                "tepui_agents_connected",
                "Agents with a session.",
                self.connected_agents() as u64,
            ),
            gauge(
                "tepui_agents_known",
                "Agents that ever said hello.",
                self.state.agents.len() as u64,
            ),
            gauge(
                "tepui_frameworks_active",
                "Frameworks whose schedulers take turns.",
                active as u64,
            ),
            gauge("tepui_tasks_live", "Tasks that have not ended.", live as u64),
            gauge("tepui_tasks_retained", "Ended tasks that are kept.", self.state.retained as u64),
            gauge(
                "tepui_events_waiting",
                "Events that no committed turn has seen.",
                waiting as u64,
            ),
            gauge("tepui_turns", "Committed turns of the frameworks that are kept.", turns),
            gauge("tepui_blobs", "Blobs.", self.state.blobs.len() as u64),
            gauge(
                "tepui_cpu_milli",
                "CPU of all agents, in thousandths of a core.",
                amount(total.cpu_milli),
            ),
            gauge("tepui_memory_bytes", "Memory of all agents.", amount(total.memory_bytes)),
        ]
    }
}

/// What an item of a page takes, about. Only what one item may have many of is counted.
trait Weigh {
    fn weight(&self) -> usize;
}

/// What an item takes beside what is counted, as JSON.
const ITEM_BYTES: usize = 512;
/// What a blob takes beside its name.
const BLOB_ITEM_BYTES: usize = 128;

impl Weigh for Blob {
    fn weight(&self) -> usize {
        self.name.len() + BLOB_ITEM_BYTES
    }
}

impl Weigh for BlobView {
    fn weight(&self) -> usize {
        BLOB_ITEM_BYTES
    }
}

impl Weigh for FrameworkView {
    fn weight(&self) -> usize {
        let results = self.results.iter().map(Weigh::weight).sum::<usize>();
        let roles = self.roles.iter().map(String::len).sum::<usize>();
        results + roles + self.message.len() + ITEM_BYTES
    }
}

impl Weigh for TaskView {
    fn weight(&self) -> usize {
        let outputs = self.outputs.iter().map(Weigh::weight).sum::<usize>();
        let texts = self.name.len() + self.role.len() + self.message.len();
        outputs + self.resources.weight() + texts + ITEM_BYTES
    }
}

impl Weigh for EventView {
    fn weight(&self) -> usize {
        self.message.len() + ITEM_BYTES
    }
}

impl Weigh for AgentView {
    fn weight(&self) -> usize {
        self.pools.len() + self.free_pools.len() + 4 * self.total.weight() + ITEM_BYTES
    }
}

impl Weigh for RoleView {
    fn weight(&self) -> usize {
        ITEM_BYTES
    }
}

/// Takes what fits a page in number and in bytes, at least one, and says where the next begins.
fn page<T: Weigh>(
    views: impl Iterator<Item = T>,
    limit: usize,
    name: impl Fn(&T) -> String,
) -> Page<T> {
    let mut views = views.peekable();
    let mut items: Vec<T> = Vec::new();
    let mut bytes = 0;
    while items.len() < limit.max(1)
        && let Some(view) =
            views.next_if(|view| bytes == 0 || bytes + view.weight() <= limits::PAGE_BYTES)
    {
        bytes += view.weight();
        items.push(view);
    }
    let next = views.peek().and_then(|_| items.last()).map(name);
    Page { items, next }
}

fn task_view(framework: &str, id: &TaskId, task: &Task) -> TaskView {
    TaskView {
        id: format!("{framework}/{id}"),
        framework: framework.to_owned(),
        task: id.0.clone(),
        name: task.name.clone(),
        role: task.role.0.clone(),
        agent: task.status.agent.clone(),
        state: task.status.state,
        reason: task.status.reason.code().to_owned(),
        message: task.status.message.clone(),
        exit_code: task.status.exit_code,
        resources: task.resources.clone(),
        outputs: task.status.outputs.clone(),
        usage: task.status.usage,
        at: task.status.at.0,
    }
}
