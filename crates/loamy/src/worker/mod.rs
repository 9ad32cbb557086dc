//! A thread with its connections: claims rows, exchanges them, settles them. The only driver.
//!
//! One future holds everything, so a connection costs no task. A turn of its loop looks at the connections that were
//! woken, then takes what has ended to its batch and leaves with as many new rows, all under one lock. `dispatch` puts
//! rows on connections, `deadlines` watches the time.

mod alarm;
mod deadlines;
mod dispatch;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use self::alarm::Alarm;
use crate::batch::Claim;
use crate::clock::now;
use crate::exchange::{Done, Scratch, cancelled};
use crate::job::{End, Job, OriginId, Permit};
use crate::policy::HttpVersion;
use crate::pool::{Ended, IDLE, Pool, RouteKey, Stage, Task};
use crate::seat::{Mailbox, Message, Shared, Turn};
use crate::transport::network::Network;
use crate::{Error, Kind};

/// Connections looked at between two turns at the batches: few, so that the peers have their next rows while the rest
/// is still being looked at, and both sides work at the same time.
const TURN: usize = 4;

/// A worker, before and while it runs.
pub(crate) struct Worker {
    mailbox: Arc<Mailbox>,
    network: Arc<Network>,
    pool: Pool,
    seats: Vec<Option<Seat>>,
    /// Whether a batch was kept from a row because too many connections are open.
    short_of_room: bool,
    scratch: Scratch,
    /// Routes on which a stream may have become free for a row that waits.
    to_feed: Vec<usize>,
    ended: Vec<Ended>,
    /// When a deadline has to be looked at next.
    next_look: Option<Instant>,
    /// When a batch lets a row go that had to wait for its time.
    next_grant: Option<Instant>,
    grants: Alarm,
    leaving: bool,
}

/// A batch that this worker works for.
struct Seat {
    number: usize,
    shared: Arc<Shared>,
    routes: HashMap<OriginId, usize>,
    /// Routes of rows with TLS settings of their own.
    others: HashSet<usize>,
    in_flight: usize,
    /// How many threads work for the batch.
    workers: usize,
    /// Origins that were connected to, and how many rows that is proof for.
    connected: Vec<(OriginId, usize)>,
    /// Origins that have too much to do.
    calm: Vec<OriginId>,
    ended: Vec<(Box<Job>, End)>,
    /// Where the rows went that have ended: connections are ready there.
    ready: Vec<OriginId>,
    needs_turn: bool,
    /// Whether its rows were let go of: it was interrupted.
    let_go: bool,
}

impl Seat {
    /// Tells the batch what has ended.
    fn hand_back(&mut self, turn: &mut Turn<'_>, now: Instant) {
        for (job, end) in self.ended.drain(..) {
            self.in_flight -= 1;
            self.ready.push(job.origin);
            turn.batch.settle(now, job, end);
        }
    }
}

impl Worker {
    pub(crate) fn new(mailbox: Arc<Mailbox>, network: Arc<Network>, room: usize) -> Self {
        Self {
            pool: Pool::new(Arc::clone(&mailbox), Arc::clone(&network), room),
            mailbox,
            network,
            seats: Vec::new(),
            short_of_room: false,
            scratch: Scratch::default(),
            to_feed: Vec::new(),
            ended: Vec::new(),
            next_look: None,
            next_grant: None,
            grants: Alarm::default(),
            leaving: false,
        }
    }

    /// Runs until the client is gone and no batch is left.
    pub(crate) async fn run(mut self) {
        let mut alarm: Option<(Instant, Pin<Box<Sleep>>)> = None;
        let mut messages = VecDeque::new();
        let mut woken = Vec::new();
        // The budget of cooperative scheduling is for tasks beside others; here is only this one.
        tokio::task::coop::unconstrained(poll_fn(move |context| {
            while self.mailbox.collect(&mut messages, &mut woken, context.waker()) {
                self.guarded(|own| own.turn_round(&mut messages, &mut woken));
            }
            if self.leaving && self.seats.iter().all(Option::is_none) {
                return Poll::Ready(());
            }
            loop {
                self.guarded(|own| own.watch_the_grants(context));
                let watched = self.next_grant;
                self.guarded(|own| own.watch_the_time(&mut alarm, context));
                // A row that ended because it was late may go out again at a moment that nobody watches yet.
                if self.next_grant == watched {
                    return Poll::Pending;
                }
            }
        }))
        .await;
    }

    fn turn_round(&mut self, messages: &mut VecDeque<Message>, woken: &mut Vec<usize>) {
        let now = now();
        while let Some(message) = messages.pop_front() {
            self.hear(message);
        }
        for (looked_at, connection) in woken.drain(..).enumerate() {
            self.heed_interrupts(now);
            if let Some(slot) = self.pool.slot(connection) {
                slot.bell.reset();
                self.step(connection, now);
            }
            if looked_at % TURN == TURN - 1 {
                self.take_turns(now);
            }
        }
        self.heed_interrupts(now);
        self.take_turns(now);
    }

    /// A panic that no row can be blamed for ends the batches of this worker, each row with its outcome; the thread
    /// goes on with nothing in its hands.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) else {
            return;
        };
        let error = Error::of_panic(&*panic);
        self.pool.clear();
        self.ended.clear();
        self.to_feed.clear();
        for seat in self.seats.drain(..).flatten() {
            self.mailbox.batches.fetch_sub(1, Ordering::Relaxed);
            seat.shared.abandon(&error);
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Begin { shared, seat: number } => {
                let seat = Seat {
                    number,
                    shared,
                    routes: HashMap::new(),
                    others: HashSet::new(),
                    in_flight: 0,
                    workers: 1,
                    connected: Vec::new(),
                    calm: Vec::new(),
                    ended: Vec::new(),
                    ready: Vec::new(),
                    needs_turn: true,
                    let_go: false,
                };
                match self.seats.iter().position(Option::is_none) {
                    Some(vacant) => self.seats[vacant] = Some(seat),
                    None => self.seats.push(Some(seat)),
                }
            }
            Message::Look => {
                for seat in self.seats.iter_mut().flatten() {
                    seat.needs_turn = true;
                    // Between the interrupt and the word of it a row may have been granted.
                    seat.let_go = false;
                }
            }
            Message::Leave => self.leaving = true,
        }
    }

    /// Gives every batch that has something to say its turn, until none has: a turn may end rows at once.
    fn take_turns(&mut self, now: Instant) {
        let needs_turn = |seat: &Option<Seat>| seat.as_ref().is_some_and(|own| own.needs_turn);
        loop {
            // What ended may be why those that wait for a stream shall wait on: it is told first.
            while let Some(seat) = self.seats.iter().position(needs_turn) {
                self.take_turn(seat, now);
            }
            if self.to_feed.is_empty() {
                break;
            }
            self.feed(now);
        }
        self.pool.forget_routes();
    }

    fn take_turn(&mut self, seat: usize, now: Instant) {
        let room = self.pool.room(now);
        let busy: usize = self.seats.iter().flatten().map(|seat| seat.in_flight).sum();
        let Some(own) = &mut self.seats[seat] else {
            return;
        };
        let room = room.saturating_sub(busy - own.in_flight);
        let pool = &mut self.pool;
        let mut granted = Vec::new();
        let (mut event, mut grant) = (None, None);
        let mut outrun = Vec::new();
        let mut short_of_room = false;
        own.needs_turn = false;
        let shared = Arc::clone(&own.shared);
        let policy = &shared.terms.policy;
        let is_settled = shared.turn(own.number, |turn| {
            turn.batch.expire(now);
            for (origin, proofs) in own.connected.drain(..) {
                turn.batch.connected(origin, proofs);
            }
            for origin in own.calm.drain(..) {
                turn.batch.asked_for_calm(now, origin, now);
            }
            own.hand_back(turn, now);
            let mut ready = own.ready.drain(..);
            if room <= own.in_flight {
                short_of_room = true;
            }
            while own.in_flight < turn.quota.min(room) {
                let lead = |job: &Job| match own.routes.get(&job.origin) {
                    Some(route) if !job.request.has_own_tls() => pool.lead(*route, job, policy.h2_streams),
                    _ => Some(Duration::ZERO),
                };
                let Claim::Granted(job) = turn.batch.claim(now, ready.next(), lead) else {
                    turn.hungry = true;
                    break;
                };
                let key = || {
                    let origin = Arc::clone(turn.batch.origin(job.origin));
                    RouteKey::new(origin, job.request.tls(policy).clone(), policy)
                };
                let route = match own.routes.get(&job.origin) {
                    _ if job.request.has_own_tls() => {
                        let route = pool.route_to(key());
                        if own.others.insert(route) {
                            pool.name(route);
                        }
                        route
                    }
                    Some(route) => *route,
                    None => {
                        let route = pool.route_to(key());
                        own.routes.insert(job.origin, route);
                        pool.name(route);
                        // Connections that stand from an earlier batch are as good a proof as new ones.
                        let room = pool.room_on(route, policy.h2_streams);
                        turn.batch.connected(job.origin, room);
                        route
                    }
                };
                own.in_flight += 1;
                if job.permit == Permit::Given {
                    pool.promise(route);
                }
                granted.push((route, job));
            }
            own.workers = turn.workers;
            event = turn.batch.next_event();
            grant = turn.batch.next_grant();
            outrun = turn.batch.outrun();
            turn.batch.is_settled()
        });
        if is_settled
            && own.in_flight == 0
            && let Some(over) = self.seats[seat].take()
        {
            over.routes.values().chain(&over.others).for_each(|route| self.pool.unname(*route));
            self.mailbox.batches.fetch_sub(1, Ordering::Relaxed);
        }
        self.short_of_room |= short_of_room;
        self.look_at(event);
        self.next_grant = earlier(self.next_grant, grant);
        for (route, _) in &granted {
            self.pool.keep_promises(*route);
        }
        for (route, job) in granted {
            self.dispatch(route, Task { seat, job, since: now }, now);
        }
        if !outrun.is_empty() {
            let is_outrun =
                |task: &Task| task.seat == seat && outrun.contains(&(task.job.index, task.job.which));
            self.let_go(is_outrun, now);
        }
    }

    /// Goes on with a connection as far as it goes.
    fn step(&mut self, slot: usize, now: Instant) {
        let own = self.pool.slot_mut(slot);
        let mut context = Context::from_waker(&own.waker);
        match &mut own.stage {
            Stage::Vacant => {}
            Stage::Connecting { connecting, .. } => {
                let polled = catch_unwind(AssertUnwindSafe(|| connecting.as_mut().poll(&mut context)));
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(Ok(connection))) => self.connected(slot, connection, now),
                    Ok(Poll::Ready(Err(error))) => self.not_connected(slot, error, now),
                    Err(panic) => self.end(slot, End::Over(Error::of_panic(&*panic))),
                }
            }
            Stage::Busy { wire, exchange, task } => {
                let scratch = &mut self.scratch;
                wire.traffic().begin_a_go();
                let polled =
                    catch_unwind(AssertUnwindSafe(|| exchange.poll(wire, &mut context, scratch, now)));
                match polled {
                    Ok(Poll::Pending) => {
                        let deadline = exchange.deadline().map(|(at, _)| at);
                        self.look_at(deadline);
                    }
                    Ok(Poll::Ready(done)) => self.done(slot, done, now),
                    Err(panic) => {
                        let in_doubt = !task.job.request.is_idempotent();
                        self.end(slot, End::Over(Error::of_panic(&*panic).doubtful(in_doubt)));
                    }
                }
            }
            Stage::Idle { .. } => self.pool.look_at_idle(slot, now),
            Stage::Many(many) => {
                let mut ended = std::mem::take(&mut self.ended);
                let polled = catch_unwind(AssertUnwindSafe(|| many.poll(&mut context, now, &mut ended)));
                let next = many.take_next_look();
                self.ended = ended;
                match polled {
                    Ok(()) => self.settle_shared(slot),
                    Err(panic) => {
                        self.settle_shared(slot);
                        self.drop_many(slot, &Error::of_panic(&*panic));
                    }
                }
                self.look_at(next);
            }
        }
    }

    /// A row ended on a connection that may serve the next.
    fn done(&mut self, slot: usize, done: Done, now: Instant) {
        if !done.reusable {
            if let Stage::Busy { wire, .. } = &self.pool.slot_mut(slot).stage {
                let (served, has_surplus) = (wire.served(), wire.has_surplus());
                if matches!(&done.end, End::Broken(_, failed) if failed.kind == Kind::Closed && failed.reused)
                {
                    self.pool.closed_unasked(slot, served);
                }
                if has_surplus {
                    self.pool.spoke_unasked(slot);
                }
            }
            return self.end(slot, done.end);
        }
        let stage = std::mem::replace(&mut self.pool.slot_mut(slot).stage, Stage::Vacant);
        let Stage::Busy { mut wire, task, .. } = stage else {
            return;
        };
        wire.count_served();
        self.settle(task, done.end);
        self.pool.keep(slot, wire, now);
        self.look_at(Some(now + IDLE));
    }

    /// Rows ended on a connection that they share with others.
    fn settle_shared(&mut self, slot: usize) {
        let route = self.pool.slot_mut(slot).route;
        self.hear_calm(slot, route);
        for Ended { task, end, wants_http1 } in std::mem::take(&mut self.ended) {
            let key = &self.pool.route(route).key;
            if wants_http1 && key.version == HttpVersion::Auto {
                self.network.forgo_http2(&key.origin);
            }
            self.settle(task, end);
        }
        if let Stage::Many(many) = &mut self.pool.slot_mut(slot).stage
            && let Some(allowed) = many.take_told()
        {
            // Over HTTP/1.1 each connection proves itself; here the peer has said how many rows it takes.
            for seat in self.seats.iter_mut().flatten() {
                let streams = allowed.min(seat.shared.terms.policy.h2_streams);
                let origins = seat.routes.iter().filter(|(_, own)| **own == route);
                seat.connected.extend(origins.map(|(origin, _)| (*origin, streams)));
                seat.needs_turn = true;
            }
        }
        self.pool.look_at_shared(slot);
        self.to_feed.push(route);
    }

    /// A peer that has too much to do, by its farewell or by how it ended a row, gets nothing for now: neither do rows go there that
    /// have their turn already and wait for a stream.
    fn hear_calm(&mut self, slot: usize, route: usize) {
        let Stage::Many(many) = &mut self.pool.slot_mut(slot).stage else {
            return;
        };
        let went_away = many.take_calm();
        let ended = |own: &Ended| matches!(&own.end, End::Broken(_, failed) if failed.asked_for_calm);
        if !went_away && !self.ended.iter().any(ended) {
            return;
        }
        let on_it: Vec<_> = many.tasks().map(|task| (task.seat, task.job.origin)).collect();
        if went_away {
            let origin = Arc::clone(&self.pool.route(route).key.origin);
            for (number, seat) in self.seats.iter_mut().enumerate() {
                let Some(seat) = seat else {
                    continue;
                };
                let leads_there = |own: &usize| self.pool.route(*own).key.origin == origin;
                let routes = seat.routes.iter().filter(|(_, own)| leads_there(own)).map(|(id, _)| *id);
                let rows = on_it.iter().filter(|(own, _)| *own == number).map(|(_, id)| *id);
                seat.calm.extend(routes.chain(rows));
                seat.needs_turn |= !seat.calm.is_empty();
            }
        }
        for task in self.pool.take_waiting(route).into_iter().rev() {
            self.settle(task, End::NotTried);
        }
    }

    /// A bug in a connection that rows share ends them all.
    fn drop_many(&mut self, slot: usize, error: &Error) {
        self.to_feed.push(self.pool.slot_mut(slot).route);
        for task in self.pool.drop_shared(slot).into_iter().flat_map(|many| many.into_tasks()) {
            let in_doubt = !task.job.request.is_idempotent();
            self.settle(task, End::Over(error.clone().doubtful(in_doubt)));
        }
    }

    /// A row ended and its connection with it.
    fn end(&mut self, slot: usize, end: End) {
        // Others may have waited for the connection that was being made for it.
        self.to_feed.push(self.pool.slot_mut(slot).route);
        if let Some(task) = self.pool.take_task(slot) {
            self.settle(task, end);
        }
        self.pool.vacate(slot);
    }

    fn settle(&mut self, task: Task, end: End) {
        if let Some(seat) = &mut self.seats[task.seat] {
            seat.ended.push((task.job, end));
            seat.needs_turn = true;
        }
        self.has_room_again();
    }

    /// A row of the batch is no more in hand: its batch has it back.
    fn has_lost_one(&mut self, seat: usize) {
        if let Some(seat) = &mut self.seats[seat] {
            seat.in_flight -= 1;
            seat.needs_turn = true;
        }
        self.has_room_again();
    }

    fn has_room_again(&mut self) {
        if std::mem::take(&mut self.short_of_room) {
            // What one batch lets go of, another may have waited for.
            self.seats.iter_mut().flatten().for_each(|seat| seat.needs_turn = true);
        }
    }

    /// Lets go of the batches that were interrupted, before anything more of them is written.
    fn heed_interrupts(&mut self, now: Instant) {
        for seat in 0..self.seats.len() {
            if let Some(own) = &mut self.seats[seat]
                && !own.let_go
                && own.shared.is_stopped()
            {
                own.let_go = true;
                self.interrupt(seat, now);
            }
        }
    }

    /// The batch was interrupted: its connections are closed where they stand, and of those that it shares its rows are
    /// taken.
    fn interrupt(&mut self, seat: usize, now: Instant) {
        for emptied in self.let_go(|task| task.seat == seat, now) {
            // With nobody else's rows on it, it is closed: what it holds back is never written then.
            self.pool.drop_shared(emptied);
        }
    }

    /// Ends rows wherever they are. Gives the connections of which they were the only ones to share them.
    fn let_go(&mut self, which: impl Fn(&Task) -> bool, now: Instant) -> Vec<usize> {
        let mut emptied = Vec::new();
        for slot in 0..self.pool.len() {
            let end = match &mut self.pool.slot_mut(slot).stage {
                Stage::Connecting { task, .. } if which(task) => End::Over(cancelled()),
                Stage::Busy { wire, exchange, task } if which(task) => exchange.cancel(wire).end,
                Stage::Many(many) => {
                    if many.cancel(&which, now, &mut self.ended) && !self.ended.is_empty() {
                        emptied.push(slot);
                    }
                    self.settle_shared(slot);
                    continue;
                }
                _ => continue,
            };
            self.end(slot, end);
        }
        for route in self.pool.with_waiting() {
            let waiting = self.pool.take_waiting(route);
            let (own, others): (VecDeque<_>, VecDeque<_>) = waiting.into_iter().partition(&which);
            others.into_iter().for_each(|task| self.pool.wait(route, task));
            for task in own {
                self.settle(task, End::Over(cancelled()));
            }
        }
        emptied
    }

    fn look_at(&mut self, at: Option<Instant>) {
        self.next_look = earlier(self.next_look, at);
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}
