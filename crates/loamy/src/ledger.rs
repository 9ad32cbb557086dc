//! The port between the scheduler and a record of the batch that outlives the process.

use crate::job::Job;
use crate::{Error, Outcome};

/// What a ledger knows of a row that is admitted.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The row is to be sent.
    Open(Box<Job>),
    /// The row is to be sent once [`Ledger::intend`] was answered: sending it twice could do harm.
    Unsure(Box<Job>),
    /// The ledger looks the row up; a [`Word`] says what becomes of it.
    Held,
}

/// What a ledger has to say of a row, or of itself, some time after it was asked.
#[derive(Debug)]
pub(crate) enum Word {
    /// A row that was held is to be sent.
    Open(Box<Job>),
    /// A row that was held is to be sent once it is intended.
    Unsure(Box<Job>),
    /// A row that was held is not sent: an earlier run knew its outcome, or nobody can know it.
    Known(Outcome),
    /// That this row is about to be sent is on record.
    Intended(usize),
    /// The outcome that [`Ledger::settle`] kept may be shown: it is on record, or says that it never will be.
    Settled(Outcome),
    /// Nothing can be recorded any more, so nothing further may be sent.
    Failed(Error),
}

/// Told of every row that can be sent when it is admitted, before it is; and of every outcome before it is shown, those
/// of rows that were refused and never admitted included. Rows are admitted and refused in the order of their numbers.
pub(crate) trait Ledger: Send {
    /// How many outcomes may be on their way to the record before no further row is sent.
    fn most_unrecorded(&self) -> usize;

    fn admit(&mut self, job: Box<Job>) -> Entry;

    /// The row will be sent soon: asks for [`Word::Intended`].
    fn intend(&mut self, index: usize);

    /// The row is not sent for now, although that is on record.
    fn release(&mut self, index: usize);

    /// Gives the outcome back if it may be shown at once; else it comes as [`Word::Settled`]. A second outcome of the same
    /// row is given back.
    fn settle(&mut self, outcome: Outcome) -> Option<Outcome>;

    /// The batch was interrupted, or its time is over: rows that are held need not be looked up, and may be let go at once.
    fn stop_looking(&mut self);

    /// Takes what it has said since the last time, in that order.
    fn collect(&mut self, words: &mut Vec<Word>);

    /// Nothing more is under way: what it has need not wait for company.
    fn hurry(&mut self);
}

/// Keeps no record.
pub(crate) struct NoLedger;

impl Ledger for NoLedger {
    fn most_unrecorded(&self) -> usize {
        usize::MAX
    }

    fn admit(&mut self, job: Box<Job>) -> Entry {
        Entry::Open(job)
    }

    fn intend(&mut self, _: usize) {}

    fn release(&mut self, _: usize) {}

    fn settle(&mut self, outcome: Outcome) -> Option<Outcome> {
        Some(outcome)
    }

    fn stop_looking(&mut self) {}

    fn collect(&mut self, _: &mut Vec<Word>) {}

    fn hurry(&mut self) {}
}
