//! Acceptances: what an offer holds becomes launches, each checked; what is left over is refused for a while.

use super::Leader;
use super::answers::Draft;
use super::offers::OpenOffer;
use crate::entry::LaunchDecided;
use crate::state::{Framework, TASK_BYTES};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use tepui_proto::calls::{Acceptance, Operation};
use tepui_proto::control::ModuleKind;
use tepui_proto::tasks::Workload;
use tepui_proto::{
    Bundle, Digest, FrameworkId, LaunchNumber, OfferId, PoolKind, Reason, Role, TaskSpec,
    TaskState, TaskStatus, Timestamp, Usage, limits, names,
};

/// Why a task is not launched.
type NotLaunched = (TaskState, Reason, String);

impl Leader {
    pub(super) fn on_accept(
        &mut self,
        now: Timestamp,
        draft: &mut Draft,
        index: u32,
        acceptance: Acceptance,
    ) {
        let taken = self.take_offers(draft.framework, &acceptance.offers);
        let mut pool = match taken {
            Ok(pool) => pool,
            Err(message) => {
                for operation in acceptance.operations {
                    match operation {
                        Operation::Launch(spec) => {
                            draft.refuse_task(
                                Role::default(),
                                &spec,
                                (TaskState::Dropped, Reason::InvalidOffer, message.clone()),
                            );
                        }
                        other => draft.refuse(
                            index,
                            "invalid-offer",
                            format!("{}: {message}", operation_name(&other)),
                        ),
                    }
                }
                return;
            }
        };
        let before = draft.turn.launches.len();
        for operation in acceptance.operations {
            match operation {
                Operation::Launch(spec) => self.launch(draft, &mut pool, spec),
                Operation::LaunchGroup(_) => {
                    let message = "`launch-group` is not done by this version".to_owned();
                    draft.refuse(index, "unsupported", message);
                }
                other => {
                    if let Err(refusal) = self.convert_pool(draft, &mut pool, &other) {
                        draft.refuse(index, refusal.code.as_str(), refusal.message);
                    }
                }
            }
        }
        // Whoever launches nothing has declined, whatever it is called.
        draft.has_declined |= draft.turn.launches.len() == before;
        self.refuse(now, &pool.offer, pool.left, acceptance.refuse_for);
    }

    /// Takes offers out of the table, and pools what they held. All must be held by the framework, of one agent and role.
    fn take_offers(&mut self, framework: FrameworkId, ids: &[OfferId]) -> Result<Pool, String> {
        let held = |id: &&OfferId| {
            self.mind
                .offers
                .get(**id)
                .is_some_and(|offer| offer.framework == framework && offer.told.is_some())
        };
        if let Some(missing) = ids.iter().find(|id| !held(id)) {
            return Err(format!("offer {missing} is not held by this framework, or no longer"));
        }
        let mut offers = ids.iter().filter_map(|id| self.mind.offers.get(*id));
        let Some(first) = offers.next() else { return Err("no offer is named".to_owned()) };
        if offers.any(|offer| offer.agent != first.agent || offer.role != first.role) {
            return Err("the offers are not of one agent and one role".to_owned());
        }
        let mut pool: Option<Pool> = None;
        for id in ids {
            // An offer that is named twice is gone the second time.
            let Some(offer) = self.close_offer(*id) else { continue };
            match &mut pool {
                None => pool = Some(Pool { left: offer.bundle.clone(), id: *id, offer }),
                Some(pool) => {
                    pool.left = pool.left.checked_add(&offer.bundle).ok_or("the offers overlap")?;
                }
            }
        }
        pool.ok_or_else(|| "no offer is named".to_owned())
    }

    fn launch(&mut self, draft: &mut Draft, pool: &mut Pool, spec: TaskSpec) {
        let role = pool.offer.role.clone();
        let checked = self.check_launch(draft, pool, &spec);
        let (module, kind, inputs) = match checked {
            Ok(parts) => parts,
            Err(why) => return draft.refuse_task(role, &spec, why),
        };
        let Some(held) = take_for(&pool.left, &spec) else { return };
        let Some(left) = pool.left.checked_sub(&held) else { return };
        pool.left = left;
        if !held.is_plain() {
            draft.held.insert(spec.id.clone(), held);
        }
        let agent = pool.offer.agent;
        let last =
            self.state.agents.get(&agent).map_or(LaunchNumber(0), |record| record.last_launch);
        let number = draft.next_launch(agent, last);
        draft.grown += record_bytes(&spec);
        draft.graces.insert(spec.id.clone(), spec.grace());
        draft.turn.launches.push(LaunchDecided {
            offer: pool.id,
            agent,
            number,
            role,
            want: pool.offer.want.map(|(want, _)| want),
            module,
            kind,
            inputs,
            spec,
        });
    }

    fn check_launch(
        &self,
        draft: &Draft,
        pool: &Pool,
        spec: &TaskSpec,
    ) -> Result<(Digest, ModuleKind, Vec<Digest>), NotLaunched> {
        let Some(framework) = self.state.frameworks.get(&draft.framework) else {
            return Err((
                TaskState::Dropped,
                Reason::FrameworkEnded,
                "its framework has ended".to_owned(),
            ));
        };
        if framework.tasks.contains_key(&spec.id) || draft.graces.contains_key(&spec.id) {
            return Err((
                TaskState::Error,
                Reason::DuplicateTask,
                format!("the identifier `{}` is taken", spec.id),
            ));
        }
        check_spec(spec).map_err(|message| (TaskState::Error, Reason::InvalidTask, message))?;
        let mut unsupported = spec.unsupported.iter().filter(|name| *name != TaskSpec::REVOCABLE);
        if let Some(what) = unsupported.next() {
            return Err((
                TaskState::Error,
                Reason::Unsupported,
                format!("`{what}` is not done by this version"),
            ));
        }
        if spec.workload != Workload::Command {
            return Err((
                TaskState::Error,
                Reason::Unsupported,
                "`http-service` is not run by this version".to_owned(),
            ));
        }
        if pool.offer.is_lent && !spec.is_revocable() {
            let message = "the offer is for revocable tasks alone".to_owned();
            return Err((TaskState::Error, Reason::InvalidTask, message));
        }
        let record = self.state.agents.get(&pool.offer.agent);
        let live = record.map_or(0, |agent| agent.launches.len());
        let most = self.max_tasks(pool.offer.agent);
        if live + draft.launches_on(pool.offer.agent) >= most {
            let message = format!("its agent has {most} tasks, as many as it takes");
            return Err((TaskState::Dropped, Reason::CellFull, message));
        }
        if let Err(message) = self.check_share(framework.weight(), draft.grown + record_bytes(spec))
        {
            return Err((TaskState::Dropped, Reason::StateFull, message));
        }
        if take_for(&pool.left, spec).is_none() {
            let message = format!(
                "it needs {}, and the offer has {} left",
                spec.resources,
                pool.left.flat().unwrap_or_default()
            );
            return Err((TaskState::Error, Reason::ExceedsOffer, message));
        }
        let (module, kind) = self.find_module(framework, &spec.module)?;
        let inputs = spec
            .inputs
            .iter()
            .map(|input| self.find_blob(framework, &input.source))
            .collect::<Result<_, _>>()?;
        Ok((module, kind, inputs))
    }

    fn find_module(
        &self,
        framework: &Framework,
        text: &str,
    ) -> Result<(Digest, ModuleKind), NotLaunched> {
        let named = framework
            .submission
            .modules
            .iter()
            .find(|(name, _)| name == text)
            .map(|(_, digest)| *digest);
        let digest =
            named.or_else(|| text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok()));
        let unknown = |message: String| (TaskState::Error, Reason::ModuleUnknown, message);
        let digest =
            digest.ok_or_else(|| unknown(format!("`{text}` is not a module of this framework")))?;
        let kinds = [ModuleKind::CommandP1, ModuleKind::CommandP2];
        let kind = kinds.into_iter().find(|kind| self.state.modules.contains(&(digest, *kind)));
        let kind = kind.ok_or_else(|| {
            unknown(format!("`{text}` is not a command that the cluster has accepted"))
        })?;
        Ok((digest, kind))
    }

    fn find_blob(&self, framework: &Framework, source: &str) -> Result<Digest, NotLaunched> {
        let digest = match source.split_once(':') {
            Some(("blob", name)) => framework.blobs.get(name).map(|kept| kept.digest),
            Some(("sha256", hex)) => hex.parse().ok(),
            _ => None,
        };
        let known = digest.filter(|digest| self.state.blobs.contains_key(digest));
        known.ok_or_else(|| {
            (TaskState::Error, Reason::InputUnavailable, format!("there is no blob `{source}`"))
        })
    }
}

/// What the offers of an acceptance hold together.
pub(super) struct Pool {
    pub(super) left: Bundle,
    id: OfferId,
    pub(super) offer: OpenOffer,
}

/// What a task takes of what is left: from the most refined reservation first, then from what anyone may use. A
/// revocable one takes from revocable pools first. None if it does not fit.
fn take_for(left: &Bundle, spec: &TaskSpec) -> Option<Bundle> {
    let is_revocable = spec.is_revocable();
    let may_use = |kind: &PoolKind| {
        let is_meant = if is_revocable { !kind.is_reserved() } else { !kind.revocable };
        is_meant && !kind.is_whole() && kind.disk.volume.is_none()
    };
    let mut kinds: Vec<_> = left.iter().filter(|(kind, _)| may_use(kind)).collect();
    kinds.sort_by_key(|(kind, _)| Reverse((kind.revocable, kind.reserved_for.len())));
    let mut need = spec.resources.clone();
    let mut taken = Bundle::default();
    for (kind, have) in kinds {
        let rest = need.saturating_sub(have);
        taken.add_pool(kind.clone(), need.saturating_sub(&rest))?;
        need = rest;
    }
    need.is_empty().then_some(taken)
}

fn operation_name(operation: &Operation) -> &str {
    match operation {
        Operation::Launch(_) => "launch",
        Operation::LaunchGroup(_) => "launch-group",
        Operation::Reserve(_) => "reserve",
        Operation::Unreserve(_) => "unreserve",
        Operation::CreateVolume(_) => "create-volume",
        Operation::DestroyVolume(_) => "destroy-volume",
    }
}

/// Whether this may name a task: it is shown to people and stands in paths of `/v1`.
pub(super) fn is_task_id(id: &str) -> bool {
    (1..=limits::TASK_ID_BYTES).contains(&id.len())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// What a task's record takes of memory.
fn record_bytes(spec: &TaskSpec) -> usize {
    spec.weight() + TASK_BYTES
}

/// Each input has a place of its own.
fn check_inputs(spec: &TaskSpec) -> Result<(), String> {
    let mut paths = BTreeSet::new();
    if let Some(twice) = spec.inputs.iter().find(|input| !paths.insert(input.path.as_str())) {
        return Err(format!("there are two inputs at `{}`", twice.path));
    }
    let is_below_another = |path: &&str| {
        path.match_indices('/')
            .any(|(at, _)| path.get(..at).is_some_and(|above| paths.contains(above)))
    };
    let below = paths.iter().copied().find(is_below_another);
    below.map_or(Ok(()), |path| Err(format!("the input at `{path}` is below another input")))
}

/// Bounds on a task's own fields.
fn check_spec(spec: &TaskSpec) -> Result<(), String> {
    if !is_task_id(spec.id.as_str()) {
        return Err(format!(
            "a task's identifier has 1 to {} letters, digits, `-`, `_`, `.`",
            limits::TASK_ID_BYTES
        ));
    }
    if spec.weight() > limits::TASK_BYTES {
        return Err(format!("a record of {} bytes; at most {}", spec.weight(), limits::TASK_BYTES));
    }
    let memory = spec.resources.memory_bytes;
    if memory < limits::TASK_MEMORY_BYTES_MIN {
        return Err(format!(
            "{memory} bytes of memory; at least {}",
            limits::TASK_MEMORY_BYTES_MIN
        ));
    }
    if memory > limits::INSTANCE_MEMORY_BYTES_MAX {
        return Err(format!(
            "{memory} bytes of memory; at most {}",
            limits::INSTANCE_MEMORY_BYTES_MAX
        ));
    }
    if spec.resources.cpu_milli == 0 {
        return Err("no CPU at all; at least 0.001".to_owned());
    }
    let bounds = [
        ("fuel", spec.fuel(), limits::TASK_FUEL_MAX),
        ("wall time", spec.wall_time().0, limits::TASK_WALL_MS_MAX),
        ("log bytes", spec.log_bytes(), limits::TASK_LOG_BYTES_MAX),
        ("kill grace", spec.grace().0, limits::KILL_GRACE_MS_MAX),
    ];
    if let Some((name, value, most)) = bounds.into_iter().find(|(_, value, most)| value > most) {
        return Err(format!("{name} of {value}; at most {most}"));
    }
    let paths = spec
        .inputs
        .iter()
        .map(|input| &input.path)
        .chain(spec.outputs.iter().map(|output| &output.path));
    for path in paths {
        names::check_sandbox_path(path)
            .map_err(|error| format!("the path `{}`: {error}", path.escape_debug()))?;
    }
    check_inputs(spec)?;
    let is_bad = |name: &str| name.is_empty() || name.len() > limits::BLOB_NAME_BYTES;
    if let Some(output) = spec.outputs.iter().find(|output| is_bad(&output.blob)) {
        let most = limits::BLOB_NAME_BYTES;
        return Err(format!("the name of output `{}`: 1 to {most} bytes", output.path));
    }
    if spec.resources.disk_bytes == 0 && (!spec.inputs.is_empty() || !spec.outputs.is_empty()) {
        return Err("inputs and outputs need disk, and it asks for none".to_owned());
    }
    let has_nul = |text: &String| text.contains('\0');
    if spec.args.iter().any(has_nul)
        || spec.env.iter().any(|(key, value)| {
            has_nul(key) || has_nul(value) || key.contains('=') || key.is_empty()
        })
    {
        return Err("arguments and environment hold no NUL, names no `=`".to_owned());
    }
    Ok(())
}

/// The status of a task that is not launched.
pub(super) fn not_launched(spec: &TaskSpec, why: NotLaunched) -> TaskStatus {
    let (state, reason, message) = why;
    TaskStatus {
        task: spec.id.clone(),
        agent: None,
        state,
        reason,
        message,
        exit_code: None,
        outputs: Vec::new(),
        usage: Usage::default(),
        at: Timestamp(0),
    }
}
