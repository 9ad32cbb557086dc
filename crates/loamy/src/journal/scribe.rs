//! What is written in which order, and what an earlier run's record means for a row. Drives a [`Store`]; no thread, no clock.

use super::fingerprint::Fingerprint;
use super::part::{self, FAILED, IN_DOUBT, Record, UNSAFE};
use super::record;
use super::resume::{self, Fate};
use super::store::{Commit, Done, Standing, Store};
use super::trouble::{JournalError, Trouble};
use crate::job::{Acted, Job};
use crate::ledger::Word;
use crate::policy::Idempotency;
use crate::{Error, JournalOptions, Kind, Outcome};

/// What is written together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) intents: Vec<(u64, Fingerprint)>,
    pub(crate) releases: Vec<u64>,
    pub(crate) done: Vec<Finished>,
}

/// A row's outcome that is not on disk yet.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) effect: Effect,
}

/// Whether sending a row twice could do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Safe,
    Unsafe,
}

/// The most that is framed before it is handed to the system.
const CHUNK: usize = 1 << 20;

/// Writes groups and reads earlier outcomes.
pub(crate) struct Scribe<S> {
    store: S,
    standing: Standing,
    options: JournalOptions,
    failed: Option<JournalError>,
    framed: Vec<u8>,
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.intents.is_empty() && self.releases.is_empty() && self.done.is_empty()
    }
}

impl<S: Store> Scribe<S> {
    pub(crate) fn new(store: S, options: JournalOptions) -> Self {
        let standing = store.standing();
        Self { store, standing, options, failed: None, framed: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn store(&mut self) -> &mut S {
        &mut self.store
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Has the rows get their keys as in the first run: with another key a row that is sent again is another one to its server.
    pub(crate) fn keep_to(&mut self, keys: &Idempotency) -> Result<(), JournalError> {
        self.guarded(|scribe| match scribe.store.keys()? {
            Some(first) if first == *keys => Ok(()),
            Some(first) => Err(resume::other_keys(&first, keys)),
            None => {
                let (number, end) = (scribe.standing.number + 1, scribe.standing.end);
                let keys = Some(keys);
                scribe.store.commit(&Commit { number, end, keys, intents: &[], releases: &[], done: &[] })?;
                scribe.standing.number = number;
                Ok(())
            }
        })
    }

    /// Puts a group on disk. Once this has failed it fails for ever, and touches nothing.
    pub(crate) fn write(&mut self, group: &Group) -> Result<(), JournalError> {
        self.guarded(|scribe| scribe.put(group))
    }

    /// What becomes of a row that an earlier run may know.
    pub(crate) fn resolve(&mut self, job: Box<Job>, fingerprint: Fingerprint) -> Result<Word, JournalError> {
        self.guarded(|scribe| scribe.consider(job, fingerprint))
    }

    /// A row that cannot be sent at all: an earlier run must not know it.
    pub(crate) fn refuse(&mut self, row: u64) -> Result<(), JournalError> {
        self.guarded(|scribe| match scribe.store.look(row)? {
            Some(_) => Err(resume::other_row(row, "whether it can be sent at all")),
            None => Ok(()),
        })
    }

    /// All rows have their outcome.
    pub(crate) fn finish(&mut self, rows: u64) -> Result<(), JournalError> {
        self.guarded(|scribe| {
            if scribe.standing.horizon > rows {
                return Err(resume::fewer_rows(rows, scribe.standing.horizon - 1));
            }
            scribe.store.finish(rows)?;
            scribe.store.close()
        })
    }

    /// A clean stop before the end.
    pub(crate) fn close(&mut self) -> Result<(), JournalError> {
        self.guarded(|scribe| scribe.store.close())
    }

    fn guarded<R>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<R, JournalError>,
    ) -> Result<R, JournalError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        work(self).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn put(&mut self, group: &Group) -> Result<(), JournalError> {
        let number = self.standing.number + 1;
        let mut end = self.standing.end;
        let mut done = Vec::with_capacity(group.done.len());
        if !group.done.is_empty() {
            self.framed.clear();
            // By this an index that lost commits is found out: this one begins only after the one before was on disk.
            part::frame_mark(&mut self.framed, number);
            for finished in &group.done {
                let entry = frame(&mut self.framed, end, finished)?;
                done.push(entry);
                if self.framed.len() >= CHUNK {
                    self.store.append(&self.framed)?;
                    end += self.framed.len() as u64;
                    self.framed.clear();
                }
            }
            if !self.framed.is_empty() {
                self.store.append(&self.framed)?;
                end += self.framed.len() as u64;
            }
            // What the index points to must be there whenever the index is.
            self.store.sync_part()?;
        }
        let Group { intents, releases, .. } = group;
        self.store.commit(&Commit { number, end, keys: None, intents, releases, done: &done })?;
        (self.standing.number, self.standing.end) = (number, end);
        Ok(())
    }

    fn consider(&mut self, mut job: Box<Job>, fingerprint: Fingerprint) -> Result<Word, JournalError> {
        let row = job.index as u64;
        if let Some(rows) = self.standing.rows
            && row >= rows
        {
            return Err(resume::more_rows(rows));
        }
        let known = self.store.look(row)?;
        let effect = if job.request.is_idempotent() { Effect::Safe } else { Effect::Unsafe };
        let forgot = self.standing.forgot_intents;
        if resume::may_have_acted(known, effect, forgot) {
            job.acted = Acted::Likely;
        }
        match resume::verdict(known, fingerprint, effect, forgot, self.options) {
            Fate::OtherRow(parts) => Err(resume::other_row(row, &parts)),
            Fate::Send => Ok(Word::Open(job)),
            Fate::Intend => Ok(Word::Unsure(job)),
            Fate::InDoubt => {
                Ok(Word::Known(in_doubt(&job, "an earlier run ended while this row was under way")))
            }
            Fate::Replay(done) => match self.replay(&job, done) {
                Ok(outcome) => Ok(Word::Known(outcome)),
                Err(error) if error.trouble() == Trouble::Damaged && self.options.keeps_good => {
                    if effect == Effect::Unsafe {
                        job.acted = Acted::Likely;
                    }
                    Ok(match resume::unreadable(effect, self.options) {
                        Fate::Send => Word::Open(job),
                        Fate::Intend => Word::Unsure(job),
                        _ => Word::Known(in_doubt(
                            &job,
                            "the record of this row's outcome cannot be read any more",
                        )),
                    })
                }
                Err(error) => Err(error),
            },
        }
    }

    fn replay(&mut self, job: &Job, done: Done) -> Result<Outcome, JournalError> {
        let bytes = self.store.read(done.span)?;
        let damaged = || {
            JournalError::damaged(format!(
                "the journal is damaged: the outcome of row {} cannot be read",
                job.index
            ))
        };
        match part::first(&bytes) {
            Some((Record::Row { row, outcome, .. }, length, checksum))
                if row == done.row && length == bytes.len() && checksum == done.span.checksum =>
            {
                record::read(outcome, job.index, &job.request).map_err(|_| damaged())
            }
            _ => Err(damaged()),
        }
    }
}

fn frame(framed: &mut Vec<u8>, end: u64, finished: &Finished) -> Result<Done, JournalError> {
    let Finished { outcome, fingerprint, effect } = finished;
    let mut traits = 0;
    if let Err(error) = &outcome.result {
        traits |= FAILED;
        traits |= if error.in_doubt() { IN_DOUBT } else { 0 };
    }
    traits |= if *effect == Effect::Unsafe { UNSAFE } else { 0 };
    let row = outcome.index as u64;
    let span = part::frame_row(framed, end, row, traits, fingerprint.to_bytes(), |into| {
        record::write(outcome, into)
    })
    .map_err(|_| {
        JournalError::new(Trouble::System, format!("the outcome of row {row} is too large for a journal"))
    })?;
    Ok(Done { row, span, traits, fingerprint: *fingerprint })
}

fn in_doubt(job: &Job, what: &str) -> Outcome {
    let error = Error::new(Kind::Cancelled, format!("{what}; whether it took effect is unknown"))
        .with_hint("ask the server; the row is sent again only with resend_in_doubt")
        .about(&job.request.method, &job.request.url)
        .after(1)
        .doubtful(true);
    Outcome { attempts: 1, ..Outcome::unsent(job.index, job.request.tag.clone(), Err(error)) }
}
