//! Why a framework, or those in a role, are offered what they are: the allocator's tallies in words.
//!
//! Never asks the allocator to look again: what is told is what came of the looks that offers were made by.

use crate::allocator::{Reason, Tally, is_at_or_below};
use crate::leader::Leader;
use crate::state::Framework;
use std::collections::BTreeMap;
use tepui_proto::api::{
    AskView, FrameworkExplanation, FrameworkPhase, ReasonView, RoleExplanation, TallyView, WantView,
};
use tepui_proto::calls::Want;
use tepui_proto::{Bundle, FrameworkId, Role, Tenant};

/// Frameworks of one answer.
const FRAMEWORKS: usize = 1_000;

/// Where one framework stands in one role. Codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskState {
    Asking,
    Suppressed,
    Inactive,
    Resting,
    Held,
    WantsNothing,
    OnOffer,
}

impl AskState {
    fn code(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Suppressed => "suppressed",
            Self::Inactive => "inactive",
            Self::Resting => "resting",
            Self::Held => "held",
            Self::WantsNothing => "wants-nothing",
            Self::OnOffer => "on-offer",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Asking => "it is offered what it may have",
            Self::Suppressed => "its scheduler has suppressed offers for this role",
            Self::Inactive => "its scheduler takes no turns now, so nothing is offered to it",
            Self::Resting => {
                "its last answer was much work (see its events), so nothing is offered to it for a while"
            }
            Self::Held => "its scheduler failed too often; submit it again to let it go",
            Self::WantsNothing => "its scheduler has stated its wants, and none is left here",
            Self::OnOffer => "all that it wants is on offer to it",
        }
    }
}

impl Leader {
    /// Why a tenant's framework is offered what it is.
    pub fn explain_framework(&self, tenant: &Tenant, name: &str) -> Option<FrameworkExplanation> {
        let (id, framework) = self.state.framework_named(tenant, name)?;
        let roles = framework.submission.roles.iter();
        Some(FrameworkExplanation {
            framework: name.to_owned(),
            agents: self.allocator().agents() as u64,
            roles: roles.map(|role| self.ask_view(id, framework, role)).collect(),
        })
    }

    /// Why those in a role and below it are offered what they are.
    pub fn explain_role(&self, role: &str) -> Option<RoleExplanation> {
        let view = self.views_of_roles(&[Role::from(role)]).pop()?;
        let live = self.state.frameworks.iter().filter(|(_, framework)| !framework.has_ended());
        let asks = live.flat_map(|(id, framework)| {
            let roles = framework.submission.roles.iter();
            let below = roles.filter(|own| is_at_or_below(own.as_str(), role));
            below.map(move |own| (*id, framework, own))
        });
        let mut asks: Vec<_> = asks.collect();
        let left_out = asks.len().saturating_sub(FRAMEWORKS) as u64;
        asks.truncate(FRAMEWORKS);
        let asks = asks.into_iter();
        Some(RoleExplanation {
            role: view,
            agents: self.allocator().agents() as u64,
            frameworks: asks.map(|(id, of, own)| self.ask_view(id, of, own)).collect(),
            left_out,
        })
    }

    fn ask_view(&self, id: FrameworkId, framework: &Framework, role: &Role) -> AskView {
        let wants = framework.wants.as_ref().map(|wants| {
            let own = wants.iter().filter(|want| want.role == *role && want.count > 0);
            own.map(|want| (want, self.units_on_offer(id, want.id))).collect::<Vec<_>>()
        });
        let state = self.ask_state(id, framework, role, wants.as_deref());
        let is_asking = state == AskState::Asking;
        let tallies = self.allocator().want_tallies(id, role);
        let tally = is_asking.then(|| self.allocator().tally(id, role)).flatten();
        let last_until = self.allocator().served_last_until(id, role);
        AskView {
            framework: framework.submission.name.clone(),
            role: role.0.clone(),
            state: state.code().to_owned(),
            message: state.message().to_owned(),
            last_until: (last_until > self.state.now()).then_some(last_until.0),
            tally: tally.as_ref().map(tally_view),
            wants: wants.map(|wants| {
                wants.into_iter().map(|want| want_view(want, is_asking, &tallies)).collect()
            }),
        }
    }

    fn ask_state(
        &self,
        id: FrameworkId,
        framework: &Framework,
        role: &Role,
        wants: Option<&[(&Want, u64)]>,
    ) -> AskState {
        if framework.phase == FrameworkPhase::Held {
            AskState::Held
        } else if !self.is_asking(id) {
            AskState::Inactive
        } else if self.is_resting(id) {
            AskState::Resting
        } else if framework.suppressed.contains(role) {
            AskState::Suppressed
        } else if wants.is_some_and(<[_]>::is_empty) {
            AskState::WantsNothing
        } else if wants.is_some_and(|wants| wants.iter().all(|(want, out)| is_out(want, *out))) {
            AskState::OnOffer
        } else {
            AskState::Asking
        }
    }
}

fn is_out(want: &Want, on_offer: u64) -> bool {
    on_offer >= u64::from(want.count)
}

fn want_view(
    (want, on_offer): (&Want, u64),
    is_asking: bool,
    tallies: &BTreeMap<u32, Tally>,
) -> WantView {
    let tally = tallies.get(&want.id).filter(|_| is_asking && !is_out(want, on_offer));
    WantView {
        want: want.id,
        count: want.count,
        on_offer,
        each: Bundle::from(want.each.clone()).to_string(),
        tally: tally.map(tally_view),
    }
}

fn tally_view(tally: &Tally) -> TallyView {
    let reasons = tally.reasons().filter(|(_, count)| *count > 0);
    let mut reasons: Vec<ReasonView> = reasons
        .map(|(reason, agents)| ReasonView {
            code: reason.code().to_owned(),
            agents,
            message: meaning(reason).to_owned(),
        })
        .collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.agents));
    TallyView {
        since: tally.since.0,
        considered: tally.considered,
        offered: tally.offered,
        reasons,
    }
}

/// What a reason means, for people.
fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::NoCpus => "too little CPU is free there",
        Reason::NoMemory => "too little memory is free there",
        Reason::NoDisk => "too little disk is free there",
        Reason::NoPorts => "too few ports are free there",
        Reason::NoCustom => "too little is free there of a resource that the operator named",
        Reason::Reserved => "what is free there is reserved for other roles",
        Reason::Quota => "the role, or one above it, is at its limit",
        Reason::Headroom => "what is free there is held for the guarantees of other roles",
        Reason::Filter => "the framework declined it, and its filter has not run out",
        Reason::Constraint => "the agent does not meet the constraints",
        Reason::SmallestOffer => "what is free there is less than the smallest offer",
        Reason::NotAccepted => "the framework does not take such resources",
        Reason::Held => "all of it is in use or on offer, or others were served first",
        Reason::Drained => "the agent is drained, deactivated, or away",
        Reason::Full => "the agent has as many tasks as it takes, or no room on its disk",
    }
}
