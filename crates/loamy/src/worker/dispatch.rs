//! A row and its connection: one that is ready, one that is being made, or a stream of one that others use too.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use super::Worker;
use crate::exchange::cancelled;
use crate::exchange::single::Exchange;
use crate::job::{End, Permit};
use crate::policy::HttpVersion;
use crate::pool::{IDLE, Many, Place, Share, Stage, Taken, Task};
use crate::target::Scheme;
use crate::transport::connect::{self, Destination};
use crate::transport::tls::{Offer, Spoken};
use crate::transport::{Connection, Wire};
use crate::{Error, Kind};

impl Worker {
    /// Puts a row on a connection that is ready, or begins a new one for it.
    pub(super) fn dispatch(&mut self, route: usize, task: Task, now: Instant) {
        if self.may_share(route) {
            if !self.pool.route(route).has_waiting() {
                return self.dispatch_shared(route, task, now);
            }
            // Those that wait already go first.
            self.pool.wait(route, task);
            return self.to_feed.push(route);
        }
        if !task.job.on_new_connection
            && let Some((slot, wire)) = self.pool.take_idle(route, &task.job)
        {
            return self.begin_if_allowed(slot, wire, task, now);
        }
        self.connect(route, task, now);
    }

    /// Gives the rows that wait for a stream what has become free.
    pub(super) fn feed(&mut self, now: Instant) {
        while let Some(route) = self.to_feed.pop() {
            for task in self.pool.take_waiting(route) {
                if self.may_share(route) {
                    self.dispatch_shared(route, task, now);
                } else {
                    self.dispatch(route, task, now);
                }
            }
        }
    }

    fn may_share(&self, route: usize) -> bool {
        self.pool.route(route).may_share() && !self.forgoes_http2(route)
    }

    /// Whether HTTP/2 is not to be spoken: the peer wants HTTP/1.1, and the policy leaves the choice to it.
    fn forgoes_http2(&self, route: usize) -> bool {
        let key = &self.pool.route(route).key;
        key.version == HttpVersion::Auto && self.network.forgoes_http2(&key.origin)
    }

    fn dispatch_shared(&mut self, route: usize, task: Task, now: Instant) {
        let Some(seat) = &self.seats[task.seat] else {
            return;
        };
        let policy = &seat.shared.terms.policy;
        let connections = policy.h2_connections.map_or(usize::MAX, |all| (all / seat.workers).max(1));
        let share = Share { connections, streams: policy.h2_streams };
        match self.pool.place(route, &task.job, share, now) {
            Place::On(slot) => {
                if let Some(task) = self.renew(task, now) {
                    self.send_on(slot, task, now);
                }
            }
            Place::New => self.connect(route, task, now),
            Place::Later => {
                let deadline = self.deadline_of(&task, Kind::TimeoutAcquire);
                self.look_at(deadline.map(|(at, _)| at));
                self.pool.wait(route, task);
            }
        }
    }

    /// Gives the row back if it may still go: at once if it was granted for a connection that was ready, else if the batch says
    /// so again. Otherwise it waits there.
    fn renew(&mut self, task: Task, now: Instant) -> Option<Task> {
        if task.job.permit == Permit::Given {
            return Some(task);
        }
        let Task { seat, job, since } = task;
        let own = self.seats[seat].as_mut()?;
        let shared = Arc::clone(&own.shared);
        let renewed = shared.turn(own.number, |turn| {
            own.hand_back(turn, now);
            turn.batch.renew(now, job)
        });
        if renewed.is_none() {
            self.has_lost_one(seat);
        }
        renewed.map(|job| Task { seat, job, since })
    }

    /// Sends a row on a stream of its own.
    fn send_on(&mut self, slot: usize, task: Task, now: Instant) {
        let Some(seat) = &self.seats[task.seat] else {
            return;
        };
        if seat.shared.is_stopped() {
            return self.settle(task, End::Over(cancelled()));
        }
        let terms = &seat.shared.terms;
        let (own, route) = self.pool.slot_and_route(slot);
        let (Stage::Many(many), Some((scheme, authority))) = (&mut own.stage, &route.target) else {
            return self.settle(task, End::NotTried);
        };
        let taken = many.take(task, terms, scheme, authority, now);
        let next = many.take_next_look();
        // The connection has something to write now, and others of this turn may add to it.
        own.waker.wake_by_ref();
        self.look_at(next);
        match taken {
            Taken::Sent => {}
            Taken::Ended(task, end) => self.settle(task, end),
            Taken::Not(task) => {
                let route = self.pool.slot_mut(slot).route;
                self.pool.look_at_shared(slot);
                self.pool.wait(route, task);
                self.to_feed.push(route);
            }
        }
    }

    /// Begins a new connection for the row.
    fn connect(&mut self, route: usize, task: Task, now: Instant) {
        let Some(seat) = &self.seats[task.seat] else {
            return;
        };
        let policy = &seat.shared.terms.policy;
        let timeouts = *task.job.timeouts(policy);
        let key = &self.pool.route(route).key;
        let Some(offer) = self.offer(route) else {
            let message = format!("the host of {} cannot be said in HTTP/2 (RFC 9113 §8.3.1)", key.origin);
            return self.settle(task, End::Over(Error::bad_request(message)));
        };
        let to = Destination {
            origin: Arc::clone(&key.origin),
            tls: key.tls.clone(),
            offer,
            max_head: key.max_head,
        };
        let deadline = self.deadline_of(&task, Kind::TimeoutConnect);
        self.look_at(deadline.map(|(at, _)| at));
        let connecting = connect::connect(to, Arc::clone(&self.network), timeouts);
        let slot = self.pool.take_vacant(now);
        self.pool.connecting(slot, route, connecting, task);
        self.step(slot, now);
    }

    /// What is to be spoken, as far as it is ours to say; None where nothing can be.
    fn offer(&self, route: usize) -> Option<Offer> {
        let own = self.pool.route(route);
        let only_http1 = own.target.is_none() || self.forgoes_http2(route);
        match (own.key.version, own.key.origin.scheme) {
            (HttpVersion::Http2, _) => (!only_http1).then_some(Offer::Http2),
            (HttpVersion::Auto, Scheme::Https) if !only_http1 => Some(Offer::Both),
            (HttpVersion::Http1 | HttpVersion::Auto, _) => Some(Offer::Http1),
        }
    }

    /// A connection stands: the row that it was made for goes on it.
    pub(super) fn connected(&mut self, slot: usize, connection: Connection, now: Instant) {
        let spoken = match connection {
            Connection::Single(_) => Spoken::Http1,
            Connection::Many(_) => Spoken::Http2,
        };
        let route = self.pool.slot_mut(slot).route;
        let Some(task) = self.pool.connected(slot, spoken, now) else {
            return self.pool.vacate(slot);
        };
        if let Some(seat) = &mut self.seats[task.seat] {
            seat.connected.push((task.job.origin, 1));
            seat.needs_turn = true;
        }
        match connection {
            Connection::Single(wire) => self.begin_if_allowed(slot, wire, task, now),
            Connection::Many(carrier) => {
                self.pool.share(slot, Many::new(*carrier, now));
                if let Some(task) = self.renew(task, now) {
                    self.send_on(slot, task, now);
                }
            }
        }
        self.to_feed.push(route);
    }

    /// No connection. Where others stand that rows may share, that is no failure of theirs: they wait for a stream.
    pub(super) fn not_connected(&mut self, slot: usize, error: Error, now: Instant) {
        let route = self.pool.slot_mut(slot).route;
        let is_for_want_of_room = is_out_of_room(&error);
        let makes_do_until = if self.may_share(route) { self.pool.make_do(route, now) } else { None };
        match makes_do_until {
            Some(until) => {
                self.wait_on(slot, route);
                self.look_at(Some(until));
            }
            None => self.fail_together(slot, &error, is_for_want_of_room),
        }
        if is_for_want_of_room {
            let until = self.pool.hold_back(now);
            self.look_at(Some(until));
        }
    }

    /// The row that the connection was made for waits again, before those that came after it.
    fn wait_on(&mut self, slot: usize, route: usize) {
        let own = self.pool.take_task(slot);
        self.pool.vacate(slot);
        let waiting = self.pool.take_waiting(route);
        own.into_iter().chain(waiting).for_each(|task| self.pool.wait(route, task));
        self.to_feed.push(route);
    }

    /// The row that the connection was made for ends, and those that waited for it with it.
    fn fail_together(&mut self, slot: usize, error: &Error, is_for_want_of_room: bool) {
        let end = || match error.kind() {
            _ if is_for_want_of_room => End::NotTried,
            Kind::Internal => End::Over(error.clone()),
            _ => End::NotConnected(error.clone()),
        };
        for task in self.who_shares_the_failure(slot, error) {
            self.settle(task, end());
        }
        self.end(slot, end());
    }

    /// The rows that waited for the connection that could not be made, those apart that give it more time: they have another
    /// made.
    fn who_shares_the_failure(&mut self, slot: usize, error: &Error) -> VecDeque<Task> {
        let limit = |task: &Task| {
            let timeouts = task.job.timeouts(&self.seats[task.seat].as_ref()?.shared.terms.policy);
            match error.kind() {
                Kind::TimeoutResolve => timeouts.resolve,
                Kind::TimeoutConnect => timeouts.connect,
                Kind::TimeoutTls => timeouts.tls,
                _ => None,
            }
        };
        let own = match &self.pool.slot_mut(slot).stage {
            Stage::Connecting { task, .. } => limit(task),
            _ => None,
        };
        let gives_more = |task: &Task| own.is_some_and(|own| limit(task).is_none_or(|limit| limit > own));
        let route = self.pool.slot_mut(slot).route;
        let waiting = self.pool.take_waiting(route);
        let (others, with_it): (VecDeque<_>, _) = waiting.into_iter().partition(gives_more);
        others.into_iter().for_each(|task| self.pool.wait(route, task));
        with_it
    }

    /// Writes the row to the wire, or keeps that for others.
    fn begin_if_allowed(&mut self, slot: usize, wire: Wire, task: Task, now: Instant) {
        match self.renew(task, now) {
            Some(task) => self.begin(slot, wire, task, now),
            None => {
                self.pool.keep(slot, wire, now);
                self.look_at(Some(now + IDLE));
            }
        }
    }

    /// Writes the row to the wire.
    fn begin(&mut self, slot: usize, mut wire: Wire, task: Task, now: Instant) {
        let Some(seat) = &self.seats[task.seat] else {
            return;
        };
        if seat.shared.is_stopped() {
            self.settle(task, End::Over(cancelled()));
            return self.pool.vacate(slot);
        }
        let (own, route) = self.pool.slot_and_route(slot);
        let mut context = Context::from_waker(&own.waker);
        let scratch = &mut self.scratch;
        wire.traffic().begin_a_go();
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let terms = &seat.shared.terms;
            let authority = &route.authority;
            Box::new(Exchange::begin(&task.job, terms, authority, &mut wire, &mut context, now, scratch))
        }));
        match begun {
            Ok(exchange) => {
                own.stage = Stage::Busy { wire, exchange, task };
                self.step(slot, now);
            }
            Err(panic) => {
                let in_doubt = !task.job.request.is_idempotent();
                self.settle(task, End::Over(Error::of_panic(&*panic).doubtful(in_doubt)));
                self.pool.vacate(slot);
            }
        }
    }
}

/// Whether the process (EMFILE) or the system (ENFILE) has no descriptor left, or no port towards the peer (EADDRNOTAVAIL).
fn is_out_of_room(error: &Error) -> bool {
    use rustix::io::Errno;
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL];
    lacks.iter().any(|errno| error.os_error() == Some(errno.raw_os_error()))
}
