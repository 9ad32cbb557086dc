//! The time: one timer for a thread, and what it ends when a deadline has passed.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::{Worker, earlier};
use crate::Kind;
use crate::clock::now;
use crate::job::End;
use crate::pool::{IDLE, Stage, Task};
use crate::retry::Failed;
use crate::transport::connect;

/// How far apart looks at the deadlines are at the least.
const TICK: Duration = Duration::from_millis(2);

impl Worker {
    /// Looks at the deadlines when it is time, and has the thread woken for the next.
    pub(super) fn watch_the_time(
        &mut self,
        alarm: &mut Option<(Instant, Pin<Box<Sleep>>)>,
        context: &mut Context<'_>,
    ) {
        while let Some(next) = self.next_look {
            let (at, sleep) =
                alarm.get_or_insert_with(|| (next, Box::pin(tokio::time::sleep_until(next.into()))));
            if *at > next || (*at < next && sleep.is_elapsed()) {
                *at = next;
                sleep.as_mut().reset(next.into());
            }
            if sleep.as_mut().poll(context).is_pending() {
                return;
            }
            let now = now();
            if next > now {
                continue;
            }
            self.look_at_the_deadlines(now);
            self.next_look = self.next_look.map(|at| at.max(now + TICK));
        }
    }

    /// Goes to the batches when it is time for a row that had to wait for it, and has the thread woken for the next.
    pub(super) fn watch_the_grants(&mut self, context: &mut Context<'_>) {
        while let Some(at) = self.next_grant {
            if self.grants.poll(at, context).is_pending() {
                return;
            }
            self.next_grant = None;
            self.give_each_a_turn(now());
        }
    }

    fn give_each_a_turn(&mut self, now: Instant) {
        for seat in self.seats.iter_mut().flatten() {
            seat.needs_turn = true;
        }
        self.take_turns(now);
    }

    /// Ends what is late, and closes what was idle for too long.
    pub(super) fn look_at_the_deadlines(&mut self, now: Instant) {
        let mut next = None;
        for slot in 0..self.pool.len() {
            match self.deadline(slot) {
                Some((at, kind)) if at <= now => {
                    self.time_out(slot, kind, now);
                    // Of a connection that rows share, others are due later.
                    next = earlier(next, self.deadline(slot).map(|(at, _)| at));
                }
                Some((at, _)) => next = earlier(next, Some(at)),
                None => {}
            }
        }
        for route in self.pool.with_waiting() {
            next = earlier(next, self.look_at_waiting(route, now));
            if self.pool.is_to_try_again(route, now) {
                self.to_feed.push(route);
            }
            next = earlier(next, self.pool.makes_do_until(route));
        }
        self.next_look = earlier(next, self.pool.held_until(now));
        self.give_each_a_turn(now);
    }

    fn deadline(&self, slot: usize) -> Option<(Instant, Kind)> {
        match &self.pool.slot(slot)?.stage {
            Stage::Vacant => None,
            Stage::Idle { since, .. } => Some((*since + IDLE, Kind::Closed)),
            Stage::Busy { exchange, .. } => exchange.deadline(),
            Stage::Connecting { task, .. } => self.deadline_of(task, Kind::TimeoutConnect),
            Stage::Many(many) => {
                let idle = many.idle_since().map(|since| since + IDLE);
                earlier(many.next_look(), idle).map(|at| (at, Kind::Closed))
            }
        }
    }

    /// When a row must have got its connection, and what it is called if it has not: `late` where its time as a whole
    /// was over before that.
    pub(super) fn deadline_of(&self, task: &Task, late: Kind) -> Option<(Instant, Kind)> {
        let policy = &self.seats[task.seat].as_ref()?.shared.terms.policy;
        let acquire = task.job.timeouts(policy).acquire.and_then(|span| task.since.checked_add(span));
        let acquire = acquire.map(|at| (at, Kind::TimeoutAcquire));
        let total = task.job.deadline.map(|at| (at, late));
        [acquire, total].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn time_out(&mut self, slot: usize, kind: Kind, now: Instant) {
        let (own, route) = self.pool.slot_and_route(slot);
        let origin = &route.key.origin;
        if let Stage::Busy { exchange, .. } = &mut own.stage
            && exchange.waits_no_longer(now)
        {
            return self.step(slot, now);
        }
        let end = match &mut own.stage {
            Stage::Vacant => return,
            Stage::Idle { .. } => return self.pool.drop_idle(slot),
            Stage::Connecting { task, .. } => {
                let limit = match (kind, &self.seats[task.seat]) {
                    (Kind::TimeoutAcquire, Some(seat)) => {
                        task.job.timeouts(&seat.shared.terms.policy).acquire
                    }
                    _ => task.job.limit,
                };
                End::NotConnected(connect::timed_out(kind, origin, limit))
            }
            Stage::Busy { wire, exchange, .. } => exchange.time_out(wire, origin, kind).end,
            Stage::Many(many) => {
                many.look(origin, now, &mut self.ended);
                let is_idle = many.idle_since().is_some_and(|since| since + IDLE <= now);
                // What was said about streams that ended goes out without waiting for the peer.
                own.waker.wake_by_ref();
                self.settle_shared(slot);
                if is_idle {
                    self.pool.drop_shared(slot);
                }
                return;
            }
        };
        self.end(slot, end);
    }

    /// Ends the rows that waited too long for a stream; says when the next has.
    fn look_at_waiting(&mut self, route: usize, now: Instant) -> Option<Instant> {
        let mut next = None;
        for task in self.pool.take_waiting(route) {
            match self.deadline_of(&task, Kind::TimeoutAcquire) {
                Some((at, kind)) if at <= now => {
                    let origin = &self.pool.route(route).key.origin;
                    let limit = Some(at.saturating_duration_since(task.since));
                    let error = connect::timed_out(kind, origin, limit);
                    // A peer that has no stream free says nothing of how many connections may be made.
                    self.settle(task, End::Broken(error, Failed::to_connect(kind)));
                }
                other => {
                    next = earlier(next, other.map(|(at, _)| at));
                    self.pool.wait(route, task);
                }
            }
        }
        next
    }
}
