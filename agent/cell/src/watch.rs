//! Watches over a guest's future: measures it, holds it to its share, ends it when its time is up.
//!
//! Owns the clockwork; never looks at what the guest does. A guest that spins comes back here each time it has
//! burnt a slice of fuel, and then gives way not only to other tasks but to the runtime's sockets and timers, which
//! tokio would otherwise look at only every sixty-first slice. What others do with files for a guest while it waits is
//! charged to it as well. Its one surprise: no timer is set before the guest has waited once, because most empty commands
//! never do, and a timer costs as much as they.

use crate::cpu::{Bucket, thread_time};
use crate::link::TaskLink;
use futures_util::task::AtomicWaker;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
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
    /// Its CPU time is over.
    TooMuch,
    /// The host's own code panicked under it.
    Panicked,
}

/// The waker that a guest sees. It keeps wakes that come while the guest runs, so that a guest that yields can be
/// put behind the runtime's own work.
#[derive(Debug)]
struct GuestWaker {
    is_running: AtomicBool,
    woken: AtomicBool,
    begun: Instant,
    /// Nanoseconds from `begun` to the last wake.
    woken_at: AtomicU64,
    watcher: AtomicWaker,
}

impl Wake for GuestWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let at = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.woken_at.store(at, Ordering::Relaxed);
        // In this order: whoever runs the guest clears `is_running` before it looks at `woken`.
        self.woken.store(true, Ordering::SeqCst);
        if !self.is_running.load(Ordering::SeqCst) {
            self.watcher.wake();
        }
    }
}

/// A watch over one future.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    /// CPU time so far, and that of work on files that was done for it.
    pub(crate) cpu: Duration,
    /// All that there may be.
    cpu_end: Duration,
    bucket: Option<Bucket>,
    /// Since when it waits for work on files.
    files_since: Option<Instant>,
    wall_end: Option<Instant>,
    link: Option<&'a TaskLink>,
    wakes: Arc<GuestWaker>,
    waker: Waker,
    pause: Option<Pin<Box<Sleep>>>,
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<'a> Watch<'a> {
    /// Ends what it watches so long after `begun`.
    pub(crate) fn new(begun: Instant, wall_ms: u64) -> Self {
        let wall_end = begun.checked_add(Duration::from_millis(wall_ms));
        let wakes = Arc::new(GuestWaker {
            is_running: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            begun: Instant::now(),
            woken_at: AtomicU64::new(0),
            watcher: AtomicWaker::new(),
        });
        let waker = Waker::from(Arc::clone(&wakes));
        Self {
            cpu: Duration::ZERO,
            cpu_end: Duration::MAX,
            bucket: None,
            files_since: None,
            wall_end,
            link: None,
            wakes,
            waker,
            pause: None,
            alarm: None,
        }
    }

    /// Also ends it when it has used so much CPU.
    pub(crate) fn for_turn(mut self, cpu_ms: u64) -> Self {
        self.cpu_end = Duration::from_millis(cpu_ms);
        self
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

    fn poll<F: Future>(
        &mut self,
        guest: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Watched<F::Output>> {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return self.poll_end(cx);
            }
            self.pause = None;
        }
        if let Some(since) = self.files_since.take() {
            let worked = self.worked_on_files(since);
            if self.must_pause(worked, cx) {
                return self.poll_end(cx);
            }
        }
        self.wakes.watcher.register(cx.waker());
        self.wakes.woken.store(false, Ordering::SeqCst);
        self.wakes.is_running.store(true, Ordering::SeqCst);
        let before = thread_time();
        let mut guest_cx = Context::from_waker(&self.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| guest.poll(&mut guest_cx)));
        let spent = thread_time().saturating_sub(before);
        self.wakes.is_running.store(false, Ordering::SeqCst);
        match polled {
            Ok(Poll::Ready(output)) => {
                self.cpu += spent;
                return Poll::Ready(Watched::Done(output));
            }
            Err(_panic) => return Poll::Ready(Watched::Panicked),
            Ok(Poll::Pending) => self.link.into_iter().for_each(TaskLink::tell_started),
        }
        if self.link.is_some_and(TaskLink::is_in_files) {
            self.files_since = Some(Instant::now());
        }
        if self.must_pause(spent, cx) {
            return self.poll_end(cx);
        }
        if self.wakes.woken.load(Ordering::SeqCst) {
            // Wakes this task only after sockets and timers had their turn.
            let _comes_back = pin!(tokio::task::yield_now()).poll(cx);
        }
        self.poll_end(cx)
    }

    /// How long others have worked on files for it: until they woke it, or until now.
    fn worked_on_files(&self, since: Instant) -> Duration {
        let now = Instant::now();
        if !self.wakes.woken.load(Ordering::SeqCst) {
            return now.saturating_duration_since(since);
        }
        let woken = Duration::from_nanos(self.wakes.woken_at.load(Ordering::Relaxed));
        let woken = self.wakes.begun.checked_add(woken).unwrap_or(now);
        woken.min(now).saturating_duration_since(since)
    }

    /// Charges it, and sets a timer if it has had its share for now.
    fn must_pause(&mut self, spent: Duration, cx: &mut Context<'_>) -> bool {
        self.cpu += spent;
        let bucket = self.bucket.as_mut();
        let Some(wait) = bucket.and_then(|bucket| bucket.charge(Instant::now(), spent)) else {
            return false;
        };
        let mut pause = Box::pin(tokio::time::sleep(wait));
        if pause.as_mut().poll(cx).is_ready() {
            return false;
        }
        self.pause = Some(pause);
        true
    }

    /// Whether it must end now; else sees to it that it is looked at again in time.
    fn poll_end<T>(&mut self, cx: &mut Context<'_>) -> Poll<Watched<T>> {
        if let Some(link) = self.link {
            link.watcher.register(cx.waker());
        }
        let kill_at = self.link.and_then(TaskLink::kill_at);
        if self.cpu >= self.cpu_end {
            return Poll::Ready(Watched::TooMuch);
        }
        let now = Instant::now();
        if kill_at.is_some_and(|at| at <= now) {
            return Poll::Ready(Watched::Killed);
        }
        if self.wall_end.is_some_and(|at| at <= now) {
            return Poll::Ready(Watched::TooLong);
        }
        let Some(end) = kill_at.into_iter().chain(self.wall_end).min() else {
            return Poll::Pending;
        };
        let alarm = match &mut self.alarm {
            Some((at, alarm)) if *at == end => alarm,
            other => &mut other.insert((end, Box::pin(tokio::time::sleep_until(end.into())))).1,
        };
        ready!(alarm.as_mut().poll(cx));
        let killed = kill_at.is_some_and(|at| at <= end);
        Poll::Ready(if killed { Watched::Killed } else { Watched::TooLong })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_has_its_cpu_time_whoever_else_takes_the_wall_time() {
        let spins = async {
            loop {
                let begun = thread_time();
                while thread_time().saturating_sub(begun) < Duration::from_millis(1) {}
                tokio::task::yield_now().await;
            }
        };
        let mut watch = Watch::new(Instant::now(), 60_000).for_turn(20);
        let watched: Watched<()> = watch.over(pin!(spins)).await;
        assert!(matches!(watched, Watched::TooMuch), "{watched:?}");
        assert!(watch.cpu >= Duration::from_millis(20), "{watch:?}");
        let waits = std::future::pending::<()>();
        let mut watch = Watch::new(Instant::now(), 20).for_turn(60_000);
        let watched = watch.over(pin!(waits)).await;
        assert!(matches!(watched, Watched::TooLong), "{watched:?}");
    }
}
