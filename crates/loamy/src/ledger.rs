//! The port between the scheduler and a record of the batch that outlives the process.

use crate::Outcome;
use crate::job::Job;

/// What a ledger knows of a row that is admitted.
pub(crate) enum Entry {
    /// The row is to be sent.
    Open(Box<Job>),
    /// The row has its outcome already.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only a ledger that outlives the process knows such rows")
    )]
    Settled(Outcome),
}

/// Told of every row that can be sent when it is admitted, before it is; and of every outcome before it is shown, those
/// of rows that were refused and never admitted included.
pub(crate) trait Ledger: Send {
    fn admit(&mut self, job: Box<Job>) -> Entry;
    fn settle(&mut self, outcome: &Outcome);
}

/// Keeps no record.
pub(crate) struct NoLedger;

impl Ledger for NoLedger {
    fn admit(&mut self, job: Box<Job>) -> Entry {
        Entry::Open(job)
    }

    fn settle(&mut self, _: &Outcome) {}
}
