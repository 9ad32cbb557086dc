//! A ledger that takes its time: it holds rows that it may know, puts rows on record some time after it was asked, and
//! outcomes likewise. It may fail. In other worlds it answers at once and keeps nothing, as without a journal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::response;
use crate::backoff::Jitter;
use crate::job::Job;
use crate::ledger::{Entry, Ledger, Word};
use crate::{Error, Kind, Outcome, Timing};

/// What the ledger was told, and what it has yet to say.
#[derive(Default)]
pub(super) struct Book {
    pub(super) is_late: bool,
    /// Rows from here on are new to it.
    pub(super) horizon: usize,
    pub(super) known_every: usize,
    /// Outcomes that may be on their way to the record before nothing more is sent.
    pub(super) most: usize,
    pub(super) admitted: Vec<usize>,
    /// Rows of whose end it was told, and those whose end it told.
    pub(super) settled: Vec<usize>,
    pub(super) known: Vec<usize>,
    held: VecDeque<Box<Job>>,
    /// Asked for since the model looked.
    pub(super) newly_asked: Vec<usize>,
    asked: VecDeque<usize>,
    pub(super) done: VecDeque<(Outcome, bool)>,
    harmful: Vec<usize>,
    pub(super) hurried: bool,
    pub(super) failed: bool,
    words: Vec<Word>,
    looks_no_more: bool,
}

/// A word, as the model understands it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    /// A row that was held may be sent.
    Let {
        row: usize,
        must_intend: bool,
    },
    Known {
        row: usize,
        result: Result<u16, Kind>,
        in_doubt: bool,
    },
    Intended(usize),
    Settled(usize),
    Unrecorded(usize),
    Failed,
}

pub(super) struct LateLedger(pub(super) Arc<Mutex<Book>>);

impl Book {
    pub(super) fn holds(&self, index: usize) -> bool {
        self.is_late && index < self.horizon
    }

    pub(super) fn has_something_to_say(&self) -> bool {
        !(self.held.is_empty() && self.done.is_empty() && (self.asked.is_empty() || self.failed))
    }
}

impl Ledger for LateLedger {
    fn most_unrecorded(&self) -> usize {
        self.0.lock().unwrap().most
    }

    fn admit(&mut self, job: Box<Job>) -> Entry {
        let mut book = self.0.lock().unwrap();
        book.admitted.push(job.index);
        let harmful = !job.request.is_idempotent();
        if harmful {
            book.harmful.push(job.index);
        }
        if book.holds(job.index) {
            book.held.push_back(job);
            return Entry::Held;
        }
        if book.is_late && harmful { Entry::Unsure(job) } else { Entry::Open(job) }
    }

    fn intend(&mut self, index: usize) {
        let mut book = self.0.lock().unwrap();
        book.newly_asked.push(index);
        book.asked.push_back(index);
    }

    fn release(&mut self, index: usize) {
        panic!("row {index} is taken back, and no origin is asleep in these worlds");
    }

    fn settle(&mut self, outcome: Outcome) -> Option<Outcome> {
        let mut book = self.0.lock().unwrap();
        book.settled.push(outcome.index);
        let kind = outcome.result.as_ref().err().map(Error::kind);
        let is_left =
            outcome.is_left || matches!(kind, Some(Kind::NotSent | Kind::Cancelled | Kind::Internal));
        let was_admitted = book.admitted.binary_search(&outcome.index).is_ok();
        if !book.is_late || is_left || !was_admitted {
            return Some(outcome);
        }
        let harmful = book.harmful.binary_search(&outcome.index).is_ok();
        if book.failed {
            return Some(unrecorded(outcome, harmful));
        }
        book.done.push_back((outcome, harmful));
        None
    }

    fn stop_looking(&mut self) {
        self.0.lock().unwrap().looks_no_more = true;
    }

    fn collect(&mut self, words: &mut Vec<Word>) {
        words.append(&mut self.0.lock().unwrap().words);
    }

    fn hurry(&mut self) {
        self.0.lock().unwrap().hurried = true;
    }
}

/// Some of what there is to say, each kind in its order; or that nothing can be recorded any more.
pub(super) fn speak(book: &mut Book, random: &mut Jitter) -> Vec<Said> {
    let mut said = Vec::new();
    if !book.failed && random.chance(1) {
        book.failed = true;
        book.words.push(Word::Failed(Error::new(Kind::NotSent, "nothing can be recorded")));
        said.push(Said::Failed);
    }
    if !book.failed && random.chance(80) {
        for _ in 0..random.between(0, book.asked.len() as u64) {
            let Some(row) = book.asked.pop_front() else { break };
            book.words.push(Word::Intended(row));
            said.push(Said::Intended(row));
        }
    }
    for _ in 0..random.between(book.held.len().min(1) as u64, book.held.len() as u64) {
        let Some(job) = book.held.pop_front() else { break };
        said.push(look_up(book, job));
    }
    let at_least = if book.failed { book.done.len() } else { 0 };
    for _ in 0..random.between(at_least as u64, book.done.len() as u64) {
        let Some((outcome, harmful)) = book.done.pop_front() else { break };
        if book.failed {
            said.push(Said::Unrecorded(outcome.index));
            book.words.push(Word::Settled(unrecorded(outcome, harmful)));
        } else {
            said.push(Said::Settled(outcome.index));
            book.words.push(Word::Settled(outcome));
        }
    }
    said
}

/// What an earlier run knew of the row: its answer, that it was begun, or nothing.
fn look_up(book: &mut Book, mut job: Box<Job>) -> Said {
    let (row, harmful) = (job.index, !job.request.is_idempotent());
    if book.looks_no_more {
        book.words.push(Word::Open(job));
        return Said::Let { row, must_intend: false };
    }
    let in_doubt = harmful && row % book.known_every == 1;
    let (result, attempts) = match () {
        () if book.failed => (Err(Error::new(Kind::NotSent, "nothing can be recorded")), 0),
        () if row.is_multiple_of(book.known_every) => (Ok(response(299, None, row, &job.request.url)), 1),
        () if in_doubt => (Err(Error::new(Kind::Cancelled, "nobody knows").doubtful(true).after(1)), 1),
        () if harmful => {
            book.words.push(Word::Unsure(job));
            return Said::Let { row, must_intend: true };
        }
        () => {
            book.words.push(Word::Open(job));
            return Said::Let { row, must_intend: false };
        }
    };
    book.known.push(row);
    let said = Said::Known {
        row,
        result: result.as_ref().map(|response| response.status()).map_err(Error::kind),
        in_doubt: result.as_ref().is_err_and(Error::in_doubt),
    };
    let tag = job.request.tag.take();
    let (timing, replayed) = (Timing::default(), result.is_ok());
    book.words.push(Word::Known(Outcome {
        index: row,
        tag,
        attempts,
        earlier: Vec::new(),
        timing,
        replayed,
        over_budget: false,
        has_acted: false,
        is_left: false,
        result,
    }));
    said
}

fn unrecorded(mut outcome: Outcome, harmful: bool) -> Outcome {
    let error = Error::new(Kind::Cancelled, "it could not be recorded");
    outcome.result = Err(error.doubtful(harmful).after(outcome.attempts));
    outcome
}
