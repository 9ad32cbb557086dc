//! How much is done at a time before other Python threads and signal handlers get their turn.

use std::time::{Duration, Instant};

/// The most rows.
const ROWS: usize = 4096;
/// The most time.
const TIME: Duration = Duration::from_millis(10);
/// Rows between two looks at the clock.
const LOOK: usize = 64;
/// Bytes of bodies between two looks: large ones take longer than many small rows.
const LOOK_BYTES: usize = 64 << 10;

/// A slice of rows that are made into requests or objects.
pub(crate) struct Slice {
    began: Instant,
    rows: usize,
    unlooked: usize,
}

impl Slice {
    pub(crate) fn begin() -> Self {
        Self { began: now(), rows: 0, unlooked: 0 }
    }

    /// The most rows that it has.
    pub(crate) const fn room() -> usize {
        ROWS
    }

    /// Counts a row with a body of so many bytes; whether the slice ends with it.
    pub(crate) fn ends_with(&mut self, bytes: usize) -> bool {
        self.rows += 1;
        self.unlooked += bytes;
        if self.rows < ROWS && !self.rows.is_multiple_of(LOOK) && self.unlooked < LOOK_BYTES {
            return false;
        }
        self.unlooked = 0;
        self.rows >= ROWS || now().duration_since(self.began) > TIME
    }
}

#[expect(clippy::disallowed_methods, reason = "who makes objects bounds that by the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
