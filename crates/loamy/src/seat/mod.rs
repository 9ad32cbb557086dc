//! Where a worker sits at a batch: what both share, whose turn it is, and how a worker is called.

mod mailbox;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

pub(crate) use mailbox::{Bell, Mailbox, Message};

use crate::Error;
use crate::batch::{Batch, Heard};
use crate::exchange::Terms;

/// What the workers of a batch share with its owner.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Rung when the owner's wish may be fulfilled.
    pub(crate) ready: Condvar,
    stopped: AtomicBool,
    pub(crate) terms: Terms,
}

/// The batch, with who waits for what of it.
pub(crate) struct State {
    pub(crate) batch: Batch,
    /// The fewest outcomes that anybody waits for who was not told yet.
    wanted: Option<usize>,
    pub(crate) task: Option<Waker>,
    pub(crate) workers: Vec<Arc<Mailbox>>,
    /// Workers that would take another row if there were one.
    hungry: Vec<usize>,
}

/// What a worker may do while it holds the batch.
pub(crate) struct Turn<'a> {
    pub(crate) batch: &'a mut Batch,
    /// Rows that one worker may have in flight, so that all have their share.
    pub(crate) quota: usize,
    /// Threads that work for the batch.
    pub(crate) workers: usize,
    /// Set when the worker would take another row if there were one.
    pub(crate) hungry: bool,
}

impl State {
    /// Whoever waits is told once so many outcomes are ready, or fewer; then it has to say again what it wants.
    pub(crate) fn want(&mut self, outcomes: usize) {
        self.wanted = Some(self.wanted.map_or(outcomes, |least| least.min(outcomes)));
    }
}

impl Shared {
    pub(crate) fn new(batch: Batch, terms: Terms) -> Self {
        let state = State { batch, wanted: None, task: None, workers: Vec::new(), hungry: Vec::new() };
        Self { state: Mutex::new(state), ready: Condvar::new(), stopped: AtomicBool::new(false), terms }
    }

    /// From here on nothing of the batch is written.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Gives a worker its turn at the batch, then tells those whom the result concerns.
    pub(crate) fn turn<R>(&self, seat: usize, work: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let mut state = self.lock();
        let workers = state.workers.len();
        let quota = self.terms.policy.concurrency.div_ceil(workers);
        let mut turn = Turn { batch: &mut state.batch, quota, workers, hungry: false };
        let result = work(&mut turn);
        let hungry = turn.hungry;
        if hungry && !state.hungry.contains(&seat) {
            state.hungry.push(seat);
        }
        self.tell(state, Some(seat));
        result
    }

    /// A worker broke down: every row that has no outcome yet gets one that says so.
    pub(crate) fn abandon(&self, error: &Error) {
        self.stop();
        let mut state = self.lock();
        state.batch.abandon(error);
        self.tell(state, None);
        self.ready.notify_all();
    }

    /// The ledger has something to say.
    pub(crate) fn hear(&self, now: Instant) {
        let mut state = self.lock();
        if state.batch.hear(now) == Heard::Failure {
            self.stop();
            for worker in &state.workers {
                worker.send(Message::Look);
            }
        }
        self.tell(state, None);
    }

    /// Whether the batch was interrupted: nothing of it may be written any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Lets go of the batch and tells those whom its state concerns; `seat` is who had it.
    pub(crate) fn tell(&self, mut state: MutexGuard<'_, State>, seat: Option<usize>) {
        state.batch.prompt();
        let settled = state.batch.is_settled();
        let enough = state.wanted.is_some_and(|wanted| state.batch.ready() >= wanted) || settled;
        let task = if enough { state.task.take() } else { None };
        let called: Vec<Arc<Mailbox>> = if settled || state.batch.has_outrun() {
            state.workers.clone()
        } else if !state.hungry.is_empty() && state.batch.has_work() {
            let hungry = std::mem::take(&mut state.hungry);
            hungry
                .into_iter()
                .filter(|own| Some(*own) != seat)
                .map(|own| Arc::clone(&state.workers[own]))
                .collect()
        } else {
            Vec::new()
        };
        let waits = enough && state.wanted.take().is_some();
        drop(state);
        if waits {
            self.ready.notify_all();
        }
        if let Some(task) = task {
            task.wake();
        }
        for mailbox in called {
            mailbox.send(Message::Look);
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
