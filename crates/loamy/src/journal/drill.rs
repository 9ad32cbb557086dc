//! A batch without a network, for tests that end its process at any instant: rows, a journal, and a server that is a file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Journal, JournalError, JournalOptions};
use crate::backoff::Jitter;
use crate::job::{Job, OriginId, Placed};
use crate::ledger::{Entry, Ledger, Word};
use crate::policy::Idempotency;
use crate::{Error, Kind, Outcome, Request, Response};

/// Rows sent and not yet answered.
const SLOTS: usize = 8;

/// What a drill runs on.
#[derive(Debug)]
pub struct Drill<'a> {
    pub journal: &'a Path,
    /// Gets a line for each row that the server sees.
    pub server: &'a Path,
    /// Gets a line for each row that is shown: its number, and `done` with a checksum, `doubt`, `late` or `unsent`.
    pub shown: &'a Path,
    pub rows: usize,
    /// The most bytes that a body has.
    pub body: usize,
    pub seed: u64,
}

/// Every third row may not be sent twice.
pub fn is_unsafe(row: usize) -> bool {
    row.is_multiple_of(3)
}

/// A row as the batch hands it to its ledger.
pub(super) fn job(index: usize, request: Request) -> Box<Job> {
    let placed = Placed { origin: OriginId(0), path_at: 0, authorization: None };
    Box::new(Job::new(index, request, placed, None))
}

fn request(row: usize) -> Request {
    let url = format!("http://h/{row}");
    if is_unsafe(row) { Request::post(url, "x") } else { Request::get(url) }
}

impl Drill<'_> {
    /// Sends what is left, and finishes the journal.
    ///
    /// # Errors
    /// When the journal could not be opened or written.
    pub fn run(&self, options: JournalOptions) -> Result<(), JournalError> {
        let log = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        let (Ok(server), Ok(shown)) = (log(self.server), log(self.shown)) else { panic!("no logs") };
        line(&shown, "run");
        let journal = Journal::open(self.journal, options)?;
        let bell = Arc::new((Mutex::new(false), Condvar::new()));
        let ring = Arc::clone(&bell);
        let (mut ledger, keeper) = journal.begin(
            &Idempotency::AsGiven,
            Arc::new(move || {
                *ring.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                ring.1.notify_all();
            }),
        );
        let mut state = State::new(Jitter::seeded(self.seed), self.body);
        for row in 0..self.rows {
            match ledger.admit(job(row, request(row))) {
                Entry::Open(_) => state.open.push_back(row),
                Entry::Unsure(_) => state.unsure.push_back(row),
                Entry::Held => {}
            }
        }
        let mut words = Vec::new();
        while state.settled < self.rows {
            ledger.collect(&mut words);
            let heard = !words.is_empty();
            for word in words.drain(..) {
                state.hear(word, &shown);
            }
            if state.failed {
                for row in
                    std::mem::take(&mut state.open).into_iter().chain(std::mem::take(&mut state.unsure))
                {
                    state.show(&Outcome::unsent(row, None, Err(failure())), &shown);
                }
                for row in std::mem::take(&mut state.asked) {
                    state.show(&Outcome::unsent(row, None, Err(failure())), &shown);
                }
            }
            while state.asked.len() < SLOTS
                && let Some(row) = state.unsure.pop_front()
            {
                state.asked.push_back(row);
                ledger.intend(row);
            }
            while state.flying.len() < SLOTS
                && let Some(row) = state.open.pop_front()
            {
                line(&server, &row.to_string());
                state.flying.push_back(row);
            }
            let answered = state.chance.below(SLOTS as u64 + 1) as usize;
            for _ in 0..answered.min(state.flying.len()) {
                let Some(row) = state.flying.pop_front() else { break };
                let outcome = state.answer(row);
                if let Some(outcome) = ledger.settle(outcome) {
                    state.show(&outcome, &shown);
                }
            }
            if state.open.is_empty() && state.unsure.is_empty() && state.flying.is_empty() {
                ledger.hurry();
            }
            if !heard && state.open.is_empty() && state.flying.is_empty() && state.settled < self.rows {
                let rung = bell.0.lock().unwrap_or_else(PoisonError::into_inner);
                let (mut rung, _) = bell
                    .1
                    .wait_timeout_while(rung, Duration::from_secs(10), |rung| !*rung)
                    .unwrap_or_else(PoisonError::into_inner);
                assert!(*rung, "the journal said nothing for ten seconds");
                *rung = false;
            }
        }
        if state.failed {
            keeper.ask_to_close()
        } else {
            keeper.ask_to_finish(self.rows)
        }
        keeper.wait()
    }
}

struct State {
    chance: Jitter,
    body: usize,
    open: VecDeque<usize>,
    unsure: VecDeque<usize>,
    asked: VecDeque<usize>,
    flying: VecDeque<usize>,
    settled: usize,
    failed: bool,
}

impl State {
    fn new(chance: Jitter, body: usize) -> Self {
        Self {
            chance,
            body,
            open: VecDeque::new(),
            unsure: VecDeque::new(),
            asked: VecDeque::new(),
            flying: VecDeque::new(),
            settled: 0,
            failed: false,
        }
    }

    fn hear(&mut self, word: Word, shown: &File) {
        match word {
            Word::Open(job) => self.open.push_back(job.index),
            Word::Unsure(job) => self.unsure.push_back(job.index),
            Word::Intended(row) => {
                assert_eq!(self.asked.pop_front(), Some(row), "intents come in the order asked");
                self.open.push_back(row);
            }
            Word::Known(outcome) | Word::Settled(outcome) => self.show(&outcome, shown),
            Word::Failed(_) => self.failed = true,
        }
    }

    fn show(&mut self, outcome: &Outcome, shown: &File) {
        self.settled += 1;
        let how = match &outcome.result {
            Ok(response) => format!("done {:08x}", crc32c::crc32c(response.body())),
            Err(error) if error.kind() == Kind::NotSent => "unsent".into(),
            Err(error)
                if error.attempts() > 0
                    && error.bytes_sent() == 0
                    && std::error::Error::source(error).is_some() =>
            {
                "late".into()
            }
            Err(_) => "doubt".into(),
        };
        line(shown, &format!("{} {how}", outcome.index));
    }

    fn answer(&mut self, row: usize) -> Outcome {
        let length = self.chance.below(self.body as u64 + 1);
        let body: Vec<u8> = (0..length).map(|_| self.chance.next() as u8).collect();
        let url = format!("http://h/{row}").into();
        let response = Response {
            status: 200,
            version: http::Version::HTTP_11,
            redirects: 0,
            head: 0,
            bytes: body.into(),
            url,
        };
        Outcome { attempts: 1, ..Outcome::unsent(row, None, Ok(response)) }
    }
}

fn failure() -> Error {
    Error::new(Kind::NotSent, "the journal failed")
}

/// One system call, so that a line is whole or absent.
fn line(mut file: &File, text: &str) {
    let Ok(()) = file.write_all(format!("{text}\n").as_bytes()) else { panic!("no log") };
}
