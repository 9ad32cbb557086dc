//! The real disk: SQLite for the index, a file that only grows for what arrived.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::digest::Digest;
use super::fingerprint::{Fingerprint, Salt};
use super::log;
use super::part::{HEADER, MAGIC, Record, Span};
use super::place::{Locked, Place};
use super::rebuild;
use super::store::{Commit, Done, Known, Standing, Store};
use super::trouble::{JournalError, Trouble};
use crate::policy::Idempotency;

/// "loam", as a number: what SQLite's header says that the file is.
const APPLICATION: i64 = 0x6c6f_616d;

/// The tables below and the frames of the part file. What another version wrote is not read.
const FORMAT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE job (
        only INTEGER PRIMARY KEY CHECK (only = 1), engine TEXT NOT NULL, salt BLOB NOT NULL, part_end INTEGER NOT NULL,
        commits INTEGER NOT NULL, digest INTEGER NOT NULL, rows INTEGER, forgot_intents INTEGER NOT NULL,
        keys TEXT) STRICT;
    CREATE TABLE intent (row INTEGER PRIMARY KEY, fingerprint BLOB NOT NULL) STRICT;
    CREATE TABLE done (
        row INTEGER PRIMARY KEY, at INTEGER NOT NULL, length INTEGER NOT NULL, checksum INTEGER NOT NULL,
        traits INTEGER NOT NULL, fingerprint BLOB NOT NULL) STRICT;
";

const AS_GIVEN: &str = "as given";
const OF_JOB: &str = "of job ";

/// The write-ahead log is emptied into the index after so many commits, or rows.
const CHECKPOINT_COMMITS: u32 = 256;
const CHECKPOINT_ROWS: usize = 32_768;

/// A journal's files, open and locked.
pub(crate) struct Sqlite {
    // Before the place, so that the lock is let go of before the claim is.
    index: Connection,
    part: Locked,
    finished: bool,
    standing: Standing,
    digest: Digest,
    commits: u32,
    rows: usize,
    place: Place,
}

impl Sqlite {
    pub(super) fn open(path: &std::path::Path, keep_good: bool) -> Result<Self, JournalError> {
        match Self::open_at(Place::claim(path)?, keep_good) {
            Err(error) if keep_good && error.trouble() == Trouble::Damaged => {
                rebuild::index(&Place::claim(path)?)?;
                Self::open_at(Place::claim(path)?, keep_good)
            }
            opened => opened,
        }
    }

    fn open_at(place: Place, keep_good: bool) -> Result<Self, JournalError> {
        let (index, part, finished, standing) = Self::connect(&place, keep_good)?;
        let digest = Digest::noted(&index).map_err(|error| trouble(&place, error))?;
        let mut opened = Self { index, part, finished, standing, digest, commits: 0, rows: 0, place };
        // What a torn commit has left in the log must not be met by the next look at it.
        opened.checkpoint("TRUNCATE")?;
        Ok(opened)
    }

    fn connect(place: &Place, keep_good: bool) -> Result<(Connection, Locked, bool, Standing), JournalError> {
        if rebuild::was_cut_short(place)? {
            return Err(lost(place, "its index was being made anew, and that was cut short"));
        }
        let empty = std::fs::metadata(&place.index).is_ok_and(|found| found.len() == 0);
        let mut index = lock(place)?;
        if !log::is_plausible(&place.log).map_err(|error| JournalError::system("read", &place.log, error))? {
            return Err(lost(place, "commits in the middle of its log cannot be read"));
        }
        if read_job(&index).map_err(|error| trouble(place, error))?.is_none() {
            return make(place, index, empty);
        }
        check(place, &index)?;
        let Some(standing) = read_job(&index).map_err(|error| trouble(place, error))? else {
            return Err(JournalError::damaged(format!(
                "the journal {} has lost its beginning",
                place.index.display()
            )));
        };
        let part = place.find_part()?;
        let Some((path, part)) = part else {
            return Err(lost(place, "its part file is missing"));
        };
        let finished = path == place.bodies;
        let standing = fit(place, &mut index, &path, &part, standing, keep_good)?;
        Ok((index, part, finished, standing))
    }

    fn failed(&self, error: rusqlite::Error) -> JournalError {
        trouble(&self.place, error)
    }

    fn change(&mut self, commit: &Commit<'_>) -> rusqlite::Result<()> {
        let mut digest = self.digest;
        let transaction = self.index.transaction()?;
        if let Some(keys) = commit.keys.map(written) {
            transaction.execute("UPDATE job SET keys = ?1", [&keys])?;
            digest.add(Digest::of_keys(&keys));
        }
        if !commit.intents.is_empty() {
            let mut intend = transaction.prepare_cached("INSERT OR IGNORE INTO intent VALUES (?1, ?2)")?;
            for (row, fingerprint) in commit.intents {
                let row = row.cast_signed();
                if intend.execute(params![row, fingerprint.to_bytes()])? > 0 {
                    digest.add(Digest::of_intent(row));
                }
            }
        }
        let mut forget = transaction.prepare_cached("DELETE FROM intent WHERE row = ?1")?;
        let mut release = |digest: &mut Digest, row: i64| {
            if forget.execute([row])? > 0 {
                digest.remove(Digest::of_intent(row));
            }
            Ok::<_, rusqlite::Error>(())
        };
        for row in commit.releases {
            release(&mut digest, row.cast_signed())?;
        }
        if !commit.done.is_empty() {
            let mut earlier = transaction
                .prepare_cached("DELETE FROM done WHERE row = ?1 RETURNING at, length, checksum, traits")?;
            let mut finish =
                transaction.prepare_cached("INSERT INTO done VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for done in commit.done {
                let Done { row, span: Span { at, length, checksum }, traits, fingerprint } = *done;
                if row < self.standing.horizon {
                    let hash = |found: &rusqlite::Row<'_>| {
                        let (length, checksum) = (found.get(1)?, found.get(2)?);
                        Ok(Digest::of_done(row.cast_signed(), found.get(0)?, length, checksum, found.get(3)?))
                    };
                    if let Some(hash) = earlier.query_row([row.cast_signed()], hash).optional()? {
                        digest.remove(hash);
                    }
                }
                let (row, at) = (row.cast_signed(), at.cast_signed());
                finish.execute(params![row, at, length, checksum, traits, fingerprint.to_bytes()])?;
                digest.add(Digest::of_done(row, at, length, checksum, traits));
                if done.is_unsafe() {
                    release(&mut digest, row)?;
                }
            }
        }
        drop(forget);
        transaction
            .prepare_cached("UPDATE job SET part_end = ?1, commits = ?2, digest = ?3")?
            .execute(params![commit.end.cast_signed(), commit.number.cast_signed(), digest.as_number()])?;
        transaction.commit()?;
        self.digest = digest;
        Ok(())
    }

    /// SQLite would do this by itself, and keep to itself that it failed; then it would sync once more.
    fn checkpoint(&mut self, mode: &str) -> Result<(), JournalError> {
        (self.commits, self.rows) = (0, 0);
        self.index
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
            .map_err(|error| self.failed(error))
    }
}

impl Store for Sqlite {
    fn standing(&self) -> Standing {
        self.standing
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        (&*self.part).write_all(bytes).map_err(|error| JournalError::system("write", &self.place.part, error))
    }

    fn sync_part(&mut self) -> Result<(), JournalError> {
        self.part.sync_data().map_err(|error| JournalError::system("sync", &self.place.part, error))
    }

    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), JournalError> {
        self.change(commit).map_err(|error| self.failed(error))?;
        self.commits += 1;
        self.rows += commit.intents.len() + commit.releases.len() + commit.done.len();
        if self.commits >= CHECKPOINT_COMMITS || self.rows >= CHECKPOINT_ROWS {
            self.checkpoint("PASSIVE")?;
        }
        Ok(())
    }

    fn keys(&mut self) -> Result<Option<Idempotency>, JournalError> {
        let keys: Option<String> = self
            .index
            .query_row("SELECT keys FROM job", [], |found| found.get(0))
            .map_err(|error| self.failed(error))?;
        keys.map(|keys| {
            read_keys(&keys).ok_or_else(|| lost(&self.place, "its index does not hold what was written"))
        })
        .transpose()
    }

    fn look(&mut self, row: u64) -> Result<Option<Known>, JournalError> {
        let row = row.cast_signed();
        let intent = self
            .index
            .prepare_cached("SELECT fingerprint FROM intent WHERE row = ?1")
            .and_then(|mut query| query.query_row([row], |found| found.get(0)).optional())
            .map_err(|error| self.failed(error))?;
        if let Some(fingerprint) = intent {
            return Ok(Some(Known::Intended(Fingerprint::from_bytes(fingerprint))));
        }
        self.index
            .prepare_cached("SELECT at, length, checksum, traits, fingerprint FROM done WHERE row = ?1")
            .and_then(|mut query| {
                let read = |found: &rusqlite::Row<'_>| {
                    Ok(Known::Done(Done {
                        row: row.cast_unsigned(),
                        span: Span {
                            at: found.get::<_, i64>(0)?.cast_unsigned(),
                            length: found.get(1)?,
                            checksum: found.get(2)?,
                        },
                        traits: found.get(3)?,
                        fingerprint: Fingerprint::from_bytes(found.get(4)?),
                    }))
                };
                query.query_row([row], read).optional()
            })
            .map_err(|error| self.failed(error))
    }

    fn read(&mut self, span: Span) -> Result<Vec<u8>, JournalError> {
        if span.at.saturating_add(u64::from(span.length)) > self.part_length()? {
            return Err(lost(&self.place, "its part file is shorter than it was"));
        }
        let mut bytes = vec![0; span.length as usize];
        self.part
            .read_exact_at(&mut bytes, span.at)
            .map_err(|error| JournalError::system("read", &self.place.part, error))?;
        Ok(bytes)
    }

    fn finish(&mut self, rows: u64) -> Result<(), JournalError> {
        let Place { part, bodies, .. } = &self.place;
        self.part.sync_all().map_err(|error| JournalError::system("sync", part, error))?;
        if !self.finished {
            std::fs::rename(part, bodies).map_err(|error| JournalError::system("rename", part, error))?;
            self.place.sync_folder()?;
            self.finished = true;
        }
        self.index
            .execute("UPDATE job SET rows = ?1", [rows.cast_signed()])
            .map_err(|error| self.failed(error))
            .map(|_| ())
    }

    fn close(&mut self) -> Result<(), JournalError> {
        self.checkpoint("TRUNCATE")
    }
}

impl Sqlite {
    fn part_length(&self) -> Result<u64, JournalError> {
        self.part
            .metadata()
            .map(|found| found.len())
            .map_err(|error| JournalError::system("look at", &self.place.part, error))
    }
}

/// Opens the index, for this process alone.
fn lock(place: &Place) -> Result<Connection, JournalError> {
    let open = || {
        let index = Connection::open(&place.index)?;
        index.busy_timeout(std::time::Duration::ZERO)?;
        // Without this, closing would try again what may just have failed.
        index.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        index.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        index.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        index.pragma_update(None, "synchronous", "FULL")?;
        index.pragma_update(None, "wal_autocheckpoint", 0)?;
        index.pragma_update(None, "cell_size_check", true)?;
        index.pragma_update(None, "trusted_schema", false)?;
        // The lock is taken by the first transaction and kept.
        index.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        Ok(index)
    };
    open().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => place.in_use(),
        _ => trouble(place, error),
    })
}

/// A journal that was not there, or whose making was cut short.
fn make(
    place: &Place,
    mut index: Connection,
    empty: bool,
) -> Result<(Connection, Locked, bool, Standing), JournalError> {
    let tables: i64 = index
        .query_row("SELECT count(*) FROM sqlite_schema", [], |found| found.get(0))
        .map_err(|error| trouble(place, error))?;
    if tables > 0 {
        return Err(JournalError::new(
            Trouble::OtherFormat,
            format!("{} is a database, but no journal", place.index.display()),
        )
        .with_hint("name another file for the journal"));
    }
    let begun = place.find_part()?.map(|(_, part)| part.metadata().map_or(0, |found| found.len()));
    if begun.is_some_and(|length| length > HEADER) {
        return Err(lost(
            place,
            if empty { "its index is empty" } else { "its index has lost what it held" },
        )
        .with_hint("use what is left with keep_good, or remove its part file too to begin anew"));
    }
    let mut salt: Salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| JournalError::new(Trouble::System, format!("no random numbers: {error}")))?;
    place.forget_rebuilt()?;
    let part = place.make_part()?;
    let path = &place.part;
    part.set_len(0).map_err(|error| JournalError::system("empty", path, error))?;
    let header = [&MAGIC[..], &salt].concat();
    (&*part).write_all(&header).map_err(|error| JournalError::system("write", path, error))?;
    part.sync_all().map_err(|error| JournalError::system("sync", path, error))?;
    place.sync_folder()?;
    write_job(&mut index, salt, HEADER, 0, false).map_err(|error| trouble(place, error))?;
    let standing = Standing { salt, end: HEADER, number: 0, horizon: 0, rows: None, forgot_intents: false };
    Ok((index, part, false, standing))
}

pub(super) fn write_job(
    index: &mut Connection,
    salt: Salt,
    end: u64,
    number: u64,
    forgot_intents: bool,
) -> rusqlite::Result<()> {
    let transaction = index.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO job VALUES (1, ?1, ?2, ?3, ?4, 0, NULL, ?5, NULL)",
        params![env!("CARGO_PKG_VERSION"), salt, end.cast_signed(), number.cast_signed(), forgot_intents],
    )?;
    transaction.commit()
}

/// Which keys the rows get, as a text.
fn written(keys: &Idempotency) -> String {
    match keys {
        Idempotency::AsGiven => AS_GIVEN.to_owned(),
        Idempotency::Auto { job } => format!("{OF_JOB}{job}"),
    }
}

fn read_keys(keys: &str) -> Option<Idempotency> {
    if keys == AS_GIVEN {
        return Some(Idempotency::AsGiven);
    }
    keys.strip_prefix(OF_JOB).map(|job| Idempotency::Auto { job: job.into() })
}

/// The job, if the index is that of a journal of this format.
fn read_job(index: &Connection) -> rusqlite::Result<Option<Standing>> {
    let application: i64 = index.pragma_query_value(None, "application_id", |found| found.get(0))?;
    let format: i64 = index.pragma_query_value(None, "user_version", |found| found.get(0))?;
    if (application, format) == (0, 0) {
        return Ok(None);
    }
    let standing = |found: &rusqlite::Row<'_>| {
        Ok(Standing {
            salt: found.get(0)?,
            end: found.get::<_, i64>(1)?.cast_unsigned(),
            number: found.get::<_, i64>(2)?.cast_unsigned(),
            rows: found.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
            forgot_intents: found.get(4)?,
            horizon: found.get::<_, i64>(5)?.cast_unsigned(),
        })
    };
    if (application, format) != (APPLICATION, FORMAT) {
        return Ok(Some(Standing {
            salt: [0; 16],
            end: 0,
            number: 0,
            horizon: 0,
            rows: None,
            forgot_intents: false,
        }));
    }
    const QUERY: &str = "SELECT salt, part_end, commits, rows, forgot_intents,
        max(coalesce((SELECT max(row) + 1 FROM done), 0), coalesce((SELECT max(row) + 1 FROM intent), 0)) FROM job";
    index.query_row(QUERY, [], standing).optional()
}

/// Whether it is a journal of this format, and whole.
fn check(place: &Place, index: &Connection) -> Result<(), JournalError> {
    let number = |name| {
        index
            .pragma_query_value(None, name, |found| found.get::<_, i64>(0))
            .map_err(|error| trouble(place, error))
    };
    let (application, format) = (number("application_id")?, number("user_version")?);
    let path = place.index.display();
    if application != APPLICATION {
        return Err(JournalError::new(Trouble::OtherFormat, format!("{path} is a database, but no journal"))
            .with_hint("name another file for the journal"));
    }
    if format != FORMAT {
        let message = format!(
            "the journal {path} has format {format}, and this version of loamy reads format {FORMAT}"
        );
        return Err(JournalError::new(Trouble::OtherFormat, message)
            .with_hint("use the version that wrote it, or name another journal"));
    }
    let verdict: String = index
        .pragma_query_value(None, "quick_check", |found| found.get(0))
        .map_err(|error| trouble(place, error))?;
    if verdict != "ok" {
        let first = verdict.lines().next().unwrap_or_default();
        return Err(lost(place, &format!("its index is not whole ({first})")));
    }
    let digests = Digest::noted(index).and_then(|noted| Ok((noted, Digest::scan(index)?)));
    let (noted, found) = digests.map_err(|error| trouble(place, error))?;
    if noted != found {
        return Err(lost(place, "its index does not hold what was written"));
    }
    Ok(())
}

/// Holds index and part file against each other, and cuts off what no commit speaks of.
fn fit(
    place: &Place,
    index: &mut Connection,
    path: &std::path::Path,
    part: &File,
    mut standing: Standing,
    keep_good: bool,
) -> Result<Standing, JournalError> {
    let reading = |error| JournalError::system("read", path, error);
    let length = part.metadata().map_err(reading)?.len();
    let mut header = [0; HEADER as usize];
    if length >= HEADER {
        part.read_exact_at(&mut header, 0).map_err(reading)?;
    }
    if header[..MAGIC.len()] != MAGIC || header[MAGIC.len()..] != standing.salt {
        return Err(lost(place, "its part file belongs to another journal, or has lost its beginning"));
    }
    if length < standing.end {
        if !keep_good {
            return Err(lost(place, &format!("its part file has {length} bytes of {}", standing.end)));
        }
        // The rows whose outcomes are gone keep their entries: reading those says so, row by row.
        standing.end = rebuild::walk(part, HEADER, length, |_, _, _| {}).map_err(reading)?;
    }
    let marked = last_mark(part, standing.end, length).map_err(reading)?;
    if marked.is_some_and(|number| number > standing.number + 1) && !standing.forgot_intents {
        return Err(lost(place, "its index has lost commits that were on disk"));
    }
    if length > standing.end {
        part.set_len(standing.end).map_err(|error| JournalError::system("cut", path, error))?;
        part.sync_all().map_err(|error| JournalError::system("sync", path, error))?;
    }
    let end = standing.end.cast_signed();
    index
        .execute("UPDATE job SET part_end = ?1 WHERE part_end > ?1", [end])
        .map_err(|error| trouble(place, error))?;
    Ok(standing)
}

/// The number of the last commit that whole records beyond the index's end speak of.
fn last_mark(part: &File, from: u64, to: u64) -> std::io::Result<Option<u64>> {
    let mut last = None;
    rebuild::walk(part, from, to, |_, record, _| {
        if let Record::Mark { number } = record {
            last = Some(number);
        }
    })?;
    Ok(last)
}

fn lost(place: &Place, what: &str) -> JournalError {
    JournalError::damaged(format!("the journal {} is damaged: {what}", place.index.display()))
}

pub(super) fn trouble(place: &Place, error: rusqlite::Error) -> JournalError {
    let path = place.index.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => lost(place, "its index is not whole").caused_by(error),
        Some(ErrorCode::NotADatabase) => {
            if place.part.exists() || place.bodies.exists() {
                return lost(place, "its index has lost its beginning").caused_by(error);
            }
            JournalError::new(Trouble::OtherFormat, format!("{path} is no journal"))
                .with_hint("name another file for the journal")
                .caused_by(error)
        }
        Some(ErrorCode::DiskFull) => {
            JournalError::new(Trouble::System, format!("no room to write the journal {path}"))
                .with_hint("make room, then run again with the same journal; what is recorded is kept")
                .caused_by(error)
        }
        Some(ErrorCode::ReadOnly) => {
            JournalError::new(Trouble::System, format!("the journal {path} cannot be written"))
                .with_hint("choose a place that can be written")
                .caused_by(error)
        }
        // A column of another type, no table of that name: what was read is not what was written.
        Some(ErrorCode::Unknown) | None => {
            lost(place, &format!("its index cannot be read ({error})")).caused_by(error)
        }
        _ => JournalError::new(Trouble::System, format!("cannot use the journal {path}: {error}"))
            .caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::drill::job;
    use crate::journal::scribe::{Effect, Finished, Group, Scribe};
    use crate::ledger::Word;
    use crate::{Error, JournalOptions, Kind, Outcome, Request};

    fn settle(
        scribe: &mut Scribe<Sqlite>,
        row: usize,
        request: &Request,
        result: Result<crate::Response, Error>,
    ) {
        let outcome = Outcome { attempts: 1, ..Outcome::unsent(row, None, result) };
        let fingerprint = Fingerprint::of(request, &scribe.standing().salt);
        let effect = if request.is_idempotent() { Effect::Safe } else { Effect::Unsafe };
        let done = vec![Finished { outcome, fingerprint, effect }];
        scribe.write(&Group { done, ..Group::default() }).unwrap();
    }

    fn resolve(scribe: &mut Scribe<Sqlite>, row: usize, request: &Request) -> Result<Word, JournalError> {
        let fingerprint = Fingerprint::of(request, &scribe.standing().salt);
        scribe.resolve(job(row, request.clone()), fingerprint)
    }

    fn message(word: Word) -> String {
        match word {
            Word::Known(outcome) => outcome.result.unwrap_err().message().to_owned(),
            word => format!("{word:?}").split('(').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn h5_h8_a_row_that_failed_is_replaced_and_an_intent_outweighs_an_earlier_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.loamy");
        let open = |options: JournalOptions| Scribe::new(Sqlite::open(&path, false).unwrap(), options);
        let (plain, again) = (JournalOptions::default(), JournalOptions::default().retry_failed());
        let (get, post) = (Request::get("http://h/"), Request::post("http://h/", "x"));
        let failed = |text: &'static str| Err(Error::new(Kind::ConnectRefused, text));

        let mut scribe = open(plain);
        settle(&mut scribe, 0, &get, failed("first"));
        settle(&mut scribe, 1, &post, failed("first"));
        scribe.finish(2).unwrap();
        drop(scribe);

        let mut scribe = open(plain);
        assert_eq!(message(resolve(&mut scribe, 0, &get).unwrap()), "first");
        drop(scribe);
        let mut scribe = open(again);
        assert_eq!(message(resolve(&mut scribe, 0, &get).unwrap()), "Open");
        assert_eq!(message(resolve(&mut scribe, 1, &post).unwrap()), "Unsure");
        settle(&mut scribe, 0, &get, failed("second"));
        let intents = vec![(1, Fingerprint::of(&post, &scribe.standing().salt))];
        scribe.write(&Group { intents, ..Group::default() }).unwrap();
        drop(scribe);

        let mut scribe = open(again);
        assert_eq!(message(resolve(&mut scribe, 0, &get).unwrap()), "Open");
        assert!(message(resolve(&mut scribe, 1, &post).unwrap()).starts_with("an earlier run ended"));
        drop(scribe);
        let mut scribe = open(plain);
        assert_eq!(message(resolve(&mut scribe, 0, &get).unwrap()), "second");
        scribe.write(&Group { releases: vec![1], ..Group::default() }).unwrap();
        assert_eq!(message(resolve(&mut scribe, 1, &post).unwrap()), "first");
        let error = resolve(&mut scribe, 0, &post).unwrap_err();
        let expected = "the journal belongs to another input: row 0 differs in its method, body";
        assert_eq!((error.to_string().as_str(), error.trouble()), (expected, Trouble::OtherInput));
        assert!(scribe.close().is_err(), "after a failure nothing is touched");
    }

    #[test]
    fn h7_what_a_rebuild_has_left_says_nothing_of_a_journal_that_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.loamy");
        let left = folder.path().join("run.loamy.rebuilt");
        std::fs::write(&left, "some of an index").unwrap();
        for _ in 0..2 {
            let store = Sqlite::open(&path, false);
            assert!(store.is_ok(), "{:?}", store.err());
            assert!(!left.exists());
        }
    }

    #[test]
    fn h7_a_rebuild_that_was_cut_short_leaves_no_index_that_looks_whole() {
        use std::os::unix::fs::FileExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.loamy");
        let beside = |suffix: &str| folder.path().join(format!("run.loamy{suffix}"));
        let open = |keep_good: bool| Sqlite::open(&path, keep_good);
        let post = Request::post("http://h/", "x");
        let mut scribe = Scribe::new(open(false).unwrap(), JournalOptions::default());
        for row in 0..3 {
            let intents = vec![(row, Fingerprint::of(&post, &scribe.standing().salt))];
            scribe.write(&Group { intents, ..Group::default() }).unwrap();
        }
        drop(scribe);
        // Its log loses the first of its commits, and so all.
        File::options()
            .write(true)
            .open(beside("-wal"))
            .unwrap()
            .write_all_at(&[0xff; 64], 32 + 24 + 512)
            .unwrap();
        assert_eq!(open(false).err().unwrap().trouble(), Trouble::Damaged);

        // Here the rebuild cannot go on once the log is out of the way.
        std::fs::create_dir(beside(".damaged")).unwrap();
        assert_eq!(open(true).err().unwrap().trouble(), Trouble::System);
        assert!(!beside("-wal").exists() && path.exists());
        let error = open(false).err().expect("intents are lost, and it was opened");
        assert_eq!(error.trouble(), Trouble::Damaged);
        assert!(open(true).is_err() && open(false).is_err(), "it is no less damaged for another attempt");

        std::fs::remove_dir(beside(".damaged")).unwrap();
        let mut scribe = Scribe::new(open(true).unwrap(), JournalOptions::default().keep_good());
        assert!(message(resolve(&mut scribe, 1, &post).unwrap()).starts_with("an earlier run ended"));
        drop(scribe);
        assert!(open(false).is_ok() && beside(".damaged-wal").exists() && !beside(".rebuilt").exists());
    }
}
