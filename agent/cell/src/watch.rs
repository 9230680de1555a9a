//! Watches over a guest's future: measures it, holds it to its share, ends it when its time is up.
//!
//! Owns the clockwork; never looks at what the guest does. A guest that spins comes back here each time it has
//! burnt a slice of fuel. Its one surprise: no timer is set before the guest has waited once, because most empty
//! commands never do, and a timer costs as much as they.

use crate::cpu::{Bucket, thread_time};
use crate::link::TaskLink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// How it went.
#[derive(Debug)]
pub(crate) enum Watched<T> {
    /// It came to its own end.
    Done(T),
    /// Somebody asked for its end.
    Killed,
    /// Its wall time is over.
    TooLong,
    /// The host's own code panicked under it.
    Panicked,
}

/// A watch over one future.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    /// CPU time so far.
    pub(crate) cpu: Duration,
    bucket: Option<Bucket>,
    wall_end: Option<Instant>,
    link: Option<&'a TaskLink>,
    pause: Option<Pin<Box<Sleep>>>,
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<'a> Watch<'a> {
    /// Ends what it watches so long after `begun`.
    pub(crate) fn new(begun: Instant, wall_ms: u64) -> Self {
        let wall_end = begun.checked_add(Duration::from_millis(wall_ms));
        Self { cpu: Duration::ZERO, bucket: None, wall_end, link: None, pause: None, alarm: None }
    }

    /// Also holds it to a share of a core, and ends it when the link says so.
    pub(crate) fn for_task(mut self, cpu_milli: u64, link: &'a TaskLink) -> Self {
        self.bucket = Some(Bucket::new(cpu_milli, Instant::now()));
        self.link = Some(link);
        self
    }

    /// Runs it.
    pub(crate) async fn over<F: Future>(&mut self, mut guest: Pin<&mut F>) -> Watched<F::Output> {
        std::future::poll_fn(|cx| self.poll(guest.as_mut(), cx)).await
    }

    fn poll<F: Future>(&mut self, guest: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Watched<F::Output>> {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return self.poll_end(cx);
            }
            self.pause = None;
        }
        let before = thread_time();
        let polled = catch_unwind(AssertUnwindSafe(|| guest.poll(cx)));
        let spent = thread_time().saturating_sub(before);
        self.cpu += spent;
        match polled {
            Ok(Poll::Ready(output)) => return Poll::Ready(Watched::Done(output)),
            Err(_panic) => return Poll::Ready(Watched::Panicked),
            Ok(Poll::Pending) => {}
        }
        if let Some(wait) = self.bucket.as_mut().and_then(|bucket| bucket.charge(Instant::now(), spent)) {
            let mut pause = Box::pin(tokio::time::sleep(wait));
            if pause.as_mut().poll(cx).is_pending() {
                self.pause = Some(pause);
            }
        }
        self.poll_end(cx)
    }

    /// Whether it must end now; else sees to it that it is looked at again in time.
    fn poll_end<T>(&mut self, cx: &mut Context<'_>) -> Poll<Watched<T>> {
        if let Some(link) = self.link {
            link.watcher.register(cx.waker());
        }
        let kill_at = self.link.and_then(TaskLink::kill_at);
        let now = Instant::now();
        if kill_at.is_some_and(|at| at <= now) {
            return Poll::Ready(Watched::Killed);
        }
        if self.wall_end.is_some_and(|at| at <= now) {
            return Poll::Ready(Watched::TooLong);
        }
        let Some(end) = kill_at.into_iter().chain(self.wall_end).min() else { return Poll::Pending };
        let alarm = match &mut self.alarm {
            Some((at, alarm)) if *at == end => alarm,
            other => &mut other.insert((end, Box::pin(tokio::time::sleep_until(end.into())))).1,
        };
        ready!(alarm.as_mut().poll(cx));
        let killed = kill_at.is_some_and(|at| at <= end);
        Poll::Ready(if killed { Watched::Killed } else { Watched::TooLong })
    }
}
