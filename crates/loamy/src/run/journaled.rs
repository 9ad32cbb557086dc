//! A batch that writes a journal, from its owner's side.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};

use super::Run;
use crate::batch::Batch;
use crate::clock::now;
use crate::exchange::Terms;
use crate::journal::{JournalKeeper, ROWS_A_GROUP};
use crate::runtime::Threads;
use crate::seat::Shared;
use crate::{Journal, JournalError, Policy};

/// The owner's end of the journal: none when there is no journal, or when it has ended.
pub(super) type Keeper = Mutex<Option<JournalKeeper>>;

impl Run {
    pub(crate) fn begin_with_journal(threads: Arc<Threads>, policy: &Policy, journal: Journal) -> Self {
        let listener: Arc<OnceLock<Weak<Shared>>> = Arc::default();
        let told = Arc::clone(&listener);
        let wake = move || {
            if let Some(shared) = told.get().and_then(Weak::upgrade) {
                shared.hear(now());
            }
        };
        let (ledger, keeper) = journal.begin(&policy.idempotency, Arc::new(wake));
        let policy = Arc::new(policy.clone());
        let terms = Terms::new(Arc::clone(&policy));
        let batch = Batch::with_ledger(policy, now(), super::chance(), Box::new(ledger));
        let shared = Arc::new(Shared::new(batch, terms));
        // Nobody else has it, so it is set once.
        let _ = listener.set(Arc::downgrade(&shared));
        // What was said before there was somebody to listen.
        shared.hear(now());
        Self { shared, threads, keeper: Mutex::new(Some(keeper)) }
    }

    /// Ends the journal: it is complete if every row has its outcome, and the run was not cancelled before it was closed; else
    /// what is left is interrupted, and a later run goes on from here. Returns when all is on disk. Without a journal nothing
    /// happens. A run that is dropped leaves its journal to a later run.
    ///
    /// # Errors
    /// When the journal could not be written, now or earlier, or when it knows more rows than there were.
    pub fn finish_journal(&self) -> Result<(), JournalError> {
        let Some(keeper) = self.keeper().take() else { return Ok(()) };
        self.ask_to_end(&keeper);
        keeper.wait()
    }

    /// As [`finish_journal`](Self::finish_journal), for a task.
    pub fn poll_finish_journal(&self, context: &mut Context<'_>) -> Poll<Result<(), JournalError>> {
        let mut own = self.keeper();
        let Some(keeper) = &*own else { return Poll::Ready(Ok(())) };
        self.ask_to_end(keeper);
        // Before it is looked at: who ends meanwhile wakes the task.
        self.shared.lock().task = Some(context.waker().clone());
        let Some(ended) = keeper.ended() else { return Poll::Pending };
        *own = None;
        Poll::Ready(ended)
    }

    pub(super) fn journal_lag(&self) -> usize {
        if self.keeper().is_some() { ROWS_A_GROUP } else { 0 }
    }

    fn ask_to_end(&self, keeper: &JournalKeeper) {
        let (is_complete, rows) = {
            let state = self.shared.lock();
            (state.batch.is_complete(), state.batch.progress().settled)
        };
        if is_complete {
            keeper.ask_to_finish(rows);
        } else {
            self.close();
            self.cancel();
            keeper.ask_to_close();
        }
    }

    fn keeper(&self) -> MutexGuard<'_, Option<JournalKeeper>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
