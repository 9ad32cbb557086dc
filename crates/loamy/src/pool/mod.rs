//! The connections of one thread: which are free to take, which to close, how many there may be.

mod many;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

pub(crate) use many::{Ended, Many, Taken};
use routes::Routes;
pub(crate) use routes::{Route, RouteKey};

use crate::exchange::single::Exchange;
use crate::job::Job;
use crate::seat::{Bell, Mailbox};
use crate::transport::connect::Connecting;
use crate::transport::network::Network;
use crate::transport::tls::Spoken;
use crate::transport::{Heard, Wire};

/// How long a connection is kept without work: less than servers keep it, so that they seldom close first.
pub(crate) const IDLE: Duration = Duration::from_secs(15);

/// A peer that closes a connection sooner than this after a response does so by count, not because it was idle.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A connection is new for so many rows: a peer that says what nobody asked for says it from the beginning.
const NEW: u32 = 16;

/// How long no connection is added after the process ran out of descriptors.
const HOLD: Duration = Duration::from_millis(50);

/// How long no further connection is tried where one could not be made and others stand.
const ENOUGH: Duration = Duration::from_secs(1);

/// All connections of a worker, and what it knows of those it makes them to.
pub(crate) struct Pool {
    mailbox: Arc<Mailbox>,
    network: Arc<Network>,
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    /// How many connections may be open.
    room: usize,
    /// How many may be open until when, after the process ran out of descriptors.
    held: Option<(usize, Instant)>,
    routes: Routes,
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
    Many(Box<Many>),
}

/// A row that holds a slot of its batch, and the seat it was claimed from.
pub(crate) struct Task {
    pub(crate) seat: usize,
    pub(crate) job: Box<Job>,
    pub(crate) since: Instant,
}

/// Where a row goes that may share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this one.
    On(usize),
    /// On a new one.
    New,
    /// On one that is being made, or where a stream becomes free.
    Later,
}

/// How many connections and streams a row may make use of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) connections: usize,
    pub(crate) streams: usize,
}

impl Pool {
    pub(crate) fn new(mailbox: Arc<Mailbox>, network: Arc<Network>, room: usize) -> Self {
        Self {
            mailbox,
            network,
            slots: Vec::new(),
            vacant: Vec::new(),
            room,
            held: None,
            routes: Routes::default(),
        }
    }

    /// The route to an origin.
    pub(crate) fn route_to(&mut self, key: RouteKey) -> usize {
        self.routes.to(key)
    }

    /// A batch has rows that go there: what was learned of the peer is kept until it is over.
    pub(crate) fn name(&mut self, route: usize) {
        self.routes.name(route);
    }

    /// A batch that named it is over.
    pub(crate) fn unname(&mut self, route: usize) {
        self.routes.unname(route);
    }

    /// Forgets the routes that nobody has a use for, the last of them apart. Nobody may have the number of one in hand meanwhile.
    pub(crate) fn forget_routes(&mut self) {
        self.routes.forget();
    }

    pub(crate) fn route(&self, route: usize) -> &Route {
        &self.routes[route]
    }

    /// How many rows the connections to it could take that stand already.
    pub(crate) fn room_on(&self, route: usize, streams: usize) -> usize {
        let own = &self.routes[route];
        let shared = own.shared.iter().filter_map(|slot| self.many(*slot));
        let streams =
            shared.map(|many| many.carrier().allowed().min(streams).saturating_sub(many.carrier().open()));
        own.idle.len() + streams.sum::<usize>()
    }

    /// How long it takes until there is a connection for the row; None where one is ready that was promised to no other.
    pub(crate) fn lead(&self, route: usize, job: &Job, streams: usize) -> Option<Duration> {
        let own = &self.routes[route];
        let is_ready =
            !job.on_new_connection && own.waiting.is_empty() && self.room_on(route, streams) > own.promised;
        (!is_ready).then(|| own.lead())
    }

    /// A row that is about to be sent takes one of those that are ready.
    pub(crate) fn promise(&mut self, route: usize) {
        self.routes[route].promised += 1;
    }

    /// It has taken it.
    pub(crate) fn keep_promises(&mut self, route: usize) {
        self.routes[route].promised = 0;
    }

    /// Where a row goes whose peer speaks HTTP/2, or may do so.
    ///
    /// One connection goes first and tells what is spoken and how many streams there may be; then as many are made as
    /// the rows need that wait. Rows are spread evenly over those that have room.
    pub(crate) fn place(&mut self, route: usize, job: &Job, share: Share, now: Instant) -> Place {
        if !job.request.is_idempotent() {
            self.look_at_shared_idle(route, now);
        }
        let own = &self.routes[route];
        let standing = || own.shared.iter().filter_map(|slot| Some((*slot, self.many(*slot)?.carrier())));
        let with_room = || standing().filter(|(_, carrier)| carrier.has_room(share.streams));
        let best = with_room()
            .filter(|(_, carrier)| !job.on_new_connection || carrier.served() == 0)
            .min_by_key(|(_, carrier)| carrier.open());
        if let Some((slot, _)) = best {
            return Place::On(slot);
        }
        let open = standing().filter(|(_, carrier)| !carrier.is_closing()).count();
        let coming = own.connecting + standing().filter(|(_, carrier)| carrier.is_fresh()).count();
        let streams = own.allowed.unwrap_or(share.streams).min(share.streams);
        let is_unknown = own.speaks.is_none() && own.connecting > 0;
        let is_enough = coming > 0 && own.waiting.len() + coming < coming * streams;
        let is_all = open + own.connecting > 0
            && (open + own.connecting >= share.connections || streams == 0 || own.has_enough(now));
        if is_unknown || is_enough {
            return Place::Later;
        }
        if !is_all {
            return Place::New;
        }
        // Where no new connection may be, one that served others has to do.
        with_room().map(|(slot, _)| Place::On(slot)).next().unwrap_or(Place::Later)
    }

    /// A connection could not be made. Where others stand that rows share, those that wait can do without it: says until when
    /// no other is tried.
    pub(crate) fn make_do(&mut self, route: usize, now: Instant) -> Option<Instant> {
        let own = &self.routes[route];
        let mut shared = own.shared.iter().filter_map(|slot| self.many(*slot));
        if !shared.any(|many| !many.carrier().is_closing()) {
            return None;
        }
        let until = now + ENOUGH;
        self.routes[route].enough_until = Some(until);
        Some(until)
    }

    /// Until when no other is tried.
    pub(crate) fn makes_do_until(&self, route: usize) -> Option<Instant> {
        self.routes[route].enough_until
    }

    /// Whether that has passed; the first time alone.
    pub(crate) fn is_to_try_again(&mut self, route: usize, now: Instant) -> bool {
        self.routes[route].enough_until.take_if(|until| *until <= now).is_some()
    }

    /// A connection is being made.
    pub(crate) fn connecting(&mut self, slot: usize, route: usize, connecting: Connecting, mut task: Task) {
        task.job.lapse();
        self.routes[route].connecting += 1;
        self.routes.opened(route);
        let own = &mut self.slots[slot];
        own.route = route;
        own.stage = Stage::Connecting { connecting, task };
    }

    /// A connection stands; hands over the row that it was made for.
    pub(crate) fn connected(&mut self, slot: usize, spoken: Spoken, now: Instant) -> Option<Task> {
        let route = self.slots[slot].route;
        let task = self.take_task(slot)?;
        let own = &mut self.routes[route];
        own.speaks = Some(spoken);
        own.took(now.saturating_duration_since(task.since));
        Some(task)
    }

    /// A connection that rows share stands.
    pub(crate) fn share(&mut self, slot: usize, many: Many) {
        let own = &mut self.slots[slot];
        self.routes[own.route].shared.push(slot);
        own.stage = Stage::Many(Box::new(many));
    }

    /// Learns from a shared connection what the peer allows, and drops it where it is over.
    pub(crate) fn look_at_shared(&mut self, slot: usize) {
        let own = &self.slots[slot];
        let Stage::Many(many) = &own.stage else {
            return;
        };
        if !many.carrier().is_fresh() {
            self.routes[own.route].allowed = Some(many.carrier().allowed());
        }
        if many.is_over() {
            self.drop_shared(slot);
        }
    }

    /// Closes a shared connection; its rows end with it.
    pub(crate) fn drop_shared(&mut self, slot: usize) -> Option<Box<Many>> {
        let route = self.slots[slot].route;
        let Stage::Many(many) = std::mem::replace(&mut self.slots[slot].stage, Stage::Vacant) else {
            return None;
        };
        self.routes[route].shared.retain(|other| *other != slot);
        self.let_go(slot);
        Some(many)
    }

    /// The row waits for a stream.
    pub(crate) fn wait(&mut self, route: usize, mut task: Task) {
        task.job.lapse();
        self.routes.wait(route, task);
    }

    /// Hands over the rows that wait for a stream; to be put back where they still have to.
    pub(crate) fn take_waiting(&mut self, route: usize) -> VecDeque<Task> {
        self.routes.take_waiting(route)
    }

    /// The routes with rows that wait.
    pub(crate) fn with_waiting(&self) -> Vec<usize> {
        self.routes.with_waiting().collect()
    }

    #[cfg(test)]
    pub(crate) fn known_routes(&self) -> usize {
        self.routes.len()
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
    /// It takes none on which something has come that it would take for its answer (RFC 9112 §9.2): while a connection is new, the
    /// system is asked just before. If it must not be sent twice it takes none that may be dead either: the system is always asked, and
    /// a peer that was seen to close after so many rows is not trusted beyond them (RFC 9112 §9.3.1).
    pub(crate) fn take_idle(&mut self, route: usize, job: &Job) -> Option<(usize, Wire)> {
        let is_careful = !job.request.is_idempotent();
        let most = if is_careful { self.routes[route].closes_after } else { u32::MAX };
        while let Some(slot) = self.routes[route].idle.pop() {
            let stage = std::mem::replace(&mut self.slots[slot].stage, Stage::Vacant);
            let Stage::Idle { mut wire, .. } = stage else {
                continue;
            };
            let is_asked = is_careful || wire.served() <= NEW;
            if wire.served() < most
                && self.may_carry_another(route, &wire)
                && (!is_asked || self.is_quiet(slot, &mut wire))
            {
                return Some((slot, wire));
            }
            self.let_go(slot);
        }
        None
    }

    /// A slot for a new connection; where there is no room, the one that was idle for longest is closed for it.
    pub(crate) fn take_vacant(&mut self, now: Instant) -> usize {
        if self.open() >= self.room(now) {
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
        let number = own.route;
        if !self.may_carry_another(number, &wire) {
            return self.vacate(slot);
        }
        self.routes[number].idle.push(slot);
        self.slots[slot].stage = Stage::Idle { wire, since: now };
        self.look_at_idle(slot, now);
    }

    /// Whether the next row may go on it as well: what comes from a peer that spoke unasked would be taken for its answer.
    fn may_carry_another(&self, route: usize, wire: &Wire) -> bool {
        wire.served() == 0 || !self.network.speaks_unasked(&self.routes[route].key.origin)
    }

    /// Whether the peer has neither closed it nor sent anything.
    fn is_quiet(&mut self, slot: usize, wire: &mut Wire) -> bool {
        let heard = wire.hear_now(&mut Context::from_waker(&self.slots[slot].waker));
        if heard == Heard::Unasked {
            self.spoke_unasked(slot);
        }
        heard == Heard::Nothing
    }

    /// A connection without work must be quiet: what the peer says now answers nothing (RFC 9112 §9.2), and when it
    /// closes, nothing is to be sent on it.
    pub(crate) fn look_at_idle(&mut self, slot: usize, now: Instant) {
        let own = &mut self.slots[slot];
        let Stage::Idle { wire, since } = &mut own.stage else {
            return;
        };
        let heard = wire.hear(&mut Context::from_waker(&own.waker));
        let (served, idle) = (wire.served(), now.saturating_duration_since(*since));
        match heard {
            Heard::Nothing => return,
            Heard::End if idle < AT_ONCE => self.closed_unasked(slot, served),
            Heard::End => {}
            Heard::Unasked => self.spoke_unasked(slot),
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

    /// The peer sent what answers nothing: none of its connections carries a second row from here on.
    pub(crate) fn spoke_unasked(&mut self, slot: usize) {
        let route = self.slots[slot].route;
        self.network.spoke_unasked(&self.routes[route].key.origin);
    }

    /// Drops what a slot holds, its row apart.
    pub(crate) fn take_task(&mut self, slot: usize) -> Option<Task> {
        let own = &mut self.slots[slot];
        match std::mem::replace(&mut own.stage, Stage::Vacant) {
            Stage::Connecting { task, .. } => {
                self.routes[own.route].connecting -= 1;
                Some(task)
            }
            Stage::Busy { task, .. } => Some(task),
            Stage::Vacant | Stage::Idle { .. } | Stage::Many(_) => None,
        }
    }

    pub(crate) fn vacate(&mut self, slot: usize) {
        self.slots[slot].stage = Stage::Vacant;
        self.let_go(slot);
    }

    /// Closes every connection.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.vacant.clear();
        self.routes = Routes::default();
    }

    /// The process has no descriptor left: no connection is added for a while. Says until when.
    pub(crate) fn hold_back(&mut self, now: Instant) -> Instant {
        let until = now + HOLD;
        self.held = Some((self.open(), until));
        until
    }

    /// Until when no connection is added.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held.map(|(_, until)| until).filter(|until| *until > now)
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

    /// The slot is free for a connection to anywhere.
    fn let_go(&mut self, slot: usize) {
        self.routes.closed(self.slots[slot].route);
        self.vacant.push(slot);
    }

    fn open(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    fn many(&self, slot: usize) -> Option<&Many> {
        match &self.slots[slot].stage {
            Stage::Many(many) => Some(many),
            _ => None,
        }
    }

    /// Has the shared connections without rows looked at: the peer may have closed one in this moment.
    fn look_at_shared_idle(&mut self, route: usize, now: Instant) {
        for slot in self.routes[route].shared.clone() {
            let own = &mut self.slots[slot];
            if let Stage::Many(many) = &mut own.stage
                && many.idle_since().is_some()
            {
                many.poll_past_the_runtime(&mut Context::from_waker(&own.waker), now);
                self.look_at_shared(slot);
            }
        }
    }

    fn close_an_idle_one(&mut self) {
        let idle_since = |own: &Slot| match &own.stage {
            Stage::Idle { since, .. } => Some(*since),
            Stage::Many(many) => many.idle_since(),
            _ => None,
        };
        let slots = self.slots.iter().enumerate();
        let longest = slots.filter_map(|(slot, own)| Some((idle_since(own)?, slot))).min();
        match longest {
            Some((_, slot)) if matches!(self.slots[slot].stage, Stage::Many(_)) => _ = self.drop_shared(slot),
            Some((_, slot)) => self.drop_idle(slot),
            None => {}
        }
    }
}
