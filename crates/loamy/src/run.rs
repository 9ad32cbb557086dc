//! A batch under way, between the one who feeds and drains it and the workers that drive it.

#[cfg(feature = "journal")]
mod journaled;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::batch::Batch;
use crate::clock::now;
use crate::exchange::Terms;
use crate::runtime::Threads;
use crate::seat::{Message, Shared, State};
use crate::{Outcome, Outlook, Pause, Policy, Progress, Request};

/// Rows that make another thread worth its while.
const ROWS_A_THREAD: usize = 64;

/// Rows that wait, beyond which a list is fed no faster than it is sent.
const AHEAD: usize = 8192;

/// How long an interrupt waits for the workers to let go. They look within a turn; a thread that is busy decoding a
/// large body writes nothing meanwhile.
const LET_GO: Duration = Duration::from_millis(100);

/// The longest single wait; longer ones are the caller's to begin again.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A batch under way: its owner admits rows, closes it, and takes outcomes as they become ready.
///
/// Dropping it cancels what is left.
pub struct Run {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
    #[cfg(feature = "journal")]
    keeper: journaled::Keeper,
}

impl Run {
    pub(crate) fn begin(threads: Arc<Threads>, policy: &Policy) -> Self {
        let policy = Arc::new(policy.clone());
        let terms = Terms::new(Arc::clone(&policy));
        Self {
            shared: Arc::new(Shared::new(Batch::new(policy, now(), chance()), terms)),
            threads,
            #[cfg(feature = "journal")]
            keeper: journaled::Keeper::default(),
        }
    }

    /// Adds rows; their indexes go on from the last. From any thread.
    pub fn admit(&self, rows: impl IntoIterator<Item = Request>) {
        // Collected first: the iterator is the caller's code, and the workers need the lock meanwhile.
        let rows: Vec<Request> = rows.into_iter().collect();
        let mut state = self.shared.lock();
        let now = now();
        for row in rows {
            state.batch.admit(now, row);
        }
        self.call_workers(&mut state);
        self.shared.tell(state, None);
    }

    /// Says that no more rows will come.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.batch.close();
        self.shared.tell(state, None);
    }

    /// Waits until `want` outcomes are ready, or the last one is, or the time has passed; hands over all that are
    /// ready, in the order they ended. Of two threads that wait, each outcome goes to one.
    pub fn wait(&self, want: usize, at_most: Duration) -> Vec<Outcome> {
        let until = now() + at_most.min(LONG);
        let mut state = self.shared.lock();
        loop {
            if state.batch.ready() >= want || state.batch.is_settled() {
                break;
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                break;
            }
            state.want(want);
            state = self.shared.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        // The wish is left: another thread may wait by it too.
        state.batch.take_ready()
    }

    /// As [`wait`](Self::wait), for a task: ready with at least one outcome, or with none when all were handed over.
    pub fn poll_wait(&self, context: &mut Context<'_>) -> Poll<Vec<Outcome>> {
        let mut state = self.shared.lock();
        if state.batch.ready() > 0 || state.batch.is_settled() {
            return Poll::Ready(state.batch.take_ready());
        }
        state.want(1);
        state.task = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether further rows would only wait: every slot is taken, and thousands of rows wait already. Who feeds a list by
    /// it holds the memory of those rows and not of the whole list, and still no slot is ever idle for want of a row,
    /// nor an origin while another one's limit leaves slots free.
    pub fn is_fed(&self) -> bool {
        let progress = self.progress();
        progress.waiting >= AHEAD && progress.in_flight >= self.shared.terms.policy.concurrency
    }

    /// How many rows may have ended and not be on disk, so that they have no outcome yet.
    pub(crate) fn lag(&self) -> usize {
        #[cfg(feature = "journal")]
        return self.journal_lag();
        #[cfg(not(feature = "journal"))]
        0
    }

    /// Whether no more rows will come and every outcome was handed over.
    pub fn is_finished(&self) -> bool {
        let state = self.shared.lock();
        state.batch.is_settled() && state.batch.ready() == 0
    }

    /// Where the batch stands.
    pub fn progress(&self) -> Progress {
        self.shared.lock().batch.progress()
    }

    /// What holds the batch up: origins that are paused, and how long its limits make it last.
    pub fn outlook(&self) -> Outlook {
        self.shared.lock().batch.outlook(now())
    }

    /// The pauses of origins, of a second and more, that began since this was asked last.
    pub fn take_pauses(&self) -> Vec<Pause> {
        self.shared.lock().batch.take_pauses()
    }

    /// The origins whose budget of retries ([`Policy::retries`]) was used up since this was asked last, each once, as in
    /// [`Pause::origin`]: what fails there from now on is not sent again.
    pub fn take_spent_budgets(&self) -> Vec<String> {
        self.shared.lock().batch.take_spent_budgets()
    }

    /// Interrupts: rows that wait end as `not_sent`, rows in flight as `cancelled`. Returns once no byte of the batch
    /// will be written any more, and what is done is in the journal, if there is one.
    pub fn cancel(&self) {
        self.shared.stop();
        let mut state = self.shared.lock();
        state.batch.cancel(now());
        for worker in &state.workers {
            worker.send(Message::Look);
        }
        state.batch.prompt();
        let until = now() + LET_GO;
        while state.batch.has_unended() {
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                break;
            }
            state.want(0);
            state = self.shared.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.shared.tell(state, None);
        // Whoever waited for outcomes shared the same wish with this call.
        self.shared.ready.notify_all();
    }

    /// Has as many threads work for the batch as its rows are worth.
    fn call_workers(&self, state: &mut State) {
        let rows = state.batch.progress();
        let policy = &self.shared.terms.policy;
        let worth = (rows.waiting + rows.in_flight).div_ceil(ROWS_A_THREAD).max(1);
        // Each thread has connections of its own, so there may be no more threads than connections.
        let most = policy.threads.unwrap_or(usize::MAX).min(policy.h2_connections.unwrap_or(usize::MAX));
        let most = most.min(policy.concurrency).min(self.threads.count());
        let wanted = worth.min(most);
        if rows.waiting > 0 && state.workers.len() < wanted {
            let more = wanted - state.workers.len();
            for mailbox in self.threads.idlest(more, &state.workers) {
                let seat = state.workers.len();
                mailbox.send(Message::Begin { shared: Arc::clone(&self.shared), seat });
                state.workers.push(mailbox);
            }
        }
    }
}

/// A number that is another one each time.
fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Drop for Run {
    fn drop(&mut self) {
        self.close();
        if !self.shared.lock().batch.is_settled() {
            self.cancel();
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Run").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
