//! Outcomes as they come: an iterator, and the same as a `Stream`.

#[cfg(feature = "journal")]
mod journaled;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::run::{LONG, Run};
use crate::{Outcome, Policy, Request};

/// Rows under way for each slot: enough that no slot waits for the consumer.
const ROWS_A_SLOT: usize = 4;

/// How long an outcome that is ready waits for others at the most.
const LINGER: Duration = Duration::from_millis(1);

/// In which order outcomes are yielded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In the order of the rows.
    AsGiven,
    /// As they end.
    AsDone,
}

/// Whether outcomes that an earlier run had are yielded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    Yield,
    #[cfg(feature = "journal")]
    PassOver,
}

/// The outcomes of rows that are taken from an iterator while they are sent.
#[derive(Debug)]
pub struct Rows<I> {
    run: Run,
    /// None once it has ended.
    rows: Option<I>,
    window: usize,
    admitted: usize,
    yielded: usize,
    queue: Queue,
    replay: Replay,
    #[cfg(feature = "journal")]
    recorded: Option<Result<(), crate::JournalError>>,
}

/// Outcomes that may be yielded, and those that wait for an earlier one.
#[derive(Debug)]
struct Queue {
    order: Order,
    next: usize,
    early: BTreeMap<usize, Outcome>,
    ready: VecDeque<Outcome>,
}

impl<I> Rows<I>
where
    I: Iterator,
    I::Item: Into<Request>,
{
    pub(crate) fn new(run: Run, rows: I, policy: &Policy, order: Order, replay: Replay) -> Self {
        let window = policy.concurrency.max(1).saturating_mul(ROWS_A_SLOT).saturating_add(run.lag());
        let queue = Queue { order, next: 0, early: BTreeMap::new(), ready: VecDeque::new() };
        Self {
            run,
            rows: Some(rows),
            window,
            admitted: 0,
            yielded: 0,
            queue,
            replay,
            #[cfg(feature = "journal")]
            recorded: None,
        }
    }

    /// Admits rows while the window, which counts rows admitted and not yet yielded, has room.
    fn fill(&mut self) {
        let room = self.window - (self.admitted - self.yielded);
        // Half a window at a time: the batch is locked rarely and the slots do not run dry.
        if room < self.window.div_ceil(2) {
            return;
        }
        let Some(rows) = &mut self.rows else { return };
        let taken: Vec<Request> = rows.by_ref().take(room).map(Into::into).collect();
        let ended = taken.len() < room;
        self.admitted += taken.len();
        self.run.admit(taken);
        if ended {
            self.rows = None;
            self.run.close();
        }
    }

    fn pop(&mut self) -> Option<Outcome> {
        loop {
            let outcome = self.queue.ready.pop_front()?;
            self.yielded += 1;
            if self.replay == Replay::Yield || !outcome.replayed {
                return Some(outcome);
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.rows.is_none() && self.is_idle()
    }

    /// Whether nothing is under way, so that nothing is to be waited for: all that was has been passed over.
    fn is_idle(&self) -> bool {
        self.yielded == self.admitted
    }
}

impl Queue {
    fn put(&mut self, outcomes: Vec<Outcome>) {
        if self.order == Order::AsDone {
            self.ready.extend(outcomes);
            return;
        }
        for outcome in outcomes {
            self.early.insert(outcome.index, outcome);
        }
        while let Some(outcome) = self.early.remove(&self.next) {
            self.ready.push_back(outcome);
            self.next += 1;
        }
    }
}

impl<I> Iterator for Rows<I>
where
    I: Iterator,
    I::Item: Into<Request>,
{
    type Item = Outcome;

    fn next(&mut self) -> Option<Outcome> {
        loop {
            self.fill();
            if let Some(outcome) = self.pop() {
                return Some(outcome);
            }
            if self.is_at_end() {
                #[cfg(feature = "journal")]
                self.end_journal();
                return None;
            }
            if self.is_idle() {
                continue;
            }
            // Those that end close together are taken together: the consumer's thread is woken less often.
            let mut outcomes = self.run.wait(self.window / 4, LINGER);
            if outcomes.is_empty() {
                outcomes = self.run.wait(1, LONG);
            }
            self.queue.put(outcomes);
        }
    }
}

/// [`Rows`] on an executor.
#[derive(Debug)]
pub struct Stream<I> {
    rows: Rows<I>,
}

impl<I> Stream<I>
where
    I: Iterator,
    I::Item: Into<Request>,
{
    pub(crate) fn new(rows: Rows<I>) -> Self {
        Self { rows }
    }
}

impl<I> futures_core::Stream for Stream<I>
where
    I: Iterator + Unpin,
    I::Item: Into<Request>,
{
    type Item = Outcome;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let rows = &mut self.rows;
        loop {
            rows.fill();
            if let Some(outcome) = rows.pop() {
                return Poll::Ready(Some(outcome));
            }
            if rows.is_at_end() {
                #[cfg(feature = "journal")]
                std::task::ready!(rows.poll_end_journal(context));
                return Poll::Ready(None);
            }
            if rows.is_idle() {
                continue;
            }
            let outcomes = std::task::ready!(rows.run.poll_wait(context));
            rows.queue.put(outcomes);
        }
    }
}
