//! Rows that must be on record before they are sent: who is put on record next, and how far ahead of the slots.

use std::collections::{BTreeSet, VecDeque};

use super::Plan;
use super::ranks::{Firsts, Rank};
use crate::gate::Gate;
use crate::job::{Job, OriginId};

/// Rows of one origin that sending twice could harm. They wait here without a slot.
#[derive(Debug, Default)]
pub(super) struct Intents {
    /// Their intent was not asked for yet.
    unsure: VecDeque<Box<Job>>,
    /// Their intent is on its way to the record.
    asked: VecDeque<Box<Job>>,
    /// Their intent is on record: they may take a slot.
    ready: VecDeque<Box<Job>>,
    /// Its place among those of its meter that may ask.
    asks: Option<Rank>,
    /// Its place among those that are ahead and may take rows back.
    spare: Option<usize>,
}

/// What the record is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// That the row is about to be sent.
    Intend(usize),
    /// That it is not, after all.
    TakeBack(usize),
}

/// Of all origins together.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Rows whose intent was asked for and that have not taken a slot since. A process that ends leaves each of them in
    /// doubt, so there are never more than slots.
    rows: usize,
    /// The origins that may ask for an intent, the first of each meter: fewest ahead first.
    pub(super) asking: Firsts,
    /// The origins with rows that are on record and have no slot: as many as there are slots at the most.
    spare: BTreeSet<(usize, OriginId)>,
    /// What was asked for, in that order, which is that of the answers.
    order: VecDeque<(usize, OriginId)>,
}

impl Intents {
    /// Rows that wait, in the order of how near their turn is.
    pub(super) fn queues(&mut self) -> [&mut VecDeque<Box<Job>>; 3] {
        [&mut self.ready, &mut self.asked, &mut self.unsure]
    }

    pub(super) fn len(&self) -> usize {
        self.unsure.len() + self.ahead()
    }

    /// The next row that may take a slot.
    pub(super) fn front(&self) -> Option<&Job> {
        self.ready.front().map(|job| &**job)
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Box<Job>> {
        self.ready.front_mut()
    }

    fn ahead(&self) -> usize {
        self.asked.len() + self.ready.len()
    }
}

impl Plan {
    /// Takes in a row that must be on record before it is sent.
    pub(crate) fn push_unsure(&mut self, job: Box<Job>, gate: &Gate) {
        let id = job.origin;
        self.lanes[id.0 as usize].intents.unsure.push_back(job);
        self.meter(id).budget.row();
        self.count(id, 1);
        self.list(id, gate);
    }

    /// What the record is to be asked for next. An origin is ahead by no more than may be in flight there, so that a dead
    /// one does not keep the others from going on; and one that is asleep gives back what another one could use.
    pub(crate) fn ask(&mut self, gate: &Gate) -> Option<Asked> {
        let ((ahead, _), id) = self.ahead.asking.first()?;
        if self.ahead.rows >= gate.concurrency() {
            return self.take_back(ahead, gate);
        }
        let intents = &mut self.lanes[id.0 as usize].intents;
        let job = intents.unsure.pop_front()?;
        let index = job.index;
        intents.asked.push_back(job);
        self.ahead.rows += 1;
        self.ahead.order.push_back((index, id));
        self.update(id, gate);
        Some(Asked::Intend(index))
    }

    /// A row of an origin that is asleep, and has more ahead than one that is awake, is on record for nothing.
    fn take_back(&mut self, awake: usize, gate: &Gate) -> Option<Asked> {
        let most_first = self.ahead.spare.iter().rev();
        let mut enough = most_first.take_while(|(ahead, _)| *ahead > awake + 1);
        let (_, id) = *enough.find(|(_, id)| self.is_asleep(&self.lanes[id.0 as usize]))?;
        let intents = &mut self.lanes[id.0 as usize].intents;
        let job = intents.ready.pop_back()?;
        let index = job.index;
        intents.unsure.push_front(job);
        self.ahead.rows -= 1;
        self.update(id, gate);
        Some(Asked::TakeBack(index))
    }

    /// The row is on record. It may have its outcome already.
    pub(crate) fn intended(&mut self, index: usize, gate: &Gate) {
        let Some((asked, id)) = self.ahead.order.pop_front() else { return };
        debug_assert_eq!(asked, index, "intents are answered in the order asked");
        let intents = &mut self.lanes[id.0 as usize].intents;
        if intents.asked.front().is_some_and(|job| job.index == index) {
            intents.ready.extend(intents.asked.pop_front());
            self.update(id, gate);
        }
    }

    /// The row has its slot.
    pub(super) fn take_ready(&mut self, id: OriginId) -> Option<Box<Job>> {
        let job = self.lanes[id.0 as usize].intents.ready.pop_front()?;
        self.ahead.rows -= 1;
        Some(job)
    }

    /// Rows of an origin were taken out of its `queues`.
    pub(super) fn recount_ahead(&mut self, id: OriginId, before: usize) {
        self.ahead.rows -= before - self.lanes[id.0 as usize].intents.ahead();
    }

    pub(super) fn ahead_of(&self, id: OriginId) -> usize {
        self.lanes[id.0 as usize].intents.ahead()
    }

    /// No origin has anything to ask, or is ahead. Answers may still come.
    pub(super) fn nobody_asks(&mut self) {
        self.ahead.rows = 0;
        self.ahead.asking.clear();
        self.ahead.spare.clear();
        self.meters.iter_mut().for_each(|own| own.asking.clear());
        for lane in &mut self.lanes {
            (lane.intents.asks, lane.intents.spare) = (None, None);
        }
    }

    /// Something changed that may let the origin ask, or give back.
    pub(super) fn list(&mut self, id: OriginId, gate: &Gate) {
        let lane = &mut self.lanes[id.0 as usize];
        let ahead = lane.intents.ahead();
        let may_ask =
            !lane.intents.unsure.is_empty() && lane.asleep_until.is_none() && ahead < gate.allows(&lane.gate);
        let wanted = may_ask.then_some((ahead, 0));
        let asked = std::mem::replace(&mut lane.intents.asks, wanted);
        let spare = (!lane.intents.ready.is_empty()).then_some(ahead);
        let spared = std::mem::replace(&mut lane.intents.spare, spare);
        let meter = lane.meter;
        if spared != spare {
            spared.map(|ahead| self.ahead.spare.remove(&(ahead, id)));
            self.ahead.spare.extend(spare.map(|ahead| (ahead, id)));
        }
        if asked != wanted {
            self.meters[meter].asking.rank(id, asked, wanted);
            self.show(meter);
        }
    }
}
