//! The time, read once for each wake-up and handed down: the rooms that decide have no clock.

use std::time::Instant;

/// Now, of a clock that no step of the wall clock moves.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
