//! Who is next: a queue for each origin, and whose turn it is. Incremental, so that rows may come at any time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::Error;
use crate::gate::{Cost, Gate, OriginGate};
use crate::job::{Job, OriginId};
use crate::request::Request;
use crate::target::{self, Origin, Target};

/// What waits for one origin.
#[derive(Debug)]
struct Lane {
    origin: Arc<Origin>,
    gate: OriginGate,
    queue: VecDeque<Box<Job>>,
    /// Its place among `turns`, while it may have another row in flight.
    turn: Option<(usize, u64)>,
}

/// The waiting rows of a batch.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    lanes: Vec<Lane>,
    by_origin: HashMap<Arc<Origin>, OriginId>,
    /// The lanes that may have another row in flight: fewest in flight first, then longest unserved. Slots are so
    /// shared max-min over origins with work. Kept only where there are two lanes or more.
    turns: BTreeSet<(usize, u64, OriginId)>,
    served: u64,
    waiting: usize,
    /// The scheme and authority of the row before, as typed: the next row's mostly is the same and need not be parsed.
    before: Option<(String, OriginId)>,
}

impl Plan {
    /// Reads the row's URL and finds its origin. The URL becomes what will be sent.
    pub(crate) fn place(&mut self, request: &mut Request, gate: &Gate) -> Result<Placed, Error> {
        let raw = request.overrides.as_ref().is_some_and(|own| own.raw_url);
        if let Some((prefix, origin)) = &self.before
            && let Some(rest) = request.url.strip_prefix(prefix.as_str())
            && target::is_plain_target(rest.as_bytes())
        {
            return Ok(Placed { origin: *origin, path_at: prefix.len(), authorization: None });
        }
        let target = target::parse(&request.url, raw)?;
        let as_typed = request.url.starts_with(&target.url[..target.path_at]);
        let placed = self.settle_in(request, target, gate);
        if as_typed && placed.authorization.is_none() {
            self.before = Some((request.url[..placed.path_at].to_owned(), placed.origin));
        }
        Ok(placed)
    }

    /// Takes a parsed URL over into the request and finds its origin.
    pub(crate) fn settle_in(&mut self, request: &mut Request, target: Target, gate: &Gate) -> Placed {
        request.url = target.url;
        Placed {
            origin: self.id(target.origin, gate),
            path_at: target.path_at,
            authorization: target.authorization,
        }
    }

    pub(crate) fn origin(&self, id: OriginId) -> &Arc<Origin> {
        &self.lanes[id.0 as usize].origin
    }

    /// Rows that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn push(&mut self, job: Box<Job>, gate: &Gate) {
        let id = job.origin;
        self.lanes[id.0 as usize].queue.push_back(job);
        self.waiting += 1;
        self.update(id, gate);
    }

    /// Puts a row that goes out again before all that wait.
    pub(crate) fn push_first(&mut self, job: Box<Job>, gate: &Gate) {
        let id = job.origin;
        self.lanes[id.0 as usize].queue.push_front(job);
        self.waiting += 1;
        self.update(id, gate);
    }

    /// Whether any row could take a slot.
    pub(crate) fn has_turn(&self, gate: &Gate) -> bool {
        match self.lanes.as_slice() {
            [only] => !only.queue.is_empty() && gate.admits(&only.gate),
            _ => !self.turns.is_empty(),
        }
    }

    /// The next row, with its slot taken. `prefer` is the origin of a connection that is ready: it goes on being
    /// served while no other origin has fewer rows in flight.
    pub(crate) fn next(&mut self, prefer: Option<OriginId>, gate: &mut Gate) -> Option<Box<Job>> {
        let id = self.whose_turn(prefer, gate)?;
        let lane = &mut self.lanes[id.0 as usize];
        let job = lane.queue.pop_front()?;
        gate.take(&mut lane.gate);
        self.waiting -= 1;
        self.served += 1;
        self.update(id, gate);
        Some(job)
    }

    /// A row's slot is free again.
    pub(crate) fn give_back(&mut self, id: OriginId, gate: &mut Gate) {
        gate.give_back(&mut self.lanes[id.0 as usize].gate);
        self.update(id, gate);
    }

    /// A connection to the origin stands, or a response came from it.
    pub(crate) fn proved(&mut self, id: OriginId, proofs: usize, gate: &Gate) {
        self.lanes[id.0 as usize].gate.proved(proofs);
        self.update(id, gate);
    }

    /// The peer refused a row that it did not look at: fewer go there at once from here on.
    pub(crate) fn refused(&mut self, id: OriginId, gate: &Gate) {
        self.lanes[id.0 as usize].gate.refused();
        self.update(id, gate);
    }

    /// No connection could be made: takes out the waiting rows that share that fate.
    pub(crate) fn failed_to_connect(
        &mut self,
        id: OriginId,
        cost: Cost,
        alike: impl Fn(&Job) -> bool,
        gate: &Gate,
    ) -> VecDeque<Box<Job>> {
        let lane = &mut self.lanes[id.0 as usize];
        let shared = lane.gate.failed_to_connect(cost).min(lane.queue.len());
        let mut taken = VecDeque::with_capacity(shared);
        let mut left = Vec::new();
        while taken.len() < shared
            && let Some(job) = lane.queue.pop_front()
        {
            if alike(&job) { taken.push_back(job) } else { left.push(job) }
        }
        left.into_iter().rev().for_each(|job| lane.queue.push_front(job));
        self.waiting -= taken.len();
        self.update(id, gate);
        taken
    }

    /// Takes one row out.
    pub(crate) fn take(&mut self, id: OriginId, index: usize, gate: &Gate) -> Option<Box<Job>> {
        let queue = &mut self.lanes[id.0 as usize].queue;
        let position = queue.iter().position(|job| job.index == index)?;
        let job = queue.remove(position);
        self.waiting -= 1;
        self.update(id, gate);
        job
    }

    /// Takes out every row that waits.
    pub(crate) fn drain(&mut self) -> VecDeque<Box<Job>> {
        self.turns.clear();
        self.waiting = 0;
        self.lanes
            .iter_mut()
            .flat_map(|lane| {
                lane.turn = None;
                lane.queue.drain(..)
            })
            .collect()
    }

    fn whose_turn(&self, prefer: Option<OriginId>, gate: &Gate) -> Option<OriginId> {
        if let [only] = self.lanes.as_slice() {
            return gate.admits(&only.gate).then_some(OriginId(0));
        }
        let (fewest, _, first) = *self.turns.first()?;
        match prefer {
            Some(id) if self.lanes[id.0 as usize].turn.is_some_and(|(in_flight, _)| in_flight <= fewest) => {
                Some(id)
            }
            _ => Some(first),
        }
    }

    fn update(&mut self, id: OriginId, gate: &Gate) {
        if self.lanes.len() < 2 {
            return;
        }
        let lane = &mut self.lanes[id.0 as usize];
        let in_flight = lane.gate.in_flight();
        let wanted = !lane.queue.is_empty() && gate.admits(&lane.gate);
        match (lane.turn, wanted) {
            (Some((stands, _)), true) if stands == in_flight => return,
            (None, false) => return,
            _ => {}
        }
        if let Some((stands, since)) = lane.turn.take() {
            self.turns.remove(&(stands, since, id));
        }
        if wanted {
            lane.turn = Some((in_flight, self.served));
            self.turns.insert((in_flight, self.served, id));
        }
    }

    fn id(&mut self, origin: Origin, gate: &Gate) -> OriginId {
        if let Some(id) = self.by_origin.get(&origin) {
            return *id;
        }
        let origin = Arc::new(origin);
        let id = OriginId(self.lanes.len() as u32);
        self.by_origin.insert(Arc::clone(&origin), id);
        self.lanes.push(Lane { origin, gate: OriginGate::default(), queue: VecDeque::new(), turn: None });
        if self.lanes.len() == 2 {
            self.update(OriginId(0), gate);
        }
        id
    }
}

/// Where a row goes.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) origin: OriginId,
    /// Where the request target begins in the row's URL.
    pub(crate) path_at: usize,
    /// What userinfo of the URL asks for.
    pub(crate) authorization: Option<Box<str>>,
}
