//! The connections of one thread: which are free to take, which to close, how many there may be.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::exchange::Exchange;
use crate::job::Job;
use crate::seat::{Bell, Mailbox};
use crate::target::Origin;
use crate::transport::Wire;
use crate::transport::connect::Connecting;

/// How long a connection is kept without work: less than servers keep it, so that they seldom close first.
pub(crate) const IDLE: Duration = Duration::from_secs(15);

/// A peer that closes a connection sooner than this after a response does so by count, not because it was idle.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long no connection is added after the process ran out of descriptors.
const HOLD: Duration = Duration::from_millis(50);

/// All connections of a worker, and what it knows of those it makes them to.
pub(crate) struct Pool {
    mailbox: Arc<Mailbox>,
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    /// How many connections may be open.
    room: usize,
    /// How many may be open until when, after the process ran out of descriptors.
    held: Option<(usize, Instant)>,
    routes: Vec<Route>,
    by_origin: HashMap<Arc<Origin>, usize>,
}

/// A place for a connection, with what wakes the worker for it.
pub(crate) struct Slot {
    pub(crate) waker: Waker,
    pub(crate) bell: Arc<Bell>,
    pub(crate) stage: Stage,
    pub(crate) route: usize,
}

/// What a connection is at.
pub(crate) enum Stage {
    Vacant,
    Connecting { connecting: Connecting, task: Task },
    Busy { wire: Wire, exchange: Box<Exchange>, task: Task },
    Idle { wire: Wire, since: Instant },
}

/// A row that holds a slot of its batch, and the seat it was claimed from.
pub(crate) struct Task {
    pub(crate) seat: usize,
    pub(crate) job: Box<Job>,
    pub(crate) since: Instant,
}

/// What connections are made to, and those without work: the latest used is the last.
pub(crate) struct Route {
    pub(crate) origin: Arc<Origin>,
    pub(crate) authority: String,
    idle: Vec<usize>,
    /// After how many rows the peer was seen to close at once and without a word; rows that must not be sent twice
    /// then take another connection before that.
    closes_after: u32,
}

impl Pool {
    pub(crate) fn new(mailbox: Arc<Mailbox>, room: usize) -> Self {
        Self {
            mailbox,
            slots: Vec::new(),
            vacant: Vec::new(),
            room,
            held: None,
            routes: Vec::new(),
            by_origin: HashMap::new(),
        }
    }

    /// The route to an origin.
    pub(crate) fn route_to(&mut self, origin: &Arc<Origin>) -> usize {
        if let Some(route) = self.by_origin.get(origin) {
            return *route;
        }
        let (origin, authority) = (Arc::clone(origin), origin.authority());
        self.by_origin.insert(Arc::clone(&origin), self.routes.len());
        self.routes.push(Route { origin, authority, idle: Vec::new(), closes_after: u32::MAX });
        self.routes.len() - 1
    }

    pub(crate) fn route(&self, route: usize) -> &Route {
        &self.routes[route]
    }

    /// How many connections to it stand without work.
    pub(crate) fn idle_on(&self, route: usize) -> usize {
        self.routes[route].idle.len()
    }

    /// The slots, vacant ones too.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slot(&self, slot: usize) -> Option<&Slot> {
        self.slots.get(slot)
    }

    pub(crate) fn slot_mut(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    /// A slot and the route it is on.
    pub(crate) fn slot_and_route(&mut self, slot: usize) -> (&mut Slot, &Route) {
        let slot = &mut self.slots[slot];
        let route = &self.routes[slot.route];
        (slot, route)
    }

    /// The connection to the route that was used last, fit for the row.
    ///
    /// A row that must not be sent twice takes none that may be dead: the system is asked just before, and a peer that
    /// was seen to close after so many rows is not trusted beyond them (RFC 9112 §9.3.1).
    pub(crate) fn take_idle(&mut self, route: usize, job: &Job) -> Option<(usize, Wire)> {
        let careful = !job.request.is_idempotent();
        while let Some(slot) = self.routes[route].idle.pop() {
            let stage = std::mem::replace(&mut self.slots[slot].stage, Stage::Vacant);
            let Stage::Idle { wire, .. } = stage else {
                continue;
            };
            if !careful || (wire.served() < self.routes[route].closes_after && wire.is_quiet()) {
                return Some((slot, wire));
            }
            self.vacant.push(slot);
        }
        None
    }

    /// A slot for a new connection; where there is no room, the one that was idle for longest is closed for it.
    pub(crate) fn take_vacant(&mut self) -> usize {
        if self.open() >= self.room {
            self.close_an_idle_one();
        }
        self.vacant.pop().unwrap_or_else(|| {
            let slot = self.slots.len();
            let (waker, bell) = self.mailbox.waker(slot);
            self.slots.push(Slot { waker, bell, stage: Stage::Vacant, route: 0 });
            slot
        })
    }

    /// A connection ended its row and waits for the next.
    pub(crate) fn keep(&mut self, slot: usize, wire: Wire, now: Instant) {
        let own = &mut self.slots[slot];
        let route = &mut self.routes[own.route];
        if wire.served() > route.closes_after {
            route.closes_after = u32::MAX;
        }
        route.idle.push(slot);
        own.stage = Stage::Idle { wire, since: now };
        self.look_at_idle(slot, now);
    }

    /// A connection without work must be quiet: what the peer says now answers nothing (RFC 9112 §9.2), and when it
    /// closes, nothing is to be sent on it.
    pub(crate) fn look_at_idle(&mut self, slot: usize, now: Instant) {
        let own = &mut self.slots[slot];
        let Stage::Idle { wire, since } = &mut own.stage else {
            return;
        };
        let mut byte = [0; 1];
        if wire.poll_read(&mut Context::from_waker(&own.waker), &mut &mut byte[..]).is_pending() {
            return;
        }
        let (served, idle) = (wire.served(), now.saturating_duration_since(*since));
        if idle < AT_ONCE {
            self.closed_unasked(slot, served);
        }
        self.drop_idle(slot);
    }

    /// Closes a connection without work.
    pub(crate) fn drop_idle(&mut self, slot: usize) {
        let route = self.slots[slot].route;
        self.routes[route].idle.retain(|other| *other != slot);
        self.vacate(slot);
    }

    /// The peer closed a connection after so many rows without a word.
    pub(crate) fn closed_unasked(&mut self, slot: usize, served: u32) {
        let route = &mut self.routes[self.slots[slot].route];
        route.closes_after = route.closes_after.min(served.max(1));
    }

    /// Drops what a slot holds, its row apart.
    pub(crate) fn take_task(&mut self, slot: usize) -> Option<Task> {
        match std::mem::replace(&mut self.slots[slot].stage, Stage::Vacant) {
            Stage::Connecting { task, .. } | Stage::Busy { task, .. } => Some(task),
            Stage::Vacant | Stage::Idle { .. } => None,
        }
    }

    pub(crate) fn vacate(&mut self, slot: usize) {
        self.slots[slot].stage = Stage::Vacant;
        self.vacant.push(slot);
    }

    /// Closes every connection.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.vacant.clear();
        self.routes.iter_mut().for_each(|route| route.idle.clear());
    }

    /// The process has no descriptor left: no connection is added for a while. Says until when.
    pub(crate) fn hold_back(&mut self, now: Instant) -> Instant {
        let until = now + HOLD;
        self.held = Some((self.open(), until));
        until
    }

    /// How many connections may be open now.
    pub(crate) fn room(&mut self, now: Instant) -> usize {
        match self.held {
            Some((open, until)) if now < until => open,
            _ => {
                self.held = None;
                self.room
            }
        }
    }

    fn open(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    fn close_an_idle_one(&mut self) {
        let since = |slot: &usize| match self.slots[*slot].stage {
            Stage::Idle { since, .. } => Some(since),
            _ => None,
        };
        let longest =
            self.routes.iter().filter_map(|route| route.idle.first()).min_by_key(|slot| since(slot));
        if let Some(slot) = longest.copied() {
            self.drop_idle(slot);
        }
    }
}
