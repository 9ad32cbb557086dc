//! The journal: a record of a batch that outlives the process, so that a later run sends only what is left.
//!
//! # From the top
//!
//! [`Journal::open`] locks and checks the files and says how far an earlier run came ([`Standing`](store::Standing)).
//! [`Journal::begin`] starts the one thread that owns them (`keeper`) and gives the batch its `ledger` and the owner a
//! [`JournalKeeper`]. The ledger and the thread meet at the `desk`. What is written in which order is decided in `scribe`,
//! what an earlier record means for a row in `resume`; both drive a `store`, which is `sqlite` with a `part` file, or a
//! simulated disk. `record` is an outcome as bytes, `fingerprint` how a row is known again, `place` who may use which files.
//!
//! # What is promised
//!
//! A row is shown as done only when its outcome is on disk: part file, sync, index, then shown. A row that must not be sent
//! twice is on record before its first byte. After the first failed write or sync nothing more is written, and nothing that
//! is not on disk counts as done.
//!
//! # What it holds
//!
//! The name of the job that idempotency keys are made of. Of a row: its number and a keyed hash. Of an outcome: status, response headers, body, and what an error says. No request
//! headers, no request bodies, no userinfo, and no URL but, masked, that of an error and that where a redirect led. Response
//! headers may hold cookies, so the files are their owner's alone (0600).

mod desk;
mod digest;
#[cfg(any(test, feature = "_fuzz"))]
#[doc(hidden)]
pub mod drill;
mod fingerprint;
mod keeper;
mod ledger;
mod log;
mod part;
mod place;
mod rebuild;
mod record;
mod resume;
mod scribe;
#[cfg(test)]
mod simulated;
mod sqlite;
mod store;
mod trouble;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

pub use trouble::{JournalError, Trouble};

pub(crate) use self::desk::FULL as ROWS_A_GROUP;
use self::desk::{Desk, End};
pub(crate) use self::keeper::Wake;
pub(crate) use self::ledger::JournalLedger;
use self::scribe::Scribe;
use self::sqlite::Sqlite;
use crate::policy::Idempotency;

/// What a later run does with rows that did not go well, and with a journal that was damaged.
#[derive(Clone, Copy, Debug, Default)]
pub struct JournalOptions {
    retries_failed: bool,
    resends_in_doubt: bool,
    keeps_good: bool,
}

impl JournalOptions {
    /// Rows that ended with an error are sent again. Those in doubt are not, nor are responses of any status.
    pub fn retry_failed(mut self) -> Self {
        self.retries_failed = true;
        self
    }

    /// Rows that may have taken effect are sent again: at least once instead of at most once.
    pub fn resend_in_doubt(mut self) -> Self {
        self.resends_in_doubt = true;
        self
    }

    /// A damaged journal is used as far as it can be read. Rows that must not be sent twice and whose record is lost end in
    /// doubt.
    pub fn keep_good(mut self) -> Self {
        self.keeps_good = true;
        self
    }
}

/// A journal that is open and locked; nothing runs yet.
pub struct Journal {
    scribe: Scribe<Sqlite>,
}

/// The owner's end of a journal that is in use. Dropping it is a clean stop.
pub(crate) struct JournalKeeper {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
    /// Where the thread runs: a child that was forked has none.
    process: u32,
}

impl Journal {
    /// Opens the journal at this path, or makes one.
    ///
    /// Beside it stand `<path>-wal`, which belongs to SQLite, and `<path>.part` or, once all is done, `<path>.bodies`.
    ///
    /// # Errors
    /// When it is in use, belongs to other rows or another version, is damaged, or cannot be read and written.
    pub fn open(path: impl AsRef<Path>, options: JournalOptions) -> Result<Self, JournalError> {
        let store = Sqlite::open(path.as_ref(), options.keeps_good)?;
        Ok(Self { scribe: Scribe::new(store, options) })
    }

    /// Starts the journal's thread. `wake` is called after each word of it. Where the rows get other keys than in the first run, or
    /// the system has no thread, the journal has failed before the first row, and its first word says so.
    pub(crate) fn begin(mut self, keys: &Idempotency, wake: Wake) -> (JournalLedger, JournalKeeper) {
        let desk = Arc::new(Desk::default());
        let standing = self.scribe.standing();
        // A journal that was finished knows how many rows there are, so it wants to see every further one.
        let horizon = if standing.rows.is_some() { usize::MAX } else { standing.horizon as usize };
        let horizon = if standing.forgot_intents { usize::MAX } else { horizon };
        let thread = match self.scribe.keep_to(keys) {
            Ok(()) => keeper::spawn(Arc::clone(&desk), self.scribe, wake),
            Err(failure) => {
                keeper::give_up(&desk, failure);
                None
            }
        };
        // Nobody looks anything up without the thread.
        let horizon = if thread.is_none() { 0 } else { horizon };
        let ledger = JournalLedger::new(Arc::clone(&desk), standing.salt, horizon);
        (ledger, JournalKeeper { desk, thread, process: std::process::id() })
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Journal")
            .field("rows", &self.scribe.standing().horizon)
            .finish_non_exhaustive()
    }
}

impl JournalKeeper {
    /// Asks for the end, which [`ended`](Self::ended) tells: the journal is complete, unless rows are left to a later run.
    pub(crate) fn ask_to_finish(&self, rows: usize) {
        self.desk.end(End::Finish { rows: rows as u64 });
    }

    /// Asks for a clean stop: a later run goes on from here.
    pub(crate) fn ask_to_close(&self) {
        self.desk.end(End::Close);
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&self) -> Option<Result<(), JournalError>> {
        self.desk.ended()
    }

    /// Waits for the end that was asked for.
    ///
    /// # Errors
    /// When the journal could not be written, now or earlier, or when it knows more rows than there were.
    pub(crate) fn wait(mut self) -> Result<(), JournalError> {
        self.join();
        self.desk.ended().unwrap_or(Ok(()))
    }

    fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.process == std::process::id() {
            // A panic of it is told at the desk.
            let _ = thread.join();
        } else {
            // The parent has the journal; to wait for a thread that is not here would be for ever.
            std::mem::forget(thread);
        }
    }
}

impl Drop for JournalKeeper {
    fn drop(&mut self) {
        // Whoever wants to know how it went waits for it.
        if self.thread.is_some() && self.process == std::process::id() {
            self.desk.end(End::Close);
        }
        self.join();
    }
}
