//! A tenant who attacks the cluster with what a scheduler may say; the setting `mode` chooses how.
//!
//! It speaks without the SDK's restraint, in every turn, and asks for the next turn at once. The settings `tasks` and
//! `args` say how many tasks it runs, and with which arguments, where `%` is a task's number; `output` names the file
//! that each of them puts out. A request to it is answered with what it knows of them, so that a test can tell that an
//! attack goes on.

#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "natively it is compiled and never called")
)]

use std::collections::{BTreeMap, BTreeSet};
use tepui_sdk::bindings::exports::tepui::framework::scheduler::Guest;
use tepui_sdk::wire::protocol::{
    Acceptance, Call, Comparison, Constraint, Decline, Event, Kill, NewVolume, Offer, Operation,
    Reservation, Resources, Response, Start, Timer, Want, Write,
};
use tepui_sdk::{Message, Task, TaskState, TaskStatus};

/// What one answer may launch, and one agent take, with some to spare.
const LAUNCHES: usize = 900;
/// What one answer may kill, beside what else it says.
const KILLS: usize = 3_500;
/// What one answer may say to tasks, and how much each time, so that all of it fits.
const SENDS: usize = 250;
const SENT_BYTES: usize = 3 << 10;

/// What it does.
#[derive(Clone, Debug, Default)]
struct Plan {
    mode: String,
    role: String,
    /// Those that are still to be launched.
    tasks: usize,
    args: String,
    output: Option<String>,
    /// How many were launched on each agent.
    placed: BTreeMap<u32, usize>,
    /// Those that run.
    running: BTreeSet<String>,
    /// Messages of tasks so far.
    heard: u64,
    turn: u64,
}

thread_local! {
    static PLAN: std::cell::RefCell<Plan> = std::cell::RefCell::new(Plan::default());
}

struct Hostile;

impl Guest for Hostile {
    fn handle(_now: u64, events: Vec<Event>) -> Vec<Call> {
        PLAN.with_borrow_mut(|plan| plan.turn(events))
    }
}

impl Plan {
    fn turn(&mut self, events: Vec<Event>) -> Vec<Call> {
        self.turn += 1;
        let (mut offers, mut calls) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Started(start) => self.begin(&start),
                Event::Tasks(page) => page.tasks.iter().for_each(|status| self.see(status)),
                Event::TaskUpdated(status) => self.see(&status),
                Event::Message(_) => self.heard += 1,
                Event::Request(request) => calls.push(self.tell(request.id)),
                Event::Offers(new) => offers.extend(new),
                _ => {}
            }
        }
        calls.extend(self.launches(&offers));
        calls.extend(self.attack());
        calls.push(Call::SetTimer(Timer { name: "again".to_owned(), after: 1 }));
        calls
    }

    fn begin(&mut self, start: &Start) {
        let setting = |name: &str| {
            let pair = start.config.iter().find(|(key, _)| key == name);
            pair.map(|(_, value)| value.as_str())
        };
        self.mode = setting("mode").unwrap_or_default().to_owned();
        self.tasks = setting("tasks").and_then(|n| n.parse().ok()).unwrap_or(0);
        self.args = setting("args").unwrap_or("sleep 60000").to_owned();
        self.output = setting("output").map(str::to_owned);
        self.role = start.roles.first().cloned().unwrap_or_default();
    }

    fn see(&mut self, status: &TaskStatus) {
        if status.is_final() {
            self.running.remove(&status.task);
        } else if status.state == TaskState::Running {
            self.running.insert(status.task.clone());
        }
    }

    fn tell(&self, id: u64) -> Call {
        let (running, heard, turn) = (self.running.len(), self.heard, self.turn);
        let body = format!(r#"{{"running":{running},"heard":{heard},"turn":{turn}}}"#);
        Call::Respond(Response { id, status: 200, headers: Vec::new(), body: body.into_bytes() })
    }

    /// What the attack needs to run first; what else is offered is given back, or kept.
    fn launches(&mut self, offers: &[Offer]) -> Vec<Call> {
        match self.mode.as_str() {
            "keeps" => return Vec::new(),
            "empty" => return offers.iter().map(accept_nothing).collect(),
            "volumes" => {
                // One answer may make so many and no more; the rest comes again.
                let mut offers = offers.iter();
                let first = offers.next().map(|offer| self.volumes(offer));
                return first.into_iter().chain(offers.map(accept_nothing)).collect();
            }
            _ => {}
        }
        let mut room = LAUNCHES;
        let mut accept = |offer: &Offer| {
            let most = (offer.resources.cpu_milli / 10).min(offer.resources.memory_bytes >> 21);
            let placed = self.placed.entry(offer.agent).or_default();
            let room_there = (LAUNCHES - *placed).min(usize::try_from(most).unwrap_or(0));
            let count = self.tasks.min(room_there).min(room);
            *placed += count;
            self.tasks -= count;
            room -= count;
            let operations = (0..count).map(|n| Operation::Launch(self.task(offer, n))).collect();
            Call::Accept(Acceptance { offers: vec![offer.id], operations, refuse_for: Some(1_000) })
        };
        offers.iter().map(&mut accept).collect()
    }

    fn task(&self, offer: &Offer, n: usize) -> Task {
        let id = format!("t{}-{}-{n}", self.turn, offer.id);
        let args = self.args.replace('%', &n.to_string());
        let task = Task::command(&id, "task").args(args.split(' ')).cpu_milli(10).memory_mib(2);
        match &self.output {
            Some(file) => task.size(100, 4).disk_mib(64).output(file, id),
            None => task,
        }
    }

    /// A task for an offer that there never was.
    fn nowhere(&self, n: usize) -> Task {
        Task::command(format!("n{}-{n}", self.turn), "task").cpu_milli(1).memory_mib(1)
    }

    /// A part of as much durable state as there may be.
    fn value(&self, n: u64) -> Call {
        Call::Put(Write { key: format!("{}-{n}", self.turn), value: Some(vec![7; 65_000]) })
    }

    fn attack(&self) -> Vec<Call> {
        let kill = |n: u64| Call::Kill(Kill { task: format!("nobody-{n}"), grace: None });
        let timer = |n: u64| Timer { name: format!("t{n}"), after: 86_400_000 + self.turn };
        match self.mode.as_str() {
            "reconcile" => vec![Call::Reconcile(Vec::new()); 4_000],
            "bad-kills" => (0..4_000).map(kill).collect(),
            "bad-launches" => vec![Call::Accept(Acceptance {
                offers: bogus(1),
                operations: (0..LAUNCHES).map(|n| Operation::Launch(self.nowhere(n))).collect(),
                refuse_for: None,
            })],
            "state" if self.turn <= 4 => (0..15).map(|n| self.value(n)).collect(),
            "declines" => {
                vec![Call::Decline(Decline { offers: bogus(120_000), refuse_for: None })]
            }
            "few-declines" => {
                let decline = || Decline { offers: bogus(7_000), refuse_for: None };
                vec![Call::Decline(decline()), Call::DeclineInverse(decline())]
            }
            "patterns" => vec![Call::Want(Some((0..600).map(|id| self.pattern(id, 1)).collect()))],
            "few-patterns" => {
                vec![Call::Want(Some((0..32).map(|id| self.pattern(id, 1)).collect()))]
            }
            "works" => {
                work();
                Vec::new()
            }
            "timers" => (0..900).map(|n| Call::SetTimer(timer(n))).collect(),
            "sends" => self.sends(),
            "torments" => [self.sends(), self.kills()].concat(),
            "reserves" => vec![Call::Accept(Acceptance {
                offers: bogus(1),
                operations: vec![self.reserve(); 100],
                refuse_for: None,
            })],
            "wants" => {
                // Something else each time, so that all is looked at.
                let mut want = self.pattern(1, 0);
                want.each.cpu_milli = 50_000 + self.turn % 1_000;
                vec![Call::Want(Some(vec![want]))]
            }
            _ => Vec::new(),
        }
    }

    /// As much of an offer as may be made a volume, piece by piece; what is a volume already stays one.
    fn volumes(&self, offer: &Offer) -> Call {
        let disk = |disk_bytes| Resources { disk_bytes, ..Resources::default() };
        let role = || self.role.clone();
        let make = |n: u64| {
            let (role, size) = (role(), 1 << 20);
            let id = format!("v{}-{}-{n}", self.turn, offer.id);
            Operation::CreateVolume(NewVolume { role, id, size_bytes: size, shared: false })
        };
        let reserve = Operation::Reserve(Reservation { role: role(), resources: disk(60 << 20) });
        let operations = std::iter::once(reserve).chain((0..60).map(make)).collect();
        Call::Accept(Acceptance { offers: vec![offer.id], operations, refuse_for: Some(0) })
    }

    /// As many messages as may be, to those that run, one after the other.
    fn sends(&self) -> Vec<Call> {
        let data = vec![7; SENT_BYTES];
        let send = |task: &String| Call::Send(Message { task: task.clone(), data: data.clone() });
        self.running.iter().cycle().take(SENDS).map(send).collect()
    }

    /// As many kills as may be, of those that run, each with so much grace that they go on; and each with less than the
    /// one before, so that none can be passed over.
    fn kills(&self) -> Vec<Call> {
        let grace = |n: u64| 3_600_000_u64.saturating_sub(self.turn * 4_000 + n).max(600_000);
        let kill = |(task, n): (&String, u64)| {
            Call::Kill(Kill { task: task.clone(), grace: Some(grace(n)) })
        };
        self.running.iter().cycle().zip(0..).take(KILLS).map(kill).collect()
    }

    fn pattern(&self, id: u32, count: u32) -> Want {
        let constraint = |n: u32| Constraint {
            attribute: "@hostname".to_owned(),
            comparison: Comparison::Matches,
            operand: format!("(x{id}-{n}-{}|\\w{{1,40}})+$", self.turn),
        };
        Want {
            id,
            role: self.role.clone(),
            count: 1,
            each: resources(100),
            port_count: 0,
            revocable: false,
            constraints: (0..count).map(constraint).collect(),
        }
    }

    fn reserve(&self) -> Operation {
        Operation::Reserve(Reservation { role: self.role.clone(), resources: resources(1) })
    }
}

/// Some 20 ms of a core.
fn work() {
    let mut number = 1_u64;
    for step in 0..20_000_000_u64 {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005) ^ step);
    }
}

/// Takes an offer, does nothing with it, and would have it again at once.
fn accept_nothing(offer: &Offer) -> Call {
    let (offers, operations) = (vec![offer.id], Vec::new());
    Call::Accept(Acceptance { offers, operations, refuse_for: Some(0) })
}

/// Offers that were never made.
fn bogus(count: u64) -> Vec<u64> {
    (0..count).map(|n| (1 << 40) + n).collect()
}

fn resources(cpu_milli: u64) -> Resources {
    Resources { cpu_milli, memory_bytes: 1 << 20, ..tepui_sdk::Resources::default() }
}

#[cfg(target_family = "wasm")]
tepui_sdk::bindings::export_component!(Hostile with_types_in tepui_sdk::bindings);
