//! Whether the index holds what was written to it.

use std::hash::Hasher;

use rusqlite::Connection;
use siphasher::sip::SipHasher13;

/// The sum of the hashes of all entries: by it an entry is missed that a flipped bit has given to another row. SQLite
/// holds its pages to be whole as long as they have their form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn of_intent(row: i64) -> u64 {
        Self::hash(&[1, row.cast_unsigned()])
    }

    pub(super) fn of_done(row: i64, at: i64, length: u32, checksum: u32, traits: u8) -> u64 {
        Self::hash(&[
            2,
            row.cast_unsigned(),
            at.cast_unsigned(),
            length.into(),
            checksum.into(),
            traits.into(),
        ])
    }

    pub(super) fn of_keys(keys: &str) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write(keys.as_bytes());
        Self::hash(&[3, hasher.finish()])
    }

    fn hash(words: &[u64]) -> u64 {
        let mut hasher = SipHasher13::new();
        words.iter().for_each(|word| hasher.write_u64(*word));
        hasher.finish()
    }

    pub(super) fn add(&mut self, hash: u64) {
        self.0 = self.0.wrapping_add(hash);
    }

    pub(super) fn remove(&mut self, hash: u64) {
        self.0 = self.0.wrapping_sub(hash);
    }

    /// Of the entries as they stand.
    pub(super) fn scan(index: &Connection) -> rusqlite::Result<Self> {
        let mut digest = Self::default();
        let mut intents = index.prepare("SELECT row FROM intent")?;
        let mut rows = intents.query([])?;
        while let Some(found) = rows.next()? {
            digest.add(Self::of_intent(found.get(0)?));
        }
        let keys: Option<String> = index.query_row("SELECT keys FROM job", [], |found| found.get(0))?;
        if let Some(keys) = keys {
            digest.add(Self::of_keys(&keys));
        }
        let mut done = index.prepare("SELECT row, at, length, checksum, traits FROM done")?;
        let mut rows = done.query([])?;
        while let Some(found) = rows.next()? {
            digest.add(Self::of_done(
                found.get(0)?,
                found.get(1)?,
                found.get(2)?,
                found.get(3)?,
                found.get(4)?,
            ));
        }
        Ok(digest)
    }

    /// As SQLite keeps it.
    pub(super) fn as_number(self) -> i64 {
        self.0.cast_signed()
    }

    /// As the last commit left it.
    pub(super) fn noted(index: &Connection) -> rusqlite::Result<Self> {
        index.query_row("SELECT digest FROM job", [], |found| {
            Ok(Self(found.get::<_, i64>(0)?.cast_unsigned()))
        })
    }

    pub(super) fn note(self, index: &Connection) -> rusqlite::Result<()> {
        index.execute("UPDATE job SET digest = ?1", [self.as_number()]).map(|_| ())
    }
}
