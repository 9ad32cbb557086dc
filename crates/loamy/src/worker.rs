//! A thread with its connections: claims rows, exchanges them, settles them. The only driver.
//!
//! One future holds everything, so a connection costs no task. A turn of its loop looks at the connections that were
//! woken, then takes what has ended to its batch and leaves with as many new rows, all under one lock.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::batch::{Claim, End, Job};
use crate::exchange::{Done, Exchange, Scratch};
use crate::mailbox::{Bell, Mailbox, Message};
use crate::plan::OriginId;
use crate::run::Shared;
use crate::runtime::now;
use crate::target::Origin;
use crate::transport::Wire;
use crate::transport::connect::{self, Connecting};
use crate::transport::dns::Resolver;
use crate::{Error, Kind};

/// How long a connection is kept without work: less than servers keep it, so that they seldom close first.
const IDLE: Duration = Duration::from_secs(15);

/// A peer that closes a connection sooner than this after a response does so by count, not because it was idle.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long no connection is added after the process ran out of descriptors.
const HOLD: Duration = Duration::from_millis(50);

/// How far apart looks at the deadlines are at the least.
const TICK: Duration = Duration::from_millis(2);

/// A worker, before and while it runs.
pub(crate) struct Worker {
    mailbox: Arc<Mailbox>,
    resolver: Arc<Resolver>,
    connections: Vec<Slot>,
    vacant: Vec<usize>,
    /// How many connections may be open.
    room: usize,
    routes: Vec<Route>,
    by_origin: HashMap<Arc<Origin>, usize>,
    /// How many connections may be open at the most, until when, after the process ran out of descriptors.
    held: Option<(usize, Instant)>,
    seats: Vec<Option<Seat>>,
    /// Whether a batch was kept from a row because too many connections are open.
    short_of_room: bool,
    scratch: Scratch,
    /// When a deadline has to be looked at next.
    next_look: Option<Instant>,
    leaving: bool,
}

/// A place for a connection, with what wakes the worker for it.
struct Slot {
    waker: Waker,
    bell: Arc<Bell>,
    stage: Stage,
    route: usize,
}

enum Stage {
    Vacant,
    Connecting {
        connecting: Connecting,
        task: Task,
    },
    Busy {
        wire: Wire,
        exchange: Box<Exchange>,
        task: Task,
    },
    Idle {
        wire: Wire,
        since: Instant,
    },
}

/// A row that holds a slot, and the seat it was claimed from.
struct Task {
    seat: usize,
    job: Box<Job>,
    since: Instant,
}

/// What connections are made to, and those without work: the latest used is the last.
struct Route {
    origin: Arc<Origin>,
    authority: String,
    idle: Vec<usize>,
    /// After how many rows the peer was seen to close at once and without a word; rows that must not be sent twice then take
    /// another connection before that.
    closes_after: u32,
}

/// A batch that this worker works for.
struct Seat {
    number: usize,
    shared: Arc<Shared>,
    routes: HashMap<OriginId, usize>,
    in_flight: usize,
    connected: Vec<OriginId>,
    ended: Vec<(Box<Job>, End)>,
    needs_turn: bool,
}

impl Worker {
    pub(crate) fn new(mailbox: Arc<Mailbox>, resolver: Arc<Resolver>, room: usize) -> Self {
        Self {
            mailbox,
            resolver,
            connections: Vec::new(),
            vacant: Vec::new(),
            room,
            routes: Vec::new(),
            by_origin: HashMap::new(),
            held: None,
            seats: Vec::new(),
            short_of_room: false,
            scratch: Scratch::default(),
            next_look: None,
            leaving: false,
        }
    }

    /// Runs until the client is gone and no batch is left.
    pub(crate) async fn run(mut self) {
        let mut alarm: Option<(Instant, Pin<Box<Sleep>>)> = None;
        let mut messages = Vec::new();
        let mut woken = Vec::new();
        // The budget of cooperative scheduling is for tasks beside others; here is only this one.
        tokio::task::coop::unconstrained(poll_fn(move |context| {
            while self
                .mailbox
                .collect(&mut messages, &mut woken, context.waker())
            {
                self.guarded(|own| own.turn_round(&mut messages, &mut woken));
            }
            if self.leaving && self.seats.iter().all(Option::is_none) {
                return Poll::Ready(());
            }
            self.guarded(|own| own.watch_the_time(&mut alarm, context));
            Poll::Pending
        }))
        .await;
    }

    fn turn_round(&mut self, messages: &mut Vec<Message>, woken: &mut Vec<usize>) {
        let now = now();
        for message in messages.drain(..) {
            self.hear(message);
        }
        for connection in woken.drain(..) {
            if let Some(slot) = self.connections.get(connection) {
                slot.bell.reset();
                self.step(connection, now);
            }
        }
        self.take_turns(now);
    }

    /// A panic that no row can be blamed for ends the batches of this worker, each row with its outcome; the thread
    /// goes on with nothing in its hands.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) else {
            return;
        };
        let error = panicked(&*panic);
        self.connections.clear();
        self.vacant.clear();
        self.routes.iter_mut().for_each(|route| route.idle.clear());
        for seat in self.seats.drain(..).flatten() {
            self.mailbox.batches.fetch_sub(1, Ordering::Relaxed);
            seat.shared.abandon(&error);
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Begin {
                shared,
                seat: number,
            } => {
                let seat = Seat {
                    number,
                    shared,
                    routes: HashMap::new(),
                    in_flight: 0,
                    connected: Vec::new(),
                    ended: Vec::new(),
                    needs_turn: true,
                };
                match self.seats.iter().position(Option::is_none) {
                    Some(vacant) => self.seats[vacant] = Some(seat),
                    None => self.seats.push(Some(seat)),
                }
            }
            Message::Look => {
                for seat in 0..self.seats.len() {
                    let Some(own) = &mut self.seats[seat] else {
                        continue;
                    };
                    own.needs_turn = true;
                    if own.shared.is_stopped() {
                        self.let_go(seat);
                    }
                }
            }
            Message::Leave => self.leaving = true,
        }
    }

    /// Gives every batch that has something to say its turn, until none has: a turn may end rows at once.
    fn take_turns(&mut self, now: Instant) {
        let needs_turn = |seat: &Option<Seat>| seat.as_ref().is_some_and(|own| own.needs_turn);
        while let Some(seat) = self.seats.iter().position(needs_turn) {
            self.take_turn(seat, now);
        }
    }

    fn take_turn(&mut self, seat: usize, now: Instant) {
        let room = self.room_now(now);
        let busy: usize = self.seats.iter().flatten().map(|seat| seat.in_flight).sum();
        let Some(own) = &mut self.seats[seat] else {
            return;
        };
        let room = room.saturating_sub(busy - own.in_flight);
        let (by_origin, routes) = (&mut self.by_origin, &mut self.routes);
        let mut granted = Vec::new();
        let mut event = None;
        let mut short_of_room = false;
        own.needs_turn = false;
        let shared = Arc::clone(&own.shared);
        let is_settled = shared.turn(own.number, |turn| {
            turn.batch.expire(now);
            own.connected
                .drain(..)
                .for_each(|origin| turn.batch.connected(origin));
            let mut ready = Vec::with_capacity(own.ended.len());
            for (job, end) in own.ended.drain(..) {
                own.in_flight -= 1;
                ready.push(job.origin);
                turn.batch.settle(now, job, end);
            }
            let mut ready = ready.into_iter();
            if room <= own.in_flight {
                short_of_room = true;
            }
            while own.in_flight < turn.quota.min(room) {
                let Claim::Granted(job) = turn.batch.claim(now, ready.next()) else {
                    turn.hungry = true;
                    break;
                };
                let route = *own.routes.entry(job.origin).or_insert_with(|| {
                    let route = route_to(turn.batch.origin(job.origin), by_origin, routes);
                    // Connections that stand from an earlier batch are as good a proof as new ones.
                    routes[route]
                        .idle
                        .iter()
                        .for_each(|_| turn.batch.connected(job.origin));
                    route
                });
                own.in_flight += 1;
                granted.push((route, job));
            }
            event = turn.batch.next_event();
            turn.batch.is_settled()
        });
        if is_settled && own.in_flight == 0 {
            self.seats[seat] = None;
            self.mailbox.batches.fetch_sub(1, Ordering::Relaxed);
        }
        self.short_of_room |= short_of_room;
        self.look_at(event);
        for (route, job) in granted {
            self.dispatch(
                route,
                Task {
                    seat,
                    job,
                    since: now,
                },
                now,
            );
        }
    }

    /// Puts a row on a connection that is ready, or begins a new one for it.
    fn dispatch(&mut self, route: usize, task: Task, now: Instant) {
        let wire = if task.job.on_new_connection {
            None
        } else {
            self.idle_wire(route, &task.job)
        };
        let slot = match wire {
            Some((slot, wire)) => {
                self.begin(slot, wire, task, now);
                return;
            }
            None => self.vacant_slot(),
        };
        let Some(seat) = &self.seats[task.seat] else {
            return;
        };
        let timeouts = *task.job.timeouts(&seat.shared.terms.policy);
        let origin = Arc::clone(&self.routes[route].origin);
        let acquire = timeouts.acquire.and_then(|span| now.checked_add(span));
        let deadline = [task.job.deadline, acquire].into_iter().flatten().min();
        self.look_at(deadline);
        let connecting = connect::connect(origin, Arc::clone(&self.resolver), timeouts);
        self.connections[slot].route = route;
        self.connections[slot].stage = Stage::Connecting { connecting, task };
        self.step(slot, now);
    }

    /// The connection to the route that was used last, fit for the row.
    ///
    /// A row that must not be sent twice takes none that may be dead: the system is asked just before, and a peer that
    /// was seen to close after so many rows is not trusted beyond them (RFC 9112 §9.3.1).
    fn idle_wire(&mut self, route: usize, job: &Job) -> Option<(usize, Wire)> {
        let careful = !job.request.is_idempotent();
        while let Some(slot) = self.routes[route].idle.pop() {
            let Stage::Idle { wire, .. } =
                std::mem::replace(&mut self.connections[slot].stage, Stage::Vacant)
            else {
                continue;
            };
            if !careful || (wire.served() < self.routes[route].closes_after && wire.is_quiet()) {
                return Some((slot, wire));
            }
            self.vacant.push(slot);
        }
        None
    }

    fn vacant_slot(&mut self) -> usize {
        if self.connections.len() - self.vacant.len() >= self.room {
            self.close_an_idle_one();
        }
        self.vacant.pop().unwrap_or_else(|| {
            let slot = self.connections.len();
            let (waker, bell) = self.mailbox.waker(slot);
            self.connections.push(Slot {
                waker,
                bell,
                stage: Stage::Vacant,
                route: 0,
            });
            slot
        })
    }

    fn close_an_idle_one(&mut self) {
        let longest = self
            .routes
            .iter_mut()
            .filter(|route| !route.idle.is_empty())
            .min_by_key(|route| match self.connections[route.idle[0]].stage {
                Stage::Idle { since, .. } => Some(since),
                _ => None,
            });
        if let Some(route) = longest {
            let slot = route.idle.remove(0);
            self.vacate(slot);
        }
    }

    /// Writes the row to the wire.
    fn begin(&mut self, slot: usize, mut wire: Wire, task: Task, now: Instant) {
        let Some(seat) = &self.seats[task.seat] else {
            return;
        };
        let own = &mut self.connections[slot];
        let route = &self.routes[own.route];
        let mut context = Context::from_waker(&own.waker);
        let scratch = &mut self.scratch;
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let terms = &seat.shared.terms;
            let mut exchange = Box::new(Exchange::new(
                &task.job,
                terms,
                &route.authority,
                &wire,
                now,
                scratch,
            ));
            if !seat.shared.is_stopped() {
                exchange.begin(&mut wire, &mut context, scratch);
            }
            exchange
        }));
        match begun {
            Ok(exchange) => {
                own.stage = Stage::Busy {
                    wire,
                    exchange,
                    task,
                };
                self.step(slot, now);
            }
            Err(panic) => {
                self.settle(task, End::Panicked(panicked(&*panic)));
                self.vacate(slot);
            }
        }
    }

    /// Goes on with a connection as far as it goes.
    fn step(&mut self, slot: usize, now: Instant) {
        let own = &mut self.connections[slot];
        let mut context = Context::from_waker(&own.waker);
        match &mut own.stage {
            Stage::Vacant => {}
            Stage::Connecting { connecting, task } => {
                let polled =
                    catch_unwind(AssertUnwindSafe(|| connecting.as_mut().poll(&mut context)));
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(Ok(wire))) => {
                        if let Some(seat) = &mut self.seats[task.seat] {
                            seat.connected.push(task.job.origin);
                            seat.needs_turn = true;
                        }
                        if let Some(task) = self.take_task(slot) {
                            self.begin(slot, wire, task, now);
                        }
                    }
                    Ok(Poll::Ready(Err(error))) if is_out_of_descriptors(&error) => {
                        self.hold_back(slot, now);
                    }
                    Ok(Poll::Ready(Err(error))) if error.kind() == Kind::Internal => {
                        self.end(slot, End::Panicked(error));
                    }
                    Ok(Poll::Ready(Err(error))) => self.end(slot, End::NotConnected(error)),
                    Err(panic) => self.end(slot, End::Panicked(panicked(&*panic))),
                }
            }
            Stage::Busy { wire, exchange, .. } => {
                let scratch = &mut self.scratch;
                let polled = catch_unwind(AssertUnwindSafe(|| {
                    exchange.poll(wire, &mut context, scratch, now)
                }));
                match polled {
                    Ok(Poll::Pending) => {
                        let deadline = exchange.deadline().map(|(at, _)| at);
                        self.look_at(deadline);
                    }
                    Ok(Poll::Ready(done)) => self.done(slot, done, now),
                    Err(panic) => self.end(slot, End::Panicked(panicked(&*panic))),
                }
            }
            Stage::Idle { .. } => self.look_at_idle(slot, now),
        }
    }

    /// A row ended on a connection that may serve the next.
    fn done(&mut self, slot: usize, done: Done, now: Instant) {
        if !done.reusable {
            if let (Stage::Busy { wire, .. }, End::Broken(_, failed)) =
                (&self.connections[slot].stage, &done.end)
                && failed.kind == Kind::Closed
                && failed.reused
            {
                self.closed_unasked(slot, wire.served());
            }
            return self.end(slot, done.end);
        }
        let stage = std::mem::replace(&mut self.connections[slot].stage, Stage::Vacant);
        let Stage::Busy { mut wire, task, .. } = stage else {
            return;
        };
        wire.count_served();
        self.settle(task, done.end);
        let route = self.connections[slot].route;
        if wire.served() > self.routes[route].closes_after {
            self.routes[route].closes_after = u32::MAX;
        }
        self.connections[slot].stage = Stage::Idle { wire, since: now };
        self.routes[route].idle.push(slot);
        self.look_at(Some(now + IDLE));
        self.look_at_idle(slot, now);
    }

    /// A connection without work must be quiet: what the peer says now answers nothing (RFC 9112 §9.2), and when it
    /// closes, nothing is to be sent on it.
    fn look_at_idle(&mut self, slot: usize, now: Instant) {
        let own = &mut self.connections[slot];
        let Stage::Idle { wire, since } = &mut own.stage else {
            return;
        };
        let mut byte = Vec::with_capacity(1);
        let read = wire.poll_read(
            &mut Context::from_waker(&own.waker),
            &mut bytes::BufMut::limit(&mut byte, 1),
        );
        if read.is_pending() {
            return;
        }
        let (served, idle) = (wire.served(), now.saturating_duration_since(*since));
        if idle < AT_ONCE {
            self.closed_unasked(slot, served);
        }
        let route = self.connections[slot].route;
        self.routes[route].idle.retain(|other| *other != slot);
        self.vacate(slot);
    }

    fn closed_unasked(&mut self, slot: usize, served: u32) {
        let route = &mut self.routes[self.connections[slot].route];
        route.closes_after = route.closes_after.min(served.max(1));
    }

    /// The process has no descriptor left: the row waits, and no connection is added until some have passed on.
    fn hold_back(&mut self, slot: usize, now: Instant) {
        self.end(slot, End::NotTried);
        let open = self.connections.len() - self.vacant.len();
        self.held = Some((open, now + HOLD));
        self.look_at(Some(now + HOLD));
    }

    /// How many connections may be open now.
    fn room_now(&mut self, now: Instant) -> usize {
        match self.held {
            Some((open, until)) if now < until => open,
            _ => {
                self.held = None;
                self.room
            }
        }
    }

    /// A row ended and its connection with it.
    fn end(&mut self, slot: usize, end: End) {
        if let Some(task) = self.take_task(slot) {
            self.settle(task, end);
        }
        self.vacate(slot);
    }

    fn settle(&mut self, task: Task, end: End) {
        if let Some(seat) = &mut self.seats[task.seat] {
            seat.ended.push((task.job, end));
            seat.needs_turn = true;
        }
        if std::mem::take(&mut self.short_of_room) {
            // What one batch lets go of, another may have waited for.
            self.seats
                .iter_mut()
                .flatten()
                .for_each(|seat| seat.needs_turn = true);
        }
    }

    /// Drops what a slot holds, its row apart.
    fn take_task(&mut self, slot: usize) -> Option<Task> {
        match std::mem::replace(&mut self.connections[slot].stage, Stage::Vacant) {
            Stage::Connecting { task, .. } | Stage::Busy { task, .. } => Some(task),
            Stage::Vacant | Stage::Idle { .. } => None,
        }
    }

    fn vacate(&mut self, slot: usize) {
        self.connections[slot].stage = Stage::Vacant;
        self.vacant.push(slot);
    }

    /// The batch was interrupted: its connections are closed where they stand.
    fn let_go(&mut self, seat: usize) {
        for slot in 0..self.connections.len() {
            let end = match &mut self.connections[slot].stage {
                Stage::Connecting { task, .. } if task.seat == seat => End::Panicked(cancelled()),
                Stage::Busy {
                    wire,
                    exchange,
                    task,
                } if task.seat == seat => exchange.cancel(wire).end,
                _ => continue,
            };
            self.end(slot, end);
        }
    }

    /// Ends what is late, and closes what was idle for too long.
    fn look_at_the_deadlines(&mut self, now: Instant) {
        let mut next = None;
        for slot in 0..self.connections.len() {
            match self.deadline(slot) {
                Some((at, kind)) if at <= now => self.time_out(slot, kind, now),
                Some((at, _)) => next = earlier(next, Some(at)),
                None => {}
            }
        }
        for seat in self.seats.iter_mut().flatten() {
            seat.needs_turn = true;
        }
        self.next_look = next;
        self.take_turns(now);
    }

    fn deadline(&self, slot: usize) -> Option<(Instant, Kind)> {
        match &self.connections[slot].stage {
            Stage::Vacant => None,
            Stage::Idle { since, .. } => Some((*since + IDLE, Kind::Closed)),
            Stage::Busy { exchange, .. } => exchange.deadline(),
            Stage::Connecting { task, .. } => {
                let policy = &self.seats[task.seat].as_ref()?.shared.terms.policy;
                let acquire = task
                    .job
                    .timeouts(policy)
                    .acquire
                    .and_then(|span| task.since.checked_add(span));
                let acquire = acquire.map(|at| (at, Kind::TimeoutAcquire));
                let total = task.job.deadline.map(|at| (at, Kind::TimeoutConnect));
                [acquire, total]
                    .into_iter()
                    .flatten()
                    .min_by_key(|(at, _)| *at)
            }
        }
    }

    fn time_out(&mut self, slot: usize, kind: Kind, now: Instant) {
        let route = self.connections[slot].route;
        let origin = Arc::clone(&self.routes[route].origin);
        let end = match &mut self.connections[slot].stage {
            Stage::Vacant => return,
            Stage::Idle { .. } => {
                self.routes[route].idle.retain(|other| *other != slot);
                return self.vacate(slot);
            }
            Stage::Connecting { task, .. } => {
                End::NotConnected(connect::timed_out(kind, &origin, Some(now - task.since)))
            }
            Stage::Busy {
                wire,
                exchange,
                task,
            } => exchange.time_out(wire, &origin, kind, now - task.since).end,
        };
        self.end(slot, end);
    }

    fn look_at(&mut self, at: Option<Instant>) {
        self.next_look = earlier(self.next_look, at);
    }

    /// Looks at the deadlines when it is time, and has the thread woken for the next.
    fn watch_the_time(
        &mut self,
        alarm: &mut Option<(Instant, Pin<Box<Sleep>>)>,
        context: &mut Context<'_>,
    ) {
        while let Some(next) = self.next_look {
            let (at, sleep) = alarm
                .get_or_insert_with(|| (next, Box::pin(tokio::time::sleep_until(next.into()))));
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
}

fn route_to(
    origin: &Arc<Origin>,
    by_origin: &mut HashMap<Arc<Origin>, usize>,
    routes: &mut Vec<Route>,
) -> usize {
    *by_origin.entry(Arc::clone(origin)).or_insert_with(|| {
        let authority = origin.authority();
        routes.push(Route {
            origin: Arc::clone(origin),
            authority,
            idle: Vec::new(),
            closes_after: u32::MAX,
        });
        routes.len() - 1
    })
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// Whether the process (EMFILE) or the system (ENFILE) has no descriptor left.
fn is_out_of_descriptors(error: &Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| error.os_error() == Some(errno.raw_os_error()))
}

fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "the batch was interrupted")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(
        Kind::Internal,
        format!("this row met a bug: {}", said.unwrap_or("no message")),
    )
    .with_hint("please report it; the other rows went on")
}
