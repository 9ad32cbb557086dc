//! A disk that loses, tears and reorders what was not synced, fails at any step, and ends the process at any step; and a
//! world of rows, runs and a server around the [`Scribe`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::drill::job;
use super::fingerprint::{Fingerprint, Salt};
use super::part::{HEADER, Span};
use super::scribe::{Effect, Finished, Group, Scribe};
use super::sqlite::Sqlite;
use super::store::{Commit, Done, Known, Standing, Store};
use super::trouble::{JournalError, Trouble};
use crate::backoff::Jitter;
use crate::ledger::Word;
use crate::policy::Idempotency;
use crate::{JournalOptions, Outcome, Request, Response};

/// What is on the platter, and what is only in the cache.
#[derive(Clone, Default)]
struct Disk {
    synced: Vec<u8>,
    cached: Vec<u8>,
    index: Index,
}

#[derive(Clone, Default)]
struct Index {
    number: u64,
    end: u64,
    rows: Option<u64>,
    keys: Option<Idempotency>,
    intents: BTreeMap<u64, Fingerprint>,
    done: BTreeMap<u64, Done>,
}

impl Index {
    fn apply(&mut self, commit: &Commit<'_>) {
        self.intents.extend(commit.intents.iter().copied());
        self.intents.retain(|row, _| !commit.releases.contains(row));
        for done in commit.done {
            self.intents.remove(&done.row);
            self.done.insert(done.row, *done);
        }
        if let Some(keys) = commit.keys {
            self.keys = Some(keys.clone());
        }
        (self.number, self.end) = (commit.number, commit.end);
    }
}

impl Disk {
    /// What a power failure leaves: of what was not synced each sector as it was, as it was to be, or nonsense.
    fn lose_power(&mut self, dice: &mut Jitter) {
        const SECTOR: usize = 16;
        let kept =
            self.synced.len() + dice.below((self.cached.len() - self.synced.len()) as u64 + 1) as usize;
        let mut survives = self.cached[..kept].to_vec();
        for sector in survives[self.synced.len()..].chunks_mut(SECTOR) {
            match dice.below(4) {
                0 => sector.fill(0),
                1 => sector.iter_mut().for_each(|byte| *byte = dice.next() as u8),
                _ => {}
            }
        }
        self.synced.clone_from(&survives);
        self.cached = survives;
    }
}

struct Simulated {
    disk: Arc<Mutex<Disk>>,
    dice: Jitter,
    /// How many steps go well. In the next one the process ends, or the system refuses it, having done some of it: nothing
    /// of the journal touches the disk after either.
    left: u64,
    /// Once set, nothing may be tried again.
    over: bool,
}

impl Simulated {
    fn open(disk: &Arc<Mutex<Disk>>, mut dice: Jitter, left: u64) -> Self {
        {
            let mut disk = disk.lock().unwrap();
            if disk.synced.is_empty() {
                disk.synced = vec![0; HEADER as usize];
                disk.cached = disk.synced.clone();
                disk.index.end = HEADER;
            }
            let end = disk.index.end as usize;
            assert!(end <= disk.synced.len(), "the index speaks of what is not on disk");
            disk.synced.truncate(end);
            disk.cached.truncate(end);
            dice.next();
        }
        Self { disk: Arc::clone(disk), dice, left, over: false }
    }

    /// Whether the step goes well; else how much of it is done.
    fn step(&mut self) -> Result<(), JournalError> {
        assert!(!self.over, "the disk was used again after it had failed");
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.over = true;
                Err(JournalError::new(Trouble::System, "the simulated disk failed"))
            }
        }
    }
}

/// A disk that the world below can be run over.
trait Medium {
    type Store: Store + 'static;

    /// Opens what the run before has left. After so many steps the disk fails.
    fn open(&self, dice: Jitter, left: u64) -> Self::Store;

    /// What the index says at this moment.
    fn is_intended(&self, store: &mut Self::Store, row: u64) -> bool;

    fn lose_power(&self, dice: &mut Jitter);
}

impl Medium for Arc<Mutex<Disk>> {
    type Store = Simulated;

    fn open(&self, dice: Jitter, left: u64) -> Simulated {
        Simulated::open(self, dice, left)
    }

    fn is_intended(&self, _: &mut Simulated, row: u64) -> bool {
        self.lock().unwrap().index.intents.contains_key(&row)
    }

    fn lose_power(&self, dice: &mut Jitter) {
        self.lock().unwrap().lose_power(dice);
    }
}

/// The real store, in a folder of its own.
struct RealDisk {
    folder: tempfile::TempDir,
}

/// The real store, over which a step fails: not done, or done and not told.
struct Failing {
    store: Sqlite,
    part: PathBuf,
    dice: Jitter,
    left: u64,
    over: bool,
}

impl RealDisk {
    fn index(&self) -> PathBuf {
        self.folder.path().join("run.loamy")
    }

    fn part(&self) -> PathBuf {
        let names = ["run.loamy.bodies", "run.loamy.part"].map(|name| self.folder.path().join(name));
        names.iter().find(|path| path.exists()).unwrap_or(&names[1]).clone()
    }
}

impl Medium for RealDisk {
    type Store = Failing;

    fn open(&self, dice: Jitter, left: u64) -> Failing {
        let store = Sqlite::open(&self.index(), false).unwrap();
        Failing { store, part: self.part(), dice, left, over: false }
    }

    fn is_intended(&self, store: &mut Failing, row: u64) -> bool {
        matches!(store.store.look(row), Ok(Some(Known::Intended(_))))
    }

    /// What was written and never synced is nonsense: behind the part file's end, and behind the log's last commit.
    fn lose_power(&self, dice: &mut Jitter) {
        for path in [self.part(), self.folder.path().join("run.loamy-wal")] {
            let nonsense: Vec<u8> = (0..dice.below(200)).map(|_| dice.next() as u8).collect();
            if path.exists() {
                OpenOptions::new().append(true).open(path).unwrap().write_all(&nonsense).unwrap();
            }
        }
    }
}

impl Failing {
    /// How the step goes: `what` is done wholly or, if it is the one that fails, perhaps.
    fn step<R>(
        &mut self,
        what: impl FnOnce(&mut Sqlite) -> Result<R, JournalError>,
    ) -> Result<R, JournalError> {
        assert!(!self.over, "the disk was used again after it had failed");
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return what(&mut self.store);
        }
        self.over = true;
        if self.dice.chance(50) {
            what(&mut self.store)?;
        }
        Err(JournalError::new(Trouble::System, "the simulated disk failed"))
    }
}

impl Store for Failing {
    fn standing(&self) -> Standing {
        self.store.standing()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let some = &bytes[..self.dice.below(bytes.len() as u64 + 1) as usize];
        let (fails, part) = (self.left == 0, self.part.clone());
        self.step(|store| {
            if fails {
                // Torn: only some of it arrives.
                OpenOptions::new().append(true).open(part).unwrap().write_all(some).unwrap();
                return Ok(());
            }
            store.append(bytes)
        })
    }

    fn sync_part(&mut self) -> Result<(), JournalError> {
        self.step(Sqlite::sync_part)
    }

    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), JournalError> {
        self.step(|store| store.commit(commit))
    }

    fn keys(&mut self) -> Result<Option<Idempotency>, JournalError> {
        self.step(Sqlite::keys)
    }

    fn look(&mut self, row: u64) -> Result<Option<Known>, JournalError> {
        self.step(|store| store.look(row))
    }

    fn read(&mut self, span: Span) -> Result<Vec<u8>, JournalError> {
        self.step(|store| store.read(span))
    }

    fn finish(&mut self, rows: u64) -> Result<(), JournalError> {
        self.step(|store| store.finish(rows))
    }

    fn close(&mut self) -> Result<(), JournalError> {
        self.step(Sqlite::close)
    }
}

impl Store for Simulated {
    fn standing(&self) -> Standing {
        let disk = self.disk.lock().unwrap();
        let Index { number, end, rows, .. } = disk.index;
        let last = disk.index.done.keys().chain(disk.index.intents.keys()).max();
        let horizon = last.map_or(0, |row| row + 1);
        Standing { salt: [1; 16], end, number, horizon, rows, forgot_intents: false }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let went = self.step();
        let done = if went.is_ok() { bytes.len() } else { self.dice.below(bytes.len() as u64 + 1) as usize };
        self.disk.lock().unwrap().cached.extend_from_slice(&bytes[..done]);
        went
    }

    fn sync_part(&mut self) -> Result<(), JournalError> {
        let went = self.step();
        let disk = &mut *self.disk.lock().unwrap();
        match went {
            Ok(()) => disk.synced.clone_from(&disk.cached),
            // What a failed sync leaves behind is nonsense on the platter, though the cache still has it.
            Err(_) => {
                let mut lost = disk.clone();
                lost.lose_power(&mut self.dice);
                disk.synced = lost.synced;
                disk.cached.clone_from(&disk.synced);
            }
        }
        went
    }

    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), JournalError> {
        let went = self.step();
        let disk = &mut *self.disk.lock().unwrap();
        assert!(disk.synced.len() as u64 >= commit.end, "a commit of what is not on disk");
        // The process may end, or be told of a failure, with the commit on disk all the same.
        if went.is_ok() || self.dice.chance(50) {
            disk.index.apply(commit);
        }
        went
    }

    fn keys(&mut self) -> Result<Option<Idempotency>, JournalError> {
        self.step()?;
        Ok(self.disk.lock().unwrap().index.keys.clone())
    }

    fn look(&mut self, row: u64) -> Result<Option<Known>, JournalError> {
        self.step()?;
        let disk = self.disk.lock().unwrap();
        let intent = disk.index.intents.get(&row).map(|fingerprint| Known::Intended(*fingerprint));
        Ok(intent.or_else(|| disk.index.done.get(&row).map(|done| Known::Done(*done))))
    }

    fn read(&mut self, span: Span) -> Result<Vec<u8>, JournalError> {
        self.step()?;
        let from = span.at as usize;
        Ok(self.disk.lock().unwrap().synced[from..from + span.length as usize].to_vec())
    }

    fn finish(&mut self, rows: u64) -> Result<(), JournalError> {
        self.step()?;
        self.disk.lock().unwrap().index.rows = Some(rows);
        Ok(())
    }

    fn close(&mut self) -> Result<(), JournalError> {
        self.step()
    }
}

/// Rows, the server that they go to, and what its user was shown.
struct World {
    dice: Jitter,
    rows: Vec<Request>,
    salt: Salt,
    /// How often the server saw each row, and its last answer.
    seen: Vec<u64>,
    /// What was shown as done, in whatever run.
    shown: HashMap<usize, (u16, Vec<u8>)>,
    /// Rows whose intent is known to be on disk and not released.
    intended: BTreeSet<usize>,
    options: JournalOptions,
    resent_in_doubt: bool,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Failed,
    Stopped,
    /// Every row has its outcome, so many of them in doubt.
    All {
        in_doubt: usize,
    },
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Jitter::seeded(seed);
        let rows = (0..1 + dice.below(16))
            // Some rows are the same as others: only their numbers tell them apart.
            .map(|row| match dice.below(3) {
                0 => Request::post(format!("http://h/{}", row / 2), "x"),
                1 => Request::get("http://h/same"),
                _ => Request::get(format!("http://h/{row}")),
            })
            .collect::<Vec<_>>();
        let seen = vec![0; rows.len()];
        let options = JournalOptions::default();
        Self {
            dice,
            rows,
            salt: Salt::default(),
            seen,
            shown: HashMap::new(),
            intended: BTreeSet::new(),
            options,
            resent_in_doubt: false,
        }
    }

    fn fingerprint(&self, row: usize) -> Fingerprint {
        Fingerprint::of(&self.rows[row], &self.salt)
    }

    fn effect(&self, row: usize) -> Effect {
        if self.rows[row].is_idempotent() { Effect::Safe } else { Effect::Unsafe }
    }

    /// One run of the process over all rows, as a scheduler with few slots would go about it.
    fn run<M: Medium>(&mut self, disk: &M, left: u64, stops: bool) -> Ending {
        let store = disk.open(Jitter::seeded(self.dice.next()), left);
        self.salt = store.standing().salt;
        let mut scribe = Scribe::new(store, self.options);
        if scribe.keep_to(&Idempotency::AsGiven).is_err() {
            return Ending::Failed;
        }
        let (mut open, mut unsure, mut asked, mut flying) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut settled = vec![false; self.rows.len()];
        let mut in_doubt = 0;
        let mut granted = BTreeSet::new();
        for (row, is_settled) in settled.iter_mut().enumerate() {
            let job = job(row, self.rows[row].clone());
            match scribe.resolve(job, self.fingerprint(row)) {
                Ok(Word::Open(_)) => open.push(row),
                Ok(Word::Unsure(_)) => unsure.push(row),
                Ok(Word::Known(outcome)) => {
                    *is_settled = true;
                    in_doubt += usize::from(self.settle_earlier(row, &outcome));
                }
                Ok(word) => panic!("{word:?}"),
                Err(_) => return Ending::Failed,
            }
            if open.last() == Some(&row) || unsure.last() == Some(&row) {
                assert!(!self.shown.contains_key(&row), "row {row} was shown as done and is sent again");
                assert!(
                    !self.intended.contains(&row) || self.options.resends_in_doubt,
                    "row {row} was intended and is sent again"
                );
            }
        }
        let mut group = Group::default();
        loop {
            match self.dice.below(6) {
                0 if !open.is_empty() && flying.len() < 3 => {
                    let row = open.swap_remove(self.dice.below(open.len() as u64) as usize);
                    if self.effect(row) == Effect::Unsafe {
                        assert!(
                            disk.is_intended(scribe.store(), row as u64),
                            "row {row} is sent and its intent is not on disk"
                        );
                        self.resent_in_doubt |= self.seen[row] > 0;
                    }
                    self.seen[row] += 1;
                    flying.push(row);
                }
                1 if !unsure.is_empty() => {
                    let row = unsure.remove(0);
                    group.intents.push((row as u64, self.fingerprint(row)));
                    asked.push(row);
                }
                2 if !flying.is_empty() => {
                    let row = flying.swap_remove(self.dice.below(flying.len() as u64) as usize);
                    let outcome = self.answer(row);
                    let (fingerprint, effect) = (self.fingerprint(row), self.effect(row));
                    group.done.push(Finished { outcome, fingerprint, effect });
                }
                3 if !group.is_empty() => {
                    if scribe.write(&group).is_err() {
                        assert!(scribe.write(&group).is_err(), "a journal that failed writes again");
                        return Ending::Failed;
                    }
                    for (row, _) in std::mem::take(&mut group.intents) {
                        self.intended.insert(row as usize);
                        granted.insert(row as usize);
                        open.push(row as usize);
                    }
                    asked.clear();
                    group.releases.clear();
                    for finished in std::mem::take(&mut group.done) {
                        let row = finished.outcome.index;
                        settled[row] = true;
                        self.intended.remove(&row);
                        let earlier = self.shown.insert(row, look_of(&finished.outcome));
                        assert!(earlier.is_none(), "row {row} is done twice");
                    }
                }
                4 if stops && self.dice.chance(10) => {
                    // A clean stop: what was intended and not sent is released, what is under way stays in doubt.
                    for row in open.drain(..).filter(|row| granted.contains(row)).chain(asked.drain(..)) {
                        group.releases.push(row as u64);
                    }
                    // They were not sent, so whether the release arrives matters to nobody but themselves.
                    for row in &group.releases {
                        self.intended.remove(&(*row as usize));
                    }
                    if scribe.write(&group).is_err() || scribe.close().is_err() {
                        return Ending::Failed;
                    }
                    for finished in group.done {
                        self.intended.remove(&finished.outcome.index);
                        self.shown.insert(finished.outcome.index, look_of(&finished.outcome));
                    }
                    return Ending::Stopped;
                }
                _ => {}
            }
            if settled.iter().all(|settled| *settled) {
                return match scribe.finish(self.rows.len() as u64) {
                    Ok(()) => Ending::All { in_doubt },
                    Err(_) => Ending::Failed,
                };
            }
        }
    }

    /// A row has its outcome from an earlier run; says whether that is that nobody knows.
    fn settle_earlier(&mut self, row: usize, outcome: &Outcome) -> bool {
        if outcome.result.as_ref().is_err_and(|error| error.in_doubt()) {
            assert_eq!(self.effect(row), Effect::Unsafe, "row {row} can be sent again and is in doubt");
            assert!(!self.shown.contains_key(&row), "row {row} was shown as done and is in doubt");
            return true;
        }
        let look = look_of(outcome);
        assert!(self.seen[row] > 0, "row {row} has an outcome and was never sent");
        let shown = self.shown.entry(row).or_insert_with(|| look.clone());
        assert_eq!(*shown, look, "row {row} was shown otherwise");
        false
    }

    /// The server's answer says how often it saw the row.
    fn answer(&mut self, row: usize) -> Outcome {
        let body = vec![b'a' + row as u8; self.dice.below(120) as usize];
        let (status, version) = (200 + self.seen[row] as u16, http::Version::HTTP_11);
        let url = self.rows[row].url.as_str().into();
        let response = Response { status, version, redirects: 0, head: 0, bytes: body.into(), url };
        Outcome { attempts: 1, ..Outcome::unsent(row, None, Ok(response)) }
    }
}

fn look_of(outcome: &Outcome) -> (u16, Vec<u8>) {
    let response = outcome.response().expect("an answer");
    (response.status(), response.body().to_vec())
}

/// Runs until every row has its outcome, each run but the last broken off somewhere.
fn live(seed: u64, options: JournalOptions, disk: &impl Medium) -> (World, Ending) {
    let mut world = World::new(seed);
    world.options = options;
    for round in 0.. {
        let breaks = round < 6 && world.dice.chance(85);
        let left = if breaks { world.dice.below(60) } else { u64::MAX };
        let ending = world.run(disk, left, breaks);
        assert!(breaks || matches!(ending, Ending::All { .. }), "{ending:?}");
        if matches!(ending, Ending::All { .. }) && !world.dice.chance(30) {
            return (world, ending);
        }
        if world.dice.chance(60) {
            let mut dice = Jitter::seeded(world.dice.next());
            disk.lose_power(&mut dice);
        }
    }
    unreachable!()
}

/// What must hold once every row has its outcome; says how many are in doubt and how many were sent again.
fn keeps_its_promises(seed: u64, disk: &impl Medium) -> (usize, usize) {
    let (world, ending) = live(seed, JournalOptions::default(), disk);
    let Ending::All { in_doubt } = ending else { unreachable!() };
    assert_eq!(world.shown.len() + in_doubt, world.rows.len(), "each row has one outcome");
    for (row, seen) in world.seen.iter().enumerate() {
        if world.effect(row) == Effect::Unsafe {
            assert!(*seen <= 1, "row {row} may not be sent twice and was, {seen} times");
        } else {
            assert!(*seen >= 1, "row {row} was never sent");
        }
    }
    (in_doubt, world.seen.iter().filter(|seen| **seen > 1).count())
}

fn over_seeds(seeds: u64, keeps: impl Fn(u64) -> (usize, usize) + std::panic::RefUnwindSafe) {
    let (mut doubtful, mut sent_again) = (0, 0);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| keeps(seed));
        let (in_doubt, again) = outcome.unwrap_or_else(|_| panic!("seed {seed}"));
        doubtful += in_doubt;
        sent_again += again;
    }
    // Else the disk would hardly have failed at all.
    let least = seeds as usize / 20;
    assert!(doubtful > least && sent_again > least, "{doubtful} in doubt, {sent_again} sent again");
}

#[test]
fn h4_h5_h9_whenever_the_disk_fails_or_the_power_goes_nothing_done_is_lost_and_nothing_unsafe_is_sent_twice()
{
    over_seeds(20_000, |seed| keeps_its_promises(seed, &Arc::new(Mutex::new(Disk::default()))));
}

#[test]
fn h4_h5_the_real_store_keeps_the_same_promises() {
    over_seeds(300, |seed| keeps_its_promises(seed, &RealDisk { folder: tempfile::tempdir().unwrap() }));
}

#[test]
fn h5_with_leave_to_resend_every_row_is_answered() {
    let mut resent = 0;
    for seed in 0..10_000 {
        let disk = Arc::new(Mutex::new(Disk::default()));
        let (world, ending) = live(seed, JournalOptions::default().resend_in_doubt(), &disk);
        assert_eq!(ending, Ending::All { in_doubt: 0 }, "seed {seed}");
        assert!(world.seen.iter().all(|seen| *seen >= 1), "seed {seed}");
        resent += usize::from(world.resent_in_doubt);
    }
    assert!(resent > 500, "{resent}");
}
