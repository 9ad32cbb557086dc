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
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::batch::Claim;
use crate::clock::now;
use crate::exchange::{Done, Exchange, Scratch};
use crate::job::{End, Job, OriginId};
use crate::pool::{IDLE, Pool, Stage, Task};
use crate::seat::Shared;
use crate::seat::{Mailbox, Message};
use crate::transport::Wire;
use crate::transport::connect;
use crate::transport::dns::Resolver;
use crate::{Error, Kind};

/// Connections looked at between two turns at the batches: few, so that the peers have their next rows while the rest
/// is still being looked at, and both sides work at the same time.
const TURN: usize = 4;

/// How far apart looks at the deadlines are at the least.
const TICK: Duration = Duration::from_millis(2);

/// A worker, before and while it runs.
pub(crate) struct Worker {
    mailbox: Arc<Mailbox>,
    resolver: Arc<Resolver>,
    pool: Pool,
    seats: Vec<Option<Seat>>,
    /// Whether a batch was kept from a row because too many connections are open.
    short_of_room: bool,
    scratch: Scratch,
    /// When a deadline has to be looked at next.
    next_look: Option<Instant>,
    leaving: bool,
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
            pool: Pool::new(Arc::clone(&mailbox), room),
            mailbox,
            resolver,
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
            while self.mailbox.collect(&mut messages, &mut woken, context.waker()) {
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
        for (looked_at, connection) in woken.drain(..).enumerate() {
            if let Some(slot) = self.pool.slot(connection) {
                slot.bell.reset();
                self.step(connection, now);
            }
            if looked_at % TURN == TURN - 1 {
                self.take_turns(now);
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
        self.pool.clear();
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
        let room = self.pool.room(now);
        let busy: usize = self.seats.iter().flatten().map(|seat| seat.in_flight).sum();
        let Some(own) = &mut self.seats[seat] else {
            return;
        };
        let room = room.saturating_sub(busy - own.in_flight);
        let pool = &mut self.pool;
        let mut granted = Vec::new();
        let mut event = None;
        let mut short_of_room = false;
        own.needs_turn = false;
        let shared = Arc::clone(&own.shared);
        let is_settled = shared.turn(own.number, |turn| {
            turn.batch.expire(now);
            own.connected.drain(..).for_each(|origin| turn.batch.connected(origin));
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
                    let route = pool.route_to(turn.batch.origin(job.origin));
                    // Connections that stand from an earlier batch are as good a proof as new ones.
                    (0..pool.idle_on(route)).for_each(|_| turn.batch.connected(job.origin));
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
            self.dispatch(route, Task { seat, job, since: now }, now);
        }
    }

    /// Puts a row on a connection that is ready, or begins a new one for it.
    fn dispatch(&mut self, route: usize, task: Task, now: Instant) {
        if !task.job.on_new_connection
            && let Some((slot, wire)) = self.pool.take_idle(route, &task.job)
        {
            return self.begin(slot, wire, task, now);
        }
        let Some(seat) = &self.seats[task.seat] else {
            return;
        };
        let timeouts = *task.job.timeouts(&seat.shared.terms.policy);
        let origin = Arc::clone(&self.pool.route(route).origin);
        let acquire = timeouts.acquire.and_then(|span| now.checked_add(span));
        let deadline = [task.job.deadline, acquire].into_iter().flatten().min();
        self.look_at(deadline);
        let connecting = connect::connect(origin, Arc::clone(&self.resolver), timeouts);
        let slot = self.pool.take_vacant();
        let own = self.pool.slot_mut(slot);
        own.route = route;
        own.stage = Stage::Connecting { connecting, task };
        self.step(slot, now);
    }

    /// Writes the row to the wire.
    fn begin(&mut self, slot: usize, mut wire: Wire, task: Task, now: Instant) {
        let Some(seat) = &self.seats[task.seat] else {
            return;
        };
        let (own, route) = self.pool.slot_and_route(slot);
        let mut context = Context::from_waker(&own.waker);
        let scratch = &mut self.scratch;
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let terms = &seat.shared.terms;
            let mut exchange =
                Box::new(Exchange::new(&task.job, terms, &route.authority, &wire, now, scratch));
            if !seat.shared.is_stopped() {
                exchange.begin(&mut wire, &mut context, scratch);
            }
            exchange
        }));
        match begun {
            Ok(exchange) => {
                own.stage = Stage::Busy { wire, exchange, task };
                self.step(slot, now);
            }
            Err(panic) => {
                self.settle(task, End::Over(panicked(&*panic)));
                self.pool.vacate(slot);
            }
        }
    }

    /// Goes on with a connection as far as it goes.
    fn step(&mut self, slot: usize, now: Instant) {
        let own = self.pool.slot_mut(slot);
        let mut context = Context::from_waker(&own.waker);
        match &mut own.stage {
            Stage::Vacant => {}
            Stage::Connecting { connecting, task } => {
                let polled = catch_unwind(AssertUnwindSafe(|| connecting.as_mut().poll(&mut context)));
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(Ok(wire))) => {
                        if let Some(seat) = &mut self.seats[task.seat] {
                            seat.connected.push(task.job.origin);
                            seat.needs_turn = true;
                        }
                        if let Some(task) = self.pool.take_task(slot) {
                            self.begin(slot, wire, task, now);
                        }
                    }
                    Ok(Poll::Ready(Err(error))) if is_out_of_descriptors(&error) => {
                        self.end(slot, End::NotTried);
                        let until = self.pool.hold_back(now);
                        self.look_at(Some(until));
                    }
                    Ok(Poll::Ready(Err(error))) if error.kind() == Kind::Internal => {
                        self.end(slot, End::Over(error));
                    }
                    Ok(Poll::Ready(Err(error))) => self.end(slot, End::NotConnected(error)),
                    Err(panic) => self.end(slot, End::Over(panicked(&*panic))),
                }
            }
            Stage::Busy { wire, exchange, task } => {
                let scratch = &mut self.scratch;
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
                        self.end(slot, End::Over(panicked(&*panic).doubtful(in_doubt)));
                    }
                }
            }
            Stage::Idle { .. } => self.pool.look_at_idle(slot, now),
        }
    }

    /// A row ended on a connection that may serve the next.
    fn done(&mut self, slot: usize, done: Done, now: Instant) {
        if !done.reusable {
            if let (Stage::Busy { wire, .. }, End::Broken(_, failed)) =
                (&self.pool.slot_mut(slot).stage, &done.end)
                && failed.kind == Kind::Closed
                && failed.reused
            {
                let served = wire.served();
                self.pool.closed_unasked(slot, served);
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

    /// A row ended and its connection with it.
    fn end(&mut self, slot: usize, end: End) {
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
        if std::mem::take(&mut self.short_of_room) {
            // What one batch lets go of, another may have waited for.
            self.seats.iter_mut().flatten().for_each(|seat| seat.needs_turn = true);
        }
    }

    /// The batch was interrupted: its connections are closed where they stand.
    fn let_go(&mut self, seat: usize) {
        for slot in 0..self.pool.len() {
            let end = match &mut self.pool.slot_mut(slot).stage {
                Stage::Connecting { task, .. } if task.seat == seat => End::Over(cancelled()),
                Stage::Busy { wire, exchange, task } if task.seat == seat => exchange.cancel(wire).end,
                _ => continue,
            };
            self.end(slot, end);
        }
    }

    /// Ends what is late, and closes what was idle for too long.
    fn look_at_the_deadlines(&mut self, now: Instant) {
        let mut next = None;
        for slot in 0..self.pool.len() {
            match self.deadline(slot) {
                Some((at, kind)) if at <= now => self.time_out(slot, kind),
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
        match &self.pool.slot(slot)?.stage {
            Stage::Vacant => None,
            Stage::Idle { since, .. } => Some((*since + IDLE, Kind::Closed)),
            Stage::Busy { exchange, .. } => exchange.deadline(),
            Stage::Connecting { task, .. } => {
                let policy = &self.seats[task.seat].as_ref()?.shared.terms.policy;
                let acquire = task.job.timeouts(policy).acquire.and_then(|span| task.since.checked_add(span));
                let acquire = acquire.map(|at| (at, Kind::TimeoutAcquire));
                let total = task.job.deadline.map(|at| (at, Kind::TimeoutConnect));
                [acquire, total].into_iter().flatten().min_by_key(|(at, _)| *at)
            }
        }
    }

    fn time_out(&mut self, slot: usize, kind: Kind) {
        let (own, route) = self.pool.slot_and_route(slot);
        let origin = &route.origin;
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
        };
        self.end(slot, end);
    }

    fn look_at(&mut self, at: Option<Instant>) {
        self.next_look = earlier(self.next_look, at);
    }

    /// Looks at the deadlines when it is time, and has the thread woken for the next.
    fn watch_the_time(&mut self, alarm: &mut Option<(Instant, Pin<Box<Sleep>>)>, context: &mut Context<'_>) {
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
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// Whether the process (EMFILE) or the system (ENFILE) has no descriptor left.
fn is_out_of_descriptors(error: &Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.os_error() == Some(errno.raw_os_error()))
}

fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "the batch was interrupted")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let said =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(Kind::Internal, format!("this row met a bug: {}", said.unwrap_or("no message")))
        .with_hint("please report it; the other rows went on")
}
