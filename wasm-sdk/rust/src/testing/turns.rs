//! Turns of the fake cluster: gathers events in the order of the contract, offers what is free, takes the answer.

use super::{FakeCluster, OFFER_TIMEOUT_MS, STEP_MS};
use crate::wire::protocol::TaskPage;
use crate::{Event, Offer, Resources, Start, StartCause, Want};

/// Less than this is not offered.
const SMALLEST_CPU_MILLI: u64 = 10;
const SMALLEST_MEMORY_BYTES: u64 = 32 << 20;
/// Statuses in one event.
const PAGE: usize = 64;

impl FakeCluster {
    /// Lets time pass and gives the scheduler one turn. Does nothing once the framework has ended.
    ///
    /// # Panics
    /// If nothing was submitted, or the scheduler breaks a limit of the contract.
    pub fn step(&mut self) -> &mut Self {
        if self.outcome.is_some() {
            return self;
        }
        self.now += STEP_MS;
        self.expire_offers();
        let mut events = self.beginning();
        let mut news = std::mem::take(&mut self.waiting);
        events.extend(news.iter().cloned());
        let due: Vec<String> = self
            .timers
            .iter()
            .filter(|(_, at)| **at <= self.now)
            .map(|(name, _)| name.clone())
            .collect();
        self.timers.retain(|_, at| *at > self.now);
        news.extend(due.iter().cloned().map(Event::Timer));
        events.extend(due.into_iter().map(Event::Timer));
        events.extend(self.make_offers());
        events.sort_by_key(place);
        let Some(mut instance) = self.instance.take() else { return self };
        let calls = instance.turn(&self.state, self.now, events);
        self.take_lines();
        if std::mem::take(&mut self.loses_turn) {
            self.waiting.splice(0..0, news);
            self.recall_offers();
            return self;
        }
        self.instance = Some(instance);
        self.turns += 1;
        self.apply(calls);
        self
    }

    /// Steps so many times.
    pub fn steps(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.step();
        }
        self
    }

    /// What a new instance is told first; nothing if there is an instance.
    fn beginning(&mut self) -> Vec<Event> {
        if self.instance.is_some() {
            return Vec::new();
        }
        let Some(make) = self.make else { panic!("no framework was submitted") };
        self.instance = Some(make());
        let cause = if self.has_started { StartCause::Restarted } else { StartCause::Submitted };
        self.has_started = true;
        let start = Start {
            cause,
            framework: "1".to_owned(),
            roles: self.roles.clone(),
            config: self.config.clone(),
            blobs: self.blob_list(),
        };
        let live: Vec<_> = self.live().into_iter().filter_map(|id| self.status_of(id)).collect();
        let mut events = vec![Event::Started(start)];
        let pages = live.chunks(PAGE).map(<[_]>::to_vec).collect::<Vec<_>>();
        let last = pages.len().saturating_sub(1);
        if pages.is_empty() {
            events.push(Event::Tasks(TaskPage { tasks: Vec::new(), last: true }));
        }
        let pages = pages.into_iter().enumerate();
        events.extend(pages.map(|(at, tasks)| Event::Tasks(TaskPage { tasks, last: at == last })));
        events
    }

    fn expire_offers(&mut self) {
        let late: Vec<u64> = self
            .offers
            .values()
            .filter(|offer| offer.expires <= self.now)
            .map(|offer| offer.id)
            .collect();
        self.expired += late.len();
        for id in &late {
            self.take_back(*id);
        }
        if !late.is_empty() {
            self.waiting.push(Event::Rescinded(late));
        }
    }

    /// Returns all offers without a word, as at the end of an instance.
    pub(super) fn recall_offers(&mut self) {
        let ids: Vec<u64> = self.offers.keys().copied().collect();
        for id in ids {
            self.take_back(id);
        }
    }

    /// An offer's resources are free again.
    pub(super) fn take_back(&mut self, id: u64) -> Option<Offer> {
        let offer = self.offers.remove(&id)?;
        if let Some(agent) = self.agents.values_mut().find(|agent| agent.info.handle == offer.agent)
        {
            agent.free = agent.free.plus(&offer.resources);
        }
        Some(offer)
    }

    fn make_offers(&mut self) -> Vec<Event> {
        if self.suppressed {
            return Vec::new();
        }
        let (mut infos, mut offers) = (Vec::new(), Vec::new());
        let mut wants = self.wants.clone();
        let mut names: Vec<String> = self.agents.keys().cloned().collect();
        names.retain(|name| {
            self.agents.get(name).is_some_and(|agent| agent.refused_until <= self.now)
        });
        for name in names {
            let made = self.offers_of(&name, wants.as_mut());
            if !made.is_empty() {
                infos.extend(self.agents.get(&name).map(|agent| agent.info.clone()));
            }
            offers.extend(made);
        }
        if offers.is_empty() {
            return Vec::new();
        }
        self.offers.extend(offers.iter().map(|offer| (offer.id, offer.clone())));
        vec![Event::Agents(infos), Event::Offers(offers)]
    }

    /// One agent's offers: whole, or cut to what is wanted, with the wants lowered by what the offers answer.
    fn offers_of(&mut self, name: &str, wants: Option<&mut Vec<Want>>) -> Vec<Offer> {
        let Some(wants) = wants else {
            let free = self.agents.get(name).map(|agent| agent.free.clone()).unwrap_or_default();
            let is_small =
                free.cpu_milli < SMALLEST_CPU_MILLI || free.memory_bytes < SMALLEST_MEMORY_BYTES;
            return if is_small {
                Vec::new()
            } else {
                self.offer(name, free, None).into_iter().collect()
            };
        };
        let mut made = Vec::new();
        for want in wants {
            let free = self.agents.get(name).map(|agent| agent.free.clone()).unwrap_or_default();
            let mut sum = Resources::none();
            while want.count > 0 && free.contains(&sum.plus(&want.each)) {
                sum = sum.plus(&want.each);
                want.count -= 1;
            }
            if sum != Resources::none() {
                made.extend(self.offer(name, sum, Some(want.id)));
            }
        }
        made
    }

    fn offer(&mut self, name: &str, resources: Resources, want: Option<u32>) -> Option<Offer> {
        let id = self.fresh_id();
        let expires = self.now + OFFER_TIMEOUT_MS;
        let agent = self.agents.get_mut(name)?;
        agent.free = agent.free.minus(&resources);
        let (pools, volumes) = (Vec::new(), Vec::new());
        Some(Offer {
            id,
            agent: agent.info.handle,
            role: 0,
            want,
            resources,
            pools,
            volumes,
            expires,
        })
    }
}

/// The place of an event in its turn.
fn place(event: &Event) -> u8 {
    match event {
        Event::Started(_) => 0,
        Event::Tasks(_) => 1,
        Event::TaskUpdated(_) => 2,
        Event::Message(_) => 3,
        Event::Timer(_) => 4,
        Event::Refused(_) => 5,
        Event::AgentLost(_) => 6,
        Event::Agents(_) => 7,
        Event::Rescinded(_) => 8,
        Event::InverseOffers(_) => 9,
        Event::Offers(_) => 10,
        Event::Request(_) => 11,
    }
}
