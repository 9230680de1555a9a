//! One scheduler over its turns: keeps the instance, hands it events, collects what it asks for.
//!
//! It begins a new instance at every `started`, whatever was there before.

use crate::store::Committed;
use crate::{Call, Cx, Event, Scheduler};

/// A scheduler and what it has been told, from turn to turn.
#[derive(Debug)]
pub struct Runner<S> {
    scheduler: S,
    pub(crate) cx: Cx,
}

impl<S: Scheduler> Runner<S> {
    /// For a component: durable state is read from the cluster.
    pub fn hosted() -> Self {
        Self::new(Committed::Host)
    }

    pub(crate) fn new(committed: Committed) -> Self {
        Self { scheduler: S::default(), cx: Cx::new(committed) }
    }

    /// One turn: tells the events in order, and returns the calls.
    pub fn turn(&mut self, now: u64, events: Vec<Event>) -> Vec<Call> {
        self.cx.begin(now);
        for event in events {
            self.tell(event);
        }
        self.scheduler.on_turn_end(&mut self.cx);
        self.cx.finish()
    }

    fn tell(&mut self, event: Event) {
        let (scheduler, cx) = (&mut self.scheduler, &mut self.cx);
        match event {
            Event::Started(start) => {
                *scheduler = S::default();
                cx.restart(&start);
                scheduler.on_start(cx, &start);
            }
            Event::Tasks(page) => scheduler.on_tasks(cx, page.tasks, page.last),
            Event::TaskUpdated(status) => scheduler.on_update(cx, status),
            Event::Message(message) => scheduler.on_message(cx, message),
            Event::Timer(name) => scheduler.on_timer(cx, &name),
            Event::Refused(refusal) => scheduler.on_refused(cx, refusal),
            Event::AgentLost(agent) => scheduler.on_agent_lost(cx, &agent),
            Event::Agents(agents) => {
                cx.learn(&agents);
                scheduler.on_agents(cx, &agents);
            }
            Event::Rescinded(offers) => scheduler.on_rescinded(cx, &offers),
            Event::InverseOffers(offers) => scheduler.on_inverse_offers(cx, offers),
            Event::Offers(offers) => {
                cx.receive(&offers);
                scheduler.on_offers(cx, offers);
            }
            Event::Request(request) => scheduler.on_request(cx, request),
        }
    }
}
