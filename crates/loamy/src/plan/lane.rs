//! What waits for one origin, or for the rows of one `limit_key` there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::intents::Intents;
use super::ranks::Rank;
use crate::gate::{Gate, OriginGate};
use crate::job::Job;
use crate::target::Origin;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) origin: Arc<Origin>,
    pub(super) key: Option<Box<str>>,
    pub(super) meter: usize,
    pub(super) gate: OriginGate,
    /// Rows that were sent before. Who began first goes first, so that those which are due first stand in front.
    pub(super) again: BTreeMap<(Option<Instant>, usize), Box<Job>>,
    pub(super) queue: VecDeque<Box<Job>>,
    pub(super) intents: Intents,
    /// Its place among the turns of its meter, while it may have another row in flight: how many it has, and since when it
    /// waits.
    pub(super) turn: Option<Rank>,
    pub(super) asleep_until: Option<Instant>,
}

/// Where its next row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearest {
    Again,
    Intent,
    Queue,
}

impl Lane {
    pub(super) fn new(origin: Arc<Origin>, key: Option<&str>, meter: usize) -> Self {
        Self {
            origin,
            key: key.map(Into::into),
            meter,
            gate: OriginGate::default(),
            again: BTreeMap::new(),
            queue: VecDeque::new(),
            intents: Intents::default(),
            turn: None,
            asleep_until: None,
        }
    }

    /// Whether it may have another row in flight, as far as it is its own to say.
    pub(super) fn is_ready(&self, gate: &Gate) -> bool {
        self.nearest().is_some() && self.asleep_until.is_none() && gate.admits(&self.gate)
    }

    /// Those that go out again come before the rest, of which the first in is the first out.
    pub(super) fn nearest(&self) -> Option<Nearest> {
        if !self.again.is_empty() {
            return Some(Nearest::Again);
        }
        match (self.intents.front(), self.queue.front()) {
            (Some(ready), Some(job)) if job.index < ready.index => Some(Nearest::Queue),
            (Some(_), _) => Some(Nearest::Intent),
            (None, Some(_)) => Some(Nearest::Queue),
            (None, None) => None,
        }
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Box<Job>> {
        match self.nearest()? {
            Nearest::Again => self.again.values_mut().next(),
            Nearest::Intent => self.intents.front_mut(),
            Nearest::Queue => self.queue.front_mut(),
        }
    }
}
