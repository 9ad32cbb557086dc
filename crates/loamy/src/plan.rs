//! Who is next: a queue for each origin, and whose turn it is. Incremental, so that rows may come at any time.
//!
//! A queue is in one of three states. It has a **turn** while its first row could take a slot. It is **asleep** while that row has
//! to wait for a moment that is known: a rate, a pause, a failure to connect. Else something must happen first: a row
//! comes, one of its rows in flight ends. What concerns a meter (a rate, a quota) puts all queues to sleep that belong to it, at once.

mod intents;
mod lane;
mod placing;
mod ranks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::intents::Ahead;
pub(crate) use self::intents::Asked;
use self::lane::{Lane, Nearest};
use self::ranks::{Firsts, Own};
use crate::Policy;
use crate::backoff::Jitter;
use crate::gate::{Cost, Gate, Limits, Meter};
use crate::job::{Again, Job, OriginId, Permit};
use crate::limiter::Admission;
use crate::rate::Scope;
use crate::target::Origin;

/// A meter, with the queues that belong to it: one, or all with its `limit_key`.
#[derive(Debug)]
struct Metered {
    meter: Meter,
    /// The first of them; what a pause of the meter is called by.
    lane: OriginId,
    asleep_until: Option<Instant>,
    /// Those that may have another row in flight, as far as it is theirs to say.
    turns: Own,
    /// Those with rows whose intent may be asked for: fewest ahead first.
    asking: Own,
    /// Its rows among those that are sent again later.
    later: BTreeSet<(Instant, usize)>,
}

/// Who sleeps: one queue, or all of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sleeper {
    Lane(OriginId),
    Meter(usize),
}

/// The rows of one `limit_key`.
#[derive(Debug)]
struct Keyed {
    meter: usize,
    by_origin: HashMap<Arc<Origin>, OriginId>,
}

/// Who is next.
#[derive(Debug)]
pub(crate) enum Next {
    Row(Box<Job>),
    /// Nobody's turn comes before something happens, or time passes.
    Nobody,
    /// The rows that wait for this origin are not to be sent: it takes none before then, which is later than any row waits.
    GiveUp(OriginId, Instant),
}

/// The waiting rows of a batch.
#[derive(Debug)]
pub(crate) struct Plan {
    policy: Arc<Policy>,
    /// When the batch has to have ended.
    deadline: Option<Instant>,
    jitter: Jitter,
    lanes: Vec<Lane>,
    meters: Vec<Metered>,
    by_origin: HashMap<Arc<Origin>, OriginId>,
    by_key: HashMap<Box<str>, Keyed>,
    /// The lanes that may have another row in flight, the first of each meter: fewest in flight first, then longest
    /// unserved. Slots are so shared max-min over origins with work. Kept only where there are two lanes or more.
    turns: Firsts,
    served: u64,
    waiting: usize,
    ahead: Ahead,
    /// The limits of the batch as a whole, and until when they let nothing pass.
    limits: Limits,
    held_until: Option<Instant>,
    asleep: BTreeSet<(Instant, Sleeper)>,
    /// Rows that are sent again once their time has come.
    later: BTreeMap<(Instant, usize), Box<Job>>,
    /// The scheme and authority of the row before, as typed: the next row's mostly is the same and need not be parsed.
    before: Option<(String, OriginId)>,
    /// How often a queue was looked at.
    #[cfg(test)]
    visits: u64,
}

impl Plan {
    pub(crate) fn new(policy: Arc<Policy>, deadline: Option<Instant>, jitter: Jitter) -> Self {
        Self {
            limits: Limits::new(&policy, Scope::Batch),
            policy,
            deadline,
            jitter,
            lanes: Vec::new(),
            meters: Vec::new(),
            by_origin: HashMap::new(),
            by_key: HashMap::new(),
            turns: Firsts::default(),
            served: 0,
            waiting: 0,
            ahead: Ahead::default(),
            held_until: None,
            asleep: BTreeSet::new(),
            later: BTreeMap::new(),
            before: None,
            #[cfg(test)]
            visits: 0,
        }
    }

    pub(crate) fn origin(&self, id: OriginId) -> &Arc<Origin> {
        &self.lanes[id.0 as usize].origin
    }

    /// Whom a pause or a limit of this origin concerns, for a person to read.
    pub(crate) fn name(&self, id: OriginId) -> String {
        let lane = &self.lanes[id.0 as usize];
        match &lane.key {
            Some(key) => format!("{} ({key})", lane.origin),
            None => lane.origin.to_string(),
        }
    }

    /// What the origin is held to.
    pub(crate) fn meter(&mut self, id: OriginId) -> &mut Meter {
        &mut self.meters[self.lanes[id.0 as usize].meter].meter
    }

    /// Whether too many failed there.
    pub(crate) fn is_broken(&self, id: OriginId) -> bool {
        self.meters[self.lanes[id.0 as usize].meter].meter.failures.is_open()
    }

    /// Rows that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting + self.later.len()
    }

    /// Rows that wait for the time to be sent again.
    pub(crate) fn later(&self) -> usize {
        self.later.len()
    }

    pub(crate) fn push(&mut self, job: Box<Job>, gate: &Gate) {
        let id = job.origin;
        self.lanes[id.0 as usize].queue.push_back(job);
        self.meter(id).budget.row();
        self.count(id, 1);
        self.update(id, gate);
    }

    /// Takes in a row that was sent before. It goes before all that were not, and behind those that began before it.
    pub(crate) fn push_again(&mut self, job: Box<Job>, gate: &Gate) {
        let id = job.origin;
        self.lanes[id.0 as usize].again.insert((job.started, job.index), job);
        self.count(id, 1);
        self.update(id, gate);
    }

    /// Keeps a row until its time has come.
    pub(crate) fn push_later(&mut self, at: Instant, job: Box<Job>) {
        let meter = self.lanes[job.origin.0 as usize].meter;
        self.meters[meter].later.insert((at, job.index));
        self.later.insert((at, job.index), job);
    }

    /// Nothing goes to the origin until then.
    pub(crate) fn pause(&mut self, id: OriginId, until: Instant, gate: &Gate) {
        let lane = &mut self.lanes[id.0 as usize];
        let until = lane.asleep_until.map_or(until, |already| already.max(until));
        if let Some(already) = lane.asleep_until.replace(until) {
            self.asleep.remove(&(already, Sleeper::Lane(id)));
        }
        self.asleep.insert((until, Sleeper::Lane(id)));
        self.update(id, gate);
    }

    /// Nothing goes by the meter until then.
    fn pause_meter(&mut self, meter: usize, until: Instant) {
        let own = &mut self.meters[meter];
        if let Some(already) = own.asleep_until.replace(until) {
            self.asleep.remove(&(already, Sleeper::Meter(meter)));
        }
        self.asleep.insert((until, Sleeper::Meter(meter)));
        self.show(meter);
    }

    /// What slept until now sleeps no more.
    pub(crate) fn wake(&mut self, now: Instant, gate: &Gate) {
        self.held_until = self.held_until.filter(|until| *until > now);
        while let Some((until, sleeper)) = self.asleep.first().copied()
            && until <= now
        {
            self.asleep.pop_first();
            match sleeper {
                Sleeper::Lane(id) => {
                    self.lanes[id.0 as usize].asleep_until = None;
                    self.update(id, gate);
                }
                Sleeper::Meter(meter) => {
                    self.meters[meter].asleep_until = None;
                    self.show(meter);
                }
            }
        }
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let (place, job) = entry.remove_entry();
            let meter = self.lanes[job.origin.0 as usize].meter;
            self.meters[meter].later.remove(&place);
            self.push_again(job, gate);
        }
    }

    /// When [`wake`](Self::wake) has something to do that matters.
    pub(crate) fn next_event(&self, gate: &Gate) -> Option<Instant> {
        if gate.is_full() {
            return None;
        }
        let asleep = self.asleep.first().map(|(until, _)| *until);
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        [self.held_until, asleep, later].into_iter().flatten().min()
    }

    /// Whether any row could take a slot.
    pub(crate) fn has_turn(&self, gate: &Gate) -> bool {
        self.held_until.is_none()
            && match self.lanes.as_slice() {
                [only] => self.is_ready(only, gate),
                _ => !self.turns.is_empty(),
            }
    }

    /// The next row, with its slot taken. `prefer` is the origin of a connection that is ready: it goes on being
    /// served while no other origin has fewer rows in flight. `lead` says how long it takes until there is a connection for a row,
    /// or None where one is ready.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        prefer: Option<OriginId>,
        lead: impl Fn(&Job) -> Option<Duration>,
        gate: &mut Gate,
    ) -> Next {
        if self.held_until.is_some() {
            return Next::Nobody;
        }
        while let Some(id) = self.whose_turn(prefer, gate) {
            let lane = &mut self.lanes[id.0 as usize];
            let meter = &mut self.meters[lane.meter].meter;
            let Some(job) = lane.front_mut() else {
                break;
            };
            debug_assert!(!meter.failures.is_open(), "no row waits for whom too many failed");
            let waiting = meter.waiting;
            let by_word = match hear(meter, now, waiting, &self.policy, self.deadline) {
                Word::Now => Admission::Ready,
                Word::Later(until) => Admission::NotBefore(until),
                Word::TooLate(until) => return Next::GiveUp(id, until),
            };
            let lead = lead(job);
            if let Admission::NotBefore(until) = by_word.and(meter.admits_by_limits(now, lead, job)) {
                let meter = lane.meter;
                self.pause_meter(meter, until);
                continue;
            }
            if let Admission::NotBefore(until) = self.limits.check(now, lead, job) {
                self.held_until = Some(until);
                break;
            }
            match lead {
                None => {
                    job.permit = Permit::Given;
                    self.limits.take(now, job);
                    meter.take(now, job);
                }
                Some(lead) => {
                    (job.permit, job.sent_at) = (Permit::Reserved, None);
                    self.limits.reserve(now, lead, job);
                    meter.reserve(now, lead, job);
                    lane.gate.reserve();
                }
            }
            gate.take(&mut lane.gate);
            let job = match lane.nearest() {
                Some(Nearest::Again) => lane.again.pop_first().map(|(_, job)| job),
                Some(Nearest::Intent) => self.take_ready(id),
                Some(Nearest::Queue) => lane.queue.pop_front(),
                None => None,
            };
            let Some(job) = job else {
                break;
            };
            self.served += 1;
            self.count(id, -1);
            self.update(id, gate);
            return Next::Row(job);
        }
        Next::Nobody
    }

    /// Whether a row may still go that got its slot before there was a connection for it. Now there is one.
    pub(crate) fn renew(&mut self, now: Instant, job: &mut Job, gate: &Gate) -> bool {
        self.stops_waiting(job);
        let lane = &self.lanes[job.origin.0 as usize];
        let meter = &mut self.meters[lane.meter].meter;
        let waiting = meter.waiting + 1;
        let may_go = !meter.failures.is_open()
            && lane.gate.is_new_volley(now)
            && lane.gate.in_flight() <= gate.allows(&lane.gate)
            && meter.has_room_for(job)
            && hear(meter, now, waiting, &self.policy, self.deadline) == Word::Now
            && meter.admits_by_limits(now, None, job) == Admission::Ready
            && self.limits.check(now, None, job) == Admission::Ready;
        if may_go {
            job.permit = Permit::Given;
            self.limits.take(now, job);
            meter.pay(now, job);
        }
        may_go
    }

    /// The slot of a row is free again.
    pub(crate) fn give_back(&mut self, job: &mut Job, gate: &mut Gate) {
        if self.stops_waiting(job) {
            self.release(job);
        }
        gate.give_back(&mut self.lanes[job.origin.0 as usize].gate);
        self.meter(job.origin).give_back();
        self.update(job.origin, gate);
    }

    /// The row has a connection, or will have none. Says whether it was to have one.
    fn stops_waiting(&mut self, job: &mut Job) -> bool {
        let was_to = job.permit == Permit::Reserved;
        if was_to {
            job.permit = Permit::Lapsed;
            let lane = &mut self.lanes[job.origin.0 as usize];
            lane.gate.release();
            self.meters[lane.meter].meter.stops_waiting();
        }
        was_to
    }

    /// Others may have what the row was to take.
    fn release(&mut self, job: &Job) {
        let meter = self.lanes[job.origin.0 as usize].meter;
        self.meters[meter].meter.release(job);
        self.limits.release(job);
        if self.policy.limits.is_empty() {
            return;
        }
        self.held_until = None;
        if let Some(until) = self.meters[meter].asleep_until.take() {
            self.asleep.remove(&(until, Sleeper::Meter(meter)));
        }
        self.show(meter);
    }

    /// A connection to the origin stands.
    pub(crate) fn proved(&mut self, id: OriginId, proofs: usize, gate: &Gate) {
        self.lanes[id.0 as usize].gate.proved(proofs);
        self.update(id, gate);
    }

    /// A response came from the origin, to a row that was sent then.
    pub(crate) fn answered(&mut self, id: OriginId, sent: Option<Instant>, gate: &Gate) {
        self.lanes[id.0 as usize].gate.answered(sent);
        self.update(id, gate);
    }

    /// How often in a row the peer has asked for calm before this, which it does with what was sent to it then; None where that is
    /// only one more word of the last time.
    pub(crate) fn calms_before(&self, id: OriginId, sent: Instant) -> Option<u32> {
        let gate = &self.lanes[id.0 as usize].gate;
        gate.is_new_volley(sent).then(|| gate.calms())
    }

    /// The peer has too much to do: nothing goes to it until then, and fewer at once after that.
    pub(crate) fn asked_for_calm(&mut self, id: OriginId, until: Instant, gate: &Gate) {
        self.lanes[id.0 as usize].gate.asked_for_calm(until);
        self.pause(id, until, gate);
    }

    /// The peer refused a row that it did not look at: fewer go there at once from here on.
    pub(crate) fn refused(&mut self, id: OriginId, gate: &Gate) {
        self.lanes[id.0 as usize].gate.refused();
        self.update(id, gate);
    }

    /// No connection could be made: says how many waiting rows share that fate.
    pub(crate) fn failed_to_connect(&mut self, id: OriginId, cost: Cost, gate: &Gate) -> usize {
        let shared = self.lanes[id.0 as usize].gate.failed_to_connect(cost);
        self.update(id, gate);
        shared
    }

    /// Takes out the first so many rows that wait for the origin, those of them that are alike.
    pub(crate) fn take_first(
        &mut self,
        id: OriginId,
        most: usize,
        alike: impl Fn(&Job) -> bool,
        gate: &Gate,
    ) -> VecDeque<Box<Job>> {
        let ahead = self.ahead_of(id);
        let lane = &mut self.lanes[id.0 as usize];
        let most = most.min(lane.again.len() + lane.queue.len() + lane.intents.len());
        let mut taken = VecDeque::with_capacity(most);
        let mut left = Vec::new();
        while taken.len() < most
            && let Some((place, job)) = lane.again.pop_first()
        {
            if alike(&job) { taken.push_back(job) } else { left.push((place, job)) }
        }
        lane.again.extend(left);
        let [ready, asked, unsure] = lane.intents.queues();
        for queue in [&mut lane.queue, ready, asked, unsure] {
            let mut left = Vec::new();
            while taken.len() < most
                && let Some(job) = queue.pop_front()
            {
                if alike(&job) { taken.push_back(job) } else { left.push(job) }
            }
            left.into_iter().rev().for_each(|job| queue.push_front(job));
        }
        self.recount_ahead(id, ahead);
        self.count(id, -(taken.len() as isize));
        self.update(id, gate);
        taken
    }

    /// Takes out every row that waits for what the origin's meter holds, those that are sent again later too.
    pub(crate) fn take_metered(&mut self, id: OriginId, gate: &Gate) -> VecDeque<Box<Job>> {
        let lane = &self.lanes[id.0 as usize];
        let own = &mut self.meters[lane.meter];
        let later: Vec<_> =
            std::mem::take(&mut own.later).iter().filter_map(|place| self.later.remove(place)).collect();
        let lanes: Vec<OriginId> = match lane.key.as_ref().and_then(|key| self.by_key.get(key)) {
            Some(keyed) => keyed.by_origin.values().copied().collect(),
            None => vec![id],
        };
        let queued = lanes.into_iter().flat_map(|id| self.take_first(id, usize::MAX, |_| true, gate));
        let mut taken: VecDeque<_> = queued.collect();
        taken.extend(later);
        // As they were given, whichever of these hosts they go to.
        taken.make_contiguous().sort_unstable_by_key(|job| job.index);
        taken
    }

    /// Takes one row out that was sent before.
    pub(crate) fn take(&mut self, again: Again, gate: &Gate) -> Option<Box<Job>> {
        let id = again.origin;
        let job = self.lanes[id.0 as usize].again.remove(&(again.started, again.index))?;
        self.count(id, -1);
        self.update(id, gate);
        Some(job)
    }

    /// Takes out every row that waits.
    pub(crate) fn drain(&mut self) -> VecDeque<Box<Job>> {
        self.turns.clear();
        self.asleep.clear();
        self.held_until = None;
        self.waiting = 0;
        for own in &mut self.meters {
            own.meter.waiting = 0;
            own.asleep_until = None;
            own.turns.clear();
            own.later.clear();
        }
        self.nobody_asks();
        let queued = self.lanes.iter_mut().flat_map(|lane| {
            lane.turn = None;
            lane.asleep_until = None;
            let [ready, asked, unsure] = lane.intents.queues();
            let intents = ready.drain(..).chain(asked.drain(..)).chain(unsure.drain(..));
            let again = std::mem::take(&mut lane.again).into_values();
            again.chain(lane.queue.drain(..)).chain(intents)
        });
        queued.chain(std::mem::take(&mut self.later).into_values()).collect()
    }

    /// How long the rows that wait will take at the least, by all limits, pauses and times to be sent again that are known.
    pub(crate) fn at_least(&mut self, now: Instant) -> Duration {
        let waiting = self.waiting();
        let each = self.meters.iter_mut().filter(|own| own.meter.waiting > 0);
        let by_limits = each.map(|own| own.meter.at_least(now)).fold(self.limits.at_least(waiting), Ord::max);
        let last = self.later.last_key_value().map(|((at, _), _)| at.saturating_duration_since(now));
        by_limits.max(last.unwrap_or_default())
    }

    /// The origins that take no row now, by their own word, and until when.
    pub(crate) fn paused(&mut self, now: Instant) -> Vec<(String, Instant)> {
        let until = self.meters.iter_mut().map(|own| own.meter.paused_until(now)).collect::<Vec<_>>();
        let paused = self.meters.iter().zip(until);
        paused.filter_map(|(own, until)| Some((self.name(own.lane), until?))).collect()
    }

    fn whose_turn(&self, prefer: Option<OriginId>, gate: &Gate) -> Option<OriginId> {
        if let [only] = self.lanes.as_slice() {
            return self.is_ready(only, gate).then_some(OriginId(0));
        }
        let ((fewest, _), first) = self.turns.first()?;
        let goes_on = |id: &OriginId| {
            let lane = &self.lanes[id.0 as usize];
            lane.turn.is_some_and(|(in_flight, _)| in_flight <= fewest)
                && self.meters[lane.meter].turns.is_shown()
        };
        Some(prefer.filter(goes_on).unwrap_or(first))
    }

    fn is_ready(&self, lane: &Lane, gate: &Gate) -> bool {
        let own = &self.meters[lane.meter];
        own.asleep_until.is_none() && own.meter.has_room() && lane.is_ready(gate)
    }

    fn is_asleep(&self, lane: &Lane) -> bool {
        lane.asleep_until.is_some() || self.meters[lane.meter].asleep_until.is_some()
    }

    fn count(&mut self, id: OriginId, rows: isize) {
        self.waiting = self.waiting.wrapping_add_signed(rows);
        let meter = self.meter(id);
        meter.waiting = meter.waiting.wrapping_add_signed(rows);
    }

    /// Something changed that may give the lane a turn or take it away, or its meter.
    fn update(&mut self, id: OriginId, gate: &Gate) {
        #[cfg(test)]
        {
            self.visits += 1;
        }
        self.list(id, gate);
        if self.lanes.len() < 2 {
            return;
        }
        let lane = &mut self.lanes[id.0 as usize];
        let in_flight = lane.gate.in_flight();
        let wanted = match lane.turn {
            _ if !lane.is_ready(gate) => None,
            Some(turn) if turn.0 == in_flight => Some(turn),
            _ => Some((in_flight, self.served)),
        };
        let stands = std::mem::replace(&mut lane.turn, wanted);
        if stands != wanted {
            self.meters[lane.meter].turns.rank(id, stands, wanted);
        }
        let meter = lane.meter;
        self.show(meter);
    }

    /// Something changed that may let the queues of the meter come first among all, or keep them from it.
    fn show(&mut self, meter: usize) {
        let own = &mut self.meters[meter];
        let is_awake = own.asleep_until.is_none();
        own.turns.show(&mut self.turns, is_awake && own.meter.has_room());
        own.asking.show(&mut self.ahead.asking, is_awake);
    }
}

/// What an origin says to a row that would go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Now,
    Later(Instant),
    /// That is later than any row waits.
    TooLate(Instant),
}

fn hear(meter: &mut Meter, now: Instant, waiting: usize, policy: &Policy, deadline: Option<Instant>) -> Word {
    let latest = now.checked_add(policy.max_pause).into_iter().chain(deadline).min();
    let Admission::NotBefore(until) = meter.admits_by_word(now, waiting, latest) else {
        return Word::Now;
    };
    let is_too_late = |at: &Instant| latest.is_some_and(|latest| *at > latest);
    match meter.paused_until(now).filter(is_too_late) {
        Some(until) => Word::TooLate(until),
        None => Word::Later(until),
    }
}
