//! The schedulers that a scenario names by a word. Each is a good or a bad citizen of a real cluster, in the same words.
//!
//! Never looks at anything but its events. Its one surprise: it outlives its instances, as if every turn were written
//! to durable state; what a turn launched that was never committed is put back when the next instance begins.

use crate::scenario::{FrameworkKind, SchedulerKind};
use crate::workload::Source;
use std::collections::{BTreeMap, VecDeque};
use tepui_proto::calls::{Acceptance, Operation, Outcome, Want};
use tepui_proto::events::{Event, Offer};
use tepui_proto::scheduler::TurnMark;
use tepui_proto::{
    Call, DiskKind, DurationMs, PoolKind, Resources, Role, TaskId, TaskSpec, TaskState, TaskStatus,
    TurnNumber, limits,
};

/// The name of the module that tasks run.
pub(crate) const MODULE: &str = "task";
/// The timer that rings when the next task comes.
const ARRIVALS: &str = "arrivals";
/// After so many attempts a task is given up.
const ATTEMPTS: u32 = 100;

/// A scheduler.
#[derive(Clone, Debug)]
pub(crate) struct Native {
    kind: SchedulerKind,
    roles: Vec<Role>,
    refuse_for: DurationMs,
    source: Source,
    is_revocable: bool,
    priority: i32,
    /// Tasks that wait for a launch, by class: a size and a role.
    pending: BTreeMap<u32, VecDeque<u32>>,
    waiting: usize,
    /// Which attempt of a task is on its way or runs.
    live: BTreeMap<u32, (u32, u32)>,
    /// Attempts of tasks that were launched before.
    attempts: BTreeMap<u32, u32>,
    /// When tasks came that have never run.
    unrun: BTreeMap<u32, u64>,
    /// What the leader knows of the wants; none after a beginning.
    stated: Option<BTreeMap<u32, u32>>,
    suppressed: Option<bool>,
    timer_at: Option<u64>,
    /// What the last turn launched, in case it was never committed.
    last: Option<(TurnNumber, Vec<u32>)>,
}

impl Native {
    /// A scheduler that has not begun.
    pub(crate) fn new(kind: &FrameworkKind, roles: Vec<Role>, source: Source) -> Self {
        Self {
            kind: kind.scheduler.clone(),
            roles,
            refuse_for: DurationMs(kind.refuse_ms),
            source,
            is_revocable: kind.is_revocable,
            priority: kind.priority,
            pending: BTreeMap::new(),
            waiting: 0,
            live: BTreeMap::new(),
            attempts: BTreeMap::new(),
            unrun: BTreeMap::new(),
            stated: None,
            suppressed: None,
            timer_at: None,
            last: None,
        }
    }

    /// Tasks that have come and are not launched.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Since when the task has waited that came first and never ran.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        self.unrun.values().min().copied()
    }

    /// Tasks that have come.
    pub(crate) fn arrived(&self) -> u64 {
        self.source.arrived()
    }

    /// When the next task comes.
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        self.source.next_at()
    }

    /// How long that task runs; none is for ever.
    pub(crate) fn duration_of(&self, task: &TaskId) -> Option<u64> {
        let (number, _) = parse(task)?;
        self.source.duration_of(number)
    }

    /// When a task came that runs for the first time.
    pub(crate) fn began(&mut self, task: &TaskId) -> Option<u64> {
        let (number, _) = parse(task)?;
        self.unrun.remove(&number)
    }

    /// One turn.
    pub(crate) fn turn(&mut self, mark: TurnMark, now: u64, events: &[Event]) -> Vec<Call> {
        let mut turn = Turn { calls: Vec::new(), launched: Vec::new() };
        if events.iter().any(|event| matches!(event, Event::Started(_))) {
            self.begin_anew(mark.number);
        }
        self.take_arrivals(now);
        for event in events {
            match event {
                Event::TaskUpdated(status) => self.on_update(status),
                Event::Offers(offers) => {
                    for offer in offers {
                        self.on_offer(&mut turn, offer);
                    }
                }
                _ => {}
            }
        }
        self.end_turn(&mut turn, now);
        self.last = Some((mark.number, turn.launched));
        turn.calls
    }

    /// What the last instance knew of the leader is void, and so is a last turn that was never committed.
    fn begin_anew(&mut self, number: TurnNumber) {
        (self.stated, self.suppressed, self.timer_at) = (None, None, None);
        if let Some((_, launched)) = self.last.take().filter(|(last, _)| *last == number) {
            for task in launched {
                if let Some((class, _)) = self.live.remove(&task) {
                    self.put_back(task, class);
                }
            }
        }
    }

    fn take_arrivals(&mut self, now: u64) {
        let roles = u32::try_from(self.roles.len()).unwrap_or(1).max(1);
        while let Some(task) = self.source.take_due(now) {
            let class = task.size * roles + task.number % roles;
            self.pending.entry(class).or_default().push_back(task.number);
            self.waiting += 1;
            self.unrun.insert(task.number, task.at);
        }
    }

    fn put_back(&mut self, task: u32, class: u32) {
        self.pending.entry(class).or_default().push_front(task);
        self.waiting += 1;
    }

    fn on_update(&mut self, status: &TaskStatus) {
        let Some((number, attempt)) = parse(&status.task).filter(|_| status.state.is_final())
        else {
            return;
        };
        let Some((class, _)) = self.live.get(&number).copied().filter(|(_, own)| *own == attempt)
        else {
            return;
        };
        self.live.remove(&number);
        let is_over = matches!(status.state, TaskState::Finished | TaskState::Error);
        if is_over || attempt >= ATTEMPTS {
            self.attempts.remove(&number);
        } else {
            self.put_back(number, class);
        }
    }

    fn on_offer(&mut self, turn: &mut Turn, offer: &Offer) {
        match self.kind {
            SchedulerKind::Sitter | SchedulerKind::Component(_) => {}
            SchedulerKind::Decliner => turn.decline(offer, self.refuse_for),
            SchedulerKind::Wants => {
                let classes = offer.want.into_iter().collect();
                if !self.fill(turn, offer, classes, DurationMs(0)) {
                    turn.decline(offer, DurationMs(0));
                }
            }
            SchedulerKind::Coarse => {
                let classes = self.pending.keys().copied().collect();
                if !self.fill(turn, offer, classes, self.refuse_for) {
                    turn.decline(offer, self.refuse_for);
                }
            }
        }
    }

    /// Launches what fits of these classes. Whether anything did.
    fn fill(
        &mut self,
        turn: &mut Turn,
        offer: &Offer,
        classes: Vec<u32>,
        refuse_for: DurationMs,
    ) -> bool {
        let mut left = usable(offer, self.is_revocable);
        let mut operations = Vec::new();
        for class in classes {
            let Some(size) = self.size_of(class) else { continue };
            while turn.launched.len() < limits::LAUNCHES
                && let Some(rest) = left.checked_sub(&size)
                && let Some(number) = self.take(class)
            {
                left = rest;
                operations.push(Operation::Launch(self.launch(number, class, size.clone())));
                turn.launched.push(number);
                if let Some(count) = self.stated.as_mut().and_then(|stated| stated.get_mut(&class))
                {
                    // The leader lowers its own count by what is launched on an offer that answers the want.
                    *count = count.saturating_sub(u32::from(offer.want == Some(class)));
                }
            }
        }
        if operations.is_empty() {
            return false;
        }
        let acceptance =
            Acceptance { offers: vec![offer.id], operations, refuse_for: Some(refuse_for) };
        turn.calls.push(Call::Accept(acceptance));
        true
    }

    fn take(&mut self, class: u32) -> Option<u32> {
        let queue = self.pending.get_mut(&class)?;
        let number = queue.pop_front()?;
        if queue.is_empty() {
            self.pending.remove(&class);
        }
        self.waiting -= 1;
        Some(number)
    }

    fn launch(&mut self, number: u32, class: u32, size: Resources) -> TaskSpec {
        let attempt = self.attempts.entry(number).or_default();
        *attempt += 1;
        self.live.insert(number, (class, *attempt));
        let spec = TaskSpec::command(&format!("{number}-{attempt}"), MODULE, size);
        let unsupported = self.is_revocable.then(|| TaskSpec::REVOCABLE.to_owned());
        TaskSpec { priority: self.priority, unsupported: unsupported.into_iter().collect(), ..spec }
    }

    fn size_of(&self, class: u32) -> Option<Resources> {
        let roles = self.roles.len().max(1);
        self.source.sizes().get(usize::try_from(class).ok()? / roles).cloned()
    }

    fn end_turn(&mut self, turn: &mut Turn, now: u64) {
        let runs_tasks = matches!(self.kind, SchedulerKind::Wants | SchedulerKind::Coarse);
        if !runs_tasks {
            return;
        }
        let next = self.source.next_at();
        if next.is_none() && self.waiting == 0 && self.live.is_empty() {
            let message = "all tasks have ended".to_owned();
            turn.calls.push(Call::Complete(Outcome {
                success: true,
                message,
                results: Vec::new(),
            }));
            return;
        }
        if self.kind == SchedulerKind::Wants {
            self.state_wants(turn);
        } else {
            self.ask_or_not(turn);
        }
        if let Some(at) = next.filter(|_| next != self.timer_at) {
            let after = DurationMs(at.saturating_sub(now));
            turn.calls.push(Call::SetTimer { name: ARRIVALS.to_owned(), after });
            self.timer_at = next;
        }
    }

    /// Says what is wanted, unless the leader knows.
    fn state_wants(&mut self, turn: &mut Turn) {
        let counted = |(class, queue): (&u32, &VecDeque<u32>)| {
            (*class, u32::try_from(queue.len()).unwrap_or(u32::MAX))
        };
        let counts: BTreeMap<u32, u32> =
            self.pending.iter().take(limits::WANTS).map(counted).collect();
        let known = self.stated.as_ref().map(|stated| {
            stated
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(class, count)| (*class, *count))
                .collect()
        });
        if known.as_ref() == Some(&counts) {
            return;
        }
        let want = |(class, count): (&u32, &u32)| {
            let role = self.roles.get(usize::try_from(*class).ok()? % self.roles.len().max(1))?;
            Some(Want {
                id: *class,
                role: role.clone(),
                count: *count,
                each: self.size_of(*class)?,
                port_count: 0,
                revocable: self.is_revocable,
                constraints: Vec::new(),
            })
        };
        turn.calls.push(Call::Want(Some(counts.iter().filter_map(want).collect())));
        self.stated = Some(counts);
    }

    /// Asks for offers while something waits, and for none else.
    fn ask_or_not(&mut self, turn: &mut Turn) {
        let suppress = self.waiting == 0;
        if self.suppressed != Some(suppress) {
            turn.calls.push(if suppress {
                Call::Suppress(Vec::new())
            } else {
                Call::Revive(Vec::new())
            });
            self.suppressed = Some(suppress);
        }
    }
}

/// A turn as it is put together.
struct Turn {
    calls: Vec<Call>,
    launched: Vec<u32>,
}

impl Turn {
    fn decline(&mut self, offer: &Offer, refuse_for: DurationMs) {
        self.calls.push(Call::Decline { offers: vec![offer.id], refuse_for: Some(refuse_for) });
    }
}

/// What tasks may use of an offer: what anyone may, and what is reserved; no volumes, no whole disks, and revocable pools
/// only for tasks that are revocable.
fn usable(offer: &Offer, is_revocable: bool) -> Resources {
    let is_usable =
        |kind: &PoolKind| (is_revocable || !kind.revocable) && kind.disk == DiskKind::default();
    let pools = offer.pools.iter().filter(|(kind, _)| is_usable(kind));
    pools.fold(offer.resources.clone(), |sum, (_, more)| sum.checked_add(more).unwrap_or(sum))
}

/// The number and the attempt of a task.
fn parse(task: &TaskId) -> Option<(u32, u32)> {
    let (number, attempt) = task.as_str().split_once('-')?;
    Some((number.parse().ok()?, attempt.parse().ok()?))
}
