//! What the model knows of a row and of an origin.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::Kind;
use crate::backoff::Jitter;
use crate::job::OriginId;

/// Where the model sees a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Waiting,
    InFlight,
    Ended,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) lane: usize,
    pub(super) idempotent: bool,
    /// Whether sending it twice could do harm, as it was given.
    pub(super) harmful: bool,
    /// Whether the ledger holds it.
    pub(super) held: bool,
    /// Whether it ended, and its outcome is on its way to the record.
    pub(super) unrecorded: bool,
    /// Whether it ended while it waited, and gave no slot back.
    pub(super) ended_waiting: bool,
    /// Whether it was refused, so that the ledger has nothing to record.
    pub(super) refused: bool,
    /// What its last sending came to, while it waits for the next by proof or on a new connection.
    pub(super) last: Option<Kind>,
    /// Whether it ends because the batch does, and not by itself.
    pub(super) ends_with_the_batch: bool,
    /// Whether it was put on record before it was sent.
    pub(super) intended: bool,
    /// Whether it was a POST that a redirect made a GET of.
    pub(super) has_acted: bool,
    pub(super) post: bool,
    pub(super) sendings: u32,
    /// Whether its next grant is another sending; that of a hop is not.
    pub(super) is_anew: bool,
    pub(super) renewed: bool,
    pub(super) hops: u16,
    pub(super) started: Option<Instant>,
    pub(super) must_end: Option<Instant>,
    pub(super) own_timeouts: bool,
    pub(super) own_total: Option<Duration>,
    pub(super) own_limit: Option<u16>,
    pub(super) expected: Option<Expected>,
    pub(super) shown: bool,
}

/// The outcome that the model expects.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) result: Result<u16, Kind>,
    pub(super) in_doubt: bool,
    pub(super) at: Instant,
}

/// An origin in the model.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) queue: VecDeque<usize>,
    /// Rows that must be on record before they are sent: not asked for, asked for, and on record.
    pub(super) unsure: VecDeque<usize>,
    pub(super) asked: VecDeque<usize>,
    pub(super) ready: VecDeque<usize>,
    pub(super) in_flight: usize,
    pub(super) proven: usize,
    pub(super) failures: u32,
    /// How many of a hundred connections fail: all where nothing listens, many while a server restarts.
    pub(super) trouble: u64,
    pub(super) id: Option<OriginId>,
    /// Since its turn last changed: how often an origin with as few rows in flight went before it, unasked.
    pub(super) passed_over: usize,
    pub(super) turn: Option<usize>,
}

impl Lane {
    pub(super) fn new(random: &mut Jitter, troubled: u64) -> Self {
        let trouble = if random.chance(troubled) { random.pick(&[50, 80, 100, 100]) } else { 6 };
        Self { trouble, ..Self::default() }
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.ready.len() + self.asked.len() + self.unsure.len()
    }

    pub(super) fn ahead(&self) -> usize {
        self.asked.len() + self.ready.len()
    }

    /// Rows that wait, those whose turn is nearest first.
    pub(super) fn queues(&mut self) -> [&mut VecDeque<usize>; 4] {
        [&mut self.queue, &mut self.ready, &mut self.asked, &mut self.unsure]
    }
}
