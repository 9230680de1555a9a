//! The framework behind `tepui run`: one resident scheduler per tenant, which is told what to run by HTTP.
//!
//! `POST /runs` takes a run on and answers once it is recorded, before anything is launched; a request with a key that
//! was seen before gets the same answer and starts nothing. `GET /runs/N` tells how far it is. `DELETE /runs/N` stops
//! it, also what has not begun. Tasks are `rN-I`, and none that began is tried again: whoever asked sees how it ended. One
//! that found its offer taken back, or its agent full, is launched again as `rN-I-2` and so on. A run that fits nowhere
//! waits. It never completes.

mod api;
mod book;

use api::{RunSpec, instance_of, refused, task_id, task_ids};
use book::{Book, End, Instance};
use std::collections::BTreeSet;
use tepui_sdk::{Cx, Offer, Remaining, Request, Scheduler, Start, TaskState, TaskStatus, Want};

pub use api::{INSTANCES, Refused};
pub use book::ENDED_RUNS;

/// Runs for which wants are stated at a time; the rest waits its turn.
const WANTS: usize = 500;
/// Launches of an instance that never began, after which the last is its end.
const LAUNCHES: u32 = 8;
/// Tasks that one answer stops; the next ones are stopped in turns that a timer brings.
const KILLS: usize = 1_000;
const KILL_TIMER: &str = "kill";

/// Remembers what durable state has too.
#[derive(Debug, Default)]
pub struct Runs {
    book: Book,
    /// The first run that was taken on in this turn: it is told of before anything of it is launched.
    first_new: Option<u64>,
    /// Offers of this turn: used once all requests are answered, since both share what an answer has room for.
    offers: Vec<Offer>,
    /// Instances that are to be stopped, and which launch of each. Durable state says that they are stopping.
    to_kill: BTreeSet<(u64, usize, u32)>,
}

type Answer = Result<(u16, serde_json::Value), Refused>;

impl Runs {
    fn post(&mut self, cx: &mut Cx, body: &[u8]) -> Answer {
        let spec = RunSpec::read(body)?;
        if let Some((number, run)) = self.book.by_key(&spec.key) {
            return Ok((
                200,
                serde_json::json!({ "tasks": task_ids(number, run.instances.len()) }),
            ));
        }
        let instances = usize::try_from(spec.instances).unwrap_or_default();
        let busy = || {
            refused(503, "too-many-runs", "too many runs wait or are under way; try again later")
        };
        let number = self.book.begin(cx, spec).ok_or_else(busy)?;
        self.first_new.get_or_insert(number);
        Ok((201, serde_json::json!({ "tasks": task_ids(number, instances) })))
    }

    fn show(&self, number: u64) -> Answer {
        let run = self.book.run(number).ok_or_else(|| unknown(number))?;
        let tasks = run.instances.iter().enumerate().map(|(instance, state)| {
            let (state, launch, exit_code) = match state {
                Instance::Waiting(launches) => ("waiting", *launches + 1, None),
                Instance::Launched(launch) | Instance::Stopping(launch) => {
                    ("launched", *launch, None)
                }
                Instance::Ended(end) => (end.state.as_str(), end.launch, end.exit_code),
            };
            let task = task_id(number, instance, launch);
            let mut shown = serde_json::json!({ "task": task, "state": state });
            if let (Some(code), Some(shown)) = (exit_code, shown.as_object_mut()) {
                shown.insert("exit_code".to_owned(), code.into());
            }
            shown
        });
        Ok((200, serde_json::json!({ "run": number, "tasks": tasks.collect::<Vec<_>>() })))
    }

    fn stop(&mut self, cx: &mut Cx, number: u64) -> Answer {
        let instances = self.book.run(number).ok_or_else(|| unknown(number))?.instances.clone();
        for (instance, state) in instances.into_iter().enumerate() {
            match state {
                Instance::Waiting(launches) => {
                    let end =
                        End { state: "killed".to_owned(), launch: launches + 1, exit_code: None };
                    self.book.set(cx, number, instance, Instance::Ended(end));
                }
                Instance::Launched(launch) => {
                    self.to_kill.insert((number, instance, launch));
                    self.book.set(cx, number, instance, Instance::Stopping(launch));
                }
                Instance::Stopping(_) | Instance::Ended(_) => {}
            }
        }
        self.show(number).map(|(_, body)| (202, body))
    }

    fn answer(&mut self, cx: &mut Cx, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default().trim_end_matches('/');
        let number = path.strip_prefix("/runs/").and_then(|number| number.parse().ok());
        match (request.method.as_str(), number) {
            ("POST", None) if path == "/runs" => self.post(cx, &request.body),
            ("GET", Some(number)) => self.show(number),
            ("DELETE", Some(number)) => self.stop(cx, number),
            _ => Err(refused(404, "not-found", format!("there is no {} {path}", request.method))),
        }
    }

    /// Stops so many of those that are to be stopped.
    fn kill_some(&mut self, cx: &mut Cx) {
        let first_left = self.to_kill.iter().nth(KILLS).copied();
        let left = first_left.map(|first| self.to_kill.split_off(&first)).unwrap_or_default();
        for (number, instance, launch) in std::mem::replace(&mut self.to_kill, left) {
            cx.kill(task_id(number, instance, launch));
        }
        if !self.to_kill.is_empty() {
            cx.set_timer(KILL_TIMER, 1);
        }
    }

    /// Launches on the offers of this turn what waited before it.
    fn launch(&mut self, cx: &mut Cx) {
        let first_new = self.first_new.take().unwrap_or(u64::MAX);
        for offer in &std::mem::take(&mut self.offers) {
            let mut left = Remaining::of(offer);
            // First the run that the offer answers, then whatever else fits.
            let old = self.book.waiting().take_while(|number| *number < first_new);
            let waiting: Vec<u64> = old.take(WANTS).collect();
            let first = offer.want.map(u64::from).filter(|number| waiting.contains(number));
            for number in first.into_iter().chain(waiting) {
                if !self.fill(cx, offer, &mut left, number) {
                    return;
                }
            }
        }
    }

    /// Launches what waits in one run on what is left of an offer; tells whether the answer has room for more.
    fn fill(&mut self, cx: &mut Cx, offer: &Offer, left: &mut Remaining, number: u64) -> bool {
        let Some(run) = self.book.run(number) else { return true };
        let Some(spec) = run.spec.clone() else { return true };
        for (instance, launches) in run.waiting().collect::<Vec<_>>() {
            let launch = launches + 1;
            let task = spec.task(number, instance, launch);
            if !cx.has_room(&task) {
                return false;
            }
            if !left.take(&task) {
                return true;
            }
            cx.accept(offer).launch(task).refuse_for(0);
            self.book.set(cx, number, instance, Instance::Launched(launch));
        }
        true
    }
}

/// Whether a task ended because its offer was gone, or its agent full: another offer may do.
fn never_began(status: &TaskStatus) -> bool {
    status.state == TaskState::Dropped
        && matches!(status.reason.as_str(), "invalid-offer" | "cell-full")
}

fn unknown(number: u64) -> Refused {
    refused(404, "run-unknown", format!("there is no run {number}, or it ended long ago"))
}

impl Scheduler for Runs {
    fn on_start(&mut self, cx: &mut Cx, _start: &Start) {
        self.book = Book::load(cx);
        self.to_kill = self.book.stopping().collect();
    }

    fn on_update(&mut self, cx: &mut Cx, status: TaskStatus) {
        let Some((number, instance, launch)) = instance_of(&status.task) else { return };
        let known = self.book.run(number).and_then(|run| run.instances.get(instance));
        let ended = || {
            let state = status.state.as_str().to_owned();
            Instance::Ended(End { state, launch, exit_code: status.exit_code })
        };
        let now = match known {
            _ if !status.is_final() => return,
            Some(Instance::Launched(at)) if *at == launch => {
                if never_began(&status) && launch < LAUNCHES {
                    Instance::Waiting(launch)
                } else {
                    ended()
                }
            }
            Some(Instance::Stopping(at)) if *at == launch => ended(),
            _ => return,
        };
        self.book.set(cx, number, instance, now);
    }

    fn on_offers(&mut self, _cx: &mut Cx, offers: Vec<Offer>) {
        self.offers.extend(offers);
    }

    fn on_request(&mut self, cx: &mut Cx, request: Request) {
        let (status, body) = match self.answer(cx, &request) {
            Ok((status, body)) => (status, body.to_string()),
            Err(refused) => (refused.status, serde_json::json!(refused).to_string()),
        };
        cx.respond_with(request.id, status, "application/json", body.into_bytes());
    }

    fn on_turn_end(&mut self, cx: &mut Cx) {
        self.launch(cx);
        self.kill_some(cx);
        self.book.write(cx);
        cx.decline_rest(0);
        let role = cx.first_role().to_owned();
        let mut wants = Vec::new();
        for number in self.book.waiting().take(WANTS) {
            let Some(run) = self.book.run(number) else { continue };
            let (Some(spec), Ok(id)) = (&run.spec, u32::try_from(number)) else { continue };
            let count = u32::try_from(run.waiting().count()).unwrap_or(u32::MAX);
            wants.push(Want::new(id, role.as_str(), count, spec.each()));
        }
        cx.want(wants);
    }
}

tepui_sdk::export!(Runs);

#[cfg(test)]
mod tests;
