//! Where the scheduler and the journal's thread lay things down for each other. Its mutex is held for moments, never
//! during I/O.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fingerprint::Fingerprint;
use super::ledger::unrecorded;
use super::scribe::{Finished, Group};
use super::trouble::JournalError;
use crate::Outcome;
use crate::clock::now;
use crate::job::Job;
use crate::ledger::Word;

/// A group is written when it has so many rows …
pub(crate) const FULL: usize = 1_000;

/// … or, at the latest, after this time. An intent never waits: its row does.
pub(super) const LATEST: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(crate) struct Desk {
    tray: Mutex<Tray>,
    called: Condvar,
}

#[derive(Default)]
struct Tray {
    looks: Vec<(Box<Job>, Fingerprint)>,
    /// Whether nobody waits for what the looks would find.
    looks_no_more: bool,
    refused: Vec<u64>,
    intents: Vec<(u64, Fingerprint)>,
    releases: Vec<u64>,
    /// Whether rows are left to a later run.
    leaves_rows: bool,
    done: VecDeque<Finished>,
    hurry: bool,
    end: Option<End>,
    ended: Option<Result<(), JournalError>>,
    failed: Option<JournalError>,
    words: Vec<Word>,
    waits: Waits,
}

/// What the journal's thread waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waits {
    #[default]
    Not,
    ForAnything,
    /// There is something to write, and there may be company.
    ForMore,
}

/// How the journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Every row has its outcome.
    Finish { rows: u64 },
    /// A clean stop before that.
    Close,
}

/// What the thread takes up.
pub(super) struct Work {
    pub(super) looks: Vec<(Box<Job>, Fingerprint)>,
    pub(super) refused: Vec<u64>,
    pub(super) group: Group,
    /// Set when nothing will come after this.
    pub(super) end: Option<End>,
}

impl Desk {
    pub(super) fn look(&self, job: Box<Job>, fingerprint: Fingerprint) {
        let mut tray = self.lock();
        tray.looks.push((job, fingerprint));
        self.call(tray, false);
    }

    pub(super) fn refuse(&self, row: u64) {
        let mut tray = self.lock();
        tray.refused.push(row);
        self.call(tray, false);
    }

    pub(super) fn intend(&self, row: u64, fingerprint: Fingerprint) {
        let mut tray = self.lock();
        // A group's releases count after its intents: one that is still to be written must not undo this.
        tray.releases.retain(|released| *released != row);
        tray.intents.push((row, fingerprint));
        self.call(tray, true);
    }

    /// The row was not sent, although it was intended.
    pub(super) fn release(&self, row: u64) {
        let mut tray = self.lock();
        tray.releases.push(row);
        self.call(tray, false);
    }

    /// A row is left to a later run.
    pub(super) fn leave(&self) {
        self.lock().leaves_rows = true;
    }

    pub(super) fn settle(&self, finished: Finished) -> Option<Outcome> {
        let mut tray = self.lock();
        if let Some(failure) = &tray.failed {
            return Some(unrecorded(finished, failure));
        }
        tray.done.push_back(finished);
        let full = tray.done.len() == FULL;
        self.call(tray, full);
        None
    }

    pub(super) fn hurry(&self) {
        let mut tray = self.lock();
        tray.hurry = true;
        self.call(tray, true);
    }

    pub(super) fn stop_looking(&self) {
        self.lock().looks_no_more = true;
    }

    pub(super) fn looks_no_more(&self) -> bool {
        self.lock().looks_no_more
    }

    pub(super) fn collect(&self, words: &mut Vec<Word>) {
        words.append(&mut self.lock().words);
    }

    pub(super) fn end(&self, end: End) {
        let mut tray = self.lock();
        let end = if tray.leaves_rows { End::Close } else { end };
        tray.end.get_or_insert(end);
        self.call(tray, true);
    }

    /// The thread is at its end.
    pub(super) fn conclude(&self, result: Result<(), JournalError>) {
        self.lock().ended = Some(result);
    }

    pub(super) fn ended(&self) -> Option<Result<(), JournalError>> {
        self.lock().ended.clone()
    }

    /// Waits for work. What is done gathers for as long as `patience`, unless a row or the end waits for it.
    pub(super) fn next(&self, patience: Duration) -> Work {
        let mut tray = self.lock();
        let mut until: Option<Instant> = None;
        loop {
            let urgent = !tray.looks.is_empty()
                || !tray.refused.is_empty()
                || !tray.intents.is_empty()
                || tray.hurry
                || tray.end.is_some()
                || tray.done.len() >= FULL;
            let some = !(tray.done.is_empty() && tray.intents.is_empty() && tray.releases.is_empty());
            if urgent && (some || !tray.looks.is_empty() || !tray.refused.is_empty() || tray.end.is_some()) {
                break;
            }
            tray.hurry = false;
            if !some {
                tray.waits = Waits::ForAnything;
                tray = self.called.wait(tray).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let until = *until.get_or_insert_with(|| now() + patience.min(LATEST));
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                break;
            }
            tray.waits = Waits::ForMore;
            tray = self.called.wait_timeout(tray, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        tray.waits = Waits::Not;
        let many = tray.done.len().min(FULL);
        let group = Group {
            intents: std::mem::take(&mut tray.intents),
            releases: std::mem::take(&mut tray.releases),
            done: tray.done.drain(..many).collect(),
        };
        tray.hurry &= !tray.done.is_empty();
        Work {
            looks: std::mem::take(&mut tray.looks),
            refused: std::mem::take(&mut tray.refused),
            group,
            // What is left is taken up first.
            end: if tray.done.is_empty() { tray.end } else { None },
        }
    }

    pub(super) fn say(&self, words: impl IntoIterator<Item = Word>) {
        self.lock().words.extend(words);
    }

    /// From here on nothing is recorded. Gives back what has come meanwhile.
    pub(super) fn fail(&self, failure: &JournalError) -> VecDeque<Finished> {
        let mut tray = self.lock();
        tray.failed.get_or_insert_with(|| failure.clone());
        std::mem::take(&mut tray.done)
    }

    fn call(&self, mut tray: MutexGuard<'_, Tray>, urgent: bool) {
        let wakes = match tray.waits {
            Waits::Not => false,
            Waits::ForAnything => true,
            Waits::ForMore => urgent || !tray.looks.is_empty(),
        };
        if wakes {
            tray.waits = Waits::Not;
        }
        drop(tray);
        if wakes {
            self.called.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn h5_an_intent_that_follows_a_release_stands() {
        let (desk, row) = (Desk::default(), Fingerprint::of(&Request::post("http://h/", "x"), &[0; 16]));
        // In a group the releases count after the intents.
        desk.intend(1, row);
        desk.release(1);
        assert_eq!(desk.next(Duration::ZERO).group.releases, [1]);
        desk.release(1);
        desk.intend(1, row);
        let group = desk.next(Duration::ZERO).group;
        assert_eq!((group.intents.len(), group.releases.len()), (1, 0));
    }
}
