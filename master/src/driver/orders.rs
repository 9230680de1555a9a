//! Performs the leader's orders, in order, after their batch is committed.
//!
//! Owns the ways out: links to agents, streams of schedulers, and those who wait for answers. Never waits: what cannot
//! take an order at once is cut off, and comes back to the truth by saying hello again.

use super::{Answer, Driver};
use crate::blobs::Blobs;
use crate::sessions::{Links, SchedulerStream};
use std::collections::BTreeMap;
use tepui_master_core::{ConnectionId, Effect, Input, Ticket};
use tepui_proto::scheduler::{FromScheduler, Open, ToScheduler};
use tepui_proto::{Digest, FrameworkId, Incarnation};
use tepui_transport::CloseCode;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub(super) struct Orders {
    driver: Driver,
    blobs: Blobs,
    runtime: Handle,
    links: Links,
    schedulers: BTreeMap<(FrameworkId, Incarnation), SchedulerStream>,
    replies: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    /// Facts that performing an order brought to light; handled in the next batch.
    backlog: Vec<Input>,
}

impl Orders {
    pub(super) fn new(driver: Driver, blobs: Blobs, runtime: Handle) -> Self {
        let links = Links::default();
        Self {
            driver,
            blobs,
            runtime,
            links,
            schedulers: BTreeMap::new(),
            replies: BTreeMap::new(),
            backlog: Vec::new(),
        }
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    pub(super) fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    pub(super) fn take_backlog(&mut self) -> Vec<Input> {
        std::mem::take(&mut self.backlog)
    }

    /// Someone waits for this ticket.
    pub(super) fn expect(&mut self, ticket: Ticket, reply: oneshot::Sender<Answer>) {
        self.replies.insert(ticket, reply);
    }

    /// Lets go of what an input says is over.
    pub(super) fn observe(&mut self, input: &Input) {
        match input {
            Input::AgentDisconnected(connection) => self.links.remove(*connection),
            Input::SchedulerStreamEnded { framework, incarnation }
            | Input::SchedulerSaid {
                framework,
                incarnation,
                frame: FromScheduler::Failed { .. },
            } => {
                self.schedulers.remove(&(*framework, *incarnation));
            }
            Input::Abandoned(ticket) => {
                self.replies.remove(ticket);
            }
            _ => {}
        }
    }

    pub(super) fn perform(&mut self, orders: Vec<Effect>) {
        for order in orders {
            match order {
                Effect::Send { connection, message } => self.links.send(connection, message),
                Effect::Close { connection, code } => self.links.close(connection, code),
                Effect::OpenScheduler { connection, open, pages } => {
                    self.open_scheduler(connection, open, pages);
                }
                Effect::SendTurn { framework, incarnation, turn } => {
                    self.send_turn(framework, incarnation, turn);
                }
                Effect::CloseScheduler { framework, incarnation } => {
                    self.schedulers.remove(&(framework, incarnation));
                }
                Effect::Reply { ticket, result } => {
                    if let Some(reply) = self.replies.remove(&ticket) {
                        // Whoever asked may have gone in this moment.
                        drop(reply.send(result));
                    }
                }
                Effect::ForgetBlobs(digests) => self.forget_blobs(digests),
            }
        }
    }

    /// Tells all agents that this master stops.
    pub(super) fn close_all(&mut self) {
        self.schedulers.clear();
        self.replies.clear();
        self.links.close_all(CloseCode::Stopping);
    }

    fn open_scheduler(&mut self, connection: ConnectionId, open: Open, pages: Vec<ToScheduler>) {
        let (framework, incarnation) = (open.framework, open.incarnation);
        let Some(connection) = self.links.connection(connection) else {
            self.backlog.push(Input::SchedulerStreamEnded { framework, incarnation });
            return;
        };
        let stream =
            SchedulerStream::open(&self.runtime, connection, self.driver.clone(), open, pages);
        self.schedulers.insert((framework, incarnation), stream);
    }

    fn send_turn(&mut self, framework: FrameworkId, incarnation: Incarnation, turn: ToScheduler) {
        let is_sent =
            self.schedulers.get(&(framework, incarnation)).is_some_and(|stream| stream.send(turn));
        if !is_sent {
            self.schedulers.remove(&(framework, incarnation));
            self.backlog.push(Input::SchedulerStreamEnded { framework, incarnation });
        }
    }

    /// Removes the bytes, unless the state has come to know them again by then.
    fn forget_blobs(&self, digests: Vec<Digest>) {
        let (driver, blobs) = (self.driver.clone(), self.blobs.clone());
        drop(self.runtime.spawn(async move {
            for digest in digests {
                let held = blobs.hold().await;
                let Ok(None) = driver.query(move |view| view.leader.has_blob(&digest)).await else {
                    continue;
                };
                if let Err(error) = blobs.remove(&digest, &held).await {
                    tracing::warn!(%digest, cause = ?error, "a blob could not be removed");
                }
            }
        }));
    }
}
