//! The journal's thread: takes what lies on the desk, has it written, and says what is on disk.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::desk::{Desk, End, Work};
use super::fingerprint::Fingerprint;
use super::ledger::unrecorded;
use super::scribe::{Group, Scribe};
use super::store::Store;
use super::trouble::{JournalError, Trouble};
use crate::clock::now;
use crate::job::Job;
use crate::ledger::Word;
use crate::{Error, Kind, Outcome};

/// Called whenever the journal has said something, by its thread and with no lock held.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// A group gathers for so many times as long as the one before took to write: on a fast disk outcomes are shown soon, and
/// on any disk most of the time is not spent in syncs.
const PATIENCE: u32 = 4;

/// Rows looked up before it is said what became of them.
const LOOKS: usize = 256;

pub(super) fn spawn<S: Store + 'static>(
    desk: Arc<Desk>,
    scribe: Scribe<S>,
    wake: Wake,
) -> Option<JoinHandle<()>> {
    let (lasting_desk, lasting_wake) = (Arc::clone(&desk), Arc::clone(&wake));
    let thread = std::thread::Builder::new().name("loamy-journal".into()).spawn({
        let (lasting_desk, lasting_wake) = (Arc::clone(&desk), Arc::clone(&wake));
        move || {
            let keeper = Keeper { desk, scribe, wake, told: false };
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| keeper.run()));
            let result = result.unwrap_or_else(|panic| {
                let failure =
                    JournalError::new(Trouble::System, "the journal's thread met a bug; please report it");
                lasting_desk.fail(&failure);
                // Rows that it had in hand are lost: whoever hears of a bug gives every row without an outcome one.
                lasting_desk.say([Word::Failed(Error::of_panic(&*panic))]);
                Err(failure)
            });
            lasting_desk.conclude(result);
            lasting_wake();
        }
    });
    thread
        .map_err(|error| {
            let failure = JournalError::new(Trouble::System, format!("no thread for the journal: {error}"))
                .caused_by(error);
            give_up(&lasting_desk, failure);
            lasting_wake();
        })
        .ok()
}

/// The journal has failed before its thread began.
pub(super) fn give_up(desk: &Desk, failure: JournalError) {
    desk.fail(&failure);
    desk.say([Word::Failed(not_sent(&failure))]);
    desk.conclude(Err(failure));
}

struct Keeper<S> {
    desk: Arc<Desk>,
    scribe: Scribe<S>,
    wake: Wake,
    /// Whether it was said that nothing can be recorded any more.
    told: bool,
}

impl<S: Store> Keeper<S> {
    fn run(mut self) -> Result<(), JournalError> {
        let mut last = Duration::ZERO;
        loop {
            let Work { looks, refused, group, end } = self.desk.next(last * PATIENCE);
            if !group.is_empty() {
                let began = now();
                self.write(group);
                last = now().saturating_duration_since(began);
            }
            for row in refused {
                if let Err(failure) = self.scribe.refuse(row) {
                    self.fail(&failure, Vec::new());
                }
            }
            self.look(looks);
            match end {
                Some(End::Finish { rows }) => return self.scribe.finish(rows),
                Some(End::Close) => return self.scribe.close(),
                None => {}
            }
        }
    }

    fn write(&mut self, group: Group) {
        match self.scribe.write(&group) {
            Ok(()) => {
                let intended = group.intents.iter().map(|(row, _)| Word::Intended(*row as usize));
                let settled = group.done.into_iter().map(|finished| Word::Settled(finished.outcome));
                self.desk.say(intended.chain(settled));
                (self.wake)();
            }
            Err(failure) => {
                let late =
                    group.done.into_iter().map(|finished| Word::Settled(unrecorded(finished, &failure)));
                self.fail(&failure, late.collect());
            }
        }
    }

    fn look(&mut self, looks: Vec<(Box<Job>, Fingerprint)>) {
        let mut words = Vec::new();
        for (job, fingerprint) in looks {
            if self.desk.looks_no_more() {
                // An interrupt cannot wait for thousands of rows: they are not sent, and what is on record of them stays.
                words.push(Word::Open(job));
                continue;
            }
            let unsent =
                (job.index, job.request.tag.clone(), job.request.method.clone(), job.request.url.clone());
            match self.scribe.resolve(job, fingerprint) {
                Ok(word) => words.push(word),
                Err(failure) => {
                    let (index, tag, method, url) = unsent;
                    let result = Err(not_sent(&failure).about(&method, &url));
                    words.push(Word::Known(Outcome::unsent(index, tag, result)));
                    self.fail(&failure, std::mem::take(&mut words));
                }
            }
            if words.len() >= LOOKS {
                self.desk.say(words.drain(..));
                (self.wake)();
            }
        }
        if !words.is_empty() {
            self.desk.say(words);
            (self.wake)();
        }
    }

    fn fail(&mut self, failure: &JournalError, mut words: Vec<Word>) {
        let meanwhile = self.desk.fail(failure);
        words.extend(meanwhile.into_iter().map(|finished| Word::Settled(unrecorded(finished, failure))));
        if !std::mem::replace(&mut self.told, true) {
            words.insert(0, Word::Failed(not_sent(failure)));
        }
        self.desk.say(words);
        (self.wake)();
    }
}

/// What becomes of rows that were not sent because nothing could be recorded any more.
fn not_sent(failure: &JournalError) -> Error {
    Error::new(Kind::NotSent, format!("nothing further is sent, for nothing could be recorded: {failure}"))
        .hinted(failure.hint().map(|hint| hint.to_owned().into()))
        .caused_by(failure.clone())
}
