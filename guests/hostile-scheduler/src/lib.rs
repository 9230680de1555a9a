//! A tenant who attacks the cluster with what a scheduler may say; the setting `mode` chooses how.
//!
//! It speaks without the SDK's restraint, in every turn, and asks for the next turn at once.

#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "natively it is compiled and never called")
)]

use tepui_sdk::bindings::exports::tepui::framework::scheduler::Guest;
use tepui_sdk::wire::protocol::{
    Acceptance, Call, Comparison, Constraint, Decline, Event, Kill, Offer, Operation, Reservation,
    Resources, Timer, Want,
};
use tepui_sdk::{Message, Task};

/// What it does.
#[derive(Clone, Debug, Default)]
struct Plan {
    mode: String,
    role: String,
    tasks: usize,
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
        let mut offers = Vec::new();
        for event in events {
            match event {
                Event::Started(start) => {
                    let setting = |name: &str| {
                        let pair = start.config.iter().find(|(key, _)| key == name);
                        pair.map(|(_, value)| value.clone())
                    };
                    self.mode = setting("mode").unwrap_or_default();
                    self.tasks = setting("tasks").and_then(|n| n.parse().ok()).unwrap_or(0);
                    self.role = start.roles.first().cloned().unwrap_or_default();
                }
                Event::Offers(new) => offers.extend(new),
                _ => {}
            }
        }
        let mut calls = self.launches(&offers);
        calls.extend(self.attack());
        calls.push(Call::SetTimer(Timer { name: "again".to_owned(), after: 1 }));
        calls
    }

    /// What the attack needs to run first; what else is offered is given back, or kept.
    fn launches(&mut self, offers: &[Offer]) -> Vec<Call> {
        if self.mode == "keeps" {
            return Vec::new();
        }
        let accept = |offer: &Offer| {
            let most = (offer.resources.cpu_milli / 10).min(offer.resources.memory_bytes >> 21);
            let count = self.tasks.min(usize::try_from(most).unwrap_or(0)).min(400);
            self.tasks -= count;
            let launch = |n| {
                let id = format!("t{}-{}-{n}", self.turn, offer.id);
                let task = Task::command(id, "task").arg("sleep").arg("60000");
                Operation::Launch(task.cpu_milli(10).memory_mib(1))
            };
            let operations = (0..count).map(launch).collect();
            Call::Accept(Acceptance { offers: vec![offer.id], operations, refuse_for: Some(1_000) })
        };
        let mut accept = accept;
        offers.iter().map(&mut accept).collect()
    }

    fn attack(&self) -> Vec<Call> {
        let kill = |n: u64| Call::Kill(Kill { task: format!("nobody-{n}"), grace: None });
        let bogus = |count: u64| (0..count).map(|n| (1 << 40) + n).collect::<Vec<u64>>();
        let timer = |n: u64| Timer { name: format!("t{n}"), after: 86_400_000 + self.turn };
        match self.mode.as_str() {
            "reconcile" => vec![Call::Reconcile(Vec::new()); 4_000],
            "bad-kills" => (0..4_000).map(kill).collect(),
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
            "timers" => (0..900).map(|n| Call::SetTimer(timer(n))).collect(),
            "sends" => {
                let message = |n: u64| Message { task: format!("t1-{n}"), data: vec![7; 1_000] };
                (0..250).map(|n| Call::Send(message(n))).collect()
            }
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

fn resources(cpu_milli: u64) -> Resources {
    Resources { cpu_milli, memory_bytes: 1 << 20, ..tepui_sdk::Resources::default() }
}

#[cfg(target_family = "wasm")]
tepui_sdk::bindings::export_component!(Hostile with_types_in tepui_sdk::bindings);
