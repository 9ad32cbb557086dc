//! A connection that many rows share, with the rows on it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::uri::{Authority, Scheme};

use super::Task;
use crate::exchange::multiplexed::{Begun, Exchange, Others};
use crate::exchange::{Done, Terms};
use crate::job::End;
use crate::target::Origin;
use crate::transport::Fault;
use crate::transport::h2::{Carrier, StreamBell};
use crate::{Error, Kind};

/// A connection with the rows that share it.
pub(crate) struct Many {
    carrier: Carrier,
    /// By the number of the stream's waker.
    rows: Vec<Option<Row>>,
    wakers: Vec<(Waker, Arc<StreamBell>)>,
    vacant: Vec<usize>,
    /// The nearest deadline of the rows that were looked at of late.
    next: Option<Instant>,
    numbers: Vec<usize>,
    /// Whether it was handed on how many streams the peer allows.
    is_told: bool,
    /// When its last row ended.
    since: Instant,
    /// After how much silence the rows on it want the peer asked whether it is there, and how many of them.
    pings: BTreeMap<Duration, usize>,
}

/// A row that shares the connection.
struct Row {
    exchange: Box<Exchange>,
    task: Task,
    ping: Option<Duration>,
}

/// What became of a row that was to share a connection.
pub(crate) enum Taken {
    /// It is on its way.
    Sent,
    /// Nothing of it was sent: the connection takes no more rows.
    Not(Task),
    /// It ended.
    Ended(Task, End),
}

/// A row that ended.
pub(crate) struct Ended {
    pub(crate) task: Task,
    pub(crate) end: End,
    /// Whether the peer wants it over HTTP/1.1.
    pub(crate) wants_http1: bool,
}

impl Many {
    pub(crate) fn new(carrier: Carrier, now: Instant) -> Self {
        Self {
            carrier,
            rows: Vec::new(),
            wakers: Vec::new(),
            vacant: Vec::new(),
            next: None,
            numbers: Vec::new(),
            is_told: false,
            since: now,
            pings: BTreeMap::new(),
        }
    }

    pub(crate) fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// How many streams the peer allows, once it has said so; the first time alone.
    pub(crate) fn take_told(&mut self) -> Option<usize> {
        if self.is_told || self.carrier.is_fresh() {
            return None;
        }
        self.is_told = true;
        Some(self.carrier.allowed())
    }

    /// Whether the peer went away because it has too much to do; the first time alone.
    pub(crate) fn take_calm(&mut self) -> bool {
        self.carrier.take_calm()
    }

    /// The rows on it.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.rows.iter().flatten().map(|row| &row.task)
    }

    /// When its last row ended, if none is on it.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.carrier.open() == 0).then_some(self.since)
    }

    /// Whether it can be closed: no row is on it and none may come.
    pub(crate) fn is_over(&self) -> bool {
        self.carrier.open() == 0 && self.carrier.is_closing()
    }

    /// Sends a row on a stream of its own.
    pub(crate) fn take(
        &mut self,
        task: Task,
        terms: &Terms,
        scheme: &Scheme,
        authority: &Authority,
        now: Instant,
    ) -> Taken {
        let carrier = &mut self.carrier;
        let open = carrier.open();
        let begun = catch_unwind(AssertUnwindSafe(|| {
            Exchange::begin(&task.job, terms, scheme, authority, carrier, now)
        }));
        let exchange = match begun {
            Ok(Begun::Sent(exchange)) => exchange,
            Ok(Begun::Unsent) => return Taken::Not(task),
            Ok(Begun::Refused(error)) => return Taken::Ended(task, End::Over(error)),
            Err(panic) => {
                if self.carrier.open() > open {
                    self.carrier.close_stream(false);
                }
                let in_doubt = !task.job.request.is_idempotent();
                return Taken::Ended(task, End::Over(Error::of_panic(&*panic).doubtful(in_doubt)));
            }
        };
        let number = self.vacant.pop().unwrap_or_else(|| {
            let number = self.rows.len();
            self.rows.push(None);
            self.wakers.push(self.carrier.waker(number));
            number
        });
        let ping = terms.policy.h2_ping;
        if let Some(ping) = ping {
            *self.pings.entry(ping).or_default() += 1;
        }
        self.rows[number] = Some(Row { exchange, task, ping });
        match self.poll_row(number, now) {
            Some(Ended { task, end, .. }) => Taken::Ended(task, end),
            None => Taken::Sent,
        }
    }

    /// Goes on as far as it goes, and hands over the rows that ended.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, now: Instant, ended: &mut Vec<Ended>) {
        let polled = self.carrier.poll(context, now);
        let mut numbers = std::mem::take(&mut self.numbers);
        self.carrier.take_woken(&mut numbers);
        for number in numbers.drain(..) {
            ended.extend(self.poll_row(number, now));
        }
        self.numbers = numbers;
        if polled.is_ready() {
            // Each stream was told by now; what is left here could never end otherwise.
            let message = "the connection closed before the response began";
            self.abandon(&Fault { kind: Kind::Closed, message: message.into() }, ended);
        } else if self.carrier.is_flooded() {
            let message = "the peer sends frames without end, and none of them is for a request";
            self.give_up(&Fault { kind: Kind::Protocol, message: message.into() }, ended);
        }
    }

    /// The same without rows, and the operating system is asked what has come.
    pub(crate) fn poll_past_the_runtime(&mut self, context: &mut Context<'_>, now: Instant) {
        self.carrier.traffic().ask_the_system();
        self.poll(context, now, &mut Vec::new());
        self.carrier.traffic().trust_the_runtime();
    }

    /// When something has to be done about the rows that were looked at since this was last asked.
    pub(crate) fn take_next_look(&mut self) -> Option<Instant> {
        self.next.take().into_iter().chain(self.ping_due()).min()
    }

    /// When something has to be done about it, if nothing comes before: all rows are asked.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let rows = self.rows.iter().flatten().filter_map(|row| row.exchange.deadline());
        rows.map(|(at, _)| at).chain(self.ping_due()).min()
    }

    /// Ends the rows that are late, and asks a silent peer whether it is there.
    pub(crate) fn look(&mut self, origin: &Origin, now: Instant, ended: &mut Vec<Ended>) {
        for number in 0..self.rows.len() {
            let Some(Row { exchange, .. }) = &mut self.rows[number] else {
                continue;
            };
            if exchange.waits_no_longer(now) {
                ended.extend(self.poll_row(number, now));
            } else if let Some((at, kind)) = exchange.deadline()
                && at <= now
            {
                let done = exchange.time_out(&mut self.carrier, origin, kind);
                ended.extend(self.end(number, done, now));
            }
        }
        if self.ping_due().is_some_and(|at| at <= now) && self.carrier.ping(now) {
            let span = crate::transport::connect::seconds(self.ping());
            let message = format!("{origin} did not answer a PING within {span}");
            self.give_up(&Fault { kind: Kind::Closed, message: message.into() }, ended);
        }
    }

    /// Lets go of rows. Says whether they were all that it carried.
    pub(crate) fn cancel(
        &mut self,
        which: impl Fn(&Task) -> bool,
        now: Instant,
        ended: &mut Vec<Ended>,
    ) -> bool {
        let own = self.tasks().filter(|task| which(task)).count();
        let others = if self.carrier.open() > own { Others::GoOn } else { Others::None };
        for number in 0..self.rows.len() {
            if let Some(Row { exchange, task, .. }) = &mut self.rows[number]
                && which(task)
            {
                let done = exchange.cancel(&mut self.carrier, others);
                ended.extend(self.end(number, done, now));
            }
        }
        self.carrier.open() == 0
    }

    /// The rows on it, which end with it.
    pub(crate) fn into_tasks(self) -> impl Iterator<Item = Task> {
        self.rows.into_iter().flatten().map(|row| row.task)
    }

    /// After how much silence the peer is asked whether it is there.
    fn ping(&self) -> Option<Duration> {
        self.pings.first_key_value().map(|(ping, _)| *ping)
    }

    fn ping_due(&self) -> Option<Instant> {
        self.carrier.ping_due(self.ping()?)
    }

    fn poll_row(&mut self, number: usize, now: Instant) -> Option<Ended> {
        let (waker, bell) = self.wakers.get(number)?;
        bell.reset();
        let Row { exchange, task, .. } = self.rows.get_mut(number)?.as_mut()?;
        let carrier = &mut self.carrier;
        let mut context = Context::from_waker(waker);
        let done = match catch_unwind(AssertUnwindSafe(|| exchange.poll(carrier, &mut context, now))) {
            Ok(Poll::Pending) => {
                let deadline = exchange.deadline().map(|(at, _)| at);
                self.next = self.next.into_iter().chain(deadline).min();
                return None;
            }
            Ok(Poll::Ready(done)) => done,
            Err(panic) => {
                let in_doubt = !task.job.request.is_idempotent();
                let end = End::Over(Error::of_panic(&*panic).doubtful(in_doubt));
                Done { end, reusable: true, wants_http1: false }
            }
        };
        self.end(number, done, now)
    }

    fn end(&mut self, number: usize, done: Done, now: Instant) -> Option<Ended> {
        let Row { task, ping, .. } = self.rows[number].take()?;
        if let Some(ping) = ping
            && let Entry::Occupied(mut rows) = self.pings.entry(ping)
        {
            *rows.get_mut() -= 1;
            if *rows.get() == 0 {
                rows.remove();
            }
        }
        self.vacant.push(number);
        self.carrier.close_stream(matches!(done.end, End::Answered(_)));
        self.since = now;
        Some(Ended { task, end: done.end, wants_http1: done.wants_http1 })
    }

    fn give_up(&mut self, fault: &Fault, ended: &mut Vec<Ended>) {
        self.abandon(fault, ended);
        self.carrier.close();
    }

    fn abandon(&mut self, fault: &Fault, ended: &mut Vec<Ended>) {
        let now = self.since;
        for number in 0..self.rows.len() {
            if let Some(Row { exchange, .. }) = &mut self.rows[number] {
                let done = exchange.abandon(&mut self.carrier, fault);
                ended.extend(self.end(number, done, now));
            }
        }
    }
}
