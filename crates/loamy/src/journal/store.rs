//! The few durable operations that the journal is made of: a part file that only grows, and an index that changes at once
//! or not at all.

use super::fingerprint::{Fingerprint, Salt};
use super::part::{FAILED, IN_DOUBT, Span, UNSAFE};
use super::trouble::JournalError;
use crate::policy::Idempotency;

/// The disk. [`Sqlite`](super::sqlite::Sqlite) is the real one.
///
/// After the first error it is not used again: what a failed sync did to the pages is unknown, and a second sync that
/// succeeds says nothing about them (Rebello et al., "Can Applications Recover from fsync Failures?", ATC '20).
pub(crate) trait Store: Send {
    /// How things stood when it was opened.
    fn standing(&self) -> Standing;

    /// Adds to the end of the part file. Durable only after [`sync_part`](Self::sync_part).
    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError>;

    fn sync_part(&mut self) -> Result<(), JournalError>;

    /// Changes the index: wholly and durably when it returns, wholly or not at all when the process ends meanwhile.
    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), JournalError>;

    /// Which keys the rows get, as the first run has it; none before it has begun.
    fn keys(&mut self) -> Result<Option<Idempotency>, JournalError>;

    /// What the index knows of a row.
    fn look(&mut self, row: u64) -> Result<Option<Known>, JournalError>;

    /// A span of the part file.
    fn read(&mut self, span: Span) -> Result<Vec<u8>, JournalError>;

    /// Nothing will be added: gives the part file its final name and the index its number of rows.
    fn finish(&mut self, rows: u64) -> Result<(), JournalError>;

    /// A clean stop: tidies up what need not be read again.
    fn close(&mut self) -> Result<(), JournalError>;
}

/// How a journal stands when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) salt: Salt,
    /// The part file's length.
    pub(crate) end: u64,
    /// The number of the last commit.
    pub(crate) number: u64,
    /// Rows from here on are unknown.
    pub(crate) horizon: u64,
    /// The number of rows, if it was finished.
    pub(crate) rows: Option<u64>,
    /// The index was made anew, so what was intended is not known.
    pub(crate) forgot_intents: bool,
}

/// One change of the index: first the intents, then the releases, then what is done.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) number: u64,
    /// The part file's length that goes with it.
    pub(crate) end: u64,
    /// Which keys the rows get, where that was not on record.
    pub(crate) keys: Option<&'a Idempotency>,
    pub(crate) intents: &'a [(u64, Fingerprint)],
    pub(crate) releases: &'a [u64],
    pub(crate) done: &'a [Done],
}

/// A row that has its outcome. It replaces an earlier one, and ends the row's intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) row: u64,
    pub(crate) span: Span,
    pub(crate) traits: u8,
    pub(crate) fingerprint: Fingerprint,
}

impl Done {
    pub(crate) fn is_failed(&self) -> bool {
        self.traits & FAILED != 0
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.traits & IN_DOUBT != 0
    }

    pub(crate) fn is_unsafe(&self) -> bool {
        self.traits & UNSAFE != 0
    }
}

/// What the index knows of a row; nothing when it was never sent, or may be sent again without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It may have been sent. This outweighs an earlier outcome.
    Intended(Fingerprint),
    Done(Done),
}

impl Known {
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Intended(fingerprint) => *fingerprint,
            Self::Done(done) => done.fingerprint,
        }
    }
}
