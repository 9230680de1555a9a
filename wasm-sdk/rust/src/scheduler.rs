//! What an author writes: reactions to events.

use crate::{AgentInfo, Cx, InverseOffer, Message, Offer, Refusal, Request, Start, TaskStatus};

/// A scheduler: how it reacts to what happens.
///
/// The cluster calls it a turn at a time. Within a turn the methods are called in the order in which they stand here,
/// and [`Self::on_turn_end`] last. What they ask of [`Cx`] is committed together when the turn ends, or not at all: a
/// turn that panics, runs out of fuel, or is lost on the way never happened, and its events come again, to a new
/// instance.
///
/// `Default` makes an instance; it knows nothing yet. Its memory is a cache: read what must last from [`Cx::get`],
/// usually in [`Self::on_start`].
///
/// Offers that a turn brings and that nobody accepts, declines or [keeps](Cx::keep) in that turn are declined when it
/// ends, so that no scheduler sits on what others could use.
pub trait Scheduler: Default {
    /// An instance begins. Earlier offers and requests are void; durable state is as it was left.
    fn on_start(&mut self, cx: &mut Cx, start: &Start) {
        let _ = (cx, start);
    }

    /// Every task that is not final, a page at a time, to a new instance or after `reconcile`.
    fn on_tasks(&mut self, cx: &mut Cx, tasks: Vec<TaskStatus>, last: bool) {
        let _ = (cx, &tasks, last);
    }

    /// A task's state changed. Updates of one task keep their order, and its final one comes exactly once in all
    /// turns that are committed.
    fn on_update(&mut self, cx: &mut Cx, status: TaskStatus) {
        let _ = (cx, &status);
    }

    /// A task says something.
    fn on_message(&mut self, cx: &mut Cx, message: Message) {
        let _ = (cx, &message);
    }

    /// A timer ran out.
    fn on_timer(&mut self, cx: &mut Cx, name: &str) {
        let _ = (cx, name);
    }

    /// A call was not carried out. Refused launches come as updates instead. It is logged unless this says otherwise.
    fn on_refused(&mut self, cx: &mut Cx, refusal: Refusal) {
        let _ = cx;
        crate::warn!(
            "call {} of turn {}: {}: {}",
            refusal.index,
            refusal.turn,
            refusal.code,
            refusal.message
        );
    }

    /// An agent that was offered or used is lost; its tasks are told of on their own.
    fn on_agent_lost(&mut self, cx: &mut Cx, agent: &str) {
        let _ = (cx, agent);
    }

    /// Agents that offers name, before the first of them. [`Cx::agent`] finds them again.
    fn on_agents(&mut self, cx: &mut Cx, agents: &[AgentInfo]) {
        let _ = (cx, agents);
    }

    /// Offers of earlier turns that were taken back.
    fn on_rescinded(&mut self, cx: &mut Cx, offers: &[u64]) {
        let _ = (cx, &offers);
    }

    /// The cluster asks for agents back.
    fn on_inverse_offers(&mut self, cx: &mut Cx, offers: Vec<InverseOffer>) {
        let _ = (cx, &offers);
    }

    /// New offers.
    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        let _ = (cx, &offers);
    }

    /// A request to the framework's HTTP address. It need not be answered in this turn. Without this method the
    /// answer is 404.
    fn on_request(&mut self, cx: &mut Cx, request: Request) {
        cx.respond_text(request.id, 404, "this framework serves nothing\n");
    }

    /// The turn's events are over: the place to decide on everything at once.
    fn on_turn_end(&mut self, cx: &mut Cx) {
        let _ = cx;
    }
}
