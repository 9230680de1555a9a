//! What a scheduler may ask for in a turn, and what it may know.
//!
//! [`Cx`] collects calls; nothing leaves it before the turn ends, and then all of it at once: declines of what was left
//! lying, then the calls in the order in which they were made, then writes of state, then the end of the framework if
//! that was asked for. It never reads a clock: [`Cx::now_ms`] is the cluster's.

use crate::bindings::tepui::framework::protocol::{
    Acceptance, Decline, Kill, Operation, Timer, Write,
};
use crate::store::{Committed, StateError, Store};
use crate::{AgentInfo, Blob, Call, Message, Offer, Outcome, Response, Start, Task, Want};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// Launches in one answer; the cluster refuses a turn with more.
const LAUNCHES: usize = 1_000;
/// Of an answer's 1 MiB, what launches may fill: the rest is for state and responses.
const LAUNCH_BYTES: usize = 640 << 10;

/// The turn: what is known, and what is asked for. See the module `testing` for how to drive one without a cluster.
#[derive(Debug)]
pub struct Cx {
    now_ms: u64,
    framework: String,
    roles: Vec<String>,
    config: BTreeMap<String, String>,
    blobs: Vec<Blob>,
    agents: BTreeMap<u32, AgentInfo>,
    pub(crate) store: Store,
    calls: Vec<Call>,
    /// Offers of this turn that nobody has answered yet.
    open: BTreeSet<u64>,
    /// Where in `calls` the acceptance of an offer stands.
    accepted: BTreeMap<u64, usize>,
    /// What the cluster holds for our wants, as far as this instance knows.
    stated: Stated,
    launches: usize,
    launch_bytes: usize,
    outcome: Option<Outcome>,
}

/// What this instance knows of the wants that the cluster holds.
#[derive(Debug, Default, PartialEq, Eq)]
enum Stated {
    /// Nothing: an earlier instance may have stated some.
    #[default]
    Unknown,
    /// Offers come whole, as they fall.
    Anything,
    /// These.
    Only(Vec<Want>),
}

impl Cx {
    pub(crate) fn new(committed: Committed) -> Self {
        Self {
            now_ms: 0,
            framework: String::new(),
            roles: Vec::new(),
            config: BTreeMap::new(),
            blobs: Vec::new(),
            agents: BTreeMap::new(),
            store: Store::new(committed),
            calls: Vec::new(),
            open: BTreeSet::new(),
            accepted: BTreeMap::new(),
            stated: Stated::Unknown,
            launches: 0,
            launch_bytes: 0,
            outcome: None,
        }
    }

    // ---- what is known -------------------------------------------------------------------------

    /// Milliseconds since the Unix epoch, as the cluster tells it; it never goes back.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The framework's identifier.
    pub fn framework(&self) -> &str {
        &self.framework
    }

    /// The framework's roles; [`Offer::role`](crate::Offer) counts in them.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// The first of the framework's roles, or `*`.
    pub fn first_role(&self) -> &str {
        self.roles.first().map_or("*", String::as_str)
    }

    /// A setting as the tenant wrote it.
    pub fn config(&self, name: &str) -> Option<&str> {
        self.config.get(name).map(String::as_str)
    }

    /// A setting, read as a type; none if it is absent, and none with a line in the log if it does not read.
    pub fn setting<T: FromStr>(&self, name: &str) -> Option<T> {
        let text = self.config(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            crate::warn!(
                "the setting `{name}` is ignored: `{text}` does not read as {}",
                std::any::type_name::<T>()
            );
        }
        value
    }

    /// The framework's blobs as they were when this instance began: submitted, or put out by tasks.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// An agent that an offer named.
    pub fn agent(&self, handle: u32) -> Option<&AgentInfo> {
        self.agents.get(&handle)
    }

    // ---- offers --------------------------------------------------------------------------------

    /// Accepts an offer; what is launched on it is told to the returned [`Accepting`]. Accepting it again in the same
    /// turn adds to the same acceptance.
    pub fn accept(&mut self, offer: &Offer) -> Accepting<'_> {
        self.open.remove(&offer.id);
        let at = if let Some(at) = self.accepted.get(&offer.id) {
            *at
        } else {
            self.accepted.insert(offer.id, self.calls.len());
            let acceptance =
                Acceptance { offers: vec![offer.id], operations: Vec::new(), refuse_for: None };
            self.calls.push(Call::Accept(acceptance));
            self.calls.len() - 1
        };
        Accepting { cx: self, at, want: offer.want }
    }

    /// Whether one more launch of that task fits into this turn's answer (1,000 launches, and a share of 1 MiB).
    pub fn has_room(&self, task: &Task) -> bool {
        self.launches < LAUNCHES && self.launch_bytes + task.answer_bytes() <= LAUNCH_BYTES
    }

    /// How many tasks this turn launches so far.
    pub fn launches(&self) -> usize {
        self.launches
    }

    /// Gives an offer back, and asks not to be offered the same again for so long.
    pub fn decline(&mut self, offer: &Offer, refuse_for_ms: u64) {
        self.open.remove(&offer.id);
        self.calls.push(Call::Decline(Decline {
            offers: vec![offer.id],
            refuse_for: Some(refuse_for_ms),
        }));
    }

    /// Gives back all offers of this turn that have no answer yet. With wants stated, nothing but what is wanted comes
    /// again, so 0 does no harm.
    pub fn decline_rest(&mut self, refuse_for_ms: u64) {
        let offers: Vec<u64> = std::mem::take(&mut self.open).into_iter().collect();
        if !offers.is_empty() {
            self.calls.push(Call::Decline(Decline { offers, refuse_for: Some(refuse_for_ms) }));
        }
    }

    /// Keeps an offer beyond the turn instead of having it declined. It runs out at `offer.expires`.
    pub fn keep(&mut self, offer: &Offer) {
        self.open.remove(&offer.id);
    }

    /// States what is wanted, in place of what was wanted before; empty is nothing. Offers then come for these wants.
    /// It is cheap to state the same again: this instance knows what it last said, and what its launches have taken
    /// off the counts since.
    pub fn want(&mut self, wants: Vec<Want>) {
        self.state_wants(Some(wants));
    }

    /// Offers come whole, as they fall; the way it is until [`Self::want`] is called.
    pub fn want_anything(&mut self) {
        self.state_wants(None);
    }

    fn state_wants(&mut self, wants: Option<Vec<Want>>) {
        let stated = wants.clone().map_or(Stated::Anything, Stated::Only);
        if self.stated == stated {
            return;
        }
        self.stated = stated;
        self.calls.push(Call::Want(wants));
    }

    /// No more offers, for any role, until [`Self::revive`].
    pub fn suppress(&mut self) {
        self.calls.push(Call::Suppress(Vec::new()));
    }

    /// Offers again, for every role, and all filters are forgotten.
    pub fn revive(&mut self) {
        self.calls.push(Call::Revive(Vec::new()));
    }

    // ---- tasks ---------------------------------------------------------------------------------

    /// Stops a task, with the grace that it was launched with.
    pub fn kill(&mut self, task: impl Into<String>) {
        self.calls.push(Call::Kill(Kill { task: task.into(), grace: None }));
    }

    /// Sends bytes to a task, at most 16 KiB; they may be lost.
    pub fn send(&mut self, task: impl Into<String>, data: impl Into<Vec<u8>>) {
        self.calls.push(Call::Send(Message { task: task.into(), data: data.into() }));
    }

    /// Asks to be told the states of these tasks; of every one if there are none.
    pub fn reconcile(&mut self, tasks: Vec<String>) {
        self.calls.push(Call::Reconcile(tasks));
    }

    // ---- timers, requests, the end -------------------------------------------------------------

    /// Sets a timer, or moves it; timers are durable.
    pub fn set_timer(&mut self, name: impl Into<String>, after_ms: u64) {
        self.calls.push(Call::SetTimer(Timer { name: name.into(), after: after_ms }));
    }

    /// Forgets a timer.
    pub fn cancel_timer(&mut self, name: impl Into<String>) {
        self.calls.push(Call::CancelTimer(name.into()));
    }

    /// Answers a request.
    pub fn respond(&mut self, response: Response) {
        // What an answer has room for is shared by launches and responses.
        self.launch_bytes += response.body.len();
        self.calls.push(Call::Respond(response));
    }

    /// Answers a request with text.
    pub fn respond_text(&mut self, request: u64, status: u16, text: &str) {
        self.respond_with(request, status, "text/plain; charset=utf-8", text.as_bytes().to_vec());
    }

    /// Answers a request with bytes of a media type.
    pub fn respond_with(&mut self, request: u64, status: u16, media_type: &str, body: Vec<u8>) {
        let headers = vec![("content-type".to_owned(), media_type.to_owned())];
        self.respond(Response { id: request, status, headers, body });
    }

    /// Ends the framework: it did what it was for. Must be asked for in a turn that launches nothing; the rest of the
    /// turn is committed with it. The first word counts.
    pub fn complete(&mut self, message: impl Into<String>) {
        self.complete_with(message, Vec::new());
    }

    /// Like [`Self::complete`], and keeps these blobs beyond the framework.
    pub fn complete_with(&mut self, message: impl Into<String>, results: Vec<String>) {
        let message = message.into();
        self.outcome.get_or_insert(Outcome { success: true, message, results });
    }

    /// Ends the framework: it could not do what it was for. Otherwise like [`Self::complete`].
    pub fn fail(&mut self, message: impl Into<String>) {
        let message = message.into();
        let results = Vec::new();
        self.outcome.get_or_insert(Outcome { success: false, message, results });
    }

    /// Whether this turn ends the framework.
    pub fn is_ending(&self) -> bool {
        self.outcome.is_some()
    }

    // ---- durable state -------------------------------------------------------------------------

    /// Reads a value of durable state, this turn's own writes included.
    ///
    /// # Panics
    /// If the value is of another type. A panic means that the turn never happened, which is better than to begin
    /// anew over state that is there; use [`Self::try_get`] to migrate.
    #[expect(
        clippy::panic,
        reason = "a guest that cannot read its own state must not take a turn on a guess"
    )]
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        match self.try_get(key) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {}", error.source),
        }
    }

    /// Reads a value of durable state.
    ///
    /// # Errors
    /// If the value is of another type.
    pub fn try_get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
        let Some(bytes) = self.store.read(key) else { return Ok(None) };
        postcard::from_bytes(&bytes)
            .map(Some)
            .map_err(|source| StateError { key: key.to_owned(), source })
    }

    /// Writes a value of durable state: the key at most 256 bytes, the value at most 64 KiB, all together 4 MiB.
    ///
    /// # Panics
    /// If the value cannot be serialised, such as a sequence that does not know its length.
    #[expect(
        clippy::panic,
        reason = "only a type that postcard cannot hold at all; the turn must not happen"
    )]
    pub fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        match postcard::to_allocvec(value) {
            Ok(bytes) => self.store.write(key, Some(bytes)),
            Err(error) => panic!("the value for the state key `{key}` cannot be written: {error}"),
        }
    }

    /// Adds to a counter of durable state, which begins at 0, and returns the sum.
    pub fn add(&mut self, key: &str, more: u64) -> u64 {
        let sum = self.get::<u64>(key).unwrap_or(0).saturating_add(more);
        self.put(key, &sum);
        sum
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: &str) {
        self.store.write(key, None);
    }

    /// The keys that begin so, in order, this turn's own writes included.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.store.keys(prefix)
    }

    // ---- the runner's side ---------------------------------------------------------------------

    pub(crate) fn begin(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    pub(crate) fn restart(&mut self, start: &Start) {
        self.framework.clone_from(&start.framework);
        self.roles.clone_from(&start.roles);
        self.config = start.config.iter().cloned().collect();
        self.blobs.clone_from(&start.blobs);
        self.agents.clear();
        self.open.clear();
        self.stated = Stated::Unknown;
    }

    pub(crate) fn learn(&mut self, agents: &[AgentInfo]) {
        self.agents.extend(agents.iter().map(|agent| (agent.handle, agent.clone())));
    }

    pub(crate) fn receive(&mut self, offers: &[Offer]) {
        self.open.extend(offers.iter().map(|offer| offer.id));
    }

    pub(crate) fn finish(&mut self) -> Vec<Call> {
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            // First of all, so that a want or a revive of this turn forgets the filters that these declines leave.
            let offers = open.into_iter().collect();
            self.calls.insert(0, Call::Decline(Decline { offers, refuse_for: None }));
        }
        self.accepted.clear();
        self.launches = 0;
        self.launch_bytes = 0;
        let writes = self.store.take_writes();
        self.calls.extend(writes.into_iter().map(|(key, value)| Call::Put(Write { key, value })));
        self.calls.extend(self.outcome.take().map(Call::Complete));
        std::mem::take(&mut self.calls)
    }
}

/// An offer that is being accepted: says what happens on it.
#[derive(Debug)]
pub struct Accepting<'a> {
    cx: &'a mut Cx,
    at: usize,
    want: Option<u32>,
}

impl Accepting<'_> {
    fn acceptance(&mut self) -> Option<&mut Acceptance> {
        match self.cx.calls.get_mut(self.at) {
            Some(Call::Accept(acceptance)) => Some(acceptance),
            _ => None,
        }
    }

    /// Launches a task on it. That it fits is the caller's business: see [`Offer::fits`] and
    /// [`Remaining`](crate::Remaining). A launch that does not is told as the task's status.
    #[expect(clippy::return_self_not_must_use, reason = "it is done when it is called")]
    pub fn launch(mut self, task: Task) -> Self {
        self.count(std::slice::from_ref(&task));
        if let Some(acceptance) = self.acceptance() {
            acceptance.operations.push(Operation::Launch(task));
        }
        self
    }

    /// Launches all of these tasks or none; if one fails, the others are killed.
    #[expect(clippy::return_self_not_must_use, reason = "it is done when it is called")]
    pub fn launch_group(mut self, tasks: Vec<Task>) -> Self {
        self.count(&tasks);
        if let Some(acceptance) = self.acceptance() {
            acceptance.operations.push(Operation::LaunchGroup(tasks));
        }
        self
    }

    /// What is left over is not to be offered again for so long; five seconds unless this is called.
    #[expect(clippy::return_self_not_must_use, reason = "it is done when it is called")]
    pub fn refuse_for(mut self, ms: u64) -> Self {
        if let Some(acceptance) = self.acceptance() {
            acceptance.refuse_for = Some(ms);
        }
        self
    }

    /// What goes on in the answer's bounds and in the cluster's count of the want.
    fn count(&mut self, tasks: &[Task]) {
        self.cx.launches += tasks.len();
        self.cx.launch_bytes += tasks.iter().map(Task::answer_bytes).sum::<usize>();
        let Stated::Only(wants) = &mut self.cx.stated else { return };
        if let Some(want) = wants.iter_mut().find(|want| Some(want.id) == self.want) {
            want.count = want.count.saturating_sub(u32::try_from(tasks.len()).unwrap_or(u32::MAX));
        }
    }
}
