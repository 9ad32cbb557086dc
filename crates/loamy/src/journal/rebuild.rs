//! An index made anew from the part file, as far as that can be read.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rusqlite::{Connection, params};

use super::digest::Digest;
use super::fingerprint::Salt;
use super::part::{self, HEADER, MAGIC, Record};
use super::place::Place;
use super::sqlite::{trouble, write_job};
use super::trouble::JournalError;

/// Read in pieces of this size; a longer record is read whole.
const PIECE: usize = 1 << 20;

/// Puts a new index in the place of one that cannot be read. The old one is kept beside it, as `<path>.damaged`.
pub(super) fn index(place: &Place) -> Result<(), JournalError> {
    let Some((path, part)) = place.find_part()? else {
        return Err(JournalError::damaged(format!(
            "nothing is left of the journal {}",
            place.index.display()
        )));
    };
    let reading = |error| JournalError::system("read", &path, error);
    let length = part.metadata().map_err(reading)?.len();
    let mut header = [0; HEADER as usize];
    if length < HEADER || part.read_exact_at(&mut header, 0).is_err() || header[..MAGIC.len()] != MAGIC {
        return Err(JournalError::damaged(format!(
            "nothing is left of the journal {}",
            place.index.display()
        )));
    }
    let mut salt: Salt = [0; 16];
    salt.copy_from_slice(&header[MAGIC.len()..]);

    let named = |suffix: &str| {
        let mut name = place.index.as_os_str().to_owned();
        name.push(suffix);
        std::path::PathBuf::from(name)
    };
    let (fresh, leftover) = (&place.rebuilt, named(".rebuilt-journal"));
    match std::fs::remove_file(&leftover) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(JournalError::system("remove", &leftover, error));
        }
        _ => {}
    }
    fill(fresh, &part, salt, length).map_err(|error| match error {
        Failed::Reading(error) => reading(error),
        Failed::Writing(error) => trouble(place, error),
    })?;
    let moved = |from: &std::path::Path, to: &std::path::Path| {
        std::fs::rename(from, to).map_err(|error| JournalError::system("rename", from, error))
    };
    // From here on the fresh index is there until it is in its place, and while it is there no other is believed: without
    // its log the old one may look whole, and has forgotten what was about to be sent.
    place.sync_folder()?;
    // The log goes first: with the new index it must never be read.
    if place.log.exists() {
        moved(&place.log, &named(".damaged-wal"))?;
    }
    // An attempt before this one may have come further, and there is an empty file in its place since.
    if std::fs::metadata(&place.index).is_ok_and(|found| found.len() > 0) {
        moved(&place.index, &named(".damaged"))?;
    }
    place.sync_folder()?;
    moved(fresh, &place.index)?;
    place.sync_folder()
}

/// Whether an index was being made anew, and the process ended before it was in its place.
pub(super) fn was_cut_short(place: &Place) -> Result<bool, JournalError> {
    // Who removes the journal and leaves this one file begins anew.
    Ok(place.rebuilt.exists() && place.find_part()?.is_some())
}

enum Failed {
    Reading(std::io::Error),
    Writing(rusqlite::Error),
}

fn fill(fresh: &std::path::Path, part: &File, salt: Salt, length: u64) -> Result<(), Failed> {
    use std::os::unix::fs::OpenOptionsExt;
    // Never removed, since its being there says that the rebuild is not over.
    let mut file = File::options();
    file.write(true).create(true).truncate(true).mode(0o600).open(fresh).map_err(Failed::Reading)?;
    let mut index = Connection::open(fresh).map_err(Failed::Writing)?;
    index.pragma_update(None, "synchronous", "FULL").map_err(Failed::Writing)?;
    write_job(&mut index, salt, HEADER, 0, true).map_err(Failed::Writing)?;
    let transaction = index.transaction().map_err(Failed::Writing)?;
    let (mut number, mut failed) = (0, None);
    let end = {
        let mut insert = transaction
            .prepare("INSERT OR REPLACE INTO done VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .map_err(Failed::Writing)?;
        walk(part, HEADER, length, |at, record, (size, checksum)| match record {
            Record::Mark { number: mark } => number = mark,
            Record::Row { row, traits, fingerprint, .. } => {
                let row = row.cast_signed();
                let done = insert.execute(params![
                    row,
                    at.cast_signed(),
                    size as i64,
                    checksum,
                    traits,
                    fingerprint
                ]);
                failed = failed.take().or(done.err());
            }
        })
        .map_err(Failed::Reading)?
    };
    if let Some(failed) = failed {
        return Err(Failed::Writing(failed));
    }
    transaction
        .execute(
            "UPDATE job SET part_end = ?1, commits = ?2",
            params![end.cast_signed(), i64::max(number as i64, 1)],
        )
        .map_err(Failed::Writing)?;
    Digest::scan(&transaction).and_then(|digest| digest.note(&transaction)).map_err(Failed::Writing)?;
    transaction.commit().map_err(Failed::Writing)
}

/// Goes from record to record until the first that is not whole, and says where that is.
pub(super) fn walk(
    part: &File,
    from: u64,
    to: u64,
    mut each: impl FnMut(u64, Record<'_>, (usize, u32)),
) -> std::io::Result<u64> {
    let (mut at, mut held, mut read) = (from, Vec::new(), from);
    let mut skip = 0;
    loop {
        if let Some((record, length, checksum)) = part::first(&held[skip..]) {
            each(at, record, (length, checksum));
            at += length as u64;
            skip += length;
            continue;
        }
        // Either it is not whole, or more of it must be read.
        let wanted =
            held[skip..].first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as u64 + 8);
        let has = (held.len() - skip) as u64;
        if read >= to || (has >= 8 && has >= wanted) || at + wanted > to {
            return Ok(at);
        }
        held.drain(..skip);
        skip = 0;
        let more = (PIECE as u64).max(wanted.saturating_sub(has)).min(to - read) as usize;
        let start = held.len();
        held.resize(start + more, 0);
        part.read_exact_at(&mut held[start..], read)?;
        read += more as u64;
    }
}
