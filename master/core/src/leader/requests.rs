//! Requests to a framework's HTTP address: they wait for a turn, then for a response, and never longer than bound.

use super::deadlines::Deadline;
use super::mind::Caller;
use super::{Leader, Step, reply};
use crate::effect::{Effects, ReplyBody};
use crate::input::Ticket;
use crate::refusal::{Code, Refusal};
use tepui_proto::api::FrameworkPhase;
use tepui_proto::calls::Response;
use tepui_proto::events::Request;
use tepui_proto::{DurationMs, FrameworkId, RequestId, Tenant, limits};

impl Leader {
    pub(super) fn on_request(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        tenant: &Tenant,
        name: &str,
        request: Request,
    ) {
        let id = match self.check_request(tenant, name) {
            Ok(id) => id,
            Err(refusal) => return reply(step.fx, ticket, Err(refusal)),
        };
        let request_id = RequestId(ticket.0);
        let until = step.now.after(DurationMs(limits::REQUEST_TIMEOUT_MS));
        self.mind.callers.insert(request_id, Caller { framework: id, ticket, until });
        self.mind.deadlines.set(until, Deadline::Request(request_id));
        self.mind.framework(id).new_requests.push_back(Request { id: request_id, ..request });
        self.mind.touched.insert(id);
    }

    fn check_request(&mut self, tenant: &Tenant, name: &str) -> Result<FrameworkId, Refusal> {
        let Some((id, framework)) = self.state.framework_named(tenant, name) else {
            return Err(Refusal::new(
                Code::FrameworkUnknown,
                format!("there is no framework `{name}`"),
            ));
        };
        match framework.phase {
            FrameworkPhase::Submitted | FrameworkPhase::Running => {}
            FrameworkPhase::Held => {
                return Err(Refusal::new(
                    Code::FrameworkHeld,
                    format!("framework `{name}` is held: {}", framework.message),
                ));
            }
            FrameworkPhase::Stopping | FrameworkPhase::Ended => {
                return Err(Refusal::new(
                    Code::FrameworkEnded,
                    format!("framework `{name}` is stopping or has ended"),
                ));
            }
        }
        let mind = self.mind.framework(id);
        let told = mind.hosted.as_ref().and_then(|hosted| hosted.in_flight.as_ref());
        let told = told.map_or(0, |turn| turn.requests.len());
        if mind.new_requests.len() + told + mind.open_requests.len() >= limits::REQUESTS_WAITING {
            let message = format!("{} requests to `{name}` wait already", limits::REQUESTS_WAITING);
            return Err(Refusal::new(Code::TooManyRequests, message));
        }
        Ok(id)
    }

    /// Answers a request that its scheduler responded to. False if nobody waits for it.
    pub(super) fn respond(
        &mut self,
        framework: FrameworkId,
        response: Response,
        fx: &mut Effects,
    ) -> bool {
        let id = response.id;
        let Some(caller) =
            self.mind.callers.get(&id).copied().filter(|caller| caller.framework == framework)
        else {
            return false;
        };
        self.forget_caller(id);
        reply(fx, caller.ticket, Ok(ReplyBody::Response(response)));
        true
    }

    pub(super) fn refuse_request(&mut self, id: RequestId, refusal: &Refusal, fx: &mut Effects) {
        if let Some(caller) = self.forget_caller(id) {
            reply(fx, caller.ticket, Err(refusal.clone()));
        }
    }

    /// Refuses all that wait for a framework, told or not.
    pub(super) fn refuse_waiting_requests(
        &mut self,
        framework: FrameworkId,
        refusal: &Refusal,
        fx: &mut Effects,
    ) {
        let of_framework = |(_, caller): &(&RequestId, &Caller)| caller.framework == framework;
        let ids: Vec<RequestId> =
            self.mind.callers.iter().filter(of_framework).map(|(id, _)| *id).collect();
        for id in ids {
            self.refuse_request(id, refusal, fx);
        }
    }

    /// Whoever waited has gone; the scheduler is not asked if it was not yet.
    pub(super) fn on_abandoned(&mut self, ticket: Ticket) {
        self.forget_caller(RequestId(ticket.0));
        for check in self.mind.checks.values_mut() {
            check.tickets.retain(|waiting| *waiting != ticket);
            check.submissions.retain(|pending| pending.ticket != ticket);
        }
    }

    fn forget_caller(&mut self, id: RequestId) -> Option<Caller> {
        let caller = self.mind.callers.remove(&id)?;
        self.mind.deadlines.clear(caller.until, Deadline::Request(id));
        let mind = self.mind.framework(caller.framework);
        mind.open_requests.remove(&id);
        mind.new_requests.retain(|request| request.id != id);
        Some(caller)
    }
}
