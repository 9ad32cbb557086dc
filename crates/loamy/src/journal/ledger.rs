//! The journal as the scheduler sees it. Without I/O: what it is told and what it says passes over the [`Desk`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::desk::{Desk, FULL};
use super::fingerprint::{Fingerprint, Salt};
use super::scribe::{Effect, Finished};
use super::trouble::JournalError;
use crate::job::Job;
use crate::ledger::{Entry, Ledger, Word};
use crate::{Error, Kind, Outcome};

/// Lives in the batch, behind its mutex.
pub(crate) struct JournalLedger {
    desk: Arc<Desk>,
    salt: Salt,
    /// Rows from here on no earlier run knows.
    horizon: usize,
    /// Rows that were admitted and have no outcome yet, by their number less `first`.
    slots: VecDeque<Option<Slot>>,
    first: usize,
    /// The number of the row that is admitted or refused next.
    next: usize,
    /// Rows that are looked up.
    held: usize,
}

/// What must be known of a row when its outcome comes.
#[derive(Clone, Copy)]
struct Slot {
    fingerprint: Fingerprint,
    effect: Effect,
    /// Whether this run asked for its intent.
    intended: bool,
}

impl JournalLedger {
    pub(super) fn new(desk: Arc<Desk>, salt: Salt, horizon: usize) -> Self {
        Self { desk, salt, horizon, slots: VecDeque::new(), first: 0, next: 0, held: 0 }
    }

    fn open_slot(&mut self, index: usize, slot: Slot) {
        self.next = index + 1;
        if self.slots.is_empty() {
            self.first = index;
        }
        // Rows come in order, so only those that were refused lie between.
        self.slots.resize(index - self.first, None);
        self.slots.push_back(Some(slot));
    }

    fn slot(&mut self, index: usize) -> Option<&mut Option<Slot>> {
        self.slots.get_mut(index.checked_sub(self.first)?)
    }

    fn close_slot(&mut self, index: usize) -> Option<Slot> {
        let slot = self.slot(index)?.take();
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        slot
    }
}

impl Ledger for JournalLedger {
    /// A crash has the rows sent again whose outcome was not on disk: these, and those in flight.
    fn most_unrecorded(&self) -> usize {
        FULL
    }

    fn admit(&mut self, job: Box<Job>) -> Entry {
        let fingerprint = Fingerprint::of(&job.request, &self.salt);
        let effect = if job.request.is_idempotent() { Effect::Safe } else { Effect::Unsafe };
        self.open_slot(job.index, Slot { fingerprint, effect, intended: false });
        // A new row is held too while one before it is looked up: that may show that the journal belongs to other rows.
        if job.index < self.horizon || self.held > 0 {
            self.held += 1;
            self.desk.look(job, fingerprint);
            return Entry::Held;
        }
        match effect {
            Effect::Safe => Entry::Open(job),
            Effect::Unsafe => Entry::Unsure(job),
        }
    }

    fn intend(&mut self, index: usize) {
        if let Some(Some(slot)) = self.slot(index) {
            slot.intended = true;
            let fingerprint = slot.fingerprint;
            self.desk.intend(index as u64, fingerprint);
        }
    }

    fn release(&mut self, index: usize) {
        if let Some(Some(slot)) = self.slot(index) {
            slot.intended = false;
            self.desk.release(index as u64);
        }
    }

    fn settle(&mut self, outcome: Outcome) -> Option<Outcome> {
        if outcome.index >= self.next {
            self.next = outcome.index + 1;
            if outcome.index < self.horizon {
                self.desk.refuse(outcome.index as u64);
            }
            return Some(outcome);
        }
        let Some(slot) = self.close_slot(outcome.index) else { return Some(outcome) };
        let kind = outcome.result.as_ref().err().map(Error::kind);
        // A later run has to look at these rows again, so they are not done.
        if outcome.is_left || matches!(kind, Some(Kind::NotSent | Kind::Cancelled | Kind::Internal)) {
            // The intent stands where this run may have sent something. After a bug nobody knows.
            let was_idle = outcome.attempts == 0 || !outcome.in_doubt();
            if slot.intended && kind != Some(Kind::Internal) && was_idle {
                self.desk.release(outcome.index as u64);
            }
            self.desk.leave();
            return Some(outcome);
        }
        let Slot { fingerprint, effect, .. } = slot;
        self.desk.settle(Finished { outcome, fingerprint, effect })
    }

    fn stop_looking(&mut self) {
        self.desk.stop_looking();
    }

    fn collect(&mut self, words: &mut Vec<Word>) {
        let from = words.len();
        self.desk.collect(words);
        for word in &words[from..] {
            match word {
                Word::Open(_) | Word::Unsure(_) => self.held -= 1,
                Word::Known(outcome) => {
                    self.held -= 1;
                    self.close_slot(outcome.index);
                }
                Word::Intended(_) | Word::Settled(_) | Word::Failed(_) => {}
            }
        }
    }

    fn hurry(&mut self) {
        self.desk.hurry();
    }
}

/// An outcome that came too late to be recorded. What arrived is kept with it; it does not count as done.
pub(super) fn unrecorded(finished: Finished, failure: &JournalError) -> Outcome {
    let Finished { mut outcome, effect, .. } = finished;
    let error =
        Error::new(Kind::Cancelled, "the row was sent, but the journal could not record what became of it")
            .hinted(failure.hint().map(|hint| hint.to_owned().into()))
            .after(outcome.attempts)
            .doubtful(effect == Effect::Unsafe)
            .caused_by(failure.clone());
    outcome.result = Err(match outcome.result {
        Ok(response) => error.with_response(Some(response)),
        Err(earlier) => {
            let error = match earlier.subject() {
                Some((method, url)) => error.about(method, url),
                None => error,
            };
            error
                .moved(earlier.bytes_sent(), earlier.bytes_received())
                .with_response(earlier.response().cloned())
        }
    });
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::drill::job;
    use crate::journal::{Journal, JournalKeeper};
    use crate::policy::Idempotency;
    use crate::{JournalOptions, Request};

    fn begin(path: &std::path::Path) -> (JournalLedger, JournalKeeper) {
        Journal::open(path, JournalOptions::default()).unwrap().begin(&Idempotency::AsGiven, Arc::new(|| {}))
    }

    fn ended(index: usize, kind: Kind) -> Outcome {
        Outcome { attempts: 1, ..Outcome::unsent(index, None, Err(Error::new(kind, "ended"))) }
    }

    fn close(keeper: JournalKeeper) -> Result<(), JournalError> {
        keeper.ask_to_close();
        keeper.wait()
    }

    fn words(ledger: &mut JournalLedger, count: usize) -> Vec<String> {
        let mut words = Vec::new();
        let until = crate::clock::now() + std::time::Duration::from_secs(10);
        while words.len() < count && crate::clock::now() < until {
            ledger.collect(&mut words);
            std::thread::yield_now();
        }
        let named = |word: &Word| match word {
            Word::Open(job) => format!("open {}", job.index),
            Word::Unsure(job) => format!("unsure {}", job.index),
            Word::Intended(row) => format!("intended {row}"),
            Word::Failed(error) => format!("failed {}", error.kind()),
            Word::Known(outcome) | Word::Settled(outcome) => {
                let error = outcome.result.as_ref().unwrap_err();
                format!(
                    "{} {}{}",
                    error.kind(),
                    outcome.index,
                    if error.in_doubt() { " in doubt" } else { "" }
                )
            }
        };
        words.iter().map(named).collect()
    }

    #[test]
    fn after_a_clean_stop_rows_are_done_in_doubt_or_open_as_they_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.loamy");
        let (get, post) = (|| Request::get("http://h/"), || Request::post("http://h/", "x"));
        let (mut ledger, keeper) = begin(&path);
        for index in [0, 2] {
            assert!(matches!(ledger.admit(job(index, get())), Entry::Open(_)));
        }
        for index in [3, 4, 5, 6, 7] {
            assert!(matches!(ledger.admit(job(index, post())), Entry::Unsure(_)));
            ledger.intend(index);
        }
        let intended = ["intended 3", "intended 4", "intended 5", "intended 6", "intended 7"];
        assert_eq!(words(&mut ledger, 5), intended);
        assert!(
            ledger.settle(ended(1, Kind::BadRequest)).is_some(),
            "a row that was never admitted needs no record"
        );
        assert!(ledger.settle(ended(0, Kind::Closed)).is_none(), "it is shown once it is on disk");
        assert!(ledger.settle(ended(3, Kind::Closed)).is_none());
        for (index, kind) in
            [(2, Kind::Cancelled), (4, Kind::NotSent), (5, Kind::Cancelled), (6, Kind::Internal)]
        {
            assert!(ledger.settle(ended(index, kind)).is_some(), "{kind}");
        }
        let mut under_way = ended(7, Kind::Cancelled);
        under_way.result = under_way.result.map_err(|error| error.doubtful(true));
        assert!(ledger.settle(under_way).is_some());
        ledger.hurry();
        assert_eq!(words(&mut ledger, 2), ["closed 0", "closed 3"]);
        close(keeper).unwrap();
        drop(ledger);

        let (mut ledger, keeper) = begin(&path);
        for index in [0, 2] {
            assert!(matches!(ledger.admit(job(index, get())), Entry::Held));
        }
        for index in [3, 4, 5, 6, 7] {
            assert!(matches!(ledger.admit(job(index, post())), Entry::Held));
        }
        let new = ledger.admit(job(8, get()));
        assert!(matches!(new, Entry::Held), "what comes before it may belong to other rows");
        let said = [
            "closed 0",
            "open 2",
            "closed 3",
            "unsure 4",
            "unsure 5",
            "cancelled 6 in doubt",
            "cancelled 7 in doubt",
            "open 8",
        ];
        assert_eq!(words(&mut ledger, 8), said);
        assert!(matches!(ledger.admit(job(9, get())), Entry::Open(_)), "the earlier run did not come so far");
        assert!(ledger.settle(ended(2, Kind::Closed)).is_none());
        close(keeper).unwrap();
        drop(ledger);

        // A row that the earlier run has answered, and that is not even a request now.
        let (mut ledger, keeper) = begin(&path);
        assert!(ledger.settle(ended(0, Kind::BadRequest)).is_some());
        assert_eq!(words(&mut ledger, 1), ["failed not_sent"]);
        assert!(matches!(ledger.admit(job(2, get())), Entry::Held));
        assert_eq!(words(&mut ledger, 1), ["not_sent 2"]);
        assert!(matches!(ledger.admit(job(10, get())), Entry::Open(_)));
        let late = ledger.settle(ended(10, Kind::Closed)).unwrap().result.unwrap_err();
        assert_eq!(late.kind(), Kind::Cancelled, "what is not on disk is not called done");
        let first = std::error::Error::source(&late).unwrap().to_string();
        assert_eq!(close(keeper).unwrap_err().to_string(), first);
    }
}
