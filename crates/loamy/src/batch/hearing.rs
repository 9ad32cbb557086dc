//! What the ledger says of rows, and what it is asked for. Rows that wait for its word hold no slot.

use std::time::Instant;

use super::{Batch, Stop};
use crate::Kind;
use crate::ledger::{Entry, Word};
use crate::plan::Asked;
use crate::{Error, Outcome};

/// What hearing the ledger out came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    News,
    /// Nothing can be recorded any more: what is in flight must stop.
    Failure,
}

impl Batch {
    /// Does as the ledger says.
    pub(crate) fn hear(&mut self, now: Instant) -> Heard {
        let mut words = Vec::new();
        self.ledger.collect(&mut words);
        let mut heard = Heard::News;
        for word in words {
            match word {
                Word::Open(job) => {
                    self.held = self.held.saturating_sub(1);
                    self.enter(now, Entry::Open(job));
                }
                Word::Unsure(job) => {
                    self.held = self.held.saturating_sub(1);
                    self.enter(now, Entry::Unsure(job));
                }
                Word::Known(outcome) => {
                    self.held = self.held.saturating_sub(1);
                    self.show(outcome);
                }
                Word::Intended(index) => self.plan.intended(index, &self.gate),
                Word::Settled(outcome) => {
                    self.unrecorded = self.unrecorded.saturating_sub(1);
                    self.show(outcome);
                }
                Word::Failed(error) => {
                    heard = Heard::Failure;
                    self.give_up_recording(error, now);
                }
            }
        }
        heard
    }

    /// Asks the ledger for what rows need next. To be called whenever the batch is let go of.
    pub(crate) fn prompt(&mut self) {
        while let Some(asked) = self.plan.ask(&self.gate) {
            match asked {
                Asked::Intend(index) => self.ledger.intend(index),
                Asked::TakeBack(index) => self.ledger.release(index),
            }
        }
        let nothing_waits = self.plan.waiting() == 0 && self.held == 0;
        if self.unrecorded > 0 && self.gate.in_flight() == 0 && (nothing_waits || self.is_behind()) {
            self.ledger.hurry();
        }
    }

    /// Whether so much is not on record yet that nothing more is sent.
    pub(super) fn is_behind(&self) -> bool {
        self.unrecorded >= self.most_unrecorded
    }

    /// A row goes where the ledger wants it.
    pub(super) fn enter(&mut self, now: Instant, entry: Entry) {
        match entry {
            Entry::Held => self.held += 1,
            Entry::Unsure(job) if !self.goes_nowhere(job.origin) => self.plan.push_unsure(job, &self.gate),
            Entry::Open(job) | Entry::Unsure(job) => self.open(now, job),
        }
    }

    /// A row has its outcome. It is shown once it is on record.
    pub(super) fn conclude(&mut self, outcome: Outcome) {
        match self.ledger.settle(outcome) {
            Some(outcome) => self.show(outcome),
            None => self.unrecorded += 1,
        }
    }

    fn give_up_recording(&mut self, error: Error, now: Instant) {
        if error.kind() == Kind::Internal {
            // Rows that the ledger had in hand are lost with it.
            return self.abandon(&error);
        }
        self.unrecordable = Some(error);
        self.stop(Stop::Unrecordable, now);
    }
}
