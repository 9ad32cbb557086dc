//! Whether SQLite's write-ahead log is as it was left. SQLite itself takes the first frame that does not fit for the end of
//! the log, and so forgets what was committed after it (file format, §4.3).

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// A commit is begun only when the one before is on disk, so beyond the first frame that does not fit there may be the end
/// of one commit that was never finished. Two are one that was.
///
/// What happened to the very last commit cannot be told from one that was never finished.
pub(super) fn is_plausible(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(log) => commits_after_a_break(&mut BufReader::new(log)).map(|commits| commits < 2),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn commits_after_a_break(log: &mut impl Read) -> io::Result<usize> {
    let mut header = [0; HEADER];
    if !fill(log, &mut header)? {
        return Ok(0);
    }
    let word = |bytes: &[u8], at: usize| {
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let magic = word(&header, 0);
    let big_endian = magic & 1 == 1;
    let mut sum = checksum(&header[..24], (0, 0), big_endian);
    let mut fits = magic & !1 == 0x377f_0682 && sum == (word(&header, 24), word(&header, 28));
    // A sector is written whole, so a header is; one that does not fit was changed later, and its words are not to be relied on.
    let page = if fits { word(&header, 8) as usize } else { 4096 };
    let mut salts = fits.then(|| header[16..24].to_vec());
    let (mut frame, mut commits) = (vec![0; FRAME + page], 0);
    while fill(log, &mut frame)? {
        let own = &frame[8..16];
        let of_this_log = salts.get_or_insert_with(|| own.to_vec()) == own;
        if fits {
            let body = checksum(&frame[..8], sum, big_endian);
            sum = checksum(&frame[FRAME..], body, big_endian);
            fits = of_this_log && sum == (word(&frame, 16), word(&frame, 20));
        }
        if !fits && of_this_log && word(&frame, 4) != 0 {
            commits += 1;
        }
    }
    Ok(commits)
}

fn checksum(bytes: &[u8], (mut first, mut second): (u32, u32), big_endian: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(word(pair)).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
    }
    (first, second)
}

/// Whether there was enough to fill it.
fn fill(log: &mut impl Read, piece: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(piece) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h7_a_flipped_bit_before_the_last_commit_of_a_log_is_noticed_and_a_cut_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let index = rusqlite::Connection::open(&path).unwrap();
        index.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        index.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        index.execute_batch("CREATE TABLE x (y)").unwrap();
        let log = folder.path().join("index-wal");
        let mut ends = vec![std::fs::metadata(&log).unwrap().len() as usize];
        for number in 0..5 {
            index.execute("INSERT INTO x VALUES (?1)", [number]).unwrap();
            ends.push(std::fs::metadata(&log).unwrap().len() as usize);
        }
        let whole = std::fs::read(&log).unwrap();
        let commits = |bytes: &[u8]| commits_after_a_break(&mut &bytes[..]).unwrap();
        assert_eq!(commits(&whole), 0);
        for cut in 0..whole.len() {
            assert_eq!(commits(&whole[..cut]), 0, "cut at {cut}");
        }
        // Of the commits but the last: any bit that SQLite looks at.
        let before_last = ends[ends.len() - 2];
        for at in (0..before_last).step_by(7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(
                commits(&flipped) >= 2 || at >= ends[ends.len() - 3],
                "flipped at {at}: {}",
                commits(&flipped)
            );
        }
    }
}
